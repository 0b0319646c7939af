"""DICE extensions: TcbInfo, MultiTcbInfo, UEID and the key-purpose identifiers.

Source: TCG DICE Attestation Architecture, version 1.1, section 6.1 (module with implicit tags).
Decoding takes every field of TcbInfo; encoding writes the fields that are set, in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from casemate.formats import der, der_reader

OID_TCB_INFO = "2.23.133.5.4.1"
OID_MULTI_TCB_INFO = "2.23.133.5.4.5"
OID_UEID = "2.23.133.5.4.4"

#: Key purposes (tcg-dice-kp-...): which layer of a DICE chain a key belongs to.
KP_IDENTITY_INIT = "2.23.133.5.4.100.6"
KP_IDENTITY_LOC = "2.23.133.5.4.100.7"
KP_ATTEST_INIT = "2.23.133.5.4.100.8"
KP_ATTEST_LOC = "2.23.133.5.4.100.9"
KP_ASSERT_INIT = "2.23.133.5.4.100.10"
KP_ASSERT_LOC = "2.23.133.5.4.100.11"
KP_ECA = "2.23.133.5.4.100.12"

OID_SHA256 = "2.16.840.1.101.3.4.2.1"
OID_SHA384 = "2.16.840.1.101.3.4.2.2"
OID_SHA512 = "2.16.840.1.101.3.4.2.3"

#: A chain of DICE layers is short; a longer list of TCBs is no evidence but an attack on memory.
MOST_TCB_INFOS = 256
MOST_FWIDS = 64
MOST_REGISTERS = 64

_CONSTRUCTED_FIELDS = frozenset({6, 11})


@dataclass(frozen=True, slots=True)
class Fwid:
    """A firmware digest: the hash's object identifier (dotted) and its value."""

    hash_algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class IntegrityRegister:
    """A register that measurements were extended into: its name or number, and its digests."""

    digests: tuple[Fwid, ...]
    name: str | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbInfo:
    """DiceTcbInfo; a field that is None is absent.

    `flags` and `flags_mask` are the bytes of a BIT STRING with the number of its unused bits.
    """

    vendor: str | None = None
    model: str | None = None
    version: str | None = None
    svn: int | None = None
    layer: int | None = None
    index: int | None = None
    fwids: tuple[Fwid, ...] | None = None
    flags: tuple[bytes, int] | None = None
    vendor_info: bytes | None = None
    type: bytes | None = None
    flags_mask: tuple[bytes, int] | None = None
    integrity_registers: tuple[IntegrityRegister, ...] | None = None


def encode_tcb_info(info: TcbInfo) -> bytes:
    """The DER of one TcbInfo."""
    parts: list[bytes] = []

    def add(number: int, content: bytes | None, *, constructed: bool = False) -> None:
        if content is not None:
            parts.append(
                der.explicit(number, content) if constructed else der.implicit(number, content)
            )

    def number(value: int | None) -> bytes | None:
        return None if value is None else der.integer_content(value)

    def bits(value: tuple[bytes, int] | None) -> bytes | None:
        return None if value is None else bytes((value[1],)) + value[0]

    for position, text in enumerate((info.vendor, info.model, info.version)):
        add(position, None if text is None else text.encode("utf-8"))
    for position, value in enumerate((info.svn, info.layer, info.index), start=3):
        add(position, number(value))
    if info.fwids is not None:
        add(6, _encode_fwids(info.fwids), constructed=True)
    add(7, bits(info.flags))
    add(8, info.vendor_info)
    add(9, info.type)
    add(10, bits(info.flags_mask))
    if info.integrity_registers is not None:
        add(11, b"".join(map(_encode_register, info.integrity_registers)), constructed=True)
    return der.sequence(*parts)


def _encode_fwids(fwids: tuple[Fwid, ...]) -> bytes:
    return b"".join(
        der.sequence(der.object_identifier(fwid.hash_algorithm), der.octet_string(fwid.digest))
        for fwid in fwids
    )


def _encode_register(register: IntegrityRegister) -> bytes:
    name = b"" if register.name is None else der.implicit(0, register.name.encode("ascii"))
    number = (
        b"" if register.number is None else der.implicit(1, der.integer_content(register.number))
    )
    return der.sequence(name, number, der.explicit(2, _encode_fwids(register.digests)))


def encode_multi_tcb_info(infos: tuple[TcbInfo, ...]) -> bytes:
    """The DER of a MultiTcbInfo: a SEQUENCE OF TcbInfo."""
    return der.sequence(*(encode_tcb_info(info) for info in infos))


def decode_tcb_info(data: bytes) -> TcbInfo:
    """One TcbInfo. Raises DerError."""
    return _tcb_info(der_reader.parse_one(data, der_reader.SEQUENCE, "TcbInfo"))


def decode_multi_tcb_info(data: bytes) -> tuple[TcbInfo, ...]:
    """The list of a MultiTcbInfo. Raises DerError, also for more than 256 entries."""
    outer = der_reader.parse_one(data, der_reader.SEQUENCE, "MultiTcbInfo")
    infos: list[TcbInfo] = []
    for element in outer.children():
        if len(infos) == MOST_TCB_INFOS:
            raise der_reader.DerError(f"more than {MOST_TCB_INFOS} TcbInfo", element.offset)
        infos.append(_tcb_info(element.expect(der_reader.SEQUENCE, "TcbInfo")))
    return tuple(infos)


def _tcb_info(outer: der_reader.Element) -> TcbInfo:
    found: dict[int, der_reader.Element] = {}
    last = -1
    for element in outer.children():
        number = element.tag & 0x1F
        constructed = bool(element.tag & 0x20)
        if (
            element.tag & 0xC0 != 0x80
            or number > 11
            or constructed != (number in _CONSTRUCTED_FIELDS)
        ):
            raise der_reader.DerError(
                f"TcbInfo has no field with tag {element.tag:02x}", element.offset
            )
        if number <= last:
            raise der_reader.DerError(
                f"TcbInfo field {number} is repeated or out of order", element.offset
            )
        found[number] = element
        last = number

    def text(number: int) -> str | None:
        if (element := found.get(number)) is None:
            return None
        try:
            return element.content.decode("utf-8")
        except UnicodeDecodeError:
            raise der_reader.DerError(
                f"TcbInfo field {number} is not UTF-8", element.offset
            ) from None

    def integer(number: int) -> int | None:
        element = found.get(number)
        return None if element is None else der_reader.implicit_integer(element)

    def bits(number: int) -> tuple[bytes, int] | None:
        element = found.get(number)
        return None if element is None else der_reader.implicit_bit_string(element)

    def octets(number: int) -> bytes | None:
        return None if (element := found.get(number)) is None else element.content

    return TcbInfo(
        vendor=text(0),
        model=text(1),
        version=text(2),
        svn=integer(3),
        layer=integer(4),
        index=integer(5),
        fwids=None if 6 not in found else _fwids(found[6]),
        flags=bits(7),
        vendor_info=octets(8),
        type=octets(9),
        flags_mask=bits(10),
        integrity_registers=None if 11 not in found else _registers(found[11]),
    )


def _registers(element: der_reader.Element) -> tuple[IntegrityRegister, ...]:
    registers: list[IntegrityRegister] = []
    for entry in element.children():
        if len(registers) == MOST_REGISTERS:
            raise der_reader.DerError(
                f"more than {MOST_REGISTERS} integrity registers", entry.offset
            )
        registers.append(_register(entry.expect(der_reader.SEQUENCE, "integrity register")))
    return tuple(registers)


def _register(entry: der_reader.Element) -> IntegrityRegister:
    name: str | None = None
    number: int | None = None
    digests: tuple[Fwid, ...] | None = None
    last = -1
    for element in entry.children():
        position = element.tag & 0x1F
        if position <= last:
            raise der_reader.DerError(
                "integrity register field is repeated or out of order", element.offset
            )
        last = position
        match element.tag:
            case 0x80 if element.content.isascii():
                name = element.content.decode("ascii")
            case 0x81:
                number = der_reader.implicit_integer(element)
            case 0xA2:
                digests = _fwids(element)
            case other:
                raise der_reader.DerError(
                    f"integrity register has no field with tag {other:02x}", element.offset
                )
    if digests is None:
        raise der_reader.DerError("integrity register without digests", entry.offset)
    return IntegrityRegister(digests, name, number)


def _fwids(element: der_reader.Element) -> tuple[Fwid, ...]:
    fwids: list[Fwid] = []
    for entry in element.children():
        if len(fwids) == MOST_FWIDS:
            raise der_reader.DerError(f"more than {MOST_FWIDS} firmware digests", entry.offset)
        fields = entry.expect(der_reader.SEQUENCE, "FWID").children()
        algorithm = der_reader.read_oid(fields.next(der_reader.OID, "hash algorithm"))
        digest = fields.next(der_reader.OCTET_STRING, "digest").content
        fields.end("FWID")
        fwids.append(Fwid(algorithm, digest))
    return tuple(fwids)


def encode_ueid(ueid: bytes) -> bytes:
    """The DER of the UEID extension: SEQUENCE { OCTET STRING }."""
    return der.sequence(der.octet_string(ueid))


def decode_ueid(data: bytes) -> bytes:
    """The UEID of the extension. Raises DerError."""
    fields = der_reader.parse_one(data, der_reader.SEQUENCE, "UEID").children()
    ueid = fields.next(der_reader.OCTET_STRING, "UEID").content
    fields.end("UEID")
    return ueid

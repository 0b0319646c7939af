"""Synthetic hosts: devices with fuses of their own, made by one manufacturer, and their evidence.

Every signature is real, made by the project's root of trust.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any

from casemate.attestation.endorsements import Endorsements, NamedBytes, TrustAnchor
from casemate.attestation.evidence.family import Context
from casemate.formats import x509
from casemate.formats.key_binding import key_binding
from casemate.formats.module_parts import PartName
from casemate.rot.attester import LocalAttester
from casemate.rot.boot import RootOfTrust
from casemate.rot.crypto import ModelCrypto
from casemate.rot.device_status import RomVersion
from casemate.rot.evidence import evidence, leaf_certificate
from casemate.rot.firmware import VerifiedFirmware
from casemate.rot.fuses import Fuses, Lifecycle, PqcKeyType, svn_fuse
from casemate.rot.identity import Algorithm
from casemate.rot.launch import authorization
from casemate.rot.launch.alias_authority import AliasAuthority
from casemate.rot.mailbox import Mailbox, MailboxDevice
from casemate.rot.manufacturer import ManufacturerCa
from casemate.rot.runtime_dpe import RuntimeDpe
from tests.attestation.partitions import Partition, certified
from tests.rot.devices import Shelf, firmware

#: The privileged user of every host, and the firmware that names it.
PL0 = 0x434D
CODE = firmware(flags=1, pl0_pauser=PL0)

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
NONCE = bytes(range(32))


@lru_cache
def manufacturer() -> ManufacturerCa:
    """The one manufacturer of all hosts here."""
    return ManufacturerCa.public_test()


@lru_cache
def manufacturer_certificate(algorithm: Algorithm) -> bytes:
    """Its certificate (DER)."""
    return manufacturer().certificate(algorithm)


def anchor_of(certificate: bytes, name: str = "anchor") -> TrustAnchor:
    """A certificate as an anchor."""
    read = x509.read_certificate(certificate)
    return TrustAnchor(read.spki, name, subject=read.subject)


@lru_cache
def endorsements() -> Endorsements:
    """The manufacturer as the anchor, by both its keys."""
    anchors = tuple(
        anchor_of(manufacturer_certificate(algorithm), f"manufacturer ({algorithm.label})")
        for algorithm in Algorithm
    )
    return Endorsements(anchors=anchors)


def context(**changes: Any) -> Context:
    """What evidence is verified with here."""
    values: dict[str, Any] = {"at": AT, "endorsements": endorsements(), "nonce": NONCE}
    return Context(**(values | changes))


def fuses(number: int, **changes: Any) -> Fuses:
    """Fuses of a device in production, its secrets at random from a number."""
    source = random.Random(number)
    made = Fuses(
        uds_seed=source.randbytes(64),
        field_entropy=source.randbytes(32),
        vendor_pk_hash=hashlib.sha384(b"vendor").digest(),
        owner_pk_hash=hashlib.sha384(b"owner").digest(),
        firmware_svn_fuse=svn_fuse(2),
        soc_manifest_svn_fuse=svn_fuse(1),
        idevid_cert_attributes=source.randbytes(96),
        pqc_key_type=PqcKeyType.MLDSA,
        lifecycle=Lifecycle.PRODUCTION,
        debug_locked=True,
    )
    return dataclasses.replace(made, **changes)


@lru_cache
def part_digests() -> dict[PartName, bytes]:
    """The module's parts as every host has them."""
    return {part: hashlib.sha384(part.value.encode()).digest() for part in PartName}


@dataclass(frozen=True)
class Host:
    """A host that booted: its device, which measured the module's parts."""

    root: RootOfTrust
    dpe: RuntimeDpe
    idevid: dict[Algorithm, bytes]

    @cached_property
    def authority(self) -> AliasAuthority:
        """What certifies the partitions of its module."""
        mailbox = Mailbox(MailboxDevice(self.root, dpe=self.dpe))
        return AliasAuthority(authorization.local(mailbox, PL0))

    def partition(self, name: str = "web") -> Partition:
        """A partition of its module, certified."""
        return certified(name, self.authority)

    def leaf_key(self, algorithm: Algorithm = Algorithm.ECC) -> bytes:
        """The SubjectPublicKeyInfo of the key that signs its tokens."""
        return x509.read_certificate(leaf_certificate(self.attester, algorithm)).spki

    def token_with_key(
        self, partition: Partition, *, nonce: bytes = NONCE, **changes: Any
    ) -> bytes:
        """Its EAT with the report of a key in one of its partitions."""
        binding = key_binding(nonce, self.leaf_key(), partition.spki)
        values: dict[str, Any] = {
            "key_report": partition.report(binding),
            "partition_chain": partition.chain,
        }
        return self.token(nonce=nonce, **(values | changes))

    @cached_property
    def attester(self) -> LocalAttester:
        """What makes its evidence."""
        return LocalAttester(self.root, self.dpe)

    def token(
        self, algorithm: Algorithm = Algorithm.ECC, *, nonce: bytes = NONCE, **changes: Any
    ) -> bytes:
        """Its EAT for a nonce."""
        values: dict[str, Any] = {
            "token_id": b"t" * 16,
            "anchor": "public test values",
            "idevid_certificate": self.idevid.get(algorithm),
        }
        return evidence(self.attester, nonce=nonce, algorithm=algorithm, **(values | changes))


def boot(
    number: int = 1,
    *,
    code: VerifiedFirmware | None = None,
    parts: dict[PartName, bytes] | None = None,
    rom: RomVersion = RomVersion.MAIN,
    **fused: Any,
) -> Host:
    """Make and boot a host. `fused` changes its fuses."""
    own = fuses(number, **fused)
    shelf = Shelf(a=code or CODE)
    root = RootOfTrust(ModelCrypto(), shelf, make_requests=True, rom=rom)
    root.power_on(own)
    envelope = root.csr_envelope
    assert envelope is not None
    idevid = manufacturer().issue_from_envelope(envelope, root.crypto, own)
    root.load_firmware(b"a")
    source = random.Random(number)
    dpe = RuntimeDpe(root, random=source.randbytes)
    for part, digest in (part_digests() if parts is None else parts).items():
        dpe.stash(digest, metadata=part.fw_id.to_bytes(4, "little"))
    return Host(root, dpe, idevid)


def endorsed(*certificates: bytes, **changes: Any) -> Endorsements:
    """The endorsements with certificates (DER) beside them."""
    named = tuple(NamedBytes(data, f"certificate {n}") for n, data in enumerate(certificates))
    return dataclasses.replace(endorsements(), certificates=named, **changes)

"""Every rule of Caliptra evidence, broken alone in evidence that is otherwise signed and whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence.caliptra.layers import Role
from casemate.attestation.evidence.family import FamilyName, Piece, Quirk, Verified
from casemate.attestation.evidence.registry import families, select
from casemate.formats import dice, eat, pcr_log, pcr_quote, x509
from casemate.formats.cbor import Tag
from casemate.formats.corim import evidence as concise
from casemate.formats.corim.measurement import (
    SHA384,
    TAG_BYTES,
    Digest,
    Environment,
    Measurement,
    MeasurementValues,
    Svn,
)
from casemate.formats.corim.triples import MeasurementTriple
from casemate.rot.identity import Algorithm
from tests.attestation import forgery, hosts
from tests.attestation.forgery import Change, Fields


def verify(data: bytes, **changes: Any) -> Verified:
    (selection,) = select([Piece(data)], families())
    return selection.family.verify(selection.pieces, hosts.context(**changes))


def refused(data: bytes, **changes: Any) -> str:
    with pytest.raises(EvidenceError) as caught:
        verify(data, **changes)
    assert not caught.value.check.passed
    assert all(check.passed for check in caught.value.passed)
    return caught.value.check.name


def test_signed_anew_and_unchanged_it_is_good() -> None:
    verified = verify(forgery.token())
    assert verified.family is FamilyName.CALIPTRA
    assert len(verified.components) == 4


# --- certificates -----------------------------------------------------------------------------


def having(*extensions: x509.Extension) -> Change:
    return lambda fields: fields.having(*extensions)


def without(oid: str) -> Change:
    return lambda fields: fields.without(oid)


def named(common_name: str) -> Change:
    def change(fields: Fields) -> Fields:
        serial = dict(x509.read_name(fields.subject))[x509.OID_SERIAL_NUMBER]
        return dataclasses.replace(fields, subject=x509.name(common_name, serial))

    return change


def serial_number(text: str) -> Change:
    def change(fields: Fields) -> Fields:
        common_name = dict(x509.read_name(fields.subject))[x509.OID_COMMON_NAME]
        return dataclasses.replace(fields, subject=x509.name(common_name, text))

    return change


def tcb_infos(*infos: dice.TcbInfo) -> x509.Extension:
    return x509.Extension(dice.OID_MULTI_TCB_INFO, False, dice.encode_multi_tcb_info(infos))


OTHER_UEID = x509.Extension(dice.OID_UEID, False, dice.encode_ueid(b"\1" + bytes(16)))
UNKNOWN = x509.Extension("1.2.3.4", True, b"\5\0")
NOT_AN_AUTHORITY = x509.Extension(x509.OID_BASIC_CONSTRAINTS, True, b"\x30\0")

LAST_YEAR, NEXT_YEAR = "20251231235959Z", "20270101000000Z"

CERTIFICATE_RULES: list[tuple[str, Role, Change]] = [
    ("ldevid-issuer-name", Role.LDEVID, lambda f: dataclasses.replace(f, issuer=f.subject)),
    ("fmc-alias-issuer-key", Role.FMC, having(x509.authority_key_id(bytes(20)))),
    ("rt-alias-issuer-key", Role.RUNTIME, without(x509.OID_AUTHORITY_KEY_ID)),
    ("rt-alias-issuer-authority", Role.FMC, having(NOT_AN_AUTHORITY)),
    ("fmc-alias-issuer-authority", Role.LDEVID, having(x509.key_usage(digital_signature=True))),
    ("idevid-usage", Role.IDEVID, having(x509.key_usage(digital_signature=True))),
    ("dpe-leaf-usage", Role.LEAF, having(x509.key_usage(key_cert_sign=True))),
    ("dpe-leaf-usage", Role.LEAF, having(x509.basic_constraints(None))),
    ("ldevid-path-length", Role.LDEVID, having(x509.basic_constraints(1))),
    ("idevid-purposes", Role.IDEVID, having(x509.extended_key_usage(dice.KP_IDENTITY_INIT))),
    ("ldevid-purposes", Role.LDEVID, having(x509.extended_key_usage(dice.KP_ECA))),
    ("fmc-alias-purposes", Role.FMC, without(x509.OID_EXTENDED_KEY_USAGE)),
    ("rt-alias-purposes", Role.RUNTIME, having(x509.extended_key_usage(dice.KP_ATTEST_LOC))),
    ("dpe-leaf-purposes", Role.LEAF, having(x509.extended_key_usage(dice.KP_ECA))),
    ("rt-alias-extensions", Role.RUNTIME, having(UNKNOWN)),
    ("ldevid-ueid", Role.LDEVID, having(OTHER_UEID)),
    ("rt-alias-ueid", Role.RUNTIME, having(OTHER_UEID)),
    ("fmc-alias-ueid-stated", Role.FMC, without(dice.OID_UEID)),
    ("rt-alias-place", Role.FMC, named("Caliptra 2.1 Ecc384 Rt Alias")),
    ("ldevid-purposes", Role.IDEVID, named("Caliptra 2.1 Ecc384 LDevID")),
    ("fmc-alias-key-name", Role.FMC, serial_number("00")),
    ("rt-alias-issuer-key", Role.FMC, having(x509.subject_key_id(bytes(20)))),
    ("idevid-validity", Role.IDEVID, lambda f: dataclasses.replace(f, not_after=LAST_YEAR)),
    ("rt-alias-validity", Role.RUNTIME, lambda f: dataclasses.replace(f, not_before=NEXT_YEAR)),
    ("certificate", Role.RUNTIME, lambda f: dataclasses.replace(f, not_after="20269931235959Z")),
    ("fmc-tcb-info", Role.FMC, without(dice.OID_MULTI_TCB_INFO)),
    ("runtime-tcb-info", Role.RUNTIME, without(dice.OID_TCB_INFO)),
    ("dpe-leaf-tcb-info", Role.LEAF, without(dice.OID_MULTI_TCB_INFO)),
    ("dpe-leaf-tcb-info", Role.LEAF, having(tcb_infos())),
]


@pytest.mark.parametrize(("name", "role", "change"), CERTIFICATE_RULES)
def test_a_certificate_that_breaks_one_rule(name: str, role: Role, change: Change) -> None:
    assert refused(forgery.token(certificates=forgery.chain({role: change}))) == name


@pytest.mark.parametrize("missing", [Role.LDEVID, Role.FMC, Role.RUNTIME, Role.LEAF])
def test_every_layer_must_be_there(missing: Role) -> None:
    certificates = {role: data for role, data in forgery.chain().items() if role is not missing}
    expected = "chain-layers" if missing is Role.LEAF else None
    following = list(forgery.ORDER)[list(forgery.ORDER).index(missing) + 1 :]
    name = refused(forgery.token(certificates=certificates))
    assert name == (expected or f"{following[0].slug}-signature")


def test_a_certificate_above_the_anchor_does_not_choose_the_host() -> None:
    """A forged certificate of the manufacturer's own key cannot make it the host's identity."""
    maker = x509.read_certificate(hosts.manufacturer_certificate(Algorithm.ECC))
    stranger = forgery.issue(
        Fields(
            issuer=maker.subject,
            subject=maker.subject,
            spki=maker.spki,
            not_before="20230101000000Z",
            not_after="99991231235959Z",
            extensions=(x509.extended_key_usage(dice.KP_IDENTITY_INIT),),
        ),
        forgery.key(Role.LEAF),
    )
    genuine = forgery.chain()
    verified = verify(forgery.token(certificates={Role.AUTHORITY: stranger, **genuine}))
    assert verified.host == verify(forgery.token()).host


# --- firmware measurements in certificates ---------------------------------------------------


def infos_of(role: Role) -> tuple[dice.TcbInfo, ...]:
    certificate = x509.read_certificate(forgery.chain()[role])
    extension = certificate.extension(dice.OID_MULTI_TCB_INFO)
    if extension is not None:
        return dice.decode_multi_tcb_info(extension.value)
    extension = certificate.extension(dice.OID_TCB_INFO)
    assert extension is not None
    return (dice.decode_tcb_info(extension.value),)


def changed_info(role: Role, position: int, **changes: Any) -> bytes:
    infos = list(infos_of(role))
    infos[position] = dataclasses.replace(infos[position], **changes)
    extension = (
        x509.Extension(dice.OID_TCB_INFO, False, dice.encode_tcb_info(infos[0]))
        if role is Role.RUNTIME
        else tcb_infos(*infos)
    )
    return forgery.token(certificates=forgery.chain({role: having(extension)}))


def sha384(value: bytes) -> tuple[dice.Fwid, ...]:
    return (dice.Fwid(dice.OID_SHA384, value),)


def test_what_the_fmc_certificate_says_follows_from_the_log() -> None:
    assert refused(changed_info(Role.FMC, 0, fwids=sha384(bytes(48)))) == "fmc-owner-info"
    assert refused(changed_info(Role.FMC, 1, fwids=sha384(bytes(48)))) == "fmc-vendor-info"
    assert refused(changed_info(Role.FMC, 2, fwids=sha384(bytes(48)))) == "fmc-firmware-info"
    assert refused(changed_info(Role.FMC, 2, svn=0x0104)) == "fmc-svn"
    assert refused(changed_info(Role.FMC, 2, svn=0x0205)) == "fmc-alias-svn"
    assert refused(changed_info(Role.FMC, 2, svn=None)) == "fmc-svn"
    assert refused(changed_info(Role.FMC, 2, fwids=())) == "fmc-alias-digest"
    assert refused(changed_info(Role.FMC, 0, type=b"OTHER")) == "fmc-tcb-info"


def test_what_the_runtime_certificate_says_is_in_pcr_2() -> None:
    assert refused(changed_info(Role.RUNTIME, 0, fwids=sha384(bytes(48)))) == "runtime-digest"
    assert refused(changed_info(Role.RUNTIME, 0, type=b"OTHER")) == "runtime-tcb-info"


def test_the_leaf_is_the_runtime_s_and_its_privileged_user_s() -> None:
    assert refused(changed_info(Role.LEAF, 0, fwids=sha384(bytes(48)))) == "dpe-registers"
    register = dice.IntegrityRegister(sha384(bytes(48)), number=0)
    assert refused(changed_info(Role.LEAF, 0, integrity_registers=(register,))) == "dpe-journey"
    assert refused(changed_info(Role.LEAF, 3, vendor_info=b"\0\0\0\1")) == "dpe-owner"
    assert refused(changed_info(Role.LEAF, 3, type=b"RTMR"[::-1])) == "dpe-leaf-tcb-info"
    assert refused(changed_info(Role.LEAF, 3, type=b"long type")) == "dpe-leaf-tcb-info"


# --- quote and log -------------------------------------------------------------------------------


def with_quote(**changes: Any) -> bytes:
    return forgery.token(claims={eat.PCR_QUOTE: pcr_quote.encode(forgery.quote(**changes))})


def pcrs(**changed: bytes) -> tuple[bytes, ...]:
    values = list(forgery.quote().pcrs)
    for name, value in changed.items():
        values[int(name.removeprefix("pcr"))] = value
    return tuple(values)


def with_log(change: Callable[[list[pcr_log.PcrLogEntry]], object]) -> bytes:
    entries = list(pcr_log.decode(forgery.real_claims()[eat.PCR_LOG]))
    change(entries)
    return forgery.token(claims={eat.PCR_LOG: pcr_log.encode(entries)})


def test_a_quote_answers_the_token_s_nonce() -> None:
    assert refused(with_quote(nonce=bytes(32))) == "quote-nonce"
    stale = forgery.quote()
    wrong = dataclasses.replace(stale, digest=bytes(48))
    assert refused(with_encoded(pcr_quote.encode(wrong))) == "quote-digest"
    unsigned = dataclasses.replace(stale, signature=bytes(95) + b"\1")
    assert refused(with_encoded(pcr_quote.encode(unsigned))) == "quote-signature"
    assert refused(with_encoded(b"")) == "quote"
    assert refused(forgery.token(claims={eat.PCR_LOG: 7})) == "quote"


def with_encoded(quote: bytes) -> bytes:
    return forgery.token(claims={eat.PCR_QUOTE: quote})


def test_the_log_replays_to_the_quoted_registers() -> None:
    for number, name in ((0, "log-pcr-0"), (2, "log-pcr-2"), (3, "log-pcr-3")):
        assert refused(with_quote(pcrs=pcrs(**{f"pcr{number}": bytes(48)}))) == name
    assert refused(with_log(lambda entries: entries.pop(0))) == "log-entries"
    assert refused(with_log(lambda entries: entries.pop())) == "log-pcr-3"
    assert refused(with_log(lambda entries: entries.append(entries[0]))) == "log-entries"
    assert refused(forgery.token(claims={eat.PCR_LOG: b"x"})) == "log"
    assert refused(forgery.token(claims={eat.DEVICE_STATUS_SIZE: 17})) == "log-pcr-0"
    assert refused(forgery.token(claims={eat.DEVICE_STATUS_SIZE: True})) == "log-device-status"

    def pad(entries: list[pcr_log.PcrLogEntry]) -> None:
        data = entries[0].data[:-1] + b"\1"
        entries[0] = dataclasses.replace(entries[0], data=data)

    assert refused(with_log(pad)) == "log-device-status"


def test_a_journey_that_the_log_does_not_explain_is_said() -> None:
    def with_register(**changed: bytes) -> bytes:
        fewer = concise.encode(concise.ConciseEvidence(measured=(measured(b"ACME", name="ACME"),)))
        encoded = pcr_quote.encode(forgery.quote(pcrs=pcrs(**changed)))
        claims = {eat.PCR_QUOTE: encoded, eat.MEASUREMENTS: [[10571, fewer]]}
        return forgery.token(claims=claims)

    verified = verify(with_register(pcr1=bytes(48)))
    facts = verified.components[0].facts
    assert facts["journey_explained"] is False
    assert "update_resets" not in facts
    unexplained = verify(with_register(pcr31=bytes(48)))
    module = next(found for found in unexplained.components if found.name == "module")
    assert module.facts["stash_register_explained"] is False


# --- the token ------------------------------------------------------------------------------------


def test_the_token_s_claims_have_their_form() -> None:
    for claims, name in (
        ({eat.DEBUG_STATUS: 5}, "token-dbgstat"),
        ({eat.DEBUG_STATUS: True}, "token-dbgstat"),
        ({eat.DEBUG_STATUS: 0}, "token-dbgstat"),
        ({eat.UEID: b"short"}, "token-ueid"),
        ({eat.UEID: bytes(17)}, "token-ueid"),
        ({eat.NONCE: b"short"}, "token-nonce"),
        ({eat.NONCE: bytes(32)}, "nonce"),
        ({eat.PROFILE: b"other"}, "token-profile"),
        ({eat.PROFILE: "1.3.6.1.4.1.42623.1.3"}, "token-profile"),
        ({eat.ISSUER: 7}, "token-issuer-and-id"),
        ({eat.CWT_ID: b"short"}, "token-issuer-and-id"),
        ({eat.MEASUREMENTS: []}, "token-measurements"),
        ({eat.MEASUREMENTS: [[60, b""]]}, "token-measurements"),
        ({eat.MEASUREMENTS: [[10571, b"\xa0"]]}, "token-measurements"),
        ({eat.ANCHOR: 7}, "token-anchor"),
        ({eat.KEY_REPORT: 7}, "key-report"),
        ({eat.PARTITION_CHAIN: [b""]}, "key-report"),
    ):
        assert refused(forgery.token(claims=claims)) == name, claims
    assert refused(forgery.token(without=(eat.MEASUREMENTS,))) == "token-measurements"
    assert refused(forgery.token(headers={1: -7, 3: 263})) == "token-header-algorithm"
    assert refused(forgery.token(headers={1: -50, 3: 263})) == "token-algorithm"
    assert refused(forgery.token(headers={1: -51, 3: 60})) == "token-content-type"
    assert refused(forgery.token(certificates={})) == "token-x5chain"
    assert refused(forgery.token(tags=(18,))) == "family"


def measured(class_id: bytes, **values: Any) -> MeasurementTriple:
    return MeasurementTriple(
        Environment(class_id=Tag(TAG_BYTES, class_id)),
        (Measurement(key=0, values=MeasurementValues(**values)),),
    )


def claimed(class_id: bytes, **values: Any) -> bytes:
    encoded = concise.encode(concise.ConciseEvidence(measured=(measured(class_id, **values),)))
    return forgery.token(claims={eat.MEASUREMENTS: [[10571, encoded]]})


def test_the_token_claims_what_its_chain_and_quote_say() -> None:
    fmc = b"CALIPTRA_2_X_FMC_FIRMWARE_INFO"
    good = infos_of(Role.FMC)[2].fwids
    assert good is not None
    digest = Digest(SHA384, good[0].digest)
    assert len(verify(claimed(fmc, digests=(digest,), svn=Svn(5))).components) == 4
    assert len(verify(claimed(fmc, digests=(Digest("sha-384", digest.value),))).components) == 4
    for values in (
        {"digests": (Digest(SHA384, bytes(48)),)},
        {"svn": Svn(6)},
        {"svn": Svn(6), "name": "FMC"},
        {"integrity_registers": ((0, (Digest(SHA384, bytes(48)),)),)},
    ):
        assert refused(claimed(fmc, **values)) == "token-measurements", values
    more: tuple[dict[str, Any], ...] = (
        {"digests": (digest, Digest(8, bytes(64)))},
        {"integrity_registers": ((7, (digest,)),)},
        {"name": "FMC"},
    )
    for values in more:
        assert verify(claimed(fmc, **values)).components[-1].name == "software", values
    image = b"0x434D0004"
    assert refused(claimed(image, digests=(digest,))) == "token-measurements"


def test_what_nothing_else_covers_is_a_component_of_its_own() -> None:
    verified = verify(claimed(b"ACME firmware", digests=(Digest(SHA384, bytes(48)),)))
    software = verified.components[-1]
    assert software.name == "software"
    assert [measured.label for measured in software.measured] == ["ACME firmware"]


# --- quirks ---------------------------------------------------------------------------------------

FIRMWARE_PROFILE = Tag(111, b"1.3.6.1.4.1.42623.1.3")
CONTENT = bytes.fromhex("2b0601040182cc7f0103")
QUIRKS: list[tuple[Quirk, str, dict[str, Any]]] = [
    (
        Quirk.OCP_PROFILE_SPEC_EXAMPLE,
        "token-profile",
        {"claims": {eat.PROFILE: Tag(111, bytes.fromhex("2b0601040182e42b0103"))}},
    ),
    (
        Quirk.OCP_PROFILE_REFERENCE_VERIFIER,
        "token-profile",
        {"claims": {eat.PROFILE: bytes.fromhex("2b06010401824d1f0103")}},
    ),
    (Quirk.COSE_ES384, "token-header-algorithm", {"headers": {1: -35, 3: 263}}),
    (Quirk.NO_CONTENT_TYPE, "token-content-type", {"headers": {1: -51}}),
    (Quirk.NO_ISSUER_OR_ID, "token-issuer-and-id", {"without": (eat.ISSUER,)}),
    (Quirk.NO_ISSUER_OR_ID, "token-issuer-and-id", {"without": (eat.CWT_ID,)}),
]


@pytest.mark.parametrize(("quirk", "name", "changes"), QUIRKS)
def test_a_quirk_is_off_by_default_and_said_where_it_is_used(
    quirk: Quirk, name: str, changes: dict[str, Any]
) -> None:
    data = forgery.token(**changes)
    assert refused(data) == name
    assert refused(data, quirks=frozenset(Quirk) - {quirk}) == name
    verified = verify(data, quirks=frozenset({quirk}))
    assert quirk.value in verified.forms


def test_what_the_public_firmware_emits_needs_three_quirks() -> None:
    data = forgery.token(
        claims={eat.PROFILE: FIRMWARE_PROFILE},
        headers={1: -35},
        without=(eat.ISSUER, eat.CWT_ID, eat.PCR_QUOTE, eat.PCR_LOG),
    )
    quirks = frozenset({Quirk.COSE_ES384, Quirk.NO_CONTENT_TYPE, Quirk.NO_ISSUER_OR_ID})
    verified = verify(data, quirks=quirks)
    assert verified.family is FamilyName.OCP_EAT
    assert verified.forms == (
        "cose-algorithm-es384",
        "cose-without-content-type",
        "profile-text",
        "eat-without-issuer-or-id",
    )
    assert "debug_locked" not in verified.components[0].facts
    assert verified.components[0].facts["debug_status"] == "disabled-since-boot"


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (CONTENT, "profile-oid"),
        (Tag(111, CONTENT), "profile-tagged"),
        (FIRMWARE_PROFILE, "profile-text"),
        (Tag(111, "1.3.6.1.4.1.42623.1.3"), "profile-text"),
    ],
)
def test_forms_that_are_always_taken_are_said(value: Any, form: str) -> None:
    assert verify(forgery.token(claims={eat.PROFILE: value})).forms == (form,)


# --- revocation ------------------------------------------------------------------------------


def revocation_list(algorithm: Algorithm, *serials: int, days: int = 30) -> bytes:
    maker = pyca.load_der_x509_certificate(hosts.manufacturer_certificate(algorithm))
    builder = (
        pyca.CertificateRevocationListBuilder()
        .issuer_name(maker.subject)
        .last_update(hosts.AT - timedelta(days=1))
        .next_update(hosts.AT + timedelta(days=days))
    )
    for serial in serials:
        entry = pyca.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(
            entry.revocation_date(hosts.AT - timedelta(days=2)).build()
        )
    if algorithm is Algorithm.ECC:
        signed = builder.sign(hosts.manufacturer().ecc_key, hashes.SHA384())
    else:
        signed = builder.sign(hosts.manufacturer().mldsa_key, None)
    return signed.public_bytes(Encoding.DER)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_revoked_idevid_is_refused(algorithm: Algorithm) -> None:
    host = forgery.host()
    data, idevid = host.token(algorithm), x509.read_certificate(host.idevid[algorithm])

    def context(crl: bytes, **changes: Any) -> dict[str, Any]:
        listed = (NamedBytes(crl, "maker.crl"),)
        return {
            "endorsements": dataclasses.replace(hosts.endorsements(), revocations=listed, **changes)
        }

    assert refused(data, **context(revocation_list(algorithm, idevid.serial))) == "revoked"
    verified = verify(data, **context(revocation_list(algorithm, 7)))
    assert any(check.name == "revocation" for check in verified.checks)
    stale = revocation_list(algorithm, days=0)
    late = hosts.AT + timedelta(days=1)
    with pytest.raises(InfrastructureError, match="ended on"):
        verify(data, at=late, **context(stale))
    tolerant = context(stale, stale_until=datetime(2026, 1, 1, tzinfo=UTC))
    assert verify(data, at=late, **tolerant).host == verified.host
    with pytest.raises(InfrastructureError, match="no CRL of"):
        verify(
            data, endorsements=dataclasses.replace(hosts.endorsements(), require_revocation=True)
        )

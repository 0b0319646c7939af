"""Intel's collateral for TDX: read, found for a platform, and itself verified before it judges.

One collateral is a JSON object as dcap-qvl takes it: TCB info and QE identity (text, with their
signatures and their issuers' chains in PEM), the root's CRL and the PCK issuer's CRL (DER in
hexadecimal). It fits a platform by FMSPC and by the issuer of its PCK certificate.

Whatever is wrong with collateral is nobody's evidence: every fault here is an InfrastructureError.
Collateral that ended is refused, or with `Endorsements.stale_until` taken as it was at its end: the
PCK certificate is looked at in the time of appraisal all the same.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509 as pyca

from casemate.attestation.checks import Checklist
from casemate.attestation.endorsements import Endorsements, NamedBytes
from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence.family import Context
from casemate.attestation.revocation import crl_fields
from casemate.attestation.signatures import Padding, Scheme, SignatureError, verify
from casemate.attestation.x509_path import (
    Path,
    PathCertificate,
    build,
    common_name,
    read,
)
from casemate.attestation.x509_validation import validate
from casemate.formats import strict_json, x509
from casemate.formats.der_reader import DerError
from casemate.formats.strict_json import JsonError

_TEXTS = (
    "pck_crl_issuer_chain",
    "tcb_info_issuer_chain",
    "tcb_info",
    "qe_identity_issuer_chain",
    "qe_identity",
)
_CHAINS = ("tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain")
_HEXADECIMALS = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SCHEME = Scheme(Padding.ECDSA, "sha256")
_FETCH = "fetch it again: casemate collateral fetch"
_STALE = f"{_FETCH}; or allow stale collateral by policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxCollateral:
    """One collateral. `begins` and `ends` bound the time in which all of its parts are valid.

    `chains` are the issuers' chains by name, `library` is what dcap-qvl takes; `verified` holds the
    anchors' digests for which its signatures held (they do not depend on time).
    """

    name: str
    texts: Mapping[str, str]
    values: Mapping[str, bytes]
    chains: Mapping[str, Sequence[PathCertificate]]
    fmspc: bytes
    root_crl: pyca.CertificateRevocationList
    pck_crl: pyca.CertificateRevocationList
    pck_issuer: bytes
    begins: datetime
    ends: datetime
    library: Any
    verified: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Usable:
    """Verified collateral, the time to judge by, the root's certificate, and whether it is stale.

    `root` (DER) is of the operator's anchor, None where the anchor is Intel's pinned one.
    """

    collateral: TdxCollateral
    at: datetime
    root: bytes | None
    is_stale: bool


def decode(source: NamedBytes) -> TdxCollateral:
    """One collateral from its JSON. Raises InfrastructureError."""
    try:
        return _decode(source)
    except (JsonError, ValueError, KeyError, TypeError, DerError) as error:
        raise InfrastructureError(
            f"{source.name}: the collateral cannot be read: {error}", advice=_FETCH
        ) from None


def _decode(source: NamedBytes) -> TdxCollateral:
    # 4 MiB in each process, which few of them ever need.
    import dcap_qvl

    value = strict_json.decode(source.data)
    if not isinstance(value, dict):
        raise JsonError("expected an object")
    for name in (*_TEXTS, *_HEXADECIMALS):
        if not isinstance(value.get(name), str):
            raise JsonError(f"{name}: expected text")
    values = {name: bytes.fromhex(value[name]) for name in _HEXADECIMALS}
    tcb_info = strict_json.decode(value["tcb_info"])
    identity = strict_json.decode(value["qe_identity"])
    if tcb_info["id"] != "TDX":
        raise JsonError(f"tcb_info: expected TDX, found {tcb_info['id']!r}")
    root_crl, pck_crl = (pyca.load_der_x509_crl(values[n]) for n in ("root_ca_crl", "pck_crl"))
    crls = (root_crl, pck_crl)
    starts = [_time(part["issueDate"]) for part in (tcb_info, identity)]
    ends = [_time(part["nextUpdate"]) for part in (tcb_info, identity)]
    ends += [crl.next_update_utc for crl in crls if crl.next_update_utc is not None]
    return TdxCollateral(
        name=source.name,
        texts={name: value[name] for name in _TEXTS},
        values=values,
        chains={name: _chain(value[name], f"{source.name}: {name}") for name in _CHAINS},
        fmspc=bytes.fromhex(tcb_info["fmspc"]),
        root_crl=root_crl,
        pck_crl=pck_crl,
        pck_issuer=crl_fields(pck_crl)[0],
        begins=max(*starts, *(crl.last_update_utc for crl in crls)),
        ends=min(ends),
        library=dcap_qvl.QuoteCollateralV3.from_json(source.data.decode()),
    )


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone")
    return found


def _known(layer: Endorsements) -> Sequence[TdxCollateral]:
    known: list[TdxCollateral] | None = layer.derived.get("tdx-collateral")
    if known is None:
        known = [decode(source) for source in layer.tdx_collateral]
        layer.derived["tdx-collateral"] = known
    return known


def find(context: Context, fmspc: bytes, pck_issuer: bytes) -> TdxCollateral:
    """The latest collateral for a platform. Raises InfrastructureError."""
    known = [found for layer in context.endorsements.layers for found in _known(layer)]
    fitting = [
        found
        for found in known
        if found.fmspc == fmspc and found.pck_issuer == pck_issuer and found.begins <= context.at
    ]
    if fitting:
        return max(fitting, key=lambda found: found.ends)
    raise InfrastructureError(
        f"there is no TDX collateral for FMSPC {fmspc.hex()} and {common_name(pck_issuer)} that "
        f"was issued by {context.at:%Y-%m-%d}",
        advice="give it as an endorsement, or fetch it: casemate collateral fetch",
    )


def use(
    collateral: TdxCollateral,
    context: Context,
    *,
    trusted: Mapping[bytes, str],
    pinned: Mapping[bytes, str],
) -> Usable:
    """Verify collateral and settle the time to judge by. Raises InfrastructureError."""
    at, stale = context.at, False
    if at > collateral.ends:
        accepted = context.endorsements.stale_until
        if accepted is None or collateral.ends <= accepted:
            raise InfrastructureError(
                f"{collateral.name}: the TDX collateral ended on {collateral.ends:%Y-%m-%d}; the "
                f"time of appraisal is {at:%Y-%m-%d}",
                advice=_STALE,
            )
        # The last moment at which all of it was valid: an end itself is no longer.
        at, stale = collateral.ends - timedelta(seconds=1), True
    try:
        root = _verify(collateral, context, at, trusted)
    except (EvidenceError, SignatureError, DerError) as error:
        raise InfrastructureError(
            f"{collateral.name}: the TDX collateral is not authentic: {error}", advice=_FETCH
        ) from None
    if _digest(root) in pinned:
        return Usable(collateral, at, None, stale)
    # The library takes an anchor of the operator's as a certificate.
    found = (c for chain in collateral.chains.values() for c in chain if c.fields.spki == root)
    certificate = next(found, None)
    if certificate is None:
        raise InfrastructureError(
            f"{collateral.name}: its chains lack the certificate of the root that they end at",
            advice="name a PCCS that gives whole chains, or another collateral file",
        )
    return Usable(collateral, at, certificate.der, stale)


def _digest(spki: bytes) -> bytes:
    return hashlib.sha256(spki).digest()


def _verify(
    collateral: TdxCollateral, context: Context, at: datetime, trusted: Mapping[bytes, str]
) -> bytes:
    """Hold paths and signatures; return the key (SPKI) that they end at."""
    checks = Checklist()
    paths = []
    for name in _CHAINS:
        chain = collateral.chains[name]
        path = build(
            chain[0],
            context.endorsements,
            checks,
            trusted=trusted,
            certificates=context.certificates,
            extra=chain[1:],
        )
        validate(path, checks, endorsements=context.endorsements, at=at)
        paths.append(path)
    tcb, identity, pck = paths
    anchor = _digest(tcb.anchor_spki)
    if anchor not in collateral.verified:
        for path, name in ((tcb, "tcb_info"), (identity, "qe_identity")):
            signature = x509.ecdsa_signature(collateral.values[f"{name}_signature"])
            text = collateral.texts[name].encode()
            verify(path.certificates[0].fields.spki, _SCHEME, signature, text)
        for spki, crl in (
            (tcb.anchor_spki, collateral.root_crl),
            (pck.certificates[0].fields.spki, collateral.pck_crl),
        ):
            verify(spki, _SCHEME, crl.signature, crl.tbs_certlist_bytes)
        collateral.verified.add(anchor)
    _require_unrevoked(collateral, paths)
    return tcb.anchor_spki


def _chain(text: str, name: str) -> Sequence[PathCertificate]:
    found = _PEM.findall(text)
    if not 1 <= len(found) <= 8:
        raise ValueError(f"{name}: {len(found)} certificates")
    return [read(NamedBytes(base64.b64decode(certificate), name)) for certificate in found]


def _require_unrevoked(collateral: TdxCollateral, paths: Sequence[Path]) -> None:
    """Intermediate and signing certificates against the root's CRL."""
    for path in paths:
        for certificate in path.certificates:
            serial = certificate.fields.serial
            if collateral.root_crl.get_revoked_certificate_by_serial_number(serial) is not None:
                raise SignatureError(f"{certificate.title} is revoked")

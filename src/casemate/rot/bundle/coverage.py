"""Which bytes of a bundle nothing covers: they can change without any device noticing.

A byte is covered if a change to it makes the verifier refuse the bundle: because a hash or
signature runs over it, or because it is such a hash, signature or key. The rest is listed here,
with the reason, for one set of fuses; without fuses, for the strictest: past the unprovisioned
lifecycle with both hashes fused.

Two fields are covered and still have a second good value, which only their signer or a forger with
the original can make: s of an ECDSA signature (n - s verifies too), and the LMS type inside an LMS
signature (7 passes for 12, see `casemate.rot.bundle.signatures.check_lms`).
"""

from __future__ import annotations

from dataclasses import dataclass

from casemate.formats import firmware_bundle as fb
from casemate.rot.fuses import Fuses, Lifecycle, PqcKeyType


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A span of bytes that can change unnoticed, and why."""

    span: fb.Span
    field: str
    why: str


def uncovered(bundle: bytes, fuses: Fuses | None = None) -> tuple[Uncovered, ...]:
    """The spans that nothing covers, in order. Raises BundleFormatError if there is no manifest.

    Empty spans are left out. The answer is right for bundles that boot.
    """
    manifest = fb.Manifest.decode(bundle)
    found = [
        Uncovered(fb.LAYOUT["reserved"], "reserved", "reserved, not read"),
        Uncovered(fb.LAYOUT["preamble_reserved"], "preamble_reserved", "reserved, not read"),
        *_signature_tails(manifest),
        *_vendor_keys(manifest, fuses),
        *_owner_keys(manifest, fuses),
        *_gaps(manifest, len(bundle)),
    ]
    return tuple(
        sorted((each for each in found if each.span.size > 0), key=lambda each: each.span.start)
    )


def _is_lms(manifest: fb.Manifest) -> bool:
    return manifest.pqc_key_type == PqcKeyType.LMS


def _tail(field: str, used: int, why: str) -> Uncovered:
    span = fb.LAYOUT[field]
    return Uncovered(fb.Span(span.start + used, span.end), field, why)


def _signature_tails(manifest: fb.Manifest) -> list[Uncovered]:
    used = fb.LMS_SIGNATURE_SIZE if _is_lms(manifest) else fb.MLDSA_SIGNATURE_SIZE
    why = "behind the LMS signature" if _is_lms(manifest) else "pad of the ML-DSA signature"
    return [_tail(f"{party}_pqc_signature", used, why) for party in ("vendor", "owner")]


def _vendor_keys(manifest: fb.Manifest, fuses: Fuses | None) -> list[Uncovered]:
    found = []
    if _is_lms(manifest):
        found.append(
            _tail("vendor_pqc_key", fb.LMS_KEY_SIZE, "behind the LMS key: only the key is hashed")
        )
    if fuses is not None and fuses.lifecycle is Lifecycle.UNPROVISIONED:
        info = fb.LAYOUT["vendor_key_info"]
        why = "unprovisioned: the vendor's key list is not checked"
        pqc = info.start + 4 + fb.MAX_ECC_KEYS * fb.DIGEST_SIZE
        count = "; the count only bounds the index"
        found += [
            Uncovered(fb.Span(info.start, info.start + 3), "vendor_key_info", why),
            Uncovered(fb.Span(info.start + 3, info.start + 4), "vendor_key_info", why + count),
            Uncovered(fb.Span(info.start + 4, pqc + 3), "vendor_key_info", why),
            Uncovered(fb.Span(pqc + 3, pqc + 4), "vendor_key_info", why + count),
            Uncovered(fb.Span(pqc + 4, info.end), "vendor_key_info", why),
        ]
        if _is_lms(manifest):
            found.append(_lms_type("vendor_pqc_key", "unprovisioned"))
    return found


def _owner_keys(manifest: fb.Manifest, fuses: Fuses | None) -> list[Uncovered]:
    if fuses is None or fuses.owner_pk_hash_fused or not _is_lms(manifest):
        return []
    why = "no owner is fused: the padding behind the LMS key is not checked"
    return [
        _tail("owner_pqc_key", fb.LMS_KEY_SIZE, why),
        _lms_type("owner_pqc_key", "no owner is fused"),
    ]


def _lms_type(field: str, state: str) -> Uncovered:
    start = fb.LAYOUT[field].start
    why = f"{state}: the LMS type inside the key is not read"
    return Uncovered(fb.Span(start, start + 4), field, why)


def _gaps(manifest: fb.Manifest, size: int) -> list[Uncovered]:
    found = []
    at = fb.MANIFEST_SIZE
    for name, entry in (("FMC", manifest.fmc), ("runtime", manifest.runtime)):
        found.append(Uncovered(fb.Span(at, entry.offset), "contents", f"gap before the {name}"))
        at = max(at, entry.span.end)
    found.append(Uncovered(fb.Span(at, size), "contents", "padding behind the runtime"))
    return found

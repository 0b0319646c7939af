"""The gate: whether a verdict lets a key go, and to which wrapping key.

The checks, in order; each failure is a ReleaseRefusedError that names its check:

1. `state`: the verdict is affirming. Warning, contraindicated and could-not-appraise are all no.
2. `nonce`: it answers the nonce that was issued for this release, and no other.
3. `age`: it was made within the last `longest`, and not after now.
4. `key`: exactly one key report is in the evidence, with a public key.
5. `partition`: the root of trust of the very host certified the partition that reports it.
6. `origin`: the reported key was generated in the partition, not imported.
7. `usage`: it unwraps keys and does nothing else, so that nothing that was wrapped to it can be
   decrypted into the open.
8. `strength`: it is RSA of 2,048 bits or more.

What the gate returns is the only key that the released one may be wrapped to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from casemate.attestation.appraisal.verdict import ComponentVerdict, Verdict
from casemate.attestation.states import State
from casemate.formats import spki
from casemate.formats.der_reader import DerError
from casemate.formats.pkcs11 import Attribute, KeyType
from casemate.formats.pkcs11_wire import Template
from casemate.release.errors import ReleaseRefusedError

#: How old a verdict may be.
DEFAULT_LONGEST = timedelta(minutes=5)
LEAST_RSA_BITS = 2048

#: The component of a verdict that a key report makes, and its facts.
COMPONENT = "key"
_PUBLIC_KEY, _GENERATED, _IMPORTED, _UNWRAPS = "public_key", "generated", "imported", "unwrap"
_CERTIFIED_BY, _ROOT_OF_TRUST = "certified_by", "root-of-trust"
_OTHER_USES = ("encrypt", "decrypt", "sign", "verify", "wrap", "derive")


@dataclass(frozen=True, slots=True)
class Recipient:
    """A key in a partition that a released key may be wrapped to.

    `spki` is its SubjectPublicKeyInfo (DER), `attributes` the same for PKCS#11; `host` and
    `correlation_id` say whose it is and by which verdict.
    """

    spki: bytes
    attributes: Template
    host: str
    correlation_id: str


def recipient(
    verdict: Verdict, *, nonce: bytes, now: datetime, longest: timedelta = DEFAULT_LONGEST
) -> Recipient:
    """Run the checks. Raises ReleaseRefusedError."""
    if verdict.state is not State.AFFIRMING or verdict.host is None:
        raise ReleaseRefusedError(
            "state",
            f"the verdict is {verdict.state}, not affirming",
            reasons=verdict.reasons,
        )
    if verdict.nonce != nonce:
        raise ReleaseRefusedError("nonce", "the evidence does not answer the nonce of this release")
    if not timedelta(0) <= now - verdict.at <= longest:
        raise ReleaseRefusedError(
            "age", f"the verdict is of {verdict.at.isoformat()}: at most {longest} old is taken"
        )
    component = _key(verdict)
    facts = component.facts
    if facts.get(_CERTIFIED_BY) != _ROOT_OF_TRUST:
        raise ReleaseRefusedError(
            "partition", "no root of trust vouches for the partition that reports the key"
        )
    if facts.get(_GENERATED) is not True or facts.get(_IMPORTED) is not False:
        raise ReleaseRefusedError("origin", "the wrapping key was not generated in its partition")
    others = [use for use in _OTHER_USES if facts.get(use) is not False]
    if facts.get(_UNWRAPS) is not True or others:
        found = ", ".join(others) or "no unwrapping"
        raise ReleaseRefusedError(
            "usage", f"expected a key that unwraps and does nothing else, found {found}"
        )
    public_key = facts[_PUBLIC_KEY]
    if not isinstance(public_key, bytes):
        raise ReleaseRefusedError("key", "the reported public key is not in DER")
    return Recipient(
        public_key, _rsa_attributes(public_key), verdict.host.name, verdict.correlation_id
    )


def _key(verdict: Verdict) -> ComponentVerdict:
    found = [component for component in verdict.components if component.name == COMPONENT]
    if len(found) != 1 or _PUBLIC_KEY not in found[0].facts:
        raise ReleaseRefusedError(
            "key", "the evidence holds no key report: there is nothing to wrap the key to"
        )
    return found[0]


def _rsa_attributes(public_key: bytes) -> Template:
    try:
        attributes = spki.to_attributes(public_key)
    except DerError as error:
        raise ReleaseRefusedError("key", f"the reported public key: {error}") from None
    modulus = attributes.get(Attribute.MODULUS)
    bits = int.from_bytes(modulus).bit_length() if isinstance(modulus, bytes) else 0
    if attributes[Attribute.KEY_TYPE] is not KeyType.RSA or bits < LEAST_RSA_BITS:
        raise ReleaseRefusedError(
            "strength", f"expected an RSA key of {LEAST_RSA_BITS} bits or more, found {bits} bits"
        )
    return attributes

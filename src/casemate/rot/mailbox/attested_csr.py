"""GET_ATTESTED_ECC384_CSR and _MLDSA87_CSR: a layer's request inside a token of the runtime.

The token is tag 61 (18 (COSE_Sign1)), signed by the RT alias key, over three claims: the caller's
nonce (10), the request (-70001) and what the key was made from (-70002, an object identifier of
OCP). Whoever issues a certificate for the request knows from it that the key lives in the device.

Two things are the firmware's way and must be known to whoever reads the tokens:

- The LDevID key is gone when the runtime runs, so its request carries a signature of zeros.
- The ML-DSA token is signed over the SHA-384 of the Sig_structure, each four bytes reversed, where
  COSE signs the structure itself; and the signature has its byte of padding.

Source: caliptra-sw, runtime/src/attested_csr, common/eat/src.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from casemate.formats import cbor, cose, x509
from casemate.formats import mailbox_messages as messages
from casemate.formats.cbor import Tag
from casemate.formats.dpe import Profile
from casemate.formats.eat import CONTENT_TYPE_EAT_CWT, NONCE, TAG_CWT
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.mailbox.device import MailboxDevice, Reply, decode
from casemate.rot.mailbox.errors import Code, MailboxError

CLAIM_REQUEST, CLAIM_KEY_ATTRIBUTES = -70001, -70002
_TAG_OID = 111
#: What a layer's key is derived from, OCP's identifiers (1.3.6.1.4.1.42655.1.2.n, content octets).
_KEY_DERIVATION = bytes.fromhex("2b0601040182cd1f0102")
_LAYERS = {1: LayerName.LDEVID, 2: LayerName.FMC_ALIAS, 3: LayerName.RT_ALIAS}
_ALGORITHM_ID = {Algorithm.ECC: cose.ESP384, Algorithm.MLDSA: cose.ML_DSA_87}
_PROFILE = {Algorithm.ECC: Profile.P384_SHA384, Algorithm.MLDSA: Profile.ML_DSA_87}


def attested_request(algorithm: Algorithm) -> Callable[[MailboxDevice, int, bytes], Reply]:
    """Return the command of one algorithm."""

    def get_attested_request(device: MailboxDevice, _user: int, body: bytes) -> Reply:
        asked = decode(messages.AttestedRequest, body, Code.RUNTIME_MAILBOX_INVALID_PARAMS)
        layer = _LAYERS.get(asked.layer)
        if layer is None:
            raise MailboxError(
                Code.RUNTIME_MAILBOX_INVALID_PARAMS,
                f"layer {asked.layer}; 1 LDevID, 2 FMC alias, 3 RT alias",
            )
        claims = {
            NONCE: asked.nonce,
            CLAIM_REQUEST: _request(device, layer, algorithm),
            CLAIM_KEY_ATTRIBUTES: [Tag(_TAG_OID, _KEY_DERIVATION + bytes((asked.layer,)))],
        }
        return Reply(messages.encode_sized(_token(device, algorithm, cbor.encode(claims))))

    return get_attested_request


def _request(device: MailboxDevice, layer: LayerName, algorithm: Algorithm) -> bytes:
    request = device.root.requests.get((layer, algorithm))
    if request is None:
        fmc = layer is LayerName.FMC_ALIAS
        raise MailboxError(
            Code.RUNTIME_GET_FMC_CSR_UNPROVISIONED
            if fmc
            else Code.RUNTIME_ATTESTED_CSR_EAT_ENCODING_ERROR,
            "no CSR was made at this boot",
        )
    if layer is not LayerName.LDEVID:
        return request
    zeros = x509.ecdsa_signature(bytes(96)) if algorithm is Algorithm.ECC else bytes(4627)
    return x509.join(x509.split(request).tbs, algorithm.signature_algorithm, zeros)


def _token(device: MailboxDevice, algorithm: Algorithm, payload: bytes) -> bytes:
    signer = device.runtime_dpe.instance(_PROFILE[algorithm]).keys.alias_signer
    prefix = b"\x04" if algorithm is Algorithm.ECC else b""
    header: dict[int | str, object] = {
        cose.ALGORITHM: _ALGORITHM_ID[algorithm],
        cose.CONTENT_TYPE: CONTENT_TYPE_EAT_CWT,
        cose.KEY_ID: hashlib.sha256(prefix + signer.public_key).digest()[:20],
    }
    protected = cose.protected_header(header)
    structure = cose.to_be_signed(protected, payload)
    if algorithm is Algorithm.ECC:
        signature = signer.sign(structure)
    else:
        signature = signer.sign(messages.swap_words(hashlib.sha384(structure).digest())) + b"\0"
    return cose.encode(cose.Sign1(protected, payload, signature), tags=(TAG_CWT, cose.TAG_SIGN1))

"""Evidence as it arrives: pieces in JSON, or a conceptual message wrapper in JSON or CBOR.

A wrapper (draft-ietf-rats-msg-wrap) may hold one message or a collection; each of its records is a
piece, named by its labels. The bytes say what they are; a wrapper's type is not believed.
"""

from __future__ import annotations

import base64
import binascii

from pydantic import ValidationError

from casemate.attestation.evidence.family import Piece
from casemate.attestation.service.errors import Reason, RefusedError
from casemate.attestation.service.http.models import MOST_PIECES, AppraisalRequest
from casemate.formats import cmw
from casemate.formats.cmw import CmwError

JSON, CMW_JSON, CMW_CBOR = "application/json", "application/cmw+json", "application/cmw+cbor"
_ALPHABET = bytes.maketrans(b"+/", b"-_")


def read(
    body: bytes, content_type: str, challenge: str | None
) -> tuple[str | None, tuple[Piece, ...]]:
    """Return the challenge's id and the pieces; raises `RefusedError`."""
    kind = content_type.split(";", maxsplit=1)[0].strip().lower()
    if kind == JSON:
        return _from_json(body, challenge)
    if kind in (CMW_JSON, CMW_CBOR):
        return challenge, _from_wrapper(body, kind)
    raise RefusedError(
        Reason.UNSUPPORTED,
        "the body is of a type that holds no evidence here",
        where="content-type",
        expected=f"{JSON}, {CMW_JSON} or {CMW_CBOR}",
        found=content_type[:100] or "none",
        advice="send evidence as JSON, or wrapped as a conceptual message",
    )


def decode(text: str, where: str) -> bytes:
    """Return the bytes of base64url or base64, padded or not; raises `RefusedError`."""
    try:
        raw = text.encode("ascii").translate(_ALPHABET).rstrip(b"=")
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise RefusedError(
            Reason.UNUSABLE,
            "this is not base64",
            where=where,
            expected="base64url or base64",
            found=text[:20],
        ) from None


def _from_json(body: bytes, challenge: str | None) -> tuple[str | None, tuple[Piece, ...]]:
    try:
        request = AppraisalRequest.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None
    if challenge is not None and request.challenge not in (None, challenge):
        raise RefusedError(
            Reason.UNUSABLE,
            "the query and the body name different challenges",
            where="challenge",
            expected=challenge[:40],
            found=(request.challenge or "")[:40],
        )
    pieces = tuple(
        Piece(decode(part.data, f"evidence.{index}.data"), part.name or f"evidence {index + 1}")
        for index, part in enumerate(request.evidence)
    )
    return request.challenge or challenge, pieces


def _from_wrapper(body: bytes, kind: str) -> tuple[Piece, ...]:
    try:
        wrapper = cmw.decode_json(body) if kind == CMW_JSON else cmw.decode_cbor(body)
    except CmwError as error:
        raise RefusedError(
            Reason.UNUSABLE,
            str(error),
            where="body",
            expected="a conceptual message wrapper",
            advice="wrap the evidence as draft-ietf-rats-msg-wrap says, or send application/json",
        ) from None
    pieces = tuple(
        Piece(record.value, label or "evidence") for label, record in cmw.leaves(wrapper)
    )
    if not 0 < len(pieces) <= MOST_PIECES:
        raise RefusedError(
            Reason.UNUSABLE,
            "the wrapper has the wrong number of pieces",
            where="body",
            expected=f"1 to {MOST_PIECES}",
            found=str(len(pieces)),
        )
    return pieces


def invalid(error: ValidationError) -> RefusedError:
    """Return the refusal of a body that is not of its shape: the first thing that is wrong."""
    first = error.errors(include_url=False, include_context=False)[0]
    return RefusedError(
        Reason.UNUSABLE,
        first["msg"],
        where=".".join(str(part) for part in first["loc"]) or "body",
        expected="the shape in /openapi.json",
        found=f"{first['input']!r:.60}",
        advice="see /docs",
    )

"""AUTHORIZE_AND_STASH: is this image one that the SoC manifest lists?

Source: chipsalliance/caliptra-sw, `runtime/src/authorize_and_stash.rs`. Three traps of the command
that callers must know:

- A refusal is a successful response: only `Result.AUTHORIZED` and `AUTHORIZED_OWNER_ONLY` mean yes
  (`Authorization.yes`), and a caller that looks at the mailbox's status alone loads anything.
- With source 1 the digest that is compared is the one the caller names: it says nothing about the
  bytes that the caller then runs, unless the caller has hashed just those.
- An entry with `ignore_auth_check` authorises any image, and what is stashed is then what the
  caller named.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from casemate.rot.soc_manifest.errors import ManifestError, ManifestRefusedError
from casemate.rot.soc_manifest.verify import Authorizations

FLAG_SKIP_STASH = 1


class Result(enum.IntEnum):
    """The answer in the response; the values are chosen far apart."""

    AUTHORIZED = 0xDEADC0DE
    AUTHORIZED_OWNER_ONLY = 0xC0DEDEAD
    NOT_AUTHORIZED = 0x21523F21
    HASH_MISMATCH = 0x8BFB95CB


class Source(enum.IntEnum):
    """Where the digest of the image comes from."""

    IN_REQUEST = 1
    LOAD_ADDRESS = 2
    STAGING_ADDRESS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The command's fields: `measurement` 48 bytes, `image_size` in bytes for sources 2 and 3."""

    fw_id: int
    measurement: bytes
    svn: int = 0
    flags: int = 0
    source: int = Source.IN_REQUEST
    image_size: int = 0


@dataclass(frozen=True, slots=True)
class Stash:
    """What is to be stashed in DPE: TCI type (the id), measurement (48 bytes), SVN."""

    fw_id: int
    measurement: bytes
    svn: int


@dataclass(frozen=True, slots=True)
class Authorization:
    """The answer, and what is to be stashed before it is given."""

    result: Result
    stash: Stash | None

    @property
    def yes(self) -> bool:
        """Whether the image may be loaded."""
        return self.result in (Result.AUTHORIZED, Result.AUTHORIZED_OWNER_ONLY)


def authorize(
    state: Authorizations,
    request: Request,
    *,
    privileged: bool = True,
    hash_image: Callable[[int, int], bytes] | None = None,
) -> Authorization:
    """Answer one request; the state does not change.

    `privileged` says whether the caller is the PL0 user. `hash_image(address, size)` gives the
    SHA-384 of memory, for the sources that read it. Raises ManifestRefusedError where the command
    itself fails: an unknown source, or a stash by another user than PL0's.
    """
    skips_stash = bool(request.flags & FLAG_SKIP_STASH)
    if not privileged and not skips_stash:
        raise ManifestRefusedError(ManifestError.INCORRECT_PAUSER_PRIVILEGE_LEVEL)
    if request.source not in tuple(Source):
        raise ManifestRefusedError(
            ManifestError.AUTH_AND_STASH_UNSUPPORTED_IMAGE_SOURCE, f"found {request.source}"
        )
    found = state.find(request.fw_id)
    if found is None:
        return Authorization(Result.NOT_AUTHORIZED, None)
    image, owner_only = found
    measurement = request.measurement
    if not image.ignore_auth_check:
        if request.source != Source.IN_REQUEST:
            if hash_image is None:
                raise ManifestRefusedError(
                    ManifestError.AUTH_AND_STASH_UNSUPPORTED_IMAGE_SOURCE,
                    "there is no SoC memory here to read the image from",
                )
            from_load = request.source == Source.LOAD_ADDRESS
            address = image.load_address if from_load else image.staging_address
            measurement = hash_image(address, request.image_size)
        if measurement != image.digest:
            return Authorization(Result.HASH_MISMATCH, None)
    result = Result.AUTHORIZED_OWNER_ONLY if owner_only else Result.AUTHORIZED
    stash = None if skips_stash else Stash(request.fw_id, measurement, request.svn)
    return Authorization(result, stash)

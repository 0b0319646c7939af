"""Signing results on the command line: with a PEM file, or a key in a module.

A pkcs11: URI without `module-path` (or CASEMATE_PKCS11_MODULE) names a key in a partition of a
Casemate module; with one, a key of any module behind its PKCS#11 library.
"""

from __future__ import annotations

import hashlib
import os
from datetime import datetime, timedelta
from pathlib import Path

import click

from casemate.attestation.appraisal import result
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.errors import InputError
from casemate.formats import x509
from casemate.rot.bundle.signers import Algorithm, Signer, load_signer
from casemate.rot.errors import RotError


class KeySigner:
    """A signer of results over a signer of firmware: the same keys, wherever they are."""

    def __init__(self, signer: Signer, name: str) -> None:
        if signer.algorithm is not Algorithm.ECDSA_P384:
            raise InputError(f"{name}: results are signed with a P-384 key")
        self._signer = signer
        self.spki = x509.spki_p384(b"\x04" + signer.public_key)

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-384: r and s, 96 bytes."""
        try:
            return self._signer.sign(hashlib.sha384(message).digest())
        except RotError as error:
            raise InputError(f"the result cannot be signed: {error}") from None


def open_signer(reference: str) -> result.Signer:
    """The key that a PEM file or a pkcs11: URI names. Raises InputError, InfrastructureError."""
    if reference.startswith("pkcs11:") and not (
        "module-path=" in reference or os.environ.get("CASEMATE_PKCS11_MODULE")
    ):
        from casemate.release.result_signer import KeyName, ModuleSigner

        return ModuleSigner(KeyName.parse(reference))

    def ask() -> bytes:
        answer: str = click.prompt(f"passphrase of {reference}", hide_input=True, err=True)
        return answer.encode()

    try:
        return KeySigner(load_signer(reference, passphrase=ask), reference)
    except RotError as error:
        raise InputError(str(error)) from None


def write(
    verdict: Verdict, *, form: str, key: str, out: Path, lifetime: timedelta, now: datetime
) -> None:
    """Write the signed result of a verdict. Raises InputError."""
    signer = open_signer(key)
    data = (
        result.to_jwt(verdict, signer, issued_at=now, lifetime=lifetime).encode() + b"\n"
        if form == "jwt"
        else result.to_cwt(verdict, signer, issued_at=now, lifetime=lifetime)
    )
    try:
        out.write_bytes(data)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None

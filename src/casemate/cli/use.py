"""`casemate sign`, `verify`, `encrypt`, `decrypt`, `random`: keys at work."""

from __future__ import annotations

import sys

import click

from casemate.cli._module import json_option, print_json, reports_errors
from casemate.cli._partition import (
    KEY,
    Where,
    find_key,
    input_argument,
    output_option,
    partition_options,
    read_input,
    write_output,
)
from casemate.formats.pkcs11 import KeyType, Mechanism

mechanism_option = click.option(
    "-m",
    "--mechanism",
    help="CKM_ name without its prefix, such as ECDSA_SHA256 [what suits the key].",
)
associated_option = click.option(
    "--associated", default="", help="Associated data (text) that is authenticated too."
)


def _mechanism(name: str | None) -> Mechanism | None:
    if name is None:
        return None
    plain = name.upper().replace("-", "_").removeprefix("CKM_")
    if plain not in Mechanism.__members__:
        raise click.BadParameter(f"there is no mechanism {name!r}", param_hint="--mechanism")
    return Mechanism[plain]


@click.command()
@click.argument("name", type=KEY)
@input_argument
@mechanism_option
@click.option("--der", is_flag=True, help="ECDSA signatures in DER, as OpenSSL writes them.")
@output_option
@partition_options
@reports_errors
def sign(*, name: str, file: str, mechanism: str | None, der: bool, out: str, where: Where) -> None:
    """Sign FILE with the key NAME (a label, or id:HEX)."""
    data = read_input(file)
    with where.connected() as partition:
        key = find_key(partition, name, to="sign")
        signature = key.sign(data, mechanism=_mechanism(mechanism))
        if der and key.key_type is KeyType.EC:
            from casemate.formats.x509 import ecdsa_signature

            signature = ecdsa_signature(signature)
    write_output(out, signature)


@click.command()
@click.argument("name", type=KEY)
@click.argument("signature")
@input_argument
@mechanism_option
@partition_options
@json_option
@reports_errors
def verify(
    *, name: str, signature: str, file: str, mechanism: str | None, where: Where, as_json: bool
) -> None:
    """Check the signature in the file SIGNATURE over FILE.

    \b
    Exit codes: 0 it fits; 1 something failed; 5 it does not fit.
    """
    from casemate.hsm.client.errors import InvalidSignatureError

    claimed, data = read_input(signature), read_input(file)
    valid = True
    with where.connected() as partition:
        key = find_key(partition, name, public=True)
        try:
            key.verify(claimed, data, mechanism=_mechanism(mechanism))
        except InvalidSignatureError:
            valid = False
    if as_json:
        print_json({"valid": valid})
    else:
        click.echo("the signature fits" if valid else "THE SIGNATURE DOES NOT FIT")
    sys.exit(0 if valid else 5)


@click.command()
@click.argument("name", type=KEY)
@input_argument
@associated_option
@output_option
@partition_options
@reports_errors
def encrypt(*, name: str, file: str, associated: str, out: str, where: Where) -> None:
    """Encrypt FILE: AES-GCM as IV, ciphertext, tag; or RSA OAEP with SHA-256."""
    data = read_input(file)
    with where.connected() as partition:
        key = find_key(partition, name, public=True)
        result = key.encrypt(data, associated=associated.encode())
    write_output(out, result)


@click.command()
@click.argument("name", type=KEY)
@input_argument
@associated_option
@output_option
@partition_options
@reports_errors
def decrypt(*, name: str, file: str, associated: str, out: str, where: Where) -> None:
    """Decrypt what `casemate encrypt` wrote."""
    data = read_input(file)
    with where.connected() as partition:
        result = find_key(partition, name, to="decrypt").decrypt(
            data, associated=associated.encode()
        )
    write_output(out, result)


@click.command()
@click.argument("size", type=click.IntRange(1, 1 << 30))
@click.option("--hex", "as_hex", is_flag=True, help="Hexadecimal digits instead of bytes.")
@output_option
@partition_options
@reports_errors
def random(*, size: int, as_hex: bool, out: str, where: Where) -> None:
    """Write SIZE random bytes of the partition's generator."""
    with where.connected() as partition:
        data = partition.random(size)
    write_output(out, data.hex().encode() + b"\n" if as_hex else data)

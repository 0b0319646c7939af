"""`casemate key`: the keys of a partition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from casemate.cli._module import (
    json_option,
    print_fields,
    print_json,
    print_table,
    reports_errors,
    working,
)
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
from casemate.formats.pkcs11 import Attribute, ObjectClass
from casemate.hsm.client.algorithms import Algorithm, Purpose

if TYPE_CHECKING:
    from casemate.formats.pkcs11_wire import Value
    from casemate.hsm.client import Key, Object, Partition

_A = Attribute
_USES = (
    _A.SIGN, _A.VERIFY, _A.ENCRYPT, _A.DECRYPT, _A.WRAP, _A.UNWRAP, _A.DERIVE, _A.ENCAPSULATE,
    _A.DECAPSULATE,
)  # fmt: skip


@click.group()
def key() -> None:
    """Make, list, show, certify and destroy keys; values never leave the partition."""


@key.command("generate")
@click.argument("label")
@click.option(
    "-a",
    "--algorithm",
    type=click.Choice([algorithm.value for algorithm in Algorithm]),
    default="ec-p256",
    show_default=True,
)
@click.option("--id", "id_", help="CKA_ID in hexadecimal [the first free number].")
@click.option("--extractable", is_flag=True, help="Allow that it leaves, wrapped under a key.")
@click.option(
    "--for",
    "purpose",
    type=click.Choice([purpose.value for purpose in Purpose]),
    default="data",
    show_default=True,
    help="What it works on: data, or other keys (AES and RSA).",
)
@partition_options
@json_option
@reports_errors
def generate(
    *,
    label: str,
    algorithm: str,
    purpose: str,
    id_: str | None,
    extractable: bool,
    where: Where,
    as_json: bool,
) -> None:
    """Make a stored key or key pair; it is on disk when this returns."""
    chosen = Algorithm(algorithm)
    with where.connected() as partition:
        identity = _new_identity(partition, label, id_)
        options: dict[str, Any] = {"extractable": extractable, "purpose": Purpose(purpose)}
        with working(f"making a {algorithm} key in {partition.name}"):
            made = _make(partition, chosen, label=label, id=identity, stored=True, **options)
        _print(made, as_json=as_json)


def _make(partition: Partition, algorithm: Algorithm, **options: Any) -> Key:
    """Generate, and return the private or secret key."""
    if algorithm.recipe.is_pair:
        return partition.generate(algorithm, **options).private
    return partition.generate_secret(algorithm, **options)


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not hexadecimal") from error


def _new_identity(partition: Partition, label: str, id_: str | None) -> bytes:
    """Return a new key's id; raises `UsageError` where the label is taken already."""
    keys = list(partition.all_keys())
    if any(found.label == label for found in keys):
        raise click.UsageError(
            f"partition {partition.name} has a key with the label {label!r} already"
        )
    if id_ is not None:
        return _hex(id_)
    taken = {found.id for found in keys}
    number = 1
    while (identity := number.to_bytes((number.bit_length() + 7) // 8)) in taken:
        number += 1
    return identity


@key.command("import")
@click.argument("label")
@input_argument
@click.option("--id", "id_", help="CKA_ID in hexadecimal [the first free number].")
@click.option("--extractable", is_flag=True, help="Allow that it leaves, wrapped under a key.")
@partition_options
@json_option
@reports_errors
def import_(
    *, label: str, file: str, id_: str | None, extractable: bool, where: Where, as_json: bool
) -> None:
    """Take in the private key in FILE (PEM, or PKCS #8 in DER); the partition parses it.

    The file has been outside: delete it, its backups and its history, or make a new key instead.
    """
    encoded = read_input(file)
    with where.connected() as partition:
        identity = _new_identity(partition, label, id_)
        made = partition.import_key(
            encoded, label=label, id=identity, stored=True, extractable=extractable
        )
        _print(made.private, as_json=as_json)


@key.command("list")
@click.option("--all", "everything", is_flag=True, help="Certificates and data too.")
@partition_options
@json_option
@reports_errors
def list_(*, everything: bool, where: Where, as_json: bool) -> None:
    """List the keys."""
    with where.connected() as partition:
        found = list(partition.objects() if everything else partition.all_keys())
        if as_json:
            print_json([_summary(one) for one in found])
            return
        if not found:
            click.echo(f"no keys; make one with: casemate key generate -p {partition.name} LABEL")
            return
        rows = sorted(
            (one.label, one.algorithm, _class(one), one.id.hex(), "yes" if one.stored else "no")
            for one in found
        )
        print_table(["label", "algorithm", "class", "id", "stored"], rows)


@key.command("show")
@click.argument("name", type=KEY)
@click.option("--public", is_flag=True, help="The public half of a pair.")
@partition_options
@json_option
@reports_errors
def show(*, name: str, public: bool, where: Where, as_json: bool) -> None:
    """Show what a key is and may do. NAME is a label, or id:HEX."""
    with where.connected() as partition:
        _print(find_key(partition, name, public=public), as_json=as_json)


@key.command("export-public")
@click.argument("name", type=KEY)
@click.option("--der", is_flag=True, help="DER instead of PEM.")
@output_option
@partition_options
@reports_errors
def export_public(*, name: str, der: bool, out: str, where: Where) -> None:
    """Write the public key (SubjectPublicKeyInfo)."""
    from casemate.hsm.client.certificates import pem

    with where.connected() as partition:
        data = find_key(partition, name, public=True).public_key_info()
    write_output(out, data if der else pem(data, "PUBLIC KEY").encode())


@key.command("csr")
@click.argument("name", type=KEY)
@click.option("--subject", required=True, help="As in CN=www.example.org,O=Example.")
@click.option("--san", multiple=True, help="A DNS name or an IP address; may be repeated.")
@click.option("--rsa-pss", is_flag=True, help="Sign with RSA PSS instead of PKCS#1 v1.5.")
@click.option("--der", is_flag=True, help="DER instead of PEM.")
@output_option
@partition_options
@reports_errors
def csr(
    *,
    name: str,
    subject: str,
    san: tuple[str, ...],
    rsa_pss: bool,
    der: bool,
    out: str,
    where: Where,
) -> None:
    """Write a certificate request, signed in the partition."""
    from casemate.hsm.client.certificates import pem, request

    with where.connected() as partition:
        data = request(
            find_key(partition, name, to="sign a request"),
            subject=subject,
            names=san,
            rsa_pss=rsa_pss,
        )
    write_output(out, data if der else pem(data, "CERTIFICATE REQUEST").encode())


@key.command("attest")
@click.argument("name", type=KEY)
@click.option("--nonce", required=True, help="The verifier's nonce in hexadecimal.")
@click.option("--azure", is_flag=True, help="The Azure Integrated HSM's layout, version 1.")
@click.option(
    "--chain", type=click.Path(path_type=Path), help="Write the certificates here, in PEM."
)
@output_option
@partition_options
@reports_errors
def attest(
    *, name: str, nonce: str, azure: bool, chain: Path | None, out: str, where: Where
) -> None:
    """Write the partition's signed report about a key (COSE_Sign1) over a nonce."""
    from casemate.hsm.client.certificates import pem

    with where.connected() as partition:
        report = find_key(partition, name).attest(_hex(nonce), version=1 if azure else 2)
        if chain is not None:
            certificates = partition.certificate_chain()
            chain.write_text("".join(pem(one, "CERTIFICATE") for one in certificates))
    write_output(out, report)


@key.command("destroy")
@click.argument("name", type=KEY)
@click.option("--yes", is_flag=True, help="Do not ask.")
@partition_options
@json_option
@reports_errors
def destroy(*, name: str, yes: bool, where: Where, as_json: bool) -> None:
    """Destroy a key for good, with its public half."""
    with where.connected() as partition:
        chosen = find_key(partition, name)
        doomed = [chosen]
        if chosen.object_class == ObjectClass.PRIVATE_KEY:
            public: dict[Attribute, Value] = {
                _A.CLASS: ObjectClass.PUBLIC_KEY,
                _A.LABEL: chosen.label,
                _A.ID: chosen.id,
            }
            doomed += list(partition.all_keys(public))
        if not yes:
            click.confirm(
                f"Destroy {chosen.algorithm} key {chosen.label!r} in partition "
                f"{partition.name} for good?",
                abort=True,
            )
        for one in doomed:
            one.destroy()
    if as_json:
        print_json({"destroyed": chosen.label, "objects": len(doomed)})
    else:
        click.echo(f"destroyed {chosen.label}")


# --- rendering -------------------------------------------------------------------------------


def _class(found: Object) -> str:
    try:
        return ObjectClass(found.object_class).name.lower().replace("_", " ")
    except ValueError:
        return f"{found.object_class:#x}"


def _summary(found: Object) -> dict[str, Any]:
    return {
        "label": found.label,
        "algorithm": found.algorithm,
        "class": _class(found),
        "id": found.id.hex(),
        "stored": found.stored,
        "handle": found.handle,
    }


def _print(found: Object, *, as_json: bool) -> None:
    attributes = found.attributes()
    uses = [use.name.lower() for use in _USES if attributes.get(use) is True]
    flags = {
        name.lower(): attributes[attribute]
        for name, attribute in (
            ("sensitive", _A.SENSITIVE),
            ("extractable", _A.EXTRACTABLE),
            ("always_sensitive", _A.ALWAYS_SENSITIVE),
            ("never_extractable", _A.NEVER_EXTRACTABLE),
            ("local", _A.LOCAL),
            ("always_authenticate", _A.ALWAYS_AUTHENTICATE),
        )
        if attribute in attributes
    }
    described = {**_summary(found), "uses": uses, **flags, "uri": _uri(found)}
    if as_json:
        print_json(described)
        return
    described["uses"] = ", ".join(uses) or "none"
    print_fields((name.replace("_", " "), value) for name, value in described.items())


def _uri(found: Object) -> str:
    from casemate.hsm.client.uri import object_uri

    return object_uri(found)

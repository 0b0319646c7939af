"""`casemate certificate`: the certificates of a partition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from casemate.cli._module import json_option, print_json, print_table, reports_errors
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


@click.group()
def certificate() -> None:
    """Store and list certificates, so that programs find them beside their keys."""


@certificate.command("import")
@input_argument
@click.option("--label", help="The label [the label of its key, else the subject].")
@partition_options
@json_option
@reports_errors
def import_(*, file: str, label: str | None, where: Where, as_json: bool) -> None:
    """Store a certificate (PEM or DER) under the id of the key that it is for."""
    from casemate.hsm.client.certificates import (
        certificate_parts,
        matching_id,
        read_certificate,
    )

    read = read_certificate(read_input(file))
    data, subject = certificate_parts(read)
    with where.connected() as partition:
        keys = list(partition.all_keys())
        id_ = matching_id(read, keys)
        named = label or next((key.label for key in keys if id_ and key.id == id_), "")
        stored = partition.import_certificate(
            data, subject=subject, label=named or read.subject.rfc4514_string(), id=id_
        )
        row = {"label": stored.label, "id": stored.id.hex(), "has_key": bool(id_)}
    if as_json:
        print_json(row)
    else:
        suffix = f"for key id {id_.hex()}" if id_ else "(no key of this partition is for it)"
        click.echo(f"stored certificate {stored.label} {suffix}")


@certificate.command("list")
@partition_options
@json_option
@reports_errors
def list_(*, where: Where, as_json: bool) -> None:
    """List the certificates."""
    with where.connected() as partition:
        rows = [
            _row(found.label, found.id, found.attributes(Attribute.VALUE).get(Attribute.VALUE))
            for found in partition.objects({Attribute.CLASS: ObjectClass.CERTIFICATE})
        ]
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo("no certificates")
    else:
        columns = ["label", "id", "subject", "issuer", "not_after"]
        print_table(columns, [[str(row[column]) for column in columns] for row in rows])


def _row(label: str, id_: bytes, value: object) -> dict[str, Any]:
    from casemate.hsm.client.certificates import read_certificate
    from casemate.hsm.client.errors import ArgumentError

    row: dict[str, Any] = {"label": label, "id": id_.hex()}
    try:
        read = read_certificate(value if isinstance(value, bytes) else b"")
    except ArgumentError:
        return {**row, "subject": "unreadable", "issuer": "", "not_after": ""}
    return {
        **row,
        "subject": read.subject.rfc4514_string(),
        "issuer": read.issuer.rfc4514_string(),
        "not_after": f"{read.not_valid_after_utc:%Y-%m-%d}",
    }


@certificate.command("self-signed")
@click.argument("name", type=KEY)
@click.option("--subject", required=True, help="As in CN=www.example.org.")
@click.option("--san", multiple=True, help="A DNS name or an IP address; may be repeated.")
@click.option("--days", default=90, show_default=True, type=click.IntRange(1, 3650))
@click.option("--rsa-pss", is_flag=True, help="Sign with RSA PSS instead of PKCS#1 v1.5.")
@click.option("--store", is_flag=True, help="Store it in the partition too.")
@output_option
@partition_options
@reports_errors
def self_signed(
    *,
    name: str,
    subject: str,
    san: tuple[str, ...],
    days: int,
    rsa_pss: bool,
    store: bool,
    out: str,
    where: Where,
) -> None:
    """Write a certificate that a key signs for itself: for tests and first steps."""
    from casemate.hsm.client import certificates

    now = datetime.now(UTC)
    with where.connected() as partition:
        key = find_key(partition, name, to="sign a certificate")
        data = certificates.self_signed(
            key,
            subject=subject,
            names=san,
            not_before=now - timedelta(minutes=5),
            not_after=now + timedelta(days=days),
            rsa_pss=rsa_pss,
        )
        if store:
            partition.import_certificate(
                data, subject=certificates.subject_name(subject), label=key.label, id=key.id
            )
    write_output(out, certificates.pem(data, "CERTIFICATE").encode())

"""The commands of `casemate verifier` that talk to a running service."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from casemate.attestation.client import Appraisal, Challenge, VerifierClient
from casemate.attestation.errors import InputError
from casemate.attestation.service.principals import Role
from casemate.attestation.service.trust import TrustState
from casemate.attestation.states import State
from casemate.cli._attestation import Time
from casemate.cli._module import json_option, print_fields, print_json, print_table
from casemate.cli._verifier import talks_to_verifier, write_files

_KINDS = {
    "reference": "references",
    "policy": "policies",
    "anchor": "anchors",
    "endorsement": "endorsements",
}
_kind = click.argument("kind", type=click.Choice(list(_KINDS)))
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_most = click.option(
    "--most", type=click.IntRange(1), default=100, show_default=True, help="Rows at most."
)


def commands() -> tuple[click.Command, ...]:
    """All of them."""
    return (
        status,
        challenge,
        submit,
        host,
        appraisal,
        principal,
        add,
        list_,
        activate,
        deactivate,
        epochs,
    )


@click.command()
@json_option
@talks_to_verifier
def status(*, client: VerifierClient, as_json: bool) -> None:
    """Show whether the service can appraise, and what is in its way.

    \b
    Exit codes: 0 it can; 1 it cannot be reached; 4 it cannot appraise.
    """
    health = client.health()
    if as_json:
        print_json(health)
    else:
        print_fields(
            [(name, value if value is not True else "yes") for name, value in health.items()]
        )
    if not health["ready"]:
        raise SystemExit(4)


@click.command()
@json_option
@talks_to_verifier
def challenge(*, client: VerifierClient, as_json: bool) -> None:
    """Ask for a nonce, to be put into evidence: `casemate rot evidence --nonce`."""
    issued = client.challenge()
    shown = {
        "id": issued.id,
        "nonce": issued.nonce.hex(),
        "expires": issued.expires.isoformat(),
    }
    if as_json:
        print_json(shown)
    else:
        print_fields(shown.items())


@click.command()
@click.argument("evidence", nargs=-1, required=True, type=_FILE)
@click.option("--challenge", "name", help="The challenge's id; without it nobody's trust changes.")
@click.option("--correlation-id", help="Name of this appraisal in logs, events and results.")
@click.option(
    "--result", "out", type=click.Path(path_type=Path, dir_okay=False), help="File for the EAR."
)
@json_option
@talks_to_verifier
def submit(
    *,
    client: VerifierClient,
    evidence: tuple[Path, ...],
    name: str | None,
    correlation_id: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Hand the evidence of one host in, and show the verdict.

    \b
    Exit codes: 0 affirming; 10 warning; 11 contraindicated; 12 could not appraise;
    1 the verifier refused or could not be reached.
    """
    from casemate.attestation.input import read_files
    from casemate.cli.appraise import EXIT_CODES

    files = read_files(evidence)
    done = client.submit(
        [file.data for file in files],
        None if name is None else Challenge(name, b"", datetime.max.replace(tzinfo=UTC)),
        names=[Path(file.name).name for file in files],
        correlation_id=correlation_id,
    )
    if out is not None:
        out.write_text(f"{done.result}\n")
    _show(done, as_json=as_json)
    sys.exit(EXIT_CODES[done.state])


@click.group()
def host() -> None:
    """Ask which hosts are trusted now; say who speaks for them."""


@host.command("list")
@click.option("--state", type=click.Choice([state.value for state in TrustState]))
@click.option("--owner", help="Only hosts that this principal speaks for.")
@_most
@json_option
@talks_to_verifier
def list_hosts(
    *,
    client: VerifierClient,
    state: str | None,
    owner: str | None,
    most: int,
    as_json: bool,
) -> None:
    """List hosts with their trust now."""
    found = client.hosts(**_given(state=state, owner=owner))
    columns = ("host", "trust", "since", "until", "principal", "appraisal")
    _table(found, columns, most, as_json=as_json)


@host.command("show")
@click.argument("name")
@json_option
@talks_to_verifier
def show_host(*, client: VerifierClient, name: str, as_json: bool) -> None:
    """Show the trust of host NAME now.

    \b
    Exit codes: 0 affirming; 10 warning; 11 contraindicated; 13 expired or unknown; 1 other.
    """
    trust = client.trust(name)
    if as_json:
        print_json(trust)
    else:
        print_fields((field, "-" if value is None else value) for field, value in trust.items())
    sys.exit({"affirming": 0, "warning": 10, "contraindicated": 11}.get(trust["trust"], 13))


@host.command("own")
@click.argument("name")
@click.argument("principal")
@talks_to_verifier
def own(*, client: VerifierClient, name: str, principal: str) -> None:
    """Have PRINCIPAL speak for host NAME: enrol it, or move it."""
    client.set_owner(name, principal)


@host.command("forget")
@click.argument("name")
@talks_to_verifier
def forget_host(*, client: VerifierClient, name: str) -> None:
    """Forget host NAME and its trust; its verdicts stay."""
    client.forget_host(name)


@click.group()
def principal() -> None:
    """Say who may ask the service for what."""


@principal.command("add")
@click.argument("name")
@click.option(
    "--role",
    "roles",
    type=click.Choice([role.value for role in Role]),
    multiple=True,
    required=True,
    help="What it may do; may be repeated.",
)
@click.option(
    "--client-certificate",
    type=_FILE,
    help="Known by the key of this certificate (PEM or DER), instead of a token.",
)
@click.option("--expires", type=Time(), help="When it ends [never].")
@json_option
@talks_to_verifier
def add_principal(
    *,
    client: VerifierClient,
    name: str,
    roles: tuple[str, ...],
    client_certificate: Path | None,
    expires: datetime | None,
    as_json: bool,
) -> None:
    """Make principal NAME; its token is shown once. Making it again ends the token before."""
    more: dict[str, Any] = {} if expires is None else {"expires": expires.isoformat()}
    if client_certificate is not None:
        more |= {"token": False, "key": _key_digest(client_certificate)}
    made = client.make_principal(name, roles, **more)
    if as_json:
        print_json(made)
        return
    print_fields(
        (field, ", ".join(value) if field == "roles" else value)
        for field, value in made.items()
        if value is not None and field != "has_token"
    )


@principal.command("list")
@_most
@json_option
@talks_to_verifier
def list_principals(*, client: VerifierClient, most: int, as_json: bool) -> None:
    """List principals; tokens cannot be shown again."""
    columns = ("name", "roles", "has_token", "key", "created", "expires")
    _table(client.principals(), columns, most, as_json=as_json)


@principal.command("remove")
@click.argument("name")
@talks_to_verifier
def remove_principal(*, client: VerifierClient, name: str) -> None:
    """Forget principal NAME: its token and its key mean nothing from now on."""
    client.remove_principal(name)


@click.group()
def appraisal() -> None:
    """Look at verdicts."""


@appraisal.command("list")
@click.option("--host", "name", help="Only this host's.")
@click.option("--state", type=click.Choice([state.value for state in State]))
@click.option("--correlation-id")
@_most
@json_option
@talks_to_verifier
def list_appraisals(
    *,
    client: VerifierClient,
    name: str | None,
    state: str | None,
    correlation_id: str | None,
    most: int,
    as_json: bool,
) -> None:
    """List verdicts, the newest first."""
    found = client.appraisals(**_given(host=name, state=state, correlation_id=correlation_id))
    columns = ("id", "at", "state", "host", "effect", "correlation_id")
    _table(found, columns, most, as_json=as_json)


@appraisal.command("show")
@click.argument("name")
@json_option
@talks_to_verifier
def show_appraisal(*, client: VerifierClient, name: str, as_json: bool) -> None:
    """Show one verdict with its reasons."""
    _show(client.appraisal(name), as_json=as_json)


@appraisal.command("material")
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="A new folder for it.",
)
@talks_to_verifier
def material(*, client: VerifierClient, name: str, out: Path) -> None:
    """Fetch what a verdict was made of: evidence, collateral, anchors, references, policy.

    \b
    It can be appraised again anywhere, at the time and with the nonce of then:
      casemate collateral import OUT/collateral/* --collateral FOLDER
      casemate appraise OUT/evidence --collateral FOLDER -a OUT/anchors -r OUT/references \\
          -e OUT/endorsements -p OUT/policy/1 --at TIME --nonce NONCE
    """
    write_files(out, client.material(name))
    click.echo(f"written to {out}")


@click.command()
@_kind
@click.argument("name")
@click.argument("file", type=_FILE)
@click.option("--activate", "put_in_force", is_flag=True, help="Put it in force too.")
@json_option
@talks_to_verifier
def add(
    *,
    client: VerifierClient,
    kind: str,
    name: str,
    file: Path,
    put_in_force: bool,
    as_json: bool,
) -> None:
    """Import FILE as the next version of a reference, policy, anchor or endorsement NAME."""
    document = client.add_document(_KINDS[kind], name, file.read_bytes())
    if put_in_force:
        document = client.set_active(_KINDS[kind], name, document["version"])["document"]
    if as_json:
        print_json(document)
    else:
        print_fields(document.items())


@click.command("list")
@_kind
@click.option("--active", is_flag=True, help="Only those in force.")
@_most
@json_option
@talks_to_verifier
def list_(*, client: VerifierClient, kind: str, active: bool, most: int, as_json: bool) -> None:
    """List the versions of references, policies, anchors or endorsements."""
    found = client.documents(_KINDS[kind], **({"active": "true"} if active else {}))
    columns = ("name", "version", "active", "imported", "imported_by", "digest")
    _table(found, columns, most, as_json=as_json)


@click.command()
@_kind
@click.argument("name")
@click.argument("version", type=int)
@talks_to_verifier
def activate(*, client: VerifierClient, kind: str, name: str, version: int) -> None:
    """Put a version in force, in place of the name's other one (of a policy, of any other)."""
    changed = client.set_active(_KINDS[kind], name, version)
    click.echo(f"epoch {changed['epoch']}")


@click.command()
@_kind
@click.argument("name")
@click.argument("version", type=int)
@talks_to_verifier
def deactivate(*, client: VerifierClient, kind: str, name: str, version: int) -> None:
    """Put a version out of force."""
    changed = client.set_active(_KINDS[kind], name, version, active=False)
    click.echo(f"epoch {changed['epoch']}")


@click.command()
@json_option
@talks_to_verifier
def epochs(*, client: VerifierClient, as_json: bool) -> None:
    """Show what is in force, since when, and by whom."""
    answer = client.call("GET", "/v1/epochs")
    if as_json:
        print_json(answer)
        return
    print_fields(
        [
            ("epoch", answer["epoch"]),
            ("policy", answer["policy_digest"]),
            ("references", answer["references_digest"]),
        ]
    )
    columns = ("epoch", "at", "action", "kind", "name", "version", "principal")
    print_table(columns, [[str(row[column]) for column in columns] for row in answer["epochs"]])


def _key_digest(file: Path) -> str:
    """SHA-256 of the key in a certificate, as principals are known by."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    data = file.read_bytes()
    try:
        pem = data.startswith(b"-----")
        found = (
            x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        )
        spki = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError as error:
        raise InputError(f"{file}: no certificate can be read: {error}") from None
    return hashlib.sha256(spki).hexdigest()


def _given(**filters: str | None) -> dict[str, str]:
    return {name: value for name, value in filters.items() if value is not None}


def _table(
    rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...], most: int, *, as_json: bool
) -> None:
    """Print up to `most` rows, and say on a terminal's other channel where there are more."""
    taken = list(itertools.islice(rows, most + 1))
    if as_json:
        print_json(taken[:most])
    else:
        print_table(
            columns,
            [["-" if row[name] is None else str(row[name]) for name in columns]
             for row in taken[:most]],
        )  # fmt: skip
    if len(taken) > most:
        click.echo(f"there are more than {most}: --most", err=True)


def _show(found: Appraisal, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": found.id, "effect": found.effect, "verdict": found.document})
        return
    document = found.document
    print_fields(
        [
            ("verdict", found.state.value),
            ("host", found.host or "not proven"),
            ("appraisal", found.id),
            ("trust", found.effect_meaning),
            ("at", document["at"]),
            ("policy", f"{document['policy']['name']} {document['policy']['version']}"),
            ("correlation", found.correlation_id),
            *(("reason", reason) for reason in document["reasons"]),
            *(("to do", advice) for advice in document["advice"]),
        ]
    )

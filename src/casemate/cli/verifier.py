"""`casemate verifier`: run the attestation service, administer it, and talk to it."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from casemate.attestation.service.principals import Role
from casemate.audit.spool import Durability
from casemate.cli._attestation import Time, reports_attestation_errors
from casemate.cli._collateral import source_options, sources_of
from casemate.cli._module import json_option, print_fields, print_json, print_table
from casemate.cli._verifier import DURATION, SIZE, folder_option
from casemate.cli.verifier_client import commands
from casemate.cli.verifier_reprove import reprove

if TYPE_CHECKING:
    from casemate.attestation.service.published_keys import PublishedKey

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def verifier() -> None:
    """Run the attestation service; administer it; hand evidence in and ask for trust.

    docs/verifier-service.md goes through it by task.
    """


@verifier.command("serve")
@folder_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8460, show_default=True)
@click.option("--tls-certificate", type=_FILE, help="The server's certificate and chain (PEM).")
@click.option("--tls-key", type=_FILE, help="Its key (PEM).")
@click.option("--client-ca", type=_FILE, help="CAs whose client certificates are taken (PEM).")
@click.option(
    "--require-client-certificate",
    is_flag=True,
    help="Refuse connections without one; without this, bearer tokens do too.",
)
@click.option(
    "--certificate-role",
    type=click.Choice([role.value for role in (Role.ATTESTER, Role.RELYING_PARTY)]),
    help="Role of client certificates that nobody registered [none: they are refused].",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=lambda: os.cpu_count() or 1,
    help="Processes that appraise [one for each CPU].",
)
@click.option(
    "--maximum-age",
    type=DURATION,
    default="24h",
    show_default=True,
    help="How long a good appraisal gives trust.",
)
@click.option(
    "--challenge-lifetime",
    type=DURATION,
    default="5m",
    show_default=True,
    help="How long a nonce can be answered.",
)
@click.option(
    "--result-lifetime",
    type=DURATION,
    default="10m",
    show_default=True,
    help="How long a signed result holds.",
)
@click.option("--retention", type=DURATION, help="Delete verdicts that are older [never].")
@click.option(
    "--keep-evidence",
    type=DURATION,
    default="90d",
    show_default=True,
    help="How long evidence is kept, so that verdicts can be made again.",
)
@click.option("--discard-evidence", is_flag=True, help="Keep none; verdicts have its digests.")
@click.option(
    "--evidence-limit",
    type=SIZE,
    default="10G",
    show_default=True,
    help="Most bytes of evidence; what changed nobody's trust goes first, then the oldest.",
)
@click.option("--issuer", help="Who signs, in the results (iss), such as the service's URL.")
@click.option(
    "--signing-key",
    metavar="FILE|URI",
    help="P-384 key of the results: a PEM file of mode 0600, or in a module's partition, such as "
    "'pkcs11:token=verifier;object=results?pin-source=file:/run/pin' [a PEM file is made in the "
    "folder].",
)
@click.option(
    "--enrol",
    type=click.Choice(["first-use", "administrator"]),
    default="first-use",
    show_default=True,
    help="Who says which principal speaks for a host: its first good evidence, or "
    "`casemate verifier host own`.",
)
@click.option(
    "--require-signed-references", is_flag=True, help="Refuse references without a known signer."
)
@click.option(
    "--collateral",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CASEMATE_COLLATERAL",
    help="A folder of `casemate collateral` for vendors' certificates, CRLs and TCB levels "
    "[CASEMATE_COLLATERAL; none: only what documents and evidence bring].",
)
@click.option(
    "--fetch-collateral",
    is_flag=True,
    help="Fetch into it what evidence needs and it lacks, over HTTPS [the network is not used].",
)
@source_options
@click.option(
    "--patience",
    type=DURATION,
    default="30s",
    show_default=True,
    help="How long an appraisal waits for a source that limits questions.",
)
@click.option(
    "--stale-for", type=DURATION, help="Take collateral that has ended for so long [not at all]."
)
@click.option(
    "--require-revocation",
    is_flag=True,
    help="Every issuer of a vendor's certificate must have a CRL or OCSP response.",
)
@click.option(
    "--durability",
    type=click.Choice([each.value for each in Durability]),
    default=Durability.SYNC.value,
    show_default=True,
    help="Whether events are on disk before an answer, or with the kernel. Verdicts always are.",
)
@click.option(
    "--event-files",
    type=click.IntRange(1),
    help="Keep so many full event files of 64 MiB [all].",
)
@click.option(
    "--body-limit",
    type=click.IntRange(1024, 1 << 30),
    default=8 << 20,
    show_default=True,
    help="Most bytes of a request.",
)
@click.option("--open-metrics", is_flag=True, help="Give metrics to callers without a token.")
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    default="INFO",
    show_default=True,
)
@reports_attestation_errors
def serve(
    *,
    folder: Path,
    host: str,
    port: int,
    tls_certificate: Path | None,
    tls_key: Path | None,
    client_ca: Path | None,
    require_client_certificate: bool,
    certificate_role: str | None,
    workers: int,
    maximum_age: timedelta,
    challenge_lifetime: timedelta,
    result_lifetime: timedelta,
    retention: timedelta | None,
    keep_evidence: timedelta,
    discard_evidence: bool,
    evidence_limit: int,
    issuer: str | None,
    signing_key: str | None,
    enrol: str,
    require_signed_references: bool,
    collateral: Path | None,
    fetch_collateral: bool,
    amd_url: str | None,
    intel_url: str | None,
    plain_host: tuple[str, ...],
    patience: timedelta,
    stale_for: timedelta | None,
    require_revocation: bool,
    durability: str,
    event_files: int | None,
    body_limit: int,
    open_metrics: bool,
    log_level: str,
) -> None:
    """Run the service in the foreground; Ctrl-C or SIGTERM ends it.

    Every option can come from the environment: --maximum-age from CASEMATE_VERIFIER_MAXIMUM_AGE.
    Without TLS it listens on this host alone.

    \b
    Exit codes: 0 ended when told to; 1 could not start.
    """
    from casemate.attestation.service import server
    from casemate.attestation.service.configuration import CollateralSettings, Configuration, Tls
    from casemate.attestation.service.http.envelope import Limits
    from casemate.audit.spool import SpoolLimits
    from casemate.hsm.notify import notify

    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key go together")
    if tls_certificate is None and (client_ca is not None or require_client_certificate):
        raise click.UsageError("client certificates need --tls-certificate and --tls-key")
    if collateral is None and (fetch_collateral or amd_url or intel_url or plain_host):
        raise click.UsageError("what is fetched is kept: give --collateral")
    if not fetch_collateral and (amd_url or intel_url or plain_host):
        raise click.UsageError("sources are asked with --fetch-collateral alone")
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signer = None
    if signing_key is not None and signing_key.startswith("pkcs11:"):
        from casemate.release.result_signer import KeyName, ModuleSigner

        signer = ModuleSigner(KeyName.parse(signing_key))
    configuration = Configuration(
        folder=folder,
        host=host,
        port=port,
        tls=None
        if tls_certificate is None or tls_key is None
        else Tls(
            certificate=tls_certificate,
            key=tls_key,
            client_ca=client_ca,
            required=require_client_certificate,
        ),
        certificate_role=None if certificate_role is None else Role(certificate_role),
        workers=workers,
        maximum_age=maximum_age,
        challenge_lifetime=challenge_lifetime,
        result_lifetime=result_lifetime,
        enrol_on_first_use=enrol == "first-use",
        require_signed_references=require_signed_references,
        collateral=None
        if collateral is None
        else CollateralSettings(
            folder=collateral,
            fetch=fetch_collateral,
            sources=sources_of(amd_url, intel_url),
            plain_hosts=frozenset(plain_host),
            patience=patience,
        ),
        stale_for=stale_for,
        require_revocation=require_revocation,
        retention=retention,
        evidence_age=None if discard_evidence else keep_evidence,
        evidence_limit=evidence_limit,
        issuer=issuer,
        signing_key=None if signing_key is None or signer is not None else Path(signing_key),
        durability=Durability(durability),
        spool_limits=SpoolLimits(files=event_files),
        limits=Limits(body_bytes=body_limit),
        open_metrics=open_metrics,
    )

    def started(url: str) -> None:
        click.echo(f"verifier at {url}; documentation at {url}/docs")
        sys.stdout.flush()

    server.run(configuration, started=started, notify=notify, signer=signer)


@verifier.command("token")
@click.argument("name")
@click.option(
    "--role",
    "roles",
    type=click.Choice([role.value for role in Role]),
    multiple=True,
    required=True,
    help="What the holder may do; may be repeated.",
)
@click.option("--expires", type=Time(), help="When it ends [never].")
@folder_option
@json_option
@reports_attestation_errors
def make_token(
    *, name: str, roles: tuple[str, ...], expires: datetime | None, folder: Path, as_json: bool
) -> None:
    """Make a principal NAME with a bearer token, in the service's folder.

    For the first administrator, before the service runs or while it does; the others can be made
    through the service. A token is shown once: what is kept is its digest. Making it again ends the
    token before.
    """
    from casemate.attestation.service import administration, opening
    from casemate.attestation.service.database import connection, principals

    record, text = administration.new_principal(
        name,
        frozenset(map(Role, roles)),
        randomness=os.urandom(32),
        key=None,
        created=opening.now(),
        expires=expires,
    )
    path = folder / "verifier.db"
    connection.create(path)

    def put(database: sqlite3.Connection) -> None:
        with database:
            principals.put(database, record)

    with connection.store_errors(path):
        database = connection.open_writer(path)
        try:
            put(database)
        finally:
            database.close()
    shown = {"name": name, "roles": sorted(roles), "token": text}
    if as_json:
        print_json(shown)
    else:
        print_fields([("principal", name), ("roles", ", ".join(sorted(roles))), ("token", text)])


@verifier.group("key")
def key() -> None:
    """The keys that results are signed with, as relying parties see them."""


@key.command("list")
@folder_option
@json_option
@reports_attestation_errors
def list_keys(*, folder: Path, as_json: bool) -> None:
    """List the keys of /.well-known/jwks.json, those before the present one, and the withdrawn."""
    from casemate.attestation.service.configuration import published_keys
    from casemate.attestation.service.published_keys import PublishedKeys

    rows = [
        {
            "key": found.id,
            "since": found.since.isoformat(),
            "until": None if found.until is None else found.until.isoformat(),
            "state": _state(found),
        }
        for found in PublishedKeys(published_keys(folder)).all()
    ]
    if as_json:
        print_json(rows)
    else:
        columns = ("key", "since", "until", "state")
        print_table(columns, [[str(row[name] or "-") for name in columns] for row in rows])


@key.command("withdraw")
@click.argument("key_id", metavar="KEY")
@folder_option
@json_option
@reports_attestation_errors
def withdraw_key(*, key_id: str, folder: Path, as_json: bool) -> None:
    """Publish KEY no longer: results that it signed count no more with who reads the key set.

    The key that signs now is replaced first: `casemate verifier serve --signing-key`.
    """
    from casemate.attestation.service.configuration import published_keys
    from casemate.attestation.service.published_keys import PublishedKeys

    gone = PublishedKeys(published_keys(folder)).withdraw(key_id)
    if as_json:
        print_json({"key": gone.id, "state": _state(gone)})
    else:
        click.echo(f"{gone.id} is withdrawn")


def _state(found: PublishedKey) -> str:
    if found.withdrawn:
        return "withdrawn"
    return "signs" if found.until is None else "published"


verifier.add_command(reprove)
for _command in commands():
    verifier.add_command(_command)


def _environment(command: click.Command) -> None:
    """Let every option of `serve` come from the environment."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.envvar is None:
            parameter.envvar = f"CASEMATE_VERIFIER_{str(parameter.name).upper()}"


_environment(serve)

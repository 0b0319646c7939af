"""`casemate collateral`: what vendors publish about platforms, kept at hand for appraisals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from casemate.cli._attestation import Time, reports_attestation_errors
from casemate.cli._collateral import folder_option, progress, source_options, sources_of, store_of
from casemate.cli._module import fail, json_option, print_columns, print_json

if TYPE_CHECKING:
    from casemate.attestation.collateral.cache import CollateralCache
    from casemate.attestation.collateral.store import Item
    from casemate.attestation.collateral.wanted import Wanted

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_KINDS = ("vcek", "amd-chain", "amd-crl", "tdx", "certificate", "crl", "ocsp")
_PRODUCTS = ("Milan", "Genoa", "Turin")


@click.group()
def collateral() -> None:
    """Keep what vendors publish about platforms: certificates, CRLs, TCB info.

    \b
    Appraisals take it with --collateral or CASEMATE_COLLATERAL:
      casemate collateral fetch report.bin
      casemate appraise report.bin --collateral ~/.local/share/casemate/collateral
    Without a network:
      casemate collateral export bundle.tar     (where there is one)
      casemate collateral import bundle.tar     (where there is none)
    """


@collateral.command("list")
@click.option("--at", type=Time(), help="Say what is valid at this time (RFC 3339) [now].")
@folder_option
@json_option
@reports_attestation_errors
def list_items(*, at: datetime | None, folder: Path | None, as_json: bool) -> None:
    """List what is stored, until when it is valid, and what is broken."""
    time = at or datetime.now(UTC)
    items, broken = store_of(folder).scan()
    if as_json:
        described = [{**item.describe(), "valid": item.is_valid(time)} for item in items]
        print_json({"items": described, "broken": broken})
        return
    rows = [_row(item, time) for item in items]
    if rows:
        print_columns(("kind", "key", "valid until", "fetched", "sha-256"), rows, right=set())
    else:
        click.echo("there is no collateral; fetch or import some")
    for sentence in broken:
        click.echo(f"broken: {sentence}", err=True)


def _row(item: Item, at: datetime) -> tuple[str | Text, ...]:
    if item.valid_until is None:
        end = Text("not said")
    elif item.is_valid(at):
        end = Text(f"{item.valid_until:%Y-%m-%d}")
    else:
        end = Text(f"ended {item.valid_until:%Y-%m-%d}", style="bold red")
    key = item.key if len(item.key) <= 48 else f"{item.key[:30]}...{item.key[-15:]}"
    return (item.kind.value, key, end, f"{item.fetched_at:%Y-%m-%d %H:%M}", item.digest.hex()[:16])


@collateral.command()
@click.argument("evidence", nargs=-1, type=_FILE)
@click.option(
    "--amd",
    multiple=True,
    type=click.Choice(_PRODUCTS),
    help="AMD's chain and CRL of a product line too.",
)
@source_options
@click.option(
    "--patience",
    type=click.IntRange(0, 86_400),
    default=120,
    show_default=True,
    help="Seconds to wait for a source that limits questions.",
)
@folder_option
@json_option
@reports_attestation_errors
def fetch(
    *,
    evidence: tuple[Path, ...],
    amd: tuple[str, ...],
    amd_url: str | None,
    intel_url: str | None,
    plain_host: tuple[str, ...],
    patience: int,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Fetch what EVIDENCE needs, and what is named.

    What is stored and fresh is not asked for again. Sources' limits are kept: AMD's key service
    answers one question in ten seconds. Exits with 1 if something could not be had.
    """
    from casemate.attestation import input as given
    from casemate.attestation.collateral import wanted as wanting
    from casemate.attestation.collateral.cache import CollateralCache, Terms
    from casemate.attestation.collateral.fetching import HttpFetcher
    from casemate.attestation.evidence.family import Piece
    from casemate.formats.sev_snp import Product

    files = given.read_files(evidence)
    pieces = [Piece(file.data, file.name) for file in files]
    needed = dict.fromkeys(wanting.for_evidence(pieces))
    for name in amd:
        product = Product(name)
        needed |= dict.fromkeys((wanting.AmdChain(product), wanting.AmdCrl(product)))
    if not needed:
        raise click.UsageError("nothing to fetch: give SEV-SNP, TDX or Azure evidence, or --amd")
    cache = CollateralCache(
        store_of(folder),
        HttpFetcher(plain_hosts=frozenset(plain_host)),
        sources=sources_of(amd_url, intel_url),
        terms=Terms(patience=timedelta(seconds=patience)),
    )
    _report_fetched(cache, tuple(needed), as_json=as_json)


def _report_fetched(cache: CollateralCache, needed: tuple[Wanted, ...], *, as_json: bool) -> None:
    from casemate.attestation.errors import InfrastructureError

    had: list[Item] = []
    missing: list[dict[str, str]] = []
    with progress("fetching") as show:
        for done, wanted in enumerate(needed, 1):
            try:
                had.append(cache.get(wanted))
            except InfrastructureError as error:
                name = {"kind": wanted.kind.value, "key": wanted.key}
                missing.append({**name, "what": str(error), "advice": error.advice})
            show(done, len(needed))
    if as_json:
        print_json({"items": [item.describe() for item in had], "missing": missing})
    else:
        now = datetime.now(UTC)
        if had:
            columns = ("kind", "key", "valid until", "fetched", "sha-256")
            print_columns(columns, [_row(item, now) for item in had], right=set())
        for entry in missing:
            click.echo(f"missing: {entry['what']}", err=True)
    if missing:
        sys.exit(1)


@collateral.command("export")
@click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(_KINDS), help="Only these kinds [all]."
)
@click.option("--valid-at", type=Time(), help="Only what has not ended at this time (RFC 3339).")
@folder_option
@json_option
@reports_attestation_errors
def export_bundle(
    *,
    bundle: Path,
    kinds: tuple[str, ...],
    valid_at: datetime | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Write the store into one file, BUNDLE, for a verifier without a network."""
    from casemate.attestation.collateral.bundle import write_bundle

    items, broken = store_of(folder).scan()
    chosen = [
        item
        for item in items
        if (not kinds or item.kind.value in kinds) and (valid_at is None or item.is_valid(valid_at))
    ]
    if not chosen:
        fail({"what": "there is nothing to export", "advice": "fetch something"}, as_json=as_json)
    with progress("writing") as show:
        count = write_bundle(chosen, bundle, progress=show)
    if as_json:
        print_json({"bundle": str(bundle), "items": count, "broken": broken})
    else:
        click.echo(f"{count} items written to {bundle}")
        for sentence in broken:
            click.echo(f"left out, broken: {sentence}", err=True)


@collateral.command("import")
@click.argument("files", nargs=-1, required=True, type=_FILE)
@folder_option
@json_option
@reports_attestation_errors
def import_files(*, files: tuple[Path, ...], folder: Path | None, as_json: bool) -> None:
    """Take FILES into the store: bundles, certificates, CRLs, OCSP responses, TDX collateral.

    Digests are checked; a bundle with any fault is refused whole. What is newer in the store stays.
    Nothing becomes trusted by this: appraisals verify every item against an anchor.
    """
    from casemate.attestation.collateral.bundle import import_items

    store = store_of(folder)
    with progress("reading") as show:
        items = [item for file in files for item in _read_items(file, show)]
    result = import_items(items, store)
    if as_json:
        entered = [item.describe() for item in result.entered]
        print_json({"imported": entered, "kept": result.kept})
    else:
        click.echo(f"{len(result.entered)} items imported; {result.kept} were no newer")


def _read_items(file: Path, show: Callable[[int, int], None]) -> tuple[Item, ...]:
    from casemate.attestation import input as given
    from casemate.attestation.collateral.bundle import is_bundle, read_bundle
    from casemate.attestation.collateral.files import items_of

    with file.open("rb") as opened:
        head = opened.read(512)
    if is_bundle(head):
        return read_bundle(file, progress=show)
    return items_of([given.read_file(file)], at=datetime.now(UTC))

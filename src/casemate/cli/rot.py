"""`casemate rot`: the root of trust, as a device of its own or as a model of public test values.

Each command boots the device anew in this process and shows what came of it: a boot takes some
10 ms and is repeatable to the byte.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from casemate.cli import rot_dpe, rot_evidence, rot_invoke, rot_launch, rot_serve
from casemate.cli._module import print_fields, print_json, print_table
from casemate.cli._parameters import Hexadecimal
from casemate.cli._rot import (
    DIGEST,
    NONCE,
    Choice,
    algorithm_option,
    boot_options,
    json_option,
    reports_rot_errors,
)
from casemate.formats import pcr_log, pcr_quote
from casemate.rot import certificate_files
from casemate.rot.device_folder import DeviceFolder, Order
from casemate.rot.device_folder import manufacture as make_device
from casemate.rot.device_status import device_status
from casemate.rot.errors import RotError
from casemate.rot.fuse_file import FuseFile, read_fuses
from casemate.rot.fuses import (
    Fuses,
    Lifecycle,
    PqcKeyType,
    program_field_entropy,
    raise_svn,
    to_fields,
)
from casemate.rot.fuses import (
    burn as burn_fuses,
)
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.manufacturer import ManufacturerCa
from casemate.rot.quote import verify_quote

_PCR_NAMES = {0: "FMC current", 1: "FMC journey", 2: "RT current", 3: "RT journey", 31: "stash"}


@click.group()
def rot() -> None:
    """A host's root of trust in Caliptra 2.x formats: manufacture, boot, certify, quote.

    Without --device a command works on the public test device, whose fuses anyone knows: the one
    that Caliptra's own tests use.
    """


@rot.command()
@click.argument("device", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--ca",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the manufacturer's keys; made if it is empty [DEVICE/../manufacturer].",
)
@click.option("--vendor-pk-hash", type=DIGEST, help="Hash of the firmware vendor's key info.")
@click.option("--owner-pk-hash", type=DIGEST, help="Hash of the owner's public keys.")
@click.option("--serial", type=Hexadecimal(16), help="Serial number in the UEID [random].")
@click.option(
    "--pqc",
    type=click.Choice(["mldsa", "lms"]),
    default="mldsa",
    show_default=True,
    help="Post-quantum algorithm of its firmware bundles.",
)
@click.option(
    "--lifecycle",
    type=click.Choice(["manufacturing", "production"]),
    default="production",
    show_default=True,
    help="Lifecycle it leaves the factory in.",
)
@json_option
@reports_rot_errors
def manufacture(
    *,
    device: Path,
    ca: Path | None,
    vendor_pk_hash: bytes | None,
    owner_pk_hash: bytes | None,
    serial: bytes | None,
    pqc: str,
    lifecycle: str,
    as_json: bool,
) -> None:
    """Make a new device in the folder DEVICE and certify it, as its manufacturer would.

    Its secrets are made in silicon and kept in DEVICE/anchor (mode 0600): an anchor for
    development. Its fuses stand in DEVICE/fuses.json.
    """
    folder = ca or device.resolve().parent / "manufacturer"
    if ManufacturerCa.is_in(folder):
        authority, made = ManufacturerCa.load(folder), False
    else:
        authority, made = ManufacturerCa.generate(), True
        authority.save(folder)
    order = Order(
        vendor_pk_hash=vendor_pk_hash or bytes(48),
        owner_pk_hash=owner_pk_hash or bytes(48),
        serial=serial,
        pqc_key_type=PqcKeyType[pqc.upper()],
        lifecycle=Lifecycle[lifecycle.upper()],
    )
    built = make_device(device, authority, order)
    fuses = built.fuse_file.read()
    report = {
        "device": str(device),
        "ueid": fuses.ueid.hex(),
        "lifecycle": fuses.lifecycle.name.lower(),
        "anchor": built.anchor.name,
        "manufacturer": str(folder),
        "manufacturer_made": made,
    }
    if as_json:
        print_json(report)
        return
    print_fields(
        (
            ("device", device),
            ("UEID", fuses.ueid.hex()),
            ("lifecycle", fuses.lifecycle.name.lower()),
            ("anchor", f"{built.anchor.name}: {built.anchor.path}"),
            ("manufacturer", f"{folder}{' (made now)' if made else ''}"),
            ("certificates", built.path / "certificates"),
        )
    )


@rot.command()
@click.argument("name", metavar="FUSES")
@json_option
@reports_rot_errors
def fuses(*, name: str, as_json: bool) -> None:
    """Show a fuse file, a device's folder, or `default` (the public test values)."""
    path = Path(name)
    found = DeviceFolder(path).fuse_file.read() if path.is_dir() else read_fuses(name)
    fields = to_fields(found)
    fields["firmware_svn"] = found.firmware_svn
    fields["soc_manifest_svn"] = found.soc_manifest_svn
    fields["ueid"] = found.ueid.hex()
    if as_json:
        print_json(fields)
        return
    print_fields((key.replace("_", " "), value) for key, value in fields.items())


@rot.command()
@click.argument("device", type=click.Path(path_type=Path, exists=True))
@click.option("--firmware-svn", type=click.IntRange(0, 128), help="Smallest SVN that may boot.")
@click.option("--soc-manifest-svn", type=click.IntRange(0, 128), help="Smallest manifest SVN.")
@click.option("--revoke-ecc", type=click.IntRange(0, 3), help="Revoke a vendor ECC key.")
@click.option("--revoke-lms", type=click.IntRange(0, 31), help="Revoke a vendor LMS key.")
@click.option("--revoke-mldsa", type=click.IntRange(0, 3), help="Revoke a vendor ML-DSA key.")
@click.option("--vendor-pk-hash", type=DIGEST, help="Hash of the firmware vendor's key info.")
@click.option("--owner-pk-hash", type=DIGEST, help="Hash of the owner's public keys.")
@click.option("--field-entropy", type=Hexadecimal(32), help="Obfuscated field entropy.")
@click.option("--lifecycle", type=click.Choice(["manufacturing", "production"]), help="Move on to.")
@click.option("--disable-anti-rollback", is_flag=True, help="For good.")
@json_option
@reports_rot_errors
def burn(
    *,
    device: Path,
    firmware_svn: int | None,
    soc_manifest_svn: int | None,
    revoke_ecc: int | None,
    revoke_lms: int | None,
    revoke_mldsa: int | None,
    vendor_pk_hash: bytes | None,
    owner_pk_hash: bytes | None,
    field_entropy: bytes | None,
    lifecycle: str | None,
    disable_anti_rollback: bool,
    as_json: bool,
) -> None:
    """Program fuses of DEVICE (a folder or a fuse file). Fuses only rise: there is no way back."""

    def change(now: Fuses) -> Fuses:
        changes: dict[str, object] = {}
        for key, index in (
            ("ecc_revocation", revoke_ecc),
            ("lms_revocation", revoke_lms),
            ("mldsa_revocation", revoke_mldsa),
        ):
            if index is not None:
                changes[key] = getattr(now, key) | 1 << index
        if vendor_pk_hash is not None:
            changes["vendor_pk_hash"] = vendor_pk_hash
        if owner_pk_hash is not None:
            changes["owner_pk_hash"] = owner_pk_hash
        if lifecycle is not None:
            changes["lifecycle"] = Lifecycle[lifecycle.upper()]
        if disable_anti_rollback:
            changes["anti_rollback_disable"] = True
        burnt = raise_svn(
            burn_fuses(now, **changes), firmware=firmware_svn, soc_manifest=soc_manifest_svn
        )
        return burnt if field_entropy is None else program_field_entropy(burnt, field_entropy)

    file = DeviceFolder(device).fuse_file if device.is_dir() else FuseFile(device)
    before = to_fields(file.read())
    after = to_fields(file.program(change))
    changed = {key: [before[key], after[key]] for key in after if before[key] != after[key]}
    if as_json:
        print_json(changed)
    elif changed:
        print_table(
            ("fuse", "before", "now"), ((key, *map(str, two)) for key, two in changed.items())
        )
    else:
        click.echo("nothing changed")


@rot.command()
@boot_options
@json_option
@reports_rot_errors
def boot(*, choice: Choice, as_json: bool) -> None:
    """Cold boot a device and show the flow: ROM, FMC, runtime, and what was measured."""
    started = time.perf_counter()
    root = choice.boot()
    took = (time.perf_counter() - started) * 1000
    firmware = root.firmware
    if as_json:
        print_json(
            {
                "state": root.state.value,
                "rom": root.rom.value,
                "anchor": choice.anchor.name,
                "milliseconds": round(took, 1),
                "svn": firmware.svn,
                "fmc_digest": firmware.fmc_digest.hex(),
                "rt_digest": firmware.rt_digest.hex(),
                "owner_pk_hash": firmware.owner_pk_hash.hex(),
                "journal": [
                    {
                        "reset": event.reason.value,
                        "code": None if event.status is None else int(event.status),
                        "status": None if event.status is None else event.status.name.lower(),
                        "error": event.error,
                    }
                    for event in root.journal
                ],
            }
        )
        return
    print_table(
        ("reset", "code", "reached"),
        (
            (
                event.reason.value,
                "" if event.status is None else str(int(event.status)),
                event.error or ("" if event.status is None else _words(event.status.name)),
            )
            for event in root.journal
        ),
    )
    print_fields(
        (
            ("state", f"{root.state.value} after {took:.1f} ms"),
            ("anchor", choice.anchor.name),
            ("firmware SVN", firmware.svn),
            ("FMC", firmware.fmc_digest.hex()),
            ("RT", firmware.rt_digest.hex()),
        )
    )


@rot.command()
@boot_options
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write the files to."
)
@json_option
@reports_rot_errors
def certs(*, choice: Choice, out: Path | None, as_json: bool) -> None:
    """Show, or write as DER, each layer's request and certificate in both algorithms.

    The files are named as Caliptra's golden files are. Without firmware the FMC and RT layers are
    those of all-zero digests. The chains are checked before anything is written.
    """
    files = certificate_files.all_files(
        choice.boot(make_requests=True), choice.read_fuses(), choice.folder
    )
    if out is not None:
        certificate_files.write(files, out)
    rows = [certificate_files.describe(name, data) for name, data in files.items()]
    if as_json:
        print_json(
            {
                "firmware": choice.states_firmware,
                "out": None if out is None else str(out),
                "files": [dataclasses.asdict(row) for row in rows],
            }
        )
        return
    print_table(
        ("file", "bytes", "subject", "issuer", "key identifier"),
        (
            (row.file, str(row.size), row.subject, row.issuer or "-", row.key_id or "-")
            for row in rows
        ),
    )
    if not choice.states_firmware:
        _remark("no firmware was named: FMC and RT are those of all-zero digests")
    if out is not None:
        _remark(f"written to {out}")


@rot.command()
@boot_options
@json_option
@reports_rot_errors
def pcrs(*, choice: Choice, as_json: bool) -> None:
    """Show the PCRs after a cold boot."""
    values = choice.boot().pcrs.values
    if as_json:
        print_json({str(index): value.hex() for index, value in enumerate(values)})
        return
    rows = [
        (str(index), _PCR_NAMES.get(index, ""), value.hex())
        for index, value in enumerate(values)
        if index in _PCR_NAMES or any(value)
    ]
    print_table(("PCR", "what", "value"), rows)
    if len(rows) < len(values):
        _remark("all others are zeros")


@rot.command()
@boot_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the log's entries, as evidence beside a quote.",
)
@json_option
@reports_rot_errors
def log(*, choice: Choice, out: Path | None, as_json: bool) -> None:
    """Show the PCR log after a cold boot, and whether it replays to the PCRs."""
    root = choice.boot()
    if out is not None:
        _write(out, pcr_log.encode(root.pcrs.log))
    size = len(device_status(root.fuses, root.measured.cold_boot, root.rom))
    replayed = pcr_log.replay(root.pcrs.log, size)
    agrees = all(root.pcrs.values[index] == value for index, value in replayed.items())
    if as_json:
        print_json(
            {
                "device_status_size": size,
                "replays": agrees,
                "entries": [
                    {
                        "id": int(entry.id),
                        "name": entry.id.name.lower(),
                        "pcrs": list(entry.pcrs),
                        "data": entry.measured(size).hex(),
                    }
                    for entry in root.pcrs.log
                ],
            }
        )
        return
    print_table(
        ("entry", "PCRs", "measured"),
        (
            (_words(entry.id.name), ", ".join(map(str, entry.pcrs)), entry.measured(size).hex())
            for entry in root.pcrs.log
        ),
    )
    _remark("the log replays to the PCRs" if agrees else "the log does NOT replay to the PCRs")


@rot.command()
@boot_options
@click.option("--nonce", type=NONCE, required=True, help="The verifier's nonce (32 bytes, hex).")
@algorithm_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the quote as the mailbox returns it.",
)
@json_option
@reports_rot_errors
def quote(*, choice: Choice, nonce: bytes, algorithm: str, out: Path | None, as_json: bool) -> None:
    """Quote all PCRs for a nonce under the FMC alias key, and check the quote."""
    root = choice.boot()
    chosen = Algorithm(algorithm)
    made = root.quote(nonce, chosen)
    signer = root.subjects[LayerName.FMC_ALIAS][chosen]
    verify_quote(made, signer.public_key, nonce)
    if out is not None:
        _write(out, pcr_quote.encode(made))
    if as_json:
        print_json(
            {
                "algorithm": algorithm,
                "nonce": nonce.hex(),
                "digest": made.digest.hex(),
                "signature": made.signature.hex(),
                "pcrs": [value.hex() for value in made.pcrs],
                "reset_counters": list(made.reset_counters),
                "fmc_alias_public_key": signer.public_key.hex(),
            }
        )
        return
    print_fields(
        (
            ("algorithm", algorithm),
            ("nonce", nonce.hex()),
            ("digest", made.digest.hex()),
            ("signature", f"{made.signature[:32].hex()}... ({len(made.signature)} bytes)"),
            ("signed by", f"FMC alias, key identifier {signer.key_id.hex()}"),
        )
    )
    if out is not None:
        _remark(f"written to {out}")


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise RotError(f"{path}: cannot be written: {error.strerror}") from None


rot.add_command(rot_dpe.dpe)
rot.add_command(rot_evidence.evidence)
rot.add_command(rot_evidence.binding)
rot.add_command(rot_invoke.invoke)
rot.add_command(rot_launch.launch)
rot.add_command(rot_launch.parts)
rot.add_command(rot_serve.serve)


def _words(name: str) -> str:
    return name.lower().replace("_", " ")


def _remark(text: str) -> None:
    Console(stderr=True, soft_wrap=True).print(Text(text, style="dim"))

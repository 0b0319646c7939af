"""`casemate bundle`: build, sign, verify and look into Caliptra firmware bundles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from casemate.cli._module import json_option, print_fields, print_json, print_table
from casemate.cli._signing import (
    ADDRESS,
    DIGEST,
    EXIT_REFUSED,
    FILE,
    REVISION,
    DeviceFuses,
    fuse_options,
    open_pair,
    out_option,
    read_file,
    reports_errors,
    signer_option,
    write_file,
)
from casemate.formats import elf_image
from casemate.formats import firmware_bundle as fb
from casemate.rot.bundle import build as building
from casemate.rot.bundle.inspect import Inspection, date_text
from casemate.rot.bundle.inspect import inspect as inspect_bundle
from casemate.rot.bundle.signers import Algorithm, load_public_key
from casemate.rot.bundle.verdict import Verdict, judge
from casemate.rot.bundle.verify import verify as verify_bundle
from casemate.rot.firmware import ResetReason
from casemate.rot.fuses import PqcKeyType

#: ELF files carry symbols: they may be far larger than what they load.
_LARGEST_ELF = 64 * 1024 * 1024


@click.group()
def bundle() -> None:
    """Caliptra 2.x firmware bundles: build, sign, verify, inspect.

    A key is a PEM file, an LMS key directory (made by `keygen`), or a PKCS#11 URI such as
    'pkcs11:token=T;object=K?module-path=/usr/lib/p11.so&pin-source=file:/run/pin'.
    """


@bundle.command()
@click.option("--fmc", type=FILE, required=True, help="The FMC: an ELF file or a raw binary.")
@click.option("--fmc-load", type=ADDRESS, help="Its load address; of a raw binary only.")
@click.option("--fmc-entry", type=ADDRESS, help="Its entry point [of the ELF; --fmc-load].")
@click.option("--fmc-version", type=ADDRESS, default=0, help="Its release number [0].")
@click.option("--fmc-revision", type=REVISION, help="Its commit, 40 hex digits [zeros].")
@click.option("--runtime", type=FILE, required=True, help="The runtime: ELF or raw binary.")
@click.option("--runtime-load", type=ADDRESS, help="Its load address; of a raw binary only.")
@click.option("--runtime-entry", type=ADDRESS, help="Its entry point [of the ELF; --runtime-load].")
@click.option("--runtime-version", type=ADDRESS, default=0, help="Its release number [0].")
@click.option("--runtime-revision", type=REVISION, help="Its commit, 40 hex digits [zeros].")
@click.option(
    "--vendor-ecc",
    "vendor_ecc",
    metavar="KEY",
    multiple=True,
    required=True,
    help="A vendor ECC public key; once for each of up to 4.",
)
@click.option(
    "--vendor-pqc",
    "vendor_pqc",
    metavar="KEY",
    multiple=True,
    required=True,
    help="A vendor LMS (up to 32) or ML-DSA-87 (up to 4) public key; once for each.",
)
@click.option("--ecc-index", type=int, default=0, show_default=True, help="The ECC key that signs.")
@click.option("--pqc-index", type=int, default=0, show_default=True, help="The PQC key that signs.")
@click.option("--svn", type=click.IntRange(0, 128), required=True, help="Security version number.")
@click.option("--not-before", help="Begin of the alias certificates, YYYYMMDDHHMMSSZ.")
@click.option("--not-after", help="End of the alias certificates, YYYYMMDDHHMMSSZ.")
@click.option("--pl0-pauser", type=ADDRESS, help="The bus user with PL0 privileges.")
@out_option
@json_option
@reports_errors
def build(
    *,
    vendor_ecc: tuple[str, ...],
    vendor_pqc: tuple[str, ...],
    ecc_index: int,
    pqc_index: int,
    svn: int,
    not_before: str | None,
    not_after: str | None,
    pl0_pauser: int | None,
    out: Path,
    as_json: bool,
    **parts: Any,
) -> None:
    """Lay out an unsigned bundle.

    List all keys that the device's vendor hash is made of, used or not, in their order. Prints the
    vendor hash to be fused. Sign next: `casemate bundle sign`.
    """
    ecc = [load_public_key(reference) for reference in vendor_ecc]
    pqc = [load_public_key(reference) for reference in vendor_pqc]
    if any(algorithm is not Algorithm.ECDSA_P384 for algorithm, _ in ecc):
        raise click.UsageError("--vendor-ecc takes P-384 keys")
    kinds = {algorithm for algorithm, _ in pqc}
    if kinds not in ({Algorithm.LMS}, {Algorithm.MLDSA87}):
        raise click.UsageError("--vendor-pqc takes LMS keys or ML-DSA-87 keys, one kind of them")
    vendor = building.VendorKeys(
        ecc=tuple(key for _, key in ecc),
        pqc=tuple(key for _, key in pqc),
        pqc_key_type=PqcKeyType.LMS if kinds == {Algorithm.LMS} else PqcKeyType.MLDSA,
        ecc_index=ecc_index,
        pqc_index=pqc_index,
    )
    made = building.build(
        _executable("fmc", parts),
        _executable("runtime", parts),
        vendor,
        svn=svn,
        validity=building.dates(not_before, not_after),
        pl0_pauser=pl0_pauser,
    )
    write_file(out, made)
    _report(out, made, as_json=as_json)


def _executable(name: str, parts: dict[str, Any]) -> building.Executable:
    content = read_file(parts[name], most=_LARGEST_ELF)
    load, entry = parts[f"{name}_load"], parts[f"{name}_entry"]
    if elf_image.is_elf(content):
        if load is not None:
            raise click.UsageError(f"--{name}-load is for raw binaries; the ELF file has its own")
        image = elf_image.decode(content)
        content, load = image.content, image.load_addr
        entry = image.entry_point if entry is None else entry
    elif load is None:
        raise click.UsageError(f"--{name}-load is missing; only an ELF file has its own")
    return building.Executable(
        content=content,
        load_addr=load,
        entry_point=load if entry is None else entry,
        version=parts[f"{name}_version"],
        revision=parts[f"{name}_revision"] or bytes(20),
    )


def _report(out: Path, made: bytes, *, as_json: bool) -> None:
    found = inspect_bundle(made)
    if as_json:
        print_json({"file": str(out), **found.to_json()})
        return
    print_fields(
        [
            ("written", f"{out}, {len(made)} bytes"),
            ("vendor hash", found.vendor_hash.hex()),
            ("owner hash", found.owner_hash.hex() if found.owner_signed else "no owner yet"),
            ("signed by", _signed_by(found)),
        ]
    )


def _signed_by(found: Inspection) -> str:
    signed = []
    for party, did in (("vendor", found.vendor_signed), ("owner", found.owner_signed)):
        leaf = found.lms_leaf(party)
        if did:
            signed.append(party if leaf is None else f"{party} (LMS leaf {leaf})")
    return " and ".join(signed) or "nobody yet"


@bundle.command()
@click.argument("file", type=FILE)
@signer_option("--vendor-ecc-key", "the vendor's ECC key")
@signer_option("--vendor-pqc-key", "the vendor's LMS or ML-DSA-87 key")
@signer_option("--owner-ecc-key", "the owner's ECC key")
@signer_option("--owner-pqc-key", "the owner's LMS or ML-DSA-87 key")
@click.option("--owner-not-before", help="Begin of the alias certificates, YYYYMMDDHHMMSSZ.")
@click.option("--owner-not-after", help="End of the alias certificates, YYYYMMDDHHMMSSZ.")
@out_option
@json_option
@reports_errors
def sign(
    *,
    file: Path,
    vendor_ecc_key: str | None,
    vendor_pqc_key: str | None,
    owner_ecc_key: str | None,
    owner_pqc_key: str | None,
    owner_not_before: str | None,
    owner_not_after: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Sign FILE as vendor, as owner, or as both.

    Each LMS signature uses a leaf of its key up, also if writing the bundle then fails.
    """
    vendor = open_pair("vendor", vendor_ecc_key, vendor_pqc_key)
    owner = open_pair("owner", owner_ecc_key, owner_pqc_key)
    if vendor is None and owner is None:
        raise click.UsageError("as whom? give the vendor's two keys, the owner's two, or all four")
    made = read_file(file)
    if vendor is not None:
        made = building.sign_as_vendor(made, *vendor)
    if owner is not None:
        validity = building.dates(owner_not_before, owner_not_after)
        made = building.sign_as_owner(made, *owner, validity=validity)
    write_file(out, made)
    _report(out, made, as_json=as_json)


@bundle.command()
@click.argument("file", type=FILE)
@signer_option("--owner-ecc-key", "the new owner's ECC key")
@signer_option("--owner-pqc-key", "the new owner's LMS or ML-DSA-87 key")
@click.option("--owner-not-before", help="Begin of the alias certificates, YYYYMMDDHHMMSSZ.")
@click.option("--owner-not-after", help="End of the alias certificates, YYYYMMDDHHMMSSZ.")
@out_option
@json_option
@reports_errors
def resign(
    *,
    file: Path,
    owner_ecc_key: str | None,
    owner_pqc_key: str | None,
    owner_not_before: str | None,
    owner_not_after: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Make FILE, signed by its vendor, the bundle of another owner.

    The former owner's keys, dates and signatures go; the vendor's signatures stay good.
    """
    owner = open_pair("owner", owner_ecc_key, owner_pqc_key)
    if owner is None:
        raise click.UsageError("give the new owner's keys: --owner-ecc-key and --owner-pqc-key")
    original = read_file(file)
    if not inspect_bundle(original).vendor_signed:
        raise building.BundleBuildError(f"{file} is not signed by a vendor; sign it first")
    validity = building.dates(owner_not_before, owner_not_after)
    made = building.sign_as_owner(original, *owner, validity=validity)
    write_file(out, made)
    _report(out, made, as_json=as_json)


@bundle.command()
@click.argument("file", type=FILE)
@fuse_options
@click.option(
    "--dot-owner-hash",
    type=DIGEST,
    help="Owner hash installed by device ownership transfer; counts where none is fused.",
)
@click.option(
    "--update-from",
    type=FILE,
    help="Ask about an update reset of a device that cold-booted this bundle.",
)
@json_option
@reports_errors
def verify(
    *,
    file: Path,
    fuses: DeviceFuses,
    dot_owner_hash: bytes | None,
    update_from: Path | None,
    as_json: bool,
) -> None:
    """Would a device with these fuses boot FILE, and if not, why?

    The device is a fuse file (--fuses), or a production device with the hashes given
    (--vendor-hash, --owner-hash). The checks are the public ones, in the public order; the error is
    the public one, by name and code.

    Exit code: 0 it boots, 3 it does not, 1 the question could not be answered.
    """
    content = read_file(file)
    device = fuses.resolve(content[8] if len(content) > 8 else 0)
    cold_boot = None
    if update_from is not None:
        cold_boot = verify_bundle(read_file(update_from), device, dot_owner_pk_hash=dot_owner_hash)
    verdict = judge(
        content,
        device,
        reason=ResetReason.COLD if cold_boot is None else ResetReason.UPDATE,
        cold_boot=cold_boot,
        dot_owner_pk_hash=dot_owner_hash,
    )
    if as_json:
        print_json(_verdict_json(file, verdict))
    else:
        _print_verdict(file, verdict)
    sys.exit(0 if verdict.boots else EXIT_REFUSED)


def _verdict_json(file: Path, verdict: Verdict) -> dict[str, object]:
    result: dict[str, object] = {"file": str(file), "boots": verdict.boots}
    if verdict.refusal is not None:
        error = verdict.refusal.error
        result["error"] = {
            "name": error.public_name,
            "code": f"{error.code:#010x}",
            "meaning": error.meaning,
            "detail": verdict.refusal.detail,
        }
    if verdict.firmware is not None:
        result["measured"] = {
            "fmc_digest": verdict.firmware.fmc_digest.hex(),
            "runtime_digest": verdict.firmware.rt_digest.hex(),
            "svn": verdict.firmware.svn,
            "owner_hash": verdict.firmware.owner_pk_hash.hex(),
        }
    result["remarks"] = list(verdict.remarks)
    return result


def _print_verdict(file: Path, verdict: Verdict) -> None:
    console = Console(soft_wrap=True)
    if verdict.refusal is None:
        console.print(Text.assemble(("boots: ", "bold green"), str(file)))
    else:
        error = verdict.refusal.error
        console.print(Text.assemble(("does not boot: ", "bold red"), str(file)))
        console.print(Text(f"  {error.public_name} ({error.code:#010x})"))
        console.print(Text(f"  {error.meaning}"))
        if verdict.refusal.detail:
            console.print(Text(f"  {verdict.refusal.detail}"))
    for remark in verdict.remarks:
        console.print(Text.assemble(("note: ", "yellow"), remark))


@bundle.command("inspect")
@click.argument("file", type=FILE)
@fuse_options
@json_option
@reports_errors
def inspect_command(*, file: Path, fuses: DeviceFuses, as_json: bool) -> None:
    """Show what FILE says about itself, and which bytes nothing covers.

    Nothing is verified. The bytes that nothing covers depend on the fuses; without any they are
    those of a production device with both hashes fused.
    """
    content = read_file(file)
    device = fuses.resolve(content[8] if len(content) > 8 else 0) if fuses.given else None
    found = inspect_bundle(content, device)
    if as_json:
        print_json({"file": str(file), **found.to_json()})
        return
    manifest, header = found.manifest, found.manifest.header
    info = manifest.vendor_key_info
    right_marker = manifest.marker == fb.MANIFEST_MARKER
    print_fields(
        [
            ("file", f"{file}, {found.size} bytes"),
            ("marker", f"{manifest.marker:#010x}" + ("" if right_marker else " (not a bundle)")),
            ("signatures", f"ECDSA P-384 and {found.pqc_name}"),
            ("signed by", _signed_by(found)),
            ("SVN", header.svn),
            ("vendor hash", found.vendor_hash.hex()),
            ("vendor ECC key", f"{manifest.vendor_ecc_index} of {info.ecc.hash_count}"),
            ("vendor PQC key", f"{manifest.vendor_pqc_index} of {info.pqc.hash_count}"),
            ("vendor dates", _dates(header.vendor)),
            ("owner hash", found.owner_hash.hex()),
            ("owner dates", _dates(header.owner)),
            (
                "PL0 user",
                f"{header.pl0_pauser:#x}" if header.flags & fb.FLAG_PL0_PAUSER else "none",
            ),
        ]
    )
    click.echo()
    print_table(
        ("part", "offset", "size", "load", "entry", "version", "commit", "SHA-384"),
        [
            (
                name,
                f"{entry.offset:#x}",
                str(entry.size),
                f"{entry.load_addr:#x}",
                f"{entry.entry_point:#x}",
                f"{entry.version:#x}",
                entry.revision.hex()[:12],
                entry.digest.hex(),
            )
            for name, entry in (("FMC", manifest.fmc), ("runtime", manifest.runtime))
        ],
    )
    click.echo()
    click.echo("Bytes that nothing covers:")
    print_table(
        ("from", "to", "bytes", "field", "why"),
        [
            (
                f"{each.span.start:#x}",
                f"{each.span.end - 1:#x}",
                str(each.span.size),
                each.field,
                each.why,
            )
            for each in found.uncovered
        ],
    )


def _dates(validity: fb.Validity) -> str:
    before, after = date_text(validity.not_before), date_text(validity.not_after)
    return f"{before} to {after}" if before or after else "none"


@bundle.command()
@click.option(
    "--type",
    "kind",
    type=click.Choice(["ecc", "lms", "mldsa"]),
    required=True,
    help="ECDSA P-384, LMS (a directory with a guarded state) or ML-DSA-87.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="PEM file of the private key, or the LMS key's directory; must not exist.",
)
@json_option
@reports_errors
def keygen(*, kind: str, out: Path, as_json: bool) -> None:
    """Make a signing key for bundles.

    An LMS key signs 32,768 times; making it takes about 25 million hashes. Its state guards that no
    leaf is used twice: it refuses to sign from a copy or from a restored backup. A part of that
    state, the anchor, stands apart from the key: in the folder CASEMATE_LMS_ANCHORS, or in
    $XDG_STATE_HOME/casemate/lms.
    """
    if kind == "lms":
        size = _make_lms_key(out, quiet=as_json)
    else:
        from casemate.rot.bundle.signers import make_pem_key

        size = make_pem_key(Algorithm.ECDSA_P384 if kind == "ecc" else Algorithm.MLDSA87, out)
    if as_json:
        print_json({"key": str(out), "type": kind, "public_key_size": size})
    else:
        print_fields([("written", out), ("type", kind)])


def _make_lms_key(out: Path, *, quiet: bool) -> int:
    from casemate.rot.lms_key import LmsKey

    with Progress(console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("leaves", total=1 << 15)
        key = LmsKey.create(
            out,
            progress=lambda done: progress.update(task, completed=done),
        )
    return len(key.public_key)


@bundle.command("move-key")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--first-leaf",
    type=click.IntRange(0, 1 << 15),
    required=True,
    help="First leaf that no other copy of the key can have used.",
)
@click.confirmation_option(prompt="Is the key destroyed in every other place?")
@json_option
@reports_errors
def move_key(*, directory: Path, first_leaf: int, as_json: bool) -> None:
    """Sign with the LMS key in DIRECTORY from now on, here and nowhere else."""
    from casemate.rot.lms_key import LmsKey

    LmsKey.open(directory).move(first_leaf)
    if as_json:
        print_json({"key": str(directory), "first_leaf": first_leaf})
    else:
        print_fields([("key", directory), ("next leaf", first_leaf)])

"""`casemate manifest`: build, sign, verify and look into SoC manifests."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from casemate.cli._module import json_option, print_fields, print_json, print_table
from casemate.cli._signing import (
    EXIT_REFUSED,
    FILE,
    DeviceFuses,
    fuse_options,
    open_pair,
    out_option,
    read_file,
    reports_errors,
    signer_option,
    write_file,
)
from casemate.formats import firmware_bundle as fb
from casemate.formats import soc_manifest as sm
from casemate.rot.bundle.verify import verify as verify_bundle
from casemate.rot.errors import BootError
from casemate.rot.fuses import Fuses
from casemate.rot.soc_manifest.authorize import Authorization, Request, authorize
from casemate.rot.soc_manifest.build import ManifestBuildError, Pair, Party, build_owner
from casemate.rot.soc_manifest.build import build as build_manifest
from casemate.rot.soc_manifest.errors import ManifestRefusedError
from casemate.rot.soc_manifest.verify import (
    Authorizations,
    set_manifest,
    set_owner_manifest,
)

_LARGEST_IMAGE = 1 << 30


@click.group()
def manifest() -> None:
    """SoC manifests (authorization manifests): which images a SoC may load.

    A key is a PEM file, an LMS key directory or a PKCS#11 URI, as for `casemate bundle`.
    """


def _digest_of_file(path: Path) -> bytes:
    return hashlib.sha384(read_file(path, most=_LARGEST_IMAGE)).digest()


def read_images(path: Path) -> tuple[sm.ImageMetadata, ...]:
    """Read the list of images of a manifest to be built.

    A JSON list of objects: `fw_id`, and `digest` (SHA-384, hexadecimal) or `file` (beside the
    list); optional `component_id`, `classification`, `source` (1 to 3), `exec_bit`,
    `load_address`, `staging_address`, `ignore_auth_check`. Raises ManifestBuildError.
    """
    try:
        items = json.loads(read_file(path))
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ManifestBuildError(f"{path}: expected a list of images, each an object")
        return tuple(_image(item, path.parent) for item in items)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestBuildError(f"{path} is no list of images: {error}") from None


def _image(item: dict[str, Any], folder: Path) -> sm.ImageMetadata:
    known = {
        *("fw_id", "digest", "file", "component_id", "classification", "source", "exec_bit"),
        *("load_address", "staging_address", "ignore_auth_check"),
    }
    if unknown := item.keys() - known:
        raise ManifestBuildError(f"an image has an unknown field: {sorted(unknown)[0]}")
    if ("digest" in item) == ("file" in item):
        raise ManifestBuildError("an image has a digest or a file, one of them")

    def number(name: str, default: int) -> int:
        value = item.get(name, default)
        return value if isinstance(value, int) else int(value, 0)

    return sm.ImageMetadata(
        fw_id=number("fw_id", -1),
        digest=bytes.fromhex(item["digest"])
        if "digest" in item
        else _digest_of_file(folder / item["file"]),
        component_id=number("component_id", sm.UNUSED_ID),
        classification=number("classification", 0),
        flags=sm.ImageMetadata.flags_of(
            source=number("source", 1),
            ignore_auth_check=item.get("ignore_auth_check", False) is True,
            exec_bit=number("exec_bit", 0),
        ),
        load_address=number("load_address", 0),
        staging_address=number("staging_address", 0),
    )


def _owner_signers(command: Callable[..., Any]) -> Callable[..., Any]:
    for flag, what in (
        ("--owner-man-pqc-key", "the owner's manifest LMS or ML-DSA-87 key (over the images)"),
        ("--owner-man-ecc-key", "the owner's manifest ECC key (over the images)"),
        ("--owner-fw-pqc-key", "the owner's firmware LMS or ML-DSA-87 key (over the keys)"),
        ("--owner-fw-ecc-key", "the owner's firmware ECC key (over the keys)"),
    ):
        command = signer_option(flag, what)(command)
    return command


def _party(party: str, keys: dict[str, str | None]) -> Party:
    pairs = []
    for role in ("fw", "man"):
        name = f"{party}_{role}"
        pair = open_pair(
            f"{party}-{role}", keys.get(f"{name}_ecc_key"), keys.get(f"{name}_pqc_key")
        )
        if pair is None:
            raise click.UsageError(f"give --{party}-{role}-ecc-key and --{party}-{role}-pqc-key")
        pairs.append(Pair(*pair))
    return Party(pairs[0], pairs[1])


@manifest.command()
@click.option("--images", type=FILE, required=True, help="JSON list of images (see below).")
@signer_option("--vendor-fw-ecc-key", "the vendor's firmware ECC key (over the keys)")
@signer_option("--vendor-fw-pqc-key", "the vendor's firmware LMS or ML-DSA-87 key")
@signer_option("--vendor-man-ecc-key", "the vendor's manifest ECC key (over the images)")
@signer_option("--vendor-man-pqc-key", "the vendor's manifest LMS or ML-DSA-87 key")
@_owner_signers
@click.option("--svn", type=click.IntRange(0, 255), default=0, show_default=True)
@click.option("--version", type=int, default=1, show_default=True)
@click.option(
    "--vendor-signs-images/--owner-alone-signs-images",
    default=True,
    help="Whether the list needs the vendor's signature as well [it does].",
)
@click.option("--owner-only", is_flag=True, help="Build the owner's own kind of manifest.")
@out_option
@json_option
@reports_errors
def build(
    *,
    images: Path,
    svn: int,
    version: int,
    vendor_signs_images: bool,
    owner_only: bool,
    out: Path,
    as_json: bool,
    **keys: str | None,
) -> None:
    """Build and sign a SoC manifest.

    \b
    The list of images, in JSON:
      [{"fw_id": 2, "file": "firmware.bin", "component_id": 2, "exec_bit": 5},
       {"fw_id": 3, "digest": "SHA-384 in hex", "load_address": "0x80000000"}]
    """
    entries = read_images(images)
    owner = _party("owner", keys)
    if owner_only:
        if any(value for name, value in keys.items() if name.startswith("vendor")):
            raise click.UsageError("an owner's own manifest has no vendor's keys")
        made = build_owner(entries, owner=owner, svn=svn, version=version)
    else:
        made = build_manifest(
            entries,
            vendor=_party("vendor", keys),
            owner=owner,
            svn=svn,
            version=version,
            vendor_signs_images=vendor_signs_images,
        )
    write_file(out, made)
    if as_json:
        print_json({"file": str(out), **_describe(made)})
    else:
        print_fields([("written", f"{out}, {len(made)} bytes"), ("images", len(entries))])


def _decode(content: bytes) -> sm.SocManifest | sm.OwnerManifest:
    kind = sm.OwnerManifest if _is_owners(content) else sm.SocManifest
    return kind.decode(content)


def _is_owners(content: bytes) -> bool:
    return content[:4] == sm.OWNER_MARKER.to_bytes(4, "little")


def _describe(content: bytes) -> dict[str, object]:
    read = _decode(content)
    vendor = isinstance(read, sm.SocManifest)
    return {
        "kind": "vendor and owner" if vendor else "owner",
        "marker": f"{read.marker:#010x}",
        "size": len(content),
        "version": read.version,
        "svn": read.svn,
        "flags": read.flags,
        "digest": hashlib.sha384(content).hexdigest(),
        "images": [
            {
                "fw_id": image.fw_id,
                "component_id": image.component_id,
                "classification": image.classification,
                "source": image.image_source,
                "ignore_auth_check": image.ignore_auth_check,
                "exec_bit": image.exec_bit,
                "load_address": f"{image.load_address:#x}",
                "staging_address": f"{image.staging_address:#x}",
                "digest": image.digest.hex(),
            }
            for image in read.entries
        ],
    }


@manifest.command("inspect")
@click.argument("file", type=FILE)
@json_option
@reports_errors
def inspect_command(*, file: Path, as_json: bool) -> None:
    """Show what FILE says about itself; nothing is verified."""
    content = read_file(file)
    described = _describe(content)
    if as_json:
        print_json({"file": str(file), **described})
        return
    read = _decode(content)
    names = ("kind", "marker", "version", "svn", "flags", "digest")
    print_fields([("file", f"{file}, {len(content)} bytes")] + [(n, described[n]) for n in names])
    click.echo()
    print_table(
        ("id", "component", "source", "exec bit", "load", "staging", "SHA-384"),
        [
            (
                f"{image.fw_id:#x}",
                f"{image.component_id:#x}",
                str(image.image_source),
                str(image.exec_bit),
                f"{image.load_address:#x}",
                f"{image.staging_address:#x}",
                "anything (ignore_auth_check)" if image.ignore_auth_check else image.digest.hex(),
            )
            for image in read.entries
        ],
    )


@manifest.command()
@click.argument("file", type=FILE)
@click.option(
    "--bundle",
    "bundle_file",
    type=FILE,
    required=True,
    help="The firmware bundle that the device booted: its keys vouch for the manifest's.",
)
@fuse_options
@click.option("--min-svn", type=click.IntRange(0, 255), default=0, help="Strap, owner's kind [0].")
@click.option(
    "--image",
    "images",
    type=(str, FILE),
    multiple=True,
    metavar="ID FILE",
    help="Also ask whether this file is authorised under this id; once for each.",
)
@json_option
@reports_errors
def verify(
    *,
    file: Path,
    bundle_file: Path,
    fuses: DeviceFuses,
    min_svn: int,
    images: tuple[tuple[str, Path], ...],
    as_json: bool,
) -> None:
    """Would a device take FILE, and authorise these images by it?

    Exit code: 0 yes, 3 no (the manifest or an image is refused), 1 could not be answered.
    """
    content, bundle = read_file(file), read_file(bundle_file)
    device = fuses.resolve(bundle[8] if len(bundle) > 8 else 0)
    try:
        verify_bundle(bundle, device)
        state = _set(content, fb.Manifest.decode(bundle), device, min_svn=min_svn)
    except (BootError, ManifestRefusedError) as error:
        _print_refusal(bundle_file if isinstance(error, BootError) else file, error, as_json)
        sys.exit(EXIT_REFUSED)
    answers = [(path, authorize(state, _request(name, path))) for name, path in images]
    if as_json:
        print_json(
            {
                "file": str(file),
                "accepted": True,
                "images": [
                    {
                        "file": str(path),
                        "authorized": answer.yes,
                        "result": answer.result.name.lower(),
                        "code": f"{answer.result:#010x}",
                    }
                    for path, answer in answers
                ],
                "unchecked": [image.fw_id for image in state.unchecked],
            }
        )
    else:
        _print_answers(file, state, answers)
    sys.exit(0 if all(answer.yes for _, answer in answers) else EXIT_REFUSED)


def _set(content: bytes, firmware: fb.Manifest, device: Fuses, *, min_svn: int) -> Authorizations:
    if _is_owners(content):
        return set_owner_manifest(Authorizations(), content, firmware, device, min_svn=min_svn)
    return set_manifest(Authorizations(), content, firmware, device)


def _request(name: str, path: Path) -> Request:
    try:
        fw_id = int(name, 0)
    except ValueError:
        raise click.UsageError(f"--image: {name} is no number") from None
    return Request(fw_id=fw_id, measurement=_digest_of_file(path))


def _print_refusal(file: Path, error: BootError | ManifestRefusedError, as_json: bool) -> None:
    if as_json:
        refusal = {"what": str(error), "code": f"{error.code or 0:#010x}"}
        print_json({"file": str(file), "accepted": False, "error": refusal})
        return
    console = Console(soft_wrap=True)
    console.print(Text.assemble(("refused: ", "bold red"), str(file)))
    console.print(Text(f"  {error}"))


def _print_answers(
    file: Path, state: Authorizations, answers: list[tuple[Path, Authorization]]
) -> None:
    console = Console(soft_wrap=True)
    console.print(Text.assemble(("accepted: ", "bold green"), str(file)))
    for path, answer in answers:
        style = "green" if answer.yes else "bold red"
        text = answer.result.name.lower().replace("_", " ")
        console.print(Text.assemble((f"{text}: ", style), str(path)))
    for image in state.unchecked:
        note = f"the id {image.fw_id:#x} authorises anything (ignore_auth_check)"
        console.print(Text.assemble(("note: ", "yellow"), note))

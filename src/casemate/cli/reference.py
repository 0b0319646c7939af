"""`casemate reference`: make, keep and explain reference values (CoRIM)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from casemate.attestation.errors import InputError
from casemate.cli._attestation import Time, reports_attestation_errors
from casemate.cli._module import json_option, print_columns, print_fields, print_json, print_table
from casemate.cli._signing import KEY_HELP, open_signer, read_file, reports_errors, write_file

if TYPE_CHECKING:
    from casemate.attestation.endorsements import NamedBytes
    from casemate.attestation.reference.manifest import Manifest
    from casemate.attestation.reference.store import ReferenceSet, StoredTag
    from casemate.rot.bundle.signers import Signer

_FILE = click.Path(path_type=Path, dir_okay=False)
_ANY_FILE = click.Path(path_type=Path, exists=True)
_TWO_YEARS = 730
_PREFIX = "tag:casemate,2026:release/"

store_option = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CASEMATE_REFERENCES",
    required=True,
    help="Folder of reference manifests [CASEMATE_REFERENCES].",
)
at_option = click.option("--at", type=Time(), help="Time that is asked about (RFC 3339) [now].")
signer_option = click.option(
    "--signer",
    "-s",
    multiple=True,
    type=_ANY_FILE,
    help="Public key or certificate (PEM, DER, JWK) that may sign.",
)
profile_option = click.option(
    "--profile",
    multiple=True,
    help="Take manifests of this profile too (URI or dotted OID): its values are compared by the "
    "draft's own rules, its extensions never match.",
)


@click.group()
def reference() -> None:
    """Reference values: what the claims of evidence are compared with.

    They are CoRIM manifests. `generate` makes one from a firmware release, `import` puts signed
    ones into a folder, `list` and `show` explain them, `casemate appraise --reference` uses them.
    """


@reference.command()
@click.argument("bundle", type=_FILE)
@click.option(
    "--manifest",
    "-m",
    "manifests",
    multiple=True,
    type=_FILE,
    help="A SoC manifest of the release.",
)
@click.option("--key", metavar="KEY", help=f"Sign with this key: {KEY_HELP}.")
@click.option("--unsigned", is_flag=True, help="Do not sign: for a channel that is secure itself.")
@click.option("--signer-name", default="reference values", show_default=True, help="Who signs.")
@click.option("--id", "tag_id", help="Id of the tag [of the bundle's SHA-256].")
@click.option("--tag-version", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--replaces", multiple=True, metavar="TAG", help="Id of a tag that this one corrects."
)
@click.option("--not-before", type=Time(), help="Valid from (RFC 3339) [now].")
@click.option(
    "--days",
    type=click.IntRange(1, 36_500),
    default=_TWO_YEARS,
    show_default=True,
    help="Days that it is valid.",
)
@click.option(
    "--lifecycle",
    type=click.Choice(["unprovisioned", "manufacturing", "production"]),
    default="production",
    show_default=True,
    help="Lifecycle that devices must be in.",
)
@click.option("--debug-unlocked", is_flag=True, help="Expect debug to be open (a laboratory's).")
@click.option("--out", type=_FILE, required=True, help="File to write.")
@click.option("--public-key-out", type=_FILE, help="Write the signer's public key (PEM) too.")
@json_option
@reports_errors
@reports_attestation_errors
def generate(
    *,
    bundle: Path,
    manifests: tuple[Path, ...],
    key: str | None,
    unsigned: bool,
    signer_name: str,
    tag_id: str | None,
    tag_version: int,
    replaces: tuple[str, ...],
    not_before: datetime | None,
    days: int,
    lifecycle: str,
    debug_unlocked: bool,
    out: Path,
    public_key_out: Path | None,
    as_json: bool,
) -> None:
    """Make a signed CoRIM of what devices will claim that run a firmware release.

    The values are recomputed from BUNDLE and the SoC manifests: key hashes, FMC and runtime with
    their SVN as the least, the runtime's configuration, every authorised image, and the state that
    devices must be in. Signatures of BUNDLE are not checked here: `casemate bundle verify` does.
    """
    from casemate.attestation.reference import explain, release
    from casemate.attestation.reference.signature import sign
    from casemate.formats.corim import manifest as corim_format
    from casemate.formats.corim.comid import Comid, Entity, LinkedTag, Relation, TagIdentity
    from casemate.formats.corim.manifest import Corim, Validity
    from casemate.formats.corim.manifest import Signer as Named
    from casemate.formats.corim.triples import Triples
    from casemate.formats.device_status import LifecycleState

    if (key is None) != unsigned or (unsigned and public_key_out is not None):
        raise click.UsageError("say who signs: --key KEY, or --unsigned (which has no public key)")
    content = read_file(bundle)
    values = release.values_of(
        content,
        [read_file(path) for path in manifests],
        state=release.DeviceState(LifecycleState[lifecycle.upper()], not debug_unlocked),
        name=str(bundle),
    )
    name = tag_id or _PREFIX + hashlib.sha256(content).hexdigest()[:16]
    begins = (not_before or datetime.now(UTC)).replace(microsecond=0)
    validity = Validity(begins, begins + timedelta(days=days))
    made = Corim(
        id=f"{name}/{tag_version}",
        tags=(
            Comid(
                identity=TagIdentity(name, tag_version),
                triples=Triples(reference=values.triples),
                entities=(Entity(signer_name, (0,)),),
                linked_tags=tuple(LinkedTag(one, Relation.REPLACES) for one in replaces),
            ),
        ),
        validity=validity,
    )
    if key is None:
        data, signed_by = corim_format.encode(made), None
    else:
        signer = _CorimKey(open_signer(key))
        data = sign(made, signer, Named(signer_name, validity=validity))
        signed_by = hashlib.sha256(signer.spki).hexdigest()
        if public_key_out is not None:
            write_file(public_key_out, signer.pem)
    write_file(out, data)
    if as_json:
        print_json(
            {
                "file": str(out),
                "tag": name,
                "version": tag_version,
                "not_after": validity.not_after.isoformat(),
                "signer_key_sha256": signed_by,
                "values": [
                    {"environment": place, "says": said}
                    for _, place, said in explain.rows(made.tags[0].triples)
                ]
                if isinstance(made.tags[0], Comid)
                else [],
                "left_out": list(values.left_out),
            }
        )
        return
    print_fields(
        [
            ("written", f"{out}, {len(data)} bytes"),
            ("tag", f"{name}, version {tag_version}"),
            ("values", len(values.triples)),
            ("valid until", f"{validity.not_after:%Y-%m-%d %H:%M} UTC"),
            ("signed by", f"key {signed_by}" if signed_by else "nobody"),
            *(("left out", sentence) for sentence in values.left_out),
        ]
    )


class _CorimKey:
    """A signer of bundles as a signer of manifests."""

    def __init__(self, signer: Signer) -> None:
        from casemate.formats import cose, x509
        from casemate.rot.bundle.signers import Algorithm

        self._signer = signer
        self._mldsa = signer.algorithm is Algorithm.MLDSA87
        if signer.algorithm is Algorithm.LMS:
            raise InputError("an LMS key cannot sign a CoRIM: give a P-384 or ML-DSA-87 key")
        # ES384, the older number: every public reader of CoRIM knows it, few know ESP384.
        self.algorithm = cose.ML_DSA_87 if self._mldsa else cose.ES384
        self.spki = (
            x509.spki_mldsa87(signer.public_key)
            if self._mldsa
            else x509.spki_p384(b"\x04" + signer.public_key)
        )

    @property
    def pem(self) -> bytes:
        """The public key for others, in PEM."""
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            PublicFormat,
            load_der_public_key,
        )

        return load_der_public_key(self.spki).public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, message: bytes) -> bytes:
        """The signature, checked before it leaves."""
        from casemate.rot.bundle.signers import sign_checked

        prepared = message if self._mldsa else hashlib.sha384(message).digest()
        return sign_checked(self._signer, prepared)


@reference.command("import")
@click.argument("files", nargs=-1, required=True, type=_ANY_FILE)
@store_option
@signer_option
@click.option("--unsigned", is_flag=True, help="Take unsigned manifests, on your own word.")
@profile_option
@at_option
@json_option
@reports_attestation_errors
def import_(
    *,
    files: tuple[Path, ...],
    store: Path,
    signer: tuple[Path, ...],
    unsigned: bool,
    profile: tuple[str, ...],
    at: datetime | None,
    as_json: bool,
) -> None:
    """Authenticate manifests and put them into a folder, one after the other.

    A manifest that is refused stops the import; those before it stay. A signer that signed one is
    kept in the folder and need not be named again.
    """
    from casemate.attestation import input as given
    from casemate.attestation.reference.folder import ReferenceFolder

    folder = ReferenceFolder(store, profiles=frozenset(profile))
    signers = _signers(signer)
    done = []
    for file in given.read_files(files):
        imported = folder.add(
            file, signers=signers, at=at or datetime.now(UTC), take_unsigned=unsigned
        )
        done.append(imported)
        if not as_json:
            signed = imported.manifest.signed_by
            print_fields(
                [
                    ("imported" if imported.new else "was there", imported.path),
                    ("tags", ", ".join(_tags_of(imported.manifest)) or "none"),
                    ("signed by", f"{signed.name}" if signed else "nobody: on your word"),
                ]
            )
    if as_json:
        from casemate.attestation.reference import explain

        print_json(
            [
                {
                    "path": str(one.path),
                    "new": one.new,
                    "tags": _tags_of(one.manifest),
                    "manifest": explain.manifest_document(one.manifest),
                }
                for one in done
            ]
        )


def _tags_of(manifest: Manifest) -> list[str]:
    from casemate.attestation.reference.manifest import comids

    return [f"{tag.identity.name} v{tag.identity.version}" for tag in comids(manifest)]


@reference.command("list")
@store_option
@profile_option
@at_option
@json_option
@reports_attestation_errors
def list_(*, store: Path, profile: tuple[str, ...], at: datetime | None, as_json: bool) -> None:
    """List the tags of a folder: who signed them, and whether they are in force."""
    from casemate.attestation.reference import explain
    from casemate.attestation.reference.folder import ReferenceFolder

    time = at or datetime.now(UTC)
    found = ReferenceFolder(store, profiles=frozenset(profile)).load(time)
    tags = _in_order(found)
    if as_json:
        print_json(
            {
                "digest": found.digest.hex(),
                "epoch": found.epoch,
                "tags": [explain.tag_document(tag, time) for tag in tags],
            }
        )
        return
    if not tags:
        click.echo(f"{store} has no reference values; casemate reference import brings them")
        return
    print_table(
        ["tag", "version", "values", "state", "until", "signed by", "file"],
        [_row(tag, time) for tag in tags],
    )


def _row(tag: StoredTag, at: datetime) -> list[str]:
    from casemate.attestation.reference import explain

    signed = tag.manifest.signed_by
    ends = [validity.not_after for validity in tag.manifest.validities]
    return [
        tag.comid.identity.name,
        str(tag.comid.identity.version),
        str(sum(1 for _ in explain.rows(tag.comid.triples))),
        tag.why_not(at) or "in force",
        f"{min(ends):%Y-%m-%d}" if ends else "for ever",
        signed.name if signed else "nobody",
        tag.manifest.file.name,
    ]


def _in_order(found: ReferenceSet) -> list[StoredTag]:
    return sorted(found.tags, key=lambda tag: (tag.comid.identity.name, tag.comid.identity.version))


@reference.command()
@click.argument("what", metavar="FILE|TAG")
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CASEMATE_REFERENCES",
    help="Folder in which to look for TAG [CASEMATE_REFERENCES].",
)
@signer_option
@profile_option
@at_option
@json_option
@reports_attestation_errors
def show(
    *,
    what: str,
    store: Path | None,
    signer: tuple[Path, ...],
    profile: tuple[str, ...],
    at: datetime | None,
    as_json: bool,
) -> None:
    """Explain one manifest: a file, or a tag of a folder by its id.

    A file need not be signed to be looked at; its signature is checked if --signer names somebody.
    """
    from casemate.attestation.reference import explain

    time = at or datetime.now(UTC)
    checked, tags = _find(what, store, signer, frozenset(profile), time)
    if as_json:
        print_json([explain.tag_document(tag, time) for tag in tags])
        return
    for tag in tags:
        document = explain.manifest_document(tag.manifest)
        signed = document["signed_by"] or (
            "nobody that was asked for: the signature is not checked" if not checked else "nobody"
        )
        print_fields(
            [
                ("tag", f"{tag.comid.identity.name}, version {tag.comid.identity.version}"),
                ("manifest", f"{document['id']} ({document['file']})"),
                ("SHA-256", document["sha256"]),
                ("state", tag.why_not(time) or "in force"),
                ("valid", f"{document['not_before'] or '-'} to {document['not_after'] or '-'}"),
                ("signed by", signed),
                *((("profile", document["profile"]),) if document["profile"] else ()),
                *((("forms", ", ".join(document["forms"])),) if document["forms"] else ()),
            ]
        )
        click.echo()
        print_columns(["kind", "environment", "says"], explain.rows(tag.comid.triples), right=set())


def _find(
    what: str,
    store: Path | None,
    signer: tuple[Path, ...],
    profiles: frozenset[str],
    at: datetime,
) -> tuple[bool, list[StoredTag]]:
    """Whether signatures were checked, and the tags of that file or with that id."""
    from casemate.attestation import input as given
    from casemate.attestation.reference import manifest as manifests
    from casemate.attestation.reference.folder import ReferenceFolder
    from casemate.attestation.reference.store import ReferenceSet, load

    if store is not None:
        found = ReferenceFolder(store, profiles=profiles).load(at)
        tags = [
            tag
            for tag in _in_order(found)
            if what in (tag.comid.identity.name, tag.manifest.file.name)
        ]
        if tags:
            return True, tags
    path = Path(what)
    if not path.exists():
        where = "give --store" if store is None else f"{store} does not have it either"
        raise InputError(f"{what}: no such file, and as a tag's id: {where}")
    files = given.read_files([path])
    if signer:
        chosen = load(files, signers=_signers(signer), at=at, take_unsigned=True, profiles=profiles)
        return True, _in_order(chosen)
    return False, _in_order(ReferenceSet(manifests.trusted(file, None) for file in files))


def _signers(paths: tuple[Path, ...]) -> tuple[NamedBytes, ...]:
    """Public keys in DER of files that hold keys or certificates. Raises InputError."""
    from casemate.attestation import input as given
    from casemate.attestation.endorsements import NamedBytes

    sorted_ = given.sort(anchors=given.read_files(paths), families=())
    return tuple(NamedBytes(a.spki, a.name) for a in sorted_.endorsements.anchors)

"""`casemate rot invoke`: ask a running DPE, behind a mailbox or a simulator's socket."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from casemate.cli._module import print_fields, print_json
from casemate.cli._parameters import Hexadecimal
from casemate.cli._rot import DIGEST, json_option, reports_rot_errors
from casemate.formats import dpe as wire
from casemate.formats.mailbox import MailboxFormatError
from casemate.rot.dpe.client import DpeClient, profile_of, socket_exchange
from casemate.rot.errors import RotError

HANDLE = Hexadecimal(wire.HANDLE_SIZE)
_PROFILES = {"p384": wire.Profile.P384_SHA384, "mldsa87": wire.Profile.ML_DSA_87}
_DERIVE_FLAGS = {
    flag.name.lower().replace("_", "-"): flag for flag in wire.DeriveFlags if flag.name
}


class Number(click.ParamType[int]):
    """A number of 32 bits, decimal or with 0x."""

    name = "u32"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; a usage error says what was expected."""
        if isinstance(value, int):
            return value
        try:
            number = int(value, 0)
        except ValueError:
            self.fail("expected a number, decimal or with 0x", param, ctx)
        if not 0 <= number < 1 << 32:
            self.fail("expected a number of 32 bits", param, ctx)
        return number


@dataclass(frozen=True, slots=True)
class Target:
    """Which DPE to ask, and as whom."""

    mailbox: Path | None
    simulator: Path | None
    profile: wire.Profile
    locality: int

    @contextlib.contextmanager
    def open(self) -> Iterator[DpeClient]:
        """Give a client. What goes wrong on the way becomes one RotError."""
        try:
            if self.mailbox is not None:
                from casemate.rot.mailbox.client import MailboxClient

                with MailboxClient(self.mailbox, self.locality) as mailbox:
                    yield DpeClient(self.profile, mailbox.dpe(self.profile))
            elif self.simulator is not None:
                yield DpeClient(self.profile, socket_exchange(self.simulator, self.locality))
        except (wire.DpeCommandError, wire.DpeFormatError, MailboxFormatError) as error:
            raise RotError(str(error)) from None
        except OSError as error:
            path = self.mailbox or self.simulator
            raise RotError(f"{path}: no DPE answers here: {error}") from None


@click.group()
@click.option(
    "--mailbox",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="CASEMATE_ROT_MAILBOX",
    help="Socket of `casemate rot serve` [CASEMATE_ROT_MAILBOX].",
)
@click.option(
    "--simulator",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Socket of `casemate-dpe-sim`, instead of a mailbox.",
)
@click.option(
    "--profile",
    type=click.Choice(list(_PROFILES)),
    default="p384",
    show_default=True,
    help="The algorithms to ask for.",
)
@click.option(
    "--locality", type=Number(), default=0, show_default=True, help="As whom to ask (AXI user)."
)
@click.pass_context
def invoke(
    context: click.Context,
    *,
    mailbox: Path | None,
    simulator: Path | None,
    profile: str,
    locality: int,
) -> None:
    """Derive, certify, sign and destroy in a running DPE.

    A handle works once: every command prints the next one. Without --handle the default context of
    the locality is meant.
    """
    if simulator is not None:
        mailbox = None
    if mailbox is None and simulator is None:
        raise click.UsageError("name a DPE: --mailbox SOCKET or --simulator SOCKET")
    context.obj = Target(mailbox, simulator, _PROFILES[profile], locality)


handle_option = click.option(
    "--handle", type=HANDLE, default=wire.DEFAULT_HANDLE, help="The context [the default one]."
)
label_option = click.option(
    "--label", type=DIGEST, default=bytes(wire.DIGEST_SIZE), help="Which key, 48 bytes [zeros]."
)


def _show(fields: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(fields)
    else:
        print_fields([(name.replace("_", " "), str(value)) for name, value in fields.items()])


def _command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of the group that takes a target and reports the room's errors."""

    def decorate(function: Callable[..., None]) -> click.Command:
        made: click.Command = invoke.command(name)(
            click.pass_obj(json_option(reports_rot_errors(function)))
        )
        return made

    return decorate


@_command("profile")
def profile(target: Target, *, as_json: bool) -> None:
    """Show version, capacity and features."""
    with target.open() as client:
        info = profile_of(client.exchange)
    features = [str(feature.name).lower() for feature in wire.Support if feature & info.support]
    _show(
        {
            "profile": info.profile.name,
            "version": f"{info.major_version}.{info.minor_version}",
            "vendor": f"0x{info.vendor_id:08x}",
            "sku": f"0x{info.vendor_sku:08x}",
            "contexts": info.max_tci_nodes,
            "features": features if as_json else ", ".join(features),
        },
        as_json=as_json,
    )


@_command("derive")
@handle_option
@click.option("--measurement", type=DIGEST, required=True, help="What to measure, 48 bytes.")
@click.option("--type", "tci_type", type=Number(), default=0, show_default=True, help="TCI type.")
@click.option("--svn", type=Number(), default=0, show_default=True, help="Security version.")
@click.option("--target", type=Number(), help="Give the child to this locality.")
@click.option(
    "--flag",
    "flags",
    multiple=True,
    type=click.Choice(sorted(_DERIVE_FLAGS)),
    help="May be given several times.",
)
def derive(
    target_dpe: Target,
    *,
    handle: bytes,
    measurement: bytes,
    tci_type: int,
    svn: int,
    target: int | None,
    flags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Add a measurement: a child context, an update in place, or an exported CDI."""
    chosen = wire.NO_DERIVE_FLAGS
    for name in flags:
        chosen |= _DERIVE_FLAGS[name]
    if target is not None:
        chosen |= wire.DeriveFlags.CHANGE_LOCALITY
    command = wire.DeriveContext(handle, measurement, chosen, tci_type, target or 0, svn)
    with target_dpe.open() as client:
        answer = client.run(command)
    match answer:
        case wire.DerivedContext():
            shown = {"handle": answer.handle.hex(), "parent_handle": answer.parent_handle.hex()}
        case wire.ExportedCdi():
            shown = {
                "parent_handle": answer.parent_handle.hex(),
                "exported_cdi": answer.exported_cdi.hex(),
                "certificate": answer.certificate.hex(),
            }
        case _:
            raise RotError(f"the DPE answered {type(answer).__name__}")
    _show(shown, as_json=as_json)


@_command("initialize")
@click.option("--simulation", is_flag=True, help="A context that certifies but does not sign.")
def initialize(target: Target, *, simulation: bool, as_json: bool) -> None:
    """Make the default context of the DPE, once, or a simulation context."""
    flags = wire.InitializeFlags.SIMULATION if simulation else wire.InitializeFlags.DEFAULT
    with target.open() as client:
        answer = client.run(wire.InitializeContext(flags))
    if not isinstance(answer, wire.NewHandle):
        raise RotError(f"the DPE answered {type(answer).__name__}")
    _show({"handle": answer.handle.hex()}, as_json=as_json)


@_command("update")
@click.option("--parent", type=HANDLE, required=True, help="The parent's handle.")
@click.option("--measurement", type=DIGEST, required=True, help="What to measure, 48 bytes.")
@click.option("--type", "tci_type", type=Number(), required=True, help="The child's TCI type.")
def update(
    target: Target, *, parent: bytes, measurement: bytes, tci_type: int, as_json: bool
) -> None:
    """Extend a child context with the authority of its parent."""
    with target.open() as client:
        answer = client.run(wire.UpdateContextMeasurement(parent, measurement, tci_type))
    if not isinstance(answer, wire.UpdatedMeasurement):
        raise RotError(f"the DPE answered {type(answer).__name__}")
    shown = {"handle": answer.handle.hex(), "parent_handle": answer.parent_handle.hex()}
    _show(shown, as_json=as_json)


@_command("certify")
@handle_option
@label_option
@click.option("--csr", is_flag=True, help="A CSR inside a CMS message instead of a certificate.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the DER to a file."
)
def certify(
    target: Target, *, handle: bytes, label: bytes, csr: bool, out: Path | None, as_json: bool
) -> None:
    """Certify the key that a label selects in a context."""
    output = wire.CertificateFormat.CSR if csr else wire.CertificateFormat.X509
    with target.open() as client:
        answer = client.run(wire.CertifyKey(handle, label, output))
    if not isinstance(answer, wire.CertifiedKey):
        raise RotError(f"the DPE answered {type(answer).__name__}")
    shown: dict[str, Any] = {"handle": answer.handle.hex(), "public_key": answer.public_key.hex()}
    if out is None:
        shown["certificate"] = answer.certificate.hex()
    else:
        _write(out, answer.certificate)
        shown["written"] = str(out)
    _show(shown, as_json=as_json)


@_command("sign")
@handle_option
@label_option
@click.option(
    "--digest",
    metavar="HEX",
    required=True,
    help="SHA-384 digest (48 bytes; P-384) or external mu (64 bytes; ML-DSA-87).",
)
def sign(target: Target, *, handle: bytes, label: bytes, digest: str, as_json: bool) -> None:
    """Sign with the key that a label selects in a context."""
    prepared = Hexadecimal(target.profile.to_be_signed_size).convert(digest, None, None)
    with target.open() as client:
        answer = client.run(wire.Sign(handle, label, prepared))
    if not isinstance(answer, wire.Signature):
        raise RotError(f"the DPE answered {type(answer).__name__}")
    shown = {"handle": answer.handle.hex(), "signature": answer.signature.hex()}
    _show(shown, as_json=as_json)


@_command("rotate")
@handle_option
@click.option("--to-default", is_flag=True, help="Make it the locality's default context.")
def rotate(target: Target, *, handle: bytes, to_default: bool, as_json: bool) -> None:
    """Exchange a handle for a fresh one."""
    flags = wire.RotateFlags.TARGET_IS_DEFAULT if to_default else wire.NO_ROTATE_FLAGS
    with target.open() as client:
        answer = client.run(wire.RotateContextHandle(handle, flags))
    if not isinstance(answer, wire.NewHandle):
        raise RotError(f"the DPE answered {type(answer).__name__}")
    _show({"handle": answer.handle.hex()}, as_json=as_json)


@_command("destroy")
@click.option("--handle", type=HANDLE, required=True, help="The context; 32 zeros: the default.")
def destroy(target: Target, *, handle: bytes, as_json: bool) -> None:
    """Destroy a context and everything derived from it."""
    with target.open() as client:
        client.run(wire.DestroyContext(handle))
    _show({"destroyed": handle.hex()}, as_json=as_json)


@_command("chain")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the DER to a file."
)
def chain(target: Target, *, out: Path | None, as_json: bool) -> None:
    """Fetch the certificate chain above the leaf, the topmost certificate first."""
    with target.open() as client:
        certificates = client.certificate_chain()
    if out is None:
        _show({"size": len(certificates), "chain": certificates.hex()}, as_json=as_json)
    else:
        _write(out, certificates)
        _show({"size": len(certificates), "written": str(out)}, as_json=as_json)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise RotError(f"{path}: cannot be written: {error.strerror}") from None

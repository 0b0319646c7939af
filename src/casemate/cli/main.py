"""`casemate`: the root of the command line. Groups load only when they are used.

Exit codes: 0 done; 1 the operation failed; 2 the command line was wrong; a command that answers a
question documents its own further codes in its `--help`.
"""

from __future__ import annotations

import importlib

import click

import casemate

#: Command name -> (module under casemate.cli, one-line help). The module exports `<name>` with
#: dashes turned into underscores.
COMMANDS: dict[str, tuple[str, str]] = {
    "appraise": ("appraise", "decide by its evidence whether a host may be trusted"),
    "bundle": ("bundle", "build, sign, verify and inspect firmware bundles"),
    "manifest": ("manifest", "build, sign and verify SoC manifests"),
    "bench": ("bench", "measure PKCS#11 libraries beside raw AWS-LC"),
    "cdi": ("cdi", "give a partition to containers"),
    "certificate": ("certificate", "store and list certificates"),
    "collateral": ("collateral", "fetch, list, export and import vendors' collateral"),
    "completion": ("completion", "print a shell's completion script"),
    "decrypt": ("use", "decrypt a file with a key"),
    "demo": ("demo", "the product's story, with times; make run"),
    "doctor": ("selftest", "what protects the keys on this host"),
    "encrypt": ("use", "encrypt a file with a key"),
    "integrate": ("integrate", "print how a program uses a key"),
    "key": ("key", "make, list, certify and destroy keys"),
    "mechanisms": ("mechanisms", "list what a partition can do with keys"),
    "metrics": ("metrics", "give the module's figures to monitoring"),
    "partition": ("partition", "make, change and destroy partitions"),
    "pin": ("pin", "set and change a partition's PINs"),
    "pkcs11-path": ("pkcs11_path", "print the path of the PKCS#11 library"),
    "policy": ("policy", "show, check and test appraisal policies"),
    "proxy": ("proxy", "give a partition to virtual machines"),
    "random": ("use", "write random bytes of a partition"),
    "reference": ("reference", "make, keep and explain reference values"),
    "resume": ("lifecycle", "serve again after a suspend"),
    "rot": ("rot", "the root of trust: manufacture, boot, certify, quote"),
    "selftest": ("selftest", "run the module's self-tests"),
    "sign": ("use", "sign a file with a key"),
    "status": ("status", "what the module is doing"),
    "stop": ("lifecycle", "end the module"),
    "suspend": ("lifecycle", "have every partition refuse"),
    "top": ("top", "operations, times, queues and CPU, live"),
    "up": ("up", "run the module"),
    "verifier": ("verifier", "the attestation service: run it, ask it"),
    "verify": ("use", "check a signature"),
    "zeroize": ("lifecycle", "destroy every key of the module"),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used, not before.

    `casemate random` should not pay for the import of the attestation room.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None if there is no such command."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module_name, _ = COMMANDS[cmd_name]
        module = importlib.import_module(f"casemate.cli.{module_name}")
        command = getattr(module, cmd_name.replace("-", "_"))
        if not isinstance(command, click.Command):
            raise TypeError(f"casemate.cli.{module_name} exports no command named {cmd_name}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing them."""
        rows = [(name, help_text) for name, (_, help_text) in sorted(COMMANDS.items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(casemate.__version__, prog_name="casemate")
def main() -> None:
    """Keys in a module beside the process, a root of trust, and keys gated by attestation."""


if __name__ == "__main__":
    main()

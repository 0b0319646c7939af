"""`casemate completion`: what a shell evaluates to complete commands, partitions and keys."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: eval "$(casemate completion bash)"
    zsh:  eval "$(casemate completion zsh)"
    fish: casemate completion fish | source
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    root = ctx.find_root().command
    click.echo(found(root, {}, "casemate", "_CASEMATE_COMPLETE").source())

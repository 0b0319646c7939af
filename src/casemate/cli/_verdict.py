"""How a verdict is shown: the answer and its reason first, then what differs, then what was met."""

from __future__ import annotations

from collections.abc import Iterable

import click
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from casemate.attestation.appraisal.verdict import (
    ClaimVerdict,
    Comparison,
    ComponentVerdict,
    Verdict,
)
from casemate.attestation.states import State

COLOURS = {
    State.AFFIRMING: "green",
    State.WARNING: "yellow",
    State.COULD_NOT_APPRAISE: "magenta",
    State.CONTRAINDICATED: "red",
}
_MEANINGS = {
    State.AFFIRMING: "this host is trusted",
    State.WARNING: "this host is authentic, but not affirmed",
    State.COULD_NOT_APPRAISE: "the verifier could not decide; this says nothing about the host",
    State.CONTRAINDICATED: "do not trust this host",
}
#: Hexadecimal digits shown of a long value; --json has them all.
_SHOWN = 16


def render(verdict: Verdict) -> RenderableType:
    """Everything that a person wants to know, the most important first."""
    parts: list[RenderableType] = [_headline(verdict)]
    parts += [Text(f"  to do: {advice}") for advice in verdict.advice]
    if len(verdict.reasons) > 1:
        parts.append(Text("\nfurther reasons", style="bold"))
        parts += [Text(f"  - {shortened(reason)}") for reason in verdict.reasons[1:]]
    parts += [Text(), _components(verdict.components)]
    differing = [
        (component.name, claim)
        for component in verdict.components
        for claim in component.claims
        if claim.comparison is Comparison.DIFFERS
    ]
    if differing:
        parts += [Text(), _differences(differing)]
    for title, comparison in (
        ("no reference value speaks about", Comparison.NO_REFERENCE),
        ("met their reference values", Comparison.MET),
    ):
        if listed := list(_listed(verdict.components, comparison)):
            parts += [Text(f"\n{title}", style="bold"), *listed]
    parts += [Text(), _about(verdict)]
    return Group(*parts)


def show(verdict: Verdict) -> None:
    """Print it; on a pipe in a fixed width without colours."""
    console = Console()
    if console.is_terminal:
        console.print(render(verdict))
        return
    wide = Console(width=100, highlight=False)
    with wide.capture() as captured:
        wide.print(render(verdict))
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def state_text(state: State) -> Text:
    """A state in its colour."""
    return Text(state.value, style=f"bold {COLOURS[state]}")


def shortened(sentence: str) -> str:
    """A sentence with its long hexadecimal values cut; their beginning tells them apart."""
    return " ".join(_short(word) for word in sentence.split(" "))


def _short(word: str) -> str:
    head, digits = word.rpartition(":")[::2]
    bare = digits.rstrip(",;.")
    if len(bare) <= _SHOWN or any(digit not in "0123456789abcdef" for digit in bare):
        return word
    return f"{head}:" * bool(head) + bare[:_SHOWN] + "..." + digits[len(bare) :]


def _headline(verdict: Verdict) -> Panel:
    colour = COLOURS[verdict.state]
    reason = shortened(verdict.reasons[0]) if verdict.reasons else ""
    return Panel(
        Text.assemble((_MEANINGS[verdict.state] + "\n", "bold"), reason),
        title=Text(f" {verdict.state.value.upper()} ", style=f"bold reverse {colour}"),
        title_align="left",
        border_style=colour,
    )


def _components(components: Iterable[ComponentVerdict]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("component", "evidence", "state"):
        table.add_column(column, no_wrap=True)
    table.add_column("met", justify="right")
    table.add_column("because", overflow="fold")
    for part in components:
        met = sum(claim.comparison is Comparison.MET for claim in part.claims)
        because = [clause.sentence for clause in part.clauses]
        because += [check.sentence for check in part.checks if not check.passed]
        table.add_row(
            part.name,
            part.family or "",
            state_text(part.state),
            f"{met} of {len(part.claims)}" if part.claims else "",
            Text(shortened("; ".join(because))),
        )
    return table


def _differences(claims: Iterable[tuple[str, ClaimVerdict]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("component", "claim"):
        table.add_column(column)
    for column in ("expected", "found"):
        table.add_column(column, overflow="fold")
    for component, claim in claims:
        expected = " or ".join(map(shortened, claim.expected)) or "another value"
        table.add_row(
            component,
            claim.label,
            Text(expected, style="green"),
            Text(shortened(claim.found), style="red"),
        )
    return table


def _listed(components: Iterable[ComponentVerdict], comparison: Comparison) -> Iterable[Text]:
    """One line for each component: the claims of which this comparison came."""
    for part in components:
        labels = [claim.label for claim in part.claims if claim.comparison is comparison]
        if labels:
            yield Text.assemble(("  " + part.name, "bold"), ": " + ", ".join(labels))


def _end(verdict: Verdict) -> str:
    """Devices' own certificates end in the year 9999, which means never (RFC 5280)."""
    end = verdict.valid_until
    return "no end" if end is None or end.year == 9999 else f"{end:%Y-%m-%d}"


def _about(verdict: Verdict) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    policy = verdict.policy
    rows = (
        ("host", verdict.host.name if verdict.host else "nobody that could be authenticated"),
        ("appraised for", f"{verdict.at:%Y-%m-%d %H:%M:%S %Z}"),
        ("valid until", _end(verdict)),
        ("nonce", shortened(verdict.nonce.hex()) if verdict.nonce else "none was answered"),
        ("policy", f"{policy.name}, version {policy.version} ({policy.digest.hex()[:16]})"),
        ("references", verdict.references.hex()[:16]),
        ("forms", "; ".join(verdict.forms)),
        ("correlation id", verdict.correlation_id),
    )
    for name, value in rows:
        if value:
            table.add_row(name, Text(value))
    return table

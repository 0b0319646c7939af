"""The rates as one SVG: a row for each operation, a bar for each library, raw AWS-LC = 1."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from casemate.bench.cases import ONE, SIXTEEN
from casemate.bench.report import Report
from casemate.bench.results import GroupResult, Series, ratio
from casemate.bench.subjects import OWN, RAW

_WIDTH = 960
_LEFT = 290
_RIGHT = 150
_TOP = 92
_BAR = 13
_GAP = 14
_COLOURS = ("#1f5f99", "#d98a29", "#7a9a3a", "#a0527a", "#6b6b6b")
_TEXT = "#222222"
_FAINT = "#777777"


@dataclass(frozen=True, slots=True)
class _Row:
    title: str
    bars: tuple[tuple[str, float, float], ...]
    """Subject, share of raw AWS-LC with one thread, operations a second."""

    @property
    def height(self) -> int:
        return len(self.bars) * (_BAR + 2) + _GAP


def plot(report: Report) -> str:
    """Return the SVG. Operations without a raw counterpart are left out."""
    rows = [row for group in report.results for row in _rows(report, group)]
    names = [name for name in report.subjects if name != RAW]
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
    longest = max([1.0, *(share for row in rows for _, share, _ in row.bars)])
    height = _TOP + sum(row.height for row in rows) + 46
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="Helvetica, Arial, sans-serif" '
        f'font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(20, 28, "Operations a second, as a share of AWS-LC called in process", size=16),
        _text(20, 48, _machine(report), colour=_FAINT),
        *_legend(names, colours),
        *_axis(scale, longest, height),
    ]
    top = _TOP
    for row in rows:
        parts += _bars(row, top, scale, colours)
        top += row.height
    return "\n".join([*parts, "</svg>", ""])


def _rows(report: Report, group: GroupResult) -> list[_Row]:
    rows = []
    for shape in (ONE, SIXTEEN):
        bars = []
        for name in report.subjects:
            series = group.find(name, shape)
            if name == RAW or series is None:
                continue
            if shape == SIXTEEN and name != OWN:
                # What would be compared: the peer's fastest, whatever is in flight.
                series = group.best(name) or series
            share = _share(group, series)
            if share is not None:
                bars.append((name, share, series.rate))
        if bars:
            text = group.group.operation.text
            if shape == SIXTEEN:
                text += f", {shape.text}"
            if len({one.group.objects for one in report.results}) > 1:
                text += f" ({group.group.objects})"
            rows.append(_Row(text, tuple(bars)))
    return rows


def _share(group: GroupResult, series: Series) -> float | None:
    if group.group.operation.persistent:
        return None
    return ratio(series, group.find(RAW, ONE))


def _machine(report: Report) -> str:
    kinds = sorted({group.group.objects.value for group in report.results})
    return (
        f"{report.machine.processor}, {report.machine.cpus} CPUs, {report.machine.kernel}; "
        f"{' and '.join(kinds)} objects; {report.date:%Y-%m-%d}"
    )


def _legend(names: list[str], colours: dict[str, str]) -> list[str]:
    parts, left = [], 20
    for name in names:
        parts.append(
            f'<rect x="{left}" y="60" width="12" height="12" fill="{colours[name]}" rx="2"/>'
        )
        parts.append(_text(left + 18, 70, name))
        left += 40 + 7 * len(name)
    return parts


def _axis(scale: float, longest: float, height: int) -> list[str]:
    step = next(step for step in (0.25, 0.5, 1, 2, 5, 10, 100) if longest / step <= 8)
    parts = []
    for number in range(int(longest / step) + 1):
        share = number * step
        left = _LEFT + share * scale
        colour, dash = ("#999999", "") if share == 1 else ("#dddddd", ' stroke-dasharray="2 3"')
        parts.append(
            f'<line x1="{left:.1f}" y1="{_TOP - 8}" x2="{left:.1f}" y2="{height - 34}" '
            f'stroke="{colour}"{dash}/>'
        )
        parts.append(_text(left, height - 18, f"{share:g}", anchor="middle", colour=_FAINT))
    return parts


def _bars(row: _Row, top: int, scale: float, colours: dict[str, str]) -> list[str]:
    middle = top + (row.height - _GAP) / 2 + 4
    parts = [_text(_LEFT - 12, middle, row.title, anchor="end")]
    for number, (name, share, rate) in enumerate(row.bars):
        begin = top + number * (_BAR + 2)
        length = max(share * scale, 1)
        parts.append(
            f'<rect x="{_LEFT}" y="{begin}" width="{length:.1f}" height="{_BAR}" '
            f'fill="{colours[name]}" rx="1"/>'
        )
        label = f"{share:.2f} ({rate:,.0f}/s)"
        parts.append(_text(_LEFT + length + 6, begin + _BAR - 3, label, size=11, colour=_FAINT))
    return parts


def _text(
    left: float,
    top: float,
    text: str,
    *,
    size: int = 12,
    anchor: str = "start",
    colour: str = _TEXT,
) -> str:
    return (
        f'<text x="{left:.1f}" y="{top:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )

"""What the figures are made of: ratios within a round, percentiles, what must hold."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.bench import cases, targets
from casemate.bench.cases import ONE, SIXTEEN, TWO, Group, Objects, Operation, Shape
from casemate.bench.document import document
from casemate.bench.fairness import Contest, Fairness
from casemate.bench.idle import Idle
from casemate.bench.interleaved import FULL
from casemate.bench.measurer import Slice, percentile
from casemate.bench.pinned import Pinned
from casemate.bench.plot import plot
from casemate.bench.report import Machine, Report
from casemate.bench.results import GroupResult, Series, ratio


def series(subject: str, shape: Shape, rates: list[float], microseconds: float = 10) -> Series:
    made = Series(subject, shape, shape.text)
    for rate in rates:
        made.add(Slice(rate, 1000, 2000, {round(microseconds * 1000): 100}))
    return made


def group(operation: Operation, *parts: Series, objects: Objects = Objects.TOKEN) -> GroupResult:
    return GroupResult(Group(operation, objects, (ONE, TWO, SIXTEEN)), list(parts))


def report(*groups: GroupResult) -> Report:
    made = Report(
        date=datetime(2026, 11, 25, tzinfo=UTC),
        machine=Machine("a processor", 2, "Linux 6", 0.0),
        pace=FULL,
        subjects={"aws-lc": "raw", "casemate": "ours", "softhsm": "theirs", "p11-kit": "far"},
    )
    made.results.groups.extend(groups)
    return made


def verdict(made: Report, text: str) -> targets.Verdict:
    found = [one for one in targets.verdicts(made) if text in one.what]
    assert len(found) == 1, [one.what for one in targets.verdicts(made)]
    return found[0]


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    # A machine that is half as fast in one round changes no ratio.
    mine, theirs = series("a", ONE, [90, 45, 92]), series("b", ONE, [100, 50, 100])
    assert ratio(mine, theirs) == pytest.approx(0.9)
    assert ratio(mine, None) is None
    assert ratio(mine, Series("b", ONE, "", unsupported="no")) is None


@given(st.lists(st.integers(1, 10**9), min_size=1), st.floats(0.001, 1))
def test_a_percentile_leaves_its_share_below(values: list[int], share: float) -> None:
    counts = {value: values.count(value) for value in values}
    found = percentile(counts, share)
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_what_is_refused_in_a_later_round_is_no_result() -> None:
    one = series("softhsm", ONE, [1, 2])
    one.refuse("C_Sign answered 0x31")
    assert group(cases.P256, one).find("softhsm", ONE) is None


def test_token_objects_are_no_match_for_keys_in_memory_where_they_are_made() -> None:
    generate = next(one for one in cases.OPERATIONS if one.name == "generate-p256")
    raw, mine = series("aws-lc", ONE, [100]), series("casemate", ONE, [1])
    assert group(generate, raw, mine).to_raw(mine) is None
    assert group(generate, raw, mine, objects=Objects.SESSION).to_raw(mine) == 0.01


def test_session_objects_never_answer_for_token_objects() -> None:
    fast = group(
        cases.P256,
        series("aws-lc", ONE, [100]),
        series("casemate", ONE, [99]),
        series("softhsm", ONE, [10]),
        objects=Objects.SESSION,
    )
    made = report(fast)
    assert not [one for one in targets.verdicts(made) if "softhsm" in one.what]
    assert not [one for one in targets.verdicts(made) if "AWS-LC" in one.what]
    slow = group(
        cases.P256,
        series("aws-lc", ONE, [100]),
        series("casemate", ONE, [50]),
        series("softhsm", ONE, [10]),
    )
    made = report(fast, slow)
    assert verdict(made, "P-256 sign / AWS-LC").measured == 0.5
    assert not verdict(made, "P-256 sign / AWS-LC").holds
    assert verdict(made, "P-256 sign / softhsm").measured == 5


def test_many_in_flight_are_compared_with_the_peer_s_fastest() -> None:
    made = report(
        group(
            cases.GCM,
            series("aws-lc", ONE, [1000]),
            series("casemate", ONE, [300]),
            series("casemate", SIXTEEN, [600]),
            series("softhsm", ONE, [20]),
            series("softhsm", TWO, [30]),
            series("softhsm", SIXTEEN, [10]),
        )
    )
    against = verdict(made, "16 in flight / softhsm")
    assert (against.measured, against.note) == (20, "2 threads")
    assert verdict(made, "16 in flight / AWS-LC").measured == 0.6


def test_every_line_that_must_hold_is_drawn_from_what_was_measured() -> None:
    made = report(
        group(
            cases.ROUND_TRIP,
            series("casemate", ONE, [2e6], microseconds=0.5),
            series("casemate", TWO, [3e6]),
            series("p11-kit", ONE, [2e4], microseconds=50),
        )
    )
    made.pinned = Pinned(cpu=0, p50_us=5.0, p99_us=9.0, sign_rate=1)
    made.idle = Idle(seconds=1, module=0.004, client=0.002)
    made.fairness = Fairness(
        cpus=2,
        alone=100,
        fair=50,
        contests=(
            Contest(
                "a flood", rate=45, share=0.9, p50_us=1, p99_us=6000, p999_us=7000, flood_rate=1
            ),
        ),
    )
    held = {one.what: one.holds for one in targets.verdicts(made)}
    assert held == {
        "no-op round trip, p50": True,
        "no-op round trip, p50 of p11-kit / ours": True,
        "no-op round trip on one CPU, p50": True,
        "idle module and client, of one CPU": False,
        "P-256 beside a flood, of the fair share": True,
        "P-256 beside a flood, p99": False,
    }


def test_the_plot_is_an_svg_with_a_bar_for_each_library() -> None:
    made = report(
        group(
            cases.P256,
            series("aws-lc", ONE, [100]),
            series("casemate", ONE, [95]),
            series("softhsm", ONE, [20]),
        )
    )
    made.subjects["softhsm"] = made.subjects.pop("softhsm")
    root = ElementTree.fromstring(plot(made))  # noqa: S314 (our own)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "0.95 (95/s)" in texts
    assert "0.20 (20/s)" in texts
    assert "ECDSA P-256 sign" in texts


def test_the_document_gives_each_series_its_objects_and_how_it_was_made() -> None:
    made = report(
        group(cases.P256, series("aws-lc", ONE, [100, 100]), series("casemate", TWO, [95, 97]))
    )
    mine = document(made)["operations"][1]
    assert mine["objects"] == "token"
    assert mine["how"] == "2 threads"
    assert mine["rates"] == [95, 97]
    assert (mine["client_cpu_us"], mine["server_cpu_us"]) == (1, 2)
    assert mine["ratio_of_own"] is None

"""What ``edge-opcua bench models`` says of what a client saw, and the picture of a change."""

from __future__ import annotations

from typing import Any

import pytest

from docs.change_figures import BACK, DRAWING, QUIET, STROKES, drawing, judge
from edge_opcua.bench.figure import Figure
from edge_opcua.bench.models.shop import Job
from edge_opcua.bench.models.suite import Seen, figures, wrong_versions
from edge_opcua.demo.client import SeenEvent

JOB = Job((("Queued", 0), ("Loading", 10), ("Switching", 10_000_000), ("Active", 14_000_000)), 15.0, "")
TAKEN_BACK = Job((("Queued", 0), ("Switching", 2_000_000), ("RolledBack", 5_000_000)), 6.0, "")


def results(*versions: int, slow: dict[int, float] | None = None) -> list[SeenEvent]:
    """Return one result of each version in order; some of them slower than 1 ms."""

    def fields(number: int, version: int) -> dict[str, Any]:
        took = (slow or {}).get(number, 1.0)
        return {
            "Stroke": number,
            "ModelVersion": version,
            "LatencyQueue": 0.25,
            "LatencyInfer": took - 0.25,
        }

    return [SeenEvent(fields(number, version), 0) for number, version in enumerate(versions, start=1)]


def seen(
    found: list[SeenEvent],
    order: list[int],
    *,
    strokes: int = 0,
    memory: tuple[float, float] = (100.0, 101.0),
) -> Seen:
    before, after = memory
    there = range(1, (strokes or len(found)) + 1)
    return Seen(found, [JOB], [TAKEN_BACK], order, ({"io": before}, {"io": after}), there, [2.0])


def named(found: Seen) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(found)}


@pytest.mark.parametrize(
    ("versions", "order", "wrong"),
    [
        ((1, 1, 2, 2, 1), [2, 1], 0),
        ((2, 2, 1), [2, 1], 0),  # the client came when the first change had happened
        ((1, 2, 1, 2, 1), [2, 1], 1),  # and one of the version that had been left
        ((1, 3, 2, 1), [2, 1], 1),  # of one nobody asked for
        ((1, 1, 2), [2, 1], 1),  # the last change never came to anything
    ],
)
def test_a_stroke_is_answered_by_the_version_that_was_asked_for(
    versions: tuple[int, ...], order: list[int], wrong: int
) -> None:
    assert wrong_versions(seen(results(*versions), order)) == wrong


def test_strokes_that_another_pipeline_has_judged_and_this_one_has_not_are_lost() -> None:
    found = results(1, 1, 2, 2)
    del found[1]
    told = named(seen(found, [2], strokes=9))
    assert told["strokes without a result"].value == 1  # those after the last result may still come
    assert "DOES NOT HOLD" in told["strokes without a result"].note
    again = named(seen([*results(1, 2), *results(1, 2)[1:]], [2]))
    assert again["strokes with two results"].value == 1


def test_what_a_change_adds_is_told_beside_what_ordinary_strokes_need() -> None:
    slow = {10: 1.5, 11: 2.25, 5: 7.0}
    told = named(seen(results(*[1] * 10, *[2] * 10, slow=slow), [2]))
    assert told["added at a change, first verdict of a version, p50"].value == pytest.approx(1.25)
    assert told["added at a change, longest"].value == pytest.approx(1.25)
    assert "DOES NOT HOLD" in told["added at a change, longest"].note
    assert told["ordinary strokes, longest"].value == pytest.approx(6.0)
    assert told["back to the former version, from the decision, p50"].value == pytest.approx(3.0)


@pytest.mark.parametrize(("after", "held"), [(101.9, True), (98.1, True), (102.1, False), (97.9, False)])
def test_memory_may_differ_by_two_percent(after: float, held: bool) -> None:
    note = named(seen(results(1, 2, 2), [2], memory=(100.0, after)))["memory after all changes"].note
    assert ("DOES NOT HOLD" in note) != held
    assert f"io {after - 100:+.1f}" in note


def test_the_picture_in_the_documentation_is_what_the_script_draws() -> None:
    assert DRAWING.read_text() == drawing()
    assert [judge(at) for at in STROKES] == [1] * 7 + [2] * 3 + [1] * 2
    assert all(abs(at - moment) > 0.1 for at in STROKES for moment in (QUIET, BACK)), "between two strokes"

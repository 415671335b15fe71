"""Quality of the inputs: what is wrong with which one, named, and nothing where nothing is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from edge_opcua.inference.watch.profile import ReferenceProfile, make_profile
from edge_opcua.inference.watch.quality import InputTerms, QualityWatch, names_of
from edge_opcua.inference.watch.units import looks_like

NAMES, UNITS = ("pressure", "temp", "rms", "rate"), ("bar", "°C", "mm/s", "1/min")
SECOND_NS = 1_000_000_000
Row = npt.NDArray[np.float64]


def healthy(random: np.random.Generator) -> Row:
    row = [random.normal(120, 4), random.normal(45, 2), random.gamma(9, 0.3), 18.0]
    return np.asarray(row, np.float32).astype(np.float64)


def profile() -> ReferenceProfile:
    random = np.random.default_rng(1)
    rows = np.array([healthy(random) for _ in range(1_000)])
    return make_profile(rows, names=NAMES, units=UNITS, scores=random.normal(size=1_000))


def watch(*, known: bool = True, stuck_s: float = 60.0) -> QualityWatch:
    unlimited = (-math.inf,) * 4, (math.inf,) * 4
    return QualityWatch(InputTerms(NAMES, UNITS, *unlimited, stuck_s), profile() if known else None)


def run(
    watched: QualityWatch,
    count: int,
    change: Callable[[int, Row], None] = lambda _, __: None,
    *,
    start: int = 0,
    gap_s: Callable[[int], float] = lambda _: 3.3,
    until: str = "\0",
) -> int:
    """Take samples; return after how many something was found whose text holds ``until``, else 0."""
    random = np.random.default_rng(2 + start)
    at_ns = 1_700_000_000 * SECOND_NS + round(start * 3.3 * SECOND_NS)
    for number in range(1, count + 1):
        row = healthy(random)
        change(number, row)
        at_ns += round(gap_s(number) * SECOND_NS)
        watched.take(row, at_ns)
        if any(until in text for text in watched.findings()):
            return number
    return 0


@pytest.mark.parametrize("known", [True, False])
def test_healthy_inputs_have_no_fault(known: bool) -> None:
    watched = watch(known=known)
    run(watched, 5_000)
    assert watched.findings() == []
    assert watched.finding() is None


@pytest.mark.parametrize("known", [True, False])
def test_a_stuck_sensor_is_found_once_the_time_is_over(known: bool) -> None:
    watched = watch(known=known)
    run(watched, 100)

    def stuck(_: int, row: Row) -> None:
        row[1] = 44.75

    found = run(watched, 100, stuck, start=100, until="temp is stuck at 44.75 °C")
    assert 18 <= found <= 20, "60 s at 3.3 s each"
    run(watched, 2, start=200)
    assert watched.findings() == []


def test_a_set_point_that_never_moved_in_training_is_not_stuck() -> None:
    watched = watch()
    run(watched, 1_000)
    assert not any("rate" in text for text in watched.findings())


def test_without_a_profile_what_never_moved_is_not_called_stuck() -> None:
    watched = watch(known=False)
    run(watched, 1_000)
    assert watched.findings() == []


@pytest.mark.parametrize(
    ("column", "convert", "text"),
    [
        (0, lambda bar: bar * 14.5038, "pressure looks in psi"),
        (0, lambda bar: bar * 100, "pressure looks in kPa"),
        (0, lambda bar: bar / 10, "pressure looks in MPa"),
        (1, lambda celsius: celsius + 273.15, "temp looks in K"),
        (1, lambda celsius: celsius * 1.8 + 32, "temp looks in °F"),
        (2, lambda mm: mm / 25.4, "rms looks in in/s"),
    ],
)
def test_another_unit_is_recognised_and_named(
    column: int, convert: Callable[[float], float], text: str
) -> None:
    watched = watch()
    run(watched, 100)

    def shifted(_: int, row: Row) -> None:
        row[column] = convert(row[column])

    assert 0 < run(watched, 64, shifted, start=100, until=text) <= 16


def test_a_value_outside_that_is_in_no_other_unit_is_out_of_range() -> None:
    watched = watch()

    def hot(_: int, row: Row) -> None:
        row[1] += 40

    assert 0 < run(watched, 32, hot, until="temp 8") <= 16
    (text,) = watched.findings()
    assert "°C is outside" in text


def test_some_spikes_are_no_alarm() -> None:
    watched = watch()

    def spikes(number: int, row: Row) -> None:
        if number % 3 == 0:
            row[1] = 400.0

    assert run(watched, 300, spikes, until="temp") == 0


def test_an_input_that_hardly_moves_any_more_is_flat() -> None:
    watched = watch()
    run(watched, 64)

    def flat(number: int, row: Row) -> None:
        row[0] = 120 + 0.01 * (number % 2)

    assert 0 < run(watched, 200, flat, start=64, until="pressure hardly moves") <= 100


def test_inputs_that_cannot_be_used_are_told_with_their_reason() -> None:
    watched = watch()
    run(watched, 64)
    for _ in range(20):
        watched.missed("vib/stroke: the waveform is flat or no number")
    (text,) = watched.findings()
    assert text.startswith("31% of the last samples cannot be used: vib/stroke: the waveform")


def test_samples_that_come_unevenly_are_told_and_a_stop_is_not() -> None:
    watched = watch(stuck_s=1e6)
    run(watched, 200)
    run(watched, 200, start=200, gap_s=lambda number: 1_800.0 if number == 100 else 3.3)
    assert watched.findings() == []
    uneven = run(
        watched, 400, start=400, gap_s=lambda number: 3.3 * (0.4 + (number * 7 % 10) / 8), until="unevenly"
    )
    assert 0 < uneven <= 200


def test_a_unit_must_explain_the_values_and_not_only_be_another_one() -> None:
    usual = (110.0, 120.0, 130.0)
    assert looks_like(1_740.0, 60.0, "bar", usual) == "in psi"
    assert looks_like(1_740.0, 9_000.0, "bar", usual) == "", "they move far too much"
    assert looks_like(640.0, 10.0, "bar", usual) == ""
    assert looks_like(1_200.0, 10.0, "widgets", usual) == "10 times too large"
    assert looks_like(1.2, 0.1, "widgets", usual) == "100 times too small"


def test_what_is_shown_fits_its_row() -> None:
    assert names_of(["temp is stuck at 44.75 °C for 60 s"]) == "temp is stuck at 44.75 °C for 60 s"
    assert len(names_of(["°" * 100, "x"]).encode()) <= 120

"""Figures are written with as many digits as are known, and losses with their sign."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edge_opcua.compress.report import words
from tests.compress.reports import comparison, report, row, timing


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 B"), (34_300, "34.3 kB"), (1_234_567, "1.23 MB"), (5e9, "5.00 GB")]
)
def test_sizes(count: float, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("us", "text"),
    [(8.346, "8.35 µs"), (65.9, "65.9 µs"), (1_200, "1.20 ms"), (2.5e6, "2.50 s"), (math.nan, "unknown")],
)
def test_times(us: float, text: str) -> None:
    assert words.time(us) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.25, "4.0"), (0.99, "1.01"), (0.05, "20"), (4.6, "0.22")])
def test_speeds(ratio: float, text: str) -> None:
    assert words.speed(ratio) == f"{text}\N{MULTIPLICATION SIGN}"


@pytest.mark.parametrize("value", [-0.001, 0.0, 0.001])
def test_a_loss_that_rounds_to_nothing_has_no_sign(value: float) -> None:
    assert words.signed(value) == "0.00"


def test_longest_runs_that_cannot_be_told_apart_are_unclear() -> None:
    found = timing(0.5)
    assert words.tail(found) == "2.0\N{MULTIPLICATION SIGN}"
    assert words.tail(replace(found, p99_ratio=0.98, p99_low=0.9, p99_high=1.1)).startswith("1.02")
    assert words.tail(replace(found, p99_ratio=0.3, p99_low=0.05, p99_high=1.8)) == "unclear"
    assert words.tail(replace(found, p99_low=0.0, p99_high=math.inf)) == "unclear"


def test_losses_have_their_sign() -> None:
    assert words.loss(comparison(0.1)) == "+0.10 pp"
    assert words.loss(comparison(-0.1)) == "\N{MINUS SIGN}0.10 pp"
    assert words.interval(comparison(math.inf)) == "[+\N{INFINITY}, +\N{INFINITY}]"


def test_qualities_are_written_as_their_measure_is() -> None:
    found = comparison()
    assert words.quality(found, 0.97) == "97.00 %"
    assert words.quality(replace(found, measure="AUC"), 0.97) == "0.9700"
    assert words.quality(replace(found, measure="RMSE", unit="%"), 12.3456) == "12.35"


def test_speed_in_words_follows_the_verdict() -> None:
    assert words.gain(timing(0.25)).endswith(" as fast")
    assert words.gain(timing(1.0)) == "as fast"
    assert words.gain(timing(1.3)).startswith("slower, 1.3")
    assert words.gain(timing(0.9, verdict="slower")) == "slower in its longest runs"


def test_the_headline_says_what_was_gained_and_what_is_proved() -> None:
    found = words.headline(report(row("int8", is_chosen=True), chosen="int8"))
    gained, _, proved = found.partition(", and ")
    assert gained == "2.0\N{MULTIPLICATION SIGN} as fast, 70 % smaller"
    assert proved == "proved to be less than 0.5 pp worse in accuracy."
    assert words.headline(report(row("int8"), chosen=None)) == "No variant was chosen."


def test_the_chosen_one_comes_first_then_the_order_of_the_gate() -> None:
    rows = (
        row("impossible", failure="no"),
        row("slow", ratio=2.0, place=0),
        row("second", place=2),
        row("first"),
        row("third", is_chosen=True, place=3),
        row("fast", ratio=0.5, place=0),
    )
    order = [each.name for each in words.in_order(report(*rows, chosen="third"))]
    assert order == ["third", "first", "second", "fast", "slow", "impossible"]


def test_what_had_no_place_in_the_order_is_not_called_not_proved() -> None:
    assert words.verdict(row("late", loss=0.3)) == "not proved"
    assert words.verdict(row("slow", loss=0.3, place=0)) == "not entered"
    assert words.verdict(row("ruined", loss=3.0, place=0)) == "failed"
    assert words.verdict(row("impossible", failure="no")) == ""

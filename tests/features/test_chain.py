"""Chains of steps: what they refuse and how they say it, and that a window leaves nothing behind."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_opcua.errors import ModelError
from edge_opcua.features.chain import MAX_STEPS, Chain, fit_steps
from edge_opcua.features.flow import MAX_FEATURES, MAX_SAMPLES, Keys, Source
from edge_opcua.features.registry import STEPS
from edge_opcua.features.stroke import Feature
from edge_opcua.training.tomltext import table_text

CAPTURE = Source((Feature("", "m/s²"),), 64, 1_000.0, (Feature("temp", "°C"), Feature("recipe", "1")))
NO_RATE = Source((Feature("a", "m"), Feature("b", "s")), 8, 0.0)
Steps = list[dict[str, Any]]
Floats = npt.NDArray[np.float32]

EVERYTHING: Steps = [
    {"step": "window", "first": 4, "taper": "hann"},
    {"step": "detrend", "kind": "linear"},
    {"step": "resample", "rows": 30, "method": "mean"},
    {"step": "difference", "per_second": True},
    {"step": "clip", "on": "signal", "quantiles": [0.01, 0.99]},
    {"step": "statistics", "measures": ["rms", "peak"], "prefix": "v_"},
    {"step": "signal"},
    {"step": "resample", "rate_hz": 500, "method": "fourier"},
    {"step": "fft_bands", "edges_hz": [0, 100, 250]},
    {"step": "envelope_spectrum", "carrier_hz": [100, 200], "bands_hz": [[10, 90]]},
    {"step": "signal"},
    {"step": "window", "last": 4},
    {"step": "flatten", "order": "channel", "prefix": "end_"},
    {"step": "log", "features": ["v_rms", "v_peak"]},
    {"step": "difference", "feature": "v_peak", "minus": "v_rms", "result": "crest"},
    {"step": "context", "tags": ["recipe", "temp"]},
    {"step": "select", "drop": ["v_peak"]},
    {"step": "normalise", "method": "minmax", "features": ["temp"]},
    {"step": "one_hot", "feature": "recipe"},
    {"step": "normalise"},
]
windows = arrays(np.float32, (64,), elements=st.floats(-100, 100, width=32))


def recorded(count: int = 40) -> list[tuple[Floats, tuple[float, float]]]:
    rng = np.random.default_rng(11)
    return [
        (rng.normal(size=64).astype(np.float32), (20.0 + number, float(number % 3)))
        for number in range(count)
    ]


FITTED = fit_steps(CAPTURE, EVERYTHING, recorded())


def test_fitted_steps_come_back_from_a_manifest_bit_for_bit() -> None:
    text = "\n\n".join(table_text("steps", step, many=True) for step in FITTED)
    again = tomllib.loads(text)["steps"]
    here, there = Chain(CAPTURE, FITTED), Chain(CAPTURE, again)
    assert here.names == there.names
    for waveform, context in recorded(5):
        one, other = (chain.extract(waveform, 1_000.0, context) for chain in (here, there))
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)


def test_what_is_fitted_stays_as_it_is() -> None:
    assert fit_steps(CAPTURE, FITTED, recorded(3)) == FITTED


def test_a_step_learns_from_what_the_steps_before_it_make() -> None:
    steps: Steps = [
        {"step": "statistics", "measures": ["mean"]},
        {"step": "normalise", "mean": [10.0], "scale": [2.0]},
        {"step": "normalise"},
    ]
    seen = [(np.full(64, level, np.float32), (0.0, 0.0)) for level in (10.0, 14.0)]
    assert fit_steps(CAPTURE, steps, seen)[2]["mean"] == [1.0]


@given(windows, windows)
def test_a_window_leaves_nothing_behind(one: Floats, other: Floats) -> None:
    chain = Chain(CAPTURE, FITTED)
    before = chain.extract(one, 1_000.0, (20.0, 1.0))
    out = np.empty_like(before)
    assert chain.extract(other, 1_000.0, (30.0, 2.0), out) is out
    np.testing.assert_array_equal(chain.extract(one, 1_000.0, (20.0, 1.0)), before)


@pytest.mark.parametrize("place", ["sample", "context"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_makes_every_feature_none(place: str, value: float) -> None:
    chain = Chain(CAPTURE, [{"step": "statistics", "measures": ["last"]}, {"step": "context"}])
    waveform, context = np.ones(64, np.float32), [20.0, 1.0]
    if place == "sample":
        waveform[3] = value
    else:
        context[1] = value
    assert np.isnan(chain.extract(waveform, 1_000.0, context)).all()


def test_windows_that_are_no_numbers_are_not_learned_from() -> None:
    steps: Steps = [{"step": "context"}, {"step": "normalise", "features": ["temp"]}]
    broken = (np.full(64, np.nan, np.float32), (1e6, 0.0))
    assert fit_steps(CAPTURE, steps, [*recorded(3), broken]) == fit_steps(CAPTURE, steps, recorded(3))
    with pytest.raises(ModelError, match=r"step 2 \(normalise\): has no window to learn from") as refused:
        fit_steps(CAPTURE, steps, [broken])
    assert refused.value.code == "M603"


def test_a_feature_that_does_not_exist_is_not_learned_from() -> None:
    steps: Steps = [{"step": "statistics", "measures": ["kurtosis"]}, {"step": "normalise"}]
    with pytest.raises(ModelError, match="a value of a window does not exist"):
        fit_steps(CAPTURE, steps, [(np.ones(64, np.float32), (0.0, 0.0))])


@pytest.mark.parametrize(
    ("waveform", "rate_hz", "context", "sentence"),
    [
        (np.ones(63, np.float32), 1_000.0, (1, 2), "a window has 64 samples"),
        (np.ones(64, np.float32), 999.0, (1, 2), "sampled at 1000.0 Hz, not at 999.0"),
        (np.ones(64, np.float32), 1_000.0, (1,), "2 context values are needed, not 1"),
    ],
)
def test_another_window_than_declared_is_refused(
    waveform: Floats, rate_hz: float, context: tuple[float, ...], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Chain(CAPTURE, [{"step": "context"}]).extract(waveform, rate_hz, context)


LAST = {"step": "statistics", "measures": ["last"]}
REFUSED: list[tuple[str, Steps, str]] = [
    ("M600", [{"step": "fourier"}], 'step 1: "fourier" is not one of clip, context'),
    ("M600", [{}], "step 1: "),
    ("M600", [{"step": ["clip"]}], "step 1: "),
    ("M600", [LAST] * (MAX_STEPS + 1), "101 steps are declared"),
    ("M601", [LAST, {"step": "detrend", "kind": "cubic"}], 'step 2 (detrend): kind "cubic" is not one of'),
    ("M601", [{"step": "detrend", "kind": 1}], "kind is 1, not a text"),
    ("M601", [{"step": "detrend", "sort": "linear"}], "'sort' is an unknown key"),
    ("M601", [{"step": "statistics"}], "measures is missing"),
    ("M601", [{"step": "statistics", "measures": "rms"}], "measures is 'rms', not a list"),
    ("M601", [{"step": "statistics", "measures": [1]}], "not a list of texts"),
    ("M601", [{"step": "statistics", "measures": ["loudness"]}], '"loudness", not one of mean, std'),
    ("M601", [{"step": "window", "last": 3, "rows": 2}], "last and first or rows are both given"),
    ("M601", [{"step": "window", "last": True}], "last is True, not a whole number"),
    ("M601", [{"step": "window", "rows": 0}], "rows is 0, not a whole number of 1.."),
    ("M601", [{"step": "resample"}], "either rows or rate_hz"),
    ("M601", [{"step": "resample", "rate_hz": 0}], "rate_hz is 0, not above 0"),
    ("M601", [{"step": "resample", "rate_hz": "fast"}], "rate_hz holds 'fast', not a number"),
    ("M601", [{"step": "resample", "rate_hz": 10**400}], "hundreds of digits"),
    ("M601", [{"step": "resample", "rate_hz": float("nan")}], "not a finite number"),
    ("M601", [{"step": "difference", "per_second": 1}], "per_second is 1, not true or false"),
    ("M601", [LAST, {"step": "difference", "feature": "last"}], "minus is missing"),
    ("M601", [{"step": "fft_bands"}], "either bands_hz or edges_hz"),
    ("M601", [{"step": "fft_bands", "edges_hz": [1]}], "edges_hz names no band"),
    ("M601", [{"step": "fft_bands", "edges_hz": [5, 1]}], "edges_hz: a band goes from 0 or more upwards"),
    ("M601", [{"step": "fft_bands", "bands_hz": [[1, 2, 3]]}], "not a pair of numbers"),
    ("M601", [{"step": "envelope_spectrum", "edges_hz": [1, 2]}], "carrier_hz names no band"),
    ("M601", [LAST, {"step": "normalise", "mean": [1], "scale": [0]}], "a scale is not above 0"),
    ("M601", [LAST, {"step": "normalise", "mean": [1]}], "mean and scale have 1 and 0 numbers"),
    ("M601", [LAST, {"step": "clip"}], "low, high or quantiles"),
    ("M601", [LAST, {"step": "clip", "low": [2], "high": [1]}], "low and high do not go together"),
    ("M601", [LAST, {"step": "clip", "quantiles": [0.9, 0.1]}], "two numbers between 0 and 1"),
    ("M601", [LAST, {"step": "log", "smallest": 0}], "smallest is 0, not above 0"),
    ("M601", [LAST, {"step": "one_hot", "feature": "last", "categories": [1, 1]}], "holds a value twice"),
    ("M601", [LAST, {"step": "one_hot", "feature": "last", "categories": range(1001)}], "not a list"),
    (
        "M601",
        [LAST, {"step": "one_hot", "feature": "last", "categories": [*range(1001)]}],
        "1000 are the most",
    ),
    ("M601", [LAST, {"step": "select"}], "either what is kept or drop"),
    ("M601", [{"step": "one_hot"}], "feature is missing"),
    ("M601", [{"step": "flatten", "prefix": "x" * 33}], "prefix has 33 characters, 32 are the most"),
    ("M602", [{"step": "detrend"}], "the steps make no feature"),
    ("M602", [{"step": "normalise"}], 'step 1 (normalise): there are no features yet; on = "signal"'),
    ("M602", [LAST, {"step": "log", "features": ["rms"]}], 'step 2 (log): "rms" is not one of last'),
    ("M602", [LAST, LAST], 'step 2 (statistics): makes the feature "last" a second time'),
    ("M602", [{"step": "window", "last": 65}], "takes 65 rows from row -1 on, there are 64"),
    ("M602", [{"step": "window", "first": 64}], "there are 64"),
    ("M602", [{"step": "resample", "rate_hz": 333}], "64 rows at 1000 Hz are 21.312 rows afterwards"),
    ("M602", [{"step": "resample", "rate_hz": 1e30}], "rows afterwards"),
    ("M602", [{"step": "resample", "rows": MAX_SAMPLES, "method": "mean"}], "not a whole number of times"),
    ("M602", [{"step": "resample", "rate_hz": 1e9}], "would make 64000000 rows"),
    ("M602", [{"step": "window", "last": 1}, {"step": "difference"}], "one row has no difference"),
    (
        "M602",
        [{"step": "window", "last": 1}, {"step": "statistics", "measures": ["kurtosis"]}],
        "kurtosis needs 2 rows, there is 1",
    ),
    ("M602", [{"step": "fft_bands", "edges_hz": [0, 600]}], "a band up to 600.0 Hz needs more than 1000.0"),
    (
        "M602",
        [{"step": "envelope_spectrum", "carrier_hz": [1, 2], "edges_hz": [1, 2]}],
        "no line of the spectrum lies in carrier_hz: they are 15.625 Hz apart",
    ),
    ("M602", [{"step": "context", "tags": ["speed"]}], "the context has no speed; it has temp, recipe"),
    ("M602", [{"step": "context"}, {"step": "select", "drop": ["temp", "recipe"]}], "keeps nothing"),
    (
        "M602",
        [{"step": "context"}, {"step": "difference", "feature": "temp", "minus": "recipe"}],
        "temp is in °C, recipe in 1",
    ),
    (
        "M602",
        [{"step": "context"}, {"step": "normalise", "mean": [1], "scale": [1]}],
        "has numbers for 1 values, there are 2",
    ),
    ("M602", [LAST, {"step": "clip", "low": [1, 2]}], "has 2 limits, there are 1 values"),
    ("M603", [LAST, {"step": "normalise"}], "step 2 (normalise): has no mean and scale; fit the steps"),
    ("M603", [LAST, {"step": "clip", "quantiles": [0, 1]}], "has no low and high"),
    ("M603", [LAST, {"step": "one_hot", "feature": "last"}], "has no categories"),
]


@pytest.mark.parametrize(("code", "steps", "sentence"), REFUSED)
def test_what_cannot_be_computed_is_refused_with_the_number_of_the_step(
    code: str, steps: Steps, sentence: str
) -> None:
    with pytest.raises(ModelError) as refused:
        Chain(CAPTURE, steps)
    assert sentence in str(refused.value)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "step",
    [
        {"step": "fft_bands", "edges_hz": [0, 1]},
        {"step": "statistics", "measures": ["slope"]},
        {"step": "difference", "per_second": True},
        {"step": "resample", "rate_hz": 1},
    ],
)
def test_without_a_fixed_rate_nothing_is_said_about_time(step: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="needs samples at a fixed rate"):
        Chain(NO_RATE, [step])


def test_too_many_features_or_samples_are_refused_before_they_are_made() -> None:
    with pytest.raises(ModelError, match=f"{MAX_FEATURES} are the most"):
        Chain(Source(CAPTURE.channels, MAX_FEATURES + 1, 1.0), [{"step": "flatten"}])
    with pytest.raises(ModelError, match="the context has no tag; it has none"):
        Chain(NO_RATE, [{"step": "context"}])

    tags = tuple(Feature(f"t{number}", "m") for number in range(2_000))
    for step in (
        {"step": "fft_bands", "edges_hz": [*range(61)]},
        {"step": "statistics", "measures": ["rms"] * 51},
    ):
        with pytest.raises(ModelError, match=f"{MAX_FEATURES} are the most"):
            Chain(Source(tags, 256, 256.0), [step])
    with pytest.raises(ModelError, match="bands of 1000000 rows are more than are reckoned with"):
        Chain(Source(CAPTURE.channels, 1_000_000, 1e6), [{"step": "fft_bands", "edges_hz": [*range(20)]}])


def test_steps_that_need_more_memory_than_a_model_may_take_are_refused() -> None:
    many = [{"step": "detrend"}] * 40
    with pytest.raises(ModelError, match=r"step 26 \(detrend\): the steps up to here need more memory"):
        Chain(Source(CAPTURE.channels, 1_000_000, 1e6), [*many, LAST])


def test_names_of_features_hold_large_numbers_exactly() -> None:
    seen = [(np.ones(64, np.float32), (0.0, value)) for value in (1_234_567.0, 1_234_568.0, 0.5, 1e-7)]
    fitted = fit_steps(CAPTURE, [{"step": "context"}, {"step": "one_hot", "feature": "recipe"}], seen)
    wanted = ("temp", "recipe.1e-07", "recipe.0.5", "recipe.1234567", "recipe.1234568")
    assert Chain(CAPTURE, fitted).names == wanted


KEYS = [
    "measures",
    "edges_hz",
    "bands_hz",
    "carrier_hz",
    "rows",
    "rate_hz",
    "first",
    "last",
    "low",
    "high",
    "on",
    "features",
    "channels",
    "mean",
    "scale",
    "feature",
    "minus",
    "categories",
    "prefix",
    "drop",
]
anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.sampled_from(["rms", "signal", "temp", "recipe", "", "last", "linear", "\x00", "é"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=2),
    max_leaves=4,
)
tables = st.builds(
    lambda name, keys: {"step": name, **keys},
    st.sampled_from([*STEPS, "?"]),
    st.dictionaries(st.sampled_from(KEYS), anything, max_size=3),
)


@given(st.lists(tables, min_size=1, max_size=4))
def test_whatever_a_manifest_declares_is_computed_or_refused(steps: Steps) -> None:
    said = ""
    try:
        chain = Chain(CAPTURE, [LAST, {"step": "context"}, *steps])
    except ModelError as exc:
        said = f"{exc.code} {exc}"
    else:
        assert chain.extract(np.ones(64, np.float32), 1_000.0, (1.0, 2.0)).shape == (len(chain.names),)
    assert re.match(r"$|M60[0-3] step \d", said)


def test_a_long_list_of_names_is_told_shortly() -> None:
    many = Source(tuple(Feature(f"t{number}", "m") for number in range(20)), 1, 0.0)
    with pytest.raises(ModelError, match=r"is not one of t0, t1, t2, t3, t4, t5, t6, t7 and 12 more"):
        Chain(many, [{"step": "flatten"}, {"step": "select", "features": ["x"]}])


LIMITED = Source(CAPTURE.channels, 64, 1_000.0, CAPTURE.context, ((-5.0, 5.0), (15.0, 70.0), (-np.inf, 3.0)))


@pytest.mark.parametrize(
    ("level", "context", "sentence"),
    [
        (1.0, (20.0, 1.0), ""),
        (5.0, (70.0, -1e9), ""),
        (6.0, (20.0, 1.0), "the signal 6 m/s² is outside -5..5"),
        (-6.0, (20.0, 1.0), "the signal -6 m/s² is outside -5..5"),
        (1.0, (14.0, 1.0), "temp 14 °C is outside 15..70"),
        (1.0, (20.0, 4.0), "recipe 4 1 is outside -inf..3"),
    ],
)
def test_what_was_never_learned_is_named(level: float, context: tuple[float, float], sentence: str) -> None:
    chain = Chain(LIMITED, [LAST])
    waveform = np.zeros(64, np.float32)
    waveform[10] = level
    assert np.isfinite(chain.extract(waveform, 1_000.0, context)).all()
    assert chain.outside() == sentence
    chain.extract(np.zeros(64, np.float32), 1_000.0, (20.0, 1.0))
    assert chain.outside() == ""


def test_a_name_that_was_never_learned_is_told() -> None:
    steps: Steps = [{"step": "context"}, {"step": "one_hot", "feature": "recipe", "categories": [1, 2]}]
    chain = Chain(CAPTURE, steps)
    chain.extract(np.zeros(64, np.float32), 1_000.0, (20.0, 3.0))
    assert chain.outside() == "recipe 3 is none of the values it was shown"


def test_numbers_may_come_as_an_array_and_have_to_be_there() -> None:
    keys = Keys({"step": "x", "edges": np.array([1.0, 2.5])})
    assert keys.numbers("edges") == (1.0, 2.5)
    for take in (keys.number, keys.whole, keys.text):
        with pytest.raises(ModelError, match="size is missing"):
            take("size")


def test_more_categories_than_anybody_names_are_not_learned() -> None:
    seen = [(np.ones(64, np.float32), (0.0, float(number))) for number in range(1_001)]
    with pytest.raises(ModelError, match="recipe has 1001 values, 1000 are the most"):
        fit_steps(CAPTURE, [{"step": "context"}, {"step": "one_hot", "feature": "recipe"}], seen)

"""The parts of a manifest: what goes into a model, what proves it, and how old it may become."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

from edge_opcua.inference.manifesttable import Table

FEATURE_PATTERN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
FILE_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
SHA256_PATTERN: Final = re.compile(r"[0-9a-f]{64}")
STEPS_SET: Final = "steps/1"
"""Feature set of a model whose features are made by its own ``[[steps]]``."""
TAGS_SET: Final = "tags/1"
"""Feature set of a model whose features are its tags themselves, one after the other, oldest sample first."""
MAX_SAMPLES: Final = 10_000_000
MAX_TAGS: Final = 10_000
MAX_FEATURES: Final = 100_000
"""Columns of an input: each has a name, a unit and limits of its own."""
MAX_STEPS: Final = 100

Source = Literal["capture", "tags"]
Then = Literal["warn", "degrade", "fail_safe"]
_EARLIEST: Final = 1971
_LATEST: Final = 2200
"""Years in which a model may have been trained."""
_SOURCES: Final[tuple[Source, ...]] = ("capture", "tags")
_THENS: Final[tuple[Then, ...]] = ("warn", "degrade", "fail_safe")


@dataclass(frozen=True, slots=True)
class ModelTag:
    """One tag whose values the model is fed with.

    Args:
        name: Name by which a pipeline maps it, and by which steps ask for it.
        unit: Unit the model was trained with.
        low: Smallest value the model may judge, -inf without limit.
        high: Largest value the model may judge, inf without limit.
    """

    name: str
    unit: str
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class ModelFeature:
    """One column of the model's input.

    Args:
        name: Name of the feature; of a context tag its last part, e.g. ``die_temp`` for ``press/die_temp``.
        unit: Unit the model was trained with.
        context: Whether it is a context tag, not computed from the waveform.
        low: Smallest value the model may judge, -inf without limit; below, the verdict is NotDecidable.
        high: Largest value the model may judge, inf without limit.
    """

    name: str
    unit: str
    context: bool = False
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class Golden:
    """Stored samples with the answers the trainer got, and how far the box may be off.

    Args:
        file: Name of the ``.npz`` file in the model's folder.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        answer_atol: Absolute tolerance of answers, where it is another one: what computes in few bits rounds
            otherwise on another machine, its features do not. None: ``atol``.
    """

    file: str
    rtol: float
    atol: float
    answer_atol: float | None = None

    @property
    def of_answers(self) -> Golden:
        """The same, as it holds for answers."""
        return self if self.answer_atol is None else replace(self, atol=self.answer_atol, answer_atol=None)


@dataclass(frozen=True, slots=True)
class Profile:
    """How inputs and answers were distributed where the model was trained: what drift is measured against.

    Args:
        file: Name of the ``.npz`` file in the model's folder.
        sha256: Its SHA-256, lower-case hexadecimal.
    """

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Age:
    """How old the model may become, and what happens then.

    Args:
        trained_ns: When it was trained, UTC.
        max_days: Days after which it is too old; inf: it does not age.
        then: ``warn`` tells, ``degrade`` makes its results Uncertain, ``fail_safe`` gives none.
    """

    trained_ns: int
    max_days: float
    then: Then


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What the model is fed with, as the table ``[input]`` and ``[[tags]]`` say it.

    Args:
        name: Name of the model's one input tensor.
        source: ``capture``: a waveform and context tags; ``tags``: the last samples of some tags.
        feature_set: Name of the arithmetic that makes the features.
        tags: The tags in order; of a capture those that steps use as context.
        window: Samples of each tag; 1 for a capture.
        period_ms: Time from one sample to the next; None: a sample whenever the trigger changes.
        sample_count: Numbers of one input: samples of a waveform, or ``window`` times the tags.
        sample_rate_hz: Samples per second; 0 if they come at no fixed rate.
        waveform_unit: Unit of a waveform's samples; empty for tags.
        shape: How a row of features lies in the input tensor; empty: ``(1, features)``.
    """

    name: str
    source: Source
    feature_set: str
    tags: tuple[ModelTag, ...]
    window: int
    period_ms: float | None
    sample_count: int
    sample_rate_hz: float
    waveform_unit: str
    shape: tuple[int, ...]


def read_input(root: Table, *, has_steps: bool) -> ModelInput:
    """Take ``[input]`` and ``[[tags]]``.

    Raises:
        ModelError: A key is missing, unknown or wrong (M506).
    """
    table = root.table("input")
    source = table.choice("source", _SOURCES, default="capture")
    tags = tuple(_tag(entry) for entry in root.tables("tags", required=False))
    if len(tags) > MAX_TAGS:
        raise root.wrong("tags", f"are {len(tags)}, more than {MAX_TAGS}")
    refuse_twice(root, "tags", [tag.name for tag in tags])
    name, shape = table.text("name"), _shape(table)
    if source == "tags":
        made = _input_of_tags(table, root, name, shape, tags, has_steps=has_steps)
    else:
        made = _input_of_capture(table, root, name, shape, tags, has_steps=has_steps)
    table.end()
    return made


def _input_of_capture(
    table: Table,
    root: Table,
    name: str,
    shape: tuple[int, ...],
    tags: tuple[ModelTag, ...],
    *,
    has_steps: bool,
) -> ModelInput:
    if tags and not has_steps:
        raise root.wrong("tags", 'belong to input.source = "tags", or to [[steps]] that use them as context')
    rate_hz = table.number("sample_rate_hz")
    if rate_hz <= 0.0:
        raise table.wrong("sample_rate_hz", "is not above 0")
    return ModelInput(
        name=name,
        source="capture",
        feature_set=_feature_set(table, STEPS_SET if has_steps else None),
        tags=tags,
        window=1,
        period_ms=None,
        sample_count=table.whole("sample_count", high=MAX_SAMPLES),
        sample_rate_hz=rate_hz,
        waveform_unit=table.text("waveform_unit"),
        shape=shape,
    )


def _input_of_tags(
    table: Table,
    root: Table,
    name: str,
    shape: tuple[int, ...],
    tags: tuple[ModelTag, ...],
    *,
    has_steps: bool,
) -> ModelInput:
    if not tags:
        raise root.wrong("tags", 'is missing: input.source = "tags" names them, one [[tags]] each')
    window = table.whole("window", default=1, high=MAX_SAMPLES)
    period_ms = table.optional_number("period_ms")
    if period_ms is not None and not 0.0 < period_ms < math.inf:
        raise table.wrong("period_ms", "is not above 0")
    if window * len(tags) > MAX_SAMPLES:
        raise table.wrong("window", f"{window} samples of {len(tags)} tags are more than {MAX_SAMPLES}")
    return ModelInput(
        name=name,
        source="tags",
        feature_set=_feature_set(table, STEPS_SET if has_steps else TAGS_SET),
        tags=tags,
        window=window,
        period_ms=period_ms,
        sample_count=window * len(tags),
        sample_rate_hz=0.0 if period_ms is None else 1000.0 / period_ms,
        waveform_unit="",
        shape=shape,
    )


def _feature_set(table: Table, only: str | None) -> str:
    found = table.text("feature_set", default=only)
    if only is not None and found != only:
        raise table.wrong("feature_set", f'is "{found}"; what is declared here makes the features {only}')
    if only is None and found in {STEPS_SET, TAGS_SET}:
        raise table.wrong("feature_set", f'is "{found}" without the [[steps]] or the tags that make it')
    return found


def _tag(table: Table) -> ModelTag:
    tag = ModelTag(
        name=table.matching("name", FEATURE_PATTERN, "a name of a tag"),
        unit=table.text("unit"),
        low=table.number("low", default=-math.inf),
        high=table.number("high", default=math.inf),
    )
    table.end()
    require_order(table, tag.low, tag.high)
    return tag


def read_features(root: Table, fed: ModelInput) -> tuple[ModelFeature, ...]:
    """Take ``[[features]]``; where they follow from the tags they need not be written.

    Returns:
        The columns in order; none if only the steps can tell.

    Raises:
        ModelError: A key is missing, unknown or wrong (M506).
    """
    tables = root.tables("features", required=fed.feature_set not in {STEPS_SET, TAGS_SET})
    features = tuple(_feature(entry) for entry in tables)
    if max(len(features), fed.sample_count if fed.feature_set == TAGS_SET else 0) > MAX_FEATURES:
        raise root.wrong("features", f"are more than {MAX_FEATURES}")
    if not features and fed.feature_set == TAGS_SET:
        features = features_of(fed.tags, fed.window)
    refuse_twice(root, "features", [feature.name for feature in features])
    if any(first.context and not second.context for first, second in pairwise(features)):
        raise root.wrong("features", "has a context tag before a feature of the waveform")
    if fed.source == "tags" and any(feature.context for feature in features):
        raise root.wrong("features", 'has a context tag; with input.source = "tags" there is no context')
    if fed.feature_set == TAGS_SET and len(features) != fed.sample_count:
        raise root.wrong(
            "features",
            f"are {len(features)}; {len(fed.tags)} tags of {fed.window} samples make {fed.sample_count}",
        )
    return features


def features_of(tags: Sequence[ModelTag], window: int) -> tuple[ModelFeature, ...]:
    """Return the features that the last samples of some tags are, oldest first, tag by tag.

    Args:
        tags: The tags in order.
        window: Samples of each; of more than one the name says how old it is: ``level.t-2``, ``level.t-1``,
            ``level.t-0``.
    """
    return tuple(
        ModelFeature(tag.name if window == 1 else f"{tag.name}.t-{age}", tag.unit, low=tag.low, high=tag.high)
        for age in reversed(range(window))
        for tag in tags
    )


def _feature(table: Table) -> ModelFeature:
    feature = ModelFeature(
        name=table.matching("name", FEATURE_PATTERN, "a feature name"),
        unit=table.text("unit"),
        context=table.take("context", bool, default=False),
        low=table.number("low", default=-math.inf),
        high=table.number("high", default=math.inf),
    )
    table.end()
    require_order(table, feature.low, feature.high)
    return feature


def read_golden(root: Table) -> Golden:
    """Take ``[golden]``.

    Raises:
        ModelError: A key is missing, unknown or wrong (M506).
    """
    table = root.table("golden")
    golden = Golden(
        table.matching("file", FILE_PATTERN, "a plain file name"),
        table.number("rtol"),
        table.number("atol"),
        table.optional_number("answer_atol"),
    )
    table.end()
    limits = {"rtol": golden.rtol, "atol": golden.atol, "answer_atol": golden.of_answers.atol}
    for key, value in limits.items():
        if not 0.0 <= value < math.inf:  # with inf the samples would prove nothing
            raise table.wrong(key, f"is {value:g}, not a tolerance from 0")
    return golden


def read_profile(root: Table) -> Profile | None:
    """Take ``[profile]``, if there is one.

    Raises:
        ModelError: A key is missing, unknown or wrong (M506).
    """
    table = root.table("profile", required=False)
    if table is None:
        return None
    profile = Profile(
        table.matching("file", FILE_PATTERN, "a plain file name"),
        table.matching("sha256", SHA256_PATTERN, "64 lower-case hexadecimal digits"),
    )
    table.end()
    return profile


def read_age(root: Table) -> Age | None:
    """Take ``[age]``, if there is one.

    Raises:
        ModelError: A key is missing, unknown or wrong (M506).
    """
    table = root.table("age", required=False)
    if table is None:
        return None
    trained = table.moment("trained")
    if not _EARLIEST <= trained.year <= _LATEST:  # others have no place in what shows them
        raise table.wrong("trained", f"is in the year {trained.year}")
    max_days = table.number("max_days", default=math.inf)
    if max_days <= 0.0:
        raise table.wrong("max_days", "is not above 0")
    then = table.choice("then", _THENS, default="warn")
    table.end()
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return Age(int((trained - epoch) / dt.timedelta(microseconds=1)) * 1000, max_days, then)


def _shape(table: Table) -> tuple[int, ...]:
    sizes = table.take("shape", list, [])
    if not all(type(size) is int and 1 <= size <= MAX_SAMPLES for size in sizes):
        raise table.wrong("shape", f"is {sizes!r}, not a list of sizes such as [1, 20, 40]")
    if sizes and (len(sizes) < 2 or len(sizes) > 8 or sizes[0] != 1):
        raise table.wrong("shape", f"is {sizes!r}; it has 2 to 8 sizes and begins with 1, the one sample")
    return tuple(sizes)


def refuse_twice(root: Table, key: str, names: Sequence[str]) -> None:
    """Refuse a list that holds a name more than once.

    Raises:
        ModelError: It does (M506).
    """
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise root.wrong(key, f'has "{twice[0]}" twice')


def require_order(table: Table, low: float, high: float) -> None:
    """Refuse limits between which nothing lies.

    Raises:
        ModelError: They are (M506).
    """
    if not low < high:
        raise table.wrong("low", f"{low:g} is not below high = {high:g}")

"""What a model is fed with, and recordings of it."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.errors import ModelError
from edge_opcua.features.flow import Source
from edge_opcua.features.stroke import Feature
from edge_opcua.inference.manifest import ModelTag

Tag = ModelTag
_LISTS: Final = ("columns", "column_units", "context", "context_units")
"""Entries of ``about`` that are lists."""


@dataclass(frozen=True, slots=True)
class Capture:
    """Waveforms of a capture, and the tags beside it.

    Args:
        sample_count: Samples of one waveform.
        sample_rate_hz: Samples per second.
        unit: Unit of the samples.
        context: Tags that have one value for each waveform, by the name after the ``/``.
    """

    sample_count: int
    sample_rate_hz: float
    unit: str
    context: Sequence[Tag] = ()

    @property
    def source(self) -> Source:
        """The same for the steps."""
        waveform = (Feature("", self.unit),)
        context = tuple(Feature(tag.name, tag.unit) for tag in self.context)
        return Source(waveform, self.sample_count, float(self.sample_rate_hz), context)


@dataclass(frozen=True, slots=True)
class Tags:
    """The last samples of some tags.

    Args:
        tags: The tags in order.
        window: Samples of each.
        period_ms: Time from one sample to the next; None: a sample whenever something changes.
    """

    tags: Sequence[Tag]
    window: int = 1
    period_ms: float | None = None

    @property
    def source(self) -> Source:
        """The same for the steps."""
        rate_hz = 0.0 if self.period_ms is None else 1000.0 / self.period_ms
        return Source(tuple(Feature(tag.name, tag.unit) for tag in self.tags), self.window, rate_hz)


class Windows:
    """Recorded windows, in the order of time.

    Args:
        samples: Shape ``(n, sample_count)``, of tags ``(n, window, tags)`` or the same row after row; oldest
            sample first, in the units that the model shall know.
        context: Values of the context tags, shape ``(n, m)``; None where there are none.
        facts: What else is known of each window by name, ``n`` values each: labels, times, verdicts.

    Raises:
        ModelError: There are not as many of each (M605).

    Attributes:
        samples: Shape ``(n, sample_count)``.
        context: Shape ``(n, m)``.
        facts: Arrays by name, ``n`` values each.
    """

    def __init__(
        self,
        samples: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        facts: Mapping[str, npt.ArrayLike] | None = None,
    ) -> None:
        given = np.asarray(samples, np.float32)
        n = len(given)
        beside = np.empty((n, 0)) if context is None else np.asarray(context, np.float64)
        self.facts = {name: np.asarray(fact) for name, fact in (facts or {}).items()}
        if len(beside) != n or any(len(fact) != n for fact in self.facts.values()):
            raise ModelError(f"there are {n} windows, but not as many values beside each", code="M605")
        self.samples = given.reshape(n, math.prod(given.shape[1:]))
        self.context = beside.reshape(n, math.prod(beside.shape[1:]))

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]]:
        return zip(self.samples, self.context, strict=True)

    def __getitem__(self, chosen: slice | int | npt.NDArray[Any] | Sequence[int]) -> Windows:
        """Return some of them: a slice, a mask, or their numbers."""
        pick = chosen if isinstance(chosen, slice) else np.atleast_1d(np.asarray(chosen))
        facts = {name: fact[pick] for name, fact in self.facts.items()}
        return Windows(self.samples[pick], self.context[pick], facts)


def load_windows(path: Path | str, source: Capture | Tags | None = None) -> Windows:
    """Read windows from a ``.npz`` file, as ``edge-opcua model export-windows`` writes it.

    ``samples`` (or ``waveform``) and ``context`` are the windows; every further array with as many rows is
    one of the facts. ``about`` says which tags and units they have.

    Args:
        path: The file.
        source: What the model is fed with: tags are put into its order, and units, rate and size must be its.
            None, or a file without ``about``: as they are in the file.

    Raises:
        ModelError: The file is no such file, or holds other tags, units, rates or sizes (M605).
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        samples = arrays.pop("waveform") if "waveform" in arrays else arrays.pop("samples")
        about = json.loads(str(arrays.pop("about"))) if "about" in arrays else {}
    except (OSError, ValueError, LookupError, EOFError, RecursionError, zipfile.BadZipFile) as exc:
        raise ModelError(f"{path} holds no windows: {exc}", code="M605") from exc
    context = arrays.pop("context", None)
    _require_sound(path, samples, context, arrays, about)
    facts = {name: array for name, array in arrays.items() if array.ndim and len(array) == len(samples)}
    windows = Windows(samples, context, facts)
    if source is None or not about:
        return windows
    recorded = _Recorded(str(path), about)
    if isinstance(source, Capture):
        recorded.require("unit", about.get("unit"), source.unit)
        recorded.require("rate", about.get("sample_rate_hz"), float(source.sample_rate_hz))
        recorded.require("number of samples", windows.samples.shape[1], source.sample_count)
        order = recorded.order("context", source.context)
        return Windows(windows.samples, windows.context[:, order], windows.facts)
    order, count = recorded.order("columns", source.tags), max(1, len(about.get("columns", ())))
    recorded.require("number of rows", windows.samples.shape[1] / count, source.window)
    rows = windows.samples.reshape(len(windows), source.window, count)
    return Windows(rows[:, :, order], None, windows.facts)


def _require_sound(
    path: Path | str, samples: Any, context: Any, facts: Mapping[str, Any], about: Any
) -> None:
    """Refuse what only looks like windows (M605): anybody may have written the file."""
    numbers = [("samples", samples), *([] if context is None else [("context", context)])]
    for name, found in numbers:
        if not isinstance(found, np.ndarray) or found.ndim == 0 or found.dtype.kind not in "fiub":
            raise ModelError(f"{path} holds no windows: {name} are not rows of numbers", code="M605")
    strange = [name for name, found in facts.items() if not isinstance(found, np.ndarray)]
    if strange:
        raise ModelError(f"{path} holds no windows: {strange[0]} is no array", code="M605")
    lists = [about.get(key, []) for key in _LISTS] if isinstance(about, dict) else [None]
    if not all(isinstance(each, list) for each in lists):
        raise ModelError(
            f"{path} holds no windows: what it says about them is not what "
            "edge-opcua model export-windows writes",
            code="M605",
        )


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What a file says about its windows.

    Args:
        file: Its name, for messages.
        about: Lists of tags and of their units, by name.
    """

    file: str
    about: Mapping[str, Any]

    def require(self, what: str, found: object, wanted: object) -> None:
        """Refuse something else than the model shall be fed with (M605)."""
        if found != wanted:
            raise ModelError(f"{self.file}: the {what} is {found}, not {wanted}", code="M605")

    def order(self, key: str, tags: Sequence[Tag]) -> list[int]:
        """Return where each tag is in the file; by its name, with or without that of the device."""
        ids = [str(tag) for tag in self.about.get(key, ())]
        units = self.about.get("column_units" if key == "columns" else "context_units", ())
        places = {name.partition("/")[2] or name: number for number, name in enumerate(ids)}
        order = []
        for tag in tags:
            if tag.name not in places:
                there = ", ".join(places) or "none"
                raise ModelError(f"{self.file}: there is no tag {tag.name}, there is {there}", code="M605")
            place = places[tag.name]
            self.require(f"unit of {tag.name}", str(units[place]) if place < len(units) else "", tag.unit)
            order.append(place)
        return order

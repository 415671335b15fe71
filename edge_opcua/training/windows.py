"""What a model is fed with, and recordings of it."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_opcua.errors import ModelError
from edge_opcua.features.flow import Source
from edge_opcua.features.stroke import Feature
from edge_opcua.inference.manifest import ModelTag

Tag = ModelTag


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


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Recorded windows, in the order of time.

    Args:
        samples: Shape ``(n, sample_count)``, of tags ``(n, window, tags)`` or the same row after row; oldest
            sample first, in the units that the model shall know.
        context: Values of the context tags, shape ``(n, m)``; may be left out where there are none.
        facts: What else is known of each window by name, shape ``(n, …)`` each: labels, times, verdicts.
    """

    samples: npt.NDArray[np.float32]
    context: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    facts: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        samples = np.asarray(self.samples, np.float32)
        n = len(samples)
        context = np.asarray(self.context, np.float64)
        if not context.size:
            context = context.reshape(n, -1) if n and context.shape[:1] == (n,) else np.empty((n, 0))
        if len(context) != n or any(len(fact) != n for fact in self.facts.values()):
            raise ModelError(f"there are {n} windows, but not as many values beside each", code="M605")
        object.__setattr__(self, "samples", samples.reshape(n, math.prod(samples.shape[1:])))
        object.__setattr__(self, "context", context.reshape(n, math.prod(context.shape[1:])))

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]]:
        return zip(self.samples, self.context, strict=True)

    def __getitem__(self, chosen: slice | npt.NDArray[Any] | Sequence[int]) -> Windows:
        """Return some of them: a slice, a mask, or their numbers."""
        pick = chosen if isinstance(chosen, slice) else np.asarray(chosen)
        facts = {name: fact[pick] for name, fact in self.facts.items()}
        return Windows(self.samples[pick], self.context[pick], facts)


def load_windows(path: Path | str) -> Windows:
    """Read windows from a ``.npz`` file, as ``edge-opcua model export-windows`` writes it.

    ``samples`` (or ``waveform``) and ``context`` are the windows; every further array with as many rows is
    one of the facts.

    Raises:
        ModelError: The file is no such file (M605).
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        samples = arrays.pop("waveform") if "waveform" in arrays else arrays.pop("samples")
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile) as exc:
        raise ModelError(f"{path} holds no windows: {exc}", code="M605") from exc
    context = arrays.pop("context", np.empty((len(samples), 0)))
    facts = {name: array for name, array in arrays.items() if array.ndim and len(array) == len(samples)}
    return Windows(samples, context, facts)

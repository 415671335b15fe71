"""What a model judged, as it is kept: samples, the tags beside them, the verdict, and what a person said."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]
Statuses = npt.NDArray[np.uint32]

MAX_NOTE: Final = 500
"""Characters of what somebody writes beside an answer."""

_NO_FLOATS: Final[Floats] = np.empty(0, np.float32)
_NO_NUMBERS: Final[Numbers] = np.empty(0, np.float64)
_NO_STATUSES: Final[Statuses] = np.empty(0, np.uint32)


class Answer(enum.StrEnum):
    """What a person says a verdict was about."""

    REAL = "real"
    NORMAL = "normal"
    SENSOR_FAULT = "sensor_fault"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class WindowSource:
    """Where the windows of a pipeline come from, as it was configured when they were recorded.

    Args:
        pipeline: Name of the pipeline.
        capture: Public id of its capture; of a pipeline on plain tags, its own name.
        unit: Unit of the samples of a capture.
        sample_rate_hz: Samples per second of a capture; rows per second of tags.
        columns: Tags of a pipeline on plain tags by their names in the model, in the order of a row of
            samples; empty for a capture.
        column_tags: Their public ids.
        column_units: Their units.
        every_ms: Time between two rows; 0 if a trigger makes them.
        context: Public ids of the tags beside a capture.
        context_units: Their units.
    """

    pipeline: str
    capture: str
    unit: str = ""
    sample_rate_hz: float = 0.0
    columns: tuple[str, ...] = ()
    column_tags: tuple[str, ...] = ()
    column_units: tuple[str, ...] = ()
    every_ms: float = 0.0
    context: tuple[str, ...] = ()
    context_units: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Return it as the store keeps it."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def of_text(cls, text: str) -> WindowSource:
        """Return what :attr:`text` was made of.

        Raises:
            ValueError: It is something else.
        """
        try:
            given = json.loads(text)
            lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
            return cls(**{**given, **lists})
        except (TypeError, AttributeError) as exc:
            raise ValueError(f"this is no source of windows: {exc}") from exc


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One window with what became of it.

    Args:
        source: Where it comes from.
        result_id: Identity of the result.
        stroke: Number of the stroke, or of the window of tags.
        captured_ns: When it was captured, ns UTC; of a PLC that stamps its captures, by its clock.
        verdict: The verdict then, a number of :class:`edge_opcua.core.values.Verdict`.
        status: StatusCode of what came out of the model.
        fail_safe: Whether the verdict was the fail-safe one: nothing was judged.
        score: Score then; NaN if there was none.
        confidence: Confidence then; NaN if there was none.
        label: Class that the model named; empty if it names none.
        reason: Why, as it was told.
        model: Name of the model that judged.
        version: Its version.
        total_ms: From the capture to the verdict.
        judged_ns: When the verdict was given, ns UTC.
        features: What the model was given, shape ``(k,)``; empty if nothing was computed.
        context: Values of the tags beside it, shape ``(m,)``; NaN where the status is Bad.
        context_status: Their effective StatusCodes, shape ``(m,)``.
        samples: The samples as they were on the bus, shape ``(n,)``; rows of tags lie one after the other.
        sample_status: Their StatusCode.
        id: Number of the row in the store; 0 before it is there.
        answer: What somebody said of the verdict; None: nobody did.
        note: What he wrote beside it.
        who: Who that was.
        answered_ns: When, ns UTC.
    """

    source: WindowSource
    result_id: int
    stroke: int
    captured_ns: int
    verdict: int
    status: int = 0
    fail_safe: bool = False
    score: float = math.nan
    confidence: float = math.nan
    label: str = ""
    reason: str = ""
    model: str = ""
    version: int = 0
    total_ms: float = math.nan
    judged_ns: int = 0
    features: Floats = field(default_factory=lambda: _NO_FLOATS)
    context: Numbers = field(default_factory=lambda: _NO_NUMBERS)
    context_status: Statuses = field(default_factory=lambda: _NO_STATUSES)
    samples: Floats = field(default_factory=lambda: _NO_FLOATS)
    sample_status: int = 0
    id: int = 0
    answer: Answer | None = None
    note: str = ""
    who: str = ""
    answered_ns: int = 0

    @property
    def pipeline(self) -> str:
        """Name of the pipeline."""
        return self.source.pipeline

    @property
    def size_bytes(self) -> int:
        """About what it takes on disk."""
        arrays = self.samples.nbytes + self.features.nbytes + self.context.nbytes + self.context_status.nbytes
        return arrays + len(self.label) + len(self.reason) + len(self.model) + 120

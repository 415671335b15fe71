"""The report of a search: every variant that was tried, what it lost and gained, and which one was chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_opcua.compress.making import Device
from edge_opcua.compress.measure.timing import Timing
from edge_opcua.compress.plain import plain, read
from edge_opcua.compress.task import Comparison
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Samples:
    """What samples were used.

    Args:
        count: How many.
        origin: Where they come from, for people.
        truth: What is true of them: ``none``, ``labels``, ``targets``.
        sha256: Of rows and truth; empty if unknown.
    """

    count: int
    origin: str
    truth: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One variant.

    Args:
        variant: What it is.
        notes: What making it came to.
        failure: Why it could not be made, run or measured; empty if it could.
        file: Its file, in the folder of the search; empty if there is none.
        sha256: Of its file.
        size_bytes: Size of its file; 0 if there is none.
        saved: Share of the original's size that it saves; below 0 if it is larger.
        comparison: What it lost on the samples of the gate; None if it was not compared.
        timing: What it takes beside the original; None if it was not measured.
        place: Its place in the order of the gate, from 1; 0 if it could not be chosen, whatever it lost.
        on_front: Whether no other variant is better in one respect and as good in all others.
        is_chosen: Whether it is the one to use.
        reasons: Why it was not chosen, or was; one sentence each.
    """

    variant: Variant
    notes: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""
    file: str = ""
    sha256: str = ""
    size_bytes: int = 0
    saved: float = 0.0
    comparison: Comparison | None = None
    timing: Timing | None = None
    place: int = 0
    on_front: bool = False
    is_chosen: bool = False
    reasons: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the variant."""
        return self.variant.name

    @property
    def is_proved(self) -> bool:
        """Whether its loss is proved to be within what is accepted."""
        return self.comparison is not None and self.comparison.verdict == "proved"

    @property
    def is_usable(self) -> bool:
        """Whether it may run instead of the original: proved in its place, and measured to be not slower."""
        return (
            self.place > 0 and self.is_proved and self.timing is not None and self.timing.verdict != "slower"
        )


@dataclass(frozen=True, slots=True)
class Original:
    """The model as it was handed over.

    Args:
        name: What it is called: ``press-autoencoder/1``, or the name of its file.
        sha256: Of its file.
        size_bytes: Size of its file.
        p50_us: Median of a run with one sample, µs; NaN if nothing was measured.
        p99_us: 99th percentile, µs.
        memory_mb: What a process grows by that loads and runs it, MB.
        load_ms: What loading it takes, ms.
    """

    name: str
    sha256: str
    size_bytes: int
    p50_us: float
    p99_us: float
    memory_mb: float
    load_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a search.

    Args:
        original: The model that was handed over.
        task: What it is for: ``labels``, ``score``, ``value``, ``reconstruction``, ``verdict`` …
        outputs: Outputs that were looked at.
        device: What was measured on.
        runtime: What ran the models: ``onnxruntime 1.31.1``.
        threads: Threads of one run.
        program: Version of this program.
        seed: Of everything that drew numbers.
        gate: Samples that decided; nothing else was done with them.
        calibration: Samples that the variants were made with.
        training: Samples that were trained with; None if there were none.
        rows: The variants, in the order in which they were tried.
        chosen: Name of the variant to use; None: the original stays.
        reasons: Why; one sentence each.
        findings: What the checks of the file said before the search.
        created: When it was done, UTC, as RFC 3339.
        took_s: What it took altogether, s.
        format: Of the JSON.
    """

    original: Original
    task: str
    outputs: tuple[str, ...]
    device: Device
    runtime: str
    threads: int
    program: str
    seed: int
    gate: Samples
    calibration: Samples
    training: Samples | None
    rows: tuple[Row, ...]
    chosen: str | None
    reasons: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    created: str = ""
    took_s: float = 0.0
    format: int = FORMAT

    @property
    def chosen_row(self) -> Row | None:
        """The variant to use; None if the original stays."""
        return next((row for row in self.rows if row.name == self.chosen), None)

    def text(self) -> str:
        """Return it as JSON, the same report the same text."""
        return json.dumps(plain(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_report(path: Path) -> Report:
    """Return a report that was written as JSON.

    Raises:
        ModelError: The file cannot be read, is no report, or one of a newer program (M685).
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        if isinstance(found, dict) and found.get("format", FORMAT) != FORMAT:
            raise ModelError(
                f"{path} is a report of format {found['format']}; this program reads {FORMAT}", code="M685"
            )
        return read(Report, found)
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path} is not a report of a compression: {exc}", code="M685") from exc

"""What a variant took beside the original, on one machine, in one process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Speed = Literal["faster", "as fast", "slower"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a variant and of the original that ran in turns with it; ratios below 1 are in its favour.

    Args:
        p50_us: Median of a run of the variant with one sample, µs.
        p99_us: 99th percentile of it, µs.
        original_p50_us: Median of the original beside it, µs.
        original_p99_us: 99th percentile of it, µs.
        ratio: Median of the variant over that of the original, in pairs; mean of several loads of both.
        ratio_low: Lower end of its 95 % interval.
        ratio_high: Upper end.
        p99_ratio: The same of the 99th percentiles.
        p99_low: Lower end of its 95 % interval; 0 if there were too few runs to tell.
        p99_high: Upper end; infinite if there were too few.
        runs: Runs of each that count.
        memory_mb: What a process grows by that loads the variant and runs it, MB (2**20 bytes).
        original_memory_mb: The same of the original.
        load_ms: What loading the variant takes, ms.
        original_load_ms: The same of the original.
        size_bytes: Size of the variant's file.
        original_size_bytes: Size of the original's.
        verdict: Whether it is faster; see :mod:`edge_opcua.compress.measure.ratio`.
        provider: Execution provider that ran both, as ONNX Runtime calls it.
        threads: Threads of one run.
    """

    p50_us: float
    p99_us: float
    original_p50_us: float
    original_p99_us: float
    ratio: float
    ratio_low: float
    ratio_high: float
    p99_ratio: float
    p99_low: float
    p99_high: float
    runs: int
    memory_mb: float
    original_memory_mb: float
    load_ms: float
    original_load_ms: float
    size_bytes: int
    original_size_bytes: int
    verdict: Speed
    provider: str
    threads: int

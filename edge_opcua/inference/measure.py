"""What a run of a model takes on this machine, by number of samples: measured when it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.errors import ModelError
from edge_opcua.inference.loaded import CANCELLED, Floats, LoadedModel, ModelBinding

_log = structlog.get_logger(__name__)

MOST_MEASURED: Final = 32
"""Larger batches are not measured, and so not made."""
BUDGET_NS: Final = 500_000_000
"""No larger batch is measured once this time is over."""
WARM_UP_RUNS: Final = 5
"""Runs of each number of samples before the first that counts: the first takes up to eight times as long."""
_WARM_UP_NS: Final = 50_000_000
_SAMPLES: Final = 100
_LEAST_SAMPLES: Final = 5
_SAMPLES_NS: Final = 60_000_000
_TRIES: Final = 3
_CALM: Final = 4.0
"""Runs were disturbed if the longest took more than so many times the median."""
_GAIN: Final = 0.95
"""A larger batch gains something if a sample in it takes at most this share of what it took before."""


def measure(
    model: LoadedModel, clock: Clock, most: int = 1, *, sample: Floats | None = None
) -> dict[int, list[int]]:
    """Run a model with 1, 2, 4 … samples until a larger batch gains nothing, or takes too long to try.

    Args:
        model: The model; its bindings of worker 0 are made and warm afterwards.
        clock: Clock.
        most: Largest batch wanted.
        sample: What it is run on, shape ``(size,)``; a model may take longer for one sample than for another.
            None: numbers of no meaning.

    Returns:
        How long the runs took, in ns, by number of samples; always with 1.

    Raises:
        ModelError: A run with one sample failed (M532), or a run was cancelled (M535). A larger batch that
            fails, for want of memory or because the model is not what its axes say, is not offered.
    """
    started_ns = clock.monotonic_ns()
    found: dict[int, list[int]] = {}
    least, without_gain = np.inf, 0
    for batch in _sizes(min(most, model.most, MOST_MEASURED)):
        try:
            took = _calm_runs(model.bind(batch), clock, sample)
        except ModelError as exc:
            if batch == 1 or exc.code == CANCELLED:
                raise
            _log.warning("model.batch_refused", model=model.key, batch=batch, error=str(exc))
            break
        found[batch] = took
        each = float(np.median(took)) / batch
        without_gain = 0 if each <= least * _GAIN else without_gain + 1
        least = min(least, each)
        to_come_ns = 2 * float(np.median(took)) * (_LEAST_SAMPLES + 2)
        if without_gain == 2 or clock.monotonic_ns() - started_ns + to_come_ns > BUDGET_NS:
            break
    return found


def quantiles_us(samples_ns: list[int]) -> tuple[float, float]:
    """Return median and 99th percentile in µs."""
    samples = np.array(samples_ns) / 1e3
    return float(np.percentile(samples, 50)), float(np.percentile(samples, 99))


def _sizes(most: int) -> Iterator[int]:
    """Yield 1, 2, 4 … and the most itself."""
    size = 1
    while size < most:
        yield size
        size *= 2
    yield most


def _calm_runs(binding: ModelBinding, clock: Clock, sample: Floats | None) -> list[int]:
    """Return how long runs took in the calmest of a few tries.

    Models are loaded while everything else starts too. What that does to one run is no property of the model,
    and of a large batch it would be believed until it happens to run again.
    """
    calmest = _runs(binding, clock, sample)
    for _ in range(_TRIES - 1):
        if max(calmest) <= _CALM * float(np.median(calmest)):
            break
        calmest = min(calmest, _runs(binding, clock, sample), key=max)
    return calmest


def _runs(binding: ModelBinding, clock: Clock, sample: Floats | None) -> list[int]:
    """Return how long runs took, the first ones left out."""
    if sample is None:
        sample = np.random.default_rng(7).uniform(-1.0, 1.0, binding.rows.shape).astype(np.float32)
    binding.rows[:] = sample
    started_ns = clock.monotonic_ns()
    for run in range(WARM_UP_RUNS):
        binding.binding.run()
        if run and clock.monotonic_ns() - started_ns > _WARM_UP_NS:
            break
    times: list[int] = []
    started_ns = before_ns = clock.monotonic_ns()
    while len(times) < _SAMPLES:
        binding.binding.run()
        now_ns = clock.monotonic_ns()
        times.append(now_ns - before_ns)
        before_ns = now_ns
        if len(times) >= _LEAST_SAMPLES and now_ns - started_ns > _SAMPLES_NS:
            break
    return times

"""A process that keeps a core busy with batches of some 30 ms, one after the other, as a neighbour would."""

from __future__ import annotations

import os
import select
import statistics
import sys
import time
from typing import Final

from edge_opcua.bench.inference.models import BenchModel, Floats
from edge_opcua.bench.opcua.remote import lines, say
from edge_opcua.inference.loaded import LoadedModel, ModelBinding

BATCH_MS: Final = 30.0
_TRIES: Final = 5


class Burner:
    """Runs of one model that take some 30 ms.

    Args:
        model: The model; as many samples are run at once as take that long.
        sample: One sample.
    """

    def __init__(self, model: LoadedModel, sample: Floats) -> None:
        single_ms = self._median_ms(model.bind(1), sample)
        count = max(1, round(BATCH_MS / single_ms))
        self._binding = model.bind(count)
        self._sample = sample
        self.batch_ms = self._median_ms(self._binding, sample)

    def run(self) -> None:
        """Run once; the interpreter is free meanwhile."""
        self._binding.judge(self._sample)

    @staticmethod
    def _median_ms(binding: ModelBinding, sample: Floats) -> float:
        binding.rows[:] = sample
        took = []
        for _ in range(_TRIES):
            began_ns = time.perf_counter_ns()
            binding.judge(sample)
            took.append((time.perf_counter_ns() - began_ns) / 1e6)
        return statistics.median(took)


def main() -> None:
    """Work until the input ends."""
    given = lines()()
    assert given is not None
    model = BenchModel.from_json(given["model"])
    burner = Burner(model.load(), model.sample())
    os.nice(given["nice"])
    say({"batch_ms": burner.batch_ms})
    while not select.select([sys.stdin], [], [], 0)[0]:
        burner.run()


if __name__ == "__main__":
    main()

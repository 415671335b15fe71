"""Times a variant beside the original, both in one process of their own; this module is its program too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.making import Progress
from edge_opcua.compress.measure.answers import LONG_SILENCE_S, SILENCE_S
from edge_opcua.compress.measure.ratio import ROUNDS, Ratios, Times, ratios, speed
from edge_opcua.compress.measure.session import Bound, Session
from edge_opcua.compress.measure.timing import Timing
from edge_opcua.compress.measure.weigh import Weight, weigh
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.collector import paused
from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import Step, answer_with, ask_apart, tell
from edge_opcua.inference.probe import sentence

BUDGET_S: Final = 3.0
LEAST_BLOCKS: Final = 3
"""Blocks of a round that are measured whatever they take."""
MOST_BLOCKS: Final = 60
"""Blocks after which a round tells nothing new."""
_NAMES: Final = ("original", "variant")
_STRETCH_NS: Final = 1_500_000
"""About how long one model runs before the other one has its turn."""
_MOST_IN_STRETCH: Final = 100
_LONG_RUN_NS: Final = 10_000_000
"""From here on the first run after the other model's turn counts too: it is not shorter than the others."""
_WARM_UP_NS: Final = 200_000_000
_WARM_UP_RUNS: Final = 30
_LEAST_WARM_UP: Final = 3
_TELL_NS: Final = 250_000_000


def time_pair(  # noqa: PLR0913 - every one changes the figures
    original: Path,
    variant: Path,
    rows: Path,
    *,
    input_name: str,
    provider: str = "cpu",
    threads: int = 1,
    budget_s: float = BUDGET_S,
    weights: tuple[Weight, Weight] | None = None,
    progress: Progress | None = None,
) -> Timing:
    """Return what a variant takes beside the original, one sample per run, as the server runs it.

    Args:
        original: ONNX file of the original.
        variant: ONNX file of the variant.
        rows: ``.npy`` of samples, float32, shape ``(n, …)``; both run on the same ones.
        input_name: Their one input.
        provider: What shall run both; nothing else does.
        threads: Threads of one run.
        budget_s: Time for the runs that count, s; slow models take what the least blocks take.
        weights: What original and variant take by themselves; None: they are weighed too.
        progress: Gets the share that is done.

    Raises:
        ModelError: As :func:`edge_opcua.compress.measure.answers.answers_of`.
    """

    def told(step: Step) -> None:
        if progress is not None and "share" in step:
            progress(float(step["share"]), f"round {step['round']} of {ROUNDS}")

    common: dict[str, Any] = {"input_name": input_name, "provider": provider, "threads": threads}
    before, after = weights or (weigh(original, rows, **common), weigh(variant, rows, **common))
    request = common | {
        "original": str(original.resolve()),
        "variant": str(variant.resolve()),
        "rows": str(rows.resolve()),
        "budget_s": budget_s,
    }
    within_s = SILENCE_S.get(provider.lower(), LONG_SILENCE_S)
    found = ask_apart(__name__, request, within_s=within_s, progress=told, while_it_tells=True)
    return _timing(found, before, after, threads)


def _timing(answered: Step, before: Weight, after: Weight, threads: int) -> Timing:
    found = Ratios(**answered["ratios"])
    original_load_ms, load_ms = map(float, answered["load_ms"])
    return Timing(
        p50_us=found.p50,
        p99_us=found.p99,
        original_p50_us=found.original_p50,
        original_p99_us=found.original_p99,
        ratio=found.ratio,
        ratio_low=found.low,
        ratio_high=found.high,
        p99_ratio=found.p99_ratio,
        p99_low=found.p99_low,
        p99_high=found.p99_high,
        runs=found.runs,
        memory_mb=after.memory_mb,
        original_memory_mb=before.memory_mb,
        load_ms=load_ms,
        original_load_ms=original_load_ms,
        size_bytes=after.size_bytes,
        original_size_bytes=before.size_bytes,
        verdict=speed(found),
        provider=str(answered["provider"]),
        threads=threads,
    )


def answer(request: Mapping[str, Any], clock: Clock | None = None) -> Step:
    """Run both models in this process; see :func:`time_pair`.

    Args:
        request: ``original``, ``variant``, ``rows``, ``input_name``, ``provider``, ``threads``, ``budget_s``.
        clock: For the times.

    Returns:
        ``ratios``: the times in µs; ``load_ms`` of original and variant; ``provider``: what ran them.
    """
    rounds = Rounds(request, clock or SystemClock())
    try:
        with paused():
            original, variant = rounds.measure()
    except ModelError:
        raise
    except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
        raise ModelError(f"the model failed: {sentence(exc)}", code="M532") from exc
    return {
        "ratios": asdict(ratios(original, variant)),
        "load_ms": rounds.load_ms(),
        "provider": rounds.provider,
    }


class Rounds:
    """Loads both models several times and lets them run in turns each time.

    Args:
        request: What is asked for.
        clock: For the times.
    """

    def __init__(self, request: Mapping[str, Any], clock: Clock) -> None:
        self._request = request
        self._rows: Rows = np.load(request["rows"], mmap_mode="r", allow_pickle=False)
        self._clock = clock
        self._budget_ns = max(1.0, float(request["budget_s"]) * 1e9) / ROUNDS
        self._loads_ns: dict[str, list[int]] = {name: [] for name in _NAMES}
        self.provider = ""

    def measure(self) -> tuple[list[Times], list[Times]]:
        """Return the times of both by round, µs, each of shape (blocks, runs)."""
        found: list[tuple[Times, Times]] = []
        loaded: dict[str, Bound] = {}
        for number in range(ROUNDS):
            if not self._loads_slowly():
                loaded.clear()
                for name in _NAMES if number % 2 == 0 else reversed(_NAMES):
                    loaded[name] = self._load(name)
            pair = _Pair(loaded["original"], loaded["variant"], self._rows, self._clock)
            found.append(pair.measure(self._budget_ns))
            tell({"share": (number + 1) / ROUNDS, "round": number + 1})
        return [original for original, _ in found], [variant for _, variant in found]

    def load_ms(self) -> list[float]:
        """Return the median time to load original and variant, ms."""
        return [float(np.median(self._loads_ns[name])) / 1e6 for name in _NAMES]

    def _loads_slowly(self) -> bool:
        """Return whether loading both anew takes longer than a round; engines are built for minutes."""
        return sum(times[-1] for times in self._loads_ns.values() if times) > self._budget_ns

    def _load(self, name: str) -> Bound:
        request, started_ns = self._request, self._clock.monotonic_ns()
        session = Session(
            Path(request[name]),
            provider=request["provider"],
            input_name=request["input_name"],
            shape=self._rows.shape[1:],
            threads=int(request["threads"]),
        )
        self._loads_ns[name].append(self._clock.monotonic_ns() - started_ns)
        self.provider = session.provider
        tell({"loaded": name})
        return session.bound()


@dataclass(frozen=True, slots=True)
class _Turn:
    """One model's part of every block.

    Args:
        runs: Runs that count before the other one has its turn.
        settle: Runs before them that do not: the other one has emptied the caches.
    """

    runs: int
    settle: int


class _Pair:
    """Two models that run in turns.

    Args:
        original: The original, on its buffers.
        variant: The variant, on its buffers.
        rows: What both are fed with, in the same order.
        clock: For the times.
    """

    def __init__(self, original: Bound, variant: Bound, rows: Rows, clock: Clock) -> None:
        self._original = original
        self._variant = variant
        self._rows = rows
        self._clock = clock
        self._at = 0

    def measure(self, budget_ns: float) -> tuple[Times, Times]:
        """Return the times of both in µs, each of shape (blocks, runs)."""
        turn = self._turn()
        originals: list[list[int]] = []
        variants: list[list[int]] = []
        started_ns = told_ns = self._clock.monotonic_ns()
        while len(originals) < MOST_BLOCKS:
            now_ns = self._clock.monotonic_ns()
            if len(originals) >= LEAST_BLOCKS and now_ns - started_ns > budget_ns:
                break
            if now_ns - told_ns > _TELL_NS:
                told_ns = now_ns
                tell({"blocks": len(originals)})
            first, second = self._rows_of(turn), self._rows_of(turn)
            original = self._run(self._original, first, turn)
            variants.append(self._run(self._variant, first, turn) + self._run(self._variant, second, turn))
            originals.append(original + self._run(self._original, second, turn))
        return np.array(originals) / 1e3, np.array(variants) / 1e3

    def _turn(self) -> _Turn:
        """Warm both up, and return how long a turn shall be, so that the slower one takes about 1.5 ms."""
        slower_ns = max(self._warm_up(self._original), self._warm_up(self._variant))
        runs = int(min(_MOST_IN_STRETCH, max(1, _STRETCH_NS // max(1, slower_ns))))
        return _Turn(runs, 0 if slower_ns > _LONG_RUN_NS else 1)

    def _warm_up(self, model: Bound) -> int:
        times: list[int] = []
        while len(times) < _WARM_UP_RUNS:
            times += self._run(model, self._rows_of(_Turn(1, 0)), _Turn(1, 0))
            if len(times) >= _LEAST_WARM_UP and sum(times) > _WARM_UP_NS:
                break
        return int(np.median(times))

    def _rows_of(self, turn: _Turn) -> list[int]:
        count = turn.runs + turn.settle
        found = [(self._at + number) % len(self._rows) for number in range(count)]
        self._at = (self._at + turn.runs) % len(self._rows)
        return found

    def _run(self, model: Bound, numbers: list[int], turn: _Turn) -> list[int]:
        """Return how long the runs took that count, ns; writing the sample is not part of it."""
        times: list[int] = []
        now = self._clock.monotonic_ns
        for number in numbers:
            model.feed(self._rows[number])
            started_ns = now()
            model.run()
            times.append(now() - started_ns)
        return times[turn.settle :]


if __name__ == "__main__":
    answer_with(answer)

"""The engine with workers: real models in real threads, preempted, overrunning, hanging, failing."""

from __future__ import annotations

import select
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua.core.clock import SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference import overrun
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.loaded import Floats, LoadedModel
from edge_opcua.inference.overrun import Hung
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Fate, LaneClass, Request
from tests.inference import enginemodels as models
from tests.inference.test_engine import MS, costs_of

CLOCK = SystemClock()
FOR_EVER = 1e12
PATIENCE_S = 10.0


def request(
    model: str,
    row: Sequence[float] = (1, 1, 1, 1),
    *,
    within_s: float = 5.0,
    lane: LaneClass = LaneClass.REALTIME,
) -> Request:
    now_ns = CLOCK.monotonic_ns()
    return Request(model, lane, now_ns, now_ns + round(within_s * 1e9), np.array(row, np.float32))


@contextmanager
def running(
    *served: LoadedModel,
    costs: CostTable | None = None,
    workers: int = 1,
    on_hung: Callable[[Hung], None] | None = None,
) -> Iterator[Engine]:
    """Run an engine in threads; every cost is 1 ms unless a test says otherwise."""
    keys = [model.key for model in served]
    engine = Engine(
        dict(zip(keys, served, strict=True)),
        costs or costs_of(*keys, gain=True),
        CLOCK,
        workers=workers,
        most=dict.fromkeys(keys, 8),
        on_hung=on_hung,
    )
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


def wait_for(engine: Engine, count: int) -> list[Request]:
    """Fetch what has ended as the loop of a lane does, by the descriptor."""
    assert engine.fd is not None
    ended: list[Request] = []
    while len(ended) < count:
        readable, _, _ = select.select([engine.fd], [], [], PATIENCE_S)
        assert readable, f"{len(ended)} of {count} came back"
        ended += engine.turn()
    return ended


def begun(engine: Engine, model: str) -> None:
    """Wait until a run of a model is in progress."""
    pause = threading.Event()
    for _ in range(1_000):
        if any(run is not None and run.model == model for run in engine._watch.current):
            pause.wait(0.01)
            return
        pause.wait(0.005)
    raise AssertionError(f"{model} does not run")


@pytest.mark.parametrize("workers", [1, 3])
def test_every_request_comes_back_once_with_its_own_answers(tmp_path: Path, workers: int) -> None:
    served = [models.doubling(tmp_path, f"double/{n}") for n in range(3)]
    with running(*served, workers=workers) as engine:
        asked = [request(f"double/{n % 3}", [n, n, n, n]) for n in range(300)]
        for each in asked:
            assert engine.submit(each)
        ended = wait_for(engine, len(asked))
        assert engine.fd is not None
        assert select.select([engine.fd], [], [], 0.0)[0] == []
        assert engine.turn() == []
    assert sorted(map(id, ended)) == sorted(map(id, asked))
    for n, each in enumerate(asked):
        assert each.fate is Fate.DONE
        assert each.ran == f"double/{n % 3}"
        assert each.answers["y"].tolist() == [2.0 * n] * 4
    assert max(each.batch for each in asked) > 1


def test_best_effort_is_cancelled_for_a_request_that_would_be_late_and_runs_again(tmp_path: Path) -> None:
    slow, quick = models.turning(tmp_path), models.doubling(tmp_path)
    costs = costs_of(slow.key, cost_ns=4_000 * MS)
    costs.seed(quick.key, 1, [MS] * 20)
    with running(slow, quick, costs=costs) as engine:
        below = request(slow.key, [200_000] * 4, within_s=5.2, lane=LaneClass.BEST_EFFORT)
        assert engine.submit(below)
        begun(engine, slow.key)
        above = request(quick.key, within_s=1.0)
        assert engine.submit(above)
        assert wait_for(engine, 2) == [above, below]
        assert engine.load().preempted == 1
    assert (above.fate, above.preempted) == (Fate.DONE, 0)
    assert (below.fate, below.preempted) == (Fate.DONE, 1)
    assert np.isfinite(below.answers["y"]).all()


def test_a_run_without_end_is_cancelled_and_the_model_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overrun, "SHORTEST_NS", 150 * MS)
    model, other = models.turning(tmp_path), models.doubling(tmp_path)
    with running(model, other) as engine:
        endless = request(model.key, [FOR_EVER] * 4)
        assert engine.submit(endless)
        assert wait_for(engine, 1) == [endless]
        assert (endless.fate, endless.code) == (Fate.FAILED, "M541")
        assert "may not take so long" in endless.reason
        for good in (request(model.key, [2, 2, 2, 2]), request(other.key)):
            assert engine.submit(good)
            assert wait_for(engine, 1) == [good]
            assert good.fate is Fate.DONE


def test_judging_without_end_is_cancelled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The safety lane runs in its own thread; only another one can end its run.
    monkeypatch.setattr(overrun, "SHORTEST_NS", 150 * MS)
    model = models.turning(tmp_path)
    engine = Engine({model.key: model}, costs_of(model.key), CLOCK)
    engine.start()
    for row, fate in ((FOR_EVER, Fate.FAILED), (2.0, Fate.DONE), (FOR_EVER, Fate.FAILED)):
        asked = request(model.key, [row] * 4, lane=LaneClass.SAFETY)
        engine.judge(asked)
        assert asked.fate is fate
        assert asked.code == ("M541" if fate is Fate.FAILED else "")
    engine.close()


class Backend:
    """A backend whose runs do what a test says, in the worker's thread."""

    most = 1
    batch = 1

    def __init__(self, act: Callable[[], None], *, provider: str = "test") -> None:
        self.inputs: Mapping[str, Floats] = {"x": np.zeros((1, 4), np.float32)}
        self.outputs: Mapping[str, Floats] = {"y": np.zeros((1, 4), np.float32)}
        self.cancels = 0
        self._act = act
        self._provider = provider

    def bind(self, batch: int = 1) -> Backend:
        assert batch == 1
        return self

    def run(self) -> None:
        self._act()

    def cancel(self) -> None:
        self.cancels += 1

    def describe(self) -> Mapping[str, Any]:
        return {"provider": self._provider}


def _wait(event: threading.Event) -> None:
    event.wait(PATIENCE_S)


def acting(act: Callable[[], None], *, provider: str = "test") -> tuple[LoadedModel, Backend]:
    backend: Any = Backend(act, provider=provider)
    return LoadedModel("act/1", backend, "x", 4), backend


def test_a_run_that_cannot_be_cancelled_is_told_and_closing_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overrun, "SHORTEST_NS", 20 * MS)
    monkeypatch.setattr(overrun, "GRACE_NS", 100 * MS)
    monkeypatch.setattr("edge_opcua.inference.engine.CLOSE_S", 0.1)
    release, told = threading.Event(), threading.Event()
    hung: list[Hung] = []

    def tell(found: Hung) -> None:
        hung.append(found)
        told.set()

    model, backend = acting(lambda: _wait(release))
    with running(model, on_hung=tell) as engine:
        assert engine.submit(request(model.key))
        assert told.wait(PATIENCE_S)
        (found,) = hung
        assert (found.model, found.code) == (model.key, "M542")
        assert backend.cancels >= 1
    release.set()


def test_whatever_a_backend_raises_fails_its_request_only() -> None:
    def raising() -> None:
        raise KeyError("of a foreign plug-in")

    model, _ = acting(raising)
    with running(model) as engine:
        for _ in range(2):  # the worker is still there for the second
            asked = request(model.key)
            assert engine.submit(asked)
            assert wait_for(engine, 1) == [asked]
            assert (asked.fate, asked.code) == (Fate.FAILED, "M532")
            assert "of a foreign plug-in" in asked.reason


@pytest.mark.parametrize("lane", [LaneClass.SAFETY, LaneClass.REALTIME])
def test_a_run_that_is_cancelled_in_place_of_the_one_before_is_run_again(lane: LaneClass) -> None:
    # Who cancels cannot know whether the run has ended just now and the next one has begun.
    words = [ModelError("the run was cancelled", code="M535")]

    def act() -> None:
        if words:
            raise words.pop()

    model, _ = acting(act)
    with running(model) as engine:
        asked = request(model.key, lane=lane)
        if lane is LaneClass.SAFETY:
            engine.judge(asked)
        else:
            assert engine.submit(asked)
            assert wait_for(engine, 1) == [asked]
        assert (asked.fate, asked.code) == (Fate.DONE, "")


def test_a_remote_run_is_cancelled_at_its_deadline() -> None:
    cancelled = threading.Event()

    def never() -> None:
        cancelled.wait(PATIENCE_S)
        raise ConnectionAbortedError

    model, backend = acting(never, provider="remote http://127.0.0.1:1")
    backend.cancel = cancelled.set  # type: ignore[method-assign]
    with running(model) as engine:
        asked = request(model.key, within_s=0.1)
        assert engine.submit(asked)
        assert wait_for(engine, 1) == [asked]
    assert (asked.fate, asked.code) == (Fate.FAILED, "M541")
    assert asked.ended_ns - asked.deadline_ns < 1e9


def test_a_backend_that_cannot_even_be_told_to_end_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrun, "SHORTEST_NS", 20 * MS)
    monkeypatch.setattr(overrun, "GRACE_NS", 100 * MS)
    release, told = threading.Event(), threading.Event()

    def refuse() -> None:
        raise OSError("no such run")

    def tell(_: Hung) -> None:
        told.set()

    model, backend = acting(lambda: _wait(release))
    backend.cancel = refuse  # type: ignore[method-assign]
    with running(model, on_hung=tell) as engine:
        assert engine.submit(request(model.key))
        assert told.wait(PATIENCE_S)  # the watch goes on
        release.set()


def test_closing_ends_a_run_and_all_threads(tmp_path: Path) -> None:
    model = models.turning(tmp_path)
    before = threading.active_count()
    with running(model, workers=2) as engine:
        for _ in range(3):
            assert engine.submit(request(model.key, [FOR_EVER] * 4))
        begun(engine, model.key)
    assert threading.active_count() == before
    assert engine.fd is None
    engine.close()


def test_an_error_of_ours_in_a_worker_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.doubling(tmp_path)
    with running(model) as engine:

        def broken(*_: object) -> None:
            raise LookupError("ours")

        monkeypatch.setattr(engine._scheduler, "take", broken)
        engine.submit(request(model.key))
        with pytest.raises(RuntimeError, match="worker of the engine") as caught:
            wait_for(engine, 1)
        assert isinstance(caught.value.__cause__, LookupError)


@pytest.mark.parametrize("workers", [1, 2])
def test_whatever_is_asked_nothing_is_lost_and_nothing_comes_back_twice(tmp_path: Path, workers: int) -> None:
    # Deadlines that can and cannot be met, all classes of lanes, batches, samples without a number, failures.
    served = [models.logarithm(tmp_path), models.picking(tmp_path), models.turning(tmp_path)]
    keys = [model.key for model in served]
    dice = np.random.default_rng(3)
    accepted: list[Request] = []
    refused: list[Request] = []
    ended: list[Request] = []
    with running(*served, costs=costs_of(*keys, cost_ns=MS // 2, gain=True), workers=workers) as engine:
        for number in range(1_500):
            key = keys[int(dice.integers(3))]
            row = [float(each) for each in dice.choice([-1.0, 0.5, 1.0, 2.0, 3.0, 40.0], 4)]
            lane = LaneClass(int(dice.integers(1, 3)))
            one = request(key, row, within_s=float(dice.choice([0.0004, 0.003, 0.05, 0.5])), lane=lane)
            (accepted if engine.submit(one) else refused).append(one)
            if number % 20 == 0:
                ended += engine.turn()
            if number in (500, 1_000):
                engine.shed(number == 500)
        while len(ended) < len(accepted):
            ended += wait_for(engine, 1)
        with engine._lock:  # what waits by now are at most runs that measure a model again
            load = engine.load()
            assert engine._waiting == load.waiting <= len(keys)
    assert sorted(map(id, ended)) == sorted(map(id, accepted))
    fates = Counter(one.fate for one in accepted)
    assert Fate.WAITING not in fates
    assert fates[Fate.DONE] > 100
    assert {one.fate for one in refused} == {Fate.REJECTED}
    assert all(one.reason and one.code for one in (*accepted, *refused) if one.fate is not Fate.DONE)
    assert all(one.answers.keys() >= {"y"} for one in accepted if one.fate is Fate.DONE)
    assert load.rejected >= len(refused)

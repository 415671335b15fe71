"""The engine in the caller's thread: each request comes back once, with its answers or the reason why not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from edge_opcua.core.clock import SystemClock
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.loaded import LoadedModel, ModelBinding
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Fate, LaneClass, Request
from edge_opcua.testing import ManualClock
from tests.inference import enginemodels as models

MS = 1_000_000


def costs_of(*keys: str, cost_ns: int = MS, gain: bool = False) -> CostTable:
    """Return costs as if they had been measured: with a gain, a batch takes no longer than one."""
    table = CostTable()
    for key in keys:
        for batch in (1, 2, 4, 8):
            table.seed(key, batch, [cost_ns if gain else cost_ns * batch] * 20)
    return table


class Asked:
    """An engine in this thread, on a clock that a test moves."""

    def __init__(self, *served: LoadedModel, gain: bool = True, most: int = 8) -> None:
        self.clock = ManualClock()
        self.costs = costs_of(*(model.key for model in served), gain=gain)
        self.engine = Engine(
            {model.key: model for model in served},
            self.costs,
            self.clock,
            most=dict.fromkeys((model.key for model in served), most),
        )
        self.engine.start()

    def request(
        self,
        model: str,
        row: Sequence[float] = (1, 1, 1, 1),
        *,
        within_ms: float = 100.0,
        lane: LaneClass = LaneClass.REALTIME,
        cheaper: tuple[str, ...] = (),
    ) -> Request:
        now_ns = self.clock.monotonic_ns()
        deadline_ns = now_ns + round(within_ms * MS)
        return Request(model, lane, now_ns, deadline_ns, np.array(row, np.float32), cheaper)

    def all_turns(self) -> list[Request]:
        """Take turns as a lane does, until nothing is left to do."""
        ended: list[Request] = []
        while (next_ns := self.engine.next_turn_ns()) is not None:
            self.clock.step(max(0, next_ns - self.clock.monotonic_ns()) / 1e9)
            ended += self.engine.turn()
        return ended


@pytest.fixture
def double(tmp_path: Path) -> Iterator[Asked]:
    asked = Asked(models.doubling(tmp_path))
    yield asked
    asked.engine.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Asked]:
    asked = Asked(models.logarithm(tmp_path))
    yield asked
    asked.engine.close()


def test_a_request_comes_back_once_with_its_answers(double: Asked) -> None:
    request = double.request("double/1", [1, 2, 3, 4])
    assert double.engine.submit(request)
    assert double.engine.next_turn_ns() is not None
    assert double.all_turns() == [request]
    assert request.fate is Fate.DONE
    assert request.answers["y"].tolist() == [2.0, 4.0, 6.0, 8.0]
    assert (request.ran, request.batch) == ("double/1", 1)
    assert double.engine.turn() == []
    assert double.engine.next_turn_ns() is None
    assert double.engine.fd is None


def test_requests_that_wait_together_run_together(double: Asked) -> None:
    requests = [double.request("double/1", [n, n, n, n]) for n in range(5)]
    for request in requests:
        assert double.engine.submit(request)
    assert double.all_turns() == requests
    for n, request in enumerate(requests):
        assert request.batch == 5
        assert request.answers["y"].tolist() == [2.0 * n] * 4
    assert double.engine.load().mean_batch == 5.0


def test_a_batch_is_never_larger_than_allowed(tmp_path: Path) -> None:
    asked = Asked(models.doubling(tmp_path), most=2)
    for _ in range(5):
        assert asked.engine.submit(asked.request("double/1"))
    assert max(request.batch for request in asked.all_turns()) == 2
    asked.engine.close()


def test_one_sample_without_a_number_leaves_its_neighbours_alone(log: Asked) -> None:
    rows = [[1, 1, 1, 1], [1, -1, 1, 1], [2, 2, 2, 2]]
    requests = [log.request("log/1", row) for row in rows]
    for request in requests:
        assert log.engine.submit(request)
    assert log.all_turns() == requests
    assert [request.fate for request in requests] == [Fate.DONE, Fate.FAILED, Fate.DONE]
    assert requests[1].code == "M533"
    assert requests[2].answers["y"] == pytest.approx(np.log(2))


def test_what_cannot_be_met_is_refused_at_once_with_a_reason(double: Asked) -> None:
    request = double.request("double/1", within_ms=0.5)
    assert not double.engine.submit(request)
    assert request.fate is Fate.REJECTED
    assert request.reason
    assert request.code
    assert double.all_turns() == []
    assert double.engine.load().rejected == 1


def test_a_deadline_that_can_never_be_met_costs_the_others_little(tmp_path: Path) -> None:
    slow = Slow(models.doubling(tmp_path), took_s=0.001)
    asked = Asked(slow)
    slow.clock = asked.clock
    for _ in range(1_000):
        assert not asked.engine.submit(asked.request(slow.key, within_ms=0.5))
        asked.all_turns()
        asked.clock.step(0.001)
    assert 20 <= slow.runs <= 100
    asked.engine.close()


def test_what_would_be_late_is_given_up_and_not_run(double: Asked) -> None:
    request = double.request("double/1", within_ms=5.0)
    assert double.engine.submit(request)
    double.clock.step(0.02)
    assert double.all_turns() == [request]
    assert request.fate is Fate.EXPIRED
    assert request.answers == {}
    assert request.reason


def test_a_cheaper_variant_answers_in_time_and_says_so(tmp_path: Path) -> None:
    asked = Asked(models.doubling(tmp_path, "double/1"), models.doubling(tmp_path, "double/2"))
    asked.costs.seed("double/1", 1, [50 * MS] * 20)
    request = asked.request("double/1", within_ms=10.0, cheaper=("double/2",))
    assert asked.engine.submit(request)
    assert asked.all_turns() == [request]
    assert (request.fate, request.ran) == (Fate.DONE, "double/2")
    asked.engine.close()


def test_heat_makes_everything_cost_more(double: Asked) -> None:
    assert double.engine.submit(double.request("double/1", within_ms=5.0))
    double.all_turns()
    double.engine.set_scale(10.0)
    assert not double.engine.submit(double.request("double/1", within_ms=5.0))
    double.engine.set_scale(1.0)
    assert double.engine.submit(double.request("double/1", within_ms=5.0))


def test_best_effort_is_shed_and_admitted_again(double: Asked) -> None:
    waiting = double.request("double/1", lane=LaneClass.BEST_EFFORT)
    assert double.engine.submit(waiting)
    double.engine.shed(True)
    refused = double.request("double/1", lane=LaneClass.BEST_EFFORT)
    assert not double.engine.submit(refused)
    assert double.engine.submit(double.request("double/1"))
    assert [request.fate for request in double.all_turns()] == [Fate.SHED, Fate.DONE]
    double.engine.shed(False)
    assert double.engine.submit(double.request("double/1", lane=LaneClass.BEST_EFFORT))


def test_a_model_that_fails_fails_its_requests_and_goes_on(tmp_path: Path) -> None:
    asked = Asked(models.picking(tmp_path))
    broken = asked.request("pick/1", [99, 1, 1, 1])
    assert asked.engine.submit(broken)
    assert asked.all_turns() == [broken]
    assert (broken.fate, broken.code) == (Fate.FAILED, "M532")
    whole = asked.request("pick/1", [1, 2, 3, 4])
    assert asked.engine.submit(whole)
    assert asked.all_turns() == [whole]
    assert whole.answers["y"].tolist() == [3.0, 4.0, 5.0, 6.0]
    asked.engine.close()


def test_a_row_of_another_size_is_a_mistake_of_the_asker(double: Asked) -> None:
    with pytest.raises(ValueError, match="takes 4 values"):
        double.engine.submit(double.request("double/1", [1, 2, 3]))
    assert double.engine.next_turn_ns() is None


def test_judging_runs_at_once_and_hands_out_the_buffers_of_the_model(log: Asked) -> None:
    request = log.request("log/1", [2, 2, 2, 2], lane=LaneClass.SAFETY)
    log.engine.judge(request)
    assert (request.fate, request.ran, request.batch) == (Fate.DONE, "log/1", 1)
    assert request.answers["y"] == pytest.approx(np.log(2))
    again = log.request("log/1", [3, 3, 3, 3], lane=LaneClass.SAFETY)
    log.engine.judge(again)
    assert again.answers is request.answers  # nothing is made anew
    assert log.engine.turn() == []


@pytest.mark.parametrize(("model", "row", "code"), [("log/1", -1.0, "M533"), ("pick/1", 99.0, "M532")])
def test_judging_tells_what_failed_and_goes_on(tmp_path: Path, model: str, row: float, code: str) -> None:
    asked = Asked(models.logarithm(tmp_path), models.picking(tmp_path))
    failed = asked.request(model, [row] * 4, lane=LaneClass.SAFETY)
    asked.engine.judge(failed)
    assert (failed.fate, failed.code) == (Fate.FAILED, code)
    assert failed.answers == {}
    good = asked.request(model, [1] * 4, lane=LaneClass.SAFETY)
    asked.engine.judge(good)
    assert good.fate is Fate.DONE
    asked.engine.close()


def test_what_is_judged_counts_in_the_costs(tmp_path: Path) -> None:
    clock = SystemClock()
    model = models.doubling(tmp_path)
    costs = costs_of(model.key, cost_ns=500 * MS)
    engine = Engine({model.key: model}, costs, clock)
    engine.start()
    request = Request(model.key, LaneClass.SAFETY, 0, 0, np.ones(4, np.float32))
    for _ in range(200):
        engine.judge(request)
    engine.load()
    assert costs.typical_ns(model.key, 1) < 100 * MS
    engine.close()


def test_a_few_slow_moments_shut_no_model_out_for_ever(double: Asked) -> None:
    for _ in range(3):
        double.costs.add("double/1", 1, 200 * MS)
    refused = double.request("double/1", within_ms=20.0)
    assert not double.engine.submit(refused)
    assert double.all_turns() == []  # it was measured again meanwhile, which is nobody's answer
    assert double.engine.submit(double.request("double/1", within_ms=20.0))
    assert [request.fate for request in double.all_turns()] == [Fate.DONE]


def test_a_model_gets_its_requests_back_from_its_cheaper_variant(tmp_path: Path) -> None:
    asked = Asked(models.doubling(tmp_path, "double/1"), models.doubling(tmp_path, "double/2"))
    for _ in range(3):
        asked.costs.add("double/1", 1, 200 * MS)
    ran = []
    for _ in range(2):
        request = asked.request("double/1", within_ms=20.0, cheaper=("double/2",))
        assert asked.engine.submit(request)
        assert asked.all_turns() == [request]
        ran.append(request.ran)
    assert ran == ["double/2", "double/1"]
    asked.engine.close()


def test_a_model_that_stays_slow_is_seldom_measured_again(tmp_path: Path) -> None:
    slow = Slow(models.doubling(tmp_path))
    asked = Asked(slow)
    slow.clock = asked.clock
    asked.costs.seed(slow.key, 1, [200 * MS] * 20)
    for _ in range(1_000):
        assert not asked.engine.submit(asked.request(slow.key, within_ms=20.0))
        asked.all_turns()
        asked.clock.step(0.01)
    assert 2 <= slow.runs <= 5  # a twentieth of 10 s and what they took, 200 ms each
    assert asked.costs.cost_ns(slow.key, 1) >= 200 * MS
    asked.engine.close()


def test_a_failure_does_not_count_as_what_a_model_costs(tmp_path: Path) -> None:
    slow = Slow(models.picking(tmp_path))
    asked = Asked(slow)
    slow.clock = asked.clock
    for _ in range(3):
        failing = asked.request(slow.key, [99, 1, 1, 1], within_ms=1_000.0)
        assert asked.engine.submit(failing)
        assert asked.all_turns() == [failing]
    assert asked.costs.cost_ns(slow.key, 1) == MS
    asked.engine.close()


class Slow(LoadedModel):
    """A model during whose runs the clock moves on."""

    clock: ManualClock

    def __init__(self, model: LoadedModel, took_s: float = 0.2) -> None:
        self.took_s = took_s
        super().__init__(model.key, model.backend, model.input_name, model.size)
        self.runs = 0

    def bind(self, batch: int = 1, *, worker: int = 0) -> ModelBinding:
        binding = super().bind(batch, worker=worker)
        run = binding.binding.run

        def slowly() -> None:
            self.runs += 1
            self.clock.step(self.took_s)
            run()

        binding._run = slowly
        return binding

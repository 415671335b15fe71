"""Bindings as rows: what each sample of a run gets, and that one bad sample is nobody else's trouble."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge_opcua.errors import ModelError
from edge_opcua.inference.loaded import Floats, LoadedModel
from edge_opcua.inference.schedule.request import Fate, LaneClass, Request
from tests.inference import enginemodels as models


def ask(*rows: Sequence[float], model: str = "log/1") -> list[Request]:
    return [Request(model, LaneClass.REALTIME, 0, 10**9, np.array(row, np.float32)) for row in rows]


def test_samples_of_one_run_get_the_answers_they_get_alone(tmp_path: Path) -> None:
    model = models.logarithm(tmp_path)
    rows = np.random.default_rng(1).uniform(0.1, 9.0, (5, models.SIZE)).astype(np.float32)
    together, alone = ask(*rows), ask(*rows)
    model.bind(5).run(together)
    for request in alone:
        model.bind(1).run([request])
    for one, other, row in zip(together, alone, rows, strict=True):
        assert one.answers.keys() == {"y", "z"}
        assert np.array_equal(one.answers["z"], -row)
        for name, answer in one.answers.items():
            np.testing.assert_allclose(answer, other.answers[name], rtol=1e-6)


def test_answers_belong_to_their_request_and_outlive_the_next_run(tmp_path: Path) -> None:
    model = models.doubling(tmp_path)
    first, second = ask([1] * 4, model=model.key), ask([7] * 4, model=model.key)
    model.bind(1).run(first)
    model.bind(1).run(second)
    assert first[0].answers["y"].tolist() == [2.0] * 4
    assert second[0].answers["y"].tolist() == [14.0] * 4


@pytest.mark.parametrize("value", [-1.0, 0.0, np.nan])
@pytest.mark.parametrize("batch", [3, 4])
def test_only_the_sample_that_makes_no_number_fails(tmp_path: Path, value: float, batch: int) -> None:
    requests = ask([1, 1, 1, 1], [1, 1, value, 1], [2, 2, 2, 2])
    models.logarithm(tmp_path).bind(batch).run(requests)
    assert [request.fate for request in requests] == [Fate.WAITING, Fate.FAILED, Fate.WAITING]
    assert requests[1].code == "M533"
    assert "not a number" in requests[1].reason
    assert requests[1].answers == {}
    assert requests[2].answers["y"] == pytest.approx(np.log(2))


def test_what_an_earlier_run_left_behind_fails_nobody(tmp_path: Path) -> None:
    binding = models.logarithm(tmp_path).bind(4)
    binding.run(ask(*[[-1] * 4] * 4))
    requests = ask([1] * 4)  # the run is filled up with what the model is asked now
    binding.run(requests)
    assert requests[0].fate is Fate.WAITING
    assert binding.rows.tolist() == [[1.0] * 4] * 4


def test_a_run_that_fails_leaves_its_requests_as_they_were(tmp_path: Path) -> None:
    model = models.picking(tmp_path)
    requests = ask([1, 5, 5, 5], [99, 5, 5, 5], model=model.key)
    with pytest.raises(ModelError) as caught:
        model.bind(2).run(requests)
    assert caught.value.code == "M532"
    assert all(request.fate is Fate.WAITING and not request.answers for request in requests)


def test_judging_one_sample_leaves_the_answers_in_the_buffers_of_the_model(tmp_path: Path) -> None:
    binding = models.doubling(tmp_path).bind()
    answer = binding.answer["y"]
    for value in (1.5, -2.0):
        binding.judge(np.full(models.SIZE, value, np.float32))
        assert answer.tolist() == [2 * value] * models.SIZE
    binding.row[:] = 3.0
    binding.judge(binding.row)
    assert answer.tolist() == [6.0] * models.SIZE


@pytest.mark.parametrize("value", [-1.0, 0.0])
def test_judging_tells_an_answer_that_is_no_number(tmp_path: Path, value: float) -> None:
    binding = models.logarithm(tmp_path).bind()
    with pytest.raises(ModelError) as caught:
        binding.judge(np.array([1, 1, 1, value], np.float32))
    assert caught.value.code == "M533"
    binding.judge(np.ones(models.SIZE, np.float32))


def test_judging_keeps_no_memory(tmp_path: Path) -> None:
    binding = models.doubling(tmp_path).bind()
    row = np.ones(models.SIZE, np.float32)
    for _ in range(10):
        binding.judge(row)
    before = sys.getallocatedblocks()
    for _ in range(1_000):
        binding.judge(row)
    assert sys.getallocatedblocks() - before < 10


def test_a_worker_gets_the_buffers_that_were_made_for_it(tmp_path: Path) -> None:
    model = models.doubling(tmp_path)
    made = {(worker, batch): model.bind(batch, worker=worker) for worker in (0, 1) for batch in (1, 4, 8)}
    assert len({id(binding) for binding in made.values()}) == 6
    assert model.bind(4, worker=1) is made[1, 4]
    assert model.bind_for(4, worker=1) is made[1, 4]
    assert model.bind_for(3, worker=1) is made[1, 4]  # a new size costs more than an unused row
    assert model.bind_for(5, worker=0) is made[0, 8]
    assert model.bind_for(9, worker=0).batch == 9  # nothing that was made holds so many


def test_buffers_of_sizes_that_do_not_pay_are_let_go(tmp_path: Path) -> None:
    model = models.doubling(tmp_path)
    tried, kept = weakref.ref(model.bind(8)), model.bind(4)
    model.prepare((1, 4), workers=2)
    assert model.bind_for(4) is kept
    gc.collect()
    assert tried() is None
    assert model.bind_for(3, worker=1) is model.bind(4, worker=1)


def test_more_samples_than_the_model_takes_are_refused(tmp_path: Path) -> None:
    model = models.doubling(tmp_path)
    with pytest.raises(ModelError) as caught:
        model.bind(model.most + 1)
    assert caught.value.code == "M536"


class Shaped:
    """A backend whose buffers are what a test says; it never runs."""

    most = 8

    def __init__(self, inputs: Floats, outputs: Floats) -> None:
        self.inputs: Mapping[str, Floats] = {"x": inputs}
        self.outputs: Mapping[str, Floats] = {"y": outputs}
        self.batch = 1

    def bind(self, batch: int = 1) -> Shaped:
        self.batch = batch
        return self

    def run(self) -> None:
        raise AssertionError("not run here")

    def cancel(self) -> None:
        raise AssertionError("not run here")

    def describe(self) -> Mapping[str, Any]:
        return {"provider": "shaped"}


def zeros(*shape: int) -> npt.NDArray[np.float32]:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (zeros(2, 5), zeros(2, 1)),  # another number of values in a sample
        (zeros(2, 4), zeros(3)),  # three answers for two samples
        (zeros(2, 4), zeros(2, 0)),
        (zeros(2, 4), zeros(4, 2).T[:, ::2]),  # a copy would never see the next answer
    ],
)
def test_buffers_that_are_not_one_row_for_each_sample_are_refused(inputs: Floats, outputs: Floats) -> None:
    backend: Any = Shaped(inputs, outputs)
    with pytest.raises(ModelError) as caught:
        LoadedModel("shaped/1", backend, "x", 4).bind(2)
    assert caught.value.code == "M505"

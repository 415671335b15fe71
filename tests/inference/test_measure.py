"""What runs cost is measured when a model is loaded: by number of samples, and never for long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import structlog
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.core.clock import SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference.loaded import LoadedModel, ModelBinding
from edge_opcua.inference.measure import measure, quantiles_us
from tests.inference import enginemodels as models

MS = 1_000_000


class Stepping(SystemClock):
    """A clock that moves on by so much at each look."""

    def __init__(self, step_ns: int) -> None:
        self.step_ns = step_ns
        self._ns = 0

    def monotonic_ns(self) -> int:
        self._ns += self.step_ns
        return self._ns


class Linear(LoadedModel):
    """A model of which each sample takes 1 ms, on the clock of the test."""

    clock = Stepping(MS)

    def bind(self, batch: int = 1, *, worker: int = 0) -> ModelBinding:
        self.clock.step_ns = batch * MS
        return super().bind(batch, worker=worker)


def test_costs_are_measured_by_number_of_samples_up_to_the_most_allowed(tmp_path: Path) -> None:
    found = measure(models.doubling(tmp_path), SystemClock(), 6)
    assert set(found) <= {1, 2, 4, 6}
    assert {1, 2} <= set(found)
    assert all(took > 0 for samples in found.values() for took in samples)
    assert len(found[1]) >= 5


def test_a_model_that_takes_one_sample_is_measured_with_one(tmp_path: Path) -> None:
    assert set(measure(models.doubling(tmp_path), SystemClock())) == {1}


def test_measuring_ends_where_two_larger_batches_gained_nothing(tmp_path: Path) -> None:
    plain = models.doubling(tmp_path)
    model = Linear("double/1", plain.backend, "x", models.SIZE)
    assert set(measure(model, model.clock, 32)) == {1, 2, 4}


def test_a_slow_model_is_not_measured_for_long(tmp_path: Path) -> None:
    found = measure(models.doubling(tmp_path), Stepping(200 * MS), 32)
    assert set(found) == {1}
    assert len(found[1]) == 5


class Disturbed(SystemClock):
    """A clock on which every run takes 1 ms, but some of the first ones 80 ms."""

    def __init__(self, disturbed: range) -> None:
        self.looks = 0
        self._disturbed = disturbed
        self._ns = 0

    def monotonic_ns(self) -> int:
        self.looks += 1
        self._ns += 80 * MS if self.looks in self._disturbed else MS
        return self._ns


def test_what_disturbs_the_machine_while_it_starts_is_not_believed(tmp_path: Path) -> None:
    clock = Disturbed(range(10, 12))
    assert max(measure(models.doubling(tmp_path), clock)[1]) == MS


def test_a_machine_that_does_not_become_calm_is_measured_as_it_is(tmp_path: Path) -> None:
    clock = Disturbed(range(10, 10_000, 20))
    assert max(measure(models.doubling(tmp_path), clock)[1]) == 80 * MS
    assert clock.looks < 400


def single(folder: Path) -> LoadedModel:
    """Return a model whose axes say that it takes many samples, but a run with more than one fails."""
    values = {"nothing": [0.0], "one_row": [1.0, models.SIZE]}
    constants = tuple(
        numpy_helper.from_array(np.array(each, np.float32), name) for name, each in values.items()
    )
    nodes = [
        helper.make_node("Mul", ["x", "nothing"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["one_row", "zero"], ["wanted"]),
        helper.make_node("Cast", ["wanted"], ["shape"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    return models.loaded(folder, models.graph_of(nodes, constants=constants), "single/1")


def test_a_batch_that_the_model_cannot_run_is_not_offered(tmp_path: Path) -> None:
    model = single(tmp_path)
    assert model.most > 1
    with structlog.testing.capture_logs() as logs:
        assert set(measure(model, SystemClock(), 8)) == {1}
    assert [line["event"] for line in logs] == ["model.batch_refused"]


def test_measuring_that_is_cancelled_ends(tmp_path: Path) -> None:
    class Cancelling(LoadedModel):
        """Gives up with the second batch size."""

        def bind(self, batch: int = 1, *, worker: int = 0) -> ModelBinding:
            if batch > 1:
                raise ModelError("the run was cancelled", code="M535")
            return super().bind(batch, worker=worker)

    plain = models.doubling(tmp_path)
    with pytest.raises(ModelError, match="cancelled"):
        measure(Cancelling(plain.key, plain.backend, "x", models.SIZE), SystemClock(), 8)


def test_quantiles_are_in_microseconds() -> None:
    p50_us, p99_us = quantiles_us([1_000] * 98 + [50_000] * 2)
    assert p50_us == 1.0
    assert 1.0 < p99_us <= 50.0


def test_a_model_is_measured_with_the_sample_it_is_given(tmp_path: Path) -> None:
    # A loop, a tree or a box filter takes as long as its sample makes it: numbers of no meaning mislead.
    model = models.doubling(tmp_path)
    sample = np.arange(models.SIZE, dtype=np.float32)
    measure(model, SystemClock(), 2, sample=sample)
    assert np.array_equal(model.bind(2).rows, np.stack([sample, sample]))

"""Models made ready in a process: what is shared, what is refused alone, and what does not end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edge_opcua.core.clock import SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.memory import MB, Limit, lift
from edge_opcua.inference.readiness import Readiness, Wanted
from edge_opcua.inference.schedule.costs import CostTable
from tests.inference.line import Line, delivered, spec
from tests.inference.models import copy_of_delivered


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line(SystemClock())
    yield made
    made.close()


@pytest.fixture
def readiness(line: Line) -> Readiness:
    return Readiness(line.bus, SystemClock(), CostTable())


def wanted(line: Line, version: int = 1, **given: Any) -> Wanted:
    return replace(line.lane(delivered(version)).wanted, **given)


def test_facts_say_what_a_model_costs_and_where_it_runs(line: Line, readiness: Readiness) -> None:
    cheaper = replace(wanted(line), files=(delivered(1), delivered(2)))
    facts = readiness.prepare(cheaper).facts
    assert facts["validated"] is True
    assert facts["samples"] == 7
    assert facts["provider"] == "CPUExecutionProvider"
    assert facts["accelerated"] == 1.0
    assert facts["load_ms"] > 0.0
    assert 0.0 < facts["p50_us"] <= facts["p99_us"]
    assert list(facts["costs"]) == ["press-anomaly/1", "press-anomaly/2"]
    for by_batch in facts["costs"].values():
        p50_ns, p99_ns = by_batch["1"]
        assert 0 < p50_ns <= p99_ns
    assert sorted(readiness.models) == ["press-anomaly/1", "press-anomaly/2"]


def test_two_pipelines_share_a_model_unless_it_runs_elsewhere(line: Line, readiness: Readiness) -> None:
    first = readiness.prepare(wanted(line))
    second = readiness.prepare(wanted(line, spec=replace(spec(), pipeline="second")))
    assert first.models[0] is second.models[0]
    third = readiness.prepare(wanted(line, spec=replace(spec(), pipeline="third"), options={"threads": 2}))
    assert third.models[0] is not first.models[0]
    assert list(readiness.models) == ["press-anomaly/1", "press-anomaly/1@third"]
    assert list(third.facts["costs"]) == ["press-anomaly/1"], "its own name is nobody's business"


def test_a_model_that_is_refused_leaves_nothing_behind(line: Line, readiness: Readiness) -> None:
    with pytest.raises(ModelError) as caught:
        readiness.prepare(wanted(line, provider="tensorrt"))
    assert caught.value.code.startswith("M52")
    assert readiness.models == {}


def test_a_model_without_room_is_refused_before_it_is_loaded(line: Line) -> None:
    limit = Limit(keep_free_bytes=1_000_000 * MB)  # more than any machine has
    tight = Readiness(line.bus, SystemClock(), CostTable(), limit=limit)
    with pytest.raises(ModelError) as caught:
        tight.prepare(wanted(line, load_backend=never))
    assert caught.value.code == "M580"
    lift()


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("it must not come to this")


def test_a_backend_that_fails_in_its_own_way_refuses_its_pipeline_only(
    line: Line, readiness: Readiness
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("driver lost")

    with pytest.raises(ModelError, match="driver lost") as caught:
        readiness.prepare(wanted(line, load_backend=broken))
    assert caught.value.code == "M594"
    readiness.prepare(wanted(line))


def test_a_model_that_computes_for_ever_when_it_is_proven_is_given_up(
    line: Line, readiness: Readiness
) -> None:
    running = threading.Event()

    class Endless:
        """A backend whose runs end only when they are cancelled."""

        def __init__(self, shapes: Mapping[str, Any], path: Path) -> None:
            self._real = OnnxRuntimeBackend.load(path, provider="cpu", input_shapes=shapes)
            self.most = 1

        def bind(self, batch: int = 1) -> Any:
            return EndlessBinding(self._real.bind(batch))

        def describe(self) -> Mapping[str, Any]:
            return self._real.describe()

    class EndlessBinding:
        def __init__(self, real: Any) -> None:
            self._cancelled = threading.Event()
            self.batch, self.inputs, self.outputs = real.batch, real.inputs, real.outputs
            for array in (*self.inputs.values(), *self.outputs.values()):
                assert array.dtype == np.float32

        def run(self) -> None:
            running.set()
            self._cancelled.wait(10.0)
            raise ModelError("the run was cancelled", code="M535")

        def cancel(self) -> None:
            self._cancelled.set()

    found: list[str] = []

    def prepare() -> None:
        load = lambda path, **given: Endless(given["input_shapes"], path)  # noqa: E731
        try:
            readiness.prepare(wanted(line, load_backend=load))
        except ModelError as exc:
            found.append(exc.code)

    thread = threading.Thread(target=prepare)
    thread.start()
    assert running.wait(5.0)
    readiness.give_up()
    thread.join(5.0)
    assert found == ["M591"]
    assert readiness.models == {}
    readiness.prepare(wanted(line))  # the next pipeline has its own time


def open_axis(folder: Path, *, mixing: bool) -> Path:
    """Return a folder with the delivered model, its first axis open; mixing: all get the highest score."""
    made = onnx.load(delivered(1).model)
    for port in (*made.graph.input, *made.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = "n"
    if mixing:
        at = next(i for i, node in enumerate(made.graph.node) if "score" in node.output)
        made.graph.node[at].input[0] = "largest"
        made.graph.node.insert(at, helper.make_node("Max", ["root", "largest_one"], ["largest"]))
        made.graph.node.insert(at, helper.make_node("ReduceMax", ["root"], ["largest_one"], keepdims=1))
    (copy_of_delivered(folder) / "model.onnx").write_bytes(made.SerializeToString())
    return folder


@pytest.mark.parametrize(("mixing", "most"), [(False, 8), (True, 1)])
def test_samples_that_know_of_each_other_are_never_run_together(
    line: Line, readiness: Readiness, tmp_path: Path, *, mixing: bool, most: int
) -> None:
    # Alone such a model is right, so nothing else would show that its verdicts depend on the neighbours.
    files = replace(delivered(1), folder=open_axis(tmp_path / "1", mixing=mixing))
    ready = readiness.prepare(wanted(line, files=(files,), most=8))
    assert ready.facts["most"] == most
    if mixing:
        assert list(ready.facts["costs"]["press-anomaly/1"]) == ["1"]


def test_a_model_of_few_bits_may_answer_otherwise_elsewhere_but_not_beside_others(
    line: Line, readiness: Readiness, tmp_path: Path
) -> None:
    lenient = replace(delivered(1).manifest.golden, answer_atol=1e6)
    files = delivered(1)
    files = replace(files, manifest=replace(files.manifest, golden=lenient))
    files = replace(files, folder=open_axis(tmp_path / "1", mixing=True))
    assert readiness.prepare(wanted(line, files=(files,), most=8)).facts["most"] == 1

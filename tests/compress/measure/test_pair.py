"""A variant is timed beside the original: on the same samples, as often, loaded anew each round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from edge_opcua.compress.measure.pair import LEAST_BLOCKS, answer, time_pair
from edge_opcua.compress.measure.ratio import ROUNDS
from edge_opcua.compress.measure.weigh import size_of, weigh
from edge_opcua.errors import ModelError
from edge_opcua.testing import ManualClock
from tests.compress.measure.graphs import graph, node
from tests.compress.models import mlp, pictures, saved


class Ticking(ManualClock):
    """A clock on which a fixed time passes with every look at it."""

    def __init__(self, step_ns: int) -> None:
        super().__init__()
        self._now_ns, self._step_ns = 0, step_ns

    def monotonic_ns(self) -> int:
        self._now_ns += self._step_ns
        return self._now_ns


def rows(folder: Path, *, count: int = 40) -> Path:
    path = folder / "rows.npy"
    np.save(path, pictures(count, 1).rows)
    return path


def request(folder: Path, *, budget_s: float) -> dict[str, object]:
    return {
        "original": str(saved(mlp(), folder, "original.onnx")),
        "variant": str(saved(mlp(widths=(16, 8)), folder, "variant.onnx")),
        "rows": str(rows(folder)),
        "input_name": "x",
        "provider": "cpu",
        "threads": 1,
        "budget_s": budget_s,
    }


def test_both_run_in_one_process_and_are_weighed_alone(tmp_path: Path) -> None:
    original = saved(mlp(), tmp_path, "original.onnx")
    variant = saved(mlp(widths=(16, 8)), tmp_path, "variant.onnx")
    heard: list[float] = []
    found = time_pair(
        original,
        variant,
        rows(tmp_path),
        input_name="x",
        budget_s=0.2,
        progress=lambda share, _: heard.append(share),
    )
    assert (found.size_bytes, found.original_size_bytes) == (variant.stat().st_size, original.stat().st_size)
    assert found.ratio_low <= found.ratio <= found.ratio_high
    assert found.p99_low <= found.p99_ratio <= found.p99_high
    assert min(found.p50_us, found.original_p50_us, found.load_ms, found.original_load_ms) > 0
    assert found.p50_us <= found.p99_us
    assert (found.provider, found.threads) == ("CPUExecutionProvider", 1)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


def test_on_a_clock_that_ticks_evenly_both_take_the_same(tmp_path: Path) -> None:
    found = answer(request(tmp_path, budget_s=1e-6), Ticking(1_000))
    ratio = found["ratios"]
    assert (ratio["ratio"], ratio["low"], ratio["high"]) == (1.0, 1.0, 1.0)
    assert (ratio["p50"], ratio["original_p99"]) == (1.0, 1.0)


def test_slow_models_run_as_few_blocks_as_there_must_be(tmp_path: Path) -> None:
    found = answer(request(tmp_path, budget_s=1e-6), Ticking(20_000_000))
    assert found["ratios"]["runs"] == ROUNDS * LEAST_BLOCKS * 2
    assert found["load_ms"] == [20.0, 20.0]


def test_another_provider_is_refused_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        answer(request(tmp_path, budget_s=0.1) | {"provider": "cuda"}, Ticking(1_000))
    assert caught.value.code in {"M520", "M521"}


def test_a_model_that_fails_in_a_turn_is_refused(tmp_path: Path) -> None:
    nodes = [  # as many values as the first one says: what is bound for a zero does not fit a sample of twos
        node("Cast", "x", "whole", to=TensorProto.INT64),
        node("ReduceMax", "whole", "count", keepdims=0),
        node("Constant", "", "one", value_ints=[1]),
        node("Reshape", "count one", "shape"),
        node("ConstantOfShape", "shape", "y"),
    ]
    model = graph(tmp_path, nodes, answer=["k"])
    wish = request(tmp_path, budget_s=0.1) | {"variant": str(model), "original": str(model)}
    np.save(tmp_path / "rows.npy", np.full((4, 3), 2, np.float32))
    with pytest.raises(ModelError) as caught:
        answer(wish, Ticking(1_000))
    assert caught.value.code == "M532"


def test_a_larger_model_weighs_more(tmp_path: Path) -> None:
    small = weigh(saved(mlp(), tmp_path, "small.onnx"), rows(tmp_path), input_name="x")
    large = weigh(saved(mlp(widths=(2_000, 1_500)), tmp_path, "large.onnx"), rows(tmp_path), input_name="x")
    assert large.size_bytes > 12e6
    assert large.memory_mb - small.memory_mb > 10
    assert 0 <= small.memory_mb < 5


def test_weights_in_a_file_of_their_own_count(tmp_path: Path) -> None:
    import onnx

    inside = saved(mlp(), tmp_path, "inside.onnx")
    outside = tmp_path / "outside.onnx"
    onnx.save_model(mlp(), str(outside), save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert outside.stat().st_size < inside.stat().st_size / 2
    assert size_of(outside) == outside.stat().st_size + (tmp_path / "weights.bin").stat().st_size

"""Every sample is answered as if it were alone, whatever the model does with a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from edge_opcua.compress.measure.answers import BATCH, answer, answers_of, read_answers
from edge_opcua.errors import ModelError
from tests.compress.measure.graphs import graph, node
from tests.compress.models import conv_net, pictures, run, saved


def rows_of(folder: Path, rows: Any) -> Path:
    path = folder / "rows.npy"
    np.save(path, np.asarray(rows, np.float32))
    return path


def some(count: int) -> Any:
    return np.random.default_rng(1).normal(size=(count, 3)).astype(np.float32)


def ask(folder: Path, model: Path, rows: Any, *, output: str = "y", provider: str = "cpu") -> tuple[int, Any]:
    """Ask in this process; return samples of one run, and the answers."""
    out = folder / "answers.npz"
    found = answer(
        {
            "model": str(model),
            "rows": str(rows_of(folder, rows)),
            "out": str(out),
            "input": "x",
            "outputs": [output],
            "provider": provider,
        }
    )
    return found["batch"], read_answers(out)[output]


def test_a_process_of_its_own_answers_every_sample(tmp_path: Path) -> None:
    model, data = conv_net(), pictures(100, 1)
    heard: list[float] = []
    answers = answers_of(
        saved(model, tmp_path),
        rows_of(tmp_path, data.rows),
        tmp_path / "answers.npz",
        input_name="x",
        outputs=["logits"],
        progress=lambda share, _: heard.append(share),
    )
    np.testing.assert_allclose(answers["logits"], run(model, data.rows), rtol=1e-4, atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.npz", "model.onnx", "rows.npy"]


def test_samples_go_in_batches_where_that_changes_nothing(tmp_path: Path) -> None:
    rows = some(BATCH + 5)
    batch, answers = ask(tmp_path, graph(tmp_path, [node("Neg", "x", "y")]), rows)
    assert batch == BATCH
    np.testing.assert_array_equal(answers, -rows)


def test_a_scale_of_the_whole_batch_reaches_no_other_sample(tmp_path: Path) -> None:
    nodes = [node("DynamicQuantizeLinear", "x", "q s z"), node("DequantizeLinear", "q s z", "y")]
    rows = some(40)
    rows[7] = 1e6  # beside it, nothing is left of the others
    batch, answers = ask(tmp_path, graph(tmp_path, nodes), rows)
    assert batch == 1
    np.testing.assert_allclose(answers, rows, atol=0.03, rtol=0.005)


def test_a_model_that_mixes_its_batch_is_found_out(tmp_path: Path) -> None:
    nodes = [node("ReduceMean", "x", "m", axes=[0], keepdims=1), node("Sub", "x m", "y")]
    batch, answers = ask(tmp_path, graph(tmp_path, nodes), some(10))
    assert batch == 1
    np.testing.assert_array_equal(answers, np.zeros((10, 3), np.float32))


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    rows = some(10)
    batch, answers = ask(tmp_path, graph(tmp_path, [node("Neg", "x", "y")], batch=4), rows)
    assert batch == 4
    np.testing.assert_array_equal(answers, -rows)


def test_an_answer_without_an_axis_for_samples_is_one_sample(tmp_path: Path) -> None:
    nodes = [node("ReduceMax", "x", "y", keepdims=0)]
    rows = some(5)
    batch, answers = ask(tmp_path, graph(tmp_path, nodes, batch=1, answer=[]), rows)
    assert batch == 1
    np.testing.assert_array_equal(answers, rows.max(axis=1))


def refused(folder: Path, model: Path, rows: Any, **wish: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(folder, model, rows, **wish)
    return caught.value


def test_what_is_no_number_is_named_by_its_sample(tmp_path: Path) -> None:
    rows = np.abs(some(50))
    rows[41, 1] = -1
    error = refused(tmp_path, graph(tmp_path, [node("Sqrt", "x", "y")]), rows)
    assert error.code == "M533"
    assert "sample 42" in str(error)
    assert not (tmp_path / "answers.npz").exists()


def test_an_answer_that_does_not_count_samples_is_refused(tmp_path: Path) -> None:
    nodes = [node("ReduceMax", "x", "y", axes=[0, 1], keepdims=0)]
    error = refused(tmp_path, graph(tmp_path, nodes, batch=4, answer=[]), some(8))
    assert error.code == "M686"


def test_an_answer_that_is_no_array_of_numbers_is_refused(tmp_path: Path) -> None:
    text = graph(tmp_path, [node("Cast", "x", "y", to=TensorProto.STRING)], kind=TensorProto.STRING)
    assert refused(tmp_path, text, some(4)).code == "M686"


def test_a_run_that_fails_is_refused(tmp_path: Path) -> None:
    nodes = [node("Constant", "", "s", value_ints=[2, 2]), node("Reshape", "x s", "y")]
    assert refused(tmp_path, graph(tmp_path, nodes, answer=[2, 2]), some(5)).code == "M532"


def test_other_samples_and_other_outputs_are_refused(tmp_path: Path) -> None:
    model = graph(tmp_path, [node("Neg", "x", "y")])
    assert refused(tmp_path, model, np.zeros((4, 5))).code == "M504"
    assert refused(tmp_path, model, some(4), output="z").code == "M505"


def test_another_provider_is_refused_not_replaced(tmp_path: Path) -> None:
    model = graph(tmp_path, [node("Neg", "x", "y")])
    assert refused(tmp_path, model, some(4), provider="cuda").code in {"M520", "M521"}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_damaged_answers_are_told_from_answers(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "answers.npz"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_answers(path)
    assert caught.value.code == "M687"

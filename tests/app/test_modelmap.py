"""``model map``: any model becomes a manifest that needs little editing, and says what it does not know."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.app.command.model.draft import Shape, names_in, shape_of
from edge_opcua.app.command.model.match import Known, Sureness, match_columns, split_unit, words
from edge_opcua.app.command.model.samples import read_rows
from edge_opcua.assets import examples_dir
from edge_opcua.cli import main
from edge_opcua.errors import ModelError
from edge_opcua.inference.onnxcard import Tensor

PRESS = str(examples_dir() / "press" / "press.toml")
TAGS = (
    Known("plc/OilTemp1", "°C", 0, 120),
    Known("plc/oil_pressure", "bar"),
    Known("plc/spindle_speed", "1/min"),
    Known("plc/axis1_current", "A"),
    Known("plc/axis2_current", "A"),
    Known("plc/level", ""),
)


def linear(
    path: Path,
    shape: Sequence[int | str],
    *,
    output: str = "anomaly_score",
    classes: int = 1,
    notes: dict[str, str] | None = None,
) -> Path:
    """Write a model that weighs its inputs."""
    size = int(np.prod([each for each in shape if isinstance(each, int)]))
    weights = np.random.default_rng(1).normal(size=(size, classes)).astype(np.float32)
    made = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "flat"], ["row"]),
            helper.make_node("MatMul", ["row", "w"], [output]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", classes])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(np.array([-1, size], np.int64), "flat"),
        ],
    )
    whole = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (notes or {}).items():
        note = whole.metadata_props.add()
        note.key, note.value = key, value
    onnx.save(whole, path)
    return path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("OilTemp1", ("oil", "temperature", "1")),
        ("oil_temp_1", ("oil", "temperature", "1")),
        ("PLCSpeed", ("plc", "speed")),
        ("cur-L1", ("current", "l", "1")),
    ],
)
def test_names_are_compared_by_their_words(name: str, found: tuple[str, ...]) -> None:
    assert words(name) == found


@pytest.mark.parametrize(
    ("column", "found"),
    [
        ("oil temp [°C]", ("oil temp", "°C")),
        ("oil_temp_degC", ("oil_temp", "°C")),
        ("speed (rpm)", ("speed", "1/min")),
        ("oil_temp", ("oil_temp", "")),
    ],
)
def test_a_unit_in_a_name_is_a_unit(column: str, found: tuple[str, str]) -> None:
    assert split_unit(column) == found


def test_the_same_name_in_another_spelling_is_sure_and_a_similar_one_is_likely() -> None:
    found = match_columns(["oil temperature 1 [°C]", "SpindleSpeed", "oil_presure"], TAGS)
    assert [each.tag.reference for each in found if each.tag] == [
        "plc/OilTemp1",
        "plc/spindle_speed",
        "plc/oil_pressure",
    ]
    assert [each.sureness for each in found] == [Sureness.SURE, Sureness.SURE, Sureness.LIKELY]


def test_another_unit_or_several_that_come_near_are_a_question() -> None:
    (unit,) = match_columns(["oil_pressure_psi"], TAGS)
    assert (unit.sureness, "not in psi" in unit.why) == (Sureness.UNSURE, True)
    (several,) = match_columns(["axis3_current"], TAGS)
    assert several.sureness is Sureness.UNSURE
    (nothing,) = match_columns(["humidity"], TAGS)
    assert (nothing.tag, nothing.sureness) == (None, Sureness.UNSURE)


def test_a_tag_is_meant_once() -> None:
    first, second = match_columns(["level", "Level"], TAGS)
    assert {first.tag is None, second.tag is None} == {True, False}


@pytest.mark.parametrize(
    ("shape", "columns", "window", "found"),
    [
        (("N", 4), 4, None, Shape(4, 1, (1, 4))),
        (("N", 12), 4, None, Shape(4, 3, (1, 12))),
        (("N", 20, 3), 3, None, Shape(3, 20, (1, 20, 3))),
        (("N", 3, 20), 3, None, Shape(3, 20, (1, 3, 20), by_channel=True)),
        (("N", 3, 20), 0, 20, Shape(3, 20, (1, 3, 20), by_channel=True)),
        (("N", "T", 3), 3, 8, Shape(3, 8, (1, 8, 3))),
        (("N", 1, 6), 2, None, Shape(2, 3, (1, 1, 6))),
        (("N", "k"), 5, None, Shape(5, 1, (1, 5))),
        ((6,), 6, None, Shape(6, 1, (1, 6))),
    ],
)
def test_how_tags_lie_in_the_input_follows_from_its_shape(
    shape: tuple[int | str, ...], columns: int, window: int | None, found: Shape
) -> None:
    assert shape_of(Tensor("x", "float32", shape), columns, window) == found


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (Tensor("x", "int64", ("N", 3)), "a lane feeds float32"),
        (Tensor("x", "float32", ("N", 3, 5, 7)), "needs [[steps]]"),
        (Tensor("x", "float32", ("N", "k")), "give --columns"),
        (Tensor("x", "float32", ("N", "T", "k")), "give --window"),
    ],
)
def test_what_cannot_be_told_is_asked_for(tensor: Tensor, says: str) -> None:
    assert says in str(shape_of(tensor, 0, None))


def test_notes_of_the_author_are_names_in_any_common_form() -> None:
    assert names_in('["a", "b"]') == ["a", "b"]
    assert names_in("a, b") == ["a", "b"]
    assert names_in("{0: 'ok'}") == ["{0: 'ok'}"]
    assert names_in('{"0": "ok", "1": "worn"}') == ["ok", "worn"]
    assert names_in("") == []


def mapped(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    state = ("--state", str(path.parent / "state"))
    code = main(["model", "map", str(path), "-c", PRESS, "--json", *state, *options])
    told = capsys.readouterr().out
    return code, json.loads(told) if told else {}


def test_a_draft_fills_in_what_is_known_and_asks_for_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = {"feature_names": '["tonnage_kN", "DieTemp", "spindle_load"]'}
    path = linear(tmp_path / "weld check.onnx", [3], notes=notes)
    code, told = mapped(capsys, path, "--device", "press", "--period-ms", "100", "--no-run")
    assert (code, told["model"]) == (0, "weld-check/1")
    assert [(row["tag"], row["sure"]) for row in told["tags"]] == [
        ("press/tonnage", "sure"),
        ("press/die_temp", "sure"),
        (None, "?"),
    ]
    draft = tomllib.loads(path.with_suffix(".toml").read_text())
    assert [tag["unit"] for tag in draft["tags"]] == ["kN", "°C", "?"]
    assert draft["tags"][1]["high"] == 120
    assert draft["output"] == {"kind": "score", "score": "anomaly_score"}
    assert draft["input"] == {"name": "x", "source": "tags", "window": 1, "period_ms": 100}
    # It is not taken as it is, and never written over what somebody has edited.
    (tmp_path / "golden.npz").touch()
    assert main(["model", "add", str(path), "--alone", "--state", str(tmp_path / "state")]) == 1
    assert 'not filled in: unit of "spindle_load" (M617)' in capsys.readouterr().out
    assert mapped(capsys, path, "--no-run")[0] == 2


def test_a_model_without_names_gets_the_tags_in_order_each_with_a_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, told = mapped(capsys, linear(tmp_path / "m.onnx", [2]), "--device", "vib", "--no-run")
    assert [(row["name"], row["sure"]) for row in told["tags"]] == [("?", "?"), ("?", "?")]


def test_a_model_of_anybody_comes_into_the_repository_with_a_file_of_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = linear(tmp_path / "wear.onnx", [3, 5], output="logits", classes=2)
    rows = [f"{500 + at};{40 + at % 7};{50 + at % 5}" for at in range(40)]
    (tmp_path / "train.csv").write_text("\n".join(["tonnage;die_temp;oil_temp", *rows]))
    columns = ("--columns", str(tmp_path / "train.csv"), "--device", "press", "--period-ms", "100")
    code, told = mapped(capsys, path, *columns)
    assert (code, told["window"], told["shape"]) == (0, 5, [1, 3, 5])
    draft = path.with_suffix(".toml")
    assert float(tomllib.loads(draft.read_text())["device"]["p99_us"]) > 0
    draft.write_text(draft.read_text().replace('"?1", "?2"', '"ok", "worn"'))
    named = ("--golden", str(tmp_path / "train.csv"), "--alone", "--state", str(tmp_path / "state"))
    assert main(["model", "add", str(path), *named]) == 0
    out = capsys.readouterr().out
    assert "not that they are right" in out
    assert "ok  reference   16 samples" in out
    with np.load(tmp_path / "state" / "models" / "wear" / "1" / "golden.npz") as golden:
        assert golden["waveform"].shape == (16, 15)
        assert golden["probabilities"].shape == (16, 2)


def test_rows_that_are_no_samples_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    for text, says in (
        ("a,b\n1,x\n", "rows.csv:2"),
        ("a,c\n1,2\n", "no column b"),
        ("a,b\n1\n", "rows.csv:2"),
    ):
        path.write_text(text)
        with pytest.raises(ModelError, match=says) as caught:
            read_rows(path, ["a", "b"])
        assert caught.value.code == "M618"
    with pytest.raises(ModelError):
        read_rows(tmp_path / "nowhere.csv", ["a"])


def test_a_capture_may_be_judged_instead_of_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = linear(tmp_path / "shock.onnx", [1, 2000])
    code, told = mapped(capsys, path, "--capture", "vib/stroke", "--no-run")
    assert code == 0
    assert 'capture = "vib/stroke"' in told["pipeline"]
    draft = tomllib.loads(path.with_suffix(".toml").read_text())
    assert (draft["input"]["sample_count"], draft["input"]["shape"]) == (2000, [1, 1, 2000])
    assert draft["steps"] == [{"step": "flatten"}]
    small = linear(tmp_path / "small.onnx", [13])
    assert main(["model", "map", str(small), "-c", PRESS, "--capture", "vib/stroke", "--no-run"]) == 2
    assert "a capture has 2000 samples" in capsys.readouterr().err


def test_names_chosen_by_a_model_write_nothing_else_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = {"feature_names": json.dumps(["\x1b[2J\x07gone", "b\nname = 1"])}
    path = linear(tmp_path / "m.onnx", [2], notes=notes)
    assert main(["model", "map", str(path), "-c", PRESS, "--no-run", "--state", str(tmp_path)]) == 0
    assert main(["model", "inspect", str(path), "--no-run", "--state", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "\x07" not in told
    draft = tomllib.loads(path.with_suffix(".toml").read_text())
    assert [set(tag) for tag in draft["tags"]] == [{"name", "unit"}] * 2

"""Files that are small and ask for much: found before anything loads them, with an effort that is bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_opcua.errors import ModelError
from edge_opcua.inference import onnxfile, protobuf
from edge_opcua.inference.onnxfile import inspect, inspect_file, refuse_foreign
from edge_opcua.inference.protobuf import Fields, Stretch
from tests.inference.hostile.models import chain, function_bomb, self_calling
from tests.inference.models import DELIVERED, custom_operator_model, external_data_model, own_function_model


def field(number: int, content: bytes) -> bytes:
    """Return one length-delimited protobuf field."""
    size, head = len(content), bytearray([number << 3 | 2])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size]) + content


def refused(image: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        inspect(image)
    assert caught.value.code == "M585"
    return str(caught.value)


def test_a_few_kilobytes_of_functions_that_unfold_to_a_million_operators_are_refused() -> None:
    image = function_bomb(depth=6, times=10)
    assert len(image) < 5_000
    assert "its functions call 1000000 operators, more than 10000" in refused(image)


def test_unfolding_is_counted_not_done() -> None:
    # 10 ** 60 operators: whoever unfolds them never ends.
    assert "its functions call" in refused(function_bomb(depth=60, times=10))


def test_functions_that_stay_small_are_served_and_counted() -> None:
    assert inspect(function_bomb(depth=3, times=10)).nodes == 1000
    assert inspect(own_function_model()).nodes == 1


def test_a_function_that_calls_itself_is_refused() -> None:
    assert "call each other without end" in refused(self_calling())


def test_more_operators_than_any_model_has_are_refused_without_reading_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnxfile, "MOST_NODES", 100)
    assert inspect(chain(99)).nodes == 100
    assert "more than 100 operators" in refused(chain(100))


def test_graphs_within_graphs_end_at_a_depth() -> None:
    inner = b""
    for _ in range(80):
        inner = field(1, field(5, field(6, inner)))  # a node whose attribute is a graph
    assert "nested too deeply" in refused(field(7, inner))


def test_a_file_of_nothing_but_tiny_fields_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxfile, "MOST_FIELDS", 1000)
    floats = field(5, b"\x3d\0\0\0\0" * 2000)  # an attribute of 2 000 numbers, each a field of its own
    node = field(4, b"TreeEnsembleRegressor") + floats
    assert "more than 1000 fields" in refused(field(7, field(1, node)))


@pytest.mark.parametrize(
    "image",
    [
        (DELIVERED / "model.onnx").read_bytes(),
        custom_operator_model(),
        own_function_model(),
        external_data_model("weights.bin"),
        field(7, field(5, field(9, bytes(300_000))) + field(1, field(4, b"Add"))),  # weights, then operators
        field(
            7, field(5, field(9, bytes(3_000_000)) * 2) + field(1, field(4, b"Add"))
        ),  # larger than any piece
    ],
    ids=["delivered", "custom", "function", "external", "weights", "large"],
)
def test_a_file_reads_as_its_bytes_do(tmp_path: Path, image: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(image)
    assert inspect_file(path) == inspect(image)


@pytest.mark.parametrize("image", [b"", b"\x3a\xff\xff", b"no model at all", field(7, b"\x0a\x7f")])
def test_what_is_no_model_is_told_of_a_file_too(tmp_path: Path, image: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(image)
    with pytest.raises(ModelError) as caught:
        inspect_file(path)
    assert caught.value.code == "M510"


def test_a_file_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read") as caught:
        inspect_file(tmp_path / "model.onnx")
    assert caught.value.code == "M507"


def test_a_name_of_megabytes_is_no_name(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(field(7, field(1, field(4, b"A" * (protobuf.SMALL_BYTES + 1)))))
    with pytest.raises(ModelError, match="longer than a megabyte"):
        inspect_file(path)


def test_a_file_that_shrinks_while_it_is_read_is_a_refusal_not_a_crash(tmp_path: Path) -> None:
    # A mapped file would end this process with SIGBUS.
    path = tmp_path / "model.onnx"
    path.write_bytes(field(7, bytes(200_000)))
    fd = os.open(path, os.O_RDONLY)
    try:
        fields = Fields(1000).of(Stretch(fd, 0, path.stat().st_size))
        os.truncate(path, 100)
        with pytest.raises(ValueError, match="became shorter"):
            list(fields)
    finally:
        os.close(fd)


def test_names_chosen_by_a_model_write_nothing_on_a_terminal_and_fill_no_log() -> None:
    clears_the_screen = "com.evil\x1b[2J\nerror"
    for name in (clears_the_screen, "A" * 100_000):
        node = field(4, b"Sneak") + field(7, name.encode())
        with pytest.raises(ModelError, match=r"custom library|uses A") as caught:
            refuse_foreign(inspect(field(7, field(1, node))), Path(), frozenset())
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) <= 600

"""What a model file needs besides itself, read from its bytes alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.errors import ModelError
from edge_opcua.inference.onnxfile import inspect, refuse_foreign, require_inside
from tests.inference.models import (
    DELIVERED,
    custom_operator_model,
    external_data_model,
    graph,
    identity_model,
    model,
    own_function_model,
)

IMAGE = (DELIVERED / "model.onnx").read_bytes()


def refusal_of(image: bytes) -> str:
    try:
        inspect(image)
    except ModelError as exc:
        return exc.code
    return ""


def test_the_delivered_model_needs_nothing_but_onnx() -> None:
    contents = inspect(IMAGE)
    assert contents.opsets == {"": 17}
    assert ("", "MatMul") in contents.operators
    assert {domain for domain, _ in contents.operators} == {""}
    assert not contents.external
    refuse_foreign(contents, DELIVERED, frozenset())


def test_a_custom_operator_is_found_in_an_inner_graph_and_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"uses com\.evil\.Sneak, an operator of a custom library") as caught:
        refuse_foreign(inspect(custom_operator_model()), tmp_path, frozenset())
    assert caught.value.code == "M508"


def test_a_function_the_model_brings_along_is_no_custom_operator(tmp_path: Path) -> None:
    contents = inspect(own_function_model())
    assert contents.functions == {("pkg.own", "Twice")}
    refuse_foreign(contents, tmp_path, frozenset())


@pytest.mark.parametrize("location", ["../other/weights.bin", "/etc/passwd", "sub/weights.bin", "..", "."])
def test_external_data_outside_the_folder_is_refused_even_if_listed(tmp_path: Path, location: str) -> None:
    contents = inspect(external_data_model(location))
    assert contents.external == {location}
    with pytest.raises(ModelError) as caught:
        refuse_foreign(contents, tmp_path, frozenset({location}))
    assert caught.value.code == "M509"


def test_external_data_that_the_manifest_does_not_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r'"weights\.bin", which its manifest does not list') as caught:
        refuse_foreign(inspect(external_data_model("weights.bin")), tmp_path, frozenset())
    assert caught.value.code == "M509"
    refuse_foreign(inspect(external_data_model("weights.bin")), tmp_path, frozenset({"weights.bin"}))


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").symlink_to("/etc/passwd")
    with pytest.raises(ModelError) as caught:
        require_inside(tmp_path, "weights.bin")
    assert caught.value.code == "M509"


def test_external_data_hidden_in_attributes_and_sparse_tensors_is_found() -> None:
    def external(name: str, location: str) -> TensorProto:
        tensor = numpy_helper.from_array(np.ones(2, np.float32), name)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        tensor.external_data.add(key="offset", value="0")
        return tensor

    sparse = helper.make_sparse_tensor(
        external("values", "sparse.bin"), numpy_helper.from_array(np.array([0, 1]), "indices"), [13]
    )
    nodes = [
        helper.make_node("Constant", [], ["a"], value=external("a", "attribute.bin")),
        helper.make_node("Constant", [], ["b"], sparse_value=sparse),
        helper.make_node("Odd", [], ["c"], many=[external("c", "list.bin")]),
    ]
    made = graph(nodes)
    made.sparse_initializer.append(
        helper.make_sparse_tensor(
            external("more", "initializer.bin"), numpy_helper.from_array(np.array([0, 1]), "at"), [13]
        )
    )
    assert inspect(model(made)).external == {"attribute.bin", "sparse.bin", "list.bin", "initializer.bin"}


@pytest.mark.parametrize(
    "image", [b"", b"not a model at all", b"\x00" * 64, identity_model()[:60], b"\x3a\xff\xff"]
)
def test_what_is_no_model_is_told_plainly(image: bytes) -> None:
    with pytest.raises(ModelError, match="not an ONNX model") as caught:
        inspect(image)
    assert caught.value.code == "M510"


def field(number: int, content: bytes) -> bytes:
    """Return one length-delimited protobuf field."""
    size, head = len(content), bytearray([number << 3 | 2])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size]) + content


def test_graphs_nested_without_end_are_refused() -> None:
    inner = b""
    for _ in range(80):
        inner = field(1, field(5, field(6, inner)))  # a node whose attribute is a graph
    with pytest.raises(ModelError, match="nested too deeply"):
        inspect(field(7, inner))


@given(st.integers(0, len(IMAGE) - 1), st.integers(0, 255))
def test_a_garbled_file_is_read_or_refused_and_never_breaks_the_reader(at: int, byte: int) -> None:
    image = bytearray(IMAGE)
    image[at] = byte
    assert refusal_of(bytes(image)) in {"", "M510"}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(image: bytes) -> None:
    assert refusal_of(image) in {"", "M510"}


def test_the_manifest_names_the_hash_of_the_file() -> None:
    assert hashlib.sha256(IMAGE).hexdigest() in (DELIVERED / "manifest.toml").read_text()

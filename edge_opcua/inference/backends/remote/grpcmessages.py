"""The messages of the protocol's gRPC service as bytes; pure.

Source: kserve/open-inference-protocol, open_inference_grpc.proto; ModelConfig is Triton's extension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from edge_opcua.inference.backends.layout import Floats, Port
from edge_opcua.inference.backends.remote.protobuf import (
    Value,
    as_bytes,
    as_text,
    chunk,
    fields,
    head,
    integers,
    number,
    packed,
    text,
)
from edge_opcua.inference.backends.remote.protocol import (
    FP32,
    WIRE,
    Answer,
    ModelFacts,
    ServerFacts,
    port,
    tensor,
)

_RAW_INPUT: Final = 7
_FP32_CONTENTS: Final = 6


def model_request(name: str, version: str) -> bytes:
    """Return ModelReadyRequest, ModelMetadataRequest or ModelConfigRequest: they are the same."""
    return text(1, name) + text(2, version)


def infer_head(
    name: str,
    version: str,
    inputs: Mapping[str, Sequence[int]],
    outputs: Sequence[str],
    timeout_us: int,
) -> bytes:
    """Return a ModelInferRequest up to its numbers, which :func:`infer_raw` appends.

    Args:
        name: Name of the model.
        version: Its version, empty for none.
        inputs: Shape of each input.
        outputs: Names of the outputs that are wanted, empty for all.
        timeout_us: Parameter ``timeout``, µs; 0 for none.
    """
    message = model_request(name, version)
    if timeout_us:
        message += chunk(4, text(1, "timeout") + chunk(2, number(2, timeout_us)))
    for each, shape in inputs.items():
        message += chunk(5, text(1, each) + text(2, FP32) + packed(3, shape))
    for each in outputs:
        message += chunk(6, text(1, each))
    return message


def infer_raw(arrays: Sequence[Floats]) -> bytes:
    """Return the numbers of a ModelInferRequest, as bytes in the order of its inputs."""
    parts = [
        part for array in arrays for part in (head(_RAW_INPUT, array.nbytes), array.astype(WIRE).tobytes())
    ]
    return b"".join(parts)


def flag(message: bytes) -> bool:
    """Return what a ServerLiveResponse, ServerReadyResponse or ModelReadyResponse says."""
    return any(field == 1 and value == 1 for field, value in fields(memoryview(message)))


def server_facts(message: bytes) -> ServerFacts:
    """Return what a ServerMetadataResponse says."""
    name, version, extensions = "", "", set()
    for field, value in fields(memoryview(message)):
        if field == 1:
            name = as_text(value)
        elif field == 2:
            version = as_text(value)
        elif field == 3:
            extensions.add(as_text(value))
    return ServerFacts(name, version, frozenset(extensions))


def model_facts(message: bytes) -> ModelFacts:
    """Return what a ModelMetadataResponse says."""
    versions: list[str] = []
    inputs: list[Port] = []
    outputs: list[Port] = []
    for field, value in fields(memoryview(message)):
        if field == 2:
            versions.append(as_text(value))
        elif field == 4:
            inputs.append(_port(value))
        elif field == 5:
            outputs.append(_port(value))
    return ModelFacts(tuple(versions), tuple(inputs), tuple(outputs))


def most_samples(message: bytes) -> int:
    """Return ``max_batch_size`` of a ModelConfigResponse; 0 if it does not say."""
    for field, value in fields(memoryview(message)):
        if field == 1:
            for inner, most in fields(as_bytes(value)):
                if inner == 4 and isinstance(most, int):
                    return most if most < 1 << 31 else 0
    return 0


def answer(message: bytes) -> Answer:
    """Return what a ModelInferResponse says.

    Raises:
        ValueError: It is none, or its shapes and numbers do not agree.
    """
    version, outputs, raw = "", [], []
    for field, value in fields(memoryview(message)):
        if field == 2:
            version = as_text(value)
        elif field == 5:
            outputs.append(_output(value))
        elif field == 6:
            raw.append(as_bytes(value))
    if raw and len(raw) != len(outputs):
        raise ValueError(f"{len(outputs)} outputs with the numbers of {len(raw)}")
    found: dict[str, Floats] = {}
    for place, (name, datatype, shape, contents) in enumerate(outputs):
        if datatype != FP32:
            continue
        found[name] = tensor(name, datatype, shape, raw[place] if raw else contents)
    return Answer(version, found)


def _port(value: Value) -> Port:
    name, datatype, shape, _ = _output(value)
    return port(name, datatype, shape)


def _output(value: Value) -> tuple[str, str, tuple[int, ...], bytes]:
    """Return name, type, shape and numbers of a TensorMetadata or an InferOutputTensor."""
    name, datatype, shape, contents = "", "", [], b""
    for field, inner in fields(as_bytes(value)):
        if field == 1:
            name = as_text(inner)
        elif field == 2:
            datatype = as_text(inner)
        elif field == 3:
            shape += integers(inner)
        elif field == 5:
            contents = b"".join(
                bytes(as_bytes(numbers))
                for kind, numbers in fields(as_bytes(inner))
                if kind == _FP32_CONTENTS
            )
    return name, datatype, tuple(shape), contents

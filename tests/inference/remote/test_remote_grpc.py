"""The remote backend over gRPC: its bytes against Google's protobuf, its calls against grpcio's server."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.clock import SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.remote import RemoteBackend, grpcmessages
from edge_opcua.inference.backends.remote.patience import Stop, Until
from edge_opcua.testing import check_backend
from tests.inference.models import DELIVERED

PRESS = DELIVERED / "model.onnx"
FEATURES = {"features": (1, 13)}
STRING, INT64, BOOL, BYTES, FLOAT, INT32, MESSAGE = 9, 3, 8, 12, 2, 5, 11

# open_inference_grpc.proto of the protocol as far as we use it: name, number, type; * repeats, > a message.
PROTO: dict[str, list[tuple[str, int, int | str]]] = {
    "Flag": [("ready", 1, BOOL)],
    "ServerMetadataResponse": [("name", 1, STRING), ("version", 2, STRING), ("extensions*", 3, STRING)],
    "ModelRequest": [("name", 1, STRING), ("version", 2, STRING)],
    "TensorMetadata": [("name", 1, STRING), ("datatype", 2, STRING), ("shape*", 3, INT64)],
    "ModelMetadataResponse": [
        ("name", 1, STRING),
        ("versions*", 2, STRING),
        ("platform", 3, STRING),
        ("inputs*", 4, "TensorMetadata"),
        ("outputs*", 5, "TensorMetadata"),
    ],
    "InferParameter": [("bool_param", 1, BOOL), ("int64_param", 2, INT64), ("string_param", 3, STRING)],
    "ParametersEntry": [("key", 1, STRING), ("value", 2, "InferParameter")],
    "Contents": [("int_contents*", 2, INT32), ("fp32_contents*", 6, FLOAT), ("bytes_contents*", 8, BYTES)],
    "Tensor": [
        ("name", 1, STRING),
        ("datatype", 2, STRING),
        ("shape*", 3, INT64),
        ("parameters*", 4, "ParametersEntry"),
        ("contents", 5, "Contents"),
    ],
    "RequestedOutput": [("name", 1, STRING)],
    "ModelInferRequest": [
        ("model_name", 1, STRING),
        ("model_version", 2, STRING),
        ("id", 3, STRING),
        ("parameters*", 4, "ParametersEntry"),
        ("inputs*", 5, "Tensor"),
        ("outputs*", 6, "RequestedOutput"),
        ("raw_input_contents*", 7, BYTES),
    ],
    "ModelInferResponse": [
        ("model_name", 1, STRING),
        ("model_version", 2, STRING),
        ("id", 3, STRING),
        ("parameters*", 4, "ParametersEntry"),
        ("outputs*", 5, "Tensor"),
        ("raw_output_contents*", 6, BYTES),
    ],
    "ModelConfig": [("name", 1, STRING), ("max_batch_size", 4, INT32)],
    "ModelConfigResponse": [("config", 1, "ModelConfig")],
}


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="oip.proto", package="oip", syntax="proto3")
    for name, members in PROTO.items():
        made = file.message_type.add(name=name)
        for title, place, kind in members:
            one = made.field.add(name=title.rstrip("*"), number=place, label=3 if title.endswith("*") else 1)
            if isinstance(kind, str):
                one.type, one.type_name = MESSAGE, f".oip.{kind}"
            else:
                one.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"oip.{name}")) for name in PROTO
    }


MESSAGES = _messages()
TEXTS = st.text(max_size=20)
SHAPES = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)


@given(
    TEXTS,
    TEXTS,
    st.dictionaries(TEXTS, SHAPES, max_size=3),
    st.lists(TEXTS, max_size=3),
    st.integers(0, 2**40),
)
def test_a_request_of_ours_is_read_by_protobuf(
    name: str, version: str, inputs: dict[str, list[int]], outputs: list[str], timeout_us: int
) -> None:
    arrays = [np.arange(place + 1, dtype=np.float32) for place, _ in enumerate(inputs)]
    written = grpcmessages.infer_head(name, version, inputs, outputs, timeout_us) + grpcmessages.infer_raw(
        arrays
    )
    read = MESSAGES["ModelInferRequest"].FromString(written)
    assert (read.model_name, read.model_version) == (name, version)
    assert {one.name: list(one.shape) for one in read.inputs} == inputs
    assert all(one.datatype == "FP32" for one in read.inputs)
    assert [one.name for one in read.outputs] == outputs
    assert list(read.raw_input_contents) == [array.tobytes() for array in arrays]
    assert [one.value.int64_param for one in read.parameters] == ([timeout_us] if timeout_us else [])


@given(
    st.lists(
        st.tuples(TEXTS, st.lists(st.integers(1, 3), max_size=3)), max_size=4, unique_by=lambda one: one[0]
    ),
    TEXTS,
    st.booleans(),
)
def test_an_answer_of_protobuf_is_read_by_us(
    outputs: list[tuple[str, list[int]]], version: str, raw: bool
) -> None:
    response = MESSAGES["ModelInferResponse"](model_name="m", model_version=version, id="17")
    response.parameters.add(key="sequence").value.bool_param = True
    wanted = {}
    for place, (name, shape) in enumerate(outputs):
        array = np.random.default_rng(place).random(shape, np.float32)
        one = response.outputs.add(name=name, datatype="FP32", shape=shape)
        if raw:
            response.raw_output_contents.append(array.tobytes())
        else:
            one.contents.fp32_contents.extend(array.reshape(-1).tolist())
        wanted[name] = array
    answer = grpcmessages.answer(response.SerializeToString())
    assert answer.version == version
    assert answer.outputs.keys() == wanted.keys()
    for name, array in wanted.items():
        assert np.array_equal(answer.outputs[name], array)


@given(st.lists(TEXTS, max_size=3), SHAPES)
def test_metadata_of_protobuf_is_read_by_us(texts: list[str], shape: list[int]) -> None:
    server = MESSAGES["ServerMetadataResponse"](name="triton", version="2.51.0", extensions=texts)
    told = grpcmessages.server_facts(server.SerializeToString())
    assert (told.name, told.version, told.extensions) == ("triton", "2.51.0", frozenset(texts))
    facts = MESSAGES["ModelMetadataResponse"](name="m", versions=texts, platform="onnx")
    facts.inputs.add(name="x", datatype="FP32", shape=shape)
    read = grpcmessages.model_facts(facts.SerializeToString())
    assert read.versions == tuple(texts)
    assert read.inputs[0].shape == tuple(None if size < 0 else size for size in shape)
    assert read.outputs == ()
    config = MESSAGES["ModelConfigResponse"]()
    config.config.max_batch_size = 8
    assert grpcmessages.most_samples(config.SerializeToString()) == 8


@given(
    st.binary(max_size=60)
    | st.binary(max_size=60).map(lambda tail: b"\x2a\x10\x0a\x05score\x12\x04FP32" + tail)
)
def test_whatever_comes_is_an_answer_or_a_value_error(noise: bytes) -> None:
    for read in (grpcmessages.answer, grpcmessages.model_facts, grpcmessages.server_facts):
        try:
            read(noise)
        except ValueError:
            continue


@dataclass
class Service:
    """A server of grpcio that runs the delivered model; its messages are Google's protobuf."""

    fault: Callable[[Any], bytes | None] = lambda _context: None
    calls: list[str] = field(default_factory=list)
    authorization: list[Any] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._session = ort.InferenceSession(str(PRESS), providers=["CPUExecutionProvider"])

    @contextmanager
    def running(self, port: int = 0, credentials: Any = None) -> Iterator[Service]:
        server = grpc.server(ThreadPoolExecutor(4))
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._method(name, answer))
            for name, answer in {
                "ServerMetadata": self._server,
                "ModelReady": lambda asked: MESSAGES["Flag"](ready=self._is_there(asked)),
                "ModelMetadata": self._model,
                "ModelInfer": self._infer,
            }.items()
        }
        service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)
        server.add_generic_rpc_handlers((service,))
        where = f"127.0.0.1:{port}"
        if credentials is None:
            port = server.add_insecure_port(where)
        else:
            port = server.add_secure_port(where, credentials)
        self.url = f"grpc://127.0.0.1:{port}"
        server.start()
        try:
            yield self
        finally:
            server.stop(None).wait(5.0)

    def _method(self, name: str, answer: Callable[[bytes], Any]) -> Callable[[bytes, Any], bytes]:
        def call(asked: bytes, context: Any) -> bytes:
            self.calls.append(name)
            self.authorization.append(dict(context.invocation_metadata()).get("authorization"))
            spoilt = self.fault(context) if name == "ModelInfer" else None
            return bytes(answer(asked).SerializeToString()) if spoilt is None else spoilt

        return call

    def _is_there(self, asked: bytes) -> bool:
        read = MESSAGES["ModelRequest"].FromString(asked)
        return (read.name, read.version) == ("press-anomaly", "1")

    def _server(self, _: bytes) -> Any:
        return MESSAGES["ServerMetadataResponse"](name="tests", version="1", extensions=["schedule_policy"])

    def _model(self, _: bytes) -> Any:
        told = MESSAGES["ModelMetadataResponse"](name="press-anomaly", versions=["1"])
        for ports, found in (
            (told.inputs, self._session.get_inputs()),
            (told.outputs, self._session.get_outputs()),
        ):
            for one in found:
                ports.add(name=one.name, datatype="FP32", shape=one.shape)
        return told

    def _infer(self, asked: bytes) -> Any:
        read = MESSAGES["ModelInferRequest"].FromString(asked)
        feed = {
            one.name: np.frombuffer(raw, "<f4").reshape(list(one.shape))
            for one, raw in zip(read.inputs, read.raw_input_contents, strict=True)
        }
        names = [one.name for one in read.outputs]
        answer = MESSAGES["ModelInferResponse"](model_name=read.model_name, model_version=read.model_version)
        for name, array in zip(names, self._session.run(names, feed), strict=True):
            answer.outputs.add(name=name, datatype="FP32", shape=array.shape)
            answer.raw_output_contents.append(array.tobytes())
        return answer


@pytest.fixture
def service() -> Iterator[Service]:
    with Service().running() as made:
        yield made


def load(url: str, **options: Any) -> RemoteBackend:
    return RemoteBackend.load(
        PRESS,
        provider="remote",
        input_shapes=FEATURES,
        options={"url": url, "timeout_ms": 2000, **options},
        load_s=3,
    )


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(ModelError) as caught:
        call()
    return caught.value.code, str(caught.value)


def test_the_remote_backend_keeps_the_contract(service: Service) -> None:
    given_options = {"url": service.url, "timeout_ms": 2000}
    check_backend(RemoteBackend, PRESS, provider="remote", input_shapes=FEATURES, options=given_options)


def test_nobody_waits_longer_than_the_timeout_and_the_server_is_told(service: Service) -> None:
    left: list[float] = []

    def slow(context: Any) -> None:
        left.append(context.time_remaining())
        time.sleep(0.4)

    backend = load(service.url, timeout_ms=100)
    binding = backend.bind()
    service.fault = slow
    started = time.monotonic()
    assert refusal(binding.run)[0] == "M571"
    assert time.monotonic() - started < 1.0  # 100 ms, on a busy computer
    assert left[0] < 0.15  # rounded up on the wire
    service.fault = lambda _: None
    time.sleep(0.35)  # the late one has ended
    binding.run()


def test_a_run_is_cancelled_at_once(service: Service) -> None:
    backend = load(service.url, timeout_ms=30_000)
    binding = backend.bind()
    begun, ended = threading.Event(), threading.Event()

    def stuck(context: Any) -> None:
        context.add_callback(ended.set)
        begun.set()
        ended.wait(10.0)

    service.fault = stuck
    failure: list[tuple[str, str]] = []
    thread = threading.Thread(target=lambda: failure.append(refusal(binding.run)))
    thread.start()
    assert begun.wait(5.0)
    binding.cancel()
    thread.join(5.0)
    assert failure[0][0] == "M535"
    assert ended.wait(5.0)  # the server has learned of it
    service.fault = lambda _: None
    binding.cancel()
    binding.run()


def aborting(code: grpc.StatusCode) -> Callable[[Any], None]:
    return lambda context: context.abort(code, "so it is")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "M532"),
        (grpc.StatusCode.INTERNAL, "M532"),
        (grpc.StatusCode.NOT_FOUND, "M573"),
        (grpc.StatusCode.UNAVAILABLE, "M570"),
        (grpc.StatusCode.UNAUTHENTICATED, "M574"),
        (grpc.StatusCode.PERMISSION_DENIED, "M574"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "M576"),
        (grpc.StatusCode.CANCELLED, "M570"),
    ],
)
def test_what_the_server_says_no_with_is_passed_on(
    service: Service, status: grpc.StatusCode, code: str
) -> None:
    binding = load(service.url).bind()
    service.fault = aborting(status)
    found, text = refusal(binding.run)
    assert (found, "so it is" in text) == (code, True)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\xff\xff\xff",
        b"\x2a\x7f",
        b"\x12\x011\x2a\x0f\x0a\x05score\x12\x04FP32\x18\x01",
        b"\x12\x011" + b"\x32\x00" * 200_000,
    ],
    ids=["nothing", "noise", "cut off", "without its numbers", "much too long"],
)
def test_an_answer_that_is_none_is_refused(service: Service, reply: bytes) -> None:
    binding = load(service.url).bind()
    service.fault = lambda _: reply
    assert refusal(binding.run)[0] in {"M576", "M575"}  # an empty message has no version
    service.fault = lambda _: None
    binding.run()


def test_a_server_that_was_away_answers_again(service: Service) -> None:
    with Service().running() as away:
        backend = load(away.url, fail_after=1, retry_first_s=0.05)
        binding = backend.bind()
    assert refusal(binding.run)[0] == "M570"
    assert refusal(binding.run)[0] == "M572"
    with Service().running(int(away.url.rpartition(":")[2])):
        for _ in range(100):
            time.sleep(0.05)
            try:
                binding.run()
            except ModelError:
                continue
            break
        assert backend.describe()["circuit"] == "closed"


def test_the_load_is_refused_with_what_is_wrong(service: Service, tmp_path: Path) -> None:
    assert refusal(lambda: load(service.url, version="7"))[0] == "M573"
    with Service().running() as gone:
        pass
    assert refusal(lambda: load(gone.url))[0] in {"M570", "M571"}
    ca = tmp_path / "none.pem"
    assert refusal(lambda: load(service.url.replace("grpc", "grpcs"), ca=str(ca)))[0] == "M578"


def test_a_token_travels_as_metadata(service: Service, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    load(service.url, token={"file": str(secret)})
    assert set(service.authorization) == {"Bearer s3cret"}


def test_without_grpcio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    code, text = refusal(lambda: load("grpc://127.0.0.1:1"))
    assert (code, "edge-opcua[grpc]" in text) == ("M577", True)


def test_a_stop_that_comes_before_the_call_ends_it(service: Service) -> None:
    backend = load(service.url)
    binding, stop = backend.bind(), Stop()
    stop.begin()
    assert stop.ask()
    with pytest.raises(ModelError) as caught:
        binding._question.ask(Until.after(SystemClock(), 1000), stop)
    assert caught.value.code == "M535"

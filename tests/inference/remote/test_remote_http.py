"""The remote backend over HTTP against a server with real models that misbehaves in every way we know."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.remote import RemoteBackend
from edge_opcua.plugins import BACKENDS, InstalledPlugins
from edge_opcua.testing import check_backend
from tests.inference.models import DELIVERED, model
from tests.inference.remote.server import CUT, Piece, Say, V2Server

FEATURES = {"features": (1, 13)}
ROWS = {"features": (1, 4)}


def rows_model() -> bytes:
    """Return a model whose first axis is open: two outputs that follow from each row alone."""
    weights = numpy_helper.from_array(np.arange(4, dtype=np.float32).reshape(4, 1), "weights")
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["score"]),
        helper.make_node("Neg", ["features"], ["expected"]),
    ]
    made = helper.make_graph(
        nodes,
        "rows",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1]),
            helper.make_tensor_value_info("expected", TensorProto.FLOAT, ["N", 4]),
        ],
        [weights],
    )
    return model(made)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "rows" / "3"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(rows_model())
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def one(rows: Path) -> Iterator[V2Server]:
    press = DELIVERED / "model.onnx"
    models = {("press-anomaly", "1"): press, ("press-anomaly", ""): press, ("rows", "3"): rows}
    with V2Server(models).running() as server:
        yield server


@pytest.fixture
def server(one: V2Server) -> V2Server:
    one.say = Say()
    one.seen.clear()
    return one


def load(
    server: V2Server, path: Path = DELIVERED / "model.onnx", *, load_s: float | None = None, **options: Any
) -> RemoteBackend:
    shapes = ROWS if path.parent.name == "3" else FEATURES
    given = {"url": server.url, "timeout_ms": 2000, **options}
    return RemoteBackend.load(path, provider="remote", input_shapes=shapes, options=given, load_s=load_s)


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(ModelError) as caught:
        call()
    return caught.value.code, str(caught.value)


def test_the_plugin_of_the_entry_point_is_the_backend() -> None:
    assert InstalledPlugins().load(BACKENDS, "remote") is RemoteBackend


@pytest.mark.parametrize("encoding", ["auto", "binary", "json"])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_remote_backend_keeps_the_contract(server: V2Server, encoding: str, chunked: bool) -> None:
    server.say.chunked = chunked
    given = {"url": server.url, "timeout_ms": 2000, "encoding": encoding}
    check_backend(
        RemoteBackend,
        DELIVERED / "model.onnx",
        provider="remote",
        input_shapes=FEATURES,
        options=given,
    )


def test_a_model_with_an_open_first_axis_keeps_the_contract_in_batches(server: V2Server, rows: Path) -> None:
    given = {"url": server.url, "timeout_ms": 2000}
    check_backend(RemoteBackend, rows, provider="remote", input_shapes=ROWS, options=given)
    assert load(server, rows).most == 32


def test_what_runs_and_where_is_told(server: V2Server) -> None:
    told = load(server).describe()
    assert told["provider"] == f"remote {server.url}"
    assert told["runtime"] == "tests 1.2"
    assert told["model"] == "press-anomaly 1"
    assert told["wire"] == "http, binary"
    assert told["circuit"] == "closed"
    assert told["accelerated"] == 1.0


def test_the_model_of_the_same_name_and_version_is_asked_unless_the_options_say_another(
    server: V2Server,
) -> None:
    load(server)
    assert {one.path for one in server.asked("infer")} == {"/v2/models/press-anomaly/versions/1/infer"}
    server.seen.clear()
    load(server, version="")
    assert {one.path for one in server.asked("infer")} == {"/v2/models/press-anomaly/infer"}
    assert refusal(lambda: load(server, version="7"))[0] == "M573"
    assert refusal(lambda: load(server, model="../x?"))[0] == "M573"
    assert server.seen[-1].path == "/v2/models/..%2Fx%3F/versions/1/ready"


def test_a_server_without_the_binary_extension_is_spoken_to_in_json(server: V2Server) -> None:
    server.say = Say(binary=False, extensions=())
    backend = load(server)
    assert backend.describe()["wire"] == "http, json"
    binding = backend.bind()
    binding.inputs["features"][:] = 1.5
    binding.run()
    assert np.isfinite(binding.outputs["score"]).all()
    # JSON has no NaN: the sample is refused here, and says nothing of the server.
    binding.inputs["features"][:] = np.nan
    assert refusal(binding.run)[0] == "M532"
    assert backend.describe()["circuit"] == "closed"


@pytest.mark.parametrize("tells", [True, False])
def test_an_openvino_model_server_is_understood(server: V2Server, tells: bool) -> None:
    # From its source (2026): no extensions are told, yet bytes are taken; it answers with bytes only outputs
    # that were named; its JSON has many lines.
    server.say = Say(as_ovms=True, extensions=())
    if not tells:
        server.say.metadata = lambda told: {**told, "outputs": []}
    backend = load(server)
    assert backend.describe()["wire"] == "http, binary"
    binding = backend.bind()
    binding.inputs["features"][:] = 1.0
    binding.run()
    wanted = {name: array.copy() for name, array in binding.outputs.items()}
    server.say = Say()
    binding.run()
    assert all(np.array_equal(array, wanted[name]) for name, array in binding.outputs.items())


def test_what_a_ready_server_says_besides_does_not_matter(server: V2Server) -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    server.say = Say(spoil=lambda whole: [page], only_for="ready")
    load(server)


def test_the_server_is_told_how_long_anybody_waits_if_it_can_make_use_of_it(server: V2Server) -> None:
    load(server, timeout_ms=123)
    last = server.asked("infer")[-1]
    head = json.loads(last.body[: int(last.fields["inference-header-content-length"])])
    assert head["parameters"]["timeout"] == 123_000
    server.say = Say(extensions=("binary_tensor_data",))
    load(server, timeout_ms=123)
    assert b"timeout" not in server.asked("infer")[-1].body


def test_the_servers_own_limit_of_a_batch_is_kept(server: V2Server, rows: Path) -> None:
    server.say.most = 8
    assert load(server, rows).most == 8
    assert refusal(lambda: load(server, rows, max_batch=9))[0] == "M575"
    server.say = Say(most=8, extensions=("binary_tensor_data",))  # it does not tell: the first try does
    code, text = refusal(lambda: load(server, rows))
    assert (code, "max_batch" in text) == ("M575", True)
    assert load(server, rows, max_batch=8).most == 8


def test_connections_are_kept_and_one_is_made_for_each_that_asks_at_the_same_time(server: V2Server) -> None:
    backend = load(server)
    bindings = [backend.bind() for _ in range(3)]
    for binding in bindings * 3:
        binding.run()
    assert server.connections == 1
    together = threading.Barrier(3)

    def work(binding: Any) -> None:
        together.wait(5.0)
        for _ in range(20):
            binding.run()

    threads = [threading.Thread(target=work, args=(binding,)) for binding in bindings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert 1 < server.connections <= 3


def test_a_backend_that_is_let_go_keeps_no_connection(server: V2Server) -> None:
    backend = load(server)
    binding = backend.bind()
    binding.run()
    backend.close()
    binding.run()
    assert server.connections == 2


def test_a_connection_that_the_server_closed_meanwhile_costs_no_run(server: V2Server) -> None:
    binding = load(server).bind()
    binding.run()
    server.drop_all()
    time.sleep(0.02)
    binding.run()  # uvicorn, for one, closes after 5 s without a request
    assert server.connections == 2


def test_a_request_on_a_kept_connection_that_ends_before_any_answer_goes_out_once_more(
    server: V2Server,
) -> None:
    binding = load(server).bind()
    cut = iter([[CUT]])
    server.say.spoil = lambda whole: next(cut, [whole])
    binding.run()
    assert len(server.asked("infer")) == 3  # one at the load
    # But never endlessly, and never after a byte of the answer came.
    server.say.spoil = lambda whole: [CUT]
    assert refusal(binding.run)[0] == "M570"
    server.say.spoil = None
    binding.run()
    server.seen.clear()
    server.say.spoil = lambda whole: [whole[:20], CUT]
    assert refusal(binding.run)[0] == "M570"
    assert len(server.seen) == 1


def trickling(whole: bytes) -> Iterator[Piece]:
    for at in range(len(whole)):
        yield whole[at : at + 1]
        yield 0.02


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: [30.0],
        trickling,
        lambda whole: [whole[:-1], 30.0],
        lambda whole: [whole[:40], 30.0],
        lambda whole: [b"HTTP/1.1 100 Continue\r\n\r\n", 30.0],
    ],
    ids=["silent", "a byte now and then", "all but the last byte", "half a head", "a promise"],
)
def test_nobody_waits_longer_than_the_timeout(server: V2Server, spoil: Any) -> None:
    binding = load(server, timeout_ms=150, fail_after=100).bind()
    server.say.spoil = spoil
    started = time.monotonic()
    assert refusal(binding.run)[0] == "M571"
    assert time.monotonic() - started < 1.0  # 150 ms, on a busy computer
    # The late answer is not taken for that of the next request: another connection.
    server.say.spoil = None
    before = server.connections
    binding.run()
    assert server.connections == before + 1


def lied(old: bytes, new: bytes) -> Callable[[bytes], list[Piece]]:
    return lambda whole: [whole.replace(old, new, 1), CUT]


NONSENSE: dict[str, Callable[[bytes], list[Piece]]] = {
    "noise": lambda whole: [bytes(range(256)) * 4, CUT],
    "a line without an end": lambda whole: [b"x" * 100_000, CUT],
    "another protocol": lambda whole: [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", CUT],
    "HTTP/2": lambda whole: [b"HTTP/2 200\r\n\r\n", CUT],
    "a header that is none": lied(b"Content-Length", b"Content Length"),
    "a header with a NUL": lied(b"200 X\r\n", b"200 X\r\nA: \0\r\n"),
    "a length that is none": lambda whole: [b"HTTP/1.1 200 X\r\nContent-Length: -1\r\n\r\n", CUT],
    "a length beyond all": lambda whole: [b"HTTP/1.1 200 X\r\nContent-Length: 99999999999\r\n\r\n", 9.0],
    "two lengths": lied(b"Content-Length: ", b"Content-Length: 3\r\nContent-Length: "),
    "two ways to tell the length": lied(b"200 X\r\n", b"200 X\r\nTransfer-Encoding: chunked\r\n"),
    "an unknown coding": lambda whole: [b"HTTP/1.1 200 X\r\nTransfer-Encoding: gzip\r\n\r\n", CUT],
    "a compressed body": lied(b"200 X\r\n", b"200 X\r\nContent-Encoding: gzip\r\n"),
    "a chunk without a length": lambda whole: [
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        CUT,
    ],
    "chunks without an end": lambda whole: [
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"[" * 0x1000 + b"\r\n",
        *([b"1000\r\n" + b"[" * 0x1000 + b"\r\n"] * 100),
        CUT,
    ],
    "endless promises": lambda whole: [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50, whole],
    "a redirection": lambda whole: [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    ],
    "a web page": lambda whole: [b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>no</html>"],
    "lists within lists": lambda whole: [b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60000],
    "a JSON part longer than the body": lied(
        b"Inference-Header-Content-Length: ", b"Inference-Header-Content-Length: 9"
    ),
    "a JSON length that is none": lied(
        b"Inference-Header-Content-Length: ", b"Inference-Header-Content-Length: x"
    ),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_an_answer_that_is_none_is_refused_and_the_connection_dropped(server: V2Server, name: str) -> None:
    binding = load(server, fail_after=100).bind()
    binding.outputs["score"][:] = 7.0
    server.say.spoil = NONSENSE[name]
    code, text = refusal(binding.run)
    assert code == "M576", text
    assert len(text) < 500
    assert binding.outputs["score"] == 7.0  # nothing of it was used
    server.say.spoil = None
    binding.run()


def changed(**values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(told: dict[str, Any]) -> dict[str, Any]:
        told["outputs"][0] = {**told["outputs"][0], **values}
        return told

    return change


LIES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "another shape": changed(shape=[2], parameters={"binary_data_size": 8}),
    "a shape of nothing": changed(shape=[0], parameters={"binary_data_size": 0}),
    "a negative shape": changed(shape=[-1]),
    "a shape beyond all": changed(shape=[2**40, 2**40]),
    "a shape that is none": changed(shape="[1]"),
    "a shape of true": changed(shape=[True]),
    "another type": changed(datatype="INT64"),
    "more bytes than told": changed(parameters={"binary_data_size": 400}),
    "bytes that are none": changed(parameters={"binary_data_size": "4"}),
    "another name": changed(name="skore"),
    "no name": changed(name=None),
    "no outputs": lambda told: {**told, "outputs": []},
    "outputs that are none": lambda told: {**told, "outputs": {"score": 1}},
    "outputs of nothing": lambda told: {**told, "outputs": [None]},
}


@pytest.mark.parametrize("name", LIES)
def test_an_answer_that_contradicts_itself_or_the_load_is_refused(server: V2Server, name: str) -> None:
    binding = load(server, fail_after=100).bind()
    server.say.answer = LIES[name]
    code, text = refusal(binding.run)
    assert code == "M576", text
    server.say.answer = None
    binding.run()


def test_a_column_for_a_row_of_single_numbers_is_the_same_numbers(server: V2Server) -> None:
    # MLServer shows [1] as [1, 1].
    server.say.answer = changed(shape=[1, 1])
    binding = load(server).bind()
    binding.run()
    assert binding.outputs["score"].shape == (1,)


def test_another_version_than_the_proven_one_is_refused(server: V2Server) -> None:
    backend = load(server, version="")
    server.say.answer = lambda told: {**told, "model_version": "2"}
    code, text = refusal(backend.bind().run)
    assert code == "M575"
    assert "version 2 answers, version none was proven" in text


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "M532"), (500, "M532"), (401, "M574"), (403, "M574"), (404, "M573"), (429, "M573"), (503, "M573")],
)
def test_what_the_server_says_no_with_is_passed_on(server: V2Server, status: int, code: str) -> None:
    binding = load(server).bind()
    server.say.status = (status, json.dumps({"error": "\x1b[31mout of\nmemory" + "y" * 1000}).encode())
    found, text = refusal(binding.run)
    assert found == code
    assert f"HTTP {status}" in text
    assert "out of memory" in text  # nothing that a terminal would obey
    assert "\x1b" not in text
    assert len(text) < 500


METADATA: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "another input": (lambda told: {**told, "inputs": [{**told["inputs"][0], "name": "x"}]}, "M575"),
    "more inputs": (lambda told: {**told, "inputs": told["inputs"] * 2 + told["outputs"]}, "M575"),
    "another input type": (
        lambda told: {**told, "inputs": [{**told["inputs"][0], "datatype": "FP64"}]},
        "M575",
    ),
    "another input shape": (
        lambda told: {**told, "inputs": [{**told["inputs"][0], "shape": [1, 12]}]},
        "M575",
    ),
    "another output shape": (
        lambda told: {**told, "outputs": [{**told["outputs"][0], "shape": [2]}, *told["outputs"][1:]]},
        "M575",
    ),
    "no shape": (lambda told: {**told, "inputs": [{"name": "features", "datatype": "FP32"}]}, "M576"),
    "inputs that are none": (lambda told: {**told, "inputs": "features"}, "M576"),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_that_does_not_fit_the_manifest_refuses_the_load(server: V2Server, name: str) -> None:
    server.say.metadata, code = METADATA[name]
    assert refusal(lambda: load(server))[0] == code


def test_a_server_that_tells_nothing_of_its_models_is_held_against_its_first_answer(server: V2Server) -> None:
    # KServe's own servers, and MLServer without settings of the model, answer with empty lists.
    server.say.metadata = lambda told: {"name": told["name"], "versions": [], "inputs": [], "outputs": []}
    backend = load(server)
    assert backend.most == 1
    shapes = {name: array.shape for name, array in backend.bind().outputs.items()}
    assert shapes == {"score": (1,), "confidence": (1,), "expected": (1, 13), "contributions": (1, 13)}


def test_outputs_of_other_types_are_not_asked_for(server: V2Server) -> None:
    server.say.metadata = lambda told: {
        **told,
        "outputs": [*told["outputs"], {"name": "label", "datatype": "BYTES", "shape": [1]}],
    }
    assert "label" not in load(server).bind().outputs


def test_a_run_is_cancelled_at_once_and_only_while_it_runs(server: V2Server) -> None:
    backend = load(server, timeout_ms=30_000)
    binding = backend.bind()
    binding.cancel()  # none is in progress
    binding.run()
    server.say.spoil = lambda whole: [30.0]
    failure: list[tuple[str, str]] = []
    thread = threading.Thread(target=lambda: failure.append(refusal(binding.run)))
    thread.start()
    while len(server.asked("infer")) < 3:
        time.sleep(0.005)
    binding.cancel()
    thread.join(5.0)
    assert failure[0][0] == "M535"
    assert backend.describe()["circuit"] == "closed"  # it says nothing of the server
    server.say.spoil = None
    binding.run()


def test_no_run_ever_gets_the_answer_of_another_whatever_is_cancelled(server: V2Server, rows: Path) -> None:
    backend = load(server, rows, fail_after=100, retry_first_s=0.01)
    bindings = [backend.bind() for _ in range(4)]
    over = threading.Event()
    wrong: list[str] = []
    right = [0] * len(bindings)

    def work(number: int) -> None:
        binding, turn = bindings[number], 0
        while not over.is_set():
            turn += 1
            row = np.array([number, turn, -turn, 1], np.float32)
            binding.inputs["features"][0] = row
            try:
                binding.run()
            except ModelError as exc:
                if exc.code not in {"M535", "M572"}:  # on a busy computer, for want of an answer
                    wrong.append(str(exc))
                time.sleep(0.001)
                continue
            right[number] += 1
            if not np.array_equal(binding.outputs["expected"][0], -row):
                wrong.append(f"{row} got {binding.outputs['expected'][0]}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(bindings))]
    for thread in threads:
        thread.start()
    dice = np.random.default_rng(5)
    until = time.monotonic() + 0.7
    while time.monotonic() < until:
        bindings[dice.integers(len(bindings))].cancel()
        time.sleep(float(dice.random()) * 0.01)
    over.set()
    for thread in threads:
        thread.join(5.0)
    assert wrong == []
    assert min(right) > 5


def test_a_server_that_is_away_is_left_alone_and_asked_again_later(server: V2Server, rows: Path) -> None:
    with V2Server({("rows", "3"): rows}).running() as away:
        backend = load(away, rows, fail_after=2, retry_first_s=0.1)
        bindings = [backend.bind(), backend.bind(4)]
    assert [refusal(bindings[0].run)[0] for _ in range(3)] == ["M570", "M570", "M572"]
    code, text = refusal(bindings[1].run)  # another binding, the same server
    assert code == "M572"
    assert "cannot be reached" in text
    assert backend.describe()["circuit"] == "open"
    with away.running():
        time.sleep(0.15)
        bindings[1].run()
        assert backend.describe()["circuit"] == "closed"
        bindings[0].run()


def test_the_load_is_refused_with_what_is_wrong(server: V2Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
        silent = f"http://127.0.0.1:{port}"
        assert refusal(lambda: load(server, url=silent, load_s=0.2))[0] == "M571"
    assert refusal(lambda: load(server, url=f"http://127.0.0.1:{port}"))[0] == "M570"
    assert refusal(lambda: load(server, url="http://no-such-host.invalid", load_s=5))[0] in {
        "M570",
        "M571",  # where nobody answers a question of DNS
    }
    assert refusal(lambda: load(server, timeout=1))[0] == "M579"
    assert refusal(lambda: load(server, DELIVERED / "other.onnx"))[0] == "M510"
    server.say = Say(status=(400, b""), only_for="ready")
    assert refusal(lambda: load(server))[0] == "M573"
    server.say = Say(
        spoil=lambda whole: [b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"ready":false}'],
        only_for="ready",
    )
    assert refusal(lambda: load(server))[0] == "M573"


def asked_with(server: V2Server) -> Mapping[str, str]:
    return server.seen[-1].fields


def test_secrets_are_read_from_files_and_sent(server: V2Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    server.say.authorization = "Bearer s3cret"
    load(server, token={"file": str(secret)})
    assert asked_with(server)["authorization"] == "Bearer s3cret"
    server.say.authorization = "Basic bGluZTE6czNjcmV0"
    load(server, user="line1", password={"file": str(secret)})
    assert refusal(lambda: load(server))[0] == "M574"
    secret.chmod(0o644)
    assert refusal(lambda: load(server, token={"file": str(secret)}))[0] == "M578"
    secret.chmod(0o600)
    secret.write_text("two\nlines")  # a header of its own would follow
    assert refusal(lambda: load(server, token={"file": str(secret)}))[0] == "M578"
    assert refusal(lambda: load(server, token={"file": str(tmp_path / "none")}))[0] == "M578"

"""Readers of HTTP and JSON on whatever may come: an answer, or an error with a code; and waits that end."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.clock import SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.remote.addresses import Addresses
from edge_opcua.inference.backends.remote.http1 import HttpClient
from edge_opcua.inference.backends.remote.patience import Stop, Until
from edge_opcua.inference.backends.remote.protocol import Answer, Asked
from edge_opcua.inference.backends.remote.rest import RestQuestion
from edge_opcua.inference.backends.remote.stream import Stream, connect

CLOCK = SystemClock()
CODES = {"M532", "M570", "M573", "M574", "M576"}


def heard(sent: bytes) -> Answer:
    """Ask a question whose answer is already there, and after it the end of the connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        client = HttpClient(Addresses("127.0.0.1", 1, "it"), "it", None)
        client._take = lambda: Stream(ours, "it")  # type: ignore[method-assign]
        asked = Asked({"x": (1, 2)}, (), 100_000, 0, binary=True)
        return RestQuestion(client, "it", "/v2/models/m/infer", "", asked).ask(
            Until.after(CLOCK, 5000), Stop()
        )


def good() -> bytes:
    outputs: list[dict[str, Any]] = [
        {"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
        {"name": "z", "datatype": "FP32", "shape": [1], "data": [3.5]},
    ]
    head = json.dumps({"model_name": "m", "model_version": "1", "outputs": outputs}).encode()
    body = head + np.array([1, 2], "<f4").tobytes()
    fields = f"Inference-Header-Content-Length: {len(head)}\r\nContent-Length: {len(body)}\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\n" + fields.encode() + body


GOOD = good()


def test_numbers_may_come_as_bytes_and_in_json_in_one_answer() -> None:
    answer = heard(GOOD)
    assert answer.version == "1"
    assert {name: array.tolist() for name, array in answer.outputs.items()} == {"y": [[1, 2]], "z": [3.5]}


def test_the_end_of_the_connection_ends_a_body_without_a_length() -> None:
    head, _, body = GOOD.partition(b"\r\n\r\n")
    without = b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length"))
    assert heard(without + b"\r\n\r\n" + body).outputs["y"].tolist() == [[1, 2]]


@given(st.integers(0, len(GOOD)), st.integers(0, 40), st.binary(max_size=40))
def test_an_answer_that_was_changed_anywhere_is_an_answer_or_has_a_code(
    at: int, gone: int, instead: bytes
) -> None:
    try:
        answer = heard(GOOD[:at] + instead + GOOD[at + gone :])
    except ModelError as exc:
        assert exc.code in CODES  # noqa: PT017 - both ends are right
    else:
        assert all(array.dtype == np.float32 for array in answer.outputs.values())


@pytest.mark.parametrize("data", [["1"], [True], [None], [{}], "1", [2**70]], ids=str)
def test_what_is_no_number_in_json_is_not_taken_for_one(data: Any) -> None:
    output = {"name": "y", "datatype": "FP32", "shape": [1], "data": data}
    body = json.dumps({"model_version": "1", "outputs": [output]}).encode()
    with pytest.raises(ModelError) as caught:
        heard(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    assert caught.value.code == "M576"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["outputs", "model_version", "name", "shape", "datatype", "data", "parameters"]))
def test_json_of_any_form_is_an_answer_or_has_a_code(value: Any, key: str) -> None:
    output: dict[str, Any] = {"name": "y", "datatype": "FP32", "shape": [1], "data": [1.0]}
    told: dict[str, Any] = {"model_version": "1", "outputs": [output]}
    (told if key in told else output)[key] = value
    body = json.dumps(told).encode()
    try:
        heard(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    except ModelError as exc:
        assert exc.code == "M576"  # noqa: PT017 - both ends are right


def test_the_second_address_is_tried_when_the_first_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as full:
        # A listener whose queue is full lets a new connection wait, as a host that is switched off does.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        places = [(socket.AF_INET, full.getsockname()), (socket.AF_INET, listener.getsockname())]
        connect(places, "it", None, Until.after(CLOCK, 400), Stop()).close()
        with pytest.raises(ModelError) as caught:
            connect(places[:1], "it", None, Until.after(CLOCK, 50), Stop())
        assert caught.value.code == "M571"
        for filler in fillers:
            filler.close()


def test_a_stop_ends_a_wait_for_a_connection_too() -> None:
    stop = Stop()
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        stop.begin()
        timer = threading.Timer(0.05, stop.ask)
        timer.start()
        with pytest.raises(ModelError) as caught:
            connect([(socket.AF_INET, full.getsockname())], "it", None, Until.after(CLOCK, 15_000), stop)
        timer.join()
        assert caught.value.code == "M535"
        for filler in fillers:
            filler.close()


def test_a_stop_that_was_asked_for_nothing_is_forgotten() -> None:
    stop = Stop()
    assert not stop.ask()
    stop.begin()
    assert stop.ask()
    assert stop.ask()
    stop.end()
    stop.begin()
    stop.check()


def test_a_name_that_nobody_knows_is_asked_for_once_at_a_time() -> None:
    addresses = Addresses("no-such-host.invalid", 1, "it")
    with pytest.raises(ModelError) as caught:
        addresses.known(Until.after(CLOCK, 5000))
    assert caught.value.code in {"M570", "M571"}


def test_a_server_that_reads_nothing_is_waited_for_no_longer_than_one_that_answers_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        stream = Stream(ours, "it")
        with pytest.raises(ModelError) as caught:
            stream.send(bytes(8_000_000), Until.after(CLOCK, 50), Stop())
        assert caught.value.code == "M571"


def test_a_request_larger_than_every_buffer_arrives_whole() -> None:
    ours, theirs = socket.socketpair()
    sent = np.random.default_rng(1).bytes(4_000_000)
    heard: list[bytes] = []
    with ours, theirs:
        ours.settimeout(0)

        def read() -> None:
            left = len(sent)
            while left:
                heard.append(theirs.recv(65_536))
                left -= len(heard[-1])

        thread = threading.Thread(target=read)
        thread.start()
        Stream(ours, "it").send(sent, Until.after(CLOCK, 10_000), Stop())
        thread.join(5.0)
    assert b"".join(heard) == sent


def test_a_connection_that_is_lost_while_sending_is_told_so() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(0)
        theirs.close()
        with pytest.raises(ModelError) as caught:
            Stream(ours, "it").send(bytes(100), Until.after(CLOCK, 1000), Stop())
    assert caught.value.code == "M570"

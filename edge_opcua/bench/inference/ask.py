"""A quick client of servers of models over HTTP: connections kept open, requests made beforehand, no library.

What it measures is the server: it spends some 20 µs on a request, and reads of an answer only its length.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from edge_opcua.bench.inference.models import BenchModel, Floats
from edge_opcua.bench.plc.peers import MissingPeerError

TIMEOUT_S: Final = 10.0
PATIENCE: Final = 4


def as_json(port: int, path: str, row: Floats) -> bytes:
    """Return a request of LitServe's own kind."""
    return _post(port, path, json.dumps({"input": row.tolist()}).encode())


def as_open_inference(port: int, model: BenchModel, row: Floats) -> bytes:
    """Return a request of the Open Inference Protocol with its tensor as JSON."""
    tensor = _tensor(model) | {"data": row.tolist()}
    return _post(port, "/v2/models/model/infer", json.dumps({"inputs": [tensor]}).encode())


def as_binary(port: int, model: BenchModel, row: Floats) -> bytes:
    """Return a request of the Open Inference Protocol with its tensor as bytes behind the JSON."""
    data = row.astype("<f4").tobytes()
    tensor = _tensor(model) | {"parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return _post(
        port,
        "/v2/models/model/infer",
        head + data,
        f"Inference-Header-Content-Length: {len(head)}\r\nContent-Type: application/octet-stream\r\n",
    )


def _tensor(model: BenchModel) -> dict[str, object]:
    return {"name": model.input_name, "datatype": "FP32", "shape": [1, *model.shape]}


def _post(port: int, path: str, body: bytes, more: str = "Content-Type: application/json\r\n") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


class Connection:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    def ask(self, request: bytes) -> bytes:
        """Send a request and return the body of the answer."""
        self.socket.sendall(request)
        while (body := self.receive()) is None:
            pass
        return body

    def receive(self) -> bytes | None:
        """Take what is there; return the body once the answer is whole.

        Raises:
            MissingPeerError: The server closed the connection, or answered with an error.
        """
        more = self.socket.recv(1 << 20)
        if not more:
            raise MissingPeerError("the server closed the connection")
        self._buffer += more
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._buffer[:end]).lower()
        size = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or 0)
        if len(self._buffer) < end + 4 + size:
            return None
        body = bytes(self._buffer[end + 4 : end + 4 + size])
        del self._buffer[: end + 4 + size]
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise MissingPeerError(f"the server answers {body[:200]!r}")
        return body

    def close(self) -> None:
        """Close it."""
        self.socket.close()


def latencies_ms(port: int, request: bytes, seconds: float) -> list[float]:
    """Ask one after the other for a time and return what each answer took, ms."""
    took = []
    with contextlib.closing(Connection(port)) as connection:
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            connection.ask(request)
            took.append((time.perf_counter() - began) * 1e3)
    return took


def rate_per_s(port: int, requests: Sequence[bytes], seconds: float) -> float:
    """Ask over as many connections as there are requests, each again once answered; return answers per s.

    A server that answers few in that time gets up to :data:`PATIENCE` times as long, until each connection
    had two.
    """
    with contextlib.ExitStack() as stack:
        open_ones = [stack.enter_context(contextlib.closing(Connection(port))) for _ in requests]
        by_fd = dict(zip((each.socket.fileno() for each in open_ones), open_ones, strict=True))
        sends = dict(zip(by_fd, requests, strict=True))
        poll = select.poll()
        for fd, connection in by_fd.items():
            poll.register(fd, select.POLLIN)
            connection.socket.sendall(sends[fd])
        answered, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds or (
            answered < 2 * len(requests) and passed < PATIENCE * seconds
        ):
            for fd, _ in poll.poll(TIMEOUT_S * 1000):
                if by_fd[fd].receive() is not None:
                    answered += 1
                    by_fd[fd].socket.sendall(sends[fd])
        return answered / passed


def same(answer: Floats, wanted: Floats) -> bool:
    """Return whether a server answers what the model answers here."""
    return answer.shape == wanted.shape and bool(np.allclose(answer, wanted, rtol=1e-4, atol=1e-5))


def numbers(body: bytes) -> list[float]:
    """Return the numbers of an answer in JSON, whichever server gave it."""
    answer = json.loads(body)
    found: list[float] = answer["output"] if "output" in answer else answer["outputs"][0]["data"]
    return found

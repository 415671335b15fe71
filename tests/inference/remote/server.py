"""A server of the Open Inference Protocol over HTTP that runs real models, and misbehaves on request."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

CUT = object()
"""In a spoilt answer: close the connection here."""

Piece = bytes | float | object
"""Bytes to send, seconds to wait, or CUT."""
Spoil = Callable[[bytes], Sequence[Piece] | Iterator[Piece]]

_MODEL = re.compile(r"(?P<root>.*)/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<rest>/\w+)?")


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    fields: Mapping[str, str]
    body: bytes
    connection: int


@dataclass
class Say:
    """How the server answers, and what it says of itself; a test changes it while it runs."""

    spoil: Spoil | None = None
    binary: bool = True
    chunked: bool = False
    extensions: Sequence[str] = ("binary_tensor_data", "model_configuration", "schedule_policy")
    most: int = 0
    metadata: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    answer: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    status: tuple[int, bytes] | None = None
    authorization: str = ""
    as_ovms: bool = False
    """Answer as OpenVINO Model Server does: bytes only for outputs that were named, JSON in many lines."""
    only_for: str = "infer"
    """What of the path `spoil` and `status` apply to."""


@dataclass
class V2Server:
    """The server; ``port`` is known once it runs."""

    models: Mapping[tuple[str, str], Path]
    tls: ssl.SSLContext | None = None
    say: Say = field(default_factory=Say)
    seen: list[Seen] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = []
        self._sessions = {
            key: ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            for key, path in self.models.items()
        }

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections there have been."""
        return len({one.connection for one in self.seen})

    def asked(self, part: str) -> list[Seen]:
        return [one for one in self.seen if part in one.path]

    @contextmanager
    def running(self) -> Iterator[V2Server]:
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._closing.clear()
        thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            self.drop_all()
            thread.join(5.0)

    def drop_all(self) -> None:
        """Close every connection there is, as a server does with idle ones."""
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        number = 0
        while not self._closing.is_set():
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            number += 1
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            with sock, sock.makefile("rb") as stream:
                while request := self._read(stream, number):
                    self.seen.append(request)
                    if not self._send(sock, self._reply(request), request.path):
                        return
        except OSError:
            return

    def _read(self, stream: Any, number: int) -> Seen | None:
        first = stream.readline().decode("latin-1")
        if not first.rstrip().endswith("HTTP/1.1"):
            return None  # the end, or somebody who speaks TLS
        fields: dict[str, str] = {}
        while line := stream.readline().decode().strip():
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        body = stream.read(int(fields.get("content-length", 0)))
        method, path, _ = first.split()
        return Seen(method, path, fields, body, number)

    def _send(self, sock: socket.socket, whole: bytes, path: str) -> bool:
        spoil = self.say.spoil if self.say.only_for in path else None
        for piece in [whole] if spoil is None else spoil(whole):
            if piece is CUT:
                return False
            if isinstance(piece, bytes):
                sock.sendall(piece)
            elif isinstance(piece, float) and self._closing.wait(piece):
                return False
        return True

    def _reply(self, request: Seen) -> bytes:
        if self.say.authorization and request.fields.get("authorization") != self.say.authorization:
            return self._response(401, b'{"error":"who are you?"}')
        if self.say.status is not None and self.say.only_for in request.path:
            return self._response(*self.say.status)
        if request.path.endswith("/v2"):
            told = {"name": "tests", "version": "1.2", "extensions": list(self.say.extensions)}
            return self._response(200, json.dumps(told).encode())
        found = _MODEL.fullmatch(request.path)
        if found is None:
            return self._response(404, b"no such page")
        session = self._sessions.get((found["name"], found["version"] or ""))
        if session is None:
            return self._response(404, b'{"error":"unknown model"}')
        match found["rest"]:
            case "/ready":
                return self._response(200, b"{}" if self.say.as_ovms else b"")
            case "/config":
                return self._response(200, json.dumps({"max_batch_size": self.say.most}).encode())
            case "/infer":
                return self._infer(request, session, found["name"], found["version"] or "")
        return self._response(200, json.dumps(self._metadata(session, found["name"])).encode())

    def _metadata(self, session: Any, name: str) -> dict[str, Any]:
        def tensors(ports: Any) -> list[dict[str, Any]]:
            return [
                {
                    "name": one.name,
                    "datatype": "FP32",
                    "shape": [size if isinstance(size, int) else -1 for size in one.shape],
                }
                for one in ports
            ]

        told = {
            "name": name,
            "versions": ["1", "2"],
            "platform": "onnx",
            "inputs": tensors(session.get_inputs()),
            "outputs": tensors(session.get_outputs()),
        }
        return told if self.say.metadata is None else self.say.metadata(told)

    def _infer(self, request: Seen, session: Any, name: str, version: str) -> bytes:
        size = int(request.fields.get("inference-header-content-length", len(request.body)))
        if size != len(request.body) and not self.say.binary:
            return self._response(400, b'{"error":"Extra data"}')
        message = json.loads(request.body[:size])
        rest, feed = request.body[size:], {}
        for one in message["inputs"]:
            count = one.get("parameters", {}).get("binary_data_size")
            if count is None:
                flat = np.array(one["data"], np.float32)
            else:
                flat, rest = np.frombuffer(rest[:count], "<f4"), rest[count:]
            feed[one["name"]] = flat.reshape(one["shape"])
        if self.say.most and max(len(array) for array in feed.values()) > self.say.most:
            return self._response(400, b'{"error":"batch size too large"}')
        wanted = message.get("outputs", ())
        everything = bool(message.get("parameters", {}).get("binary_data_output"))
        by_name = {one["name"]: one.get("parameters", {}).get("binary_data", everything) for one in wanted}
        names = list(by_name) or [one.name for one in session.get_outputs()]
        told: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": []}
        numbers = b""
        for each, array in zip(names, session.run(names, feed), strict=True):
            facts: dict[str, Any] = {"name": each, "datatype": "FP32", "shape": list(array.shape)}
            if by_name.get(each, everything and not self.say.as_ovms):
                raw = array.astype("<f4").tobytes()
                numbers += raw
                facts["parameters"] = {"binary_data_size": len(raw)}
            else:
                facts["data"] = array.reshape(-1).tolist()
            told["outputs"].append(facts)
        if self.say.answer is not None:
            told = self.say.answer(told)
        head = json.dumps(told, indent=4 if self.say.as_ovms else None).encode()
        extra = f"Inference-Header-Content-Length: {len(head)}\r\n" if numbers else ""
        return self._response(200, head + numbers, extra)

    def _response(self, status: int, body: bytes, extra: str = "") -> bytes:
        if not self.say.chunked:
            return f"HTTP/1.1 {status} X\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body
        pieces = [body[at : at + 37] for at in range(0, len(body), 37)]
        chunks = b"".join(f"{len(piece):x};why=not\r\n".encode() + piece + b"\r\n" for piece in pieces)
        head = f"HTTP/1.1 {status} X\r\n{extra}Transfer-Encoding: chunked\r\n\r\n".encode()
        return head + chunks + b"0\r\nX-Trailer: 1\r\n\r\n"

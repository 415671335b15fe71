"""Servers of models that somebody else wrote, on the same model in the same run: what an answer takes.

They are asked as their clients ask them, over HTTP on a connection that stays open, by a client that costs
next to nothing; ours is asked as the processes of this product ask it, over the tag bus. All run the model
with the same release of ONNX Runtime and one thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Final

import numpy as np

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.inference import ask
from edge_opcua.bench.inference.answerer import Asking
from edge_opcua.bench.inference.effort import Effort
from edge_opcua.bench.inference.models import BenchModel, Floats, build
from edge_opcua.bench.opcua.stage import progress
from edge_opcua.bench.plc.peers import INSTALLED, SOURCES, MissingPeerError, free_port
from edge_opcua.errors import EdgeError

MODELS: Final = ("autoencoder", "inspection")
MOST: Final = 32
WAITING: Final = 16
"""Requests on the way at once where throughput is measured."""
TURNS: Final = 3
_START_S: Final = 30.0
_STOP_S: Final = 5.0
_TRIES: Final = 20
_PERCENTILES: Final = (50, 99)


@dataclass(frozen=True, slots=True)
class Server:
    """One of the others.

    Args:
        name: Its environment and program.
        title: For people.
        request: Makes a request: port, model, row.
    """

    name: str
    title: str
    request: Callable[[int, BenchModel, Floats], bytes]


SERVERS: Final = (
    Server("litserve", "LitServe 0.2.19, JSON", lambda port, _, row: ask.as_json(port, "/predict", row)),
    Server("mlserver", "MLServer 1.7.1, JSON", ask.as_open_inference),
    Server("triton", "Triton (PyTriton 0.7.0), binary tensors", ask.as_binary),
)


@dataclass(slots=True)
class Answers:
    """What a server, or ours, did with one model.

    Args:
        took_ms: One after the other, each.
        rates: Answers per second with :data:`WAITING` on the way, one for each turn.
    """

    took_ms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Return a percentile of the time to an answer, ms."""
        return float(np.percentile(self.took_ms, share))

    @property
    def rate(self) -> float:
        """Answers per second: the median of the turns."""
        return float(np.median(self.rates))


def figures(effort: Effort) -> Iterator[Figure]:
    """Servers of others: latency and throughput of the same model."""
    if not effort.peers:
        return
    with TemporaryDirectory(prefix="edge-opcua-bench-") as folder:
        for model in build(Path(folder), *MODELS).values():
            missing = []
            for server in SERVERS:
                try:
                    ours, found = in_turns(server, model, effort.asked_s)
                except MissingPeerError as exc:
                    missing.append(server.name)
                    progress(f"{server.title} left out: {exc}")
                    continue
                yield from _beside(model, server, ours, found)
            if len(missing) == len(SERVERS):
                yield from _alone(model, of_ours(model, effort.asked_s))


def _beside(model: BenchModel, server: Server, ours: Answers, found: Answers) -> Iterator[Figure]:
    name = f"{model.title}: beside {server.title.partition(' ')[0]}"
    for share in _PERCENTILES:
        values = ours.percentile(share), found.percentile(share)
        yield Figure(f"{name}, an answer, p{share}", values[0], "ms", server.title, values[1])
    said = f"{WAITING} on the way, batches of up to {MOST}"
    yield Figure(f"{name}, answers", ours.rate, "1/s", server.title, found.rate, better="higher", note=said)


def _alone(model: BenchModel, ours: Answers) -> Iterator[Figure]:
    note = "no server of others is here: tests/peers/install-serving in a checkout brings them"
    yield Figure(f"{model.title}: an answer over the bus, p50", ours.percentile(50), "ms", note=note)
    yield Figure(f"{model.title}: answers over the bus", ours.rate, "1/s", better="higher")


def of_ours(model: BenchModel, seconds: float) -> Answers:
    """Ask our engine in another process over the tag bus."""
    row = model.sample()
    found = Answers()
    with contextlib.closing(Asking(model, most=MOST)) as other:
        _require_ours(other, row)
        found.took_ms += _latencies_ms(other, row, seconds)
        found.rates.append(_rate(other, row, seconds))
    return found


def in_turns(server: Server, model: BenchModel, seconds: float) -> tuple[Answers, Answers]:
    """Ask ours and one of the others in turns, so that what moves the machine moves both.

    Raises:
        MissingPeerError: It is not installed, does not start, or answers something else than the model.
    """
    row, each_s = model.sample(), seconds / TURNS
    ours, found = Answers(), Answers()
    with contextlib.closing(Asking(model, most=MOST)) as other:
        _require_ours(other, row)
        with running(server, model, 1) as port:
            request = server.request(port, model, row)
            _require_right(server, model, port, row)
            ask.latencies_ms(port, request, each_s)
            for _ in range(TURNS):
                ours.took_ms += _latencies_ms(other, row, each_s)
                found.took_ms += ask.latencies_ms(port, request, each_s)
        with running(server, model, MOST) as port:
            requests = [server.request(port, model, row)] * WAITING
            ask.rate_per_s(port, requests, each_s)
            for _ in range(TURNS):
                ours.rates.append(_rate(other, row, each_s))
                found.rates.append(ask.rate_per_s(port, requests, each_s))
    return ours, found


def _require_ours(other: Asking, row: Floats) -> None:
    if not ask.same(_asked(other, row), other.wanted):
        raise EdgeError("the engine answers something else than the model")


def _asked(other: Asking, row: Floats) -> Floats:
    number = other.ask(row)
    while True:
        for found, answer in other.answered():
            if found == number:
                return np.array(answer, np.float32)


def _latencies_ms(other: Asking, row: Floats, seconds: float) -> list[float]:
    took, until = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        _asked(other, row)
        took.append((time.perf_counter() - began) * 1e3)
    return took


def _rate(other: Asking, row: Floats, seconds: float) -> float:
    """Keep requests on the way for a time; return answers per second."""
    waiting = 0
    answered, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(WAITING - waiting):
            other.ask(row)
        waiting = WAITING
        came = len(other.answered())
        answered += came
        waiting -= came
    while waiting > 0:  # the next turn begins with none
        waiting -= len(other.answered())
    return answered / passed


def _require_right(server: Server, model: BenchModel, port: int, row: Floats) -> None:
    binding = model.load().bind()
    binding.judge(row)
    wanted = next(iter(binding.answer.values()))
    with contextlib.closing(ask.Connection(port)) as connection:
        body = connection.ask(server.request(port, model, row))
    if server.request is ask.as_binary:
        answer = np.frombuffer(body[-wanted.nbytes :], "<f4").astype(np.float32)
    else:
        answer = np.array(ask.numbers(body), np.float32).reshape(-1)
    if not ask.same(answer, wanted):
        raise MissingPeerError(f"{server.title} answers something else than the model")


@contextlib.contextmanager
def running(server: Server, model: BenchModel, batch: int) -> Iterator[int]:
    """Run one of the others with a model; yields its HTTP port."""
    python = INSTALLED / server.name / "bin" / "python"
    program = SOURCES / "serving" / f"{server.name}_server.py"
    if not python.exists():
        raise MissingPeerError("run tests/peers/install-serving in a checkout")
    port = _three_ports()
    with TemporaryDirectory(prefix="edge-opcua-peer-") as folder:
        popen = subprocess.Popen(  # noqa: S603 - a program of this checkout
            [str(python), str(program), str(model.path), str(port), str(batch)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait_for(partial(_answers, server, model, port), popen)
            yield port
        finally:
            _end(popen)
            _tidy(port)


def _three_ports() -> int:
    """Return the first of three ports in a row that were free a moment ago: HTTP, gRPC and metrics."""
    for _ in range(_TRIES):
        first = free_port()
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            for port in range(first, first + 3):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise MissingPeerError("no three free ports in a row")


def _answers(server: Server, model: BenchModel, port: int) -> bool:
    try:
        with contextlib.closing(ask.Connection(port)) as connection:
            connection.ask(server.request(port, model, model.sample()))
    except (OSError, MissingPeerError):
        return False
    return True


def _wait_for(ready: Callable[[], bool], popen: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_S
    while not ready():
        if popen.poll() is not None:
            raise MissingPeerError(f"it ended with {popen.returncode}")
        if time.monotonic() > until:
            raise MissingPeerError(f"it does not answer within {_START_S:g} s")
        time.sleep(0.1)


def _end(popen: subprocess.Popen[bytes]) -> None:
    """End a server and the processes it started: they share a session that begins with it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(popen.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            popen.wait(_STOP_S)


def _tidy(port: int) -> None:
    """Remove what a server that was killed has left: Triton's shared memory and its model folder."""
    for folder in (Path("/dev/shm"), Path(gettempdir())):  # noqa: S108 - by a name of our own
        for left in folder.glob(f"edge-opcua-triton-{port}-*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

"""Servers of models that somebody else wrote, on the same model in the same run: what an answer takes.

They are asked as their clients ask them, over HTTP on a connection that stays open, by a client that costs
next to nothing; ours is asked as the processes of this product ask it, over the tag bus. All run the model
with the same release of ONNX Runtime and one thread.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.inference import ask
from edge_opcua.bench.inference.answerer import Asking
from edge_opcua.bench.inference.effort import Effort
from edge_opcua.bench.inference.models import BenchModel, Floats, build
from edge_opcua.bench.opcua.stage import progress
from edge_opcua.bench.plc.peers import INSTALLED, SOURCES, MissingPeerError, free_port

MODELS: Final = ("autoencoder", "inspection")
MOST: Final = 32
WAITING: Final = 16
"""Requests on the way at once where throughput is measured."""
_START_S: Final = 30.0
_STOP_S: Final = 5.0
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


@dataclass(frozen=True, slots=True)
class Answers:
    """What a server did with one model.

    Args:
        took_ms: One after the other, median and 99th percentile.
        rate: Answers per second with :data:`WAITING` on the way.
    """

    took_ms: tuple[float, float]
    rate: float


def figures(effort: Effort) -> Iterator[Figure]:
    """Servers of others: latency and throughput of the same model."""
    if not effort.peers:
        return
    with TemporaryDirectory(prefix="edge-opcua-bench-") as folder:
        for model in build(Path(folder), *MODELS).values():
            ours = of_ours(model, effort.asked_s)
            missing = []
            for server in SERVERS:
                try:
                    found = of_server(server, model, effort.asked_s)
                except MissingPeerError as exc:
                    missing.append(server.name)
                    progress(f"{server.title} left out: {exc}")
                    continue
                yield from _beside(model, server, ours, found)
            if len(missing) == len(SERVERS):
                yield from _alone(model, ours)


def _beside(model: BenchModel, server: Server, ours: Answers, found: Answers) -> Iterator[Figure]:
    for at, share in enumerate(_PERCENTILES):
        name = f"{model.title}: an answer, p{share}, beside {server.title.partition(' ')[0]}"
        yield Figure(name, ours.took_ms[at], "ms", server.title, found.took_ms[at])
    name = f"{model.title}: answers, {WAITING} on the way, beside {server.title.partition(' ')[0]}"
    yield Figure(name, ours.rate, "1/s", server.title, found.rate, better="higher")


def _alone(model: BenchModel, ours: Answers) -> Iterator[Figure]:
    note = "no server of others is here: tests/peers/install-serving in a checkout brings them"
    yield Figure(f"{model.title}: an answer over the bus, p50", ours.took_ms[0], "ms", note=note)
    yield Figure(f"{model.title}: answers over the bus", ours.rate, "1/s", better="higher")


def of_ours(model: BenchModel, seconds: float) -> Answers:
    """Ask our engine in another process over the tag bus."""
    row = model.sample()
    with contextlib.closing(Asking(model, most=MOST)) as other:
        took, until = [], time.perf_counter() + seconds
        for _ in range(10):
            _asked(other, row)
        while (began := time.perf_counter()) < until:
            answer = _asked(other, row)
            took.append((time.perf_counter() - began) * 1e3)
        if not ask.same(answer, other.wanted):
            raise AssertionError("our own answer is wrong")
        return Answers(_percentiles(took), _rate(other, row, seconds))


def _asked(other: Asking, row: Floats) -> Floats:
    number = other.ask(row)
    while True:
        for found, answer in other.answered():
            if found == number:
                return np.array(answer, np.float32)


def _rate(other: Asking, row: Floats, seconds: float) -> float:
    for _ in range(WAITING):
        other.ask(row)
    answered, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for _ in other.answered():
            answered += 1
            other.ask(row)
    return answered / passed


def of_server(server: Server, model: BenchModel, seconds: float) -> Answers:
    """Start one of the others and ask it.

    Raises:
        MissingPeerError: It is not installed, does not start, or answers something else than the model.
    """
    row = model.sample()
    with running(server, model, 1) as port:
        request = server.request(port, model, row)
        _require_right(server, model, port, row)
        ask.latencies_ms(port, request, min(1.0, seconds))
        took = ask.latencies_ms(port, request, seconds)
    with running(server, model, MOST) as port:
        request = server.request(port, model, row)
        ask.rate_per_s(port, [request] * WAITING, min(1.0, seconds))
        return Answers(_percentiles(took), ask.rate_per_s(port, [request] * WAITING, seconds))


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
    port = free_port()
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


def _percentiles(took_ms: list[float]) -> tuple[float, float]:
    low, high = (float(np.percentile(took_ms, share)) for share in _PERCENTILES)
    return low, high


def _end(popen: subprocess.Popen[bytes]) -> None:
    """End a server and the processes it started: they share a session that begins with it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(popen.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            popen.wait(_STOP_S)

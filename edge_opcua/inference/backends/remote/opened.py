"""A server when a pipeline starts: what it says of itself and of the model, and whether that is so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from edge_opcua.core.clock import Clock
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.layout import FLOAT32, Buffers, Layout, Port, layout
from edge_opcua.inference.backends.remote import breaker
from edge_opcua.inference.backends.remote.addresses import Addresses
from edge_opcua.inference.backends.remote.binding import RemoteBinding
from edge_opcua.inference.backends.remote.gate import Gate
from edge_opcua.inference.backends.remote.http1 import HttpClient
from edge_opcua.inference.backends.remote.patience import Stop, Until
from edge_opcua.inference.backends.remote.protocol import (
    BINARY,
    CONFIGURATION,
    FACTS_BYTES,
    ROOM_BYTES,
    SCHEDULE,
    Answer,
    Asked,
    ModelFacts,
    Server,
    ServerFacts,
    same_rows,
)
from edge_opcua.inference.backends.remote.reasons import MODEL_FAILED, other_model
from edge_opcua.inference.backends.remote.rest import RestServer
from edge_opcua.inference.backends.remote.settings import RemoteOptions, Target, parse_url
from edge_opcua.inference.backends.remote.trust import authorization, tls_context

MOST_UNKNOWN: Final = 32
_JSON_BYTES_PER_NUMBER: Final = 32


class Opened:
    """A server and what was found out about it.

    Args:
        server: The server.
        settings: Options of the pipeline.
        target: Where it is.
        where: What messages call it.
        clock: Clock.
    """

    def __init__(
        self, server: Server, settings: RemoteOptions, target: Target, where: str, clock: Clock
    ) -> None:
        self.server, self.target = server, target
        self._settings, self._where, self._clock = settings, where, clock
        terms = breaker.Terms(
            settings.fail_after, round(settings.retry_first_s * 1e9), round(settings.retry_most_s * 1e9)
        )
        self.gate = Gate(terms, clock, where)
        self._binary = settings.encoding == "binary"
        self._timeout_us = 0
        self._wanted: tuple[str, ...] = ()

    @classmethod
    def to(cls, settings: RemoteOptions, model: tuple[str, str], clock: Clock) -> Opened:
        """Return a server that nobody has asked yet."""
        target = parse_url(settings.url)
        where = f"{' '.join(model).strip()} at {target.url}"
        allowed = authorization(settings)
        if target.grpc:
            from edge_opcua.inference.backends.remote.grpcwire import GrpcServer  # an extra

            server: Server = GrpcServer(settings, target, where, model, allowed)
        else:
            tls = (tls_context(settings), settings.server_name or target.host) if target.secure else None
            client = HttpClient(Addresses(target.host, target.port, where), where, tls)
            server = RestServer(client, target, where, model, allowed)
        return cls(server, settings, target, where, clock)

    @property
    def wire(self) -> str:
        """How it is spoken to."""
        return self.server.wire if self.target.grpc else f"{self.server.wire}, {self._encoding}"

    @property
    def _encoding(self) -> str:
        return "binary" if self._binary else "json"

    def examine(self, wanted: Mapping[str, Sequence[int]], load_s: float) -> tuple[Layout, ServerFacts, str]:
        """Hold the server's model against what it shall be fed with, and ask it once.

        Args:
            wanted: Shape of each input for one sample.
            load_s: Longest time that all of it may take.

        Returns:
            Shapes of its buffers, what the server says of itself, and the version that answers.
        """
        until, stop = Until.after(self._clock, load_s * 1e3), Stop()
        told = self.server.server(until, stop)
        self.server.require_ready(until, stop)
        facts = self.server.model(until, stop)
        if SCHEDULE in told.extensions:
            self._timeout_us = self._settings.timeout_ms * 1000
        self._wanted = tuple(one.name for one in _floats(facts))
        shapes = {name: tuple(shape) for name, shape in wanted.items()}
        most = self._settings.max_batch or (
            self.server.limit(until, stop) if CONFIGURATION in told.extensions else 0
        )
        found = self._declared(facts, shapes, most or MOST_UNKNOWN)
        first = self._first_answer(shapes, told, until, stop)
        found = self._held(found, facts, first, shapes)
        if found.most > 1:
            self._try_most(found, first.version, until, stop)
        return found, told, first.version

    def binding(self, found: Layout, batch: int, proof: str) -> RemoteBinding:
        """Return buffers for so many samples."""
        inputs, outputs = found.buffers(batch)
        asked = self._asked({name: array.shape for name, array in inputs.items()}, _bytes_of(outputs))
        patience = (float(self._settings.timeout_ms), self._clock, self._where)
        return RemoteBinding(self.server, asked, outputs, proof=proof, gate=self.gate, patience=patience)

    def _asked(self, shapes: Mapping[str, tuple[int, ...]], answer_bytes: int) -> Asked:
        return Asked(shapes, self._wanted, ROOM_BYTES + answer_bytes, self._timeout_us, binary=self._binary)

    def _first_answer(
        self, shapes: Mapping[str, tuple[int, ...]], told: ServerFacts, until: Until, stop: Stop
    ) -> Answer:
        """Ask for one sample of zeros: as bytes if the server can, or nobody says that it cannot."""
        if self._settings.encoding == "auto" and not self.target.grpc:
            self._binary = True
            try:
                return self._ask_zeros(shapes, until, stop)
            except ModelError as exc:
                if BINARY in told.extensions or exc.code != MODEL_FAILED:
                    raise
                self._binary = False
        return self._ask_zeros(shapes, until, stop)

    def _ask_zeros(self, shapes: Mapping[str, tuple[int, ...]], until: Until, stop: Stop) -> Answer:
        return self.server.question(self._asked(shapes, FACTS_BYTES * 64)).ask(until, stop)

    def _declared(self, facts: ModelFacts, wanted: Mapping[str, tuple[int, ...]], most: int) -> Layout:
        """Hold what the server says of the model against what it shall be fed with."""
        if not facts.inputs:  # some servers do not tell: then its first answer is all that is known
            return Layout(wanted, {}, 1)
        try:
            return layout(facts.inputs, _floats(facts), wanted, most=most)
        except ModelError as exc:
            raise other_model(self._where, str(exc)) from exc

    def _held(
        self, found: Layout, facts: ModelFacts, first: Answer, wanted: Mapping[str, tuple[int, ...]]
    ) -> Layout:
        """Hold the first answer against what the server says of the model."""
        if not first.outputs:
            raise other_model(self._where, "no output of it is FP32")
        if not found.outputs:
            answers = {name: array.shape for name, array in first.outputs.items()}
            return Layout(wanted, answers, found.most if facts.inputs else 1)
        for name, shape in found.outputs.items():
            array = first.outputs.get(name)
            if array is None or not same_rows(array.shape, shape):
                shown = "nothing" if array is None else f"shape {list(array.shape)}"
                raise other_model(self._where, f'output "{name}" is told as {list(shape)}, answers {shown}')
        return found

    def _try_most(self, found: Layout, proof: str, until: Until, stop: Stop) -> None:
        """See that the largest batch is taken, before it is relied on."""
        inputs, outputs = found.buffers(found.most)
        shapes = {name: array.shape for name, array in inputs.items()}
        try:
            answer = self.server.question(self._asked(shapes, _bytes_of(outputs))).ask(until, stop)
        except ModelError as exc:
            if exc.code != MODEL_FAILED:
                raise
            raise other_model(
                self._where, f"it takes no {found.most} samples at once ({exc}); set max_batch in the options"
            ) from exc
        for name, array in outputs.items():
            rows = answer.outputs.get(name)
            if rows is None or not same_rows(rows.shape, array.shape):
                raise other_model(self._where, f'output "{name}" is not one row for each sample')
        if answer.version != proof:
            raise other_model(self._where, "two of its versions answer in turn; name one in the options")


def _bytes_of(outputs: Buffers) -> int:
    """Return what the numbers of an answer take at most, in JSON."""
    return sum(array.size for array in outputs.values()) * _JSON_BYTES_PER_NUMBER


def _floats(facts: ModelFacts) -> tuple[Port, ...]:
    """Return the outputs that we can make use of."""
    return tuple(one for one in facts.outputs if one.kind == FLOAT32)

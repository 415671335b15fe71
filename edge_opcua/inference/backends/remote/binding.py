"""Runs on a server: buffers for so many samples, and answers that are believed only if they are as proven."""

from __future__ import annotations

from collections.abc import Mapping

from edge_opcua.core.clock import Clock
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.layout import Buffers, Floats
from edge_opcua.inference.backends.remote.gate import Gate
from edge_opcua.inference.backends.remote.patience import Stop, Until
from edge_opcua.inference.backends.remote.protocol import Answer, Asked, Server, same_rows
from edge_opcua.inference.backends.remote.reasons import MODEL_FAILED, garbled, other_model


class RemoteBinding:
    """Buffers for so many samples, and runs of them on the server; belongs to one thread.

    Args:
        server: The server.
        asked: What is asked of it.
        outputs: Where the answers go.
        proof: Version of the model that was proven.
        gate: Its circuit.
        patience: How long an answer is waited for, ms, the clock, and what messages call the server.
    """

    def __init__(
        self,
        server: Server,
        asked: Asked,
        outputs: Buffers,
        *,
        proof: str,
        gate: Gate,
        patience: tuple[float, Clock, str],
    ) -> None:
        self._question = server.question(asked)
        self._outputs = outputs
        self._proof = proof
        self._gate = gate
        self._timeout_ms, self._clock, self._where = patience
        self._stop = Stop()
        self.batch = next(iter(asked.inputs.values()))[0]

    @property
    def inputs(self) -> Mapping[str, Floats]:
        """Bound input buffers by name; write into them, then :meth:`run`."""
        return self._question.inputs

    @property
    def outputs(self) -> Mapping[str, Floats]:
        """Bound output buffers by name; valid until the next :meth:`run`."""
        return self._outputs

    def run(self) -> None:
        """Ask the server once.

        Raises:
            ModelError: No answer (M570, M571), not asked (M572), refused (M573, M574), another model (M575),
                no answer of the protocol (M576), the model failed there (M532), or cancelled (M535).
        """
        self._gate.enter()
        began_ns = self._clock.monotonic_ns()
        error: ModelError | None = ModelError("the run ended unforeseen", code=MODEL_FAILED)
        self._stop.begin()
        try:
            self._take(self._question.ask(Until.after(self._clock, self._timeout_ms), self._stop))
            error = None
        except ModelError as exc:
            error = exc
            raise
        finally:
            self._stop.end()
            self._gate.leave(error, self._clock.monotonic_ns() - began_ns)

    def cancel(self) -> None:
        """End the wait for the answer now; what the server still does is its own affair."""
        if self._stop.ask():
            self._question.interrupt()

    def _take(self, answer: Answer) -> None:
        if answer.version != self._proof:
            told = (answer.version or "none", self._proof or "none")
            raise other_model(self._where, f"version {told[0]} answers, version {told[1]} was proven")
        for name, buffer in self._outputs.items():
            found = answer.outputs.get(name)
            if found is None or not same_rows(found.shape, buffer.shape):
                shape = "missing" if found is None else f"of shape {list(found.shape)}"
                raise garbled(self._where, f'output "{name}" is {shape}, not of {list(buffer.shape)}')
        for name, buffer in self._outputs.items():
            buffer[...] = answer.outputs[name].reshape(buffer.shape)

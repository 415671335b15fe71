"""Runs a model on a server that speaks the Open Inference Protocol: Triton, OpenVINO Model Server, MLServer.

Never for a safety lane: a network keeps no promise. What is proven at the start stays what is asked: the
version, names, types and shapes of every answer are those of the load, or the run fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import BaseModel

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.layout import Layout
from edge_opcua.inference.backends.remote.binding import RemoteBinding
from edge_opcua.inference.backends.remote.opened import Opened
from edge_opcua.inference.backends.remote.settings import RemoteOptions, read_options

PROVIDER: Final = "remote"
LOAD_S: Final = 10.0


class RemoteBackend:
    """A model on a server. See :meth:`load`.

    Attributes:
        Options: Settings of a pipeline for it.
        REFUSED_LANES: Lanes it must not be in: a network keeps no promise.
    """

    Options: ClassVar[type[BaseModel]] = RemoteOptions
    REFUSED_LANES: ClassVar = frozenset({"safety"})

    def __init__(self, opened: Opened, shape: Layout, proof: str, facts: Mapping[str, Any]) -> None:
        self._opened = opened
        self._layout = shape
        self._proof = proof
        self._facts = facts

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        provider: str,
        input_shapes: Mapping[str, Sequence[int]],
        options: Mapping[str, Any] | None = None,
        cache: Path | None = None,  # noqa: ARG003 - of the Protocol; nothing is kept here
        load_s: float | None = None,
        clock: Clock | None = None,
    ) -> RemoteBackend:
        """Find the model on the server, hold it against the manifest, and ask it once.

        Args:
            path: ``…/<name>/<version>/model.onnx``: the same model here, whose reference samples prove that
                of the server; its name and version are asked for unless the options say others.
            provider: ``remote``.
            input_shapes: Shape of each input for one sample, float32; the first axis is 1.
            options: See :class:`RemoteOptions`.
            cache: Of no use here.
            load_s: Longest time to find and try the model.
            clock: Clock.

        Raises:
            ModelError: Another provider (M521), no such file (M510), options (M579) or files of theirs (M578)
                that cannot be used, a server that cannot be reached (M570, M571), does not serve the model
                (M573, M574) or another one (M575), or answers with nonsense (M576).
        """
        time = clock or SystemClock()
        started_ns = time.monotonic_ns()
        if provider.lower() != PROVIDER:
            raise ModelError(
                f'{provider or "no provider"} was asked for; the backend "remote" has the provider '
                f'"{PROVIDER}" only',
                code="M521",
            )
        if not path.is_file():
            raise ModelError(f"{path} is not there, and so not what proves the server's", code="M510")
        settings = read_options(options or {})
        name = settings.model or path.parent.parent.name
        version = path.parent.name if settings.version is None else settings.version
        opened = Opened.to(settings, (name, version), time)
        shape, told, proof = opened.examine(input_shapes, LOAD_S if load_s is None else load_s)
        facts = {
            "provider": f"{PROVIDER} {opened.target.url}",
            "runtime": f"{told.name or 'unnamed'} {told.version}".strip(),
            "load_ms": (time.monotonic_ns() - started_ns) / 1e6,
            "accelerated": 1.0,
            "model": f"{name} {proof or version}".strip(),
            "wire": opened.wire,
        }
        return cls(opened, shape, proof, facts)

    @property
    def most(self) -> int:
        """Most samples of one request; 1 where the first axis of the model is fixed."""
        return self._layout.most

    def bind(self, batch: int = 1) -> RemoteBinding:
        """Return new buffers for so many samples; ModelError M536 if the model does not take them."""
        return self._opened.binding(self._layout, batch, self._proof)

    def describe(self) -> Mapping[str, Any]:
        """Return for ``status``: provider, runtime, load time, wire, and what the circuit is doing."""
        return {**self._facts, "circuit": self._opened.gate.state.value}

    def close(self) -> None:
        """Let the connections go."""
        self._opened.server.close()

"""The Open Inference Protocol (KServe v2) without a wire: what a server tells, asks and answers.

Source: kserve.github.io, Open Inference Protocol; the extensions "binary tensor data", "model
configuration" and "schedule policy" are Triton's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from edge_opcua.inference.backends.layout import FLOAT32, Floats, Port
from edge_opcua.inference.backends.remote.patience import Stop, Until

FP32: Final = "FP32"
WIRE: Final = np.dtype("<f4")
BINARY: Final = "binary_tensor_data"
CONFIGURATION: Final = "model_configuration"
SCHEDULE: Final = "schedule_policy"

# What an answer may hold besides its numbers.
ROOM_BYTES: Final = 64 * 1024
FACTS_BYTES: Final = 1024 * 1024
_MOST_AXES: Final = 8
_MOST_ELEMENTS: Final = 2**28


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says of itself.

    Args:
        name: Its name.
        version: Its version.
        extensions: Extensions of the protocol that it has.
    """

    name: str
    version: str
    extensions: frozenset[str]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a server says of a model.

    Args:
        versions: Versions it serves.
        inputs: Inputs; none if the server does not tell.
        outputs: Outputs; none if the server does not tell.
    """

    versions: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered.

    Args:
        version: Version of the model that did, as the server calls it; may be empty.
        outputs: Its outputs by name, as they came.
    """

    version: str
    outputs: Mapping[str, npt.NDArray[np.float32]]


class Question(Protocol):
    """One request to a model, made once and asked often; belongs to one thread."""

    inputs: Mapping[str, Floats]

    def ask(self, until: Until, stop: Stop) -> Answer:
        """Send what is in ``inputs`` and return the answer, valid until the next one."""
        ...

    def interrupt(self) -> None:
        """End the wait for an answer, called from another thread after ``stop`` was asked."""
        ...


class Server(Protocol):
    """A server, over one of its two wires; any thread may use it."""

    wire: str

    def server(self, until: Until, stop: Stop) -> ServerFacts:
        """Return what it says of itself."""
        ...

    def require_ready(self, until: Until, stop: Stop) -> None:
        """ModelError M573 if the model is not there, or not ready."""
        ...

    def model(self, until: Until, stop: Stop) -> ModelFacts:
        """Return what it says of the model."""
        ...

    def limit(self, until: Until, stop: Stop) -> int:
        """Return the most samples of one request as the server is configured, 0 if it does not say."""
        ...

    def question(self, asked: Asked) -> Question:
        """Return a new question."""
        ...

    def close(self) -> None:
        """Let the connections go."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question is about.

    Args:
        inputs: Shape of each input.
        outputs: Names of the outputs that are wanted; empty for all there are.
        most_bytes: Longest answer that is believed.
        timeout_us: What the server is told of our patience, µs; 0 for nothing.
        binary: Whether numbers travel as bytes, where the wire leaves a choice.
    """

    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    most_bytes: int
    timeout_us: int
    binary: bool


def port(name: str, datatype: str, shape: Sequence[int]) -> Port:
    """Return an input or output in the words of the other backends; -1 is an open axis."""
    kind = FLOAT32 if datatype == FP32 else datatype.lower()
    return Port(name, kind, tuple(None if size < 0 else size for size in shape))


def elements(shape: Sequence[int]) -> int:
    """Return how many numbers an array of this shape holds.

    Raises:
        ValueError: That is no shape of an answer.
    """
    if len(shape) > _MOST_AXES or any(size < 0 for size in shape):
        raise ValueError(f"an array of shape {list(shape)[: _MOST_AXES + 1]}")
    count = 1
    for size in shape:
        count *= size
        if count > _MOST_ELEMENTS:
            raise ValueError(f"an array of shape {list(shape)}")
    return count


def same_rows(found: Sequence[int], wanted: Sequence[int]) -> bool:
    """Return whether two shapes hold the same rows: a server may show single numbers as a column."""
    return [size for size in found if size != 1] == [size for size in wanted if size != 1]


def tensor(name: str, datatype: str, shape: Sequence[int], raw: memoryview | bytes) -> Floats:
    """Return an output that came as bytes.

    Raises:
        ValueError: Type, shape and bytes do not agree.
    """
    count = elements(shape)
    if datatype != FP32:
        raise ValueError(f'output "{name}" is {datatype}, not {FP32}')
    if len(raw) != count * WIRE.itemsize:
        raise ValueError(f'output "{name}" of shape {list(shape)} comes with {len(raw)} bytes')
    return np.frombuffer(raw, WIRE, count).reshape(tuple(shape))

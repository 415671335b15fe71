"""What a loaded model takes and gives, held against what it shall be fed with: shapes of its buffers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.errors import ModelError

Floats = npt.NDArray[np.float32]
Buffers = dict[str, Floats]

MOST_SAMPLES: Final = 1024
"""Samples of one run at most, of a model whose first axis is open."""
FLOAT32: Final = "float32"
_ALIGNED: Final = 16
"""Values, 64 bytes: each array begins with a cache line."""


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output as the model declares it.

    Args:
        name: Its name.
        kind: Element type as numpy calls it.
        shape: Its axes; an open one has a name or None.
    """

    name: str
    kind: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.kind}[{','.join('?' if size is None else str(size) for size in self.shape)}]"


@dataclass(frozen=True, slots=True)
class Layout:
    """Shapes of all inputs and outputs for one sample.

    Args:
        inputs: Shape of each input for one sample.
        outputs: Shape of each output for one sample.
        most: Samples of one run at most; if more than 1, the first axis of everything counts samples.
    """

    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    most: int

    def buffers(self, batch: int) -> tuple[Buffers, Buffers]:
        """Return new arrays of zeros for the inputs and the outputs of so many samples.

        Raises:
            ModelError: The model does not take so many in one run (M536).
        """
        self.require(batch)
        return in_one_piece(self.input_shapes(batch), _zeros), in_one_piece(self.output_shapes(batch), _zeros)

    def require(self, batch: int) -> None:
        """Refuse a number of samples that the model does not take in one run (ModelError M536)."""
        if not 1 <= batch <= self.most:
            raise ModelError(f"the model takes 1 to {self.most} samples in one run, not {batch}", code="M536")

    def input_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each input for so many samples."""
        return self._shapes(self.inputs, batch)

    def output_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each output for so many samples."""
        return self._shapes(self.outputs, batch)

    def _shapes(self, shapes: Mapping[str, tuple[int, ...]], batch: int) -> dict[str, tuple[int, ...]]:
        return {name: (batch, *shape[1:]) if self.most > 1 else shape for name, shape in shapes.items()}


def in_one_piece(shapes: Mapping[str, tuple[int, ...]], allocate: Callable[[int], Floats]) -> Buffers:
    """Return arrays that lie in one piece of memory: what is true of all can be seen in one look.

    Args:
        shapes: Shape of each array.
        allocate: Returns so many values, all zero, in one piece.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    piece = allocate(sum(size + -size % _ALIGNED for size in sizes.values()) + _ALIGNED)
    place = -(piece.ctypes.data // piece.itemsize) % _ALIGNED
    arrays = {}
    for name, shape in shapes.items():
        arrays[name] = piece[place : place + sizes[name]].reshape(shape)
        place += sizes[name] + -sizes[name] % _ALIGNED
    return arrays


def _zeros(size: int) -> Floats:
    return np.zeros(size, np.float32)


def layout(
    inputs: Iterable[Port],
    outputs: Iterable[Port],
    wanted: Mapping[str, Sequence[int]],
    *,
    most: int = MOST_SAMPLES,
) -> Layout:
    """Hold what a model declares against what it shall be fed with.

    Args:
        inputs: Its inputs.
        outputs: Its outputs.
        wanted: Shape of each input for one sample, the first axis 1.
        most: Samples of one run at most, if its first axis is open.

    Raises:
        ModelError: An input is another one or has another type or shape (M504), or an output is not float32
            of a shape that follows from those of the inputs (M505).
    """
    declared, answers = {port.name: port for port in inputs}, tuple(outputs)
    for name in declared.keys() ^ wanted.keys():
        where = "the model" if name in declared else "the manifest"
        raise ModelError(f'input "{name}" exists in {where} only', code="M504")
    for name, shape in wanted.items():
        port = declared[name]
        if port.kind != FLOAT32 or not _fits(port.shape, shape):
            text = f"{FLOAT32}[{','.join(map(str, shape))}]"
            raise ModelError(f'input "{name}" of the model is {port}, not {text}', code="M504")
    inner = _sizes(declared, wanted, first_axis=1)
    batched = all(_counts_samples(port, {}) for port in declared.values()) and all(
        _counts_samples(port, inner) for port in answers
    )
    sizes = inner if batched else _sizes(declared, wanted, first_axis=0)
    return Layout(
        {name: tuple(shape) for name, shape in wanted.items()},
        {port.name: _answer(port, sizes, batched=batched) for port in answers},
        most if batched else 1,
    )


def _fits(declared: Sequence[int | str | None], wanted: Sequence[int]) -> bool:
    return len(declared) == len(wanted) and all(
        not isinstance(size, int) or size == want for size, want in zip(declared, wanted, strict=True)
    )


def _sizes(
    declared: Mapping[str, Port], wanted: Mapping[str, Sequence[int]], *, first_axis: int
) -> dict[str, int]:
    """Return what the named open axes become when the model is fed with the wanted shapes."""
    return {
        size: want
        for name, shape in wanted.items()
        for size, want in list(zip(declared[name].shape, shape, strict=True))[first_axis:]
        if isinstance(size, str)
    }


def _counts_samples(port: Port, sizes: Mapping[str, int]) -> bool:
    """Return whether the first axis of an input or output is open for the number of samples."""
    return bool(port.shape) and not isinstance(port.shape[0], int) and port.shape[0] not in sizes


def _answer(port: Port, sizes: Mapping[str, int], *, batched: bool) -> tuple[int, ...]:
    axes = [sizes.get(size) if isinstance(size, str) else size for size in port.shape]
    if batched:
        axes[0] = 1
    found = tuple(size for size in axes if size is not None)
    if port.kind != FLOAT32 or len(found) != len(axes):
        raise ModelError(
            f'output "{port.name}" of the model is {port}, not {FLOAT32} of a fixed shape', code="M505"
        )
    return found

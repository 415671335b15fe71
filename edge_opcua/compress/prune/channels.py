"""Which channels of a graph hang together: what is removed in one place has to go everywhere.

Every channel of every value is given the number of a *unit*. Where the graph ties channels together (a sum
of two branches, a depthwise convolution, a normalisation) they are the same unit; where it lays them side by
side (Concat, Flatten) the numbers are laid side by side. A unit that reaches something that needs all
channels, such as an answer of the model, cannot be removed. This is the dependency graph of Fang et al. with
numbers of units in place of edges.

Source:
    Fang, Ma, Song, Mi, Wang, DepGraph: Towards Any Structural Pruning, CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.graph import consumers, shapes, weights

Units = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
Kind = Literal["Conv", "ConvTranspose", "Gemm", "MatMul"]
Patch = Literal["group", "split", "reshape"]


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels of a value.

    Args:
        axis: Which axis they are.
        units: Number of the unit of each, shape ``(channels,)``.
    """

    axis: int
    units: Units


@dataclass(frozen=True, slots=True)
class Cut:
    """An axis of a weight that gets shorter when units are removed.

    Args:
        weight: Name of the weight.
        axis: The axis.
        units: Number of the unit at each place of it.
    """

    weight: str
    axis: int
    units: Units


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that mixes channels: what it takes can be removed and made up for by what it keeps.

    Args:
        node: Name of the node.
        kind: Its operator.
        source: Value it takes.
        target: Value it makes.
        weight: Name of its weight.
        axis: Axis of the weight that is the input channel.
        inputs: Units of the input channels.
        outputs: Units of the output channels.
    """

    node: str
    kind: Kind
    source: str
    target: str
    weight: str
    axis: int
    inputs: Units
    outputs: Units


@dataclass(frozen=True, slots=True)
class Repair:
    """Something of a node, other than its weights, that says how many channels there are.

    Args:
        node: Name of the node.
        what: What it is.
        axis: The axis of the answer it is about.
        parts: Units of the channels, of each part where there are several.
    """

    node: str
    what: Patch
    axis: int
    parts: tuple[Units, ...]


class Tracer:
    """Follows the channels through a graph; the rules are in :mod:`edge_opcua.compress.prune.rules`.

    Args:
        model: An opened graph.
    """

    def __init__(self, model: Any) -> None:
        self.weights = weights(model)
        self.shapes = shapes(model)
        self.cuts: list[Cut] = []
        self.layers: list[Layer] = []
        self.repairs: list[Repair] = []
        self._channels: dict[str, Channels] = {}
        self._parent: list[int] = []
        self._frozen: list[bool] = []
        self._takers = consumers(model)
        self._cut_by: set[tuple[str, str]] = set()
        self._model = model

    # --- what rules ask and say --------------------------------------------------------------------------

    def of(self, name: str) -> Channels | None:
        """Return the channels of a value; None if nothing is known of them."""
        return self._channels.get(name)

    def put(self, name: str, channels: Channels | None) -> None:
        """Say what the channels of a value are."""
        if channels is not None:
            self._channels[name] = channels

    def new(self, count: int) -> Units:
        """Return as many new units."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        self._frozen.extend([False] * count)
        return np.arange(first, first + count)

    def tie(self, one: Units, other: Units) -> None:
        """Say that these units are the same, place by place."""
        for left, right in zip(one.tolist(), other.tolist(), strict=True):
            a, b = self.root(left), self.root(right)
            if a != b:
                self._parent[max(a, b)] = min(a, b)
                self._frozen[min(a, b)] |= self._frozen[max(a, b)]

    def freeze(self, *names: str) -> None:
        """Say that all channels of these values are needed."""
        for name in names:
            found = self._channels.get(name)
            if found is not None:
                self.freeze_units(found.units)

    def freeze_units(self, units: Units) -> None:
        """Say that these units are needed."""
        for unit in units.tolist():
            self._frozen[self.root(unit)] = True

    def cut(self, node: Any, weight: str, axis: int, units: Units) -> None:
        """Say that an axis of a weight goes with these units."""
        for there in self.cuts:
            if (there.weight, there.axis) == (weight, axis):
                self.tie(there.units, units)  # two nodes share it
                break
        else:
            self.cuts.append(Cut(weight, axis, units))
        self._cut_by.add((node.name, weight))

    def layer(self, node: Any, kind: Kind, axis: int, inputs: Units, outputs: Units) -> None:
        """Say that a node mixes channels."""
        self.layers.append(
            Layer(node.name, kind, node.input[0], node.output[0], node.input[1], axis, inputs, outputs)
        )

    def repair(self, node: Any, what: Patch, axis: int, *parts: Units) -> None:
        """Say that a node has something to be changed when channels go."""
        self.repairs.append(Repair(node.name, what, axis, parts))

    # --- what comes of it --------------------------------------------------------------------------------

    def root(self, unit: int) -> int:
        """Return the number under which a unit is known, whatever it was tied to."""
        while self._parent[unit] != unit:
            self._parent[unit] = self._parent[self._parent[unit]]
            unit = self._parent[unit]
        return unit

    def roots(self, units: Units) -> Units:
        """Return the same for each."""
        return np.array([self.root(unit) for unit in units.tolist()], np.int64)

    def finish(self) -> Coupling:
        """Return what hangs together, once all nodes were looked at."""
        self.freeze(*(output.name for output in self._model.graph.output))
        for cut in self.cuts:
            users = {node.name for node in self._takers.get(cut.weight, ())}
            if any((user, cut.weight) not in self._cut_by for user in users):
                self.freeze_units(cut.units)  # somebody else uses it in a way that we do not follow
        frozen = {self.root(unit) for unit in range(len(self._parent)) if self._frozen[self.root(unit)]}
        return Coupling(
            cuts=[Cut(cut.weight, cut.axis, self.roots(cut.units)) for cut in self.cuts],
            layers=[
                Layer(
                    *(each.node, each.kind, each.source, each.target, each.weight, each.axis),
                    inputs=self.roots(each.inputs),
                    outputs=self.roots(each.outputs),
                )
                for each in self.layers
            ],
            repairs=[
                Repair(each.node, each.what, each.axis, tuple(self.roots(part) for part in each.parts))
                for each in self.repairs
            ],
            frozen=frozenset(frozen),
        )


@dataclass(frozen=True, slots=True)
class Coupling:
    """What hangs together in a graph.

    Args:
        cuts: Axes of weights, by unit.
        layers: Layers that mix channels, in the order of computation.
        repairs: What else says how many channels there are.
        frozen: Units that cannot be removed.
    """

    cuts: Sequence[Cut]
    layers: Sequence[Layer]
    repairs: Sequence[Repair]
    frozen: frozenset[int]

    def groups(self) -> list[Units]:
        """Return the units that can be removed, those of one layer (and of what is tied to it) together.

        Only what some layer takes can be made up for, and only what some layer makes can be removed.
        """
        taken = {unit for layer in self.layers for unit in layer.inputs.tolist()} - self.frozen
        found: dict[int, set[int]] = {}
        for layer in self.layers:
            outputs = {unit for unit in layer.outputs.tolist() if unit in taken}
            if not outputs:
                continue
            joined = [key for key, group in found.items() if group & outputs]
            for key in joined:
                outputs |= found.pop(key)
            found[min(outputs)] = outputs
        return [np.array(sorted(group), np.int64) for _, group in sorted(found.items())]

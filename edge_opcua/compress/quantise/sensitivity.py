"""How much each node loses by INT8, and what a model loses whose nodes are in part left in float."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.graph import activations
from edge_opcua.compress.quantise.prepare import heavy_nodes
from edge_opcua.compress.quantise.quantiser import quantised
from edge_opcua.compress.quantise.ranges import Range
from edge_opcua.compress.quantise.recipe import Int8
from edge_opcua.compress.quantise.running import decibels
from edge_opcua.compress.task import Answers, Task

MOST_SAMPLES: Final = 500
MOST_RUNS: Final = 10_000
"""Samples times nodes: each node costs a run over the samples, some two or three."""
FEWEST_SAMPLES: Final = 64


@dataclass(frozen=True, slots=True)
class Node:
    """What INT8 does to a node with weights.

    Args:
        name: Its name.
        bytes_in_float: Size of its weights in float32, which INT8 would quarter.
        damage: Damage (``Task.damage``) if this node alone is in INT8.
        noise_db: Signal-to-noise ratio of the model's first answer then, in dB.
    """

    name: str
    bytes_in_float: int
    damage: float
    noise_db: float


class Tasting:
    """Quantises a model in different ways, and tells what each seems to lose on the calibration samples.

    Args:
        model: As ``prepare`` returns it.
        ranges: Of its tensors.
        recipe: How; its ``exclude`` is kept in float in any case.
        task: What the model is for.
        data: Calibration samples.
    """

    def __init__(
        self, model: Any, ranges: Mapping[str, Range], recipe: Int8, task: Task, data: Dataset
    ) -> None:
        self._model = model
        self._ranges = ranges
        self._recipe = recipe
        self._task = task
        runs = MOST_RUNS // max(len(self.nodes()), 1)
        self._data = data.some(np.arange(min(len(data), MOST_SAMPLES, max(FEWEST_SAMPLES, runs))))
        self._right = self._answers(model)

    def nodes(self) -> list[Any]:
        """Return the nodes with weights that may be in INT8 or in float."""
        return [node for node in heavy_nodes(self._model) if node.name not in self._recipe.exclude]

    def damage(self, in_float: Collection[str]) -> float:
        """Return what the model seems to lose if some nodes stay in float and all others are in INT8."""
        return self._taste(in_float)[0]

    def alone(self, progress: Callable[[float, str], None]) -> list[Node]:
        """Return what each node loses if it alone is in INT8, in the order of the graph."""
        nodes = self.nodes()
        names = [node.name for node in nodes]
        sizes = _sizes(self._model)
        found = []
        for number, node in enumerate(nodes):
            progress(number / len(nodes), f"sensitivity of {node.name}")
            damage, noise = self._taste([name for name in names if name != node.name])
            found.append(Node(node.name, sizes[node.input[1]], damage, noise))
        return found

    def recipe_with(self, in_float: Collection[str]) -> Int8:
        """Return the recipe that leaves these nodes in float too."""
        return replace(self._recipe, exclude=tuple(sorted({*self._recipe.exclude, *in_float})))

    def _taste(self, in_float: Collection[str]) -> tuple[float, float]:
        made, _ = quantised(self._model, self._ranges, self.recipe_with(in_float))
        answers = self._answers(made)
        first = next(iter(self._right))
        damage = self._task.damage(self._right, answers, self._data)
        return damage, decibels(self._right[first], answers[first])

    def _answers(self, model: Any) -> Answers:
        names: Sequence[str] = self._task.outputs
        return activations(model, names, self._data.rows)


def _sizes(model: Any) -> dict[str, int]:
    four = 4
    sizes = {}
    for tensor in model.graph.initializer:
        count = 1
        for axis in tensor.dims:
            count *= axis
        sizes[tensor.name] = four * count
    return sizes

"""An ONNX graph as a module of PyTorch: the same nodes, the same names, weights that can be trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.graph import activations, input_shape, set_weight, weights
from edge_opcua.compress.train.ops import OPS, Step
from edge_opcua.compress.train.ops.quantised import LEVELS, along, levels
from edge_opcua.compress.train.step import Tensor
from edge_opcua.compress.train.wiring import learned, steps_to
from edge_opcua.errors import ModelError

_CHECKED: Final = 32
_ALIKE: Final = 1e-3
_ALIKE_LEVELS: Final = 0.1  # kernels of whole numbers round at other places, a level here and there


class Network(torch.nn.Module):
    """A graph that can be trained.

    Normalisations over batches keep the statistics they have learned, and dropout does nothing: what is
    trained is what will serve. In a graph of INT8 with QuantizeLinear and DequantizeLinear, weights are kept
    as floats beside their levels, and all scales are learned with them, as logarithms: so a step changes
    each by a share of it, and none falls below nought.

    Args:
        model: The ``onnx.ModelProto``, opened by :func:`~edge_opcua.compress.graph.open_graph`.
        wanted: Values that shall be computed: outputs, or values from inside.
        floats: Weights from before quantisation, by name: what the levels are trained from. A weight of
            levels whose name is ``<name>_quantized`` starts from ``<name>``.

    Raises:
        ModelError: A node is of a kind that cannot be trained here (M691).
    """

    def __init__(
        self, model: Any, wanted: Sequence[str], *, floats: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> None:
        super().__init__()
        self.wanted = tuple(wanted)
        self.steps = steps_to(model, self.wanted)
        self.input_name, shape = input_shape(model)
        self._batch = shape[0] if shape else None
        unknown = sorted({step.op for step in self.steps} - set(OPS))
        if unknown:
            raise ModelError(f"{', '.join(unknown)} cannot be trained here", code="M691")
        arrays = {name: array for name, array in weights(model).items() if name in self._used()}
        self._levels = _levels_of(self.steps, arrays)
        self._kinds = {name: array.dtype for name, array in arrays.items()}
        self._latest_use = _latest_use(self.steps, self.wanted)
        self._bias_scales = _bias_scales(self.steps, arrays)
        self._scales = _scales(self.steps, set(self._levels), set(arrays) - set(self._bias_scales))
        candidates = [name for name, array in arrays.items() if _is_float(array) or name in self._levels]
        trained = [*learned(self.steps, candidates), *self._scales]
        self._places = {name: number for number, name in enumerate(dict.fromkeys(trained))}
        self.learned = torch.nn.ParameterList(
            torch.nn.Parameter(self._start(name, arrays, floats or {})) for name in self._places
        )
        for number, (name, array) in enumerate(sorted(arrays.items())):
            if name not in self._places:
                self._places[name] = -1 - number
                self.register_buffer(f"fixed_{number}", _tensor(array), persistent=False)

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the wanted values.

        Args:
            rows: Samples, shape ``(n, …)``, float32.

        Returns:
            By name, each with ``n`` in front.

        Raises:
            ModelError: A node is used in a form that cannot be trained here (M691), or does not fit (M692).
        """
        if not self._batch:
            return self._run(rows)
        parts = [self._run(_filled(part, self._batch)) for part in rows.split(self._batch)]
        return {name: torch.cat([part[name] for part in parts])[: len(rows)] for name in self.wanted}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what was trained as it stands in the file: floats, levels of weights, scales."""
        with torch.no_grad():
            values = {name: self._value(name) for name in self._places if self._places[name] >= 0}
            values |= {name: self._value(name) for name in self._bias_scales}
        return {
            name: value.detach().cpu().numpy().astype(self._kinds[name]) for name, value in values.items()
        }

    def write_into(self, model: Any) -> None:
        """Put what was trained where it came from."""
        for name, array in self.arrays().items():
            set_weight(model, name, array)

    def rounds(self) -> bool:
        """Return whether the graph is one of INT8."""
        return any(step.op == "QuantizeLinear" for step in self.steps) or bool(self._levels)

    def layers(self) -> list[torch.nn.Parameter]:
        """Return the weights that are trained."""
        return [
            self.learned[place]
            for name, place in self._places.items()
            if place >= 0 and name not in self._scales
        ]

    def scales(self) -> list[torch.nn.Parameter]:
        """Return the scales that are trained; none in a graph of floats."""
        return [self.learned[self._places[name]] for name in self._scales]

    def _run(self, rows: Tensor) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {self.input_name: rows}
        for number, step in enumerate(self.steps):
            inputs = [self._input(values, name) for name in step.inputs]
            try:
                given = OPS[step.op](step, *inputs)
            except (RuntimeError, TypeError, IndexError, ValueError, KeyError) as exc:
                raise ModelError(f"node {step.name} ({step.op}): {exc}", code="M692") from exc
            outputs = given if isinstance(given, tuple) else (given,)
            values.update(zip(step.outputs, outputs, strict=False))
            for name in step.inputs:
                if self._latest_use.get(name) == number:
                    values.pop(name, None)
        return {name: self._input(values, name) for name in self.wanted}

    def _input(self, values: Mapping[str, Tensor], name: str) -> Tensor | None:
        if not name:
            return None
        return values[name] if name in values else self._value(name)

    def _value(self, name: str) -> Tensor:
        """Return a weight as the nodes see it: levels of what is trained, scales above nought."""
        if name in self._bias_scales:
            of_input, of_weight = self._bias_scales[name]
            return (self._value(of_input) * self._value(of_weight)).detach().reshape(self._raw(name).shape)
        raw = self._raw(name)
        if name in self._levels:
            scale, zero, axis, ends = self._levels[name]
            offset = None if zero is None else along(self._value(zero).float(), raw, axis)
            return levels(raw, along(self._value(scale), raw, axis), offset, ends)
        return raw.exp() if name in self._scales else raw

    def _raw(self, name: str) -> Tensor:
        place = self._places[name]
        return self.learned[place] if place >= 0 else self.get_buffer(f"fixed_{-1 - place}")

    def _used(self) -> set[str]:
        return {name for step in self.steps for name in step.inputs} | set(self.wanted)

    def _start(
        self, name: str, arrays: Mapping[str, npt.NDArray[Any]], floats: Mapping[str, npt.NDArray[Any]]
    ) -> Tensor:
        array = arrays[name]
        if name in self._scales:
            return _tensor(array).log()
        if name not in self._levels:
            return _tensor(array)
        before = floats.get(name.removesuffix("_quantized"))
        if before is not None and before.shape == array.shape:
            return _tensor(before)
        scale, zero, axis, _ = self._levels[name]
        steps = _tensor(array).float()
        if zero is not None:
            steps = steps - along(_tensor(arrays[zero]).float(), steps, axis)
        return steps * along(_tensor(arrays[scale]), steps, axis)


def require_alike(network: Network, model: Any, rows: Rows) -> float:
    """Refuse to train what PyTorch computes otherwise than ONNX Runtime does.

    Args:
        network: The network.
        model: The ``onnx.ModelProto`` it was made of.
        rows: Some samples.

    Returns:
        The largest mean deviation of a wanted value, as a share of its spread.

    Raises:
        ModelError: It computes something else (M692).
    """
    some = rows[:_CHECKED]
    expected = activations(model, network.wanted, some)
    with torch.no_grad():
        found = network(torch.from_numpy(np.ascontiguousarray(some)))
    most = _ALIKE_LEVELS if network.rounds() else _ALIKE
    worst = 0.0
    for name in network.wanted:
        right, ours = expected[name].astype(np.float64), found[name].numpy().astype(np.float64)
        if right.shape != ours.shape:
            raise ModelError(f'"{name}" has shape {ours.shape} in PyTorch, not {right.shape}', code="M692")
        spread = float(right.std()) or float(np.abs(right).max()) or 1.0
        away = float(np.abs(right - ours).mean()) / spread
        if not away <= most:
            raise ModelError(
                f'"{name}" differs in PyTorch from ONNX Runtime by {away:.1%} of its spread', code="M692"
            )
        worst = max(worst, away)
    return worst


Levels = tuple[str, str | None, int, tuple[int, int]]
"""Of a weight: names of its scale and zero point, the axis of its channels, its least and highest level."""


def _levels_of(steps: Iterable[Step], arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Levels]:
    """Return the weights that are levels.

    No trained level leaves the range that all weights have in the file: INT8 without -128, or 7 bits where
    the processor's sums would overflow with more.
    """
    restores = {step.inputs[0]: step for step in steps if step.op == "DequantizeLinear"}
    kinds = {name: _tensor(arrays[name]).dtype for name in restores if name in arrays}
    found: dict[str, Levels] = {}
    for name, kind in kinds.items():
        if kind not in LEVELS:
            continue
        step = restores[name]
        zero = step.inputs[2] if len(step.inputs) > 2 and step.inputs[2] else None
        ends = LEVELS[kind]
        if kind != torch.int32:
            alike = [arrays[other] for other, its in kinds.items() if its == kind]
            ends = min(int(each.min()) for each in alike), max(int(each.max()) for each in alike)
        if kind == torch.int8:
            ends = -max(-ends[0], ends[1]), max(-ends[0], ends[1])
        found[name] = (step.inputs[1], zero, int(step.get("axis", 1)), ends)
    return found


def _scales(steps: Iterable[Step], of_levels: set[str], there: set[str]) -> dict[str, None]:
    """Return the scales to learn: those of rounded activations and weights, in the order of their use."""
    return {
        step.inputs[1]: None
        for step in steps
        if step.op == "QuantizeLinear" or (step.op == "DequantizeLinear" and step.inputs[0] in of_levels)
        if step.inputs[1] in there
    }


def _bias_scales(steps: Sequence[Step], arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, tuple[str, str]]:
    """Return, for the scale of each bias, those of its layer's input and weight: it is their product.

    Runtimes add the bias to sums of products of levels, so no other scale would be right.
    """
    made_by = {name: step for step in steps for name in step.outputs}
    found = {}
    for step in steps:
        if step.op not in ("Conv", "ConvTranspose", "Gemm") or len(step.inputs) < 3:
            continue
        restores = [made_by.get(name) for name in step.inputs[:3]]
        scales = [each.inputs[1] for each in restores if each is not None and each.op == "DequantizeLinear"]
        if len(scales) == 3 and scales[2] not in scales[:2] and scales[2] in arrays:
            found[scales[2]] = (scales[0], scales[1])
    return found


def _latest_use(steps: Sequence[Step], wanted: Iterable[str]) -> dict[str, int]:
    """Return the last step that takes each value, so that it is given up after that."""
    found = {name: number for number, step in enumerate(steps) for name in step.inputs if name}
    for name in wanted:
        found.pop(name, None)
    return found


def _is_float(array: npt.NDArray[Any]) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    """Return floats of any width as float32, whole numbers as they are."""
    return torch.from_numpy(np.array(array, np.float32) if _is_float(array) else np.array(array))


def _filled(part: Tensor, size: int) -> Tensor:
    """Return a full batch: the last sample stands where there is none."""
    missing = size - len(part)
    return part if not missing else torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])

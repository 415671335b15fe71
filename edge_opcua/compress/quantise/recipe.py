"""How a model is brought to INT8: the recipe of a variant, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args, get_type_hints

from edge_opcua.errors import ModelError

Method = Literal["minmax", "percentile", "entropy"]
Whole = Literal["u8", "s8"]
Format = Literal["qdq", "qoperator"]


@dataclass(frozen=True, slots=True)
class Int8:
    """How a model is brought to INT8 with calibrated ranges.

    Args:
        calibration: How a range is chosen from the values that were seen; see ``ranges``.
        per_channel: Whether each output channel of a weight has a scale of its own.
        activation: Type of what flows between the nodes.
        weight: Type of the weights.
        format: ``qdq``: nodes in float between QuantizeLinear and DequantizeLinear, which a runtime fuses;
            ``qoperator``: integer operators, as they were written before 2021.
        reduce_range: Whether weights use 7 bits: a processor without VNNI adds two products of 8 bits in 16
            bits, which may overflow.
        symmetric: Whether zero lies in the middle of every range; TensorRT takes nothing else.
        integer_bias: Whether a bias is kept as INT32; TensorRT takes it as a float only.
        equalise: Whether channels are made alike in size first; see ``equalise``.
        bias_correction: Whether biases make up for the mean error of their node.
        half_rest: Whether weights that stay in float are kept as FP16 in the file.
        exclude: Names of nodes that stay in float.
    """

    calibration: Method = "minmax"
    per_channel: bool = False
    activation: Whole = "u8"
    weight: Whole = "s8"
    format: Format = "qdq"
    reduce_range: bool = False
    symmetric: bool = False
    integer_bias: bool = True
    equalise: bool = False
    bias_correction: bool = False
    half_rest: bool = False
    exclude: tuple[str, ...] = ()

    def as_recipe(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self) | {"exclude": list(self.exclude)}


@dataclass(frozen=True, slots=True)
class Dynamic:
    """How a model is brought to INT8 with ranges that are measured at every run.

    Args:
        weight: Type of the weights; integer convolutions on a CPU take ``u8`` only.
        per_channel: Whether each output channel of a weight has a scale of its own.
        reduce_range: Whether weights use 7 bits.
        convolutions: Whether convolutions are brought to INT8 too; on a CPU they get slower by it.
    """

    weight: Whole = "s8"
    per_channel: bool = False
    reduce_range: bool = False
    convolutions: bool = False

    def as_recipe(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def read_int8(recipe: Mapping[str, Any], *, besides: frozenset[str] = frozenset()) -> Int8:
    """Return the recipe of an ``int8-static`` variant.

    Args:
        recipe: What the variant says; what it leaves out is as by default.
        besides: Keys that somebody else reads.

    Raises:
        ModelError: It has a key or a value that is unknown (M679), or s8 activations with u8 weights, for
            which no runtime has operators (M679).
    """
    kept = {key: value for key, value in recipe.items() if key not in besides}
    _require(kept, Int8)
    found = Int8(**(kept | {"exclude": tuple(kept.get("exclude", ()))}))
    if found.activation == "s8" and found.weight == "u8":
        raise ModelError('there are no operators for activation = "s8" with weight = "u8"', code="M679")
    return found


def read_dynamic(recipe: Mapping[str, Any]) -> Dynamic:
    """Return the recipe of an ``int8-dynamic`` variant.

    Raises:
        ModelError: It has a key or a value that is unknown (M679).
    """
    _require(recipe, Dynamic)
    return Dynamic(**recipe)


_LISTS: Final = frozenset({"exclude"})


def _require(recipe: Mapping[str, Any], kind: type) -> None:
    hints = get_type_hints(kind)
    for key, value in recipe.items():
        if key not in hints:
            raise ModelError(f'a recipe has no "{key}"; it has {", ".join(hints)}', code="M679")
        choices = get_args(hints[key])
        if key in _LISTS:
            known = isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)
        else:
            known = value in choices if choices else isinstance(value, bool)
        if not known:
            allowed = ", ".join(map(str, choices)) if choices and key not in _LISTS else "see the reference"
            raise ModelError(f"{key} = {value!r} is unknown: {allowed}", code="M679")

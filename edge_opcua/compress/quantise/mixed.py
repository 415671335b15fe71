"""Makes variants in mixed precision: INT8, but for the few nodes that lose the most by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from edge_opcua.compress.making import Kitchen, Progress
from edge_opcua.compress.quantise.equalise import equalise, is_uneven
from edge_opcua.compress.quantise.guide import int8_kinds
from edge_opcua.compress.quantise.inputs import standardise
from edge_opcua.compress.quantise.prepare import prepare
from edge_opcua.compress.quantise.quantiser import ranged
from edge_opcua.compress.quantise.ranges import observe, ranges
from edge_opcua.compress.quantise.recipe import read_int8
from edge_opcua.compress.quantise.sensitivity import Node, Tasting
from edge_opcua.compress.quantise.static import quantisable_or_none, variant_of, write_int8
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError

AIM: Final = 0.25
"""Share of the damage of plain INT8 that is aimed at."""
MOST_FLOAT: Final = 0.9
"""Share of the weights' bytes that may stay in float: beyond that there is little left to gain."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which nodes stay in float.

    Args:
        in_float: Their names.
        plain: Damage of plain INT8.
        damage: Damage with them in float.
        steps: What was tried: node, and damage with it and all that were taken before it in float.
    """

    in_float: tuple[str, ...]
    plain: float
    damage: float
    steps: tuple[tuple[str, float], ...]


def make(
    variant: Variant, source: Path, target: Path, kitchen: Kitchen, progress: Progress
) -> Mapping[str, Any]:
    """Write the variant, and return which nodes stayed in float and why.

    Recipe: that of ``int8-static``, and ``aim``: the share of the damage of plain INT8 that is aimed at.

    Raises:
        ModelError: The recipe is unknown (M679); plain INT8 does no damage, or nodes in float do not mend it
            (M678); the model has nothing to quantise (M678), or it cannot be done (M680).
    """
    recipe = read_int8(variant.recipe, besides=frozenset({"aim"}))
    aim = variant.recipe.get("aim", AIM)
    if not isinstance(aim, float) or not 0.0 <= aim < 1.0:
        raise ModelError(f"aim = {aim!r} is not a share from 0 to 1", code="M679")
    if recipe.format != "qdq" or recipe.bias_correction:
        raise ModelError('mixed precision needs format = "qdq", and no bias_correction', code="M679")
    model, _ = standardise(prepare(source), kitchen.calibration.rows)
    if recipe.equalise:
        equalise(model)
    progress(0.02, "calibrating")
    found = ranges(observe(model, ranged(model), kitchen.calibration.rows), recipe.calibration)
    tasting = Tasting(model, found, recipe, kitchen.task, kitchen.calibration)
    nodes = tasting.alone(lambda share, text: progress(0.05 + 0.5 * share, text))
    progress(0.55, "choosing what stays in float")
    choice = choose(nodes, tasting, aim)
    notes = write_int8(model, found, tasting.recipe_with(choice.in_float), target)
    sensitivity = {
        node.name: {"damage": round(node.damage, 6), "signal_to_noise_db": node.noise_db} for node in nodes
    }
    damages = {"plain": round(choice.plain, 6), "mixed": round(choice.damage, 6)}
    steps = [[name, round(damage, 6)] for name, damage in choice.steps]
    return notes | {"sensitivity": sensitivity, "damage": damages, "steps": steps}


def choose(nodes: Sequence[Node], tasting: Tasting, aim: float) -> Choice:
    """Return which nodes stay in float: few that bring the damage down to what is aimed at.

    The node that loses the most alone goes first, and so on until the aim is reached, or the best is kept.
    One that does not help by itself may do so together with the next, whose input it makes. Then each is
    tried in INT8 again, the least sensitive first: others may have made it needless.

    Raises:
        ModelError: Plain INT8 does no damage, or nodes in float do not mend it (M678).
    """
    plain = tasting.damage(())
    if plain <= 0.0:
        raise ModelError("INT8 does no damage on the calibration samples", code="M678")
    room = MOST_FLOAT * sum(node.bytes_in_float for node in nodes)
    tried: list[Node] = []
    best: tuple[float, list[Node]] = (plain, [])
    steps: list[tuple[str, float]] = []
    for node in sorted(nodes, key=lambda node: (-node.damage, node.noise_db, node.name)):
        if best[0] <= aim * plain:
            break
        if sum(each.bytes_in_float for each in tried) + node.bytes_in_float > room:
            continue
        tried.append(node)
        damage = tasting.damage([each.name for each in tried])
        steps.append((node.name, damage))
        if damage < best[0]:
            best = damage, list(tried)
    reached, kept = _without_needless(best, tasting, aim * plain)
    if not kept:
        raise ModelError("keeping nodes in float does not mend what INT8 loses", code="M678")
    return Choice(tuple(sorted(node.name for node in kept)), plain, reached, tuple(steps))


def proposals(onnx_path: Path, kitchen: Kitchen) -> list[Variant]:
    """Return mixed precision with the device's best whole numbers: a scale per tensor, and per channel."""
    kinds = int8_kinds(kitchen.device)
    model = quantisable_or_none(onnx_path)
    if not kinds or model is None:
        return []
    wanted = []
    for per_channel in sorted({kinds[0].per_channel, True}):
        whole = replace(kinds[0], per_channel=per_channel, equalise=is_uneven(model))
        made = variant_of(whole, prefix="mixed", family="mixed")
        wanted.append(
            replace(made, recipe=dict(made.recipe) | {"aim": AIM}, text=f"mixed precision: {made.text}")
        )
    return wanted


def _without_needless(
    best: tuple[float, list[Node]], tasting: Tasting, goal: float
) -> tuple[float, list[Node]]:
    """Return the damage and the nodes without those that do not matter for the goal, or for the damage."""
    reached, kept = best
    allowed = max(reached, goal)
    for node in reversed(best[1]):
        fewer = [each for each in kept if each is not node]
        damage = tasting.damage([each.name for each in fewer]) if fewer else float("inf")
        if damage <= allowed:
            reached, kept = damage, fewer
    return reached, kept

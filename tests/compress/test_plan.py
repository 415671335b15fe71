"""The plan: what comes next depends on what was lost on the calibration samples, and on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.makers import Proposals
from edge_opcua.compress.making import Kitchen
from edge_opcua.compress.options import FAMILIES, Options
from edge_opcua.compress.search.plan import HOPELESS, Plan, Tasted, imagined
from edge_opcua.compress.variant import Family, Made, Variant
from edge_opcua.errors import ModelError
from tests.compress.kitchens import kitchen

ORIGINAL = Path("original.onnx")
SAMPLES = Dataset(np.zeros((4, 1), np.float32))


def proposing(wanted: Mapping[Family, list[Variant]]) -> Callable[[Family], Proposals]:
    """Return families that propose these, whatever the model."""

    def of(family: Family) -> Proposals:
        def proposals(_path: Path, _kitchen: Kitchen) -> list[Variant]:
            return wanted.get(family, [])

        return proposals

    return of


PROPOSED: dict[Family, list[Variant]] = {
    "clean": [Variant("clean", "clean")],
    "int8-static": [
        Variant("int8-a", "int8-static"),
        Variant("int8-b", "int8-static"),
        Variant("int8-c", "int8-static"),
    ],
    "int8-dynamic": [Variant("int8-dynamic", "int8-dynamic")],
    "mixed": [Variant("mixed-1", "mixed")],
    "pruned": [Variant(f"pruned-{share}", "pruned", {"share": share / 100}) for share in (60, 20, 40, 80)],
    "tuned": [Variant("tuned", "tuned")],
    "qat": [Variant("qat", "qat")],
}
ALSO: dict[Family, list[Variant]] = {"int8-static": [Variant("qoperator-s8", "int8-static")]}


def planned(options: Options | None = None, proposed: Mapping[Family, list[Variant]] = PROPOSED) -> Plan:
    return Plan(
        ORIGINAL,
        kitchen(SAMPLES),
        options or Options(),
        proposals=proposing(proposed),
        also=proposing(ALSO),
    )


def followed(plan: Plan, damage: Mapping[str, float]) -> list[list[str]]:
    """Return the stages of a plan whose variants do this damage, none if not named; NaN: it is not made."""
    found, stages = [], plan.stages()
    try:
        wanted = next(stages)
        while True:
            found.append([each.name for each in wanted])
            wanted = stages.send([_tasted(each, damage.get(each.name, 0.0)) for each in wanted])
    except StopIteration:
        return found


def _tasted(variant: Variant, damage: float) -> Tasted:
    if np.isnan(damage):
        return Tasted(variant, refused="no")
    return Tasted(variant, Made(variant, Path(f"{variant.name}.onnx")), damage)


def test_pruning_goes_on_until_too_much_is_lost_and_no_farther() -> None:
    stages = followed(planned(), {"pruned-40": 2 * HOPELESS})
    names = [name for stage in stages for name in stage]
    assert [name for name in names if name in ("pruned-20", "pruned-40", "pruned-60", "pruned-80")] == [
        "pruned-20",
        "pruned-40",
    ]
    assert "pruned-20-int8-a" in names
    assert "pruned-40-int8-a" not in names


def test_what_has_fewer_weights_is_quantised_by_the_recipes_that_did_the_least_damage() -> None:
    damage = {"int8-a": 0.004, "int8-b": 0.001, "int8-c": 0.0005}
    stages = followed(planned(), damage)
    assert stages[-1] == [
        *(f"pruned-{share}-int8-{recipe}" for share in (40, 60, 80) for recipe in "cb"),
        *("pruned-60-tuned-int8-c", "pruned-80-tuned-int8-c"),
    ]


def test_the_parent_of_what_is_made_of_a_variant_is_that_variant() -> None:
    stages = imagined(planned(), ORIGINAL)
    parents = {each.name: each.parent for stage in stages for each in stage}
    assert parents["clean"] == "original"
    assert parents["int8-a"] == "clean"
    assert parents["pruned-80-int8-a"] == "pruned-80"
    assert parents["pruned-80-tuned"] == "pruned-80"


@pytest.mark.parametrize("damage", [0.01, float("nan")])
def test_a_clean_up_that_changes_answers_or_fails_is_built_upon_by_nobody(damage: float) -> None:
    stages = planned().stages()
    first = next(stages)
    second = stages.send([_tasted(each, damage) for each in first])
    assert {each.parent for each in second} == {"original"}


def test_mixed_precision_is_tried_if_int8_does_damage_and_only_then() -> None:
    unharmed = [name for stage in followed(planned(), {"int8-a": 0.01, "int8-b": 0.01}) for name in stage]
    harmed = [
        name
        for stage in followed(planned(), dict.fromkeys(("int8-a", "int8-b", "int8-c"), 0.01))
        for name in stage
    ]
    assert "mixed-1" not in unharmed
    assert "mixed-1" in harmed


def test_training_for_int8_is_tried_after_all_else_if_the_gate_refused_every_int8() -> None:
    plan = planned()
    assert "qat" not in [name for stage in followed(plan, {}) for name in stage]
    assert plan.rescue(all_int8_refused=False) == []
    assert [each.name for each in plan.rescue(all_int8_refused=True)] == ["qat"]


def test_only_the_families_that_are_asked_for_are_tried() -> None:
    options = Options(only=frozenset({"int8-static", "pruned"}), skip=frozenset({"pruned"}))
    assert followed(planned(options), {}) == [["int8-a", "int8-b", "int8-c"]]
    assert planned(options).rescue(all_int8_refused=True) == []


def test_a_recipe_that_is_named_is_tried_too() -> None:
    names = followed(planned(Options(also=("qoperator-s8", "int8-a"))), {})[1]
    assert names == ["int8-a", "int8-b", "int8-c", "int8-dynamic", "qoperator-s8"]


def test_a_recipe_that_nobody_knows_is_refused_with_those_there_are() -> None:
    with pytest.raises(ModelError, match=r'no recipe "nonsense".*qoperator-s8') as caught:
        followed(planned(Options(also=("nonsense",))), {})
    assert caught.value.code == "M682"


@pytest.mark.parametrize(("code", "goes_on"), [("M676", True), ("M607", False)])
def test_a_family_that_does_not_stand_a_model_keeps_no_other_from_it_unless_a_package_is_missing(
    code: str, goes_on: bool
) -> None:
    def of(family: Family) -> Proposals:
        def refuse(_path: Path, _kitchen: Kitchen) -> list[Variant]:
            raise ModelError("not with this model", code=code)

        return refuse if family == "pruned" else proposing(PROPOSED)(family)

    plan = Plan(ORIGINAL, kitchen(SAMPLES), Options(), proposals=of)
    if goes_on:
        assert "int8-a" in [name for stage in followed(plan, {}) for name in stage]
        assert plan.refused == {"pruned": "M676: not with this model"}
    else:
        with pytest.raises(ModelError, match="not with this model"):
            followed(plan, {})


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert followed(planned(proposed={}), {}) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Options(threads=0), "threads = 0"),
        (Options(budget_s=0.0), "budget_s = 0"),
        (Options(max_loss=-1.0), "max_loss = -1"),
        (Options(only=frozenset(FAMILIES), skip=frozenset(FAMILIES)), "nothing to try"),
        (Options(only=frozenset({"magic"})), 'no family "magic"'),  # type: ignore[arg-type]  # from a script
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: Options, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        wrong.require_sound()
    assert caught.value.code == "M682"

"""Mixed precision: few nodes in float mend most of what INT8 loses, or it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_opcua.compress.making import Device, Kitchen
from edge_opcua.compress.quantise.mixed import choose, make, proposals
from edge_opcua.compress.quantise.sensitivity import Node
from edge_opcua.compress.tasks.labels import Labels
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError
from tests.compress.kitchens import kitchen, quiet
from tests.compress.models import conv_net, pictures, run, saved
from tests.compress.quantise.nets import uneven_net, weightless


class Model:
    """A model whose damage is known for every set of nodes in float: the product of what each leaves."""

    def __init__(self, plain: float, **left: float) -> None:
        self.plain = plain
        self.left = left
        self.asked = 0

    def damage(self, in_float: Any) -> float:
        self.asked += 1
        names = set(in_float)
        damage = self.plain
        for name, share in self.left.items():
            if set(name.split("_")) <= names:
                damage *= share
        return damage


def nodes(*named: tuple[str, float]) -> list[Node]:
    return [Node(name, 100, damage, 20.0) for name, damage in named]


def cook(samples: int = 150) -> Kitchen:
    return kitchen(pictures(samples, 5), task=Labels("logits"))


def test_the_nodes_that_lose_the_most_stay_in_float(tmp_path: Path) -> None:
    path = saved(uneven_net(), tmp_path)
    variant = Variant("mixed", "mixed", {"aim": 0.25})
    notes = make(variant, path, tmp_path / "variant.onnx", cook(), quiet)
    assert notes["float_nodes"] == ["/conv1", "/conv2"]  # what lies between them does not fit 8 bits
    assert notes["damage"]["mixed"] <= 0.25 * notes["damage"]["plain"]
    assert set(notes["sensitivity"]) == {"/stem", "/conv1", "/conv2", "/depth", "/point", "/logits"}
    fresh = pictures(500, 6)
    plain = np.mean(run(path, fresh.rows).argmax(1) == fresh.truth)
    assert np.mean(run(tmp_path / "variant.onnx", fresh.rows).argmax(1) == fresh.truth) > plain - 0.02
    kinds = [each.data_type for each in onnx.load(str(tmp_path / "variant.onnx")).graph.initializer]
    assert onnx.TensorProto.INT8 in kinds


def test_two_nodes_that_help_only_together_stay_in_float_together() -> None:
    model = Model(0.1, a_b=0.1, c=0.9)
    choice = choose(nodes(("a", 0.09), ("b", 0.08), ("c", 0.02), ("d", 0.01)), model, 0.25)  # type: ignore[arg-type]
    assert choice.in_float == ("a", "b")
    assert choice.damage == pytest.approx(0.01)


def test_a_node_that_others_made_needless_goes_back_to_int8() -> None:
    model = Model(0.1, b=0.1, a=0.95)
    choice = choose(nodes(("a", 0.09), ("b", 0.08), ("c", 0.02)), model, 0.25)  # type: ignore[arg-type]
    assert choice.in_float == ("b",)
    assert [name for name, _ in choice.steps] == ["a", "b"]


def test_the_best_is_kept_where_the_aim_is_out_of_reach() -> None:
    model = Model(0.1, a=0.6, b=1.4, c=0.9)
    choice = choose(nodes(("a", 0.09), ("b", 0.08), ("c", 0.02), ("d", 0.01)), model, 0.1)  # type: ignore[arg-type]
    assert choice.in_float == ("a",)
    assert choice.damage == pytest.approx(0.06)


def test_a_number_of_tastings_that_grows_with_the_nodes_and_not_with_their_sets() -> None:
    model = Model(0.1)
    many = nodes(*((f"n{number}", 0.001 * number) for number in range(60)))
    with pytest.raises(ModelError, match="does not mend") as caught:
        choose(many, model, 0.25)  # type: ignore[arg-type]
    assert caught.value.code == "M678"
    assert model.asked < 2 * len(many)


def test_no_damage_needs_no_mending() -> None:
    with pytest.raises(ModelError, match="no damage") as caught:
        choose(nodes(("a", 0.0)), Model(0.0), 0.25)  # type: ignore[arg-type]
    assert caught.value.code == "M678"


def test_mixed_precision_is_proposed_where_int8_is(tmp_path: Path) -> None:
    path = saved(conv_net(), tmp_path)
    found = proposals(path, cook(9))
    assert [each.family for each in found] == ["mixed", "mixed"]
    assert [each.recipe["per_channel"] for each in found] == [False, True]
    cuda = Device("cuda", "some card", "x86_64", has_vnni=True)
    assert proposals(path, replace(cook(9), device=cuda)) == []
    assert proposals(saved(weightless(), tmp_path), cook(9)) == []


@pytest.mark.parametrize(
    "recipe",
    [{"aim": 2.0}, {"aim": "little"}, {"format": "qoperator"}, {"bias_correction": True}, {"sort": 1}],
)
def test_a_recipe_that_makes_no_sense_is_refused(recipe: dict[str, Any], tmp_path: Path) -> None:
    path = saved(conv_net(), tmp_path)
    with pytest.raises(ModelError) as caught:
        make(Variant("mixed", "mixed", recipe), path, tmp_path / "variant.onnx", cook(9), quiet)
    assert caught.value.code == "M679"

"""A version held against the one before it: which results belong to which."""

from __future__ import annotations

from dataclasses import replace

from edge_opcua.core.values import Verdict
from edge_opcua.inference.watch.former import FEWEST, FormerVersion
from tests.inference.watch.test_modelwatch import SEEN

OK = replace(SEEN, model="model/2")
NOT_OK = replace(SEEN, model="model/1", verdict=Verdict.NOT_OK)


def test_what_an_earlier_version_found_is_not_put_down_to_the_former_one() -> None:
    held = FormerVersion(100.0)
    for seen in (*[NOT_OK] * FEWEST, *[OK] * FEWEST):
        held.before(seen)
    for _ in range(FEWEST):
        held.take(replace(SEEN, model="model/3"))
    assert (held.model, held.findings()) == ("model/2", [])


def test_what_a_version_judged_before_the_former_one_does_not_count() -> None:
    held = FormerVersion(100.0)
    for _ in range(FEWEST):
        held.take(replace(SEEN, model="model/3"))
    for _ in range(FEWEST):
        held.before(NOT_OK)
    held.take(replace(SEEN, model="model/3"))
    assert held.findings() == []
    for _ in range(FEWEST):
        held.take(replace(SEEN, model="model/3"))
    (found,) = held.findings()
    assert found.text == "0% of its verdicts are NotOk, 100% were with model/1"

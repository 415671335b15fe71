"""Which models of a group may be loaded together, by how its processes ended."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.app.serving.quarantine import MOST_ENDS, TRIAL_S, WITHIN_S, Quarantine

NAMES = ("a", "b", "c")


def tried(now_s: float = 0.0) -> Quarantine:
    """Return a group whose process has just ended the third time."""
    found = Quarantine(NAMES)
    for _ in range(MOST_ENDS):
        assert found.ended(NAMES, now_s) == ()
    return found


def test_without_an_end_all_share_one_process() -> None:
    assert Quarantine(NAMES).parts(0.0) == (NAMES,)
    assert Quarantine(()).parts(0.0) == ()
    assert Quarantine(NAMES).changes_in_s(0.0) == math.inf


def test_the_third_end_within_a_minute_gives_each_a_process_of_its_own_for_a_while() -> None:
    found = tried(10.0)
    assert found.parts(10.0) == (("a",), ("b",), ("c",))
    assert found.changes_in_s(10.0) == TRIAL_S
    assert found.parts(10.0 + TRIAL_S) == (NAMES,)


def test_the_one_whose_process_ends_alone_is_held_and_no_other() -> None:
    found = tried()
    assert found.ended(("b",), 1.0) == ("b",)
    assert found.parts(2.0) == (("a",), ("c",))
    assert found.parts(TRIAL_S) == (("a", "c"),)


def test_two_culprits_are_found_in_one_trial() -> None:
    found = tried()
    assert found.ended(("b",), 1.0) == ("b",)
    assert found.ended(("c",), 2.0) == ("c",)
    assert found.parts(TRIAL_S) == (("a",),)


def test_a_pipeline_that_is_alone_anyway_is_held_at_the_third_end() -> None:
    found = Quarantine(("a",))
    assert [found.ended(("a",), now_s) for now_s in (0.0, 30.0, 60.0)] == [(), (), ("a",)]
    assert found.parts(61.0) == ()
    found.release("a")
    assert found.parts(61.0) == (("a",),)
    assert found.ended(("a",), 62.0) == (), "it begins anew"


def test_ends_with_another_set_of_models_count_for_those_that_were_loaded() -> None:
    found = Quarantine(NAMES)
    found.ended(("a", "b"), 0.0)
    found.ended(("a", "c"), 1.0)
    assert found.ended(("a",), 2.0) == ("a",)


def test_somebody_who_loads_another_model_gets_it_beside_those_that_are_free() -> None:
    found = tried()
    found.ended(("b",), 1.0)
    assert found.part_of(("b",), 2.0) == ("b",), "the trial goes on"
    assert found.part_of(("b",), TRIAL_S) == NAMES


def test_a_second_trial_in_vain_keeps_them_apart_until_somebody_acts() -> None:
    found = tried()
    for _ in range(MOST_ENDS):
        found.ended(NAMES, 100.0)
    assert found.stays_apart
    assert found.parts(1e9) == (("a",), ("b",), ("c",))
    found.release("a")
    assert found.parts(1e9) == (NAMES,)


def test_a_trial_long_ago_does_not_count() -> None:
    found = tried()
    for _ in range(MOST_ENDS):
        found.ended(NAMES, 4000.0)
    assert not found.stays_apart


def test_a_changed_pipeline_gets_another_chance_and_the_others_do_not() -> None:
    found = tried()
    found.ended(("a",), 1.0)
    found.ended(("b",), 1.0)
    found.change(("a", "b", "d"), ("b",))
    assert found.parts(2.0) == (("b", "d"),)


@given(st.lists(st.tuples(st.floats(0, 500), st.sets(st.sampled_from(NAMES), min_size=1)), max_size=40))
def test_whatever_ends_every_pipeline_is_held_or_in_exactly_one_part(
    ends: list[tuple[float, set[str]]],
) -> None:
    found = Quarantine(NAMES)
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    for now_s, loaded in sorted(ends, key=lambda each: each[0]):
        for name in loaded:
            times[name].append(now_s)
        for name in found.ended(tuple(sorted(loaded)), now_s):
            # Nobody is held who was not there three times, or once alone after that.
            assert len(times[name]) >= 1
            assert found.is_trial(now_s) or sum(now_s - t <= WITHIN_S for t in times[name]) >= MOST_ENDS
        parts = [name for part in found.parts(now_s) for name in part]
        assert sorted([*parts, *found.held]) == sorted(NAMES)

"""Queues of monitored items: Part 4 §5.13.1.5, §7.21, §7.22.3."""

from __future__ import annotations

import pytest

from edge_opcua.opcua.services.subscription.queues import EventQueue, ValueQueue


def values(queue: ValueQueue[int]) -> list[tuple[int, bool]]:
    return list(queue)


def filled(size: int, *pushed: int, discard_oldest: bool) -> ValueQueue[int]:
    queue: ValueQueue[int] = ValueQueue(size, discard_oldest=discard_oldest)
    for value in pushed:
        queue.push(value)
    return queue


@pytest.mark.parametrize(
    ("size", "discard_oldest", "pushed", "kept"),
    [
        (3, True, [1, 2, 3], [(1, False), (2, False), (3, False)]),
        # §5.13.1.5: the oldest is deleted and the next one gets the flag.
        (3, True, [1, 2, 3, 4], [(2, True), (3, False), (4, False)]),
        (3, True, [1, 2, 3, 4, 5, 6], [(4, True), (5, False), (6, False)]),
        # §5.13.1.5: the last value is replaced, and the new one gets the flag.
        (3, False, [1, 2, 3, 4], [(1, False), (2, False), (4, True)]),
        (3, False, [1, 2, 3, 4, 5], [(1, False), (2, False), (5, True)]),
        # §5.13.1.5: a queue of one never has the flag.
        (1, True, [1, 2, 3], [(3, False)]),
        (1, False, [1, 2, 3], [(3, False)]),
        (2, True, [1, 2, 3, 4], [(3, True), (4, False)]),
    ],
)
def test_what_is_discarded_and_who_says_so(
    size: int, *, discard_oldest: bool, pushed: list[int], kept: list[tuple[int, bool]]
) -> None:
    assert values(filled(size, *pushed, discard_oldest=discard_oldest)) == kept


def test_the_flag_stays_where_values_are_missing() -> None:
    queue = filled(2, 1, 2, 3, discard_oldest=False)  # 2 is missing before 3
    assert queue.pop() == (1, False)
    queue.push(4)
    assert values(queue) == [(3, True), (4, False)]


@pytest.mark.parametrize(
    ("size", "discard_oldest", "lost", "kept"),
    [
        (5, True, 0, [(1, False), (2, False), (3, False)]),
        (2, True, 1, [(2, True), (3, False)]),
        (2, False, 1, [(1, False), (3, True)]),
        (1, True, 2, [(3, False)]),
        (1, False, 2, [(3, False)]),
    ],
)
def test_a_queue_that_is_made_shorter_discards_by_its_policy(
    size: int, *, discard_oldest: bool, lost: int, kept: list[tuple[int, bool]]
) -> None:
    # §5.13.3.2: a new queue size takes effect at once.
    queue = filled(3, 1, 2, 3, discard_oldest=True)
    assert queue.resize(size, discard_oldest=discard_oldest) == lost
    assert values(queue) == kept


def drained(queue: EventQueue[str]) -> list[str]:
    return [queue.pop() for _ in range(len(queue))]


def overflown(*, discard_oldest: bool) -> EventQueue[str]:
    queue: EventQueue[str] = EventQueue(2, discard_oldest=discard_oldest)
    for event in ("a", "b", "c"):
        if queue.push([event]):
            queue.tell("lost")
    return queue


def test_lost_events_are_told_first_if_the_oldest_gave_way() -> None:
    # §7.22.3: the notice has a place beside the queue.
    assert drained(overflown(discard_oldest=True)) == ["lost", "b", "c"]


def test_lost_events_are_told_last_if_the_newest_gave_way() -> None:
    assert drained(overflown(discard_oldest=False)) == ["a", "c", "lost"]


def test_the_next_notice_is_made_after_the_last_was_sent() -> None:
    # §7.22.3: only then a new one.
    queue = overflown(discard_oldest=True)
    assert queue.push(["d"]) == 1
    queue.tell("lost again")
    assert len(queue) == 3
    assert queue.pop() == "lost"
    assert not queue.told
    assert queue.push(["e"]) == 1
    queue.tell("lost again")
    assert drained(queue) == ["lost again", "d", "e"]


def test_a_queue_of_events_is_cleared_and_made_shorter() -> None:
    queue = overflown(discard_oldest=True)
    assert queue.resize(1, discard_oldest=False) == 1
    assert drained(queue) == ["lost", "b"]
    queue = overflown(discard_oldest=True)
    assert queue.resize(1, discard_oldest=True) == 1
    queue.clear()
    assert len(queue) == 0
    with pytest.raises(IndexError):
        queue.pop()

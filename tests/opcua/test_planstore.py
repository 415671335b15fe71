"""What is kept of clients' lists: found by their bytes, bounded, and fairly shared."""

from __future__ import annotations

import gc
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.opcua.services.attribute.planstore import SEEN, PlanStore

TOTAL = 100_000


@dataclass
class Thing:
    """Something that is kept."""

    name: str = ""
    cost: int = 1000


class Client:
    """Who sends requests."""


def send(store: PlanStore[Thing], client: Client, body: bytes, times: int = 2, cost: int = 1000) -> bool:
    """Send a body some times; return whether something is kept of it then."""
    for _ in range(times):
        if store.find(body) is None and store.comes_again(client, body):
            store.keep(client, body, Thing(body.decode("latin1"), cost))
    return store.find(body) is not None


def test_what_comes_for_the_second_time_is_kept() -> None:
    store: PlanStore[Thing] = PlanStore(TOTAL)
    client = Client()
    assert not send(store, client, b"a", times=1)
    assert send(store, client, b"a", times=1)
    found = store.find(b"a")
    assert found is not None
    assert found.name == "a"
    assert (len(store), store.cost) == (1, 1002)


def test_two_long_lists_that_look_alike_are_two() -> None:
    store: PlanStore[Thing] = PlanStore(TOTAL)
    client = Client()
    one = bytes(5000)
    differing = [one[:at] + b"\x01" + one[at + 1 :] for at in range(0, 5000, 7)]
    assert send(store, client, one)
    for other in differing:
        found = store.find(other)
        assert found is None
    # The one that comes takes the place of the one that was; neither is taken for the other.
    for other in differing[1:20]:
        assert send(store, client, other)
        kept = store.find(other)
        assert kept is not None
        assert kept.name == other.decode("latin1")
    assert store.cost <= TOTAL


def test_a_list_that_looks_like_anothers_does_not_push_it_out() -> None:
    # The bytes by which it is found first are few, and anybody can see which.
    store: PlanStore[Thing] = PlanStore(TOTAL)
    honest, envious = Client(), Client()
    poll = bytes(5000)
    assert send(store, honest, poll)
    for number in range(1, 200):
        send(store, envious, poll[:4999] + bytes([number]))
        assert store.find(poll) is not None
    assert len(store) == 2


def test_one_that_never_repeats_keeps_nothing() -> None:
    store: PlanStore[Thing] = PlanStore(TOTAL)
    client, honest = Client(), Client()
    send(store, honest, b"poll")
    for number in range(3000):
        send(store, client, b"%d" % number, times=1)
    assert len(store) == 1
    assert store.find(b"poll") is not None


def test_one_that_fills_the_store_pushes_out_only_its_own() -> None:
    store: PlanStore[Thing] = PlanStore(TOTAL)
    greedy, honest, late = Client(), Client(), Client()
    polls = [b"poll %d" % number for number in range(10)]
    assert all(send(store, honest, poll) for poll in polls)
    for number in range(1000):
        assert send(store, greedy, b"%d" % number)
        assert store.cost <= TOTAL
    assert all(store.find(poll) is not None for poll in polls)
    assert send(store, late, b"late")  # and there is room for the next one
    assert store.find(b"999") is not None
    assert store.find(b"1") is None  # the longest unused went first


def test_what_was_used_last_stays_longest() -> None:
    store: PlanStore[Thing] = PlanStore(TOTAL)
    client = Client()
    send(store, client, b"used")
    for number in range(200):
        send(store, client, b"%d" % number)
        assert store.find(b"used") is not None


def test_what_is_larger_than_anybodys_share_is_not_kept() -> None:
    store: PlanStore[Thing] = PlanStore(TOTAL)
    assert not send(store, Client(), b"large", cost=TOTAL // 2 + 1)
    assert store.cost == 0


def test_with_a_client_goes_what_was_kept_for_it() -> None:
    store: PlanStore[Thing] = PlanStore(TOTAL)
    client, other = Client(), Client()
    send(store, client, b"a")
    send(store, other, b"b")
    del client
    gc.collect()
    assert store.find(b"a") is None
    assert store.find(b"b") is not None
    assert (len(store), store.cost) == (1, 1002)


def test_a_client_is_remembered_for_so_many_lists_only() -> None:
    store: PlanStore[Thing] = PlanStore(10 * TOTAL)
    client = Client()
    send(store, client, b"first", times=1)
    for number in range(SEEN):
        send(store, client, b"%d" % number, times=1)
    assert not send(store, client, b"first", times=1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 20_000)), max_size=200))
def test_the_books_are_right_whatever_comes(steps: list[tuple[int, int, int]]) -> None:
    store: PlanStore[Thing] = PlanStore(TOTAL)
    clients = [Client() for _ in range(4)]
    for who, what, cost in steps:
        body = b"%d" % what
        found = store.find(body)
        if found is not None:
            assert found.name == body.decode()
            continue
        if store.comes_again(clients[who], body):
            store.keep(clients[who], body, Thing(body.decode(), cost))
        kept = [entry for own in store._owners.values() for entry in own.entries.values()]
        assert len(store) == len(kept)
        assert store.cost == sum(2 * len(entry.body) + entry.kept.cost for entry in kept) <= TOTAL
    clients.clear()
    assert (len(store), store.cost) == (0, 0)

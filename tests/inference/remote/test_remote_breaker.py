"""When a server is left alone and when it is tried again: the table, and what must always hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.remote.breaker import TABLE, Circuit, Event, State, Terms, admit, happen
from edge_opcua.inference.backends.remote.gate import Gate
from edge_opcua.testing import ManualClock

TERMS = Terms(fail_after=3, first_ns=100, most_ns=1000)
OUTCOMES = (Event.SUCCESS, Event.FAILURE, Event.ABANDONED)


def failed(times: int, circuit: Circuit = Circuit(), now_ns: int = 0) -> Circuit:  # noqa: B008 - frozen
    for _ in range(times):
        circuit = happen(circuit, Event.FAILURE, TERMS, now_ns)
    return circuit


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    assert failed(2).state is State.CLOSED
    assert failed(3).state is State.OPEN
    assert failed(2, happen(failed(2), Event.SUCCESS, TERMS, 0)).state is State.CLOSED


def test_nobody_asks_before_the_pause_is_over_and_then_one_alone() -> None:
    circuit = failed(3, now_ns=1000)
    assert admit(circuit, 1099) == (circuit, False)
    probing, allowed = admit(circuit, 1100)
    assert (probing.state, allowed) == (State.HALF_OPEN, True)
    assert admit(probing, 5000) == (probing, False)  # the probe is on its way
    assert happen(probing, Event.SUCCESS, TERMS, 5000) == Circuit()


def test_the_pause_doubles_with_each_probe_that_fails_up_to_the_longest() -> None:
    circuit, now_ns, pauses = failed(3), 0, []
    for _ in range(6):
        pauses.append(circuit.retry_ns - now_ns)
        now_ns = circuit.retry_ns
        circuit = happen(admit(circuit, now_ns)[0], Event.FAILURE, TERMS, now_ns)
    assert pauses == [100, 200, 400, 800, 1000, 1000]


def test_a_cancelled_probe_lets_the_next_one_go_at_once() -> None:
    probing, _ = admit(failed(3), 100)
    again = happen(probing, Event.ABANDONED, TERMS, 100)
    assert again.state is State.OPEN
    assert admit(again, 100)[1]
    assert happen(failed(2), Event.ABANDONED, TERMS, 0) == failed(2)


def test_an_answer_to_a_run_that_began_before_it_opened_closes_it() -> None:
    assert happen(failed(3), Event.SUCCESS, TERMS, 0) == Circuit()


@given(st.lists(st.tuples(st.sampled_from(OUTCOMES), st.integers(0, 500)), max_size=60))
def test_one_who_asks_again_and_again_is_never_refused_for_longer_than_the_longest_pause(
    story: list[tuple[Event, int]],
) -> None:
    circuit, now_ns, refused_since = Circuit(), 0, None
    for outcome, pause_ns in story:
        now_ns += pause_ns
        circuit, allowed = admit(circuit, now_ns)
        if allowed:
            refused_since = None
            circuit = happen(circuit, outcome, TERMS, now_ns)
        else:
            refused_since = now_ns if refused_since is None else refused_since
            assert now_ns - refused_since < TERMS.most_ns
            assert circuit.state is State.OPEN
        assert circuit.state is not State.HALF_OPEN  # its probe has ended
        assert (circuit.failures < TERMS.fail_after) or circuit.state is State.OPEN


def test_every_state_that_can_be_entered_can_be_left() -> None:
    assert {state for state, _ in TABLE} == set(State)
    assert set(TABLE.values()) == set(State)


def test_the_gate_says_why_and_for_how_long() -> None:
    clock = ManualClock()
    gate = Gate(Terms(fail_after=1, first_ns=2_000_000_000), clock, "press at http://h:8000")
    gate.enter()
    gate.leave(ModelError("it is on fire", code="M570"), 0)
    clock.step(0.5)
    with pytest.raises(ModelError, match=r"left alone for another 1\.5 s: it is on fire") as caught:
        gate.enter()
    assert caught.value.code == "M572"
    clock.step(1.5)
    gate.enter()
    gate.leave(ModelError("the model divides by zero", code="M532"), 0)  # but the server answers
    assert gate.state is State.CLOSED


def test_a_run_cancelled_for_others_says_nothing_and_one_cancelled_for_want_of_an_answer_does() -> None:
    clock = ManualClock()
    gate = Gate(Terms(fail_after=3), clock, "press at http://h:8000")
    for _ in range(20):
        gate.leave(None, 10_000_000)
    cancelled = ModelError("the run was cancelled", code="M535")
    for _ in range(5):
        gate.leave(cancelled, 15_000_000)
    gate.enter()
    # What a server that has gone silent looks like where the deadline ends the run, not our own timeout.
    for _ in range(3):
        gate.leave(cancelled, 100_000_000)
    assert gate.state is State.OPEN
    with pytest.raises(ModelError, match=r"^press at http://h:8000 is left alone .* s: has not answered"):
        gate.enter()

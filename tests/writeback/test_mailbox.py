"""The mailbox: the bytes a PLC gets, as the simulated PLC reads them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.values import Verdict
from edge_opcua.sim.press import Mailbox as PlcMailbox
from edge_opcua.writeback.mailbox import SIZE_BYTES, Code, Mailbox, next_heartbeat


@given(
    st.integers(0, 65_535),
    st.booleans(),
    st.sampled_from(Verdict),
    st.sampled_from(Code),
    st.integers(0, 2**32 - 1),
    st.floats(-1e6, 1e6, width=32),
)
def test_the_plc_reads_what_was_meant(
    heartbeat: int, authority: bool, verdict: Verdict, code: Code, sequence: int, score: float
) -> None:
    read = PlcMailbox.unpack(Mailbox(heartbeat, authority, verdict, code, sequence, score).pack())

    assert (read.heartbeat, read.authority, read.verdict) == (heartbeat, authority, verdict)
    assert (read.code, read.sequence, read.tail) == (code, sequence, sequence)
    assert read.score == score


def test_it_is_one_write_of_twenty_bytes() -> None:
    assert len(Mailbox().pack()) == SIZE_BYTES == 20


def test_as_constructed_it_is_safe() -> None:
    safe = PlcMailbox.unpack(Mailbox().pack())

    assert not safe.authority
    assert safe.verdict == Verdict.NOT_DECIDABLE


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e300])
def test_a_score_that_is_no_real_does_not_reach_the_plc(score: float) -> None:
    assert PlcMailbox.unpack(Mailbox(score=score).pack()).score == 0.0


@given(st.integers(0, 65_535))
def test_the_heartbeat_never_says_restarted_again(heartbeat: int) -> None:
    following = next_heartbeat(heartbeat)

    assert 1 <= following <= 65_535
    assert following != heartbeat

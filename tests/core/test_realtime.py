"""Urgency of a process: what the kernel gives, what it refuses, and that both are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.core import realtime
from edge_opcua.core.realtime import HIGHEST, MOST_BUSY_S, PRIORITY

PEER = Path(__file__).with_name("realtime_peer.py")
NO_LIMITS = {"RLIMIT_RTPRIO": (0, 0), "RLIMIT_NICE": (0, 0)}

rights = pytest.mark.skipif(
    not (realtime._has_capability(14) and realtime._has_capability(23)),
    reason="takes CAP_SYS_NICE and CAP_IPC_LOCK",
)
higher_limits = pytest.mark.skipif(
    not realtime._has_capability(24), reason="takes CAP_SYS_RESOURCE, to raise limits for the test"
)


def run(**given: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PEER), json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )


def become(**given: Any) -> dict[str, Any]:
    done = run(**given)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@rights
def test_a_safety_lane_is_served_first_and_stays_in_memory() -> None:
    found = become(lane="safety")
    assert (found["scheduler"], found["policy"]) == (f"SCHED_FIFO {PRIORITY}", os.SCHED_FIFO)
    assert found["locked"]
    assert found["locked_kb"] > 10_000
    assert found["notes"] == []
    # A thread that only helps it could hold the interpreter while it waits for a processor.
    assert found["other_policy"] == found["later_policy"] == os.SCHED_FIFO
    assert found["rttime_us"] == MOST_BUSY_S * 1_000_000
    # What watches it goes before it: SCHED_FIFO has no turns, and they may have one processor only.
    assert found["risen"] == [True, PRIORITY + 1]


@rights
def test_a_safety_lane_that_is_relieved_is_like_any_other_until_it_is_needed_again() -> None:
    found = become(lane="safety", relieved=True)
    assert found["back"][:2] == [os.SCHED_OTHER, os.SCHED_OTHER]
    assert found["back"][2] >= found["locked_kb"]  # it comes back without page faults
    assert found["forward"] == [os.SCHED_FIFO, os.SCHED_FIFO]


@rights
def test_a_safety_lane_collects_garbage_only_when_it_is_told_that_nothing_waits() -> None:
    found = become(lane="safety")
    assert not found["collects"]
    assert found["frozen"] > 1_000
    assert (found["tidied"], found["tidied_again"]) == (True, False)


@rights
def test_a_real_time_thread_that_hangs_is_ended_by_the_kernel() -> None:
    assert run(lane="safety", hang=True).returncode == -signal.SIGXCPU


@rights
def test_a_real_time_lane_that_is_never_out_of_work_is_not_taken_for_one_that_hangs() -> None:
    # The kernel counts from the last sleep on; three such ends and the lane would not be started any more.
    assert run(lane="safety", saturated=True).returncode == 0


def test_without_the_rights_a_safety_lane_runs_on_and_says_which_are_missing() -> None:
    found = become(
        lane="safety", without_rights=True, limits={**NO_LIMITS, "RLIMIT_MEMLOCK": (65_536, 65_536)}
    )
    assert found["scheduler"] == "SCHED_OTHER"
    assert not found["locked"]
    text = " ".join(found["notes"])
    for word in ("CAP_SYS_NICE", f"LimitRTPRIO={HIGHEST}", "it runs as SCHED_OTHER", "CAP_IPC_LOCK"):
        assert word in text
    assert found["locked_kb"] == 0
    assert not found["collects"]  # what needs no right is done all the same


@higher_limits
def test_limits_are_enough_without_capabilities() -> None:
    found = become(
        lane="safety", without_rights=True, limits={"RLIMIT_RTPRIO": (0, 30), "RLIMIT_MEMLOCK": (-1, -1)}
    )
    assert found["scheduler"] == "SCHED_FIFO 30"
    assert found["locked"]
    assert found["notes"] == ["real-time priority 30 of 50: RLIMIT_RTPRIO permits no more"]
    assert found["risen"] == [False, 30]


@higher_limits
def test_without_real_time_scheduling_a_safety_lane_is_at_least_nicer_than_none() -> None:
    found = become(lane="safety", without_rights=True, limits={**NO_LIMITS, "RLIMIT_NICE": (40, 40)})
    assert (found["scheduler"], found["nice"]) == ("SCHED_OTHER nice -20", -20)


@higher_limits
def test_a_finite_limit_locks_what_is_there_and_never_lets_memory_run_out() -> None:
    # with MCL_FUTURE the first allocation beyond the limit would fail
    found = become(lane="safety", without_rights=True, limits={"RLIMIT_MEMLOCK": (2**31, 2**31)})
    assert found["locked"]
    assert "RLIMIT_MEMLOCK is finite" in " ".join(found["notes"])


def test_best_effort_runs_only_when_nothing_else_wants_to_with_all_its_threads() -> None:
    found = become(lane="best_effort")
    assert found["scheduler"] == "SCHED_BATCH nice 19"
    assert found["policy"] == found["other_policy"] == found["later_policy"] == os.SCHED_BATCH
    assert found["nice"] == found["other_nice"] == 19
    assert found["collects"]
    assert found["tidied"] is False  # the collector does it


def test_realtime_is_what_the_system_does_by_itself() -> None:
    found = become(lane="realtime")
    assert (found["policy"], found["nice"], found["locked"], found["notes"]) == (os.SCHED_OTHER, 0, False, [])
    assert found["risen"] == [False, 0]


def test_a_process_is_bound_to_its_processors_with_all_its_threads() -> None:
    one = min(os.sched_getaffinity(0))
    found = become(lane="realtime", cores=[one, 4_000])
    assert found["cores"] == found["cores_now"] == found["other_cores"] == [one]
    said = f"processors 4000 are not there, or not for this process; it runs on {one}"
    assert found["notes"] == [said]


def test_processors_that_are_all_missing_bind_nothing() -> None:
    found = become(lane="realtime", cores=[4_000])
    assert found["cores"] == found["cores_now"] == sorted(os.sched_getaffinity(0))

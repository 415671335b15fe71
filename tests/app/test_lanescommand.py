"""``lanes``: whoever types it sees which pipelines judge in time, how much room is left, and what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.app.command.lanetext import advice, bar, lane_table, needs_somebody
from edge_opcua.cli import main
from edge_opcua.core.control import Hub, Reply, Request
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import GOOD
from tests.app.plants import on_a_thread

LANE: dict[str, Any] = {
    "state": "Active",
    "processed": 12,
    "missed": 0,
    "late": 0,
    "p50_ms": 0.4,
    "p99_ms": 1.2,
    "p999_ms": 2.0,
    "max_ms": 21.0,
    "rejected": 2,
    "expired": 1,
    "shed": 4,
    "superseded": 0,
    "batch_mean": 3.5,
    "utilisation": 0.4,
    "schedulable": True,
    "degraded": False,
    "throttled": False,
    "scheduler": "SCHED_FIFO 50",
    "memory_locked": True,
    "rss_mb": 88.0,
    "celsius": 51.0,
}
ROW: dict[str, Any] = {
    "pipeline": "weld",
    "group": "welds",
    "lane_class": "realtime",
    "deadline_ms": 20,
    "model": {"name": "weld-ae", "version": 3},
    "last": {"source": "CPUExecutionProvider", "model_version": 3, "reason": ""},
    "lane": LANE,
}
PROCESS = {"role": "lane/welds", "pid": 4711, "restarts": 1}


def _with(row: dict[str, Any] | None = None, **lane: Any) -> dict[str, Any]:
    return {**ROW, **(row or {}), "lane": {**LANE, **lane}}


@contextmanager
def server(
    state_dir: Path, rows: Sequence[dict[str, Any]], faults: Sequence[Any] = (), *, config: str = ""
) -> Iterator[None]:
    StateDir(state_dir).create()
    body = {"machine": "Press01", "pipelines": list(rows), "processes": [PROCESS], "faults": list(faults)}
    body["config"] = config

    async def supervise(request: Request) -> Reply:
        assert request.kind == "status"
        return Reply(GOOD, "", body)

    async def serve(started: Callable[[], None], stop: asyncio.Event) -> None:
        hub = Hub(supervise)
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(hub.run()),
                tasks.create_task(hub.serve_unix(StateDir(state_dir).control_socket)),
            ]
            while not StateDir(state_dir).control_socket.exists():
                await asyncio.sleep(0.005)
            started()
            await stop.wait()
            for task in work:
                task.cancel()

    with on_a_thread(serve):
        yield


def test_a_share_is_a_bar_and_what_is_beyond_shows() -> None:
    assert bar(0.0, 4) == "░░░░"
    assert bar(0.5, 4) == "██░░"
    assert bar(1.0, 4) == "████"
    assert bar(1.7, 4) == "███▶"
    assert bar(float("nan"), 4) == "????"


def test_the_pipelines_of_a_group_stand_under_its_process() -> None:
    text = lane_table([ROW, {**ROW, "pipeline": "seam"}, {**ROW, "group": "other"}], [PROCESS])
    head, names, first, second, *rest = text.splitlines()
    assert head == (
        "welds:   ████░░░░░░ 40 % of its workers   process 4711   1 restarts   "
        "SCHED_FIFO 50, memory locked   88 MB   51 °C"
    )
    assert names.split()[:3] == ["PIPELINE", "MODEL", "LANE"]
    assert first.split()[:4] == ["weld", "weld-ae", "3", "realtime"]
    assert "█░░░░░░░░░ 6 % of 20 ms" in first
    assert "0.40 ms" in first
    assert "21 ms" in first
    assert first.rstrip().endswith("CPU")
    assert second.split()[0] == "seam"
    assert rest[0] == ""
    assert rest[1].startswith("other:")
    assert "process" not in rest[1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (_with({"lane": {}}, state=""), "no process judges"),
        (_with(schedulable=False, utilisation=1.4), "its group asks for 140 % of its workers"),
        (
            _with(schedulable=False, utilisation=0.01),
            "a run, or one that it may have to wait for, takes too long",
        ),
        (_with({"last": {"reason": "late: 30 ms"}}, state="FailSafe"), "fail-safe verdict: late: 30 ms"),
        (_with(throttled=True), "throttled by heat 51 °C"),
        (_with(degraded=True), "cheaper version"),
        (_with({"lane_class": "safety"}, scheduler="nice -20"), "nice -20, not in real time"),
        (_with(p99_ms=18.0), "90 % of its deadline is used at p99: there is little room"),
        (
            _with(p99_ms=30.8),
            "154 % of its deadline is used at p99: at least one answer in a hundred is late",
        ),
    ],
)
def test_what_somebody_has_to_know_is_said(row: dict[str, Any], said: str) -> None:
    assert said in advice(row)
    assert said in lane_table([row], [])


def test_nothing_is_said_while_all_is_well() -> None:
    assert advice(ROW) == ""
    assert advice(_with({"lane_class": "safety"})) == ""
    assert not needs_somebody(ROW)
    assert not needs_somebody(_with(p99_ms=18.0))


def test_best_effort_that_finds_no_room_needs_nobody() -> None:
    """It is promised nothing, so nothing is broken."""
    row = _with({"lane_class": "best_effort"}, schedulable=False, utilisation=1.4)
    assert (needs_somebody(row), advice(row)) == (False, "")


def test_text_from_a_plant_moves_no_cursor() -> None:
    row = _with({"last": {"reason": "\x1b[2Jgone"}}, state="FailSafe")
    assert "\x1b" not in lane_table([row], [])


def test_lanes_of_a_server_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fault = {"source": "weld", "code": "M590", "text": "too many captures"}
    with server(tmp_path, [ROW], [fault]):
        assert main(["lanes", "--state", str(tmp_path)]) == 0
        out = capsys.readouterr().out
        assert main(["lanes", "--json", "--state", str(tmp_path)]) == 0
        body = json.loads(capsys.readouterr().out)
    assert "welds:" in out
    assert "attention  weld: too many captures (M590)" in out
    assert body["schema"] == "edge-opcua.lanes/1"
    assert body["pipelines"][0]["lane"]["p99_ms"] == 1.2


def test_a_pipeline_that_will_miss_its_deadline_is_an_exit_code(tmp_path: Path) -> None:
    with server(tmp_path, [_with(schedulable=False)]):
        assert main(["lanes", "--state", str(tmp_path)]) == 1


def test_without_a_server_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    StateDir(tmp_path).create()
    assert main(["lanes", "--state", str(tmp_path)]) == 4
    assert "no server runs" in capsys.readouterr().err


def test_a_group_whose_culprit_is_sought_says_so() -> None:
    apart = [{"role": f"lane/welds/{name}", "pid": number} for number, name in enumerate(("a", "b"), 1)]
    first = lane_table([ROW], apart).splitlines()[0]
    assert "2 processes, to see whose model ends its own" in first
    assert "2 processes" not in lane_table([ROW], [PROCESS])

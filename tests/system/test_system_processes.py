"""Killing each process of the running whole: the rest goes on, it comes back, and outputs are released."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sqlite3
from collections import Counter
from itertools import dropwhile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from asyncua import Node, ua

from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict, is_good
from tests.system.plant import Plant, alive, children, signal_process

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

END_S = 1.0
SET_POINT = "sp_strokes_per_min"


async def _judged(plant: Plant, within_s: float = 40.0) -> None:
    since = plant.mark()
    await plant.until(lambda: plant.results(since, Verdict.OK), "a stroke judged OK", within_s=within_s)


async def test_the_io_process_killed_in_mid_work_comes_back(plant: Plant) -> None:
    await _judged(plant)
    pid = await plant.pid("io")
    seen = plant.client.history["die_temp"]
    seen.clear()
    signal_process(pid, signal.SIGKILL)
    await plant.until(lambda: [s for s in seen if not is_good(s.status)], "values that leave Good")
    await plant.until(lambda: is_good(plant.now("die_temp").status), "values Good again", within_s=20)
    assert await plant.pid("io") != pid
    await _judged(plant)


async def test_a_lane_killed_in_mid_work_comes_back_and_judges_every_stroke(plant: Plant) -> None:
    await _judged(plant)
    killed = await plant.pid("lane/press-anomaly")
    signal_process(killed, signal.SIGKILL)
    while await plant.pid("lane/press-anomaly") == killed:
        await plant.clock.sleep(0.05)
    since = plant.mark()  # what the old one judged at the last moment is here by now
    await plant.until(lambda: len(plant.results(since)) > 6, "strokes judged by the new lane", within_s=20)
    rows = list(dropwhile(lambda row: row["Verdict"] == Verdict.NOT_DECIDABLE, plant.results(since)))
    strokes = [int(row["Stroke"]) for row in rows]
    assert strokes == list(range(strokes[0], strokes[0] + len(strokes))), "a stroke was missed or doubled"


async def test_the_records_process_killed_comes_back_and_nobody_notices(plant: Plant) -> None:
    await _judged(plant)
    pid = await plant.pid("records")
    signal_process(pid, signal.SIGKILL)
    since = plant.mark()
    await plant.until(lambda: len(plant.results(since)) > 2, "results meanwhile")
    assert await plant.pid("records") != pid


async def test_the_opcua_process_killed_comes_back_under_the_same_address(plant: Plant) -> None:
    await _judged(plant)
    ids = {path: node.nodeid for path, node in plant.client.nodes.items()}
    pid = await plant.pid("opcua")
    signal_process(pid, signal.SIGKILL)
    await plant.reconnect()
    assert await plant.pid("opcua") != pid
    found = {path: node.nodeid for path, node in plant.client.nodes.items()}
    assert {path: found.get(path) for path in ids} == ids  # versions of models may have come meanwhile
    await _judged(plant)


async def test_a_stopped_server_releases_its_outputs_and_leaves_nothing(tmp_path: Path) -> None:
    shared_before = _shared_memory()
    async with Plant(tmp_path) as plant:
        await _authority(plant)
        family = [plant.server.pid, *children(plant.server.pid)]
        await _watch_state(plant)
        done = await plant.client.write(plant.client.find(SET_POINT), value=21.0, kind=ua.VariantType.Float)
        assert done == 0
        assert await plant.server.stop() == 0
        await _released(plant)
        # Part 5 §12.10: clients see the end before their connections close.
        assert plant.client.history["State"][-1].value == ua.ServerState.Shutdown
        audited = await asyncio.get_running_loop().run_in_executor(None, _audited, plant.state_dir)
        assert audited["session.created"]
        assert audited["session.activated"]
        # One record of a write, by the process that did it.
        assert (audited[f"write press/{SET_POINT}"], audited["value.written"]) == (1, 0)
        _nothing_left(plant, family, shared_before)
        assert not StateDir(plant.state_dir).control_socket.exists()
        assert any("outputs are released" in line for line in plant.server.lines)


async def test_a_killed_supervisor_takes_everything_with_it_within_a_second(tmp_path: Path) -> None:
    shared_before = _shared_memory()
    async with Plant(tmp_path) as plant:
        await _authority(plant)
        family = children(plant.server.pid)
        assert len(family) >= 4
        signal_process(plant.server.pid, signal.SIGKILL)
        killed_s = plant.clock.monotonic_s()
        while any(alive(pid) for pid in family):
            assert plant.clock.monotonic_s() - killed_s < END_S + 0.5, [p for p in family if alive(p)]
            await asyncio.sleep(0.01)
        await _released(plant)
        _nothing_left(plant, family, shared_before)


async def _watch_state(plant: Plant) -> None:
    client = plant.client
    node = ua.NodeId(ua.ObjectIds.Server_ServerStatus_State)
    client.nodes["State"] = Node(next(iter(client.nodes.values())).session, node)
    await client.subscribe({"State": "State"}, publish_ms=100)
    await plant.until(lambda: client.history["State"], "the state of the server")


def _audited(state_dir: Path) -> Counter[str]:
    """Return what the journal keeps of kind audit, and how often."""
    with contextlib.closing(sqlite3.connect(StateDir(state_dir).journal)) as journal:
        rows = journal.execute("SELECT body FROM records WHERE kind = 'audit'").fetchall()
    return Counter(str(json.loads(body)["what"]) for (body,) in rows)


async def _authority(plant: Plant) -> None:
    """Wait until the PLC trusts the verdicts."""
    for _ in range(200):
        if (await plant.cell.truth())["edge_trusted"]:
            return
        await plant.clock.sleep(0.05)
    raise AssertionError(f"the PLC never trusted the edge\n{plant.log_tail()}")


async def _released(plant: Plant) -> None:
    """The PLC no longer trusts the edge, and waits for an acknowledge."""
    for _ in range(40):
        truth = await plant.cell.truth()
        if not truth["edge_trusted"]:
            assert truth["ack_required"]
            return
        await plant.clock.sleep(0.05)
    raise AssertionError("the PLC still trusts an edge that is gone")


def _nothing_left(plant: Plant, family: list[int], shared_before: set[str]) -> None:
    """No process, no shared memory, no listener: the port can be had again."""
    assert not [pid for pid in family if alive(pid)]
    assert _shared_memory() <= shared_before
    port = urlsplit(plant.server.endpoint).port
    assert port is not None
    with socket.create_server(("127.0.0.1", port)):
        pass


def _shared_memory() -> set[str]:
    # Other tests may run a server of somebody else's at the same time, which has memory of its own there.
    names = {entry.name for entry in Path("/dev/shm").iterdir()}
    return {name for name in names if "triton" not in name}

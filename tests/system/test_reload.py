"""``edge-opcua reload``: a changed configuration is applied while the line runs, all of it or nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import ua

from tests.system.changeable import Line, Watched, descriptors, memory_kb, shared_kb

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

UNKNOWN = int(ua.StatusCodes.BadNodeIdUnknown)


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    async with Line(tmp_path_factory.mktemp("line")) as line:
        yield line


@pytest.fixture
async def line(running: Line) -> AsyncIterator[Line]:
    """The line with device ``a`` alone, as every test leaves it."""
    yield running
    await running.whole()
    running.write("a")
    assert (await running.asked())["exit_code"] == 0


class Events:
    """The events of a subscription."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def event_notification(self, event: Any) -> None:
        """Take one."""
        self.seen.append(event)


async def test_a_device_is_added_and_the_values_of_another_come_without_a_gap(line: Line) -> None:
    first = await line.watch("a_count")
    events = Events()
    subscription = await line.client.create_subscription(50, events)
    kind = ua.NodeId(ua.ObjectIds.GeneralModelChangeEventType)
    await subscription.subscribe_events(evtypes=line.client.get_node(kind))
    await line.counts_on(first)
    before, connections = await line.pids(), line.plcs["a"].connections
    earlier = line.plcs["b"].connections

    line.write("a", "b", b=["b_one,hr:1:UINT,fast"])
    code, body = await line.reload("--dry-run")
    assert (code, body["outcome"], body["effects"]) == (0, "would apply", [])
    assert line.plcs["b"].connections == earlier
    assert (await line.reload())[1]["outcome"] == "applied"

    assert sorted(await line.tags()) == ["a_count", "b_count", "b_one"]
    second = await line.watch("b_count")
    await line.counts_on(second)
    assert second.is_gapless()
    assert (await line.node("b_one").read_value()) == 1
    await line.counts_on(first)
    # Every poll of the first one was seen: it was never stopped, nor was its subscription.
    assert first.is_gapless()
    assert first.statuses == {0}
    assert line.plcs["a"].connections == connections
    assert await line.pids() == before
    device = line.client.get_node(ua.NodeId("Devices.b.Connection.State", line.namespace))
    assert await device.read_value() in ("RECOVERING", "ONLINE")
    # Part 3 §9.32: clients that keep what they browsed are told.
    await line.until(lambda: events.seen, "a GeneralModelChangeEvent")
    told = {str(change.Affected.Identifier): change.Verb for change in events.seen[0].Changes}
    assert told["M.Process.b_count"] == 1
    assert told["M.Process"] == 4
    assert told["Devices.b"] == 1


async def test_a_tag_that_stays_keeps_its_item_and_one_that_goes_says_so(line: Line) -> None:
    line.write("a", a=["gone,hr:2:UINT,fast", "other,hr:3:UINT,fast", "text,hr:10:STRING[4],fast"])
    await line.applied()
    stays, gone, other, text = [await line.watch(name) for name in ("a_count", "gone", "other", "text")]
    await line.until(lambda: gone.last == (2, 0) and other.last == (3, 0) and text.values, "first values")
    several = [line.node(name) for name in ("a_count", "gone", "other")]
    for _ in range(3):  # what comes again is kept by the server
        assert (await line.client.read_values(several))[1:] == [2, 3]

    line.write("a", a=["new,hr:4:UINT,fast", "other,hr:3:INT,fast"])
    body = await line.applied()
    assert "~ device a: tags removed: gone, text; tags added: new; tags changed: other" in body["changes"]
    assert body["effects"] == ["reconnects: a"]

    await line.counts_on(stays)
    assert UNKNOWN not in stays.statuses
    assert len(set(stays.values)) > 10
    await line.until(lambda: gone.last == (None, UNKNOWN), "BadNodeIdUnknown of a tag that went")
    await line.until(lambda: text.last == (None, UNKNOWN), "BadNodeIdUnknown of a text that went")
    # Another type is another node: the old one is gone, the new one is there.
    await line.until(lambda: (None, UNKNOWN) in other.values, "BadNodeIdUnknown of a type that went")
    await line.until(lambda: other.last == (3, 0), "the new one of the same NodeId")
    values = await line.client.uaclient.read(_whole(several))
    assert [int(value.StatusCode.value) for value in values] == [0, UNKNOWN, 0]
    assert values[2].Value.VariantType == ua.VariantType.Int16
    assert sorted(await line.tags()) == ["a_count", "new", "other"]
    assert await line.node("new").read_value() == 4

    # What comes back is found again by those who waited for it.
    line.write("a", a=["gone,hr:2:UINT,fast"])
    await line.applied()
    await line.until(lambda: gone.last == (2, 0), "a tag that came back")


def _whole(nodes: list[Any]) -> ua.ReadParameters:
    params = ua.ReadParameters()
    params.NodesToRead = [ua.ReadValueId(node.nodeid, ua.AttributeIds.Value) for node in nodes]
    return params


async def test_what_only_clients_see_of_a_tag_changes_without_a_new_connection(line: Line) -> None:
    watched = await line.watch("a_count")
    await line.counts_on(watched)
    connections = line.plcs["a"].connections
    (line.home / "a.csv").write_text(
        "name,address,group,description\na_count,hr:0:UINT,fast,how often it was read\n"
    )
    body = await line.applied()
    assert body["effects"] == []
    assert (await line.node("a_count").read_description()).Text == "how often it was read"
    await line.counts_on(watched)
    assert watched.is_gapless()
    assert line.plcs["a"].connections == connections


async def test_a_wrong_file_is_refused_whole_and_the_line_runs_on(line: Line) -> None:
    watched = await line.watch("a_count")
    await line.counts_on(watched)
    connections = line.plcs["b"].connections
    line.write("a", "b", tail="\nx = \n")
    code, body = await line.reload()
    assert (code, body["outcome"]) == (2, "wrong")
    assert "error[C101]" in body["problems"]

    line.write("a", "b")
    text = line.file.read_text()
    line.file.write_text(text.replace("publish_ms = 20", "publish_ms = 40"))
    code, body = await line.reload()
    assert (code, body["outcome"], body["code"]) == (3, "refused", "D387")
    assert body["notes"] == ["opcua.publish_ms: it is read once, at the start"]

    # The same address under another name: clients know it by the one it has (C191), as at the start.
    line.write("a")
    (line.home / "a.csv").write_text("name,address,group\nrenamed,hr:0:UINT,fast\n")
    code, body = await line.reload()
    assert (code, body["outcome"], body["code"]) == (2, "refused", "C191")
    assert "M.Process.a_count -> M.Process.renamed" in body["reason"]

    assert await line.tags() == ["a_count"]
    await line.counts_on(watched)
    assert watched.is_gapless()
    assert line.plcs["b"].connections == connections


async def test_a_reload_that_a_process_cannot_take_over_is_undone(line: Line) -> None:
    watched = await line.watch("a_count")
    await line.counts_on(watched)
    pids = await line.pids()
    line.write("a", "c")
    # Only the OPC UA server, the last to be asked, knows that this node is there already.
    (line.home / "c.csv").write_text(
        "name,address,group,node_id\nc_count,hr:0:UINT,fast,\ntaken,hr:1:UINT,fast,M.Monitoring\n"
    )
    code, body = await line.reload()
    assert (code, body["outcome"], body["code"]) == (1, "rolled back", "D386")
    assert "M.Monitoring" in body["reason"]
    assert await line.tags() == ["a_count"]
    read = line.plcs["c"].reads
    await line.counts_on(watched)
    assert watched.is_gapless()
    assert line.plcs["c"].reads == read
    assert await line.pids() == pids
    # Nothing of it is left: the next one is applied.
    line.write("a", "c")
    await line.applied()
    assert sorted(await line.tags()) == ["a_count", "c_count"]


async def test_nobody_begins_what_a_process_that_does_not_answer_cannot_do(line: Line) -> None:
    watched = await line.watch("a_count")
    await line.counts_on(watched)
    records = (await line.pids())["records"]
    connections = line.plcs["b"].connections
    line.write("a", "b")
    os.kill(records, signal.SIGSTOP)
    code, body = await line.reload()
    os.kill(records, signal.SIGCONT)
    assert (code, body["outcome"], body["code"]) == (1, "rolled back", "D386")
    assert "records does not answer" in body["reason"]
    assert line.plcs["b"].connections == connections
    await line.counts_on(watched)
    assert watched.is_gapless()


async def test_a_killed_process_comes_back_with_what_was_applied(line: Line) -> None:
    line.write("a", "b")
    await line.applied()
    watched = await line.watch("b_count")
    await line.counts_on(watched)
    killed, connections = (await line.pids())["io"], line.plcs["b"].connections
    os.kill(killed, signal.SIGKILL)
    await line.until(lambda: line.plcs["b"].connections > connections, "a connection to the added device")
    await line.counts_on(watched, values=30)
    assert (await line.pids())["io"] != killed
    assert [link["device"] for link in (await line.status())["links"]] == ["a", "b"]


async def test_a_hang_up_reads_the_configuration_again(line: Line) -> None:
    line.write("a", "b")
    line.server.lines.clear()
    os.kill(line.server.pid, signal.SIGHUP)
    await line.until(lambda: any("reload: applied" in said for said in line.server.lines), "the reload")
    assert sorted(await line.tags()) == ["a_count", "b_count"]


async def test_twenty_reloads_leave_nothing_behind(line: Line) -> None:
    watched = await line.watch("a_count")

    async def change(number: int) -> None:
        text = f"t{number},hr:{200 + 10 * number}:STRING[8],fast"
        line.write("a", "b", b=[f"n{number},hr:{number}:UINT,fast", text])
        await line.applied()

    for number in range(1, 4):  # what is made once and kept
        await change(number)
    pids = await line.pids()
    processes = {role: pid for role, pid in pids.items() if pid}
    before = {role: (descriptors(pid), memory_kb(pid), shared_kb(pid)) for role, pid in processes.items()}
    for number in range(10, 30):
        await change(number)
    assert await line.pids() == pids
    for role, pid in processes.items():
        fds, own, shared = before[role]
        assert descriptors(pid) <= fds + 1, role
        assert memory_kb(pid) < own + 4000, role
        assert shared_kb(pid) < shared + 500, role
    await line.counts_on(watched)
    assert watched.is_gapless()


def test_the_kept_values_are_looked_at_as_they_came() -> None:
    told = Watched([(1, 0), (2, 0), (4, 0)])
    assert not told.is_gapless()

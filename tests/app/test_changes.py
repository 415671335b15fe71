"""How a change comes to a process that runs: taken over, undone, settled, or refused."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_opcua.app.changes import Change, Changes, send_descriptors
from edge_opcua.app.processes import config_memfd
from edge_opcua.config.handover import packed
from edge_opcua.config.schema import DeviceConfig, EdgeConfig, SiteConfig
from edge_opcua.config.tags import TagConfig, TagRows
from edge_opcua.core.bus import Bus
from edge_opcua.core.control import Peer, Reply, Request
from edge_opcua.core.process import Child
from edge_opcua.core.segment import Segment
from edge_opcua.core.values import BlockSpec, Scalar, TagSpec, is_good
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ConfigError
from edge_opcua.testing import ManualClock


def config(*names: str) -> EdgeConfig:
    devices = tuple(
        DeviceConfig(
            name=name,
            driver="modbus",
            url="modbus://10.0.0.1/1",
            tags=TagRows.of([TagConfig("t", "hr:0", Scalar.UINT16)]),
        )
        for name in names
    )
    return EdgeConfig(version=1, site=SiteConfig(name="p", machine="M"), devices=devices)


def blocks(*names: str) -> list[BlockSpec]:
    return [BlockSpec(name, (TagSpec("n", Scalar.UINT64),), depth=4, wakes=1) for name in names]


async def descriptors() -> int:
    files = Worker("test.files")
    found = await files.call(lambda: len(list(Path("/proc/self/fd").iterdir())), timeout_s=5.0)
    files.close()
    return found


@dataclass
class Scene:
    """A supervisor's bus, a child's, and what the child was told to do."""

    ours: Bus
    child: Child
    changes: Changes
    sends: socket.socket
    applied: list[Change] = field(default_factory=list)
    fault: Exception | None = None

    async def send(self, *names: str) -> Segment:
        """Send what a change to these devices needs, ahead of the request."""
        segment = self.ours.extend(blocks(*names))
        files = Worker("test.files")
        fd = await files.call(config_memfd, packed(config(*names)), timeout_s=5.0)
        files.close()
        send_descriptors(self.sends, segment.number, (fd, *segment.fds))
        os.close(fd)
        return segment

    async def ask(self, kind: str, number: int = 0) -> Reply:
        return await self.changes.handle(Request("io", kind, {"number": number}))


@contextmanager
def scene() -> Iterator[Scene]:
    ours = Bus.create(blocks("a"))
    theirs = Bus.attach(*map(os.dup, ours.fds))
    sends, takes = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control, other = socket.socketpair()
    takes.setblocking(False)
    peer = Peer(control, _nobody, "supervisor")
    child = Child("io", theirs, memoryview(b""), peer, ManualClock(), Path(), descriptors=takes)

    async def apply(change: Change) -> None:
        made.applied.append(change)
        if made.fault is not None and len(made.applied) == 1:
            raise made.fault

    made = Scene(ours, child, Changes(child, config("a"), apply), sends)
    try:
        yield made
    finally:
        for each in (ours, sends, takes, control, other):
            each.close()
        for segment in theirs.segments:
            os.close(segment.fd)


async def _nobody(request: Request) -> Reply:
    raise AssertionError(request)


async def test_a_change_is_taken_over_and_settled() -> None:
    with scene() as made:
        segment = await made.send("a", "b")
        assert is_good((await made.ask("change", segment.number)).status)
        (change,) = made.applied
        assert [device.name for device in change.new.devices] == ["a", "b"]
        assert change.new.devices[1].tags[0].name == "t"
        assert (change.has_moved("a"), change.has_moved("b")) == (False, True)
        made.ours.switch(segment)
        made.ours.writer("b").publish()
        assert made.child.bus.reader("b").newest == 1
        assert os.eventfd_read(made.child.bus.wake_fds("b")[0]) == 1
        assert is_good((await made.ask("settle")).status)
        assert len(made.child.bus.segments) == 2


async def test_the_way_back_is_the_same_with_both_exchanged() -> None:
    with scene() as made:
        segment = await made.send("b")
        await made.ask("change", segment.number)
        assert set(made.child.bus.blocks) == {"b"}
        assert is_good((await made.ask("revert")).status)
        there, back = made.applied
        assert (back.old, back.new) == (there.new, there.old)
        assert set(made.child.bus.blocks) == {"a"}
        assert len(made.child.bus.segments) == 1
        assert is_good((await made.ask("revert")).status)  # there is nothing to go back from
        assert len(made.applied) == 2
        again = await made.send("a", "b")
        assert again.number > segment.number
        assert is_good((await made.ask("change", again.number)).status)


@pytest.mark.parametrize("fault", [ConfigError("no such line"), KeyError("unforeseen")])
async def test_what_goes_wrong_is_answered_and_can_be_undone(fault: Exception) -> None:
    with scene() as made:
        made.fault = fault
        segment = await made.send("b")
        with capture_logs() as logs:
            reply = await made.ask("change", segment.number)
        assert not is_good(reply.status)
        assert str(fault) in reply.reason
        assert [log["event"] for log in logs] == ["change.failed"]
        assert is_good((await made.ask("revert")).status)
        assert set(made.child.bus.blocks) == {"a"}


async def test_a_second_change_before_the_first_is_settled_is_refused() -> None:
    with scene() as made:
        await made.ask("change", (await made.send("b")).number)
        second = await made.send("c")
        assert not is_good((await made.ask("change", second.number)).status)
        assert len(made.applied) == 1


async def test_what_nobody_took_is_closed_and_a_request_without_descriptors_is_refused() -> None:
    with scene() as made:
        before = await descriptors()
        (await made.send("b")).close()
        (await made.send("c")).close()
        last = await made.send("a", "d")
        assert is_good((await made.ask("change", last.number)).status)
        # What is left: our segment with its eventfds, the child's, and the map each holds of it.
        assert await descriptors() <= before + 2 * (len(last.fds) + 1)
        await made.ask("settle")
        assert not is_good((await made.ask("change", last.number + 1)).status)


async def test_a_process_that_takes_no_descriptors_says_so() -> None:
    with scene() as made:
        made.child.descriptors = None
        reply = await made.ask("change", 1)
        assert not is_good(reply.status)
        assert "takes no descriptors" in reply.reason

"""Whatever happens to link and callers: nothing is sent twice, nothing is sent too late (plc.md §6.5)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import (
    BAD_NO_COMMUNICATION,
    BAD_OPERATION_ABANDONED,
    BAD_TIMEOUT,
    BAD_TOO_MANY_OPERATIONS,
)
from edge_opcua.drivers.planner import Place
from edge_opcua.drivers.setpoint import prepare
from edge_opcua.drivers.writes import TagWrite, Writes
from edge_opcua.drivers.writeterms import WriteKind, WriteTerms
from edge_opcua.errors import DeviceError, DeviceRefusedError, DeviceTimeoutError
from edge_opcua.testing import ManualClock
from tests.drivers.scripted import ScriptedWire, scripted

TAGS = ("a", "b", "c")
NOT_SENT = (BAD_NO_COMMUNICATION, BAD_OPERATION_ABANDONED, BAD_TOO_MANY_OPERATIONS)
ANSWERS = ("good", "good", "refused", "lost", "again", "broken", "read lost", "hang", "hang")
LONGEST_S = 3.0


@dataclass(eq=False)
class Op:
    """One write that somebody wants; its value is nobody else's."""

    number: int
    kind: WriteKind
    tag: str
    task: asyncio.Task[WriteOutcome] | None = None
    sent: int = 0
    gone: bool = False

    @property
    def ended(self) -> bool:
        return self.task is not None and self.task.done()

    @property
    def waits(self) -> bool:
        return not self.ended and not self.gone and not self.sent

    @property
    def status(self) -> int:
        assert self.task is not None
        return self.task.result().status

    @property
    def lane(self) -> int:
        urgent = (WriteKind.HEARTBEAT, WriteKind.INTERFACE)
        return 0 if self.kind in urgent else 2 if self.kind is WriteKind.SETPOINT else 1


class FickleWire(ScriptedWire):
    """Answers as it is told, or not at all until it is told."""

    def __init__(self, machine: Links) -> None:
        super().__init__()
        self.machine = machine
        self.answers: list[str] = []
        self.hanging: asyncio.Future[str] | None = None

    async def write(self, place: Place, encoded: bytes) -> None:
        await self.take(struct.unpack(">h", encoded)[0])

    async def write_bytes(self, area: str, offset: int, payload: bytes) -> None:
        await self.take(struct.unpack(">h", payload)[0])

    async def take(self, number: int) -> None:
        self.machine.begins(number)
        answer = self.answers.pop(0) if self.answers else "good"
        if answer == "hang":
            self.hanging = asyncio.get_running_loop().create_future()
            answer = await self.hanging
            self.hanging = None
        if answer == "refused":
            raise DeviceRefusedError("no", status=0x808B0000)
        if answer in ("lost", "again"):
            raise DeviceTimeoutError("silence", again=answer == "again")
        if answer == "broken":
            raise DeviceError("cut")
        if answer == "read lost":
            self.lose = 1


@dataclass
class Followed:
    """Who is told of writes."""

    doubted: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)

    def refusal(self, place: Place) -> WriteOutcome | None:
        return None

    def written(self, write: TagWrite, outcome: WriteOutcome) -> None:
        pass

    def in_doubt(self, write: TagWrite, old: Any, *, taken: bool) -> None:
        self.doubted.append(write.new)

    def known_late(self, write: TagWrite, old: Any, outcome: WriteOutcome) -> None:
        self.late.append(write.new)


class Links(RuleBasedStateMachine):
    """One link with its callers, its losses and its recoveries."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.ops: list[Op] = []
        self.numbers = itertools.count(1)
        self.serving: asyncio.Task[None] | None = None
        self.order: list[Op] = []

    def do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    @initialize(most=st.integers(1, 4))
    def connect(self, most: int) -> None:
        tags = {tag: f"1/hr:{i}:INT" for i, tag in enumerate(TAGS)}
        making = scripted(tags, extra={tag: {"access": "rw"} for tag in TAGS})
        _, self.bench = self.do(making.__aenter__())
        self.clock = ManualClock()
        self.wire = FickleWire(self)
        self.followed = Followed()
        device = self.bench.device
        self.setpoints = device._writing.setpoints
        self.writes = Writes(self.wire, device._link, self.clock, self.followed, most)

    # What callers do.

    @rule(
        wanted=st.lists(st.tuples(st.sampled_from(WriteKind), st.sampled_from(TAGS)), min_size=1, max_size=5),
        timeout_s=st.sampled_from((0.5, LONGEST_S)),
        interval_s=st.sampled_from((0.0, 0.0, 1.0)),
        answers=st.none() | st.lists(st.sampled_from(ANSWERS), max_size=4),
    )
    def send(
        self,
        wanted: list[tuple[WriteKind, str]],
        timeout_s: float,
        interval_s: float,
        answers: list[str] | None,
    ) -> None:
        for kind, tag in wanted:
            op = Op(next(self.numbers), kind, tag)
            older = [each for each in self.ops if each.waits and (each.kind, each.tag) == (kind, tag)]
            self.ops.append(op)
            op.task = self.loop.create_task(self._send(op, timeout_s, interval_s))
            self.do(self.settle())
            if kind.latest_wins:
                assert all(each.status == BAD_OPERATION_ABANDONED for each in older)
        if answers is not None and self.serving is None:
            self.serve(answers, heard=True)

    async def _send(self, op: Op, timeout_s: float, interval_s: float) -> WriteOutcome:
        if op.kind is WriteKind.INTERFACE:
            return await self.writes.send_bytes("hr", 9, struct.pack(">h", op.number), timeout_s=timeout_s)
        setpoint = self.setpoints[op.tag]
        terms = WriteTerms(kind=op.kind, min_interval_s=interval_s)
        write = TagWrite(setpoint, prepare(setpoint, op.number), terms)
        return await self.writes.send_tag(write, timeout_s=timeout_s)

    @precondition(lambda self: any(op.waits for op in self.ops))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        op = data.draw(st.sampled_from([op for op in self.ops if not op.ended]))
        op.gone = True
        assert op.task is not None
        op.task.cancel()
        self.do(self.settle())

    @rule(delay_s=st.sampled_from((0.2, 0.2, 1.0, LONGEST_S)))
    def wait(self, delay_s: float) -> None:
        self.do(self.clock.advance(delay_s))
        self.do(self.settle())

    # What the link does.

    @precondition(lambda self: self.serving is None)
    @rule(answers=st.lists(st.sampled_from(ANSWERS), max_size=4), heard=st.sampled_from((True, True, False)))
    def serve(self, answers: list[str], *, heard: bool) -> None:
        self.wire.answers = answers
        self.writes.held = self.writes.held and not heard
        self.serving = self.loop.create_task(self.writes.serve())
        self.do(self.settle())
        self._look()

    @precondition(lambda self: self.serving is not None)
    @rule(
        answer=st.sampled_from(("good", "refused", "lost", "broken")),
        after_s=st.sampled_from((0.0, 1.0, LONGEST_S)),
    )
    def go_on(self, answer: str, after_s: float) -> None:
        if after_s:
            self.wait(after_s)
        assert self.wire.hanging is not None
        self.wire.hanging.set_result(answer)
        self.do(self.settle())
        self._look()

    def _look(self) -> None:
        """Do what the poller does when writing has ended: a fault of the link costs the connection."""
        if self.serving is None or not self.serving.done():
            return
        error, self.serving = self.serving.exception(), None
        if error is not None:
            if not isinstance(error, DeviceError):
                raise error
            self._break()

    @precondition(lambda self: self.serving is None and any(op.waits for op in self.ops))
    @rule()
    def lose(self) -> None:
        self._break()

    def _break(self) -> None:
        waiting = [op for op in self.ops if op.waits]
        self.writes.outbox.refuse_all(WriteOutcome(BAD_NO_COMMUNICATION, "the link broke"))
        self.do(self.settle())
        assert all(op.status == BAD_NO_COMMUNICATION for op in waiting)
        self.writes.held = True  # until something was read over the next connection

    # What must hold.

    def begins(self, number: int) -> None:
        """Judge that a write goes out now."""
        (op,) = [op for op in self.ops if op.number == number]
        op.sent += 1
        assert op.sent == 1, "sent twice"
        assert not op.gone, "nobody wants it any more"
        assert not op.ended, "its caller was told that it is not sent"
        assert not self.writes.held, "the device was not heard since it fell silent"
        waiting = [each for each in self.ops if each.waits]
        if op.kind.latest_wins:
            rivals = [each for each in waiting if (each.kind, each.tag) == (op.kind, op.tag)]
            assert not rivals, "there is a newer value"
        else:
            older = [each for each in waiting if each.lane == op.lane and not each.kind.latest_wins]
            assert all(each.number > number for each in older), "out of order"
        assert not [each for each in waiting if each.lane < op.lane], "something more urgent waits"
        self.order.append(op)

    @invariant()
    def what_was_not_sent_is_told_so_and_what_was_sent_is_not(self) -> None:
        for op in self.ops:
            if not op.ended or op.gone or op.task is None or op.task.cancelled():
                continue
            if op.status in NOT_SENT:
                assert not op.sent
            else:
                assert op.sent, (op.kind, op.task.result())

    @invariant()
    def every_write_nobody_knows_of_is_remembered(self) -> None:
        if self.serving is not None:
            return
        known = set(self.followed.doubted) | set(self.followed.late)
        silent = (WriteKind.HEARTBEAT, WriteKind.INTERFACE)
        for op in self.ops:
            if op.sent and op.ended and not op.gone and op.kind not in silent:
                assert (op.status == BAD_TIMEOUT) == (op.number in known)
        assert len(self.followed.doubted) == len(set(self.followed.doubted))

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            self.loop.close()
            return
        self.do(self.clock.advance(LONGEST_S))
        self.do(self.settle())
        forgotten = [op for op in self.ops if not op.ended]
        if self.serving is not None:
            self.serving.cancel()
            with contextlib.suppress(asyncio.CancelledError, DeviceError):
                self.do(asyncio.wait_for(self.serving, 1))
        self.loop.close()
        self.bench.bus.close()
        assert forgotten == [], "somebody waits for ever"


Links.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestLinks = Links.TestCase

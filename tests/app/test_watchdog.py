"""Who is frozen is killed; who is only slow, or was suspended together with everybody else, is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from edge_opcua.app.processes import ChildProcess
from edge_opcua.app.watchdog import MOST_MISSED, MOST_MISSED_AT_START, until_ended
from edge_opcua.core.control import Hub, Reply
from edge_opcua.core.values import BAD_TIMEOUT
from edge_opcua.testing import ManualClock

ANSWER, SILENCE = Reply(), Reply(BAD_TIMEOUT, "")
STARTING = Reply(body={"starting": True})


class Process:
    """A process that ends when it is killed."""

    role, pid = "io", 4711

    def __init__(self) -> None:
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await self.ended

    def kill(self) -> None:
        self.ended.set_result(-9)


class Line:
    """A hub on which the process answers as the test says; then it ends by itself."""

    def __init__(self, process: Process, replies: Sequence[Reply], *, talks: bool = False) -> None:
        self._process = process
        self._replies = list(replies)
        self._talks = talks
        self.pings = 0

    def heard(self, role: str) -> int:
        return self.pings if self._talks else 0

    async def request(self, to: str, kind: str, body: object, *, timeout_s: float) -> Reply:
        if self.pings == len(self._replies):
            self._process.ended.set_result(0)
            await asyncio.sleep(3600)
        self.pings += 1
        return self._replies[self.pings - 1]


class Eager(ManualClock):
    """A clock on which every pause is over at once."""

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(0)


async def watched(replies: Sequence[Reply], *, talks: bool = False) -> tuple[int, int]:
    """Return the exit code, and how many pings it took."""
    process = Process()
    line = Line(process, replies, talks=talks)
    return await until_ended(cast("ChildProcess", process), cast("Hub", line), Eager()), line.pings


async def test_a_process_that_stops_answering_is_killed() -> None:
    assert await watched([ANSWER, *[SILENCE] * 20]) == (-9, 1 + MOST_MISSED)


async def test_a_process_that_answers_in_time_again_is_left_alone() -> None:
    almost = [SILENCE] * (MOST_MISSED - 1)
    assert await watched([ANSWER, *almost, ANSWER, *almost, ANSWER]) == (0, 3 + 2 * len(almost))


async def test_a_process_too_busy_for_pings_lives_as_long_as_it_says_anything() -> None:
    assert await watched([ANSWER, *[SILENCE] * 20], talks=True) == (0, 21)


async def test_who_says_that_it_is_still_starting_may_take_its_time() -> None:
    long = [SILENCE] * (MOST_MISSED_AT_START - 1)
    assert await watched([STARTING, *long, STARTING, *long, ANSWER]) == (0, 3 + 2 * len(long))
    assert await watched([STARTING, *long, ANSWER, *[SILENCE] * 20]) == (-9, 2 + len(long) + MOST_MISSED)


async def test_a_start_may_take_its_time_but_not_for_ever() -> None:
    assert await watched([*[SILENCE] * (MOST_MISSED_AT_START - 1), ANSWER]) == (0, MOST_MISSED_AT_START)
    assert await watched([SILENCE] * 40) == (-9, MOST_MISSED_AT_START)

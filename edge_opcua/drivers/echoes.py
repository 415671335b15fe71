"""Commands that a PLC confirms: it repeats the number of what it has done in a tag of its own, the echo."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import BAD_INVALID_STATE, BAD_TIMEOUT, GOOD
from edge_opcua.drivers.schedule import Polled
from edge_opcua.drivers.setpoint import Setpoint, held
from edge_opcua.drivers.writeterms import is_same


@dataclass(eq=False, slots=True)
class _Wait:
    echo: Setpoint
    value: Any
    seen: Hashable
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Echoes:
    """The echoes of one device.

    Args:
        of: The echo of each command that has one, by name of the command's tag.
        clock: Clock for deadlines.
    """

    def __init__(self, of: Mapping[str, Setpoint], clock: Clock) -> None:
        self._of = of
        self._clock = clock
        self._waits: list[_Wait] = []

    def refusal(self, tag: str, value: Any) -> WriteOutcome | None:
        """Return why a command cannot be told from the last one; None: it can."""
        echo = self._of.get(tag)
        if echo is None or not is_same(held(echo), value):
            return None
        reason = (
            f"not sent: {echo.tag.name} shows {value} already, so that nobody could tell whether it was done"
        )
        return WriteOutcome(BAD_INVALID_STATE, reason)

    async def confirm(self, tag: str, value: Any, timeout_s: float) -> WriteOutcome:
        """Wait until the PLC says that it has done a command.

        Args:
            tag: The command's tag.
            value: What was written, as readers see it.
            timeout_s: Longest wait, seconds.
        """
        echo = self._of.get(tag)
        if echo is None:
            return WriteOutcome(GOOD)
        wait = _Wait(echo, value, _mark(echo))
        self._waits.append(wait)
        try:
            if await self._clock.wait(wait.done, max(0.0, timeout_s)):
                return WriteOutcome(GOOD)
        finally:
            self._waits.remove(wait)
        reason = f"the device took the command, but {echo.tag.name} does not show it; it may still do it"
        return WriteOutcome(BAD_TIMEOUT, reason)

    def look(self, polled: Polled) -> None:
        """Look at the echoes that were read just now."""
        for wait in self._waits:
            is_new = wait.echo.group is polled and _mark(wait.echo) != wait.seen
            if is_new and is_same(held(wait.echo), wait.value):
                wait.done.set()


def _mark(echo: Setpoint) -> int:
    return int(echo.group.writer.batch.server_ns[echo.index])

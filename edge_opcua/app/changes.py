"""How a change of the configuration comes to the processes that run: memory by descriptor, then three steps.

``change`` takes it over, ``revert`` goes back, ``settle`` lets go of what was before. Descriptors of the new
configuration and of the new segment of the bus come over a socket of their own, ahead of the request: what
the supervisor made has no name by which somebody else could open it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from edge_opcua.app.impact import Impact, impact
from edge_opcua.config.handover import unpacked
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.control import Reply, Request
from edge_opcua.core.process import Child, mapped
from edge_opcua.core.segment import Segment
from edge_opcua.core.values import BAD_INTERNAL_ERROR, BAD_INVALID_STATE
from edge_opcua.errors import BusError, ConfigError

_NUMBER_BYTES: Final = 32
_MOST_DESCRIPTORS: Final = 250  # of one message (SCM_MAX_FD in the kernel is 253)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """A change that a process takes over; the bus holds the new blocks already.

    Args:
        old: The configuration that ran.
        new: The one that shall run.
        before: Where each block of the bus lay.
        after: Where each block lies.
    """

    old: EdgeConfig
    new: EdgeConfig
    before: Mapping[str, int]
    after: Mapping[str, int]

    @property
    def impact(self) -> Impact:
        """What stops and what starts."""
        return impact(self.old, self.new, self.before, self.after)

    def has_moved(self, block: str) -> bool:
        """Whether a block came, went, or is another one of the same name."""
        return self.before.get(block) != self.after.get(block)


Apply = Callable[[Change], Awaitable[None]]


class Changes:
    """Takes changes over in one child process.

    Args:
        child: The process.
        config: The configuration that it runs.
        apply: Does what has to be done in this process; for the way back it is called with both exchanged.
    """

    def __init__(self, child: Child, config: EdgeConfig, apply: Apply) -> None:
        self._child = child
        self._config = config
        self._apply = apply
        self._former: tuple[EdgeConfig, Segment] | None = None

    async def handle(self, request: Request) -> Reply:
        """Answer ``change``, ``revert`` and ``settle``."""
        if request.kind == "change":
            return await self._change(int(request.body["number"]))
        if request.kind == "revert":
            return await self._revert()
        self._former = None
        self._child.bus.retire()
        gc.collect()  # what was let go of holds descriptors and memory as long as it refers to itself
        return Reply()

    async def _change(self, number: int) -> Reply:
        bus = self._child.bus
        if self._former is not None:
            return Reply(BAD_INVALID_STATE, "the change before this one is not settled")
        try:
            fds = _receive(self._child.descriptors, number)
            config_fd, *segment_fds = fds
            try:
                config = unpacked(mapped(config_fd))
            finally:
                os.close(config_fd)
            segment = Segment(segment_fds[0], wake_fds=segment_fds[1:])
            bus.take(segment)
        except (OSError, BusError, ValueError) as exc:
            return Reply(BAD_INTERNAL_ERROR, f"the new configuration did not arrive: {exc}")
        self._former = (self._config, bus.front)
        return await self._go(config, segment)

    async def _revert(self) -> Reply:
        if self._former is None:
            return Reply()
        config, segment = self._former
        reply = await self._go(config, segment)
        self._former = None
        self._child.bus.retire()
        return reply

    async def _go(self, config: EdgeConfig, segment: Segment) -> Reply:
        bus = self._child.bus
        old, before = self._config, bus.homes
        bus.switch(segment)
        self._config = config
        try:
            await self._apply(Change(old, config, before, bus.homes))
        except Exception as exc:  # noqa: BLE001 - boundary: whatever it is, the supervisor leads all of us back
            _log.error("change.failed", role=self._child.role, error=repr(exc), exc_info=exc)
            code = f"error[{exc.code}] " if isinstance(exc, ConfigError) else ""
            return Reply(BAD_INTERNAL_ERROR, f"{self._child.role}: {code}{str(exc) or type(exc).__name__}")
        return Reply()


def _receive(sock: socket.socket | None, number: int) -> list[int]:
    """Return the descriptors of a change; those of earlier ones, that nobody took, are closed."""
    if sock is None:
        raise BusError("this process takes no descriptors")
    while True:
        text, fds, _, _ = socket.recv_fds(sock, _NUMBER_BYTES, _MOST_DESCRIPTORS)
        for fd in fds:
            os.set_inheritable(fd, False)  # noqa: FBT003 - its only argument
        if text == str(number).encode() and len(fds) > 1:
            return list(fds)
        for fd in fds:
            os.close(fd)
        if not text:
            raise BusError("the supervisor is gone")


def send_descriptors(sock: socket.socket, number: int, fds: tuple[int, ...]) -> None:
    """Send the descriptors of a change ahead of the request for it.

    Args:
        sock: The supervisor's end.
        number: Number of the change.
        fds: The configuration, the new segment, its eventfds.

    Raises:
        OSError: The other end is gone, or takes nothing.
    """
    with contextlib.suppress(BlockingIOError):  # then the request finds nothing, and says so
        socket.send_fds(sock, [str(number).encode()], list(fds))

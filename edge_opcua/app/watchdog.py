"""Ends a process that lives but answers nothing: frozen is as bad as dead, and nobody else notices."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from edge_opcua.app.processes import ChildProcess
from edge_opcua.core.clock import Clock
from edge_opcua.core.control import Hub
from edge_opcua.core.process import PING
from edge_opcua.core.values import is_good

PING_S: Final = 2.0
PAUSE_S: Final = 0.5
MOST_MISSED: Final = 3  # in a row, some 7 s; a machine that was suspended as a whole costs one
# Until it says that it has started, some 30 s: a slow disk may take its time with the imports, and a small
# machine with the tags of a large plant.
MOST_MISSED_AT_START: Final = 12

_log = structlog.get_logger(__name__)


async def until_ended(child: ChildProcess, hub: Hub, clock: Clock) -> int:
    """Return the exit code of a child once it has ended, by itself or because it was frozen and is killed."""
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_kill_if_frozen(child, hub, clock), name=f"watch.{child.role}")
        code = await child.wait()
        watch.cancel()
    return code


async def _kill_if_frozen(child: ChildProcess, hub: Hub, clock: Clock) -> None:
    missed, most = 0, MOST_MISSED_AT_START
    while missed < most:
        heard = hub.heard(child.role)
        reply = await hub.request(child.role, PING, {}, timeout_s=PING_S)
        if is_good(reply.status):
            most = MOST_MISSED_AT_START if reply.body.get("starting") else MOST_MISSED
        # Whatever it says proves that it lives: a ping may have to wait behind many slow requests.
        missed = 0 if is_good(reply.status) or hub.heard(child.role) != heard else missed + 1
        await clock.sleep(PAUSE_S)
    _log.error("process.frozen", role=child.role, pid=child.pid, pings_missed=missed)
    child.kill()

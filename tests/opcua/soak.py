"""Clients that come and go, subscriptions that are made and deleted: nothing of them may stay behind.

``python -m tests.opcua.soak [--connects N] [--subscriptions N]`` starts a server in a process of its own and
prints what it had open before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncua import ua

from tests.opcua.secure_peers import GOOD
from tests.opcua.victim import Victim, running_victim

# Every fifth client is a secure one: signing and encrypting is what takes the time.
SECURE_SHARE: Final = 5
# Code paths, caches and the allocator's arenas get their size from the first cycles.
WARM_UP: Final = 40
# Python's allocator gives arenas of 1 MiB back only when all of one is free; a leak of one session per cycle
# (about 20 KB) is 20 MiB in a thousand cycles.
MEMORY_SLACK_BYTES: Final = 8 * 1024 * 1024
# Less than one object in two cycles: caches of asyncua's codec fill up by a few.
OBJECTS_PER_CYCLE: Final = 0.5
OBJECTS_SLACK: Final = 200
# How long the end of the last cycle may take.
CALM_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Growth:
    """What a server had open before and after.

    Args:
        cycles: How many there were in between.
        before: See ``victim._facts``.
        after: The same.
    """

    cycles: int
    before: dict[str, Any]
    after: dict[str, Any]

    def of(self, what: str) -> int:
        """Return by how much something grew."""
        return int(self.after[what]) - int(self.before[what])

    def faults(self) -> list[str]:
        """Return what stayed behind."""
        allowed = {
            "tasks": 0,
            "descriptors": 0,
            "sessions": 0,
            "subscriptions": 0,
            "connections": 0,
            "closing": 0,
            "objects": round(OBJECTS_SLACK + OBJECTS_PER_CYCLE * self.cycles),
            "rss": MEMORY_SLACK_BYTES,
        }
        found = [
            f"{what} grew by {self.of(what)}" for what, slack in allowed.items() if self.of(what) > slack
        ]
        return found + [f"unforeseen: {text}" for text in self.after["unforeseen"]]


class Handler:
    """Takes what comes."""

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """Take a value."""


async def connect_and_leave(victim: Victim, turn: int) -> None:
    """One client comes, reads, and goes: politely, or by pulling the cable."""
    client = victim.client(GOOD if turn % SECURE_SHARE == 0 else None)
    await client.connect()
    await client.get_node(victim.plain).read_value()
    for _ in range(3 * (turn % 4 == 0)):  # a list that comes again has a plan, which goes with its client
        await client.read_values([client.get_node(node) for node in victim.tag[turn % 16 :: 16]])
    if turn % 3 == 1:
        client.uaclient.protocol.transport.abort()
        client.disconnect_socket()
        await client.disconnect()
    else:
        await client.disconnect()


async def subscribe_and_leave(client: Any, victim: Victim, turn: int) -> None:
    """One subscription is made, filled, perhaps waited for, and deleted."""
    subscription = await client.create_subscription(20, Handler())
    nodes = [client.get_node(node) for node in (victim.plain, victim.array)]
    await subscription.subscribe_data_change(nodes)
    tags = [client.get_node(node) for node in victim.tag[turn % 16 :: 16]]
    items = await subscription.subscribe_data_change(
        tags, queuesize=1 + turn % 3, sampling_interval=20 * (turn % 2)
    )
    await subscription.set_monitoring_mode(ua.MonitoringMode(turn % 3))
    await subscription.unsubscribe(items[::2])
    await subscription.subscribe_events(ua.NodeId(ua.ObjectIds.Server))
    if turn % 10 == 0:
        await asyncio.sleep(0.03)
    await subscription.delete()


async def calmed(victim: Victim, before: dict[str, Any]) -> dict[str, Any]:
    """Return what the victim has open once it has finished what was still under way; what leaks stays."""
    until_s = time.monotonic() + CALM_S
    while (facts := await victim.facts())["tasks"] > before["tasks"] and time.monotonic() < until_s:
        await asyncio.sleep(0.1)
    return facts


async def connects(victim: Victim, cycles: int) -> Growth:
    """Let clients come and go."""
    for turn in range(WARM_UP):
        await connect_and_leave(victim, turn)
    before = await victim.settled()
    for turn in range(cycles):
        await connect_and_leave(victim, turn)
    await victim.settled()
    return Growth(cycles, before, await calmed(victim, before))


async def subscriptions(victim: Victim, cycles: int) -> Growth:
    """Make and delete subscriptions in one session."""
    async with victim.client() as client:
        for turn in range(WARM_UP):
            await subscribe_and_leave(client, victim, turn)
        before = await victim.facts()
        for turn in range(cycles):
            await subscribe_and_leave(client, victim, turn)
        return Growth(cycles, before, await calmed(victim, before))


async def soak(state: Path, *, connect_cycles: int, subscription_cycles: int) -> list[Growth]:
    """Start a server, let them come and go, and say what stayed."""
    async with running_victim(state) as victim:
        return [await connects(victim, connect_cycles), await subscriptions(victim, subscription_cycles)]


def main() -> int:
    """Run on demand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connects", type=int, default=1000)
    parser.add_argument("--subscriptions", type=int, default=1000)
    wanted = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as state:
        found = asyncio.run(
            soak(Path(state), connect_cycles=wanted.connects, subscription_cycles=wanted.subscriptions)
        )
    faults = [fault for growth in found for fault in growth.faults()]
    for growth in found:
        sys.stdout.write(f"{growth.cycles} cycles\n  before {growth.before}\n  after  {growth.after}\n")
    sys.stdout.write("\n".join([*(faults or ["nothing stayed behind"]), ""]))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())

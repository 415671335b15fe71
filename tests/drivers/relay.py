"""A network that can keep what was sent, and deliver it when the sender is long gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.drivers.listening import Listening

_CHUNK = 65536


@dataclass(eq=False)
class _Way:
    """One connection.

    Args:
        up: Towards the device.
        keeps: Whether what is sent to the device is kept.
        mute: Whether what the device answers is lost.
        kept: What is kept.
        released: Set when nothing is kept any more.
    """

    up: asyncio.StreamWriter
    keeps: bool = False
    mute: bool = False
    kept: bytearray = field(default_factory=bytearray)
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Relay(Listening):
    """Stands before a device; what it does to the connections of now, later ones do not feel.

    Attributes:
        said: All that was sent to the device, by whatever connection, also what never got there.
    """

    def __init__(self, target: int) -> None:
        super().__init__()
        self.said = bytearray()
        self._target = target
        self._ways: set[_Way] = set()

    def deafen(self) -> None:
        """Lose the answers on the connections of now."""
        for way in self._ways:
            way.mute = True

    def freeze(self) -> None:
        """Keep what is sent over the connections of now, and lose their answers."""
        for way in self._ways:
            way.keeps = way.mute = True

    def deliver(self) -> None:
        """Hand over what was kept."""
        for way in self._ways:
            way.keeps = False
            way.up.write(way.kept)
            way.kept.clear()
            way.released.set()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, up = await asyncio.open_connection("127.0.0.1", self._target)
        way = _Way(up)
        self._ways.add(way)
        try:
            async with asyncio.TaskGroup() as tasks:
                back = tasks.create_task(self._answers(way, answers, writer))
                await self._requests(way, reader)
                if way.keeps:  # the network does not know that nobody waits any more
                    await way.released.wait()
                    await asyncio.sleep(0.2)
                back.cancel()
        finally:
            self._ways.discard(way)
            up.transport.abort()

    async def _requests(self, way: _Way, reader: asyncio.StreamReader) -> None:
        while chunk := await _some(reader):
            self.said += chunk
            if way.keeps:
                way.kept += chunk
            else:
                way.up.write(chunk)

    async def _answers(self, way: _Way, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await _some(answers):
            if not way.mute:
                writer.write(chunk)
        if not way.mute:
            writer.transport.abort()


async def _some(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(_CHUNK)
    except ConnectionError:
        return b""


@asynccontextmanager
async def relayed(target: int) -> AsyncIterator[Relay]:
    """Run a relay before a port."""
    async with Relay(target).serving() as relay:
        try:
            yield relay
        finally:
            relay.deliver()

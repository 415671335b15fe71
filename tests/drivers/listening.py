"""A server whose connections all end with it, and that misbehaves on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Self

Distort = Callable[[bytes, bytes], "Iterable[bytes] | None"]
"""Gets request and right answer; returns what is sent instead, or None to close the connection."""


class Listening:
    """A server on a port of its own, whose connections all end with it.

    Attributes:
        distort: Misbehaviour.
    """

    def __init__(self) -> None:
        self.distort: Distort | None = None
        self.connections = 0
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for writer in tuple(self._writers):
                writer.transport.abort()
            async with asyncio.timeout(5.0):
                while self._writers:
                    await asyncio.sleep(0.001)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            await self._talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the connection shall end."""
        raise NotImplementedError

    async def _send(self, writer: asyncio.StreamWriter, request: bytes, frame: bytes) -> bool:
        """Send an answer as it is or distorted, and return whether the connection goes on."""
        frames = (frame,) if self.distort is None else self.distort(request, frame)
        if frames is None:
            return False
        for part in frames:
            writer.write(part)
            await writer.drain()
        return True

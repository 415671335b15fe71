"""A small OPC UA server in the process of the test: asyncua's, without security, filled by hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole

from tests.opcua.standard_space import kept

PLANT = "urn:tests:plant"


@contextmanager
def standard_nodes() -> Iterator[None]:
    """Make the standard's nodes once for all servers of a module."""
    with kept():
        yield


class UaPeer:
    """The server.

    Attributes:
        port: Where it listens.
        index: Index of its namespace :data:`PLANT`.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.port = int(server.bserver.port)
        self.index = 0

    async def prepare(self) -> None:
        self.index = await self._server.register_namespace(PLANT)

    async def put(self, name: str, kind: ua.VariantType, value: Any) -> None:
        """Add a variable that everybody may write."""
        node = await self._server.nodes.objects.add_variable(
            ua.NodeId(name, self.index), name, ua.Variant(value, kind), datatype=ua.NodeId(kind.value)
        )
        await node.set_writable()

    async def set(self, name: str, value: ua.DataValue) -> None:
        await self._server.get_node(ua.NodeId(name, self.index)).write_value(value)

    async def get(self, name: str) -> Any:
        return await self._server.get_node(ua.NodeId(name, self.index)).read_value()


class _Everybody:
    """Lets anybody in, and write."""

    def get_user(self, *_: Any, **__: Any) -> User:
        return User(role=UserRole.Admin)


@asynccontextmanager
async def ua_peer() -> AsyncIterator[UaPeer]:
    """Run a server with a few variables."""
    server = Server(user_manager=_Everybody())
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await server.start()
    peer = UaPeer(server)
    await peer.prepare()
    try:
        yield peer
    finally:
        await server.stop()


def at(stamp_ns: int) -> dt.datetime:
    """Return a stamp as asyncua has it."""
    return dt.datetime.fromtimestamp(stamp_ns / 1e9, tz=dt.UTC)

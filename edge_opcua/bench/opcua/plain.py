"""The peer: plain asyncua's server with its documented API, as its users write it. Its producer is inside.

Values are written with ``Server.write_attribute_value``, the way its documentation recommends where speed
matters; variables lie in folders of a hundred, since its start in one folder grows with the square.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from asyncua import Server, ua, uamethod
from asyncua.crypto.permission_rules import SimpleRoleRuleset

from edge_opcua.bench.opcua.plant import NAME
from edge_opcua.bench.opcua.remote import say
from edge_opcua.bench.opcua.values import EVENTS_PERIOD_S, kind_of, value
from edge_opcua.core.values import Scalar

FOLDER: Final = 100
_URI: Final = "urn:edge_opcua:bench:asyncua"
_BREATH: Final = 100  # values after which others get a turn
_BURST_S: Final = 0.02


class Plain:
    """A server with so many variables."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._server = Server()
        self._nodes: list[tuple[ua.NodeId, ua.VariantType, Scalar]] = []
        self._sequence = 0
        self._index = 0

    async def serve(self) -> None:
        """Serve until the input ends."""
        server = self._server
        await server.init()
        server.set_endpoint("opc.tcp://127.0.0.1:0/")
        policies = [ua.SecurityPolicyType.NoSecurity]
        if self._order.get("certificate"):
            policies.append(ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt)
            await server.load_certificate(self._order["certificate"])
            await server.load_private_key(self._order["key"])
            server.application_uri = self._order["uri"]
        server.set_security_policy(policies, permission_ruleset=SimpleRoleRuleset())
        self._index = await server.register_namespace(_URI)
        await self._fill()
        async with server:
            port = server.bserver._server.sockets[0].getsockname()[1]  # noqa: SLF001 - it does not say otherwise
            say(
                {
                    "url": f"opc.tcp://127.0.0.1:{port}/",
                    "nodes": f"ns={self._index};s=" + "{}",
                    "folder": f"ns={self._index};s=folder",
                    "method": f"ns={self._index};s=echo",
                }
            )
            await self._obey()

    async def _fill(self) -> None:
        parent = await self._server.nodes.objects.add_folder(ua.NodeId("folder", self._index), "folder")
        place = parent
        for item in range(self._order["tags"]):
            if not self._order["flat"] and item % FOLDER == 0:
                place = await parent.add_folder(ua.NodeId(f"f{item}", self._index), f"f{item}")
            kind = Scalar.DOUBLE if self._order["doubles"] else kind_of(item)
            node, variant = ua.NodeId(NAME.format(item), self._index), ua.VariantType(int(kind))
            await place.add_variable(node, NAME.format(item), value(kind, 0, item), variant)
            self._nodes.append((node, variant, kind))
        await parent.add_method(
            ua.NodeId("echo", self._index), "echo", _echo, [ua.VariantType.UInt32], [ua.VariantType.UInt32]
        )

    async def _obey(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            order = json.loads(line)
            if order["do"] == "run":
                say(await self._run(order))
            elif order["do"] == "events":
                say(await self._events(order))

    async def _run(self, order: dict[str, Any]) -> dict[str, Any]:
        first, end = order["items"]
        nodes = self._nodes[first:end]
        make = _times if order.get("what") == "times" else value
        period_s = 1 / order["hz"]
        began_s = due_s = time.perf_counter()
        until_s, cycles = began_s + order["seconds"], 0
        while due_s < until_s and time.perf_counter() < until_s + 1.0:
            now_s = time.perf_counter()
            if now_s < due_s:
                await asyncio.sleep(due_s - now_s)
            elif now_s - due_s > _BURST_S and period_s < _BURST_S:
                due_s = now_s
            self._sequence += 1
            await self._cycle(nodes, first, make)
            cycles += 1
            due_s += period_s
        took_s = max(time.perf_counter() - began_s, cycles * period_s)
        return {"cycles": cycles, "sequence": self._sequence, "seconds": took_s}

    async def _cycle(
        self,
        nodes: list[tuple[ua.NodeId, ua.VariantType, Scalar]],
        first: int,
        make: Callable[[Scalar, int, int], Any],
    ) -> None:
        now = datetime.now(UTC)
        for item, (node, variant, kind) in enumerate(nodes, first):
            shown = ua.DataValue(ua.Variant(make(kind, self._sequence, item), variant), SourceTimestamp=now)
            await self._server.write_attribute_value(node, shown)
            if item % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _events(self, order: dict[str, Any]) -> dict[str, Any]:
        generator = await self._server.get_event_generator()
        count, began_s = 0, time.perf_counter()
        while (passed_s := time.perf_counter() - began_s) < order["seconds"]:
            due = passed_s * order["hz"]
            while count < due:
                await generator.trigger(message=str(count))
                count += 1
                if count % _BREATH == 0:
                    await asyncio.sleep(0)
                    if time.perf_counter() - began_s > order["seconds"]:
                        break
            await asyncio.sleep(EVENTS_PERIOD_S)
        return {"cycles": count, "seconds": time.perf_counter() - began_s}


def _times(kind: Scalar, sequence: int, item: int) -> float:
    del kind, sequence, item
    return time.monotonic_ns() / 1000


@uamethod  # type: ignore[untyped-decorator]
def _echo(parent: ua.NodeId, number: int) -> int:
    del parent
    return number


def main() -> None:
    """Serve until the input ends."""
    logging.disable(logging.ERROR)
    asyncio.run(Plain(json.loads(sys.stdin.readline())).serve())


if __name__ == "__main__":
    main()

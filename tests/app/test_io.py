"""What the io process answers over the control channel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from edge_opcua.app.io import _Writes
from edge_opcua.core.messages import Request
from edge_opcua.core.values import BAD_NODE_ID_UNKNOWN, BAD_NOT_SUPPORTED, GOOD
from tests.drivers.scripted import scripted

GROUPS = [{"name": "fast", "period_ms": 20}, {"name": "asked", "on_request": True}]


async def test_a_group_is_polled_for_who_asks_and_answered_when_its_values_are_there() -> None:
    extra = {"recipe": {"group": "asked"}}
    tags = {"a": "hr:1:INT", "recipe": "hr:20:INT"}
    async with scripted(tags, groups=GROUPS, extra=extra) as (wire, bench), bench.running() as device:
        await bench.until(lambda: bench.values("asked")["recipe"] == 20 and device.link_up)
        plant = SimpleNamespace(devices={"dev": device}, pausing=frozenset())
        io = _Writes(cast(Any, None), cast(Any, plant))
        wire.registers[1, 20] = 21

        reply = await io.handle(Request("io", "poll", {"device": "dev", "group": "asked"}))
        assert (reply.status, bench.values("asked")["recipe"]) == (GOOD, 21)
        for body in ({"device": "dev", "group": "ghost"}, {"device": "ghost", "group": "asked"}):
            assert (await io.handle(Request("io", "poll", body))).status == BAD_NODE_ID_UNKNOWN
        assert (await io.handle(Request("io", "sing", {}))).status == BAD_NOT_SUPPORTED

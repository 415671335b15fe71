"""Bulk reads of tags through real connections, beside the slow, obvious way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary

from edge_opcua.core.batch import BlockLayout, TagBatch
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.ticks import to_utc
from edge_opcua.core.values import BAD_DEVICE_FAILURE, GOOD, Scalar
from edge_opcua.opcua.access import AccessRule, Permission
from edge_opcua.opcua.limits import OperationLimits, ServerLimits
from edge_opcua.opcua.services.attribute.reading import Reading
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.security.roles import Role
from tests.opcua.read_requests import block_of, config_of, item, name_of
from tests.opcua.secure_peers import OTHER, Plant, request, running_plant, status_of, until

CODES = ua.StatusCodes
# What nobody without a role of his own may read.
HIDDEN = tuple(
    AccessRule("Press.Line0.*3", role, Permission.Browse)
    for role in (Role.ANONYMOUS, Role.AUTHENTICATED_USER)
)
STAMPS = list(ua.TimestampsToReturn)[:4]


@dataclass
class Site:
    """A server with one block of tags."""

    plant: Plant
    block: LiveBlock
    batch: TagBatch

    @property
    def reading(self) -> Reading:
        return self.plant.server.iserver.attribute_service.reading  # type: ignore[no-any-return]

    def show(self, value: int, status: int = GOOD) -> None:
        batch = self.batch
        for row, tag in enumerate(batch.layout.spec.tags):
            if tag.type is Scalar.STRING:
                batch.set_text(row, f"text {value}")
            else:
                number = 10 * value if tag.type is Scalar.DATETIME else value
                batch.set(
                    row, [number] if tag.length else bool(number) if tag.type is Scalar.BOOLEAN else number
                )
        batch.status[:] = status
        batch.source_ns[:] = batch.server_ns[:] = 1_770_000_000_000_000_000 + value * 1_000_000
        self.block.take(batch, batch.status.copy())

    def items(self, *, mixed: bool = True) -> list[ua.ReadValueId]:
        """Every tag, and if wanted what is none in between."""
        tags = self.plant.server.iserver.aspace.tags
        found = [item(tags.node_id(number)) for number in range(len(tags) - 2)]
        if mixed:
            found[5:5] = [item(self.plant.plain.nodeid), item(ua.NodeId("no such", 7))]
            found[11:11] = [item(tags.node_id(3), ua.AttributeIds.DisplayName)]
            found += [item(tags.node_id(len(tags) - each)) for each in (1, 2)]
        return found

    def obvious(self, client: Client, items: list[ua.ReadValueId], stamps: int) -> list[ua.DataValue]:
        core = self.plant.server.iserver
        token = client.uaclient.protocol.authentication_token
        session = core.lookup_external_session(token)
        found = [core.attribute_service.read_for(session, each, stamps, 0.0) for each in items]
        return [
            ua.DataValue(each.Value, each.StatusCode, each.SourceTimestamp, each.ServerTimestamp)
            for each in found
        ]


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    limits = ServerLimits(operations=OperationLimits(read=12_000), response_bytes=300_000)
    state = tmp_path_factory.mktemp("state")
    async with running_plant(state, allow_none=True, limits=limits, rules=HIDDEN) as plant:
        core = plant.server.iserver
        spec = block_of("press.fast")
        block = LiveBlock(spec, SystemClock())
        core.aspace.tags.add(
            block, [(row, name_of(0, row), config_of(tag)) for row, tag in enumerate(spec.tags)]
        )
        core.access.cover(core.aspace.tags, core.aspace.virtual)
        made = Site(plant, block, TagBatch(BlockLayout(spec)))
        made.show(1)
        yield made


async def ask(
    client: Client, items: list[ua.ReadValueId], stamps: int = ua.TimestampsToReturn.Both
) -> list[ua.DataValue]:
    answer = await request(client, ua.ReadRequest(), NodesToRead=items, TimestampsToReturn=stamps)
    return list(struct_from_binary(ua.ReadResponse, answer).Results)


@pytest.mark.parametrize("stamps", STAMPS)
async def test_two_users_read_the_same_list_in_two_modes(site: Site, stamps: int) -> None:
    # Part 4 §5.11.2; one without security and without roles, one encrypted, with those of an operator.
    items = site.items()
    async with site.plant.client(None) as nobody, site.plant.client() as operator:
        for value in (2, 2, 3, 4):
            site.show(value)
            for client in (nobody, operator):
                assert await ask(client, items, stamps) == site.obvious(client, items, stamps)
        site.show(5, BAD_DEVICE_FAILURE)
        for client in (nobody, operator):
            assert await ask(client, items, stamps) == site.obvious(client, items, stamps)
        denied, allowed = [await ask(client, items, stamps) for client in (nobody, operator)]
    assert CODES.BadUserAccessDenied in {each.StatusCode.value for each in denied}
    assert CODES.BadUserAccessDenied not in {each.StatusCode.value for each in allowed}


async def test_a_repeated_list_is_counted_like_every_request(site: Site) -> None:
    # Part 5 §12.12: ReadCount; a refused one is an error of it.
    items = site.items(mixed=False)
    async with site.plant.client() as client:
        session = site.plant.server.iserver.lookup_external_session(
            client.uaclient.protocol.authentication_token
        )
        await ask(client, items)
        before = session.counts.services["Read"].total_count
        for _ in range(5):
            await ask(client, items)
        late = request(client, ua.ReadRequest(), NodesToRead=items, MaxAge=-1.0)
        assert await status_of(late) == CODES.BadMaxAgeInvalid
        assert session.counts.services["Read"].total_count == before + 6
        assert session.counts.services["Read"].error_count == 1


async def test_what_is_kept_goes_with_its_session(site: Site) -> None:
    items = site.items(mixed=False)[:7]
    reading = site.reading
    async with site.plant.client(OTHER) as client:
        before = len(reading.plans)
        for _ in range(3):
            await ask(client, items)
        assert len(reading.plans) == before + 1
    del client
    await until(lambda: len(reading.plans) <= before)


async def test_a_long_new_list_delays_no_other_answer(site: Site) -> None:
    items = site.items() * 350
    async with site.plant.client() as client, site.plant.client(OTHER) as other, asyncio.TaskGroup() as group:
        long = group.create_task(ask(client, items))
        await asyncio.sleep(0)
        assert len(await ask(other, items[:1])) == 1
        values = await long
        assert values == site.obvious(client, site.items(), ua.TimestampsToReturn.Both) * 350


async def test_an_answer_is_as_long_as_the_server_sends_and_no_longer(site: Site) -> None:
    # Part 4 §5.7.2.2, §7.38.2.
    site.show(6)
    numbers = site.items(mixed=False) * 600
    async with site.plant.client() as client:
        assert await status_of(ask(client, numbers[:12_001])) == CODES.BadTooManyOperations
        for _ in range(3):
            assert await status_of(ask(client, numbers[:12_000])) == CODES.BadResponseTooLarge
        assert await status_of(ask(client, [])) == CODES.BadNothingToDo
        assert len(await ask(client, site.items())) == len(site.items())


async def test_a_client_that_polls_sees_each_change(site: Site) -> None:
    nodes: list[Any] = []
    async with site.plant.client() as client:
        nodes = [client.get_node(each.NodeId) for each in site.items(mixed=False)[:20]]
        numbers = [node for node in nodes if "00" not in str(node.nodeid.Identifier)]
        for value in (7, 8, 9, 9, 10):
            site.show(value)
            assert set(await client.read_values(numbers)) <= {value, float(value), True, to_utc(10 * value)}

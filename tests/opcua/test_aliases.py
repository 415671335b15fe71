"""FindAlias, as a client that knows names and no NodeIds calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, ua

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.values import Scalar
from edge_opcua.opcua.access import Access, AccessRule, Kind, Permission
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.namespaces import plant_id
from edge_opcua.opcua.services.service import set_caller
from edge_opcua.opcua.standard.aliases import MAX_FOUND, Aliases, version_time
from edge_opcua.security.roles import Role
from tests.opcua.plant import TAGS, Plant, configuration, prepare, running, tag, until

ALIASES, TAG_VARIABLES, TOPICS = ua.ObjectIds.Aliases, ua.ObjectIds.TagVariables, ua.ObjectIds.Topics
ALIAS_FOR = ua.NodeId(ua.ObjectIds.AliasFor)
FIND = {
    ALIASES: ua.ObjectIds.Aliases_FindAlias,
    TAG_VARIABLES: ua.ObjectIds.TagVariables_FindAlias,
    TOPICS: ua.ObjectIds.Topics_FindAlias,
}


def config() -> EdgeConfig:
    """The plant with a tag that names its states; one server serves two topics here."""
    state = tag("state", Scalar.INT16, "DB10.DBW90:INT", states=((0, "Idle"), (4, "Execute")))
    raw = configuration().model_dump()
    raw["devices"][0]["tags"] = [*TAGS, state]
    return EdgeConfig.model_validate(raw)


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with running(prepare(tmp_path_factory.mktemp("plant")), config()) as plant:
        yield plant


@pytest.fixture(scope="module")
async def client(plant: Plant) -> AsyncIterator[Client]:
    client = await plant.client()
    async with client:
        yield client


async def find(
    client: Client, pattern: str, *, of: int = TAG_VARIABLES, reference: ua.NodeId = ALIAS_FOR
) -> dict[str, list[ua.NodeId]]:
    category = client.get_node(ua.NodeId(of))
    found = await category.call_method(
        ua.NodeId(FIND[of]), pattern, ua.Variant(reference, ua.VariantType.NodeId)
    )
    return {each.AliasName.Name: each.ReferencedNodes for each in found}


async def test_a_tag_is_found_by_its_public_name_and_read(client: Client) -> None:
    # Part 17 §6.3.2.
    found = await find(client, "press/die_temp")
    assert list(found) == ["press/die_temp"]
    (target,) = found["press/die_temp"]
    node = client.get_node(ua.NodeId(target.Identifier, target.NamespaceIndex))
    assert node.nodeid == plant_id("Press01.Process.die_temp")
    assert (await node.read_browse_name()).Name == "die_temp"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("press/sp\\_%", ["press/sp_speed", "press/sp_recipe"]),
        ("%/[st]otal", ["press/total"]),
        ("press/die_tem_", ["press/die_temp"]),
        ("vib/stroke", ["vib/stroke"]),
        ("PRESS/%", []),
        ("press/nothing", []),
        ("", []),
    ],
)
async def test_names_are_found_by_the_patterns_of_like(
    client: Client, pattern: str, names: list[str]
) -> None:
    # Part 4 §7.7.3, Table "Wildcard characters".
    assert list(await find(client, pattern)) == names


async def test_every_tag_and_capture_has_an_alias_whose_node_exists(client: Client) -> None:
    found = await find(client, "%", of=ALIASES)
    devices = config().devices
    assert list(found) == [f"{of.name}/{each.name}" for of in devices for each in (*of.tags, *of.captures)]
    for (target,) in found.values():
        node = client.get_node(ua.NodeId(target.Identifier, target.NamespaceIndex))
        assert await node.read_node_class() == ua.NodeClass.Variable


async def test_topics_has_no_tags(client: Client) -> None:
    assert not await find(client, "%", of=TOPICS)


@pytest.mark.parametrize(
    ("reference", "many"),
    [
        (ua.NodeId(), 1),
        (ua.NodeId(ua.ObjectIds.NonHierarchicalReferences), 1),
        (ua.NodeId(ua.ObjectIds.Organizes), 0),
        (ua.NodeId("no such type", 7), 0),
    ],
)
async def test_the_reference_type_restricts_the_search(
    client: Client, reference: ua.NodeId, many: int
) -> None:
    # Part 17 §6.3.2: any ReferenceType includes all subtypes of it.
    assert len(await find(client, "press/total", reference=reference)) == many


@pytest.mark.parametrize("pattern", ["[", "a\\", "[]", "%" + "x" * 300])
async def test_a_pattern_that_is_none_is_refused(client: Client, pattern: str) -> None:
    with pytest.raises(ua.uaerrors.BadInvalidArgument):
        await find(client, pattern)


async def test_the_last_change_is_told_in_seconds_since_2000(client: Client) -> None:
    # Part 17 §6.3.1, Part 5 §12.3.
    changed = await client.get_node(ua.NodeId(ua.ObjectIds.Aliases_LastChange)).read_data_value()
    assert changed.Value.VariantType == ua.VariantType.UInt32
    assert changed.Value.Value > version_time(1_700_000_000 * 10**9)
    assert version_time(946_684_801 * 10**9) == 1


class Somebody:
    """A caller with roles."""

    roles = frozenset({Role.OBSERVER})


async def answered(names: dict[str, ua.NodeId], pattern: str, rules: list[AccessRule]) -> Any:
    aliases = Aliases(Nodes(), Access(rules), names)
    set_caller(Somebody())  # type: ignore[arg-type]
    return await aliases.find(ua.NodeId(), ua.Variant(pattern), ua.Variant(None, ua.VariantType.NodeId))


async def test_what_is_hidden_from_the_caller_is_not_found() -> None:
    names = {"press/a": plant_id("a"), "press/secret": plant_id("secret")}
    rules = [AccessRule("secret", Role.OBSERVER, Permission(0))]
    (found,) = await answered(names, "press/%", rules)
    assert [each.AliasName.Name for each in found.Value] == ["press/a"]


async def test_too_many_are_refused_rather_than_cut() -> None:
    names = {f"d/t{n}": plant_id(f"t{n}") for n in range(MAX_FOUND + 1)}
    assert await answered(names, "%", []) == ua.StatusCode(ua.StatusCodes.BadResponseTooLarge)
    (found,) = await answered(names, "d/t1", [])
    assert len(found.Value) == 1


def test_finding_is_for_everybody() -> None:
    access = Access()
    nodes = [ua.NodeId(int(method)) for method in FIND.values()]
    access.mark(Kind.OWN, nodes)
    assert all(access.may(frozenset({Role.ANONYMOUS}), Permission.Call, node) for node in nodes)


class Texts:
    """Collects the texts a subscription delivers."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []

    def datachange_notification(self, _node: Any, value: Any, _data: Any) -> None:
        self.seen.append(value and value.Text)


async def test_the_text_of_a_state_is_read_and_reported(plant: Plant, client: Client) -> None:
    # Part 8 §5.3.3.4 (MultiStateValueDiscreteType).
    node = client.get_node(plant_id("Press01.Process.state"))
    assert await node.read_type_definition() == ua.NodeId(ua.ObjectIds.MultiStateValueDiscreteType)
    values = await client.get_node(plant_id("Press01.Process.state.EnumValues")).read_value()
    assert [(each.Value, each.DisplayName.Text) for each in values] == [(0, "Idle"), (4, "Execute")]
    text = client.get_node(plant_id("Press01.Process.state.ValueAsText"))
    plant.press(state=4)

    async def shown() -> bool:
        read = await text.read_data_value(raise_on_bad_status=False)
        return bool(read.Value.Value is not None and read.Value.Value.Text == "Execute")

    await until(shown)
    told = Texts()
    subscription = await client.create_subscription(20, told)
    await subscription.subscribe_data_change(text)

    async def reported() -> bool:
        plant.press(state=0)
        return "Idle" in told.seen

    await until(reported)
    await subscription.delete()

"""Our nodesets against the official files, and what asyncua makes of both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from asyncua import Server, ua

from edge_opcua.assets import nodesets_dir
from edge_opcua.errors import ConfigError
from edge_opcua.opcua.namespaces import TYPE_URIS, Ids
from edge_opcua.opcua.nodesets import OFFICIAL, NodeSet, import_nodesets, prepare, read_nodesets

UA = "{http://opcfoundation.org/UA/2011/03/UANodeSet.xsd}"
PEERS = Path(__file__).parents[1] / "peers" / ".installed"
OFFICIAL_FILES = PEERS / "node_modules" / "node-opcua-nodesets" / "nodesets"
OURS = {
    "di.subset.xml": "Opc.Ua.Di.NodeSet2.xml",
    "ia.subset.xml": "Opc.Ua.IA.NodeSet2.xml",
    "machinery.subset.xml": "Opc.Ua.Machinery.NodeSet2.xml",
    "machinery_result.subset.xml": "Opc.Ua.Machinery_Result.NodeSet2.xml",
}
# What a subset says of itself, and texts, which are ours.
SAYS_SUBSET = "IsNamespaceSubset"


@dataclass
class Node:
    """A node of a file with every index resolved to its URI, so that two files can be compared."""

    kind: str
    browse_name: str
    attributes: Mapping[str, str]
    references: set[tuple[str, str, bool]] = field(default_factory=set)
    definition: tuple[tuple[tuple[str, str], ...], ...] = ()
    value: str = ""


def read(path: Path) -> dict[str, Node]:
    """Read a NodeSet2 file; each reference is entered at both its ends."""
    root = Xml.parse(path).getroot()
    uris = [
        "http://opcfoundation.org/UA/",
        *(u.text or "" for u in root.findall(f"{UA}NamespaceUris/{UA}Uri")),
    ]
    aliases = {a.get("Alias", ""): a.text or "" for a in root.findall(f"{UA}Aliases/{UA}Alias")}

    def full(text: str) -> str:
        text = aliases.get(text, text)
        found = re.fullmatch(r"ns=(\d+);(.*)", text)
        return f"{uris[int(found[1])]}|{found[2]}" if found else f"{uris[0]}|{text}"

    def name(text: str) -> str:
        found = re.fullmatch(r"(\d+):(.*)", text)
        return f"{uris[int(found[1])]}|{found[2]}" if found else text

    nodes: dict[str, Node] = {}
    ends: list[tuple[str, str, str, bool]] = []
    for raw in root:
        if not raw.tag.startswith(f"{UA}UA"):
            continue
        node_id = full(raw.get("NodeId", ""))
        attributes = {
            key: raw.get(key, default)
            for key, default in {
                "IsAbstract": "false",
                "ValueRank": "-1",
                "ArrayDimensions": "",
                "EventNotifier": "0",
                "AccessLevel": "1",
                "Symmetric": "false",
            }.items()
        }
        attributes["DataType"] = full(raw.get("DataType", "i=24"))
        value = raw.find(f"{UA}Value")
        text = "" if value is None else "".join(value.itertext())
        nodes[node_id] = Node(
            raw.tag.removeprefix(UA),
            name(raw.get("BrowseName", "")),
            attributes,
            definition=tuple(
                tuple(
                    (key, full(part) if key == "DataType" else part)
                    for key, part in sorted(each.attrib.items())
                )
                for each in raw.findall(f"{UA}Definition/{UA}Field")
            ),
            value=re.sub(r"\s+", "", text),
        )
        for reference in raw.findall(f"{UA}References/{UA}Reference"):
            forward = reference.get("IsForward", "true") != "false"
            kind = full(reference.get("ReferenceType", ""))
            ends.append((node_id, kind, full(reference.text or ""), forward))
    for source, kind, target, forward in ends:
        nodes[source].references.add((kind, target, forward))
        if target in nodes:
            nodes[target].references.add((kind, source, not forward))
    return nodes


@pytest.mark.interop
@pytest.mark.parametrize(("ours", "official"), OURS.items(), ids=OURS)
def test_every_node_of_a_subset_is_the_official_one(ours: str, official: str) -> None:
    if not OFFICIAL_FILES.is_dir():
        pytest.skip("no official nodesets: run tests/peers/install")
    theirs = read(OFFICIAL_FILES / official)
    mine = read(nodesets_dir() / ours)
    wrong = []
    for node_id, node in mine.items():
        other = theirs.get(node_id)
        if other is None:
            wrong.append(f"{node_id} is not official")
            continue
        if (node.kind, node.browse_name, node.definition) != (
            other.kind,
            other.browse_name,
            other.definition,
        ):
            wrong.append(f"{node_id}: {node} is not {other}")
        if dict(node.attributes) != dict(other.attributes):
            wrong.append(f"{node_id} {node.browse_name}: {node.attributes} is not {other.attributes}")
        extra = node.references - other.references
        if extra:
            wrong.append(f"{node_id} {node.browse_name} has references that are not official: {extra}")
        says = node.browse_name.endswith(("NamespaceVersion", "NamespaceUri", "NamespacePublicationDate"))
        if (says or node.browse_name == "EnumStrings") and node.value != other.value:
            wrong.append(f"{node_id} {node.browse_name}: {node.value} is not {other.value}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("ours", OURS)
def test_a_subset_says_that_it_is_one(ours: str) -> None:
    nodes = read(nodesets_dir() / ours)
    said = [node.value for node in nodes.values() if node.browse_name == SAYS_SUBSET]
    assert said == ["true"]


def test_no_number_of_our_own_types_is_used_twice() -> None:
    root = Xml.parse(nodesets_dir() / "edge_opcua.xml").getroot()
    ids = [node.get("NodeId") for node in root if node.get("NodeId")]
    assert len(ids) == len(set(ids))


@pytest.fixture
def valued() -> dict[ua.NodeId, str]:
    """The text of the value of every node of our files that has one."""
    found = {}
    for file, index in {**dict(zip(OURS, range(2, 6), strict=True)), "edge_opcua.xml": 6}.items():
        for node in Xml.parse(nodesets_dir() / file).getroot():
            value = node.find(f"{UA}Value")
            # A name in a value would keep the namespace index of its file: asyncua leaves it null.
            if value is not None and "QualifiedName" not in value[0].tag:
                number = int(node.get("NodeId", "").rpartition("=")[2])
                found[ua.NodeId(number, index)] = "".join(value.itertext()).strip()
    return found


@pytest.fixture
def ours() -> tuple[NodeSet, ...]:
    return read_nodesets()


async def test_every_value_of_our_files_reaches_clients(
    ours: tuple[NodeSet, ...], valued: dict[ua.NodeId, str]
) -> None:
    # asyncua takes a list for null if its first element follows without a space.
    server = Server()
    await server.init()
    for index, uri in enumerate(TYPE_URIS, 2):
        assert await server.register_namespace(uri) == index
    await import_nodesets(server, ours)
    for node, written in valued.items():
        held = await server.get_node(node).read_value()
        assert (held in (None, "")) == (not written), node


@pytest.fixture
def official() -> tuple[NodeSet, ...]:
    if not OFFICIAL_FILES.is_dir():
        pytest.skip("no official nodesets: run tests/peers/install")
    return read_nodesets(OFFICIAL_FILES)


@pytest.mark.interop
@pytest.mark.timeout(120)
async def test_the_full_official_nodesets_are_used_where_they_are_given(
    official: tuple[NodeSet, ...],
) -> None:
    nodesets = official
    assert [each.official for each in nodesets] == [True, True, True, True, False]
    server = Server()
    await server.init()
    for index, uri in enumerate(TYPE_URIS, 2):
        assert await server.register_namespace(uri) == index
    await import_nodesets(server, nodesets)
    # Nodes that our subset leaves out, and our own type on top of theirs.
    for number, namespace in ((6161, 2), (1004, 5)):
        assert (await server.get_node(ua.NodeId(number, namespace)).read_browse_name()).Name
    kind = server.get_node(Ids.RESULT_EVENT_TYPE)
    parents = await kind.get_referenced_nodes(ua.ObjectIds.HasSubtype, ua.BrowseDirection.Inverse)
    assert [parent.nodeid for parent in parents] == [ua.NodeId(1002, 5)]


def test_a_broken_nodeset_is_a_clear_error(tmp_path: Path) -> None:
    name = OFFICIAL["http://opcfoundation.org/UA/DI/"]
    (tmp_path / name).write_text("<UANodeSet")
    with pytest.raises(ConfigError, match="is not XML"):
        read_nodesets(tmp_path)
    (tmp_path / name).write_text("<UANodeSet/>")
    with pytest.raises(ConfigError, match="does not define the namespace"):
        read_nodesets(tmp_path)


def test_prepare_removes_orphans_and_values_of_own_structures_only() -> None:
    head = 'xmlns="http://opcfoundation.org/UA/2011/03/UANodeSet.xsd"'
    types = 'xmlns="http://opcfoundation.org/UA/2008/02/Types.xsd"'

    def value(type_id: str) -> str:
        identifier = f"<TypeId><Identifier>{type_id}</Identifier></TypeId>"
        return f"<Value><ExtensionObject {types}>{identifier}</ExtensionObject></Value>"

    content = f"""<UANodeSet {head}>
      <UAObject NodeId="ns=1;i=73" DesignToolOnly="true"/>
      <UAObject NodeId="ns=1;i=74" DesignToolOnly="true" ParentNodeId="ns=1;i=1"/>
      <UAVariable NodeId="ns=1;i=1">
        <References><Reference ReferenceType="i=47">ns=1;i=73</Reference>
          <Reference ReferenceType="i=47">ns=1;i=74</Reference></References>
        {value("ns=1;i=5006")}
      </UAVariable>
      <UAVariable NodeId="ns=1;i=2">{value("i=297")}</UAVariable>
    </UANodeSet>"""
    root = Xml.fromstring(prepare(content.encode()))
    assert [node.get("NodeId") for node in root] == ["ns=1;i=74", "ns=1;i=1", "ns=1;i=2"]
    assert [each.text for each in root.iter(f"{UA}Reference")] == ["ns=1;i=74"]
    assert len(list(root.iter(f"{UA}Value"))) == 1

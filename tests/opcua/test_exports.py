"""Exports for products that import without a server: what is in them is what a client finds.

The golden files are written anew by ``python -m tests.opcua.test_exports``; look at the difference.
"""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from asyncua import Client, Server, ua

from edge_opcua.app.command import export as exportcommands
from edge_opcua.cli import main
from edge_opcua.opcua.export.nodesets import ExportedFile, instance_nodeset, type_nodesets
from edge_opcua.opcua.export.offline import Model, offline_model
from edge_opcua.opcua.export.tags import ExportedVariable, exported_variables, ignition, kepware, plain
from edge_opcua.opcua.nodesets import import_nodesets
from tests.opcua.plant import MACHINE, blocks, configuration, nodesets, prepare, running

GOLDEN = Path(__file__).parent / "golden"
CONFIG = configuration()
PUBLISHED = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)
UANODESET = "{http://opcfoundation.org/UA/2011/03/UANodeSet.xsd}"


async def build() -> Model:
    return await offline_model(CONFIG, blocks(CONFIG), nodesets())


def exports(model: Model) -> dict[str, str]:
    """What each golden file holds."""
    everything = exported_variables(model, CONFIG)
    press = exported_variables(model, CONFIG, "press")
    return {
        "press.ignition.json": ignition(press, machine=MACHINE, server_name="edge"),
        "plant.kepware.csv": kepware(everything, machine=MACHINE),
        "plant.csv": plain(everything),
    }


@pytest.fixture(scope="module")
def model() -> Model:
    return asyncio.run(build())


@pytest.fixture
def variables(model: Model) -> list[ExportedVariable]:
    return exported_variables(model, CONFIG)


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with running(prepare(tmp_path_factory.mktemp("plant"))) as plant:
        client = await plant.client()
        async with client:
            yield client


@pytest.mark.parametrize("name", ["press.ignition.json", "plant.kepware.csv", "plant.csv"])
def test_an_export_is_what_its_golden_file_holds(model: Model, name: str) -> None:
    assert exports(model)[name] == (GOLDEN / name).read_bytes().decode()


async def test_every_exported_variable_is_served_with_the_exported_type(
    client: Client, variables: list[ExportedVariable]
) -> None:
    ids = ua.AttributeIds
    wanted = (ids.DataType, ids.ValueRank, ids.AccessLevel, ids.BrowseName)
    nodes = [client.get_node(variable.item_path("ns")) for variable in variables]
    for which in wanted:
        found = await client.read_attributes(nodes, which)
        for variable, value in zip(variables, found, strict=True):
            assert value.StatusCode is None or value.StatusCode.is_good(), variable
            served = value.Value.Value
            if which == ids.ValueRank:
                assert served == variable.rank
            elif which == ids.AccessLevel:
                assert bool(served & ua.AccessLevel.CurrentWrite.mask) is variable.writable
            elif which == ids.BrowseName:
                assert served == variable.path[-1]
    types = await client.read_attributes(nodes, ids.DataType)
    names = await client.read_attributes([client.get_node(t.Value.Value) for t in types], ids.BrowseName)
    assert [name.Value.Value.Name for name in names] == [variable.data_type for variable in variables]


async def test_every_variable_that_is_served_and_changes_is_exported(
    client: Client, variables: list[ExportedVariable]
) -> None:
    exported = {variable.node_id for variable in variables}
    todo = [
        client.get_node(f"ns=7;s={name}") for name in (MACHINE, "Devices.press", "Devices.vib", "Records")
    ]
    while todo:
        node = todo.pop()
        for child in await node.get_children(refs=ua.ObjectIds.HasComponent):
            todo.append(child)
            if await child.read_node_class() == ua.NodeClass.Variable:
                assert child.nodeid in exported


async def test_an_exported_browse_path_leads_to_its_node(
    client: Client, variables: list[ExportedVariable]
) -> None:
    for variable in variables[:8]:
        path = [f"{part.NamespaceIndex}:{part.Name}" for part in variable.path]
        assert (await client.nodes.objects.get_child(path)).nodeid == variable.node_id


def of(variables: list[ExportedVariable], name: str) -> ExportedVariable:
    return next(each for each in variables if each.node_id.Identifier == name)


def test_a_tag_has_its_device_address_unit_and_range(variables: list[ExportedVariable]) -> None:
    tag = of(variables, "Press01.Process.die_temp")
    assert (tag.device, tag.address) == ("press", "DB10.DBD24:REAL")
    assert (tag.unit, tag.low, tag.high, tag.description) == ("°C", 0.0, 120.0, "Die")
    assert of(variables, "Press01.Captures.stroke.Waveform").address == "1/hr:100:INT[2000]"
    assert of(variables, "Press01.Captures.stroke.Sequence").device == "vib"
    assert of(variables, "Press01.Inference.press-anomaly.Score").device == ""


def atomic(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for tag in tree["tags"]:
        yield from atomic(tag) if tag["tagType"] == "Folder" else (tag,)


def test_ignition_finds_nodes_by_namespace_uri_unless_told_otherwise(
    variables: list[ExportedVariable],
) -> None:
    trees = [
        json.loads(ignition(variables, machine=MACHINE, server_name="edge", style=style))
        for style in ("nsu", "ns")
    ]
    assert [each["name"] for each in trees[0]["tags"]] == [MACHINE]
    by_uri, by_index = ({tag["opcItemPath"] for tag in atomic(tree)} for tree in trees)
    assert "nsu=urn:plant-1:plant;s=Press01.Process.die_temp" in by_uri
    assert "ns=7;s=Press01.Process.die_temp" in by_index
    assert len(by_uri) == len(variables)


def test_names_that_ignition_does_not_allow_are_changed_and_stay_different() -> None:
    names = ("a.b", "a_b", "a.b", "-x")
    made = [
        ExportedVariable(
            ua.NodeId(f"n{n}", 7),
            "urn:x",
            (ua.QualifiedName(name, 7),),
            "Double",
            ua.VariantType.Double,
            -1,
            False,
        )
        for n, name in enumerate(names)
    ]
    tree = json.loads(ignition(made, machine="M", server_name="s"))
    assert [tag["name"] for tag in atomic(tree)] == ["a_b", "a_b_2", "a_b_3", "_-x"]
    rows = list(csv.reader(io.StringIO(kepware(made, machine="M"))))
    assert [row[0] for row in rows[1:]] == ["M.a_b", "M.a_b_2", "M.a_b_3", "M.-x"]


def test_what_a_text_of_kepware_may_not_hold_is_quoted(variables: list[ExportedVariable]) -> None:
    rows = list(csv.reader(io.StringIO(kepware(variables, machine=MACHINE))))
    assert len({len(row) for row in rows}) == 1
    assert len({row[0] for row in rows}) == len(rows)


# --- NodeSet2 ---------------------------------------------------------------------------------------------


@pytest.fixture
def plant_file(model: Model) -> ExportedFile:
    return instance_nodeset(model, CONFIG, published=PUBLISHED)


def test_the_file_names_its_model_and_every_model_it_needs(model: Model, plant_file: ExportedFile) -> None:
    # Part 6 Annex F.6: a ModelTableEntry and its RequiredModels.
    root = Xml.fromstring(plant_file.xml)
    (own,) = root.iter(f"{UANODESET}Model")
    assert (own.get("ModelUri"), own.get("PublicationDate")) == ("urn:plant-1:plant", "2026-11-21T12:00:00Z")
    versions = {file.uri: file.version for file in type_nodesets(model)}
    required = {each.get("ModelUri", ""): each.get("Version", "") for each in own}
    assert required.pop("http://opcfoundation.org/UA/")
    assert required.items() <= versions.items()
    mentioned = {uri.text for uri in root.iter(f"{UANODESET}Uri")} - {"urn:plant-1:plant"}
    assert mentioned == set(required)


def test_parents_stand_before_children_and_ids_stand_once(plant_file: ExportedFile) -> None:
    seen: set[str] = set()
    for node in Xml.fromstring(plant_file.xml):
        node_id = node.get("NodeId")
        if node_id is None:
            continue
        parent = node.get("ParentNodeId", "")
        assert not parent.startswith("ns=1;") or parent in seen
        assert node_id not in seen
        seen.add(node_id)
    assert len(seen) == plant_file.nodes


async def test_a_fresh_server_that_imports_the_files_has_the_same_nodes(
    model: Model, plant_file: ExportedFile
) -> None:
    server = Server()
    await server.init()
    await import_nodesets(server, model.nodesets)
    await server.import_xml(xmlstring=plant_file.xml, strict_mode=True)
    aspace = server.iserver.aspace
    ids = ua.AttributeIds
    for node in model.plant_nodes():
        imported = aspace[node].attributes
        for which in (ids.BrowseName, ids.NodeClass, ids.DataType, ids.ValueRank, ids.DisplayName):
            if which in imported:
                assert imported[which].value.Value.Value == model.attribute(node, which), (node, which)
        there = {(r.ReferenceTypeId, r.NodeId, r.IsForward) for r in aspace[node].references}
        assert there == {(r.ReferenceTypeId, r.NodeId, r.IsForward) for r in model.references(node)}
    # asyncua adds a NamespaceMetadata object of its own, with numeric ids.
    own = [n for n in list(aspace.keys()) if n.NamespaceIndex == 7 and isinstance(n.Identifier, str)]
    assert len(own) == plant_file.nodes
    for name in ("Press01.Process.die_temp.EURange", "Press01.Process.die_temp.EngineeringUnits"):
        found = aspace[ua.NodeId(name, 7)].attributes[ids.Value].value.Value.Value
        assert found == model.attribute(ua.NodeId(name, 7), ids.Value)
    await server.stop()


# --- commands ---------------------------------------------------------------------------------------------

TOML = """\
version = 1
[site]
name = "plant-1"
machine = "Press01"
[[devices]]
name = "press"
driver = "s7"
url = "s7://192.0.2.1?rack=0&slot=1"
tags = "press.csv"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "press.csv").write_text("name,address,unit\nspeed,DB1.DBD4:REAL,1/min\n")
    path = tmp_path / "press.toml"
    path.write_text(TOML)
    return path


def test_tags_export_needs_no_server(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tags", "export", str(file), "--format", "csv", "--device", "press"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[0]["NodeId"] == "ns=7;s=Press01.Process.speed"
    assert rows[0]["Address"] == "DB1.DBD4:REAL"


def test_nodesets_export_writes_the_files_in_load_order_and_says_their_versions(
    model: Model,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def built(*_: Any) -> Model:
        return model  # saves two seconds; tests/interop does it from scratch

    monkeypatch.setattr(exportcommands, "offline_model", built)
    out = tmp_path / "nodesets"
    assert main(["nodesets", "export", str(file), "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [Path(line.split("   ")[0]).name for line in said[:-1]] == [
        "di.subset.xml",
        "ia.subset.xml",
        "machinery.subset.xml",
        "machinery_result.subset.xml",
        "edge_opcua.xml",
        "plant-1.Press01.plant.xml",
    ]
    assert "1.05.0 of 2025-11-15" in said[0]
    assert all((out / Path(line.split("   ")[0]).name).is_file() for line in said[:-1])


def test_what_cannot_be_exported_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tags", "export", str(file), "--device", "oven"]) == 2
    assert "devices: press" in capsys.readouterr().err
    file.write_text("version = 2")
    assert main(["tags", "export", str(file)]) == 2
    assert main(["nodesets", "export", str(file), "--out", str(file)]) == 2


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for golden, content in exports(asyncio.run(build())).items():
        (GOLDEN / golden).write_bytes(content.encode())

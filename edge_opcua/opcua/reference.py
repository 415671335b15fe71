"""The reference page of the information model, written from our NodeSet2 file and the names of the nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as Xml

from edge_opcua.assets import nodesets_dir
from edge_opcua.opcua.namespaces import INFERENCE_URI, TYPE_URIS, Names, Namespace

_UA: Final = "{http://opcfoundation.org/UA/2011/03/UANodeSet.xsd}"
_FILE: Final = "edge_opcua.xml"
_TYPES: Final = ("UAObjectType", "UADataType")
_OPTIONAL: Final = "i=80"

_INSTANCES: Final = (
    ("a tag", Names("<machine>").tag("<tag>"), "unless its row in the tag table gives a `node_id`"),
    ("the name plate", Names("<machine>").identification, "MachineIdentificationType"),
    ("a waveform", Names("<machine>").capture("<capture>"), "CaptureType"),
    ("a pipeline", Names("<machine>").inference("<pipeline>"), "InferenceEngineType"),
    (
        "its methods",
        Names("<machine>").inference("<pipeline>", "LoadModel"),
        "LoadModel(Version, Sha256, ShadowCaptures, Note) → JobId",
    ),
    (
        "",
        Names("<machine>").inference("<pipeline>", "RollbackModel"),
        "RollbackModel(Note) → JobId",
    ),
    (
        "",
        Names("<machine>").inference("<pipeline>", "AnswerVerdict"),
        "AnswerVerdict(ResultId, Answer, Note)",
    ),
    (
        "what its model is watched for",
        Names("<machine>").inference("<pipeline>", "Watch"),
        "ModelWatchType; Shadow, ModelShadowType, alike",
    ),
    ("an output", Names("<machine>").output("<output>"), "OutputAuthorityType"),
    (
        "its methods",
        Names("<machine>").output("<output>", "Acknowledge"),
        "Acknowledge(Comment), and GrantAuthority, RevokeAuthority, TakeManual, ReturnToAutomatic alike",
    ),
    (
        "what it writes to a tag",
        Names("<machine>").output("<output>", "Values.<tag>"),
        "AnalogUnitRangeType, TwoStateDiscreteType … as the tag is",
    ),
    ("a device", Names.device("<device>"), "EdgeDeviceType, under Objects/DeviceSet"),
    ("its method", Names.device("<device>", "Poll"), "Poll(Group): reads a group of the device now"),
    ("the models", Names.MODELS, "ModelRepositoryType, under Objects"),
    ("their methods", f"{Names.MODELS}.LoadModel", "LoadModel(Name, Version, Sha256) → JobId"),
    ("", f"{Names.MODELS}.ValidateModel", "ValidateModel(Name, Version, Sha256) → JobId"),
    ("", f"{Names.MODELS}.RollbackModel", "RollbackModel(Name, Note) → JobId"),
    ("the youngest job", f"{Names.MODELS}.LastJob", "ModelJobType"),
    ("a model", "Models.<name>.<version>", "ModelType"),
    ("the records", Names.RECORDS, "RecordsType, under Objects"),
)


_TAG_TYPES: Final = (
    ("number, `low`, `high`, `unit`", "AnalogUnitRangeType", "EURange, EngineeringUnits"),
    ("number, `low`, `high`", "AnalogItemType", "EURange"),
    ("number, `unit`", "AnalogUnitType", "EngineeringUnits"),
    ("BOOL", "TwoStateDiscreteType", "TrueState, FalseState: columns `true_name`, `false_name`"),
    ("whole number, `states`", "MultiStateValueDiscreteType", "EnumValues, ValueAsText"),
    ("anything else", "DataItemType", ""),
    ("a capture's waveform", "YArrayItemType", "EURange, EngineeringUnits, Title, XAxisDefinition"),
)


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    kind: str
    description: str


def information_model_page() -> str:
    """Return the page, Markdown."""
    lines = [
        "# Information model",
        "",
        "What a client browses. Namespace indexes and NodeIds never change: a start that would move one is",
        "refused ([names that never move](identity.md)). The whole of it as files, without a server:",
        "[tag lists](../howto/import-into-ignition.md), [NodeSet2](../howto/offline-import.md). A tag is",
        'also found by its name, `FindAlias("<device>/<tag>")`.',
        "",
        "## Namespaces",
        "",
        "| index | URI |",
        "|---|---|",
        "| 0 | `http://opcfoundation.org/UA/` |",
        "| 1 | the server's ApplicationUri |",
        *(f"| {index} | `{uri}` |" for index, uri in enumerate(TYPE_URIS, int(Namespace.DI))),
        f"| {int(Namespace.PLANT)} | `urn:<site>:plant` |",
        "",
        "## Nodes of the plant",
        "",
        f"String NodeIds of namespace {int(Namespace.PLANT)}, made of names. A member adds a point and its",
        "BrowseName, e.g. `ns=7;s=Press01.Inference.press-anomaly.Score` or",
        "`ns=7;s=Devices.press.Connection.State`. A member that says *optional* is there where it has a",
        "meaning, e.g. GrantAuthority where operators grant authority.",
        "",
        "| what | NodeId | type |",
        "|---|---|---|",
        *(f"| {what} | `ns={int(Namespace.PLANT)};s={name}` | {kind} |" for what, name, kind in _INSTANCES),
        "",
        "## Types of tags",
        "",
        "Data Access (OPC 10000-8); percent deadbands work where there is an EURange. An array of numbers is",
        "of the same type with ValueRank 1.",
        "",
        "| a tag with | is a | with |",
        "|---|---|---|",
        *(f"| {what} | {kind} | {properties} |" for what, kind, properties in _TAG_TYPES),
        "",
        "A scaled tag says in its property Definition how it is calculated. Units have their UNECE code; one",
        "that has none keeps its text, with UnitId -1.",
        "",
        "## Events",
        "",
        "Events are seen on the object that sends them, on the machine, on Machines and on Server;",
        "[all of them, and how to filter](events.md).",
        "",
        f"## Types of `{INFERENCE_URI}`",
        "",
        *_type_sections(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _type_sections() -> Iterator[str]:
    root = Xml.parse(nodesets_dir() / _FILE).getroot()  # noqa: S314 - a file of this project
    aliases = {alias.text: alias.get("Alias", "") for alias in root.iter(f"{_UA}Alias")}
    nodes = {node.get("NodeId", ""): node for node in root if node.get("NodeId")}
    for node_id, node in nodes.items():
        if node.tag.removeprefix(_UA) not in _TYPES:
            continue
        number = node_id.rpartition("=")[2]
        yield from (f"### {_name(node)}", "")
        yield from (f"`ns={int(Namespace.INFERENCE)};i={number}` {_text(node, 'Description')}", "")
        fields = [(each.get("Name"), each.get("Value")) for each in node.iter(f"{_UA}Field")]
        if fields:
            yield from (", ".join(f"{value} {name}" for name, value in fields) + ".", "")
        members = list(_members(node_id, nodes, aliases))
        if members:
            yield from ("| member | type | means |", "|---|---|---|")
            yield from (f"| {each.name} | {each.kind} | {each.description} |" for each in members)
            yield ""


def _members(owner: str, nodes: dict[str, Xml.Element], aliases: dict[str | None, str]) -> Iterator[_Member]:
    for node in nodes.values():
        if node.get("ParentNodeId") != owner or _name(node) == "EnumStrings":
            continue
        kind = node.tag.removeprefix(_UA)
        if kind == "UAVariable":
            data_type = node.get("DataType", "BaseDataType")
            shown = _KNOWN.get(data_type, aliases.get(data_type, data_type))
            shown += "[]" if node.get("ValueRank") == "1" else ""
        elif kind == "UAMethod":
            shown = "method"
        else:
            shown = "object"
        optional = ", optional" if _is_optional(node) else ""
        yield _Member(_name(node), shown + optional, _text(node, "Description"))


def _is_optional(node: Xml.Element) -> bool:
    rules = (each for each in node.iter(f"{_UA}Reference") if each.get("ReferenceType") == "HasModellingRule")
    return any(rule.text == _OPTIONAL for rule in rules)


# Data types of other files, as this one's namespace table numbers them.
_KNOWN: Final = {
    "ns=1;i=3001": "LinkState",
    "ns=1;i=3002": "VerdictAnswer",
    "ns=2;i=6244": "DeviceHealthEnumeration",
    "ns=4;i=3002": "ResultEvaluationEnum",
}


def _name(node: Xml.Element) -> str:
    return _text(node, "DisplayName")


def _text(node: Xml.Element, tag: str) -> str:
    found = node.find(f"{_UA}{tag}")
    return "" if found is None else found.text or ""

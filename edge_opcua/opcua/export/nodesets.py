"""The information model as NodeSet2 files (Part 6 Annex F), for products that import it without a server.

Live values are left out; what says how to read them (ranges, units, texts, arguments) is in. The order is
that of the configuration, and every model says which versions it needs.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Callable, Iterator
from typing import Any, Final
from xml.etree import ElementTree as Xml

from asyncua import ua

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.opcua.export.offline import Model
from edge_opcua.opcua.namespaces import Namespace
from edge_opcua.opcua.nodesets import NodeSet, file_name

__all__ = ["ExportedFile", "instance_nodeset", "type_nodesets"]

_NODESET: Final = "http://opcfoundation.org/UA/2011/03/UANodeSet.xsd"
_TYPES: Final = "http://opcfoundation.org/UA/2008/02/Types.xsd"
_UA_URI: Final = "http://opcfoundation.org/UA/"
_VERSION: Final = "1.0.0"
# What our subsets need; the standard namespace of this version or later.
_UA_MODEL: Final = {"ModelUri": _UA_URI, "Version": "1.05.04", "PublicationDate": "2025-01-08T00:00:00Z"}
_TAGS: Final = {
    ua.NodeClass.Object: "UAObject",
    ua.NodeClass.Variable: "UAVariable",
    ua.NodeClass.Method: "UAMethod",
}
_PROPERTY: Final = ua.NodeId(ua.ObjectIds.PropertyType)
# Part 6 Annex F.5: attributes with their default are left out.
_VARIABLE_ATTRIBUTES: Final = (
    ("ValueRank", ua.AttributeIds.ValueRank, -1),
    ("AccessLevel", ua.AttributeIds.AccessLevel, 1),
    ("UserAccessLevel", ua.AttributeIds.UserAccessLevel, 1),
    ("Historizing", ua.AttributeIds.Historizing, False),
    ("MinimumSamplingInterval", ua.AttributeIds.MinimumSamplingInterval, 0),
)


@dataclasses.dataclass(frozen=True, slots=True)
class ExportedFile:
    """One NodeSet2 file.

    Args:
        name: File name.
        uri: Namespace it defines.
        version: Version of its model.
        published: Its publication date, ISO 8601.
        nodes: Number of nodes.
        xml: Content.
    """

    name: str
    uri: str
    version: str
    published: str
    nodes: int
    xml: bytes


def type_nodesets(model: Model) -> Iterator[ExportedFile]:
    """Yield the files of the types in load order, as the server loads them."""
    for nodeset in model.nodesets:
        root = Xml.fromstring(nodeset.xml)  # noqa: S314 - a file of the installation
        found = _model_of(nodeset, root)
        nodes = sum(node.get("NodeId") is not None for node in root)
        yield ExportedFile(
            file_name(nodeset), nodeset.uri, found["Version"], found["PublicationDate"], nodes, nodeset.xml
        )


def instance_nodeset(model: Model, config: EdgeConfig, *, published: dt.datetime) -> ExportedFile:
    """Return the file of the plant's namespace.

    Args:
        model: The information model.
        config: Where it came from.
        published: PublicationDate of the model: when the configuration changed last.
    """
    writer = _Writer(model)
    nodes = [writer.node(node) for node in model.plant_nodes()]
    uri = config.site.namespace_uri
    stamp = published.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    root = Xml.Element("UANodeSet", {"xmlns": _NODESET, "xmlns:uax": _TYPES})
    uris = Xml.SubElement(root, "NamespaceUris")
    for each in writer.uris:
        Xml.SubElement(uris, "Uri").text = each
    described = {"ModelUri": uri, "Version": _VERSION, "PublicationDate": stamp}
    own = Xml.SubElement(Xml.SubElement(root, "Models"), "Model", described)
    Xml.SubElement(own, "RequiredModel", _UA_MODEL)
    for nodeset in model.nodesets:
        if nodeset.uri in writer.uris:
            Xml.SubElement(own, "RequiredModel", _model_of(nodeset))
    root.extend(nodes)
    Xml.indent(root)
    content: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    name = f"{config.site.name}.{config.site.machine}.plant.xml"
    return ExportedFile(name, uri, _VERSION, stamp, len(nodes), content + b"\n")


def _model_of(nodeset: NodeSet, root: Xml.Element | None = None) -> dict[str, str]:
    """Return URI, version and date that a file declares for its own model."""
    parsed = Xml.fromstring(nodeset.xml) if root is None else root  # noqa: S314 - a file of the installation
    for found in parsed.iter(f"{{{_NODESET}}}Model"):
        if found.get("ModelUri") == nodeset.uri:
            keys = ("ModelUri", "Version", "PublicationDate")
            return {key: found.get(key, "") for key in keys if found.get(key)}
    return {"ModelUri": nodeset.uri}


class _Writer:
    """Writes nodes, and notes which namespaces they mention; the plant's is the first."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.uris = [model.uris[Namespace.PLANT]]

    def node(self, node: ua.NodeId) -> Xml.Element:
        """Return the element of a node."""
        model, ids = self._model, ua.AttributeIds
        kind = ua.NodeClass(model.attribute(node, ids.NodeClass))
        element = Xml.Element(
            _TAGS[kind],
            {"NodeId": self._id(node), "BrowseName": self._name(model.attribute(node, ids.BrowseName))},
        )
        above = model.parent(node)
        if above is not None:
            element.set("ParentNodeId", self._id(above.NodeId))
        self._attributes(element, node, kind)
        self._text(element, "DisplayName", model.attribute(node, ids.DisplayName))
        description = model.attribute(node, ids.Description)
        if description is not None and description.Text:
            self._text(element, "Description", description)
        self._references(element, node)
        if kind == ua.NodeClass.Variable:
            self._value(element, node)
        return element

    def _attributes(self, element: Xml.Element, node: ua.NodeId, kind: ua.NodeClass) -> None:
        model, ids = self._model, ua.AttributeIds
        if kind == ua.NodeClass.Object and model.attribute(node, ids.EventNotifier):
            element.set("EventNotifier", str(int(model.attribute(node, ids.EventNotifier))))
        if kind != ua.NodeClass.Variable:
            return
        element.set("DataType", self._id(model.attribute(node, ids.DataType)))
        for name, which, default in _VARIABLE_ATTRIBUTES:
            value = model.attribute(node, which)
            if value is not None and value != default:
                element.set(name, _plain(value))
        dimensions = model.attribute(node, ids.ArrayDimensions)
        if dimensions:
            element.set("ArrayDimensions", ",".join(map(str, dimensions)))

    def _references(self, element: Xml.Element, node: ua.NodeId) -> None:
        """Write a node's references; the one from its parent stands here, at the child, and only here."""
        references = Xml.SubElement(element, "References")
        for ref in self._model.references(node):
            inside = ref.NodeId.NamespaceIndex == Namespace.PLANT
            if inside and ref.IsForward and self._stands_below(ref, node):
                continue
            if inside and not ref.IsForward and not self._stands_below_of(ref, node):
                continue
            written = Xml.SubElement(
                references, "Reference", {"ReferenceType": self._id(ref.ReferenceTypeId)}
            )
            if not ref.IsForward:
                written.set("IsForward", "false")
            written.text = self._id(ref.NodeId)

    def _stands_below(self, ref: ua.ReferenceDescription, node: ua.NodeId) -> bool:
        above = self._model.parent(ref.NodeId)
        return above is not None and above.NodeId == node and above.ReferenceTypeId == ref.ReferenceTypeId

    def _stands_below_of(self, ref: ua.ReferenceDescription, node: ua.NodeId) -> bool:
        above = self._model.parent(node)
        return (
            above is not None and above.NodeId == ref.NodeId and above.ReferenceTypeId == ref.ReferenceTypeId
        )

    def _value(self, element: Xml.Element, node: ua.NodeId) -> None:
        """Write the value of a property; other variables are live."""
        variant = self._model.value(node)
        if self._model.type_definition(node) != _PROPERTY or variant is None:
            return
        if variant.Value is None or variant.VariantType == ua.VariantType.Null:
            return
        encoded = _Values(self._id).encoded(variant)
        if encoded is not None:
            Xml.SubElement(element, "Value").append(encoded)

    def _id(self, node: ua.NodeId) -> str:
        letter = "s" if isinstance(node.Identifier, str) else "i"
        prefix = f"ns={self._index(node.NamespaceIndex)};" if node.NamespaceIndex else ""
        return f"{prefix}{letter}={node.Identifier}"

    def _name(self, name: ua.QualifiedName) -> str:
        return f"{self._index(name.NamespaceIndex)}:{name.Name}" if name.NamespaceIndex else str(name.Name)

    def _index(self, index: int) -> int:
        uri = self._model.uris[index]
        if uri not in self.uris:
            self.uris.append(uri)
        return self.uris.index(uri) + 1

    def _text(self, element: Xml.Element, tag: str, text: ua.LocalizedText) -> None:
        written = Xml.SubElement(element, tag)
        written.text = text.Text
        if text.Locale:
            written.set("Locale", text.Locale)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, enum.IntEnum) else str(value)


class _Values:
    """Writes values in the XML encoding (Part 6 §5.3).

    Args:
        id_text: How a NodeId is written in this file.
    """

    def __init__(self, id_text: Callable[[ua.NodeId], str]) -> None:
        self._id_text = id_text

    def encoded(self, variant: ua.Variant) -> Xml.Element | None:
        """Return a value; None for a structure that is not of the standard namespace."""
        if not isinstance(variant.Value, list):
            return self._scalar(variant.Value, variant.VariantType)
        listed = Xml.Element(f"uax:ListOf{variant.VariantType.name}")
        for value in variant.Value:
            part = self._scalar(value, variant.VariantType)
            if part is None:
                return None
            listed.append(part)
        return listed

    def _scalar(self, value: Any, kind: ua.VariantType) -> Xml.Element | None:
        if kind == ua.VariantType.ExtensionObject:
            return self._structure(value)
        return self._field(f"uax:{kind.name}", value)

    def _structure(self, value: Any) -> Xml.Element | None:
        encoding = getattr(ua.ObjectIds, f"{type(value).__name__}_Encoding_DefaultXml", None)
        if encoding is None:
            return None
        outer = Xml.Element("uax:ExtensionObject")
        Xml.SubElement(Xml.SubElement(outer, "uax:TypeId"), "uax:Identifier").text = f"i={int(encoding)}"
        Xml.SubElement(outer, "uax:Body").append(self._fields(f"uax:{type(value).__name__}", value))
        return outer

    def _fields(self, tag: str, value: Any) -> Xml.Element:
        element = Xml.Element(tag)
        for field in dataclasses.fields(value):
            held = getattr(value, field.name)
            if held is not None and field.name != "Encoding":  # a mask of the binary encoding
                element.append(self._field(f"uax:{field.name}", held))
        return element

    def _field(self, tag: str, value: Any) -> Xml.Element:
        """Return one value under its name."""
        element = Xml.Element(tag)
        if isinstance(value, ua.NodeId):
            Xml.SubElement(element, "uax:Identifier").text = self._id_text(value)
        elif isinstance(value, list | tuple):
            element.extend(self._field(f"uax:{_list_item(item)}", item) for item in value)
        elif isinstance(value, enum.Enum):
            element.text = f"{value.name}_{value.value}"
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._fields(tag, value)
        else:
            element.text = _literal(value)
        return element


def _list_item(item: Any) -> str:
    return {bool: "Boolean", int: "UInt32", float: "Double", str: "String"}.get(
        type(item), type(item).__name__
    )


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None).isoformat() + "Z"
    return repr(value) if isinstance(value, float) else str(value)

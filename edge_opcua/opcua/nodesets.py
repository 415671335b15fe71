"""Reads the NodeSet2 files that the server loads: our subsets, or the full official files where given.

asyncua 2.1.0 refuses two things the official files contain; :func:`prepare` removes exactly those:

* nodes marked ``DesignToolOnly`` that have no parent (DI 1.05.0), with the references to them;
* default values that hold a structure of the file's own namespace (Machinery-Result 1.01.0), which a server
  overwrites anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as Xml

from edge_opcua.assets import nodesets_dir
from edge_opcua.errors import ConfigError
from edge_opcua.opcua.namespaces import DI_URI, IA_URI, INFERENCE_URI, MACHINERY_URI, RESULT_URI

if TYPE_CHECKING:
    from asyncua import Server

_UA: Final = "{http://opcfoundation.org/UA/2011/03/UANodeSet.xsd}"
_TYPES: Final = "{http://opcfoundation.org/UA/2008/02/Types.xsd}"

# In load order: each needs only those before it.
_OURS: Final = {
    DI_URI: "di.subset.xml",
    IA_URI: "ia.subset.xml",
    MACHINERY_URI: "machinery.subset.xml",
    RESULT_URI: "machinery_result.subset.xml",
    INFERENCE_URI: "edge_opcua.xml",
}
OFFICIAL: Final = {
    DI_URI: "Opc.Ua.Di.NodeSet2.xml",
    IA_URI: "Opc.Ua.IA.NodeSet2.xml",
    MACHINERY_URI: "Opc.Ua.Machinery.NodeSet2.xml",
    RESULT_URI: "Opc.Ua.Machinery_Result.NodeSet2.xml",
}


@dataclass(frozen=True, slots=True)
class NodeSet:
    """One file, ready to be imported.

    Args:
        uri: Namespace it defines.
        xml: Its content.
        official: Whether it is the full official file.
    """

    uri: str
    xml: bytes
    official: bool = False


def file_name(nodeset: NodeSet) -> str:
    """Return the name of the file a nodeset came from."""
    return OFFICIAL[nodeset.uri] if nodeset.official else _OURS[nodeset.uri]


def read_nodesets(official: Path | None = None) -> tuple[NodeSet, ...]:
    """Read every nodeset in load order; does file I/O, so call it before the event loop runs.

    Args:
        official: Folder with official NodeSet2 files under their official names. Those found there are
            used instead of our subsets; the DI file alone, or with those after it.

    Raises:
        ConfigError: A file cannot be read or is not a NodeSet2 file of its namespace.
    """
    return tuple(_read(uri, official) for uri in _OURS)


def _read(uri: str, official: Path | None) -> NodeSet:
    name = OFFICIAL.get(uri)
    if official is not None and name is not None and (path := official / name).is_file():
        return NodeSet(uri, prepare(_bytes_of(path, uri)), official=True)
    return NodeSet(uri, _bytes_of(nodesets_dir() / _OURS[uri], uri))


def _bytes_of(path: Path, uri: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"nodeset {path} cannot be read: {exc.strerror}") from exc
    try:
        root = Xml.fromstring(content)  # noqa: S314 - a file of the installation or the operator, not of a client
    except Xml.ParseError as exc:
        raise ConfigError(f"nodeset {path} is not XML: {exc}") from exc
    if uri not in [model.get("ModelUri") for model in root.iter(f"{_UA}Model")]:
        raise ConfigError(f"nodeset {path} does not define the namespace {uri}")
    return content


def prepare(content: bytes) -> bytes:
    """Return an official NodeSet2 file without what asyncua cannot import (see the module's text)."""
    root = Xml.fromstring(content)  # noqa: S314 - parsed once already, see _bytes_of
    orphans = {
        node.get("NodeId")
        for node in root
        if node.get("DesignToolOnly") == "true" and node.get("ParentNodeId") is None
    }
    for node in list(root):
        if node.get("NodeId") in orphans:
            root.remove(node)
            continue
        for references in node.findall(f"{_UA}References"):
            for reference in list(references):
                if reference.text in orphans:
                    references.remove(reference)
        for value in node.findall(f"{_UA}Value"):
            if any((type_id.text or "").startswith("ns=") for type_id in _structures(value)):
                node.remove(value)
    return Xml.tostring(root)


def _structures(value: Xml.Element) -> list[Xml.Element]:
    return value.findall(f".//{_TYPES}ExtensionObject/{_TYPES}TypeId/{_TYPES}Identifier")


async def import_nodesets(server: Server, nodesets: tuple[NodeSet, ...]) -> None:
    """Import nodesets into a server whose namespaces are registered, and load their structures.

    Raises:
        ConfigError: asyncua refuses a file.
    """
    for nodeset in nodesets:
        try:
            await server.import_xml(xmlstring=nodeset.xml, strict_mode=True)
        except Exception as exc:
            raise ConfigError(f"nodeset of {nodeset.uri} cannot be imported: {exc!r}") from exc
    await server.load_data_type_definitions()

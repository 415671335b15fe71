"""Which namespace an address means: indices are a server's own and may change with every restart of it."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from typing import Any

from asyncua import ua

from edge_opcua.drivers.opcuaclient.address import Node
from edge_opcua.drivers.wire import Fault, FaultKind


class Names:
    """The namespaces of a server, now and when an address with an index was first used.

    Attributes:
        uris: URI of each index now.
    """

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._first: dict[int, str] = {}

    def learn(self, uris: Sequence[str]) -> None:
        """Take note of what the server says after connecting."""
        self.uris = list(uris)
        for index, uri in enumerate(uris):
            self._first.setdefault(index, uri)

    def resolve(self, node: Node) -> Any:
        """Return the NodeId as the server knows it now, or the refusal if there is no such namespace."""
        index = self._index(node)
        if isinstance(index, Fault):
            return index
        if node.kind == "i":
            return ua.NodeId(int(node.identifier), index)
        if node.kind == "s":
            return ua.NodeId(node.identifier, index)
        if node.kind == "g":
            return ua.NodeId(uuid.UUID(node.identifier), index, ua.NodeIdType.Guid)
        return ua.NodeId(base64.b64decode(node.identifier), index, ua.NodeIdType.ByteString)

    def _index(self, node: Node) -> int | Fault:
        if not node.namespace:
            return 0
        uri = node.namespace
        if isinstance(uri, int):
            meant = self._first.get(uri)
            if meant is None:
                return self._none(node, f"the server has no namespace {uri}")
            if uri < len(self.uris) and self.uris[uri] == meant:
                return uri
            uri = meant
        if uri not in self.uris:
            return self._none(node, f"the server has no namespace {uri}")
        return self.uris.index(uri)

    @staticmethod
    def _none(node: Node, text: str) -> Fault:
        return Fault(FaultKind.ADDRESS, f"D375 read of {node}: {text}")

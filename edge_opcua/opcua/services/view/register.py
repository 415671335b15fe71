"""RegisterNodes, UnregisterNodes (Part 4 §5.9.5): our NodeIds are found at once, there are no faster ones.

So the answer is the list of the request, whose bytes are looked through and sent back.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from asyncua import ua
from asyncua.ua.ua_binary import nodeid_to_binary

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.service import Caller, Reply, Service

__all__ = ["Registration"]

_COUNT: Final = struct.Struct("<i")
_LENGTH_AT: Final = 3
_STRINGS: Final = frozenset((3, 5))
# Part 6 §5.2.2.9: bytes of the other forms of a NodeId.
_FIXED: Final = {0: 2, 1: 4, 2: 7, 4: 19}


def _type_id(name: str) -> bytes:
    return bytes(nodeid_to_binary(ua.NodeId(getattr(ua.ObjectIds, f"{name}Response_Encoding_DefaultBinary"))))


class Registration:
    """The two services.

    Args:
        limits: Most nodes in one request, longest string.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self._most = limits.operations.register
        self._longest = limits.string_bytes
        self._registered = _type_id("RegisterNodes")
        self._unregistered = _type_id("UnregisterNodes")

    def services(self) -> dict[str, Service]:
        """RegisterNodes, UnregisterNodes."""
        return {
            "RegisterNodes": Service(
                ua.RegisterNodesParameters,
                _register,
                ("NodesToRegister",),
                self._most,
                raw=self._register_raw,
            ),
            "UnregisterNodes": Service(
                ua.UnregisterNodesParameters,
                _unregister,
                ("NodesToUnregister",),
                self._most,
                raw=self._unregister_raw,
            ),
        }

    def _register_raw(self, _: Caller, whole: bytes, at: int, reply: Reply) -> bool:
        good = self._is_list(whole, at)
        if good:
            reply.send_bytes(self._registered, whole[at:])
        return good

    def _unregister_raw(self, _: Caller, whole: bytes, at: int, reply: Reply) -> bool:
        good = self._is_list(whole, at)
        if good:
            reply.send_bytes(self._unregistered, b"")
        return good

    def _is_list(self, whole: bytes, at: int) -> bool:
        """Whether this is a list of NodeIds up to the end; what is refused, and why, the codec says."""
        try:
            (count,) = _COUNT.unpack_from(whole, at)
            if not 0 < count <= self._most:
                return False
            at += _COUNT.size
            for _ in range(count):
                form = whole[at]
                if form in _STRINGS:
                    (length,) = _COUNT.unpack_from(whole, at + _LENGTH_AT)
                    if not 0 <= length <= self._longest:
                        return False
                    at += _LENGTH_AT + _COUNT.size + length
                else:
                    at += _FIXED[form]
        except (KeyError, IndexError, struct.error):
            return False
        return at == len(whole)


def _register(_: Caller, params: ua.RegisterNodesParameters) -> ua.RegisterNodesResponse:
    response = ua.RegisterNodesResponse()
    response.Parameters.RegisteredNodeIds = params.NodesToRegister
    return response


def _unregister(_: Caller, params: Any) -> ua.UnregisterNodesResponse:
    del params  # nothing was kept
    return ua.UnregisterNodesResponse()

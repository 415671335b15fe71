"""Long work in slices: a request over ten thousand nodes lets everybody else have his turn in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, Final, TypeVar

from asyncua.ua.ua_binary import nodeid_to_binary, struct_to_binary

_T = TypeVar("_T")

# About a millisecond of work, so that a slice is hardly longer than any other request.
SLICE: Final = 250
_LIST_LENGTH: Final = 4
_NO_DIAGNOSTICS: Final = b"\x00\x00\x00\x00"


class Encoded:
    """A response whose body is encoded already: ``Results``, and no ``DiagnosticInfos``.

    Args:
        response: The response it stands for; only its type and its header are looked at.
        body: What follows the header.
    """

    def __init__(self, response: Any, body: bytes) -> None:
        self.ResponseHeader = response.ResponseHeader
        self._type_id = response.TypeId
        self._body = body

    def to_binary(self) -> bytes:
        """Return the whole message."""
        head = nodeid_to_binary(self._type_id) + struct_to_binary(self.ResponseHeader)
        return bytes(head + self._body)


def begin(work: Generator[None, None, _T]) -> _T | Coroutine[Any, Any, _T]:
    """Do the first slice now; returns the result if that was all, else a coroutine that does the rest."""
    try:
        next(work)
    except StopIteration as done:
        result: _T = done.value
        return result
    return _go_on(work)


async def _go_on(work: Generator[None, None, _T]) -> _T:
    while True:
        await asyncio.sleep(0)
        try:
            next(work)
        except StopIteration as done:
            result: _T = done.value
            return result


def answer(
    response: Any, results: Sequence[Any], weight: Callable[[Any], int] | None = None
) -> Generator[None, None, Any]:
    """Return a response with these results; if they weigh more than a slice they are encoded slice by slice.

    Args:
        response: An empty response whose body is ``Results`` and ``DiagnosticInfos``.
        results: Structures of one class.
        weight: How much work one of them is to encode; 1 if not given.
    """
    total = sum(map(weight, results)) if weight is not None else len(results)
    if total <= SLICE:
        body = response.Parameters if hasattr(response, "Parameters") else response
        body.Results = list(results)
        return response
    parts = [len(results).to_bytes(_LIST_LENGTH, "little", signed=True)]
    done = 0
    for result in results:
        parts.append(struct_to_binary(result))
        done += 1 if weight is None else weight(result)
        if done >= SLICE:
            done = 0
            yield
    parts.append(_NO_DIAGNOSTICS)
    return Encoded(response, b"".join(parts))

"""Long work in slices: a request over ten thousand nodes lets everybody else have his turn in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import nodeid_to_binary, struct_to_binary

_T = TypeVar("_T")

# About a millisecond of work, so that a slice is hardly longer than any other request.
SLICE: Final = 250
_LIST_LENGTH: Final = 4
_NO_DIAGNOSTICS: Final = b"\x00\x00\x00\x00"


class Encoded:
    """A response whose body is encoded already.

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


# One for each event loop: whoever works in slices waits here for his turn.
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class Rest(Generic[_T]):
    """What is left of a long work after its first slice; await it to have it done and get its result.

    Of all long works together one slice is done at a time, each work in its turn: thirty of them at once are
    slower each, and what is short waits no longer than for one.
    """

    def __init__(self, work: Generator[None, None, _T]) -> None:
        self._work = work

    def slices(self) -> Generator[None, None, _T]:
        """Return it as a part of another long work, instead of awaiting it."""
        return self._work

    def __await__(self) -> Generator[Any, None, _T]:
        return self._go_on().__await__()

    async def _go_on(self) -> _T:
        turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        while True:
            async with turn:
                await asyncio.sleep(0)
                try:
                    next(self._work)
                except StopIteration as done:
                    result: _T = done.value
                    return result


class Pace:
    """How much work a slice still has room for."""

    def __init__(self) -> None:
        self._left = SLICE

    def is_over(self, units: int = 1) -> bool:
        """Count some work that was done; whether the slice ends here, and another begins."""
        self._left -= units
        if self._left > 0:
            return False
        self._left = SLICE
        return True


def begin(work: Generator[None, None, _T]) -> _T | Rest[_T]:
    """Do the first slice, up to the first ``yield``; return the result if that was all, else the rest."""
    try:
        next(work)
    except StopIteration as done:
        result: _T = done.value
        return result
    return Rest(work)


def answer(
    response: Any, results: Sequence[Any], most_bytes: int, weight: Callable[[Any], int] | None = None
) -> Generator[None, None, Any]:
    """Return a response with these results; if they weigh more than a slice they are encoded slice by slice.

    Args:
        response: An empty response whose body is ``Results`` and ``DiagnosticInfos``.
        results: Structures of one class.
        most_bytes: Largest answer.
        weight: How much work one of them is to encode; 1 if not given.

    Raises:
        ServiceError: BadResponseTooLarge.
    """
    total = sum(map(weight, results)) if weight is not None else len(results)
    if total <= SLICE:
        body = response.Parameters if hasattr(response, "Parameters") else response
        body.Results = list(results)
        return response
    parts = [len(results).to_bytes(_LIST_LENGTH, "little", signed=True)]
    done = size = 0
    for result in results:
        if done >= SLICE:
            done = 0
            yield
        part = struct_to_binary(result)
        size += len(part)
        if size > most_bytes:
            raise ServiceError(ua.StatusCodes.BadResponseTooLarge)
        parts.append(part)
        done += 1 if weight is None else weight(result)
    parts.append(_NO_DIAGNOSTICS)
    return Encoded(response, b"".join(parts))

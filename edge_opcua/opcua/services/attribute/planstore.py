"""Keeps what was worked out of clients' requests, within bounds, and no client at the cost of the others."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import Any, Final, Generic, Protocol, TypeVar

from edge_opcua.opcua.services.shares import Shares

# Bodies that each client sent once; who reads more different lists in turn has none of them kept.
SEEN: Final = 512
# A body that is longer is told from others by so many of its bytes first.
_SAMPLE_BYTES: Final = 512


class Kept(Protocol):
    """What is kept.

    Attributes:
        cost: What it takes beside the body it was made of, bytes.
    """

    cost: int


_K = TypeVar("_K", bound=Kept)


class _Own(Generic[_K]):
    """What is kept for one client, the longest unused first, and what it sent once."""

    def __init__(self) -> None:
        self.entries: dict[Hashable, _Entry[_K]] = {}
        self.seen: dict[int, None] = {}


class _Entry(Generic[_K]):
    """One thing that is kept, and the body it was made of."""

    __slots__ = ("body", "cost", "kept", "owner")

    def __init__(self, body: bytes, kept: _K, owner: _Own[_K]) -> None:
        self.body = body
        self.cost = len(body) + kept.cost
        self.kept = kept
        self.owner = owner


class PlanStore(Generic[_K]):
    """Finds by the bytes of a request what was made of the same bytes before, whoever sent them.

    Something is kept when its bytes come for the second time from the same client: the first time nobody
    knows whether they ever come again, and to keep what does not costs more than to work it out. It counts
    for the client that sent it, who has at most half of what the others left (:class:`Shares`) and loses what
    it has not used for longest when it sends more; with the client all that was kept for it goes.

    Args:
        total_bytes: Largest cost of all that is kept.
    """

    def __init__(self, total_bytes: int) -> None:
        self._shares = Shares(total_bytes)
        self._entries: dict[Hashable, _Entry[_K]] = {}
        self._owners: dict[weakref.ref[Any], _Own[_K]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def cost(self) -> int:
        """What all that is kept takes, bytes."""
        return int(self._shares.taken)

    def find(self, body: bytes) -> _K | None:
        """Return what was made of a body, None if nothing is kept."""
        key = _key(body)
        entry = self._entries.get(key)
        if entry is None or entry.body != body:
            return None
        entries = entry.owner.entries
        entries[key] = entries.pop(key)  # the last one used
        return entry.kept

    def keep(self, client: object, body: bytes, kept: _K) -> None:
        """Keep what was made of a body, if this client sends it for the second time and has room.

        Args:
            client: Who sent it; can be referred to weakly.
            body: The bytes, of which nothing is kept yet.
            kept: What was made of them.
        """
        own = self._own(client)
        number = hash(body)
        if number not in own.seen:
            if len(own.seen) >= SEEN:
                del own.seen[next(iter(own.seen))]
            own.seen[number] = None
            return
        key = _key(body)
        entry = _Entry(body, kept, own)
        before = self._entries.get(key)
        if before is not None:  # another list that looks the same, or somebody was faster
            self._drop(before.owner, key)
        while entry.cost > self._shares.room(own) and own.entries:
            self._drop(own, next(iter(own.entries)))
        if entry.cost <= self._shares.room(own):
            self._shares.take(own, entry.cost)
            self._entries[key] = own.entries[key] = entry

    def _own(self, client: object) -> _Own[_K]:
        own = self._owners.get(weakref.ref(client))
        if own is None:
            own = self._owners[weakref.ref(client, self._gone)] = _Own()
        return own

    def _gone(self, client: weakref.ref[Any]) -> None:
        own = self._owners.pop(client, None)
        for key in tuple(own.entries) if own is not None else ():
            self._drop(own, key)  # type: ignore[arg-type]  # there are keys

    def _drop(self, own: _Own[_K], key: Hashable) -> None:
        entry = own.entries.pop(key)
        self._shares.give(own, entry.cost)
        del self._entries[key]


def _key(body: bytes) -> Hashable:
    """Return what tells bodies apart well enough; hashing all of a long one costs as much as its answer."""
    size = len(body)
    return body if size <= _SAMPLE_BYTES else (size, body[:: size // _SAMPLE_BYTES | 1])

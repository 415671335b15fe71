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
        self.cost = 2 * len(body) + kept.cost  # once as it came, and texts once more as they were decoded
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
        # By key, for each client one: those that only look alike cannot push out one another.
        self._entries: dict[Hashable, list[_Entry[_K]]] = {}
        self._owners: dict[weakref.ref[Any], _Own[_K]] = {}

    def __len__(self) -> int:
        return sum(len(own.entries) for own in self._owners.values())

    @property
    def cost(self) -> int:
        """What all that is kept takes, bytes."""
        return int(self._shares.taken)

    def find(self, body: bytes) -> _K | None:
        """Return what was made of a body, None if nothing is kept."""
        key = _key(body)
        for entry in self._entries.get(key, ()):
            if entry.body == body:
                entries = entry.owner.entries
                entries[key] = entries.pop(key)  # the last one used
                return entry.kept
        return None

    def comes_again(self, client: object, body: bytes) -> bool:
        """Whether a client sent these bytes not long ago; it is remembered that it does now.

        Args:
            client: Who sent it; can be referred to weakly.
            body: The bytes.
        """
        seen = self._own(client).seen
        number = hash(body)
        if number in seen:
            return True
        if len(seen) >= SEEN:
            del seen[next(iter(seen))]
        seen[number] = None
        return False

    def keep(self, client: object, body: bytes, kept: _K) -> None:
        """Keep what was made of a body, if this client has room for it or makes some.

        Args:
            client: Who sent it; can be referred to weakly.
            body: The bytes.
            kept: What was made of them.
        """
        own = self._own(client)
        key = _key(body)
        if key in own.entries:  # another list that looks the same, or the same while this one was worked on
            self._drop(own, key)
        entry = _Entry(body, kept, own)
        while entry.cost > self._shares.room(own) and own.entries:
            self._drop(own, next(iter(own.entries)))
        if entry.cost <= self._shares.room(own):
            self._shares.take(own, entry.cost)
            own.entries[key] = entry
            self._entries.setdefault(key, []).append(entry)

    def clear(self) -> None:
        """Let go of all that is kept."""
        for own in self._owners.values():
            for key in tuple(own.entries):
                self._drop(own, key)

    def _own(self, client: object) -> _Own[_K]:
        own = self._owners.get(weakref.ref(client))
        if own is None:
            own = self._owners[weakref.ref(client, self._gone)] = _Own()
        return own

    def _gone(self, client: weakref.ref[Any]) -> None:
        own = self._owners.pop(client)
        for key in tuple(own.entries):
            self._drop(own, key)

    def _drop(self, own: _Own[_K], key: Hashable) -> None:
        entry = own.entries.pop(key)
        self._shares.give(own, entry.cost)
        alike = self._entries[key]
        alike.remove(entry)
        if not alike:
            del self._entries[key]


def _key(body: bytes) -> Hashable:
    """Return what tells bodies apart well enough; hashing all of a long one costs as much as its answer."""
    size = len(body)
    return body if size <= _SAMPLE_BYTES else (size, body[:: size // _SAMPLE_BYTES | 1])

"""Writes whose effect nobody knows: remembered until the tag is read again, and watched for a while; pure.

A write that timed out is not a write that failed (measured: reference plc.md §6.1): a device that stood still
takes what lay in its connection when it goes on, also minutes after the link came back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from edge_opcua.drivers.writeterms import WriteTerms, is_same

WATCH_S: Final = 900.0  # TCP may repeat what was not acknowledged for a quarter of an hour
MOST: Final = 64


class Fate(Enum):
    """What became of a write without an answer; the value is the sentence of the record."""

    LANDED = "landed late: the device holds the value now"
    DONE = "was done: the device holds the value"
    DONE_LATE = "was done after its caller had given up"
    REFUSED_LATE = "was refused after its caller had given up"
    NOT_LANDED = "did not land so far: the device holds what it held before"
    PUT_BACK = "is not seen: it did not land, or the device has already put it back"
    OTHER = "cannot be told: the device holds another value"
    SAME = "cannot be told: the device holds the value, and may have held it anyway"
    FORGOTTEN = "will not be known: the tag was not read before the watch ended"

    @property
    def late(self) -> bool:
        """Whether it took effect at a time nobody chose."""
        return self in (Fate.LANDED, Fate.DONE_LATE)


_SETTLED: Final = (Fate.LANDED, Fate.DONE, Fate.SAME)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A write whose effect is not known.

    Args:
        tag: Name of the tag in its device.
        terms: Who wrote it, why and how.
        old: What the device was seen to hold before, as readers see it; None: not known.
        new: What was written, as readers see it.
        since_ns: Monotonic time at which it was given up, ns.
        momentary: Whether the device may have put the value back.
        taken: Whether the device had said that it took the value, and only reading it back failed.
        seen: Mark of the last time the tag had been read; any other is a look at the device since.
    """

    tag: str
    terms: WriteTerms
    old: Any
    new: Any
    since_ns: int
    momentary: bool = False
    taken: bool = False
    seen: Hashable = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a write, after its caller was answered.

    Args:
        doubt: The write.
        fate: What became of it.
        held: What the device holds now.
        after_s: Time since it was given up, seconds.
    """

    doubt: Doubt
    fate: Fate
    held: Any = None
    after_s: float = 0.0


@dataclass(slots=True)
class _Watched:
    doubt: Doubt
    until_ns: int = 0  # 0: not read again yet
    held: Any = None

    def is_of(self, value: Any) -> bool:
        """Return whether a value is the one that was written."""
        return is_same(self.doubt.new, value, self.doubt.terms.tolerance)


class Doubts:
    """The register of one device; bounded, and kept while links come and go.

    Attributes:
        begun: How many writes each tag has had that nobody knew the effect of when their caller was told.
        landed: How many of them took effect late.
    """

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.landed: Counter[str] = Counter()
        self._watched: list[_Watched] = []

    def __len__(self) -> int:
        return len(self._watched)

    @property
    def tags(self) -> frozenset[str]:
        """Tags with a write that is not judged yet, or watched."""
        return frozenset(each.doubt.tag for each in self._watched)

    def add(self, doubt: Doubt) -> list[Finding]:
        """Remember a write; returns what had to be forgotten for it."""
        self.begun[doubt.tag] += 1
        forgotten = []
        if len(self._watched) >= MOST:
            oldest = min(self._watched, key=lambda each: not each.until_ns)  # rather one that was judged
            self._watched.remove(oldest)
            if not oldest.until_ns:
                after_s = (doubt.since_ns - oldest.doubt.since_ns) / 1e9
                forgotten.append(Finding(oldest.doubt, Fate.FORGOTTEN, None, after_s))
        self._watched.append(_Watched(doubt))
        return forgotten

    def end(self, now_ns: int) -> list[Finding]:
        """Stop watching; returns the writes of which nothing is known."""
        unknown = [each.doubt for each in self._watched if not each.until_ns]
        self._watched.clear()
        return [Finding(doubt, Fate.FORGOTTEN, None, (now_ns - doubt.since_ns) / 1e9) for doubt in unknown]

    def note(self, tag: str, fate: Fate) -> None:
        """Count a write that is known by now, although its caller was told that nobody knows."""
        self.begun[tag] += 1
        self.landed[tag] += fate.late

    def look(self, tag: str, held: Any, seen: Hashable, now_ns: int) -> list[Finding]:
        """Judge what a tag holds now.

        Args:
            tag: Its name.
            held: Its value; None if it is Bad.
            seen: Mark of this reading; one that is known says nothing.
            now_ns: Monotonic time, ns.
        """
        if held is None:
            return []
        findings = []
        for each in [each for each in self._watched if each.doubt.tag == tag and each.doubt.seen != seen]:
            fate = self._judge(each, held, now_ns)
            each.held = held
            if fate is not None:
                self.landed[tag] += fate.late
                findings.append(Finding(each.doubt, fate, held, (now_ns - each.doubt.since_ns) / 1e9))
            if fate in _SETTLED or now_ns >= each.until_ns:
                self._watched.remove(each)
        return findings

    def wrote(self, tag: str, new: Any) -> None:
        """Note that a later write of ours has put a value there: the same one again cannot be told apart."""
        for each in [each for each in self._watched if each.doubt.tag == tag and each.is_of(new)]:
            if each.until_ns:
                self._watched.remove(each)
            else:
                each.doubt = replace(each.doubt, old=None)

    @staticmethod
    def _judge(each: _Watched, held: Any, now_ns: int) -> Fate | None:
        """Return what is news of a write, if anything is."""
        if each.until_ns:
            arrived = each.is_of(held) and not each.is_of(each.held)
            return Fate.LANDED if arrived and now_ns < each.until_ns else None
        each.until_ns = now_ns + int(1e9 * WATCH_S)
        return _first_fate(each, held)


def _first_fate(each: _Watched, held: Any) -> Fate:
    doubt = each.doubt
    if each.is_of(held) and doubt.taken:
        return Fate.DONE
    if each.is_of(held):
        return Fate.SAME if doubt.old is None or each.is_of(doubt.old) else Fate.LANDED
    if doubt.momentary:
        return Fate.PUT_BACK
    return Fate.NOT_LANDED if doubt.old is not None and is_same(doubt.old, held) else Fate.OTHER

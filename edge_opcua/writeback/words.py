"""The status area of the interface block: from what is to be said to the bytes of one request; pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.eai import EaiMap, ErrorCode, ResultField, Stat, StatusWord
from edge_opcua.writeback.handshake import Answer
from edge_opcua.writeback.judged import Judged

_ALL: int = 0xFFFF
_DINT_END: Final = (1 << 31) - 0.5
_MEASURES: Final = ("score", "confidence")
_BUSY = int(Stat.BUSY | Stat.TRIGGER_READY)


@dataclass(frozen=True, slots=True)
class Status:
    """What the edge says.

    Args:
        stat: Bits.
        heartbeat: EdgeHeartbeat.
        echo: EchoPlcHeartbeat.
        sequence: ResultSeq, head and tail.
        answer: The result.
        error: ErrorCode.
        command: CommandEcho.
        uncertain: Whether no value of the result is Good any more.
    """

    stat: Stat
    heartbeat: int
    echo: int
    sequence: int
    answer: Answer
    error: ErrorCode = ErrorCode.NONE
    command: int = 0
    uncertain: bool = False


class Layout:
    """Where everything lies in the status area, worked out once: an area is packed dozens of times a second.

    Args:
        eai: The map.

    Attributes:
        version: InterfaceVersion.
        results: Where each value of a result lies.
    """

    def __init__(self, eai: EaiMap) -> None:
        self.eai = eai
        self.version = eai.version
        self.results = eai.results
        self._tail = eai.tail_word
        self._words = struct.Struct(f">{eai.status_words}H")

    def pack(self, status: Status) -> bytes:
        """Return the whole status area, each word with its high byte first."""
        answer = status.answer
        words = [0] * (self._tail + 1)
        words[StatusWord.STAT] = int(status.stat) & 0xFFFF
        words[StatusWord.EDGE_HEARTBEAT] = status.heartbeat
        words[StatusWord.ECHO_PLC_HEARTBEAT] = status.echo
        words[StatusWord.RESULT_SEQ] = words[self._tail] = status.sequence
        words[StatusWord.COMMAND_ECHO] = status.command
        words[StatusWord.RESULT_CODE] = int(answer.code)
        words[StatusWord.ERROR_CODE] = int(status.error)
        words[StatusWord.MODEL_ID] = answer.model_id
        words[StatusWord.MODEL_VERSION] = answer.model_version
        words[StatusWord.INFERENCE_MS] = answer.inference_ms
        words[StatusWord.QUALITY_MASK] = _ALL if status.uncertain else answer.bad
        words[StatusWord.INTERFACE_VERSION] = self.version
        for field, value in zip(self.results, answer.values, strict=False):
            two = _two_words(field, value, high_first=self.eai.high_first)
            words[field.word : field.word + 2] = two
        return self._words.pack(*words)


def only_says_busy(before: bytes, after: bytes) -> bool:
    """Return whether nothing is news but that a result is being worked out.

    That can wait for the next heartbeat: a write of its own would be under way when the result comes.
    """
    if before[2:] != after[2:]:
        return False
    old, new = (int.from_bytes(each[:2], "big") for each in (before, after))
    return (old ^ new) & ~_BUSY == 0 and not new & Stat.TRIGGER_READY


def from_words(words: Sequence[int]) -> bytes:
    """Return the bytes of words that were read; some protocols give them with a sign."""
    return struct.pack(f">{len(words)}H", *(int(word) & 0xFFFF for word in words))


def answer_of(eai: EaiMap, judged: Judged, *, simulated: bool = False) -> Answer:
    """Return a result as the PLC gets it; what is Bad is 0 and marked."""
    values = [_fitting(field, judged.value(field.config.source)) for field in eai.results]
    bad = 0
    for field in eai.results:
        bad |= (values[field.index] is None) << eai.quality_bit(field.index)
    if judged.degraded:
        bad = _ALL >> max(0, 16 - len(values))
    return Answer(
        cycle=judged.cycle,
        values=tuple(0.0 if value is None else value for value in values),
        bad=bad,
        code=judged.code,
        degraded=judged.degraded,
        simulated=simulated,
        model_id=judged.model_id,
        model_version=judged.model_version & 0xFFFF,
        inference_ms=judged.whole_ms,
    )


def _fitting(field: ResultField, value: float | None) -> float | None:
    """Return a value, or None if it is a measure that its DINT cannot hold; only counters wrap."""
    if value is None or field.config.type == "REAL" or field.config.source not in _MEASURES:
        return value
    return value if abs(value) < _DINT_END else None


def safe_answer(eai: EaiMap, verdict: int) -> Answer:
    """Return what stands for no result: the fail-safe verdict, and no other value."""
    values = tuple(float(verdict) if field.config.source == "verdict" else 0.0 for field in eai.results)
    return Answer(values=values, bad=_ALL >> max(0, 16 - len(values)))


def _two_words(field: ResultField, value: float, *, high_first: bool) -> tuple[int, int]:
    packed = struct.pack(">f", value) if field.config.type == "REAL" else _whole(value)
    high, low = struct.unpack(">HH", packed)
    return (high, low) if high_first else (low, high)


def _whole(value: float) -> bytes:
    """Return a DINT; counters beyond its range keep their lower 32 bits."""
    return struct.pack(">I", round(value) & 0xFFFF_FFFF)

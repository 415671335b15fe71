"""The block of bytes a PLC gets: heartbeat, authority, verdict, and the sequence at both ends; pure.

========= ======= ==================================================================================
byte      type    meaning
========= ======= ==================================================================================
0         UINT    heartbeat, 1..65535; 0 says that the edge has just started
2         BOOL    bit 0: authority
4         INT     verdict: 0 undefined, 1 OK, 2 not OK, 3 not decidable
6         INT     result code
8         UDINT   sequence: the stroke that the verdict is about
12        REAL    score, 1.0 is the limit
16        UDINT   sequence again: differs while a write is only half there
========= ======= ==================================================================================
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from edge_opcua.core.values import Verdict

_LAYOUT: Final = struct.Struct(">HBxhhIfI")
SIZE_BYTES: Final = _LAYOUT.size
HIGHEST_HEARTBEAT: Final = 65_535


class Code(IntEnum):
    """Why a verdict is what it is (word ResultCode of the edge-AI interface)."""

    OK = 0
    LOW_CONFIDENCE = 1
    OUT_OF_TRAINING_RANGE = 2
    INPUT_BAD = 3
    TIMEOUT = 4
    MODEL_ERROR = 5
    NO_AUTHORITY = 6


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One content of the mailbox; as constructed, the safe one."""

    heartbeat: int = 0
    authority: bool = False
    verdict: Verdict = Verdict.NOT_DECIDABLE
    code: Code = Code.NO_AUTHORITY
    sequence: int = 0
    score: float = 0.0

    def pack(self) -> bytes:
        """Return the 20 bytes, big-endian; the score as 0 if it is no number."""
        score = self.score if math.isfinite(self.score) and abs(self.score) < 3e38 else 0.0
        return _LAYOUT.pack(
            self.heartbeat, self.authority, self.verdict, self.code, self.sequence, score, self.sequence
        )


def next_heartbeat(heartbeat: int) -> int:
    """Return the heartbeat after this one: 1..65535, never 0 again."""
    return heartbeat % HIGHEST_HEARTBEAT + 1

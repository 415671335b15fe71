"""The edge-AI interface block (EAI): which word means what, in both directions; the only place that says so.

The driver side, the function blocks for PLCs, the checks and the documentation are all made from this map.
Each direction is an area of 16-bit words that one side writes whole and the other only reads. The last word
of the status area repeats the first sequence: as long as the two differ, a write is only half there.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from edge_opcua.config.outputs import InterfaceConfig, ResultConfig

LAYOUT: Final = 1
"""Grows when a word or a bit changes its meaning."""

HIGHEST: Final = 65_535
"""Counters run 1..65535 and then 1 again; 0 says that their owner has just started."""

FORWARD: Final = 1000
"""Furthest that a counter moves between two looks at it; more is a jump back."""

PLC_HEARTBEAT_MS: Final = 100
"""Period of the PLC's heartbeat."""


class Ctrl(IntFlag):
    """Control word 0: what the PLC wants."""

    ENABLE = 1 << 0  # the interface is in use; falling: everything pending is forgotten
    TRIGGER = 1 << 1  # a new TriggerSeq is there (mode triggered)
    RESULTS_ACK = 1 << 2  # the result was taken
    CLEAR_ERROR = 1 << 3  # somebody acknowledged at the PLC; held until AckRequired falls
    SET_OFFLINE = 1 << 4  # the edge shall let go
    GRANT_AUTHORITY = 1 << 5  # the plant lets the edge act
    EXECUTE_CMD = 1 << 6  # Command and CommandArg are there
    BUFFER_RESULTS = 1 << 7  # up to eight results wait for their acknowledge
    LATCHED = 1 << 8  # the PLC trusted the edge, no longer does, and waits for an acknowledge
    IN_USE = 1 << 9  # the PLC acts on what the edge writes


class Stat(IntFlag):
    """Status word 0: what the edge says."""

    ONLINE = 1 << 0  # the edge runs and talks to this PLC
    TRIGGER_READY = 1 << 1  # a trigger would be taken
    TRIGGER_ACK = 1 << 2  # the trigger was taken; falls when Trigger has fallen
    BUSY = 1 << 3  # a result is being worked out
    RESULTS_VALID = 1 << 4  # result words belong to ResultSeq; until ResultsAck in mode triggered
    COMPLETED_TOGGLE = 1 << 5  # changes with each result
    ERROR = 1 << 6  # ErrorCode is not 0
    MISSED_TRIGGER = 1 << 7  # a trigger came while none could be taken; until Trigger falls
    INPUTS_DEGRADED = 1 << 8  # the result comes from inputs of which some are Uncertain
    CMD_EXECUTING = 1 << 9  # a command is being carried out
    CMD_COMPLETED = 1 << 10  # it was carried out; until ExecuteCmd falls
    CMD_FAILED = 1 << 11  # it was not; until ExecuteCmd falls
    AUTHORITY_ACTIVE = 1 << 12  # the edge claims authority: results may be used
    FAIL_SAFE_ACTIVE = 1 << 13  # something the results depend on has failed
    ACK_REQUIRED = 1 << 14  # works again, and somebody has to say so
    SIMULATED = 1 << 15  # the inputs are made up


class ControlWord(IntEnum):
    """Where each control word lies (PLC to edge)."""

    CTRL = 0
    PLC_HEARTBEAT = 1
    ECHO_EDGE_HEARTBEAT = 2
    TRIGGER_SEQ = 3
    COMMAND = 4
    COMMAND_ARG = 5
    INTERFACE_VERSION = 6
    STATE = 7  # PackML StateCurrent (ISA-TR88.00.02), 0 if the PLC does not say


class StatusWord(IntEnum):
    """Where each status word lies (edge to PLC); the results and the tail follow."""

    STAT = 0
    EDGE_HEARTBEAT = 1
    ECHO_PLC_HEARTBEAT = 2
    RESULT_SEQ = 3
    COMMAND_ECHO = 4
    RESULT_CODE = 5
    ERROR_CODE = 6
    MODEL_ID = 7  # 16 bits of a hash of the model's name
    MODEL_VERSION = 8
    INFERENCE_MS = 9  # rounded up; 65535 for longer
    QUALITY_MASK = 10  # bit i: result i is not Good; the last bit: one from there on
    INTERFACE_VERSION = 11


class ResultCode(IntEnum):
    """Word ResultCode: why a result is what it is."""

    OK = 0  # the result is Good
    LOW_CONFIDENCE = 1  # the model is not sure
    OUT_OF_TRAINING_RANGE = 2  # the model never saw such inputs
    INPUT_BAD = 3  # an input was Bad
    TIMEOUT = 4  # there was no result in time
    MODEL_ERROR = 5  # the model failed
    NO_AUTHORITY = 6  # nobody may act on the edge's word now


class ErrorCode(IntEnum):
    """Word ErrorCode: what is wrong with the exchange itself."""

    NONE = 0  # nothing
    VERSION = 1  # the function block was generated from another map
    MISSED_TRIGGER = 2  # a trigger came while none could be taken
    ACK_TIMEOUT = 3  # a result was not taken in time
    COMMAND_UNKNOWN = 4  # no such command, or it is not allowed
    COMMAND_FAILED = 5  # the command was not carried out
    COMMUNICATION = 900  # the edge is silent (from 900 on: said by the function block)
    NO_RESULT = 901  # none came in time
    NOT_READY = 902  # Trigger rose while no trigger could be taken
    NOT_IN_USE = 903  # a result came, but the edge may not be used


CONTROL_WORDS: Final = len(ControlWord)
HEAD_WORDS: Final = len(StatusWord)
WORDS_PER_RESULT: Final = 2
_LAST_BIT: Final = 15
QUEUE: Final = 8
"""Results that wait for their acknowledge with BufferResults."""


@dataclass(frozen=True, slots=True)
class ResultField:
    """One value of a result in the status area.

    Args:
        config: Its name, source and type.
        word: Its first word.
        index: Its number, and its bit in the quality mask.
    """

    config: ResultConfig
    word: int
    index: int


@dataclass(frozen=True, slots=True)
class EaiMap:
    """The map of one output.

    Args:
        output: Name of the output.
        interface: Its configuration.
        high_first: Whether the high word of a value comes first.
    """

    output: str
    interface: InterfaceConfig
    high_first: bool

    @property
    def results(self) -> tuple[ResultField, ...]:
        """Where each value of a result lies."""
        return tuple(
            ResultField(config, HEAD_WORDS + WORDS_PER_RESULT * index, index)
            for index, config in enumerate(self.interface.results)
        )

    @staticmethod
    def quality_bit(index: int) -> int:
        """Return the bit of the quality mask that tells of a result; the last one of all that follow."""
        return min(index, _LAST_BIT)

    @property
    def tail_word(self) -> int:
        """Where ResultSeq is repeated."""
        return HEAD_WORDS + WORDS_PER_RESULT * len(self.interface.results)

    @property
    def status_words(self) -> int:
        """Number of words that we write."""
        return self.tail_word + 1

    @property
    def control_words(self) -> int:
        """Number of words that the PLC writes, without a request's payload."""
        return CONTROL_WORDS

    @property
    def version(self) -> int:
        """Word InterfaceVersion, 1..65535: a checksum, so that a block made from another map is noticed."""
        interface = self.interface
        said = [f"{LAYOUT} {interface.mode} {self.high_first}"]
        said += [f"{field.config.name} {field.config.type} {field.word}" for field in self.results]
        return zlib.crc32("\n".join(said).encode()) % HIGHEST + 1


def following(counter: int) -> int:
    """Return the counter after this one: 1..65535, never 0 again."""
    return counter % HIGHEST + 1


def is_ahead(counter: int, before: int) -> bool:
    """Return whether a counter has moved forward, by no more than it may miss: a jump back is a restart."""
    return counter > 0 and 1 <= (counter - before) % HIGHEST <= FORWARD


def eai_map(output: str, interface: InterfaceConfig, driver: str) -> EaiMap:
    """Return the map of an output.

    Args:
        output: Name of the output.
        interface: Its configuration.
        driver: Protocol of its device, which decides the order of words if the configuration does not.
    """
    order = interface.word_order or ("high_first" if driver == "s7" else "low_first")
    return EaiMap(output, interface, order == "high_first")

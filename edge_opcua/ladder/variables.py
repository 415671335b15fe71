"""What a function block declares: inputs, outputs, memory and timers, the same for every PLC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from edge_opcua.config.eai import Stat, StatusWord
from edge_opcua.ladder.facts import Facts

Role = Literal["input", "output", "memory"]
Type = Literal["BOOL", "DINT", "REAL", "UINT", "UDINT"]

VALUE_PREFIX: Final = "Got_"
"""Of the values of a result as they stand in the status area."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the block.

    Args:
        name: Its name; no other differs from it in case only.
        type: Its type.
        role: What it is to the program around.
        text: What it is for.
        initial: Value before the first scan; 0 or FALSE if None.
    """

    name: str
    type: Type
    role: Role
    text: str
    initial: bool | float | None = None


@dataclass(frozen=True, slots=True)
class Timer:
    """One on-delay timer.

    Args:
        name: Its name.
        ms: Its time.
        text: What it is for.
    """

    name: str
    ms: int
    text: str


@dataclass(frozen=True, slots=True)
class FromBit:
    """A bit of the status area that is taken over as a variable."""

    variable: str
    word: int
    bit: int


@dataclass(frozen=True, slots=True)
class FromWord:
    """A word of the status area that is taken over as a number 0..65535."""

    variable: str
    word: int


@dataclass(frozen=True, slots=True)
class FromValue:
    """Two words of the status area that are taken over as a value of a result."""

    variable: str
    word: int
    type: Literal["DINT", "REAL"]


Taken = FromBit | FromWord | FromValue

_EDGE_BITS: Final = {
    "EdgeOnline": (Stat.ONLINE, "it runs and talks to us"),
    "EdgeValid": (Stat.RESULTS_VALID, "the result words belong to EdgeSeq"),
    "EdgeHasError": (Stat.ERROR, "EdgeError says what is wrong with the exchange"),
    "EdgeActive": (Stat.AUTHORITY_ACTIVE, "it claims authority"),
    "EdgeFailSafe": (Stat.FAIL_SAFE_ACTIVE, "something that results depend on has failed"),
    "EdgeAckRequired": (Stat.ACK_REQUIRED, "it works again, and somebody has to say so"),
}
_TRIGGER_BITS: Final = {
    "EdgeReady": (Stat.TRIGGER_READY, "it would take a trigger"),
    "EdgeTook": (Stat.TRIGGER_ACK, "it took the trigger"),
}
_COMMAND_BITS: Final = {
    "EdgeCmdCompleted": (Stat.CMD_COMPLETED, "the command was carried out"),
    "EdgeCmdFailed": (Stat.CMD_FAILED, "the command was not carried out"),
}
_EDGE_WORDS: Final = {
    "EdgeHeartbeat": (StatusWord.EDGE_HEARTBEAT, "1..65535; 0: it has just started"),
    "EdgeSeq": (StatusWord.RESULT_SEQ, "number of the result"),
    "EdgeCode": (StatusWord.RESULT_CODE, "why the result is what it is"),
    "EdgeError": (StatusWord.ERROR_CODE, "what is wrong with the exchange"),
    "EdgeVersion": (StatusWord.INTERFACE_VERSION, "of the map that the edge uses"),
}


def taken_over(facts: Facts) -> tuple[Taken, ...]:
    """Return what the block takes over from the status area, as variables."""
    bits = [FromBit(name, StatusWord.STAT, bit.bit_length() - 1) for name, (bit, _) in _bits(facts).items()]
    words = [FromWord(name, word) for name, (word, _) in _EDGE_WORDS.items()]
    values = [
        FromValue(VALUE_PREFIX + field.config.name, field.word, field.config.type)
        for field in facts.map.results
    ]
    return (*bits, *_out_bit(facts), *words, *values)


def _out_bit(facts: Facts) -> Iterator[FromBit]:
    """Yield the bit that says that the value of Out is none."""
    value = facts.map.interface.value
    index = next(field.index for field in facts.map.results if field.config.name == value)
    yield FromBit("EdgeOutBad", StatusWord.QUALITY_MASK, facts.map.quality_bit(index))


def _bits(facts: Facts) -> dict[str, tuple[Stat, str]]:
    triggered = _TRIGGER_BITS if facts.mode == "triggered" else {}
    commands = _COMMAND_BITS if facts.map.interface.commands else {}
    return _EDGE_BITS | triggered | commands


def variables(facts: Facts) -> tuple[Variable, ...]:
    """Return what the block declares, besides its two areas and its timers."""
    return (*_inputs(facts), *_outputs(facts), *_memory(facts))


def timers(facts: Facts) -> tuple[Timer, ...]:
    """Return the timers of the block."""
    found = [
        Timer("Watch", 3_600_000, "a stopwatch, for the time between two scans"),
        Timer("Silence", facts.plc_timeout_ms, "time without a new heartbeat of the edge"),
    ]
    if facts.mode == "triggered":
        found += [
            Timer("Request", facts.result_ms, "wait for the result of a trigger"),
            Timer("Reply", facts.map.interface.ack_timeout_ms, "wait for the end of the handshake"),
        ]
    return tuple(found)


def _inputs(facts: Facts) -> Iterator[Variable]:
    interface = facts.map.interface
    yield Variable("Enable", "BOOL", "input", "the interface is in use")
    yield Variable("Grant", "BOOL", "input", "the plant lets the edge act")
    yield Variable("OpAck", "BOOL", "input", "rising edge: somebody acknowledges")
    yield Variable("SetOffline", "BOOL", "input", "the edge shall let go")
    yield Variable("AcceptRemoteAck", "BOOL", "input", "an acknowledge at the edge counts here", initial=True)
    yield Variable("State", "UINT", "input", "PackML state of the machine, for the edge; 0 if unused")
    yield Variable("Fallback", "REAL", "input", "value of Out without the edge")
    if facts.mode == "triggered":
        yield Variable("Trigger", "BOOL", "input", "rising edge: ask for a result")
    if interface.commands:
        yield Variable("ExecuteCmd", "BOOL", "input", "give the command; until CmdDone or CmdFailed")
        yield Variable("Command", "UINT", "input", "number of the command")
        yield Variable("CommandArg", "UINT", "input", "its argument")
    if facts.mode == "veto":
        yield Variable("PlcLimit", "REAL", "input", "Out is never above it", interface.high)
        yield Variable("PlcPermit", "BOOL", "input", "what the PLC itself permits")
        yield Variable("FallbackPermit", "BOOL", "input", "what counts for the edge's word without it")


def _outputs(facts: Facts) -> Iterator[Variable]:
    yield Variable("CommOk", "BOOL", "output", "the edge is alive and speaks our version")
    yield Variable("InUse", "BOOL", "output", "what the edge says is acted on")
    yield Variable("AckReq", "BOOL", "output", "here or at the edge something waits for OpAck")
    yield Variable("NewResult", "BOOL", "output", "one scan: a new result")
    yield Variable("Done", "BOOL", "output", "one scan: the result that was asked for, or NewResult")
    yield Variable("Busy", "BOOL", "output", "a request is under way")
    yield Variable("Error", "BOOL", "output", "ErrorId is not 0")
    yield Variable("ErrorId", "UINT", "output", "what is wrong with the exchange")
    yield Variable("ResultCode", "UINT", "output", "why the result is what it is; 0: Good")
    yield Variable("ResultSeq", "UINT", "output", "number of the result; 0: none")
    for field in facts.map.results:
        text = f"{field.config.source} of the result; 0 while not InUse"
        yield Variable(field.config.name, field.config.type, "output", text)
    value = facts.map.interface.value
    yield Variable("Out", "REAL", "output", f"{value}, clamped and ramped, or Fallback")
    if facts.mode == "veto":
        yield Variable("Permit", "BOOL", "output", "PlcPermit, and the edge has no objection")
    if facts.mode == "triggered":
        yield Variable("Ready", "BOOL", "output", "a trigger would be taken")
    if facts.map.interface.commands:
        yield Variable("CmdDone", "BOOL", "output", "the command was carried out")
        yield Variable("CmdFailed", "BOOL", "output", "the command was not carried out")
    yield Variable("LastSilenceMs", "UDINT", "output", "time between the last two heartbeats, ms")


def _memory(facts: Facts) -> Iterator[Variable]:
    for name, (_, text) in _bits(facts).items():
        yield Variable(name, "BOOL", "memory", f"the edge: {text}")
    yield Variable("EdgeOutBad", "BOOL", "memory", f"the edge: {facts.map.interface.value} is not Good")
    for name, (_, text) in _EDGE_WORDS.items():
        yield Variable(name, "DINT", "memory", f"the edge: {text}")
    for field in facts.map.results:
        yield Variable(
            VALUE_PREFIX + field.config.name, field.config.type, "memory", f"the edge: {field.config.name}"
        )
    yield from _STATE
    if facts.mode == "triggered":
        yield from _TRIGGER_STATE


_STATE: Final = (
    Variable("Started", "BOOL", "memory", "the first scan is over"),
    Variable("Fresh", "BOOL", "memory", "the edge's heartbeat moves"),
    Variable("Moved", "BOOL", "memory", "it moved forward in this scan"),
    Variable("Sound", "BOOL", "memory", "nothing speaks against using the edge"),
    Variable("Lost", "BOOL", "memory", "the edge is silent, foreign or faulty"),
    Variable("EverUsed", "BOOL", "memory", "it was in use since the start"),
    Variable("Latched", "BOOL", "memory", "trust was lost"),
    Variable("AckSeen", "BOOL", "memory", "the edge asked for an acknowledge since then"),
    Variable("Clearing", "BOOL", "memory", "our acknowledge is on its way to the edge"),
    Variable("Acked", "BOOL", "memory", "OpAck rose in this scan"),
    Variable("OpAckWas", "BOOL", "memory", "OpAck in the scan before"),
    Variable("HasResult", "BOOL", "memory", "a result came since the edge is in use"),
    Variable("OutBad", "BOOL", "memory", "that result has no Good value for Out"),
    Variable("LastHeartbeat", "DINT", "memory", "the edge's heartbeat in the scan before"),
    Variable("LastSeq", "DINT", "memory", "number of the newest result that was looked at"),
    Variable("Ahead", "DINT", "memory", "how far a counter went"),
    Variable("PlcHeartbeat", "DINT", "memory", "ours; 0: just started"),
    Variable("BeatMs", "DINT", "memory", "time since it moved"),
    Variable("SilenceMs", "DINT", "memory", "time since the edge's moved"),
    Variable("Elapsed", "DINT", "memory", "time since the scan before, ms"),
    Variable("NowMs", "DINT", "memory", "the stopwatch"),
    Variable("WatchMs", "DINT", "memory", "the stopwatch in the scan before"),
    Variable("ErrorNo", "DINT", "memory", "ErrorId in the making"),
    Variable("CtrlBits", "DINT", "memory", "control word 0 in the making"),
    Variable("Target", "REAL", "memory", "where Out goes"),
    Variable("Span", "REAL", "memory", "how far Out may go in this scan"),
)
_TRIGGER_STATE: Final = (
    Variable("TriggerWas", "BOOL", "memory", "Trigger in the scan before"),
    Variable("Asking", "BOOL", "memory", "the trigger stands"),
    Variable("Phase", "DINT", "memory", "0 idle, 1 asked, 2 result taken"),
    Variable("TriggerSeq", "DINT", "memory", "number of the request"),
    Variable("Fault", "DINT", "memory", "what went wrong with a request; until OpAck or Trigger"),
)

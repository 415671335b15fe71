"""What a function block does in a scan, once, for every PLC: plain ST on variables that are all its own.

The text knows neither areas nor types of a product: before it, a renderer takes the status area over into
variables (:func:`edge_opcua.ladder.variables.taken_over`), after it, it puts the control area together from
variables (:func:`handed_over`). Numbers are DINT or REAL; a timer is ``TON(Name, condition);`` with
``Name.Q`` and ``Name.ET`` (ms). A renderer rewrites identifiers, timers, literals and conversions, no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.eai import (
    FORWARD,
    HIGHEST,
    PLC_HEARTBEAT_MS,
    ControlWord,
    Ctrl,
    ErrorCode,
    ResultCode,
    ResultField,
)
from edge_opcua.ladder.facts import Facts
from edge_opcua.ladder.variables import VALUE_PREFIX

_REWIND_MS: Final = 1_800_000
"""When the stopwatch is started anew, long before it stops by itself."""

_LONGEST_MS: Final = 1_000_000_000
"""Silence is counted no further."""

_LARGEST_REAL: Final = 3.4e38


@dataclass(frozen=True, slots=True)
class Section:
    """One step of the scan.

    Args:
        title: What it is for, in one sentence.
        text: Its statements.
    """

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class ToWord:
    """A word of the control area: a variable or a number."""

    word: ControlWord
    value: str


def logic(facts: Facts) -> tuple[Section, ...]:
    """Return the steps of a scan, in order."""
    triggered = facts.mode == "triggered"
    return (
        Section("The first scan: nothing is known, and Out starts where it is safe.", _first(facts)),
        Section("The time since the scan before.", _ELAPSED),
        Section("Our heartbeat.", _BEAT),
        Section(
            "The edge's heartbeat: 0 or a jump back is a restart or a late frame, until it moves forward.",
            _fresh(facts),
        ),
        Section(
            "May the edge be used? Lost trust is latched until somebody acknowledges.",
            _sound(facts) + _LATCH,
        ),
        Section("In use; what was there before is history.", _USE),
        Section(
            "A request: trigger, ack, valid, ack; every wait ends."
            if triggered
            else "Is there a new result?",
            _triggered(facts) if triggered else _NEW,
        ),
        Section("The result that counts.", _results(facts)),
        Section("Out: clamped, ramped, bumpless from where it is.", _out(facts)),
        *((Section("The edge may only restrict.", _permit(facts)),) if facts.mode == "veto" else ()),
        Section("What is wrong, if anything.", _errors(facts)),
        Section("Control word 0.", _control_bits(facts)),
    )


def handed_over(facts: Facts) -> tuple[ToWord, ...]:
    """Return the words of the control area, in the order in which they are written: word 0 is the last."""
    commands, triggered = bool(facts.map.interface.commands), facts.mode == "triggered"
    return (
        ToWord(ControlWord.PLC_HEARTBEAT, "PlcHeartbeat"),
        ToWord(ControlWord.ECHO_EDGE_HEARTBEAT, "EdgeHeartbeat"),
        ToWord(ControlWord.TRIGGER_SEQ, "TriggerSeq" if triggered else "0"),
        ToWord(ControlWord.COMMAND, "UINT_TO_DINT(Command)" if commands else "0"),
        ToWord(ControlWord.COMMAND_ARG, "UINT_TO_DINT(CommandArg)" if commands else "0"),
        ToWord(ControlWord.INTERFACE_VERSION, str(facts.map.version)),
        ToWord(ControlWord.STATE, "UINT_TO_DINT(State)"),
        ToWord(ControlWord.CTRL, "CtrlBits"),
    )


def real(value: float) -> str:
    """Return a number as a literal of type REAL."""
    within = min(max(value, -_LARGEST_REAL), _LARGEST_REAL)
    text = repr(float(within))
    if "e" not in text:
        return text
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}E{int(exponent):+d}"


def _first(facts: Facts) -> str:
    more = ("TriggerWas := Trigger", "Asking := FALSE", "Phase := 0", "TriggerSeq := 0", "Fault := 0")
    trigger = "".join(f"\n    {one};" for one in more) if facts.mode == "triggered" else ""
    return f"""
IF NOT Started THEN
    Started := TRUE;
    Fresh := FALSE;
    InUse := FALSE;
    EverUsed := FALSE;
    Latched := FALSE;
    AckSeen := FALSE;
    Clearing := FALSE;
    HasResult := FALSE;
    OpAckWas := OpAck;
    LastHeartbeat := EdgeHeartbeat;
    LastSeq := EdgeSeq;
    PlcHeartbeat := 0;
    BeatMs := 0;
    SilenceMs := 0;
    WatchMs := 0;
    Out := Fallback;{trigger}
    TON(Watch, FALSE);
END_IF;
"""


_ELAPSED: Final = f"""
TON(Watch, TRUE);
NowMs := Watch.ET;
Elapsed := NowMs - WatchMs;
WatchMs := NowMs;
IF WatchMs >= {_REWIND_MS} THEN
    TON(Watch, FALSE);
    TON(Watch, TRUE);
    WatchMs := 0;
END_IF;
"""

_BEAT: Final = f"""
BeatMs := BeatMs + Elapsed;
IF BeatMs >= {PLC_HEARTBEAT_MS} THEN
    BeatMs := BeatMs MOD {PLC_HEARTBEAT_MS};
    PlcHeartbeat := (PlcHeartbeat MOD {HIGHEST}) + 1;
END_IF;
"""


def _fresh(facts: Facts) -> str:
    # A program that stood still itself has missed the time-out: what it finds then may have come late.
    return f"""
Moved := FALSE;
IF SilenceMs < {_LONGEST_MS} THEN
    SilenceMs := SilenceMs + Elapsed;
END_IF;
IF EdgeHeartbeat <> LastHeartbeat THEN
    Ahead := EdgeHeartbeat - LastHeartbeat;
    IF Ahead < 0 THEN
        Ahead := Ahead + {HIGHEST};
    END_IF;
    Moved := (EdgeHeartbeat <> 0) AND (LastHeartbeat <> 0) AND (Ahead <= {FORWARD});
    Fresh := Moved;
    LastHeartbeat := EdgeHeartbeat;
END_IF;
IF Moved THEN
    LastSilenceMs := DINT_TO_UDINT(SilenceMs);
    SilenceMs := 0;
END_IF;
TON(Silence, NOT Moved);
IF Silence.Q OR (Elapsed >= {facts.plc_timeout_ms}) THEN
    Fresh := FALSE;
END_IF;
"""


def _sound(facts: Facts) -> str:
    return f"""
CommOk := Fresh AND (EdgeVersion = {facts.map.version});
Lost := (NOT CommOk) OR (EdgeFailSafe AND (NOT EdgeAckRequired));
Sound := CommOk AND EdgeOnline AND EdgeActive AND (NOT EdgeFailSafe) AND (NOT EdgeAckRequired)
    AND Enable AND Grant AND (NOT SetOffline);
Acked := OpAck AND (NOT OpAckWas);
OpAckWas := OpAck;
"""


_LATCH: Final = """IF (InUse AND (NOT Sound)) OR (EverUsed AND Lost) THEN
    InUse := FALSE;
    Latched := TRUE;
    AckSeen := FALSE;
    Clearing := FALSE;
END_IF;
IF CommOk AND EdgeAckRequired THEN
    AckSeen := TRUE;
    IF Acked THEN
        Latched := FALSE;
        Clearing := TRUE;
    END_IF;
ELSE
    Clearing := FALSE;
    IF AckSeen AND Moved THEN
        AckSeen := FALSE;
        IF AcceptRemoteAck THEN
            Latched := FALSE;
        END_IF;
    END_IF;
END_IF;
AckReq := Latched OR (CommOk AND EdgeAckRequired AND (NOT Clearing));
"""

_USE: Final = """
IF Sound AND (NOT Latched) THEN
    IF NOT InUse THEN
        InUse := TRUE;
        EverUsed := TRUE;
        HasResult := FALSE;
        LastSeq := EdgeSeq;
    END_IF;
ELSE
    InUse := FALSE;
    HasResult := FALSE;
END_IF;
"""

_NEW: Final = f"""
NewResult := FALSE;
IF InUse AND EdgeValid AND (EdgeSeq <> LastSeq) THEN
    Ahead := EdgeSeq - LastSeq;
    IF Ahead < 0 THEN
        Ahead := Ahead + {HIGHEST};
    END_IF;
    NewResult := (EdgeSeq <> 0) AND (Ahead <= {FORWARD});
    LastSeq := EdgeSeq;
END_IF;
Done := NewResult;
Busy := FALSE;
"""


def _triggered(facts: Facts) -> str:
    return f"""
NewResult := FALSE;
TON(Request, (Phase = 1));
TON(Reply, (Phase = 2));
IF Acked THEN
    Fault := 0;
END_IF;
IF NOT Enable THEN
    Phase := 0;
    Asking := FALSE;
ELSIF Phase = 1 THEN
    IF EdgeTook THEN
        Asking := FALSE;
    END_IF;
    IF EdgeValid AND (EdgeSeq = TriggerSeq) THEN
        Asking := FALSE;
        Phase := 2;
        NewResult := InUse;
        IF NOT InUse THEN
            Fault := {ErrorCode.NOT_IN_USE.value};
        END_IF;
    ELSIF Request.Q THEN
        Asking := FALSE;
        Phase := 0;
        Fault := {ErrorCode.NO_RESULT.value};
        IF NOT CommOk THEN
            Fault := {ErrorCode.COMMUNICATION.value};
        END_IF;
    END_IF;
ELSIF Phase = 2 THEN
    IF (NOT EdgeValid) AND (NOT EdgeTook) THEN
        Phase := 0;
    ELSIF Reply.Q THEN
        Phase := 0;
        Fault := {ErrorCode.COMMUNICATION.value};
    END_IF;
END_IF;
Ready := Enable AND EdgeReady AND (EdgeVersion = {facts.map.version}) AND (Phase = 0);
IF Trigger AND (NOT TriggerWas) THEN
    Fault := 0;
    IF Ready THEN
        TriggerSeq := (TriggerSeq MOD {HIGHEST}) + 1;
        Asking := TRUE;
        Phase := 1;
        Ready := FALSE;
    ELSE
        Fault := {ErrorCode.NOT_READY.value};
    END_IF;
END_IF;
TriggerWas := Trigger;
Done := NewResult;
Busy := Phase <> 0;
"""


def _results(facts: Facts) -> str:
    fields = facts.map.results
    taken = "".join(f"    {field.config.name} := {VALUE_PREFIX}{field.config.name};\n" for field in fields)
    gone = "".join(
        f"    {field.config.name} := {'0.0' if field.config.type == 'REAL' else '0'};\n" for field in fields
    )
    return f"""
IF NewResult THEN
    HasResult := TRUE;
    OutBad := EdgeOutBad;
    ResultSeq := DINT_TO_UINT(EdgeSeq);
    ResultCode := DINT_TO_UINT(EdgeCode);
{taken}ELSIF NOT HasResult THEN
    ResultSeq := 0;
    ResultCode := {ResultCode.NO_AUTHORITY.value};
{gone}END_IF;
"""


def _out(facts: Facts) -> str:
    # Of a value that is not Good the words are 0. While the edge holds its last result all are marked, but
    # that is no new result: Out stays.
    interface = facts.map.interface
    types = {field.config.name: field.config.type for field in facts.map.results}
    value = interface.value if types[interface.value] == "REAL" else f"DINT_TO_REAL({interface.value})"
    low, high = real(interface.low), real(interface.high)
    veto = "IF Out > PlcLimit THEN\n    Out := PlcLimit;\nEND_IF;\n" if facts.mode == "veto" else ""
    return f"""
Target := Fallback;
IF HasResult AND (NOT OutBad) THEN
    IF {value} > {high} THEN
        Target := {high};
    ELSIF {value} < {low} THEN
        Target := {low};
    ELSIF {value} >= {low} THEN
        Target := {value};
    END_IF;
END_IF;
Span := {real(interface.rate_per_s)} * DINT_TO_REAL(Elapsed) / 1000.0;
IF Out < Target - Span THEN
    Out := Out + Span;
ELSIF Out > Target + Span THEN
    Out := Out - Span;
ELSE
    Out := Target;
END_IF;
{veto}"""


def _is_verdict(field: ResultField) -> bool:
    return field.config.source == "verdict" and field.config.type == "DINT"


def _permit(facts: Facts) -> str:
    verdict = next(field.config.name for field in facts.map.results if _is_verdict(field))
    return f"""
Permit := PlcPermit AND FallbackPermit;
IF HasResult THEN
    Permit := PlcPermit AND ({verdict} = 1);
END_IF;
"""


def _errors(facts: Facts) -> str:
    fault = "IF Fault <> 0 THEN\n    ErrorNo := Fault;\nELSIF" if facts.mode == "triggered" else "IF"
    commands = (
        "CmdDone := ExecuteCmd AND CommOk AND EdgeCmdCompleted;\n"
        "CmdFailed := ExecuteCmd AND CommOk AND EdgeCmdFailed;\n"
    )
    return f"""
ErrorNo := 0;
{fault} NOT Enable THEN
    ErrorNo := 0;
ELSIF (EdgeVersion <> 0) AND (EdgeVersion <> {facts.map.version}) THEN
    ErrorNo := {ErrorCode.VERSION.value};
ELSIF NOT Fresh THEN
    ErrorNo := {ErrorCode.COMMUNICATION.value};
ELSIF EdgeHasError THEN
    ErrorNo := EdgeError;
END_IF;
ErrorId := DINT_TO_UINT(ErrorNo);
Error := ErrorNo <> 0;
{commands if facts.map.interface.commands else ""}"""


def _control_bits(facts: Facts) -> str:
    return "\nCtrlBits := 0;\n" + "".join(
        f"IF {condition} THEN\n    CtrlBits := CtrlBits + {bit.value};\nEND_IF;\n"
        for bit, condition in _ctrl(facts)
    )


def _ctrl(facts: Facts) -> Iterator[tuple[Ctrl, str]]:
    yield Ctrl.ENABLE, "Enable"
    if facts.mode == "triggered":
        yield Ctrl.TRIGGER, "Asking"
        yield Ctrl.RESULTS_ACK, "Phase = 2"
    yield Ctrl.CLEAR_ERROR, "Clearing"
    yield Ctrl.SET_OFFLINE, "SetOffline"
    yield Ctrl.GRANT_AUTHORITY, "Grant"
    if facts.map.interface.commands:
        yield Ctrl.EXECUTE_CMD, "ExecuteCmd"
    yield Ctrl.LATCHED, "Latched"
    yield Ctrl.IN_USE, "InUse"

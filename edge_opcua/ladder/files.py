"""What the renderers hand out: the files of one target, and the names that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge_opcua.config.eai import ControlWord, StatusWord
from edge_opcua.ladder.facts import Facts
from edge_opcua.ladder.variables import Variable


@dataclass(frozen=True, slots=True)
class File:
    """One exported file.

    Args:
        name: Its name in the folder of the target.
        text: Its text, with a checksum still to be filled in.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an area as a product with named structures has it.

    Args:
        name: Its name.
        word: Its first word.
        type: ``WORD`` for bits, ``UINT`` for numbers, ``DINT`` or ``REAL`` for results.
        text: What it is.
    """

    name: str
    word: int
    type: str
    text: str


def camel(member: str) -> str:
    """Return the name of a word as it is written in documents: ``EDGE_HEARTBEAT`` becomes EdgeHeartbeat."""
    return "".join(part.capitalize() for part in member.split("_"))


def control_fields() -> tuple[Field, ...]:
    """Return the words of the control area."""
    texts = {
        ControlWord.CTRL: "bits",
        ControlWord.PLC_HEARTBEAT: "1..65535, then 1 again; 0: just started",
        ControlWord.ECHO_EDGE_HEARTBEAT: "the edge's heartbeat as it was seen",
        ControlWord.TRIGGER_SEQ: "number of the request",
        ControlWord.COMMAND: "number of the command",
        ControlWord.COMMAND_ARG: "its argument",
        ControlWord.INTERFACE_VERSION: "of the map",
        ControlWord.STATE: "PackML state of the machine",
    }
    return tuple(
        Field(camel(word.name), word.value, "WORD" if word is ControlWord.CTRL else "UINT", texts[word])
        for word in ControlWord
    )


def status_fields(facts: Facts) -> tuple[Field, ...]:
    """Return the fields of the status area: the head, the results and the tail."""
    texts = {
        StatusWord.STAT: "bits",
        StatusWord.EDGE_HEARTBEAT: "1..65535, then 1 again; 0: just started",
        StatusWord.ECHO_PLC_HEARTBEAT: "the PLC's heartbeat as it was seen",
        StatusWord.RESULT_SEQ: "number of the result",
        StatusWord.COMMAND_ECHO: "the command that CmdCompleted and CmdFailed are about",
        StatusWord.RESULT_CODE: "why the result is what it is",
        StatusWord.ERROR_CODE: "what is wrong with the exchange",
        StatusWord.MODEL_ID: "of the model's name",
        StatusWord.MODEL_VERSION: "version of the model",
        StatusWord.INFERENCE_MS: "time that the model took",
        StatusWord.QUALITY_MASK: "bit i: result i is not Good",
        StatusWord.INTERFACE_VERSION: "of the map",
    }
    bits = (StatusWord.STAT, StatusWord.QUALITY_MASK)
    head = [
        Field(camel(word.name), word.value, "WORD" if word in bits else "UINT", texts[word])
        for word in StatusWord
    ]
    results = [
        Field(field.config.name, field.word, field.config.type, f"{field.config.source} of the result")
        for field in facts.map.results
    ]
    tail = Field("ResultSeqTail", facts.map.tail_word, "UINT", "ResultSeq again: the write is whole")
    return (*head, *results, tail)


def inputs_of_call(found: Sequence[Variable]) -> Iterator[Variable]:
    """Yield the inputs that a program usually sets; the others may stay as they are."""
    usual = ("Enable", "Grant", "OpAck", "Fallback", "Trigger", "PlcLimit", "PlcPermit", "FallbackPermit")
    yield from (one for one in found if one.role == "input" and one.name in usual)

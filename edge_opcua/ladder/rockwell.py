"""The function block as an add-on instruction for Studio 5000 (L5X), and its tags as CSV."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import quoteattr

from edge_opcua.config.eai import StatusWord
from edge_opcua.errors import ConfigError
from edge_opcua.ladder.dialect import indented, rewritten, statements
from edge_opcua.ladder.facts import Facts
from edge_opcua.ladder.files import File
from edge_opcua.ladder.header import header
from edge_opcua.ladder.logic import handed_over, logic, real
from edge_opcua.ladder.variables import (
    FromBit,
    FromValue,
    FromWord,
    Taken,
    Timer,
    Variable,
    taken_over,
    timers,
    variables,
)

_SOFTWARE: Final = "32.00"
_DRIVER: Final = "ethernet-ip"
_NUMBERS: Final = ("DINT", "UINT", "UDINT")
_TAG: Final = re.compile(r"(?:Program:(?P<program>\w+)\.)?(?P<name>[A-Za-z_]\w*)", re.ASCII)
_LONGEST: Final = 40  # characters of a name


class Logix:
    """Names as they are, 1 and 0, TONR with a time in ms, and no conversions between DINT and REAL.

    Args:
        found: The timers of the block.
    """

    def __init__(self, found: tuple[Timer, ...]) -> None:
        self._ms = {timer.name: timer.ms for timer in found}

    def name(self, name: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return name

    def truth(self, *, value: bool) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return "1" if value else "0"

    def run_timer(self, timer: str, condition: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return f"{timer}.PRE := {self._ms[timer]}; {timer}.TimerEnable := {condition}; TONR({timer});"

    def timer_done(self, timer: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return f"{timer}.DN"

    def timer_ms(self, timer: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return f"{timer}.ACC"

    def convert(self, function: str) -> str:  # noqa: ARG002 - the same for all
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return ""


def files(facts: Facts) -> tuple[File, ...]:
    """Return the add-on instruction and its tags.

    Raises:
        ConfigError: An area is no array of its own, or a name is too long (C180).
    """
    _possible(facts)
    return (File(f"{facts.block}.L5X", _l5x(facts)), File(f"EdgeAI_{facts.name}_tags.csv", _tags(facts)))


def _possible(facts: Facts) -> None:
    longest = f"EdgeAI_{facts.name}_Control"
    if len(longest) > _LONGEST:
        message = f"Logix takes names of {_LONGEST} characters, and {longest} has {len(longest)}"
        raise ConfigError(f"output {facts.output}: {message}", code="C180")
    for area in ("Status", "Control"):
        if facts.driver == _DRIVER and _TAG.fullmatch(_address(facts, area)) is None:
            message = (
                f"{_address(facts, area)} is no array of its own, and the instruction takes whole arrays"
            )
            raise ConfigError(f"output {facts.output}: {message}", code="C180")


def _address(facts: Facts, area: str) -> str:
    return facts.map.interface.status if area == "Status" else facts.map.interface.control


def tag(facts: Facts, area: str) -> tuple[str, str]:
    """Return program (empty for the controller) and name of the tag that is an area.

    A controller that is reached over another protocol copies its words to the tag.
    """
    found = _TAG.fullmatch(_address(facts, area)) if facts.driver == _DRIVER else None
    return ("", f"EdgeAI_{facts.name}_{area}") if found is None else (found["program"] or "", found["name"])


def _l5x(facts: Facts) -> str:
    notes = [line.replace("--", "-") for line in header(facts, "the PLC side")]
    lines = [
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>',
        "<!--",
        *notes,
        "-->",
        (
            f'<RSLogix5000Content SchemaRevision="1.0" SoftwareRevision="{_SOFTWARE}" '
            f'TargetName="{facts.block}" '
            'TargetType="AddOnInstructionDefinition" TargetRevision="1.0 " ContainsContext="true" '
            'ExportOptions="References NoRawData L5KData DecoratedData Context Dependencies '
            'ForceProtectedEncoding AllProjDocTrans">'
        ),
        '<Controller Use="Context" Name="EdgeAI">',
        '<AddOnInstructionDefinitions Use="Context">',
        (
            f'<AddOnInstructionDefinition Use="Target" Name="{facts.block}" Revision="1.0" '
            'ExecutePrescan="true" ExecutePostscan="false" ExecuteEnableInFalse="true" '
            f'SoftwareRevision="v{_SOFTWARE}">'
        ),
        *_described(f"Output {facts.output}, mode {facts.mode}, interface version {facts.map.version}"),
        "<Parameters>",
        *_system_parameters(),
        *_area_parameter("Status", facts.map.status_words, "what the edge writes"),
        *_area_parameter("Control", facts.map.control_words, "what the edge reads"),
        *(line for one in variables(facts) if one.role != "memory" for line in _parameter(one)),
        "</Parameters>",
        "<LocalTags>",
        *(line for one in variables(facts) if one.role == "memory" for line in _local(one)),
        *_array("Seen", facts.map.status_words, "the status area at one moment"),
        *_array("Given", facts.map.control_words, "the control area in the making"),
        *_array("Pair", 2, "the two words of a value, low word first"),
        *(line for timer in timers(facts) for line in _timer(timer)),
        "</LocalTags>",
        "<Routines>",
        *_routine("Logic", list(_body(facts))),
        *_routine(
            "Prescan", ["(* What was known before the PLC stopped counts no longer. *)", "Started := 0;"]
        ),
        *_routine("EnableInFalse", list(_idle(facts))),
        "</Routines>",
        "</AddOnInstructionDefinition>",
        "</AddOnInstructionDefinitions>",
        "</Controller>",
        "</RSLogix5000Content>",
    ]
    return "\n".join(lines) + "\n"


def _described(text: str) -> Iterator[str]:
    yield "<Description>"
    yield f"<![CDATA[{text}]]>"
    yield "</Description>"


def _system_parameters() -> Iterator[str]:
    for name, usage, text in (
        ("EnableIn", "Input", "Enable Input - System Defined Parameter"),
        ("EnableOut", "Output", "Enable Output - System Defined Parameter"),
    ):
        yield (
            f'<Parameter Name="{name}" TagType="Base" DataType="BOOL" Usage="{usage}" Radix="Decimal" '
            'Required="false" Visible="false" ExternalAccess="Read Only">'
        )
        yield from _described(text)
        yield "</Parameter>"


def _area_parameter(name: str, words: int, text: str) -> Iterator[str]:
    yield (
        f'<Parameter Name="{name}" TagType="Base" DataType="INT" Dimensions="{words}" Usage="InOut" '
        'Radix="Decimal" Required="true" Visible="true" Constant="false">'
    )
    yield from _described(text)
    yield "</Parameter>"


def _parameter(variable: Variable) -> Iterator[str]:
    kind, radix = _kind(variable)
    access = "Read/Write" if variable.role == "input" else "Read Only"
    yield (
        f'<Parameter Name="{variable.name}" TagType="Base" DataType="{kind}" '
        f'Usage="{variable.role.capitalize()}" Radix="{radix}" Required="false" Visible="true" '
        f'ExternalAccess="{access}">'
    )
    yield from _described(variable.text)
    initial = 0.0 if variable.initial is None else float(variable.initial)
    value = real(initial) if kind == "REAL" else str(int(initial))
    yield f'<DefaultData Format="L5K"><![CDATA[{value}]]></DefaultData>'
    yield '<DefaultData Format="Decorated">'
    yield f'<DataValue DataType="{kind}" Radix="{radix}" Value="{value}"/>'
    yield "</DefaultData>"
    yield "</Parameter>"


def _local(variable: Variable) -> Iterator[str]:
    kind, radix = _kind(variable)
    yield f'<LocalTag Name="{variable.name}" DataType="{kind}" Radix="{radix}" ExternalAccess="Read Only">'
    yield from _described(variable.text)
    yield "</LocalTag>"


def _kind(variable: Variable) -> tuple[str, str]:
    kind = "DINT" if variable.type in _NUMBERS else variable.type
    return kind, "Float" if kind == "REAL" else "Decimal"


def _array(name: str, words: int, text: str) -> Iterator[str]:
    kind = f'DataType="INT" Dimensions="{words}" Radix="Decimal"'
    yield f'<LocalTag Name="{name}" {kind} ExternalAccess="Read Only">'
    yield from _described(text)
    yield "</LocalTag>"


def _timer(timer: Timer) -> Iterator[str]:
    yield f'<LocalTag Name="{timer.name}" DataType="FBD_TIMER" ExternalAccess="Read Only">'
    yield from _described(timer.text)
    yield "</LocalTag>"


def _routine(name: str, lines: list[str]) -> Iterator[str]:
    yield f'<Routine Name={quoteattr(name)} Type="ST">'
    yield "<STContent>"
    for number, line in enumerate(lines):
        yield f'<Line Number="{number}">'
        yield f"<![CDATA[{line}]]>"
        yield "</Line>"
    yield "</STContent>"
    yield "</Routine>"


def _body(facts: Facts) -> Iterator[str]:
    words, dialect = facts.map, Logix(timers(facts))
    head, tail = StatusWord.RESULT_SEQ.value, words.tail_word
    yield "(* What the edge wrote, at one moment. While its tail differs from its head, a write is half *)"
    yield "(* there: then what was there before counts, until the time-out. *)"
    yield f"CPS(Status[0], Seen[0], {words.status_words});"
    yield f"IF Seen[{head}] = Seen[{tail}] THEN"
    for one in taken_over(facts):
        yield from indented(list(_taken(facts, one)))
    yield "END_IF;"
    yield from statements(logic(facts), dialect)
    yield ""
    yield "(* What the edge reads, at one moment; 32768..65535 are the negative numbers of an INT. *)"
    for word in handed_over(facts):
        yield f"Given[{word.word.value}] := {_signed(rewritten(word.value, dialect))};"
    yield f"CPS(Given[0], Control[0], {words.control_words});"


def _taken(facts: Facts, one: Taken) -> Iterator[str]:
    if isinstance(one, FromBit):
        yield f"{one.variable} := Seen[{one.word}].{one.bit};"
    elif isinstance(one, FromWord):
        yield f"{one.variable} := Seen[{one.word}] AND 65535;"
    else:
        yield from _value(facts, one)


def _value(facts: Facts, one: FromValue) -> Iterator[str]:
    low, high = (one.word + 1, one.word) if facts.map.high_first else (one.word, one.word + 1)
    yield f"Pair[0] := Seen[{low}];"
    yield f"Pair[1] := Seen[{high}];"
    yield f"COP(Pair[0], {one.variable}, 1);"


def _signed(value: str) -> str:
    if value.isdigit():
        number = int(value)
        return str(number - 65536 if number > 32767 else number)
    return f"{value} - (65536 * ({value} / 32768))" if value != "CtrlBits" else value


def _idle(facts: Facts) -> Iterator[str]:
    yield "(* The instruction is switched off: nothing of the edge counts, and it starts anew. *)"
    off = ("Started", "CommOk", "InUse", "NewResult", "Done", "Busy")
    more = {"veto": ("Permit",), "triggered": ("Ready",)}.get(facts.mode, ())
    yield from (f"{name} := 0;" for name in (*off, *more))
    yield "Out := Fallback;"


def _tags(facts: Facts) -> str:
    lines = [f'remark,"{line.replace(chr(34), chr(39))}"' for line in header(facts, "the tags")]
    lines += ["0.3", "TYPE,SCOPE,NAME,DESCRIPTION,DATATYPE,SPECIFIER,ATTRIBUTES"]
    attributes = '"(RADIX := Decimal, Constant := false, ExternalAccess := Read/Write)"'
    for area, words, text in (
        ("Status", facts.map.status_words, "what the edge writes"),
        ("Control", facts.map.control_words, "what the edge reads"),
    ):
        program, name = tag(facts, area)
        lines.append(f'TAG,{program},{name},"{text}","INT[{words}]","",{attributes}')
    access = '"(ExternalAccess := Read/Write)"'
    lines.append(f'TAG,,EdgeAI_{facts.name},"the instruction\'s memory","{facts.block}","",{access}')
    return "\r\n".join(lines) + "\r\n"

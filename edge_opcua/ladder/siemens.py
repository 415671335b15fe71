"""The function block as SCL for TIA Portal, its data types, and data blocks whose bytes are the map's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from edge_opcua.config.eai import StatusWord
from edge_opcua.errors import ConfigError
from edge_opcua.ladder.dialect import indented, rewritten, statements
from edge_opcua.ladder.facts import Facts
from edge_opcua.ladder.files import Field, File, camel, control_fields, inputs_of_call, status_fields
from edge_opcua.ladder.header import header
from edge_opcua.ladder.logic import handed_over, logic, real
from edge_opcua.ladder.variables import (
    FromBit,
    FromWord,
    Role,
    Taken,
    Timer,
    Variable,
    taken_over,
    timers,
    variables,
)

_SECTIONS: Final[dict[Role, str]] = {"input": "VAR_INPUT", "output": "VAR_OUTPUT", "memory": "VAR"}
_TYPES: Final = {
    "BOOL": "Bool",
    "DINT": "DInt",
    "REAL": "Real",
    "UINT": "UInt",
    "UDINT": "UDInt",
    "WORD": "Word",
}
_BYTE: Final = re.compile(r"^DB(\d+)(?:\.DB[BWD](\d+))?$", re.IGNORECASE)


class Scl:
    """Local names with a number sign, IEC timers as multi-instances.

    Args:
        found: The timers of the block.
    """

    def __init__(self, found: tuple[Timer, ...]) -> None:
        self._ms = {timer.name: timer.ms for timer in found}

    def name(self, name: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return f"#{name}"

    def truth(self, *, value: bool) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return "TRUE" if value else "FALSE"

    def run_timer(self, timer: str, condition: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return f"#{timer}(IN := {condition}, PT := T#{self._ms[timer]}ms);"

    def timer_done(self, timer: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return f"#{timer}.Q"

    def timer_ms(self, timer: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return f"TIME_TO_DINT(#{timer}.ET)"

    def convert(self, function: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return function


def files(facts: Facts) -> tuple[File, ...]:
    """Return the data types, the data blocks, the function block and a call of it.

    Raises:
        ConfigError: The low word of a value comes first, or an area is no data block (C180).
    """
    _possible(facts)
    return (
        File(f"EdgeAI_{facts.name}.udt", _types(facts)),
        File(f"EdgeAI_{facts.name}.db", _data_blocks(facts)),
        File(f"{facts.block}.scl", _function_block(facts)),
        File(f"EdgeAI_{facts.name}_call.scl", _call(facts)),
    )


def _possible(facts: Facts) -> None:
    interface = facts.map.interface
    if not facts.map.high_first:
        message = 'an S7 has the high word of a value first: set word_order = "high_first"'
        raise ConfigError(f"output {facts.output}: {message}", code="C180")
    for area in (interface.status, interface.control):
        if facts.driver == "s7" and _place(area) is None:
            message = f"{area} is no data block, and the interface is exported as data blocks"
            raise ConfigError(f"output {facts.output}: {message}", code="C180")


def _comment(facts: Facts, what: str) -> list[str]:
    return [f"// {line}" for line in header(facts, what)]


def _types(facts: Facts) -> str:
    lines = _comment(facts, "the data types")
    lines += _type(_type_name(facts, "Status"), status_fields(facts))
    lines += _type(_type_name(facts, "Control"), control_fields())
    return "\n".join(lines) + "\n"


def _type(name: str, fields: tuple[Field, ...]) -> Iterator[str]:
    yield ""
    yield f'TYPE "{name}"'
    yield "VERSION : 0.1"
    yield "   STRUCT"
    for field in fields:
        yield f"      {field.name} : {_TYPES[field.type]};   // byte {2 * field.word}: {field.text}"
    yield "   END_STRUCT;"
    yield ""
    yield "END_TYPE"


def _type_name(facts: Facts, area: str) -> str:
    return f"EdgeAI_{facts.name}_{area}"


def _place(area: str) -> tuple[int, int] | None:
    """Return data block and first byte of an area of an S7; None for an area of another device."""
    found = _BYTE.match(area)
    return None if found is None else (int(found[1]), int(found[2] or 0))


def _data_blocks(facts: Facts) -> str:
    lines = _comment(facts, "the data blocks")
    interface = facts.map.interface
    for area, address in (("Status", interface.status), ("Control", interface.control)):
        lines += _data_block(facts, area, address)
    return "\n".join(lines) + "\n"


def _data_block(facts: Facts, area: str, address: str) -> Iterator[str]:
    place = _place(address)
    yield ""
    if place is not None:
        yield f"// Give it the number {place[0]}: the edge knows it as {address}."
    yield f'DATA_BLOCK "{_block_name(facts, area)}"'
    yield "{ S7_Optimized_Access := 'FALSE' }"
    yield "VERSION : 0.1"
    yield "NON_RETAIN"
    yield "   STRUCT"
    if place is not None and place[1]:
        yield f"      Before : Array[0..{place[1] - 1}] of Byte;   // not of the interface"
    yield f'      Words : "{_type_name(facts, area)}";'
    yield "   END_STRUCT;"
    yield ""
    yield "BEGIN"
    yield ""
    yield "END_DATA_BLOCK"


def _block_name(facts: Facts, area: str) -> str:
    return f"DB_EdgeAI_{facts.name}_{area}"


def _function_block(facts: Facts) -> str:
    dialect = Scl(timers(facts))
    lines = _comment(facts, "the PLC side")
    lines += [
        "",
        f'FUNCTION_BLOCK "{facts.block}"',
        "{ S7_Optimized_Access := 'TRUE' }",
        "VERSION : 0.1",
    ]
    lines += _declarations(facts)
    body = [*_take_over(facts), *statements(logic(facts), dialect), "", *_hand_over(facts, dialect)]
    lines += ["", "BEGIN", *indented(body, "\t"), "END_FUNCTION_BLOCK"]
    return "\n".join(lines) + "\n"


def _declarations(facts: Facts) -> Iterator[str]:
    for role, keyword in _SECTIONS.items():
        yield f"   {keyword}"
        for one in variables(facts):
            if one.role == role:
                yield f"      {one.name} : {_TYPES[one.type]}{_initial(one)};   // {one.text}"
        if role == "input":
            yield f'      Status : "{_type_name(facts, "Status")}";   // what the edge writes'
        elif role == "output":
            yield f'      Control : "{_type_name(facts, "Control")}";   // what the edge reads'
        else:
            for timer in timers(facts):
                yield f"      {timer.name} : TON_TIME;   // {timer.text}"
        yield "   END_VAR"


def _initial(variable: Variable) -> str:
    initial = variable.initial
    if initial is None:
        return ""
    return f" := {str(initial).lower() if isinstance(initial, bool) else real(initial)}"


def _take_over(facts: Facts) -> Iterator[str]:
    head = camel(StatusWord.RESULT_SEQ.name)
    yield "(* What the edge wrote. While its tail differs from its head, a write is half there: *)"
    yield "(* then what was there before counts, until the time-out. *)"
    yield f"IF #Status.{head} = #Status.ResultSeqTail THEN"
    names = {field.word: field.name for field in status_fields(facts)}
    for one in taken_over(facts):
        yield f"    #{one.variable} := {_taken(names[one.word], one)};"
    yield "END_IF;"


def _taken(field: str, one: Taken) -> str:
    if isinstance(one, FromBit):
        return f"#Status.{field}.%X{one.bit}"
    return f"UINT_TO_DINT(#Status.{field})" if isinstance(one, FromWord) else f"#Status.{field}"


def _hand_over(facts: Facts, dialect: Scl) -> Iterator[str]:
    yield "(* What the edge reads; word 0 is the last to change. *)"
    fields = {field.word: field for field in control_fields()}
    for word in handed_over(facts):
        field = fields[word.word.value]
        value = f"DINT_TO_UINT({rewritten(word.value, dialect)})"
        value = word.value if word.value.isdigit() else value
        yield f"#Control.{field.name} := {value if field.type == 'UINT' else f'UINT_TO_WORD({value})'};"


def _call(facts: Facts) -> str:
    status, control = (_block_name(facts, area) for area in ("Status", "Control"))
    given = [f"{one.name} := {one.name}" for one in inputs_of_call(variables(facts))]
    lines = _comment(facts, "an instance and a call")
    lines += [
        "",
        f'DATA_BLOCK "EdgeAI_{facts.name}"',
        "{ S7_Optimized_Access := 'TRUE' }",
        "VERSION : 0.1",
        "NON_RETAIN",
        f'"{facts.block}"',
        "",
        "BEGIN",
        "",
        "END_DATA_BLOCK",
        "",
        "// Replace the temporary inputs by your own signals, or call the block in OB1.",
        f'FUNCTION "EdgeAI_{facts.name}_call" : Void',
        "{ S7_Optimized_Access := 'TRUE' }",
        "VERSION : 0.1",
        "   VAR_INPUT",
        *(
            f"      {one.name} : {_TYPES[one.type]};   // {one.text}"
            for one in inputs_of_call(variables(facts))
        ),
        "   END_VAR",
        "",
        "BEGIN",
        f'\t"EdgeAI_{facts.name}"(',
        *(f"\t    {one.replace(':= ', ':= #')}," for one in given),
        f'\t    Status := "{status}".Words,',
        f'\t    Control => "{control}".Words);',
        "END_FUNCTION",
    ]
    return "\n".join(lines) + "\n"

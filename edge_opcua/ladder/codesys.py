"""The function block as IEC 61131-3 Structured Text, for CODESYS and what understands its UNION."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edge_opcua.config.eai import StatusWord
from edge_opcua.ladder.dialect import indented, rewritten, statements
from edge_opcua.ladder.facts import Facts
from edge_opcua.ladder.files import File, inputs_of_call
from edge_opcua.ladder.header import header
from edge_opcua.ladder.logic import handed_over, logic, real
from edge_opcua.ladder.variables import (
    FromBit,
    FromValue,
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


class Codesys:
    """Names as they are, IEC timers, conversions with their IEC names.

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
        return "TRUE" if value else "FALSE"

    def run_timer(self, timer: str, condition: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return f"{timer}(IN := {condition}, PT := T#{self._ms[timer]}ms);"

    def timer_done(self, timer: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return f"{timer}.Q"

    def timer_ms(self, timer: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return f"TIME_TO_DINT({timer}.ET)"

    def convert(self, function: str) -> str:
        """See :class:`edge_opcua.ladder.dialect.Dialect`."""
        return function


def files(facts: Facts) -> tuple[File, ...]:
    """Return the function block, the areas as global variables, and a program that calls the block."""
    return (
        File(f"{facts.block}.st", function_block(facts)),
        File(f"GVL_EdgeAI_{facts.name}.st", _globals(facts)),
        File(f"PRG_EdgeAI_{facts.name}.st", _program(facts)),
    )


def function_block(facts: Facts) -> str:
    """Return the source of the function block and of the union that it needs."""
    dialect = Codesys(timers(facts))
    body = [
        *_take_over(facts),
        *statements(logic(facts), dialect),
        "",
        "(* What the edge reads; word 0 is the last to change. *)",
        *(f"Control[{word.word.value}] := {_word(word.value, dialect)};" for word in handed_over(facts)),
    ]
    lines = [*comment(header(facts, "the PLC side")), ""]
    if _has_reals(facts):
        lines += [*_union(facts), ""]
    lines += [f"FUNCTION_BLOCK {facts.block}", *declarations(facts), "", *body, "END_FUNCTION_BLOCK"]
    return "\n".join(lines) + "\n"


def _word(value: str, dialect: Codesys) -> str:
    """Return a number of the logic as a WORD."""
    if value.isdigit():
        return f"16#{int(value):04X}"
    return f"UINT_TO_WORD(DINT_TO_UINT({rewritten(value, dialect)}))"


def comment(lines: tuple[str, ...]) -> Iterator[str]:
    """Yield lines as comments."""
    for line in lines:
        yield f"(* {line} *)"


def declarations(facts: Facts) -> Iterator[str]:
    """Yield the declarations of the block."""
    found = variables(facts)
    for role, keyword in _SECTIONS.items():
        rows = [_row(one) for one in found if one.role == role]
        rows += _areas(facts, role)
        if role == "memory":
            rows += [(f"{timer.name} : TON;", timer.text) for timer in timers(facts)]
        width = max(len(row) for row, _ in rows)
        yield keyword
        yield from indented([f"{row.ljust(width)} (* {text} *)" for row, text in rows])
        yield "END_VAR"


def _areas(facts: Facts, role: Role) -> list[tuple[str, str]]:
    words = facts.map
    if role == "input":
        return [(f"Status : ARRAY[0..{words.status_words - 1}] OF WORD;", "what the edge writes")]
    if role == "output":
        return [(f"Control : ARRAY[0..{words.control_words - 1}] OF WORD;", "what the edge reads")]
    return [(f"Bits : {_union_name(facts)};", "two words as a REAL")] if _has_reals(facts) else []


def _row(variable: Variable) -> tuple[str, str]:
    initial = ""
    if isinstance(variable.initial, bool):
        initial = f" := {str(variable.initial).upper()}"
    elif variable.initial is not None:
        initial = f" := {real(variable.initial)}"
    return f"{variable.name} : {variable.type}{initial};", variable.text


def _has_reals(facts: Facts) -> bool:
    return any(field.config.type == "REAL" for field in facts.map.results)


def _union_name(facts: Facts) -> str:
    return f"EdgeAI_{facts.name}_Bits"


def _union(facts: Facts) -> Iterator[str]:
    yield f"TYPE {_union_name(facts)} :"
    yield "UNION"
    yield "    Pattern : DWORD;"
    yield "    Number : REAL;"
    yield "END_UNION"
    yield "END_TYPE"


def _take_over(facts: Facts) -> Iterator[str]:
    head, tail = StatusWord.RESULT_SEQ.value, facts.map.tail_word
    yield f"(* What the edge wrote. While word {tail} differs from word {head}, a write is half there: *)"
    yield "(* then what was there before counts, until the time-out. *)"
    yield f"IF Status[{head}] = Status[{tail}] THEN"
    for one in taken_over(facts):
        yield from indented(list(_taken(facts, one)))
    yield "END_IF;"


def _taken(facts: Facts, one: Taken) -> Iterator[str]:
    if isinstance(one, FromBit):
        yield f"{one.variable} := (Status[{one.word}] AND 16#{1 << one.bit:04X}) <> 16#0000;"
    elif isinstance(one, FromWord):
        yield f"{one.variable} := UINT_TO_DINT(WORD_TO_UINT(Status[{one.word}]));"
    else:
        yield from _value(facts, one)


def _value(facts: Facts, one: FromValue) -> Iterator[str]:
    high, low = (one.word, one.word + 1) if facts.map.high_first else (one.word + 1, one.word)
    pattern = f"SHL(WORD_TO_DWORD(Status[{high}]), 16) OR WORD_TO_DWORD(Status[{low}])"
    if one.type == "DINT":
        yield f"{one.variable} := DWORD_TO_DINT({pattern});"
    else:
        yield f"Bits.Pattern := {pattern};"
        yield f"{one.variable} := Bits.Number;"


def _globals(facts: Facts) -> str:
    interface = facts.map.interface
    rows = [
        (f"Status : ARRAY[0..{facts.map.status_words - 1}] OF WORD;", interface.status, "writes"),
        (f"Control : ARRAY[0..{facts.map.control_words - 1}] OF WORD;", interface.control, "reads"),
    ]
    width = max(len(row) for row, _, _ in rows)
    lines = [
        *comment(header(facts, "the areas")),
        "",
        "{attribute 'qualified_only'}",
        "VAR_GLOBAL",
        *(f"    {row.ljust(width)} (* what the edge {does}, as {area} *)" for row, area, does in rows),
        "END_VAR",
    ]
    return "\n".join(lines) + "\n"


def _program(facts: Facts) -> str:
    called = list(inputs_of_call(variables(facts)))
    area = f"GVL_EdgeAI_{facts.name}"
    lines = [
        *comment(header(facts, "a call")),
        "",
        f"PROGRAM PRG_EdgeAI_{facts.name}",
        "VAR",
        f"    Edge : {facts.block};",
        *indented([f"{_row(one)[0]} (* {one.text} *)" for one in called]),
        "END_VAR",
        "",
        "Edge(",
        *(f"    {one.name} := {one.name}," for one in called),
        f"    Status := {area}.Status);",
        f"{area}.Control := Edge.Control;",
        "END_PROGRAM",
    ]
    return "\n".join(lines) + "\n"

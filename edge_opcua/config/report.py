"""Shows problems and plans: as text for people, every line useful by itself, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from edge_opcua.config.loader import Loaded
from edge_opcua.config.pollplan import PollPlan, overloads, plan_json, plan_lines
from edge_opcua.config.problem import Place, Problem, Severity, counted
from edge_opcua.core.values import BlockSpec

FOLD_ABOVE: Final = 5
EXCERPT_WIDTH: Final = 88
SCHEMA: Final = "edge-opcua.check/1"
_COLOURS: Final = {Severity.ERROR: "\x1b[1;31m", Severity.WARNING: "\x1b[1;33m", Severity.NOTICE: "\x1b[1m"}
_PLAIN: Final = "\x1b[0m"
_INDENT: Final = "      "


def wants_color(env: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Return whether a stream shows colours: a terminal that nobody asked to stay plain.

    Source:
        no-color.org and clig.dev; FORCE_COLOR wins.
    """
    if env.get("FORCE_COLOR"):
        return True
    return is_terminal and not env.get("NO_COLOR") and env.get("TERM") != "dumb"


def check_text(
    loaded: Loaded,
    plans: Sequence[PollPlan],
    blocks: Sequence[BlockSpec] = (),
    lanes: Sequence[Sequence[str]] = (),
    *,
    color: bool = False,
) -> str:
    """Return what ``edge-opcua check`` prints: what will be done, what is wrong, and the next command.

    Args:
        loaded: The configuration.
        plans: How each device is read, in the order of the configuration; empty if it is wrong.
        blocks: Blocks of the bus; empty if it is wrong.
        lanes: What can be promised of the pipelines, in cells; empty if it is wrong.
        color: Whether the terminal shows colours.
    """
    problems = [*loaded.problems, *_overloads(loaded, plans)]
    machines = loaded.document.counts.items()
    name, lines = str(loaded.path), []
    if loaded.config:
        lines = plan_lines(loaded.config, plans, blocks, name, machines, lanes)
    lines += [render(part, color=color) for part in fold(problems)]
    following = f"Run it: edge-opcua run {loaded.path}" if loaded.ok else _explain_one(problems)
    return "\n".join([*lines, f"{summary(problems)}  {following}"])


def check_json(loaded: Loaded, plans: Sequence[PollPlan], blocks: Sequence[BlockSpec] = ()) -> dict[str, Any]:
    """Return the same for programs; nothing is folded."""
    problems = [*loaded.problems, *_overloads(loaded, plans)]
    return {
        "schema": SCHEMA,
        "file": str(loaded.path),
        "ok": loaded.ok,
        "errors": _count(problems, Severity.ERROR),
        "warnings": _count(problems, Severity.WARNING),
        "problems": [problem.as_json() for problem in problems],
        "machines": dict(loaded.document.counts),
        "plan": plan_json(loaded.config, plans, blocks) if loaded.config else None,
    }


def problems_text(loaded: Loaded, *, color: bool = False) -> str:
    """Return all problems and, as the last line, their sum."""
    lines = [render(part, color=color) for part in fold(loaded.problems)]
    following = "" if loaded.ok else f"  {_explain_one(loaded.problems)}"
    return "\n".join([*lines, f"{summary(loaded.problems)}{following}"])


def summary(problems: Iterable[Problem]) -> str:
    """Return the last line, e.g. ``2 errors, 1 warning.``."""
    found = list(problems)
    errors, warnings = _count(found, Severity.ERROR), _count(found, Severity.WARNING)
    return f"{counted(errors, 'error')}, {counted(warnings, 'warning')}."


def fold(problems: Iterable[Problem]) -> list[list[Problem]]:
    """Return the problems in their order; more than five of a kind in one file become one part.

    Of a kind are rows with the same code, and settings of the same key with the same code.

    Returns:
        Parts of one problem each, or of all problems of a kind at the place of the first.
    """
    found = list(problems)
    kinds: dict[tuple[object, ...], list[Problem]] = {}
    for problem in found:
        kinds.setdefault(_kind(problem), []).append(problem)
    parts: list[list[Problem]] = []
    for problem in found:
        kind = kinds[_kind(problem)]
        if len(kind) <= FOLD_ABOVE:
            parts.append([problem])
        elif problem is kind[0]:
            parts.append(kind)
    return parts


def _kind(problem: Problem) -> tuple[object, ...]:
    key = "" if _is_table(problem) else problem.where.rpartition(".")[2] or problem.message
    return problem.file, problem.code, problem.severity, key


def _is_table(problem: Problem) -> bool:
    return problem.file.endswith(".csv") or (problem.code.startswith("T") and not problem.where)


def render(part: Sequence[Problem], *, color: bool = False) -> str:
    """Return the lines of one problem, or of a folded kind: its first in full, then where the others are."""
    first = part[0]
    text = _render_one(first, color=color)
    if len(part) == 1:
        return text
    machines = {problem.origin for problem in part if problem.origin}
    unit = "rows" if _is_table(first) else "places"
    if len(machines) == len(part):
        unit = "machines"
    lines = number_ranges(problem.place.line for problem in part)
    line_word = "" if unit == "rows" else "lines "
    return f"{text}\n{first.file}: {_tag(first, color=color)} in {len(part)} {unit}: {line_word}{lines}"


def _render_one(problem: Problem, *, color: bool) -> str:
    where = f"{problem.where}: " if problem.where else ""
    place = _place_text(problem)
    head = f"{place}{_tag(problem, color=color)} {where}{problem.message}"
    suggestion = f'did you mean "{problem.suggestion}"?' if problem.suggestion else ""
    lines = [head, *_excerpt(problem, suggestion)]
    if len(lines) == 1 and suggestion:
        lines.append(f"{_INDENT}help: {suggestion}")
    if problem.help:
        lines.append(f"{_INDENT}help: {problem.help}")
    if problem.origin:
        lines.append(f"{_INDENT}for:  {problem.origin}")
    return "\n".join(lines)


def _tag(problem: Problem, *, color: bool) -> str:
    tag = f"{problem.severity.word}[{problem.code}]"
    return f"{_COLOURS[problem.severity]}{tag}{_PLAIN}" if color else tag


def _place_text(problem: Problem) -> str:
    numbers = [str(number) for number in (problem.place.line, problem.place.column) if number]
    return ":".join([problem.file, *numbers]) + ": " if problem.file else ""


def _excerpt(problem: Problem, suggestion: str) -> list[str]:
    """Return the line of the file and a caret below the stretch that is meant, with a long line cut."""
    place = problem.place
    if not problem.excerpt.strip() or not place.column:
        return []
    shown, caret_at = cut(problem.excerpt, place)
    width = max(1, min(place.width, len(shown) - caret_at))
    number = f"{place.line:>5}"
    carets = f"{' ' * len(number)} | {' ' * caret_at}{'^' * width} {suggestion}".rstrip()
    return [f"{number} | {shown}".rstrip(), carets]


def cut(line: str, place: Place) -> tuple[str, int]:
    """Return the part of a line to show, and where in it the place begins, counted from 0."""
    text = "".join(character if character.isprintable() else " " for character in line)
    at = min(place.column - 1, len(text))
    start = 0
    if len(text) > EXCERPT_WIDTH and at > EXCERPT_WIDTH // 2:
        start = min(at - EXCERPT_WIDTH // 4, len(text) - EXCERPT_WIDTH + 1)
    end = start + EXCERPT_WIDTH
    shown = ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
    return shown, at - start + (1 if start else 0)


def number_ranges(numbers: Iterable[int]) -> str:
    """Return numbers as ranges, e.g. ``3, 40-70``."""
    unique = sorted(set(numbers))
    parts = []
    for _, run in groupby(enumerate(unique), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        parts.append(f"{members[0]}-{members[-1]}" if len(members) > 1 else str(members[0]))
    return ", ".join(parts)


def _overloads(loaded: Loaded, plans: Sequence[PollPlan]) -> list[Problem]:
    return overloads(loaded.config, plans, loaded.document) if loaded.config else []


def _explain_one(problems: Iterable[Problem]) -> str:
    code = next((problem.code for problem in problems if problem.is_error), "C101")
    return f"What a code means: edge-opcua explain {code}"


def _count(problems: Iterable[Problem], severity: Severity) -> int:
    return sum(problem.severity is severity for problem in problems)

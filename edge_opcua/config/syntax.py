"""Reads a TOML file into a dictionary with places, and says in plain words what is wrong with its syntax.

tomllib stops at its first fault. A line that is a whole setting is left out and the rest is read again, so
that one missing quote does not hide the next.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from edge_opcua.config.locate import Places, locate
from edge_opcua.config.problem import Place, Problem, quoted

MAX_TOML_BYTES: Final = 4 * 2**20
_MOST_FAULTS: Final = 20
_MOST_LEVELS: Final = 50

_POSITION: Final = re.compile(
    r"^(?P<text>.*?) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$"
)
_SETTING: Final = re.compile(
    r"^(?P<start>\s*(?P<key>[\w\"'.-]+(?:[ \t]*\.[ \t]*[\w\"'-]+)*)\s*=[ \t]*)(?P<value>.*)$"
)
_COLON: Final = re.compile(r"^\s*(?P<key>[\w\"'-]+)(?P<colon>\s*:)(?=\s|$)")
_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+")
_LEADING_ZERO: Final = re.compile(r"[+-]?0\d+")
_WITH_UNIT: Final = re.compile(r"(?P<number>[+-]?\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-zµ°%][\w/]*)")
_TYPOGRAPHIC: Final = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u00ab\u00bb"
_TRUTH_WORDS: Final = {
    "true": "true",
    "yes": "true",
    "on": "true",
    "false": "false",
    "no": "false",
    "off": "false",
}


@dataclass(slots=True)
class Document:
    """A TOML file as far as it could be read.

    Args:
        file: Its name, as the user can open it.
        lines: Its lines.
        raw: What tomllib made of it; None if nothing could be made.
        places: Where its keys and values stand.
        problems: What is wrong with the syntax.
        damaged: Whether settings were left out, so that their absence means nothing.
    """

    file: str
    lines: list[str] = field(default_factory=list)
    raw: dict[str, Any] | None = None
    places: Places = field(default_factory=lambda: locate(""))
    problems: list[Problem] = field(default_factory=list)
    damaged: bool = False

    def at(self, problem: Problem) -> Problem:
        """Return a problem with this file's name and the line that it speaks of."""
        return replace(problem, file=self.file, excerpt=line_of(self.lines, problem.place.line))


def line_of(lines: Sequence[str], line: int) -> str:
    """Return one of the lines of a file, counted from 1; an empty text if there is none."""
    return lines[line - 1] if 0 < line <= len(lines) else ""


class UnreadableError(Exception):
    """A file cannot be taken as text at all.

    Args:
        message: Why, as the end of a sentence that begins with the name of the file.
        remedy: What to do about it.
        is_absent: Whether nothing could be read, as opposed to the wrong thing.
    """

    def __init__(self, message: str, *, remedy: str = "", is_absent: bool = False) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.is_absent = is_absent


def read_bytes(path: Path, *, limit_bytes: int) -> bytes:
    """Return the content of a regular file of bounded size.

    Raises:
        UnreadableError: It does not exist, may not be read, is no file, or is too large.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError(
                "is not a file" if not stat.S_ISDIR(status.st_mode) else "is a folder, not a file"
            )
        if status.st_size > limit_bytes:
            raise UnreadableError(
                f"is {status.st_size / 2**20:.0f} MiB large; at most {limit_bytes // 2**20} MiB are read",
                remedy="is this the right file?",
            )
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise UnreadableError("there is no such file", is_absent=True) from exc
    except PermissionError as exc:
        remedy = f"chmod a+r {path}"
        raise UnreadableError("may not be read by this user", remedy=remedy, is_absent=True) from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise UnreadableError(f"cannot be read: {reason}", is_absent=True) from exc


def read_document(path: Path, file: str) -> Document:
    """Read a TOML file.

    Args:
        path: The file.
        file: Its name in messages.

    Returns:
        The document; whatever is wrong stands in its problems, nothing is raised.
    """
    try:
        data = read_bytes(path, limit_bytes=MAX_TOML_BYTES)
        text = _as_text(data)
    except UnreadableError as exc:
        code = "C107" if exc.is_absent else "C108"
        return Document(file, problems=[Problem(code, str(exc), file=file, help=exc.remedy)])
    return parse_document(text, file)


def _as_text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableError("is UTF-16; TOML is UTF-8", remedy='save it as "UTF-8" in the editor')
    if b"\x00" in data:
        raise UnreadableError("is not a text file", remedy="is this the right file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise UnreadableError(
            f"line {line} is not UTF-8 (byte 0x{data[exc.start]:02X})",
            remedy='save it as "UTF-8" in the editor',
        ) from exc
    return text.replace("\r\n", "\n")


def parse_document(text: str, file: str) -> Document:
    """Parse the text of a TOML file, leaving out settings whose syntax is wrong.

    Args:
        text: The text, lines ended by a line feed.
        file: Its name in messages.
    """
    document = Document(file, lines=text.split("\n"))
    lines = list(document.lines)
    for _ in range(_MOST_FAULTS):
        remaining = "\n".join(lines)
        try:
            document.raw = tomllib.loads(remaining)
        except tomllib.TOMLDecodeError as exc:
            fault = _fault(str(exc), remaining)
        except RecursionError:
            fault = Problem("C101", "lists or tables are nested too deeply", place=Place(1, 1))
        except ValueError as exc:  # tomllib lets int() refuse more than 4300 digits
            fault = Problem("C101", f"a number is too long: {exc}", place=Place(1, 1))
        else:
            if _is_deep(document.raw):
                document.raw = None
                fault = Problem("C101", "lists or tables are nested too deeply", place=Place(1, 1))
            else:
                document.places = locate(remaining)
                return document
        document.problems.append(document.at(fault))
        line = fault.place.line
        if not (0 < line <= len(lines) and _is_whole_setting(lines[line - 1])):
            return document
        document.damaged |= fault.code != "C122"
        lines[line - 1] = ""
    return document


def _is_deep(raw: Any) -> bool:
    level = [raw]
    for _ in range(_MOST_LEVELS):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _is_whole_setting(line: str) -> bool:
    match = _SETTING.match(line)
    if not (match or _COLON.match(line)) or '"""' in line or "'''" in line:
        return False
    value = match["value"] if match else line
    return value.count("[") == value.count("]") and value.count("{") == value.count("}")


def _fault(message: str, text: str) -> Problem:
    match = _POSITION.match(message)
    what = match["text"] if match else message
    lines = text.split("\n")
    if match and match["line"]:
        line, column = int(match["line"]), int(match["column"])
    else:
        line, column = len(lines), len(lines[-1]) + 1
    if what.startswith(("Cannot overwrite", "Cannot declare", "Cannot mutate", "Duplicate inline table key")):
        return _set_twice(what, text, line)
    if what.startswith(("Unclosed", "Unterminated", "Expected \"'''\"")):
        return _never_closed(what, lines, line)
    return _line_fault(what, lines[line - 1] if line <= len(lines) else "", line, column)


def _set_twice(what: str, text: str, line: int) -> Problem:
    for name, first, second in locate(text).again:
        if second.line == line:
            message = f'"{name}" is set twice (first in line {first.line})'
            return Problem("C122", message, place=second, help="keep one of them")
    return Problem("C101", _lower(what), place=Place(line, 1))


def _never_closed(what: str, lines: list[str], line: int) -> Problem:
    """Blame the line where the open bracket or quote stands, not the one where the parser gave up."""
    opened = next(
        (
            number
            for number in range(min(line, len(lines)), 0, -1)
            if (match := _SETTING.match(lines[number - 1])) and not _is_whole_setting(lines[number - 1])
        ),
        line,
    )
    match = _SETTING.match(lines[opened - 1]) if opened <= len(lines) else None
    if not match:
        return Problem("C101", _lower(what), place=Place(line, 1))
    start, value = len(match["start"]), match["value"]
    marks = {"[": ("list", "]"), "{": ("table", "}"), '"': ("text", '"'), "'": ("text", "'")}
    thing, mark = marks.get(value[:1], ("value", "]"))
    if value[:3] in {'"""', "'''"}:
        mark = value[:3]
    message = f"the {thing} that begins here is never closed; {mark} is missing"
    return Problem("C101", message, place=Place(opened, start + 1, max(1, len(value))))


def _line_fault(what: str, line_text: str, line: int, column: int) -> Problem:
    match = _SETTING.match(line_text)
    if match:
        start, value = len(match["start"]), match["value"].strip()
        said = _value_fault(match["key"], value)
        if said:
            shown = value if value[:1] in {'"', "'"} else value.split("#")[0].strip()
            return Problem("C101", said[0], place=Place(line, start + 1, max(1, len(shown))), help=said[1])
    colon = _COLON.match(line_text)
    if colon:
        place = Place(line, colon.start("colon") + 1, len(colon["colon"]))
        return Problem("C101", f'{colon["key"]}: TOML has "=" between key and value, not ":"', place=place)
    stripped = line_text.strip()
    if stripped and not match and "=" not in stripped and not stripped.startswith("["):
        place = Place(line, len(line_text) - len(line_text.lstrip()) + 1, len(stripped))
        return Problem("C101", f'{quoted(stripped)} is neither "key = value" nor "[table]"', place=place)
    return Problem("C101", _lower(what), place=Place(line, column))


def _value_fault(key: str, value: str) -> tuple[str, str] | None:
    """Return sentence and help for the value of ``key = value``, or None if nothing better is known."""
    bare = value.split("#")[0].strip()
    if not bare:
        return f"{key} has no value", "write one after the =, or put a # before the line"
    if bare[0] in _TYPOGRAPHIC:
        return (
            f"{key}: typographic quotes",
            f'write {key} = "{bare.strip(_TYPOGRAPHIC)}" with straight quotes',
        )
    if bare[0] in "\"'":
        return _string_fault(key, value)
    if bare[0] in "[{":
        return None
    return _number_fault(key, bare) or (
        f"{key}: {bare[:60]} is text; text needs quotes",
        f'write {key} = "{bare[:60]}"',
    )


def _number_fault(key: str, bare: str) -> tuple[str, str] | None:
    truth = _TRUTH_WORDS.get(bare.casefold())
    if truth:
        return f"{key}: {bare} is not a truth value", f"write {key} = {truth}"
    if _DECIMAL_COMMA.fullmatch(bare):
        return f"{key}: {bare} has a decimal comma", f"write {key} = {bare.replace(',', '.')}"
    if _LEADING_ZERO.fullmatch(bare):
        return f"{key}: {bare} begins with zero", f"write {key} = {int(bare[:20])}, or quotes if it is a text"
    with_unit = _WITH_UNIT.fullmatch(bare)
    if with_unit:
        return (
            f"{key}: {quoted(bare)} has a unit; the unit belongs to the name of the key",
            f'write {key} = {with_unit["number"]}, or "{bare}" if it is a text',
        )
    return None


def _string_fault(key: str, value: str) -> tuple[str, str] | None:
    quote = value[0]
    body = value[1:]
    if quote == '"' and "\\" in body:
        return (
            f'{key}: a backslash in "…" begins an escape',
            f"write {key} = '{body.rstrip(quote)}' with single quotes, or double each backslash",
        )
    if body.count(quote) % 2 == 0:
        return f"{key}: the text is not closed", f"add a {quote} at its end"
    return None


def _lower(what: str) -> str:
    return what[:1].lower() + what[1:]

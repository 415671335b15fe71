"""Makes one configuration of several files, templates and tables of machines, and knows where it all stands.

Everything behind this sees plain devices, pipelines and outputs, as if each machine had been written out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, Final

from edge_opcua.config.locate import Path, Places
from edge_opcua.config.problem import Place, Problem, Severity, nearest, quoted
from edge_opcua.config.schema import MachinesConfig, TemplateConfig
from edge_opcua.config.syntax import Document, read_document
from edge_opcua.config.templates import (
    SECTIONS,
    Machine,
    MachineTable,
    instance,
    placeholders,
    read_machines,
    texts_in,
)
from edge_opcua.config.validate import Source, check, dotted, type_word

MAX_FILES: Final = 1_000
_LISTS: Final = (*SECTIONS, "renames", "templates", "machines")


@dataclass(frozen=True, slots=True)
class _Moved:
    """Where a part of the whole really stands.

    Args:
        document: In which file.
        at: At which path there.
        origin: For which machine, empty if for none.
    """

    document: Document
    at: Path
    origin: str = ""


class _ComposedPlaces(Places):
    """The places of several files, by their path in the whole."""

    def __init__(self, main: Document, moved: Mapping[Path, _Moved]) -> None:
        super().__init__({}, main.places.again)
        self._main = main
        self._moved = moved

    def __contains__(self, path: Path) -> bool:
        moved = self.of(path)
        return (*moved.at, *path[self._depth(path) :]) in moved.document.places

    def __iter__(self) -> Iterator[Path]:
        return iter(self._main.places)

    def key(self, path: Path) -> Place:
        """Return the place of a key; of the nearest table above it if the key itself is missing."""
        moved = self.of(path)
        return self._here(moved, moved.document.places.key((*moved.at, *path[self._depth(path) :])))

    def value(self, path: Path) -> Place:
        """Return the place of a value; of the nearest table above it if there is none."""
        moved = self.of(path)
        return self._here(moved, moved.document.places.value((*moved.at, *path[self._depth(path) :])))

    def _depth(self, path: Path) -> int:
        return next((depth for depth in (2, 1) if path[:depth] in self._moved and len(path) >= depth), 0)

    def of(self, path: Path) -> _Moved:
        """Return where a part of the whole stands."""
        depth = self._depth(path)
        return self._moved[path[:depth]] if depth else _Moved(self._main, ())

    def _here(self, moved: _Moved, place: Place) -> Place:
        file = "" if moved.document is self._main else moved.document.file
        return replace(place, file=file, origin=moved.origin)


@dataclass(slots=True)
class Composition(Document):
    """All files together, as one document.

    Args:
        parts: The included files, by name.
        machines: Which machine an entry of a section is for, by path.
        filled: Paths of texts that came whole from a table of machines; these may be read as numbers.
        counts: Number of machines of each template.
    """

    parts: dict[str, Document] = field(default_factory=dict)
    machines: dict[Path, Machine] = field(default_factory=dict)
    filled: frozenset[Path] = frozenset()
    counts: dict[str, int] = field(default_factory=dict)

    def at(self, problem: Problem) -> Problem:
        """Return a problem with the name of the file and the line that it speaks of."""
        part = self.parts.get(problem.place.file)
        found = Document.at(self, problem) if part is None else part.at(problem)
        return replace(found, origin=problem.place.origin or problem.origin)

    def file_of(self, path: Path) -> str:
        """Return the name of the file a part of the whole stands in."""
        return self.places.key(path).file or self.file


def compose(main: Document, env: Mapping[str, str] = os.environ) -> Composition:
    """Return a document with its includes and its machines.

    Args:
        main: The file that was named.
        env: The environment; a placeholder may be a variable of it.

    Returns:
        The whole; what is wrong with it stands in its problems.
    """
    return _Composer(main, env).run()


class _Composer:
    def __init__(self, main: Document, env: Mapping[str, str]) -> None:
        self._main = main
        self._env = env
        self._moved: dict[Path, _Moved] = {}
        self._whole: set[Path] = set()
        self._places = _ComposedPlaces(main, self._moved)
        self._all = Composition(main.file, main.lines, None, self._places, list(main.problems), main.damaged)
        self._raw: dict[str, Any] = {}

    def run(self) -> Composition:
        """Return the whole."""
        if self._main.raw is None:
            return self._all
        self._raw = dict(self._main.raw)
        include = self._raw.pop("include", None)
        for file in self._included(include):
            self._merge(file)
        templates = self._templates()
        machines = self._raw.pop("machines", None)
        for index, entry in enumerate(_tables(machines)):
            self._expand(index, entry, templates)
        self._check_lists(templates, machines)
        self._all.raw = self._raw
        self._all.filled = frozenset(self._whole)
        return self._all

    def _report(self, path: Path, problem: Problem, *, at_key: bool = False) -> None:
        place = self._places.key(path) if at_key else self._places.value(path)
        raw = {**(self._main.raw or {}), **self._raw}
        self._all.problems.append(self._all.at(replace(problem, place=place, where=dotted(raw, path))))

    def _included(self, include: Any) -> list[Document]:
        if include is None:
            return []
        patterns = [include] if isinstance(include, str) else include
        if not isinstance(patterns, list) or not all(isinstance(one, str) for one in patterns):
            message = f"this is {type_word(include)}; a list of file names is needed"
            self._report(("include",), Problem("C105", message, help='write ["lines/*.toml"]'))
            return []
        folder = FilePath(self._main.file).parent
        found: dict[str, None] = {}
        for index, pattern in enumerate(patterns):
            files = _files(folder, pattern)
            if not files:
                message = f"{quoted(pattern)}: there is no such file"
                severity = Severity.WARNING if any(each in pattern for each in "*?[") else Severity.ERROR
                path: Path = ("include", index) if isinstance(include, list) else ("include",)
                self._report(path, Problem("C130", message, severity))
            found |= dict.fromkeys(files)
        if len(found) > MAX_FILES:
            self._report(("include",), Problem("C130", f"{len(found)} files; at most {MAX_FILES} are read"))
            return []
        own = FilePath(self._main.file).resolve()
        return [read_document(FilePath(file), file) for file in found if FilePath(file).resolve() != own]

    def _merge(self, document: Document) -> None:
        self._all.parts[document.file] = document
        self._all.problems += document.problems
        self._all.damaged |= document.damaged or document.raw is None
        for key, value in (document.raw or {}).items():
            if key == "include":
                message = "an included file includes no others"
                help_text = f"name them all in {self._main.file}"
                place = document.places.key(("include",))
                self._all.problems.append(document.at(Problem("C131", message, place=place, help=help_text)))
            elif key == "version" and value == self._raw.get("version"):
                continue
            elif key in _LISTS and isinstance(value, list) and isinstance(self._raw.get(key, []), list):
                self._add_list(key, value, document)
            elif isinstance(value, dict) and isinstance(self._raw.get(key, {}), dict):
                self._add_table(key, value, document)
            else:
                self._add_key((key,), value, self._raw, document)

    def _add_list(self, key: str, value: list[Any], document: Document) -> None:
        entries = self._raw[key] = list(self._raw.get(key, []))
        for index in range(len(value)):
            self._moved[(key, len(entries) + index)] = _Moved(document, (key, index))
        entries += value

    def _add_table(self, key: str, value: dict[str, Any], document: Document) -> None:
        if key not in self._raw:
            self._moved[(key,)] = _Moved(document, (key,))
        table = self._raw[key] = dict(self._raw.get(key, {}))
        for name, inner in value.items():
            self._add_key((key, name), inner, table, document)

    def _add_key(self, path: Path, value: Any, table: dict[str, Any], document: Document) -> None:
        name = str(path[-1])
        if name in table:
            first = self._places.key(path)
            message = f'"{name}" is set twice (first in {first.file or self._main.file}:{first.line})'
            problem = Problem("C122", message, place=document.places.key(path), help="keep one of them")
            self._all.problems.append(document.at(replace(problem, where=".".join(map(str, path)))))
            return
        table[name] = value
        self._moved[path] = _Moved(document, path)

    def _templates(self) -> dict[str, int]:
        """Return the number of each template by its name."""
        found: dict[str, int] = {}
        for index, table in enumerate(_tables(self._raw.get("templates"))):
            name = table.get("name")
            if not isinstance(name, str) or not name:
                continue
            first = found.setdefault(name, index)
            if first != index:
                line = self._places.value(("templates", first, "name")).line
                message = f"{quoted(name)} is defined twice (first in line {line})"
                self._report(("templates", index, "name"), Problem("C111", message))
        return found

    def _check_lists(self, templates: Mapping[str, int], machines: Any) -> None:
        """Check what is no longer in the whole when the rest is."""
        used = {entry.get("template") for entry in _tables(machines)}
        for name, index in templates.items():
            if name not in used:
                message = f"no table of machines uses template {quoted(name)}"
                self._report(("templates", index, "name"), Problem("C123", message, Severity.WARNING))
        source = Source({**self._raw, "machines": machines}, self._places, damaged=self._all.damaged)
        for key, model, value in (
            ("templates", TemplateConfig, self._raw.pop("templates", None)),
            ("machines", MachinesConfig, machines),
        ):
            if value is not None and not isinstance(value, list):
                message = f"this is {type_word(value)}; write [[{key}]]"
                self._report((key,), Problem("C105", message), at_key=True)
                continue
            for index, table in enumerate(_tables(value)):
                checked = check(model, table, source, (key, index))
                self._all.problems += [self._all.at(problem) for problem in checked.problems]

    def _expand(self, index: int, entry: dict[str, Any], templates: Mapping[str, int]) -> None:
        path: Path = ("machines", index)
        wanted, name = entry.get("template"), entry.get("table")
        if not isinstance(wanted, str) or not isinstance(name, str):
            return
        number = templates.get(wanted)
        if number is None:
            suggestion = nearest(wanted, templates)
            known = "" if suggestion else f"templates: {', '.join(templates) or 'none'}"
            problem = Problem(
                "C132", f"template {quoted(wanted)} is not defined", suggestion=suggestion, help=known
            )
            self._report((*path, "template"), problem)
            return
        table = self._table((*path, "table"), name, wanted)
        for section in SECTIONS:
            found = self._raw.get(section)
            self._raw[section] = list(found) if isinstance(found, list) else []
        template = _tables(self._raw.get("templates"))[number]
        self._check_placeholders(number, template, table, name)
        for machine in table.machines:
            for section in SECTIONS:
                for at, part in enumerate(_tables(template.get(section))):
                    self._add_instance(section, ("templates", number, section, at), part, machine)
        for section in SECTIONS:
            if not self._raw[section]:
                del self._raw[section]
        self._all.counts[wanted] = self._all.counts.get(wanted, 0) + len(table.machines)

    def _table(self, path: Path, name: str, template: str) -> MachineTable:
        file = str(FilePath(self._all.file_of(path)).parent / name)
        table = read_machines(FilePath(file), file, template)
        if table.is_absent:
            problem = table.problems[0]
            message = f"{quoted(name)}: {problem.message}"
            self._report(path, Problem("T255", message, help=problem.help))
        else:
            self._all.problems += table.problems
        return table

    def _check_placeholders(
        self, number: int, template: dict[str, Any], table: MachineTable, name: str
    ) -> None:
        """Every placeholder is a column or a variable; otherwise each machine would say so."""
        if not table.columns:
            return
        at: Path = ("templates", number)
        for path, text in texts_in({key: template.get(key) for key in SECTIONS}, at):
            for placeholder, has_default in placeholders(text):
                if has_default or placeholder.lower() in table.columns or self._env.get(placeholder):
                    continue
                suggestion = nearest(placeholder, table.columns)
                message = f"${{{placeholder}}} is neither a column of {name} nor set in the environment"
                problem = Problem("C133", message, suggestion=f"${{{suggestion}}}" if suggestion else "")
                self._report(path, problem)

    def _add_instance(self, section: str, at: Path, part: dict[str, Any], machine: Machine) -> None:
        entries = self._raw[section]
        path: Path = (section, len(entries))
        moved = self._places.of(at)
        self._moved[path] = _Moved(moved.document, (*moved.at, *at[2:]) if moved.at else at, machine.origin)
        entries.append(instance(part, machine.values, path, self._whole))
        self._all.machines[path] = machine


def _tables(value: Any) -> list[dict[str, Any]]:
    return [item if isinstance(item, dict) else {} for item in value] if isinstance(value, list) else []


def _files(folder: FilePath, pattern: str) -> list[str]:
    """Return the files of a pattern, sorted, as they are named below the folder."""
    try:
        if not any(each in pattern for each in "*?["):
            file = folder / pattern
            return [str(file)] if file.is_file() else []
        if FilePath(pattern).is_absolute():
            found = FilePath("/").glob(pattern.lstrip("/"))
        else:
            found = folder.glob(pattern)
        return sorted(str(file) for file in found if file.is_file())
    except (OSError, ValueError, NotImplementedError):
        return []

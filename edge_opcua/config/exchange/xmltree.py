"""Reads XML that nobody vouches for: no document type, no entities, bounded depth and size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from edge_opcua.config.exchange.listing import ListError

_MAX_DEPTH: Final = 64
_MAX_ELEMENTS: Final = 1_000_000


@dataclass(slots=True)
class Element:
    """One element.

    Args:
        name: Its name without a namespace.
        attributes: Its attributes.
        line: Where it begins.
        children: The elements in it.
        text: The characters directly in it.
    """

    name: str
    attributes: dict[str, str]
    line: int
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> Iterator[Element]:
        """Yield the children of a name."""
        return (child for child in self.children if child.name == name)

    def first(self, name: str) -> Element | None:
        """Return the first child of a name, or None."""
        return next(self.all(name), None)


def read_xml(data: bytes) -> Element:
    """Return the root of a document.

    Raises:
        ListError: It is not well-formed, has a document type or entities, or is nested too deeply (T253).
    """
    builder = _Builder()
    try:
        builder.parse(data)
    except expat.ExpatError as exc:
        raise ListError(f"is not well-formed XML: {exc}", code="T253", line=exc.lineno) from exc
    return builder.root


class _Builder:
    def __init__(self) -> None:
        self.root = Element("", {}, 0)
        self._open: list[Element] = []
        self._texts: list[list[str]] = []
        self._count = 0
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._doctype

    def parse(self, data: bytes) -> None:
        self._parser.Parse(data, True)  # noqa: FBT003 - expat's own signature

    def _doctype(self, *_: object) -> None:
        # Entities are declared nowhere else, so this also keeps out the ones that grow without end.
        raise ListError("declares a document type; such a file is not read", code="T253")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= _MAX_DEPTH or self._count > _MAX_ELEMENTS:
            raise ListError("is nested too deeply or has too many elements", code="T253")
        element = Element(name.rpartition(":")[2], attributes, self._parser.CurrentLineNumber)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._texts.append([])

    def _end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._texts.pop())

    def _characters(self, text: str) -> None:
        if self._texts:
            self._texts[-1].append(text)

"""Elements of a page, so that what is said stands apart from how it is marked up."""

from __future__ import annotations

from html import escape
from typing import Final

_EMPTY: Final = frozenset({"br", "meta"})
DOT: Final = " \N{MIDDLE DOT} "
DASH: Final = "\N{EM DASH}"


def element(kind: str, *inner: str, **attributes: str) -> str:
    """Return an element.

    Args:
        kind: Its name.
        inner: What is in it, as HTML; texts of others have gone through :func:`html.escape`.
        attributes: By name; ``_`` stands for ``-``, and is left out at the end (``class_``).
    """
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value
    )
    return f"<{kind}{named}>" if kind in _EMPTY else f"<{kind}{named}>{''.join(inner)}</{kind}>"


def cell(text: str = "", small: str = "", kind: str = "n") -> str:
    """Return a cell of a table: a figure, and in small letters below it what belongs to it (both as HTML)."""
    below = f"{element('br')}{element('small', small)}" if small else ""
    return element("td", text, below, class_=kind)


def definitions(facts: dict[str, str], kind: str = "") -> str:
    """Return facts by name; texts, not HTML."""
    entries = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value)
    return element("dl", *entries, class_=kind)


def points(*entries: str) -> str:
    """Return a list; each entry as HTML."""
    return element("ul", *(element("li", entry) for entry in entries))

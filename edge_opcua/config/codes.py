"""What every stable code means: the pages of ``edge-opcua explain``, offline, and of the reference.

The pages themselves are prose and stand in ``codes.toml``.
"""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

FAMILIES: Final = {
    "C": "configuration",
    "T": "tag tables and addresses",
    "D": "devices and their links",
    "S": "security",
    "M": "models",
    "H": "this machine",
    "R": "records",
}
_PAGES: Final = Path(__file__).with_name("codes.toml")
_WIDTH: Final = 96


@dataclass(frozen=True, slots=True)
class Code:
    """The page of one code.

    Args:
        title: What it is, in a few words.
        text: What it means and where it comes from.
        remedy: What to do, the most likely first.
    """

    title: str
    text: str
    remedy: str


@cache
def codes() -> Mapping[str, Code]:
    """Return the page of every code, in the order of the codes' families."""
    pages = tomllib.loads(_PAGES.read_text(encoding="utf-8"))
    return MappingProxyType(
        {
            name: Code(*(" ".join(page[key].split()) for key in ("title", "text", "remedy")))
            for name, page in pages.items()
        }
    )


def explain(code: str) -> str | None:
    """Return the page of a code for the screen, or None if there is no such code.

    Args:
        code: The code, in any case, with or without brackets.
    """
    name = code.strip().strip("[]").upper()
    page = codes().get(name)
    if page is None:
        return None
    body = textwrap.fill(page.text, _WIDTH, break_on_hyphens=False)
    remedy = textwrap.fill(page.remedy, _WIDTH, initial_indent="What to do: ", break_on_hyphens=False)
    return f"{name}: {page.title}   ({FAMILIES[name[0]]})\n\n{body}\n\n{remedy}"

"""What is installed to run carries no copyleft into a plant, apart from asyncua, which is only imported."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# LGPL: used by importing and subclassing, unmodified, replaceable by the user (docs/adr/0002).
LESSER_ALLOWED = {"asyncua"}
# Same subject, other licence: at most a peer process of a test (docs/adr/0006).
NEVER = {"aphyt", "cpppo", "profinet-py", "scapy"}

_COPYLEFT = re.compile(r"\b(A|L)?GPL|(affero|lesser|library)?\s*general public licen[sc]e", re.IGNORECASE)
_LESSER = re.compile(r"\bLGPL|(lesser|library)\s+general public licen[sc]e", re.IGNORECASE)


def runtime_closure(name: str, extras: Iterable[str]) -> Iterator[str]:
    """Yield the installed distributions that running needs, the named one first."""
    seen: set[tuple[str, str]] = set()
    wanted = [(name, extra) for extra in ("", *extras)]
    while wanted:
        here = wanted.pop()
        if here in seen:
            continue
        if here[0] not in {known for known, _ in seen}:
            yield here[0]
        seen.add(here)
        for line in importlib.metadata.requires(here[0]) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": here[1]}):
                child = canonicalize_name(needed.name)
                wanted += [(child, extra) for extra in ("", *needed.extras)]


def licence_of(name: str) -> str:
    """Return what the distribution says about its licence, in one line (first line of a full text)."""
    metadata = importlib.metadata.metadata(name)
    keys = [key for key in ("License-Expression", "License") if key in metadata]
    stated = [metadata[key].partition("\n")[0] for key in keys]
    stated += [line for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    return "; ".join(part for part in stated if part)


def verdict(name: str, licence: str) -> str:
    """Return why a runtime distribution with this licence must not be here, or an empty string."""
    if name in NEVER:
        return f"{name} must not be in the runtime"
    if not licence:
        return f"{name} does not state a licence"
    # "A OR B" lets us choose B; only when no alternative is free of copyleft does it bind us.
    if any(not _COPYLEFT.search(choice) for choice in licence.split(" OR ")):
        return ""
    if _LESSER.search(licence) and name in LESSER_ALLOWED:
        return ""
    return f"{name} is under {licence}"


def test_the_runtime_is_free_of_copyleft() -> None:
    names = sorted(runtime_closure("edge-opcua", ["cpu"]))
    assert {"edge-opcua", "asyncua", "onnxruntime", "pymodbus"} <= set(names)
    assert [why for name in names if (why := verdict(name, licence_of(name)))] == []


@pytest.mark.parametrize(
    ("name", "licence", "refused"),
    [
        ("cpppo", "GPL-3.0-or-later", True),
        ("cpppo", "MIT", True),
        ("somelib", "AGPL-3.0-only", True),
        ("somelib", "GNU Lesser General Public License v3 or later", True),
        ("somelib", "License :: OSI Approved :: GNU General Public License v2 (GPLv2)", True),
        ("somelib", "", True),
        ("asyncua", "GNU Lesser General Public License v3 or later", False),
        ("asyncua", "GPL-3.0-only", True),
        ("somelib", "MIT OR GPL-2.0-only", False),
        ("somelib", "BSD-3-Clause", False),
    ],
)
def test_the_check_tells_licences_apart(name: str, licence: str, refused: bool) -> None:
    assert bool(verdict(name, licence)) is refused

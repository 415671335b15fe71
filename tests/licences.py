"""What installed distributions say about their licence, and which may be needed to run."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator

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

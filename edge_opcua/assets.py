"""Where the files that travel with the package lie, in a checkout and in an installed wheel alike."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def nodesets_dir() -> Path:
    """Return the folder of the NodeSet2 files that the server loads.

    Raises:
        FileNotFoundError: The installation lacks the folder.
    """
    return _find("nodesets")


def examples_dir() -> Path:
    """Return the folder of the examples that the demo and the documents run.

    Raises:
        FileNotFoundError: The installation lacks the folder.
    """
    return _find("examples")


def _find(name: str) -> Path:
    # The wheel carries a copy inside the package; in a checkout the folder lies beside it.
    for place in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"{name}/ is missing beside {_PACKAGE}: install edge-opcua again")

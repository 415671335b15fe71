"""The arguments of ``edge-opcua model``: each family of verbs is beside what does it."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

ROOM: Final = "edge_opcua.app.command.model"
FAMILIES: Final = ("store", "change", "data")
"""Modules with verbs: each has ``add_arguments(verbs)`` and ``run(args, state) -> int`` (``args.verb``).

They are imported for every ``--help``: what takes long to import, they import in ``run``.
"""


def add_model(commands: Any) -> None:
    """Add the command with all its verbs."""
    model = commands.add_parser(
        "model", help="models: look into, add, prove, change, compare, take back", allow_abbrev=False
    )
    verbs = model.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in FAMILIES:
        path = f"{ROOM}.{name}"
        before = set(verbs.choices)
        import_module(path).add_arguments(verbs)
        for verb in set(verbs.choices) - before:
            verbs.choices[verb].set_defaults(module=path)

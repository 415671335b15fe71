"""The verbs of ``edge-opcua model`` that change what runs: activate, rollback, release."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.model.names import ModelName, model_name, model_version

_ROOM: Final = "edge_opcua.app.command.model.act"
MOST_SHADOW: Final = 1_000_000


def add_arguments(verbs: Any) -> None:
    """Add the verbs."""
    for add in (_add_activate, _add_rollback, _add_release):
        add(verbs)


def run(args: argparse.Namespace, state: Path) -> int:
    """Do what one of the verbs says; return the exit code."""
    code: int = getattr(import_module(_ROOM), args.verb)(args, state)
    return code


def _add_activate(verbs: Any) -> None:
    activate = verbs.add_parser(
        "activate",
        help="let a version take over, and follow it until it judges; without a server, at its next start",
        allow_abbrev=False,
    )
    activate.add_argument("model", type=model_version, metavar="NAME/VERSION", help="which one")
    activate.add_argument(
        "--pipelines",
        type=_names,
        default=[],
        metavar="NAME,…",
        help="only in these pipelines; without: in each that runs a model of its name",
    )
    activate.add_argument(
        "--shadow",
        type=_captures,
        default=None,
        metavar="N",
        help="first judge N captures beside the active version, unseen; without: as configured",
    )
    activate.add_argument(
        "--sha256",
        default="",
        metavar="HEX",
        help="only if its file has this hash; any that verifies without",
    )
    _add_common(activate)


def _add_rollback(verbs: Any) -> None:
    rollback = verbs.add_parser(
        "rollback",
        help="bring the former version back; without a server, at its next start",
        allow_abbrev=False,
    )
    rollback.add_argument(
        "model",
        nargs="?",
        type=_whole,
        default=None,
        metavar="NAME",
        help="which model; not needed where only one has a former version",
    )
    rollback.add_argument("--pipeline", default="", metavar="NAME", help="only in this pipeline")
    _add_common(rollback)


def _add_release(verbs: Any) -> None:
    release = verbs.add_parser(
        "release", help="take a version out of quarantine: it may be activated again", allow_abbrev=False
    )
    release.add_argument("model", type=model_version, metavar="NAME/VERSION", help="which one")
    _add_common(release)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--note", default="", metavar="TEXT", help="why, for the history")
    parser.add_argument(
        "--state", type=Path, default=None, metavar="DIR", help="state directory of the server"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of pipelines, e.g. press,trend")
    return names


def _captures(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else -1
    if not 0 <= number <= MOST_SHADOW:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of captures from 0 to {MOST_SHADOW}")
    return number


def _whole(text: str) -> ModelName:
    found = model_name(text)
    if found.version is not None:
        raise argparse.ArgumentTypeError(
            f"{text!r}: the version is not chosen here; the former one comes back"
        )
    return found

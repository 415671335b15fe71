"""The verbs of ``edge-opcua model`` about the repository: what is there, what it is, and what is fit."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_opcua.app.command.modelnames import model_name


def add_arguments(verbs: Any) -> None:
    """Add the verbs."""
    shown = verbs.add_parser("list", help="every version in the repository, and what becomes of it")
    shown.add_argument("model", nargs="?", type=model_name, metavar="NAME", help="only this model")
    _add_common(shown)


def run(args: argparse.Namespace, state: Path) -> int:
    """Do what one of the verbs says; return the exit code."""
    listing = import_module("edge_opcua.app.command.modellist")
    code: int = listing.show(state, args.model, as_json=args.json)
    return code


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument(
        "--state", type=Path, default=None, metavar="DIR", help="state directory (keys, models, journal)"
    )

"""From a configuration to its plan; what only a driver's planner notices gets its place in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from edge_opcua.app.build import Plan, plan
from edge_opcua.config.loader import Loaded
from edge_opcua.config.locate import Path
from edge_opcua.config.problem import Problem
from edge_opcua.errors import AddressError, ConfigError

_NOTHING: Final = Plan((), ())
_SAME_LINE: Final = "C128"
_AGREE: Final = 'give both the same settings; over TCP also connections = "own" where the device takes two'
_MEND: Final = "the reference of the drivers lists the options and what goes together"


def planned(loaded: Loaded) -> tuple[Loaded, Plan]:
    """Return a configuration and its plan; if there can be none, an empty one and a problem that says why."""
    if loaded.config is None:
        return loaded, _NOTHING
    try:
        return loaded, plan(loaded.config)
    except ConfigError as exc:
        problems = (*loaded.problems, problem_of(loaded, exc))
        return replace(loaded, config=None, problems=problems), _NOTHING


def problem_of(loaded: Loaded, exc: ConfigError) -> Problem:
    """Return what a planner said as a problem at the option, the options or the URL of the device."""
    remedy = exc.hint if isinstance(exc, AddressError) else _AGREE if exc.code == _SAME_LINE else _MEND
    names = [device.name for device in loaded.config.devices] if loaded.config else []
    if exc.device not in names:
        return Problem(exc.code, str(exc), file=loaded.document.file, help=remedy)
    place = loaded.document.places.value(_path(loaded, ("devices", names.index(exc.device)), exc))
    message = str(exc).removeprefix(f"{exc.device}: ").removeprefix("options: ")
    problem = Problem(exc.code, message, place=place, where=f"devices[{exc.device}]", help=remedy)
    return loaded.document.at(problem)


def _path(loaded: Loaded, device: Path, exc: ConfigError) -> Path:
    """Return the path of what is probably meant: an option that is named, else all options, else the URL."""
    of_url = exc.code == _SAME_LINE or isinstance(exc, AddressError)
    options = [] if of_url else list(_options(loaded, (*device, "options")))
    each = (path for path in options if len(path) == len(device) + 2)
    named = (path for path in each if re.search(rf"\b{re.escape(str(path[-1]))}\b", str(exc)))
    return next(named, options[0] if options else (*device, "url"))


def _options(loaded: Loaded, above: Path) -> Iterator[Path]:
    return (path for path in loaded.document.places if path[: len(above)] == above)

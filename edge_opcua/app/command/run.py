"""What the commands ``run``, ``check`` and ``explain`` do."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from edge_opcua.app.command.names import examine
from edge_opcua.app.command.planned import planned
from edge_opcua.app.command.tell import REFUSED, WRONG_USE, complain, say
from edge_opcua.app.command.warnings import certificate_warnings
from edge_opcua.app.models import promise
from edge_opcua.app.models.active import install_delivered
from edge_opcua.app.supervisor import Supervisor, state_at
from edge_opcua.config.codes import explain as explanation
from edge_opcua.config.loader import Loaded, load
from edge_opcua.config.report import check_json, check_text, problems_text, wants_color
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.collector import settle
from edge_opcua.core.logs import LineSink, configure_logging
from edge_opcua.core.process import die_with_parent
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ConfigError, ControlError, SecurityError
from edge_opcua.opcua.identity import guard_identity


def run(config_file: Path, state_dir: Path, *, end_with_parent: bool = False) -> int:
    """Run the server until SIGTERM or SIGINT, or until the process that started it dies if that is wanted.

    Returns:
        0; 2 if the configuration or state directory is wrong, 3 if security forbids to start.
    """
    loaded, plan = planned(load(config_file))
    if loaded.problems:
        color = wants_color(os.environ, is_terminal=sys.stderr.isatty())
        complain(problems_text(loaded, color=color))
    if loaded.config is None:
        return WRONG_USE
    configure_logging()
    operator = LineSink(sys.stdout)  # a reader that stands still or is gone may not stop the server

    def tell(line: str) -> None:
        operator.write(line + "\n")

    if end_with_parent:
        die_with_parent()
    try:
        state = state_at(state_dir)
        with state.locked():
            for note in guard_identity(state.identity_lock, loaded.config).notes():
                tell(f"note: {note}")
            for refused in install_delivered(loaded.config, state):
                complain(f"warn: a delivered model is left out: {refused}")
            devices, tags = len(loaded.config.devices), loaded.config.tag_count
            many = "device" if devices == 1 else "devices"
            tell(f"{config_file}   {devices} {many}, {tags} tags   {state.root}")
            supervisor = Supervisor(loaded.config, plan, state, clock=SystemClock(), announce=tell)
            settle()
            unreleased = _served(supervisor)
    except SecurityError as exc:
        complain(f"error[S400] {exc}")
        return REFUSED
    except ConfigError as exc:
        complain(f"error[{exc.code}] {exc}")
        return WRONG_USE
    if unreleased:
        tell(f"stopped; {', '.join(unreleased)} could not be released: the PLC's own time-out has to act")
    else:
        tell("stopped; outputs are released")
    operator.drain()
    return 0


def _served(supervisor: Supervisor) -> tuple[str, ...]:
    """Run the server to its end and return the outputs that were not released."""
    try:
        return asyncio.run(supervisor.run())
    except BaseExceptionGroup as group:
        faults, others = group.split(ControlError)
        if faults is None or others is not None:
            raise
        raise ConfigError(str(faults.exceptions[0]), code="H632") from group


def check(config_file: Path, *, as_json: bool, state_dir: Path | None = None) -> int:
    """Print every error of a configuration at once, or what it will do. No I/O on any device.

    With a state directory also which names that clients know would move, and which deadlines can be promised
    with what was measured.
    """
    own, plan = planned(load(config_file))
    examined = examine(own, state_dir)  # only what is right for itself is held against what clients know
    loaded = examined.loaded
    devices, blocks = (plan.devices, plan.blocks) if loaded.ok else ((), ())
    found = None if loaded.config is None else promise.examine(loaded.config, state_dir)
    if found is not None:
        loaded = promise.with_problems(loaded, found)
    if as_json:
        lanes = None if found is None else promise.as_json(found)
        body = {"inference": lanes, "identity": examined.as_json()}
        say(json.dumps({**check_json(loaded, devices, blocks), **body}))
    else:
        color = wants_color(os.environ, is_terminal=sys.stdout.isatty())
        for line in examined.lines:
            say(line)
        for warning in _certificate_warnings(loaded, state_dir):
            say(f"warn[S431] {warning}")
        rows = [] if found is None else promise.rows(found)
        say(check_text(loaded, devices, blocks, rows, color=color))
    return 0 if loaded.ok else WRONG_USE


def _certificate_warnings(loaded: Loaded, state_dir: Path | None) -> list[str]:
    if state_dir is None or loaded.config is None:
        return []
    names = loaded.config.opcua.certificate_names
    return certificate_warnings(StateDir(state_dir).pki, names, SystemClock().utc_ns())


def explain(code: str) -> int:
    """Print the page of an error code."""
    page = explanation(code)
    if page is None:
        complain(f'there is no code "{code}"; codes look like C103, T203, D331')
        return WRONG_USE
    say(page)
    return 0

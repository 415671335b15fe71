"""What ``model activate``, ``rollback`` and ``release`` do: ask the server, or write it down for later."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.console import NOT_RUNNING, server_answers
from edge_opcua.app.command.look import printable
from edge_opcua.app.command.model import offline as modeloffline
from edge_opcua.app.command.outputs import who
from edge_opcua.app.command.tell import ANSWER_IS_NO, REFUSED, WRONG_USE, complain, say
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.control import Reply, ask
from edge_opcua.core.statedir import StateDir, state_option
from edge_opcua.core.values import BAD_INVALID_ARGUMENT, BAD_INVALID_STATE, is_good
from edge_opcua.errors import ConfigError, EdgeError, ModelError
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.lifecycle import DONE, ENDED

SCHEMA: Final = "edge-opcua.model-change/1"
ANSWER_S: Final = 10.0
LOOK_S: Final = 0.2
_NO_SHADOW: Final = (
    "no server runs: start it, then ask for a shadow; without --shadow the next start does it as configured"
)
MOST_SILENT: Final = 15
"""So often in a row the server may not answer while a job is followed."""
_DONE: Final = frozenset(state.value for state in DONE)
_ENDED: Final = frozenset(state.value for state in ENDED)
_UNKNOWN: Final = frozenset({"M501", "M502", "M503"})
_NOT_ALLOWED: Final = frozenset({"M631", "M633"})


def activate(args: argparse.Namespace, state_dir: Path) -> int:
    """Let a version take over.

    Returns:
        0 if it judges now, or will from the next start on; 1 if it does not; 2 if there is no such thing;
        3 if it is in quarantine; 4 if a shadow is asked for and no server runs.
    """
    choice = ModelChoice(args.model.name, args.model.version, args.sha256.lower())
    body: dict[str, Any] = {**choice.as_json(), "pipelines": args.pipelines, **_by(args)}
    body |= {} if args.shadow is None else {"shadow": args.shadow}
    state = StateDir(state_dir)
    if _runs(state):
        return _follow(state, "load_model", body, as_json=args.json)
    if args.shadow is not None:
        return _failed("", _NO_SHADOW, NOT_RUNNING, as_json=args.json)
    return _offline(lambda: modeloffline.order(state, choice, args.pipelines, **_by(args)), args)


def rollback(args: argparse.Namespace, state_dir: Path) -> int:
    """Bring the former version back.

    Returns:
        0 if it judges now, or will from the next start on; 1 if it does not; 2 if there is no such thing;
        3 if there is no former version.
    """
    name = "" if args.model is None else args.model.name
    body = {"name": name, "pipeline": args.pipeline, **_by(args)}
    state = StateDir(state_dir)
    if _runs(state):
        return _follow(state, "rollback_model", body, as_json=args.json)
    return _offline(lambda: modeloffline.go_back(state, name, args.pipeline, **_by(args)), args)


def release(args: argparse.Namespace, state_dir: Path) -> int:
    """Take a version out of quarantine.

    Returns:
        0; 3 if it is not in quarantine.
    """
    choice = ModelChoice(args.model.name, args.model.version, "")
    state = StateDir(state_dir)
    if not _runs(state):
        return _offline(lambda: modeloffline.release(state, choice, **_by(args)), args)
    reply = _ask(state, "release_model", {**choice.as_json(), **_by(args)})
    if not is_good(reply.status):
        return _refused(reply, as_json=args.json)
    return _done({"text": f"{choice.text} is released: it may be activated again"}, as_json=args.json)


def _by(args: argparse.Namespace) -> dict[str, str]:
    return {"user": f"{who()} (edge-opcua model)", "note": args.note}


def _runs(state: StateDir) -> bool:
    state.control_socket.exists()  # a directory that is somebody else's is told as that
    return server_answers(state.control_socket)


def _ask(state: StateDir, kind: str, body: Mapping[str, Any]) -> Reply:
    return asyncio.run(ask(state.control_socket, "supervisor", kind, body, timeout_s=ANSWER_S))


def _offline(act: Callable[[], str], args: argparse.Namespace) -> int:
    """Do something to the state directory of a server that does not run."""
    try:
        text = act()
    except ModelError as exc:
        unknown = exc.code in _UNKNOWN
        return _failed(exc.code, str(exc), WRONG_USE if unknown else REFUSED, as_json=args.json)
    except (ConfigError, OSError) as exc:
        return _failed("", str(exc), ANSWER_IS_NO, as_json=args.json)
    return _done({"text": text, "at": "next start"}, as_json=args.json)


def _follow(state: StateDir, kind: str, body: Mapping[str, Any], *, as_json: bool) -> int:
    """Ask for a job, and show how far it is until it ends."""
    reply = _ask(state, kind, body)
    if not is_good(reply.status):
        return _refused(reply, as_json=as_json)
    number = str(reply.body.get("job", ""))
    try:
        last = asyncio.run(_watched(state, number, SystemClock(), _Progress(quiet=as_json)))
    except KeyboardInterrupt:
        option = state_option(state.root)
        complain(f"{number} goes on without you; edge-opcua model history{option} tells what becomes of it")
        raise
    except EdgeError as exc:
        return _failed("", str(exc), ANSWER_IS_NO, as_json=as_json)
    if as_json:
        say(json.dumps({"schema": SCHEMA, **last}))
    return 0 if last["state"] in _DONE else _exit_code(str(last.get("reason", "")).partition(":")[0])


def _exit_code(code: str) -> int:
    """Return what a job that failed ends with: the same whether a server runs or not."""
    return WRONG_USE if code in _UNKNOWN else REFUSED if code in _NOT_ALLOWED else ANSWER_IS_NO


async def _watched(state: StateDir, number: str, clock: Clock, progress: _Progress) -> dict[str, Any]:
    """Return the last notice of a job once it has ended.

    Raises:
        EdgeError: The server is gone, or does not know the job any more.
    """
    silent = 0
    while True:
        body = {"job": number}
        reply = await ask(state.control_socket, "supervisor", "model_job", body, timeout_s=ANSWER_S)
        if is_good(reply.status):
            silent = 0
            progress.show(reply.body)
            if reply.body["state"] in _ENDED:
                return reply.body
        else:
            silent += 1
            if reply.status == BAD_INVALID_ARGUMENT or silent > MOST_SILENT:
                option = state_option(state.root)
                reason = f"{number}: {reply.reason}"
                raise EdgeError(f"{reason}; edge-opcua model history{option} tells what became of it")
        await clock.sleep(LOOK_S)


class _Progress:
    """Shows how far a job is: a line for each state, and on a terminal the shadow's figures in place."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stdout.isatty() and not quiet
        self._shown = ""
        self._open = False

    def show(self, body: Mapping[str, Any]) -> None:
        """Show a notice if it says something new."""
        line = job_line(body)
        in_place = body["state"] == "Shadow" and body.get("shadow", {}).get("compared", 0) > 0
        if self._quiet or line == self._shown or (in_place and not self._live):
            return
        self._shown = line
        if self._open:
            sys.stdout.write("\r\x1b[K")
        sys.stdout.write(line if in_place else f"{line}\n")
        sys.stdout.flush()
        self._open = in_place


def job_line(body: Mapping[str, Any]) -> str:
    """Return how far a job is, in a line."""
    state = str(body["state"])
    model = f"{printable(str(body['name']))} {body['version']}"
    line = f"{int(body['percent']):3d} %  {state:<10}  {model}  {', '.join(body['pipelines'])}"
    seen = body.get("shadow") or {}
    if state == "Shadow" and seen:
        line += f"  {seen['compared']} of {seen['wanted']} captures"
        if seen.get("agreement") is not None:
            line += f", both agree on {seen['agreement']:.1%} (at least {seen['agreement_low']:.1%})"
    if state == "RolledBack":
        now = sorted({f"{body['name']} {version}" for version in body["now"].values()})
        line += f"  runs {', '.join(now)} again"
    if body.get("reason"):
        line += f"  {printable(str(body['reason']))}"
    return line


def _refused(reply: Reply, *, as_json: bool) -> int:
    code = {BAD_INVALID_ARGUMENT: WRONG_USE, BAD_INVALID_STATE: REFUSED}.get(reply.status, ANSWER_IS_NO)
    return _failed("", reply.reason, code, as_json=as_json)


def _failed(code: str, message: str, exit_code: int, *, as_json: bool) -> int:
    if as_json:
        error = {"code": code, "message": message}
        say(json.dumps({"schema": SCHEMA, "state": "Failed", "exit_code": exit_code, "error": error}))
    else:
        complain(f"error[{code}] {printable(message)}" if code else printable(message))
    return exit_code


def _done(body: Mapping[str, Any], *, as_json: bool) -> int:
    say(json.dumps({"schema": SCHEMA, "state": "Done", **body}) if as_json else str(body["text"]))
    return 0

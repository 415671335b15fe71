"""``model answer``: what a person says of a verdict, and which verdicts wait for somebody to say it."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.console import NOT_RUNNING, server_answers
from edge_opcua.app.command.look import printable
from edge_opcua.app.command.outputs import who
from edge_opcua.app.command.tell import ANSWER_IS_NO, WRONG_USE, complain, say
from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir, state_option
from edge_opcua.core.values import BAD_NODE_ID_UNKNOWN, Verdict, is_good, status_name
from edge_opcua.errors import ModelError
from edge_opcua.records.window import MAX_NOTE, Window
from edge_opcua.records.windowlook import Wanted, WindowLook

SCHEMA: Final = "edge-opcua.model-answer/1"
ANSWER_S: Final = 8.0
_LOOKED_AT: Final = 20_000
_NO_WINDOW: Final = "M662"


def answer(args: argparse.Namespace, state: Path) -> int:
    """Answer a verdict, or list what may be answered.

    Returns:
        0; 1 if it could not be stored, 2 if there is no such result, 4 if no server runs.
    """
    if args.result is None:
        return _list(args, state)
    if args.answer is None:
        complain("say what it was: real, normal, sensor_fault or unknown")
        return WRONG_USE
    if len(args.note) > MAX_NOTE:
        complain(f"a note has at most {MAX_NOTE} characters")
        return WRONG_USE
    place = StateDir(state).control_socket
    place.exists()  # a directory that is somebody else's is told as that
    if not server_answers(place):
        complain(f"no server runs on the state directory {state}")
        complain("help: start one with edge-opcua run FILE, or name its directory with --state DIR")
        return NOT_RUNNING
    body = {
        "pipeline": args.pipeline,
        "result_id": args.result,
        "answer": args.answer,
        "note": args.note,
        "user": f"{who()} (edge-opcua model)",
    }
    reply = asyncio.run(ask(place, "records", "answer_verdict", body, timeout_s=ANSWER_S))
    unknown = reply.status == BAD_NODE_ID_UNKNOWN
    if args.json:
        told = {"status": status_name(reply.status), "reason": reply.reason, **reply.body}
        say(json.dumps({"schema": SCHEMA, **body, **told}))
    elif is_good(reply.status):
        former = str(reply.body.get("former", ""))
        instead = f" (was {former})" if former not in ("", args.answer) else ""
        say(f"{args.pipeline} {args.result}: {args.answer}{instead}")
    else:
        complain(f"{printable(reply.reason)}{f' ({_NO_WINDOW})' if unknown else ''}")
        if unknown:
            complain(f"help: edge-opcua model answer {args.pipeline}{state_option(state)} lists what is")
    if is_good(reply.status):
        return 0
    return WRONG_USE if unknown else ANSWER_IS_NO


def _list(args: argparse.Namespace, state: Path) -> int:
    """List the newest verdicts that are not OK, with what somebody said of them."""
    windows = StateDir(state).windows
    windows.exists()  # a directory that is somebody else's is told as that
    look = WindowLook(windows)
    try:
        found = _alarms(look, args.pipeline, args.count)
    except ModelError as exc:
        complain(f"{exc} ({exc.code})")
        return WRONG_USE
    except OSError as exc:
        complain(f"{exc}; another state directory: --state DIR")
        return ANSWER_IS_NO
    if args.json:
        say(
            json.dumps(
                {"schema": SCHEMA, "pipeline": args.pipeline, "verdicts": [_row(each) for each in found]}
            )
        )
        return 0
    for window in found:
        said = window.answer.value if window.answer else "-"
        parts = (f"{window.result_id}", _time(window.judged_ns), f"stroke {window.stroke}", f"{said:<12}")
        say("  ".join((*parts, printable(window.note or window.reason))).rstrip())
    if not found:
        say(f"no verdict of {args.pipeline} waits for an answer: all that are kept are OK")
    return 0


def _alarms(look: WindowLook, pipeline: str, count: int) -> list[Window]:
    """Return the newest windows whose verdict is not OK, oldest first."""
    if pipeline not in (known := look.pipelines()):
        there = f"there are windows of {', '.join(known)}" if known else "there are no windows at all"
        raise ModelError(f"there are no windows of {pipeline}; {there}", code="M660")
    wanted = Wanted(pipeline, most=_LOOKED_AT, with_samples=False)
    found = [window for window in look.windows(wanted) if _may_be_answered(window)]
    return found[-count:]


def _may_be_answered(window: Window) -> bool:
    return window.answer is not None or (window.verdict != Verdict.OK and not window.fail_safe)


def _row(window: Window) -> dict[str, Any]:
    return {
        "result_id": window.result_id,
        "stroke": window.stroke,
        "judged_ns": window.judged_ns,
        "verdict": Verdict(window.verdict).name,
        "reason": window.reason,
        "answer": window.answer.value if window.answer else None,
        "note": window.note,
        "who": window.who,
    }


def _time(utc_ns: int) -> str:
    return f"{dt.datetime.fromtimestamp(utc_ns // 10**9, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"

"""``model export-windows``: what was recorded and answered, as a file for training."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from edge_opcua.app.command.model.replay import Progress, wanted_windows
from edge_opcua.app.command.tell import ANSWER_IS_NO, WRONG_USE, complain, say
from edge_opcua.app.windows.export import Exported, export
from edge_opcua.app.windows.judged import nothing_there
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ModelError
from edge_opcua.records.windowlook import WindowLook

SCHEMA: Final = "edge-opcua.export-windows/1"


def export_windows(args: argparse.Namespace, state: Path) -> int:
    """Write recorded windows to a file.

    Returns:
        0; 1 if it cannot be written, 2 if there is nothing to write, or the file must not be written over.
    """
    if args.out.exists() and not args.force:
        complain(f"{args.out} is there; --force writes over it")
        return WRONG_USE
    clock = SystemClock()
    windows = StateDir(state).windows
    windows.exists()  # a directory that is somebody else's is told as that
    look = WindowLook(windows)
    wanted = replace(wanted_windows(args, clock), answered=args.answered, with_samples=True)
    try:
        found = look.find(wanted)
        if found is None:
            raise nothing_there(wanted, look)
        progress = Progress(str(args.out), found.count, clock)
        done = export(look, wanted, found, args.out, progress=progress)
        progress.end()
    except ModelError as exc:
        complain(f"{exc} ({exc.code})")
        return ANSWER_IS_NO if exc.code in {"M661", "M663"} else WRONG_USE
    except OSError as exc:
        complain(f"{exc}; another state directory: --state DIR")
        return WRONG_USE
    if args.json:
        say(json.dumps({"schema": SCHEMA, "out": str(args.out), **asdict(done)}))
    else:
        say(_text(args.out, done))
    return 0


def _text(out: Path, done: Exported) -> str:
    of_tags = f"{len(done.source.columns)} tags" if done.source.columns else done.source.capture
    windows = "1 window" if done.windows == 1 else f"{done.windows} windows"
    what = f"{windows} of {done.samples} numbers ({of_tags})"
    lines = [f"{out}: {what}, {done.answered} of them answered"]
    if done.left_out:
        lines.append(f"left out: {done.left_out} that were recorded another way (other tags or samples)")
    return "\n".join(lines)

"""``model try`` and ``model compare``: recorded windows, judged again by one model or by two."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.model.package import Handed, packaged
from edge_opcua.app.command.model.replaytext import Side, figures, outside_training, report, side_of, then_of
from edge_opcua.app.command.tell import ANSWER_IS_NO, WRONG_USE, complain, say
from edge_opcua.app.windows.judged import (
    Recorded,
    Replayed,
    agreement,
    recorded,
    replayed,
    require_any,
)
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ModelError
from edge_opcua.records.windowlook import Wanted, WindowLook

SCHEMA: Final = "edge-opcua.model-replay/1"
_SAY_EVERY_S: Final = 2.0
_NOT_HERE: Final = frozenset({"M501", "M502", "M506", "M507", "M509", "M660"})
"""Refusals of what was named, before anything was judged."""


def try_model(args: argparse.Namespace, state: Path) -> int:
    """Let a model judge what was recorded.

    Returns:
        0; 1 if it cannot judge it, or agrees less than asked for; 2 if there is no such model or window.
    """

    def work(past: Recorded, again: Callable[[str], Replayed]) -> tuple[Side, Side]:
        return then_of(past), side_of(again(args.target), "now")

    return _do(args, state, work)


def compare(args: argparse.Namespace, state: Path) -> int:
    """Let two models judge the same windows.

    Returns:
        0; 1 if one cannot judge them, or they agree less than asked for; 2 if there is no such model or
        window.
    """

    def work(_: Recorded, again: Callable[[str], Replayed]) -> tuple[Side, Side]:
        before, after = again(args.before), again(args.after)
        names = ("before", "after") if before.model == after.model else ("", "")
        return side_of(before, names[0]), side_of(after, names[1])

    return _do(args, state, work)


def wanted_windows(args: argparse.Namespace, clock: Clock) -> Wanted:
    """Return which windows the arguments ask for."""
    now_ns = clock.utc_ns()
    begin_ns = args.begin or 0
    if args.last is not None:
        begin_ns = max(begin_ns, now_ns - round(args.last * 1e9))
    end_ns = args.end if args.end is not None else (1 << 63) - 1
    return Wanted(args.pipeline, begin_ns, end_ns, args.most, with_samples=False)


def _do(
    args: argparse.Namespace,
    state: Path,
    work: Callable[[Recorded, Callable[[str], Replayed]], tuple[Side, Side]],
) -> int:
    clock = SystemClock()
    windows = StateDir(state).windows
    windows.exists()  # a directory that is somebody else's is told as that
    look = WindowLook(windows)
    wanted = wanted_windows(args, clock)

    def again(target: str) -> Replayed:
        progress = Progress(target, len(past), clock)
        with packaged(Handed(target), state) as (folder, _):
            found = replayed(past, folder, windows, silent_s=args.timeout, progress=progress)
        progress.end()
        return found

    try:
        past = require_any(recorded(look, wanted), wanted, look)
        before, after = work(past, again)
    except ModelError as exc:
        return _refused(exc, as_json=args.json)
    except FileNotFoundError as exc:
        return _refused(ModelError(str(exc), code="M660"), as_json=args.json)
    except OSError as exc:
        return _refused(ModelError(str(exc), code="M661"), as_json=args.json)
    say(json.dumps(_as_json(past, before, after)) if args.json else report(past, before, after))
    return _judged(args, before, after)


def _judged(args: argparse.Namespace, before: Side, after: Side) -> int:
    told = agreement(before.verdicts, after.verdicts, before.seen & after.seen)
    if not after.verdicts.decided.any():
        complain(f"{after.name} decided nothing: none of the windows is one that it may judge")
        return ANSWER_IS_NO
    if args.agreement is not None and not told.agreement >= args.agreement:
        complain(f"they agree on {told.agreement:.2%}, {args.agreement:.2%} are asked for")
        return ANSWER_IS_NO
    return 0


def _refused(exc: ModelError, *, as_json: bool) -> int:
    if as_json:
        say(json.dumps({"schema": SCHEMA, "refused": {"code": exc.code, "text": str(exc)}}))
    else:
        complain(f"{exc} ({exc.code})")
        complain(f"help: edge-opcua explain {exc.code}")
    return WRONG_USE if exc.code in _NOT_HERE else ANSWER_IS_NO


def _as_json(past: Recorded, before: Side, after: Side) -> dict[str, Any]:
    told = agreement(before.verdicts, after.verdicts, before.seen & after.seen)
    share = {"agreement": told.agreement, "low": told.agreement_low, "high": told.agreement_high}
    found: dict[str, Any] = _plain(
        {
            "schema": SCHEMA,
            "pipeline": past.pipeline,
            "windows": len(past),
            "from_ns": int(past.judged_ns.min()),
            "to_ns": int(past.judged_ns.max()),
            "judged_by": dict(past.models),
            "compared": {**told.notice(), **share},
            "before": _side(past, before),
            "after": _side(past, after),
        }
    )
    return found


def _side(past: Recorded, side: Side) -> dict[str, Any]:
    row = {"name": side.name, **figures(past, side)}
    if side.replayed is not None:
        row |= {
            "model": side.replayed.model,
            "provider": side.replayed.provider,
            "outside_training": outside_training(side.replayed),
            "same_features": side.replayed.same,
            "comparable": side.replayed.comparable,
        }
    return row


def _plain(value: Any) -> Any:
    """Return what JSON can say: no NaN."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Progress:
    """Says on stderr how far a long replay is: over and over in one line on a terminal, else now and then.

    Args:
        what: The model.
        total: How many windows there are.
        clock: For when to say it.
    """

    def __init__(self, what: str, total: int, clock: Clock) -> None:
        self._what = what
        self._total = total
        self._clock = clock
        self._terminal = sys.stderr.isatty()
        self._said_s = clock.monotonic_s()
        self._said = False

    def __call__(self, judged: int) -> None:
        """Take how many are done."""
        now_s = self._clock.monotonic_s()
        if now_s - self._said_s < (_SAY_EVERY_S / 10 if self._terminal else _SAY_EVERY_S):
            return
        self._said_s, self._said = now_s, True
        text = f"{self._what}: {judged} of {self._total} windows"
        sys.stderr.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Take the line away."""
        if self._terminal and self._said:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

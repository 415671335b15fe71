"""The verbs of ``edge-opcua model`` about what was judged: try, compare, answer, export-windows."""

from __future__ import annotations

import argparse
import datetime as dt
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

_ROOM: Final = "edge_opcua.app.command.model"
_SPANS: Final = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
_LATEST_S: Final = 253_402_300_000.0
ANSWERS: Final = ("real", "normal", "sensor_fault", "unknown")
"""Those of :class:`edge_opcua.records.window.Answer`, which takes long to import."""

MOST_WINDOWS: Final = 200_000
_SOME_WINDOWS: Final = 100_000


def add_arguments(verbs: Any) -> None:
    """Add the verbs."""
    for add in (_add_try, _add_compare, _add_answer, _add_export):
        add(verbs)


def run(args: argparse.Namespace, state: Path) -> int:
    """Do what one of the verbs says; return the exit code."""
    module, function = _VERBS[args.verb]
    do: Callable[[argparse.Namespace, Path], int] = getattr(import_module(f"{_ROOM}.{module}"), function)
    return do(args, state)


def _add_try(verbs: Any) -> None:
    attempt = verbs.add_parser(
        "try", help="let a model judge what was recorded, beside what was decided then", allow_abbrev=False
    )
    attempt.add_argument(
        "target",
        metavar="FILE|DIR|NAME/VERSION",
        help="a model with its manifest: a version in the repository, a folder, or an .onnx file beside them",
    )
    _add_wanted(attempt)
    _add_judging(attempt)


def _add_compare(verbs: Any) -> None:
    compare = verbs.add_parser(
        "compare", help="let two models judge the same recorded windows", allow_abbrev=False
    )
    for name in ("before", "after"):
        compare.add_argument(name, metavar=f"{name.upper()}", help="FILE, DIR or NAME/VERSION")
    _add_wanted(compare)
    _add_judging(compare)


def _add_answer(verbs: Any) -> None:
    answer = verbs.add_parser(
        "answer",
        help="say what a verdict was about; without a result, what may be answered",
        allow_abbrev=False,
    )
    answer.add_argument("pipeline", metavar="PIPELINE", help="which pipeline")
    answer.add_argument(
        "result", metavar="RESULT", nargs="?", type=_result, help="number of the result (result_id)"
    )
    answer.add_argument(
        "answer",
        metavar="ANSWER",
        nargs="?",
        choices=ANSWERS,
        help="real: it was one; normal: a false alarm; sensor_fault; unknown",
    )
    answer.add_argument("--note", default="", metavar="TEXT", help="what you want to say about it")
    answer.add_argument(
        "--last", dest="count", type=_count, default=20, metavar="N", help="how many are listed (default 20)"
    )
    _add_common(answer)


def _add_export(verbs: Any) -> None:
    export = verbs.add_parser(
        "export-windows",
        help="write recorded windows with verdicts and answers to a file, for training",
        allow_abbrev=False,
    )
    _add_wanted(export)
    export.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help=".npz (what edge_opcua.training reads), .csv, or .parquet where pyarrow is installed",
    )
    export.add_argument("--answered", action="store_true", help="only what somebody has answered")
    export.add_argument("--force", action="store_true", help="write over a file that is there")
    _add_common(export)


def _add_wanted(parser: Any) -> None:
    parser.add_argument("--pipeline", required=True, metavar="NAME", help="whose windows")
    parser.add_argument(
        "--last", type=span, default=None, metavar="TIME", help="the last 30min, 8h, 2d …; all if not given"
    )
    parser.add_argument(
        "--from",
        dest="begin",
        type=moment,
        default=None,
        metavar="TIME",
        help="judged at or after this time: 2026-11-21T18:00, UTC unless it has an offset",
    )
    parser.add_argument(
        "--to", dest="end", type=moment, default=None, metavar="TIME", help="judged at or before this time"
    )
    parser.add_argument(
        "--most",
        type=_count,
        default=_SOME_WINDOWS,
        metavar="N",
        help=f"only so many, the newest (default {_SOME_WINDOWS})",
    )


def _add_judging(parser: Any) -> None:
    parser.add_argument(
        "--agreement",
        type=_share,
        default=None,
        metavar="SHARE",
        help="exit code 1 if they agree on a smaller share of the windows, e.g. 0.98",
    )
    parser.add_argument(
        "--timeout",
        type=_positive,
        default=60.0,
        metavar="S",
        help="longest time for a model to load, or to judge one window (default 60)",
    )
    _add_common(parser)


def _add_common(parser: Any) -> None:
    parser.add_argument(
        "--state", type=Path, default=None, metavar="DIR", help="state directory (keys, models, windows)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def span(text: str) -> float:
    """Return a time span in seconds: ``90s``, ``30min``, ``8h``, ``2d``; for argparse."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([a-z]+)", text)
    seconds = float(found[1]) * _SPANS[found[2]] if found and found[2] in _SPANS else 0.0
    if not 0.0 < seconds <= _LATEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time span like 90s, 30min, 8h or 2d")
    return seconds


def moment(text: str) -> int:
    """Return a point in time, ns UTC; for argparse."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 2026-11-21T18:00") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=dt.UTC)
    return max(0, round(found.timestamp() * 1e6) * 1000)


def _result(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a result")
    return int(text)


def _count(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= number <= MOST_WINDOWS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST_WINDOWS}")
    return number


def _share(text: str) -> float:
    number = _number(text)
    if not 0.0 <= number <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return number


def _positive(text: str) -> float:
    number = _number(text)
    if not 0.0 < number <= 86_400.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to 86400")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


_VERBS: Final = {
    "try": ("replay", "try_model"),
    "compare": ("replay", "compare"),
    "answer": ("answer", "answer"),
    "export-windows": ("windows", "export_windows"),
}

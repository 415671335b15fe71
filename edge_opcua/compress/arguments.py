"""The arguments of ``edge-opcua compress``, read for every ``--help``: nothing heavy is imported."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final, get_args

from edge_opcua.compress.options import (
    BUDGET_S,
    FAMILIES,
    LEAST_TIMING_S,
    MOST_BUDGET_S,
    MOST_THREADS,
    MOST_TIMING_S,
    TIMING_S,
    Options,
    Wish,
)

_UNITS_S: Final = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def add_compress(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compress",
        help="make a model smaller and faster, and prove on your data that it is as good, or refuse",
        description="Makes variants of a model (INT8, FP16, pruned, …), times each beside the original on "
        "this computer, and proves on your samples that one is as good; else the original stays, and you are "
        "told why.",
        epilog="Example: edge-opcua compress model.onnx --data holdout.npz --report report.html. Exit codes: "
        "0 a variant was chosen, 1 none was, 2 wrong use, 3 refused, 130 interrupted: the same command goes "
        "on.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "target",
        metavar="MODEL",
        help="an .onnx file, a folder with model and manifest, or NAME/VERSION of the repository",
    )
    _add_data(parser)
    _add_search(parser)
    _add_results(parser)


def options_of(args: argparse.Namespace) -> Options:
    """Return what the arguments ask for."""
    return Options(
        calibration=args.calibration,
        training=args.train,
        task=args.task,
        output=args.output,
        max_loss=args.max_loss,
        provider=args.provider,
        threads=args.threads,
        only=frozenset(args.only),
        skip=frozenset(args.skip),
        also=tuple(args.also),
        work=args.work,
        seed=args.seed,
        budget_s=args.budget,
        timing_s=args.timing,
        reference=args.reference,
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help="samples to judge with: .npz with the rows and labels or targets, .csv with a header, or what "
        "edge-opcua model export-windows writes",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        default=None,
        metavar="FILE",
        help="samples to calibrate and prune with; without: some of --data, which then judge nothing",
    )
    parser.add_argument(
        "--train",
        type=Path,
        default=None,
        metavar="FILE",
        help="samples to train with; needs the extra train (PyTorch)",
    )
    parser.add_argument(
        "--task",
        choices=get_args(Wish),
        default="auto",
        help="what the model is for; auto: what its outputs and the data say",
    )
    parser.add_argument("--output", default=None, metavar="NAME", help="output to compare, if it has several")
    parser.add_argument(
        "--max-loss",
        type=_loss,
        default=None,
        metavar="PP",
        help="loss that is accepted: percentage points of what is right or of the AUC (default 0.5), "
        "per cent of an error (default 2)",
    )


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--provider",
        default="cpu",
        metavar="NAME",
        help="where it will run: cpu, cuda, tensorrt or openvino (default cpu)",
    )
    parser.add_argument(
        "--threads", type=_threads, default=1, metavar="N", help="threads of one inference (default 1)"
    )
    for name, what in (("only", "try these families only"), ("skip", "leave these families out")):
        parser.add_argument(
            f"--{name}",
            type=_families,
            default=(),
            metavar="FAMILY,…",
            help=f"{what}: {', '.join(FAMILIES)}" if name == "only" else what,
        )
    parser.add_argument(
        "--also",
        type=_names,
        default=(),
        metavar="RECIPE,…",
        help="try these recipes too, such as qoperator-s8; --plan names all",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=None,
        metavar="DIR",
        help="folder where each step is kept, so that a run that was ended goes on (default MODEL.compress)",
    )
    parser.add_argument(
        "--seed", type=_seed, default=1, metavar="N", help="seed of all random numbers (default 1)"
    )
    parser.add_argument(
        "--budget",
        type=_budget,
        default=BUDGET_S,
        metavar="TIME",
        help="longest time, such as 90s, 30m or 2h (default 30m); what was not tried by then is not",
    )
    parser.add_argument(
        "--timing",
        type=_timing,
        default=TIMING_S,
        metavar="TIME",
        help="time that a variant which may be chosen runs beside the original (default 3s; the others 1s); "
        "more where the computer is busy",
    )
    parser.add_argument("--plan", action="store_true", help="only show what would be tried")


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reference",
        type=Path,
        default=None,
        metavar="FILE",
        help="inputs and outputs of the framework the model was exported from, .npz by name: it has to "
        "answer the same",
    )
    parser.add_argument("--report", type=Path, default=None, metavar="FILE", help="write the report, .html")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object instead of text")
    parser.add_argument(
        "--add",
        action="store_true",
        help="store the chosen version and its siblings in the repository; MODEL is a package then",
    )
    parser.add_argument(
        "--state", type=Path, default=None, metavar="DIR", help="state directory (keys, models, journal)"
    )


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing")
    return names


def _families(text: str) -> tuple[str, ...]:
    names = _names(text)
    for name in names:
        if name not in FAMILIES:
            raise argparse.ArgumentTypeError(f"there is no family {name!r}; there are {', '.join(FAMILIES)}")
    return names


def _budget(text: str) -> float:
    seconds = _seconds(text)
    if not 1.0 <= seconds <= MOST_BUDGET_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time from 1s to 168h, such as 90s, 30m or 2h")
    return seconds


def _timing(text: str) -> float:
    seconds = _seconds(text)
    if not LEAST_TIMING_S <= seconds <= MOST_TIMING_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time from {LEAST_TIMING_S}s to 10m, such as 3s")
    return seconds


def _seconds(text: str) -> float:
    """Return the time; 0 if it is none."""
    number = text.rstrip("smhin")
    return _number(number) * _UNITS_S.get(text[len(number) :] or "s", 0.0)


def _loss(text: str) -> float:
    loss = _number(text)
    if not 1e-6 <= loss <= 100.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, at most 100")
    return loss


def _threads(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_THREADS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST_THREADS}")
    return int(text)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**31):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {2**31 - 1}")
    return int(text)


def _number(text: str) -> float:
    """Return the number; 0 if it is none."""
    try:
        return float(text)
    except ValueError:
        return 0.0

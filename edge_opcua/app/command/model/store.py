"""The verbs of ``edge-opcua model`` about the repository: what is there, what it is, and what is fit."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from edge_opcua.app.command.model.names import model_name, model_version

_ROOM: Final = "edge_opcua.app.command.model"


def add_arguments(verbs: Any) -> None:
    """Add the verbs."""
    for add in (_add_inspect, _add_map, _add_add, _add_list, _add_validate, _add_remove, _add_history):
        add(verbs)


def run(args: argparse.Namespace, state: Path) -> int:
    """Do what one of the verbs says; return the exit code."""
    return _VERBS[args.verb](args, state)


def _add_inspect(verbs: Any) -> None:
    inspect = verbs.add_parser(
        "inspect",
        help="what a model is, whether it can be served, and how fast it is here",
        allow_abbrev=False,
    )
    inspect.add_argument(
        "target",
        metavar="FILE|DIR|NAME/VERSION",
        help="any .onnx file, a folder with model and manifest, or a version in the repository",
    )
    inspect.add_argument(
        "--provider",
        action="append",
        default=[],
        metavar="NAME",
        help="run it there only: cpu, cuda, tensorrt, openvino, tensorrt_rtx; can be given again. Without: "
        "on every provider that works on this machine",
    )
    inspect.add_argument(
        "--shape",
        action="append",
        default=[],
        type=_shape,
        metavar="INPUT=1x20x40",
        help="shape of an input whose axes are open; they are taken as 1 without",
    )
    inspect.add_argument("--no-run", action="store_true", help="only read the file")
    _add_timeout(inspect)
    _add_common(inspect)


def _add_map(verbs: Any) -> None:
    draft = verbs.add_parser(
        "map", help="draft the manifest of a model: which tag is which of its inputs", allow_abbrev=False
    )
    draft.add_argument("file", type=Path, metavar="FILE", help="the .onnx file")
    draft.add_argument(
        "-c", "--config", type=Path, default=None, metavar="FILE", help="the configuration with the tags"
    )
    draft.add_argument(
        "--device",
        action="append",
        default=[],
        metavar="NAME",
        help="only tags of this device; can be given again",
    )
    draft.add_argument(
        "--capture", default="", metavar="DEVICE/CAPTURE", help="it judges this waveform instead of tags"
    )
    draft.add_argument(
        "--columns",
        type=Path,
        default=None,
        metavar="FILE",
        help="names of its inputs: a line each, or a CSV file of training data with a header. Without: what "
        "the model says itself",
    )
    draft.add_argument("--window", type=_count, default=None, metavar="N", help="samples of each tag")
    draft.add_argument(
        "--period-ms", type=_positive, default=None, metavar="MS", help="time from one sample to the next"
    )
    draft.add_argument("--name", default="", metavar="NAME", help="name of the model; else that of FILE")
    draft.add_argument(
        "--out", type=Path, default=None, metavar="FILE", help="the draft; beside FILE without"
    )
    draft.add_argument("--force", action="store_true", help="overwrite a draft that is there")
    draft.add_argument("--no-run", action="store_true", help="do not measure it")
    _add_timeout(draft)
    _add_common(draft)


def _add_add(verbs: Any) -> None:
    add = verbs.add_parser(
        "add", help="prove a model as a lane would, and store it in the repository", allow_abbrev=False
    )
    add.add_argument("target", metavar="DIR|FILE", help="folder with model and manifest, or the .onnx file")
    _add_trial(add)


def _add_validate(verbs: Any) -> None:
    validate = verbs.add_parser(
        "validate",
        help="prove a model as a lane would, against the configuration; nothing is changed",
        allow_abbrev=False,
    )
    validate.add_argument(
        "target", metavar="NAME/VERSION|DIR|FILE", help="a version in the repository, or what would be added"
    )
    _add_trial(validate)


def _add_trial(parser: argparse.ArgumentParser) -> None:
    for name, what in (
        ("manifest", "its manifest, where that is not beside it"),
        (
            "golden",
            "its reference samples, where they are not beside the manifest; or rows to make some of, .csv",
        ),
        ("profile", "its reference profile, where that is not beside the manifest"),
    ):
        parser.add_argument(f"--{name}", type=Path, default=None, metavar="FILE", help=what)
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        default=None,
        metavar="FILE",
        help="the configuration it is held against; without: that of the running server",
    )
    parser.add_argument("--alone", action="store_true", help="hold it against no configuration")
    parser.add_argument(
        "--pipeline",
        action="append",
        default=[],
        metavar="NAME",
        help="only against this pipeline; can be given again. Without: each that runs a model of its name",
    )
    parser.add_argument(
        "--provider", default="cpu", metavar="NAME", help="where it runs if no pipeline says it (default cpu)"
    )
    _add_timeout(parser)
    _add_common(parser)


def _add_list(verbs: Any) -> None:
    shown = verbs.add_parser(
        "list", help="every version in the repository, and what becomes of it", allow_abbrev=False
    )
    shown.add_argument("model", nargs="?", type=model_name, metavar="NAME", help="only this model")
    _add_config(shown)
    _add_common(shown)


def _add_remove(verbs: Any) -> None:
    remove = verbs.add_parser(
        "remove", help="take a version out of the repository that nobody needs", allow_abbrev=False
    )
    remove.add_argument("model", type=model_version, metavar="NAME/VERSION", help="which one")
    _add_config(remove)
    _add_common(remove)


def _add_history(verbs: Any) -> None:
    history = verbs.add_parser(
        "history", help="who changed which model when and why, and what came of it", allow_abbrev=False
    )
    history.add_argument(
        "model", nargs="?", type=model_name, metavar="NAME[/VERSION]", help="only changes from or to it"
    )
    history.add_argument("--pipeline", default=None, metavar="NAME", help="only changes of this pipeline")
    history.add_argument("--last", type=_count, default=20, metavar="N", help="how many changes (default 20)")
    history.add_argument("--steps", action="store_true", help="each step, not only what came of it")
    _add_common(history)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", type=Path, default=None, metavar="FILE", help="says which pipelines there are"
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000000")
    return int(text)


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="longest time to load and try the model (default 60)",
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument(
        "--state", type=Path, default=None, metavar="DIR", help="state directory (keys, models, journal)"
    )


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.partition("=")
    numbers = [int(size) if size.isascii() and size.isdigit() else 0 for size in sizes.split("x")]
    if not name or not all(1 <= number <= 100_000_000 for number in numbers) or len(numbers) > 8:
        raise argparse.ArgumentTypeError(f"{text!r} is not INPUT=SIZExSIZE…, e.g. features=1x20x40")
    return name, tuple(numbers)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.1 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return number


def _inspect(args: argparse.Namespace, state: Path) -> int:
    module = import_module(f"{_ROOM}.inspection")
    options = module.InspectOptions(
        tuple(args.provider), dict(args.shape), args.timeout, run=not args.no_run, as_json=args.json
    )
    code: int = module.inspect_model(args.target, state, options)
    return code


def _map(args: argparse.Namespace, state: Path) -> int:
    module = import_module(f"{_ROOM}.mapping")
    options = module.MapOptions(
        config=_config(args.config, state) or import_module("edge_opcua.cli").find_config(None),
        devices=tuple(args.device),
        capture=args.capture,
        columns=args.columns,
        window=args.window,
        period_ms=args.period_ms,
        name=args.name,
        out=args.out,
        timeout_s=0.0 if args.no_run else args.timeout,
        force=args.force,
        as_json=args.json,
    )
    code: int = module.map_model(args.file, state, options)
    return code


def _add(args: argparse.Namespace, state: Path) -> int:
    module = import_module(f"{_ROOM}.check")
    code: int = module.add(_handed(args), state, _trial(args, state))
    return code


def _validate(args: argparse.Namespace, state: Path) -> int:
    module = import_module(f"{_ROOM}.check")
    code: int = module.validate(_handed(args), state, _trial(args, state))
    return code


def _handed(args: argparse.Namespace) -> Any:
    package = import_module(f"{_ROOM}.package")
    return package.Handed(args.target, args.manifest, args.golden, args.profile, args.timeout)


def _trial(args: argparse.Namespace, state: Path) -> Any:
    module = import_module(f"{_ROOM}.check")
    config = None if args.alone else _config(args.config, state)
    return module.TryOptions(config, tuple(args.pipeline), args.provider, args.timeout, as_json=args.json)


def _config(named: Path | None, state: Path) -> Path | None:
    """Return the configuration that is meant: the one named, the running server's, or one that is there."""
    if named is None:
        facts, place = import_module(f"{_ROOM}.facts"), import_module("edge_opcua.core.statedir")
        running: Path | None = facts.running_config(place.StateDir(state))
        if running is not None:
            return running
    found: Path = import_module("edge_opcua.cli").find_config(named)
    return found if named is not None or found.exists() else None


def _list(args: argparse.Namespace, state: Path) -> int:
    listing = import_module(f"{_ROOM}.versions")
    code: int = listing.show(state, args.model, _config(args.config, state), as_json=args.json)
    return code


def _remove(args: argparse.Namespace, state: Path) -> int:
    module = import_module(f"{_ROOM}.remove")
    code: int = module.remove(state, args.model, _config(args.config, state), as_json=args.json)
    return code


def _history(args: argparse.Namespace, state: Path) -> int:
    module = import_module(f"{_ROOM}.history")
    code: int = module.history(
        state, args.model, args.pipeline, last=args.last, steps=args.steps, as_json=args.json
    )
    return code


_VERBS: Final = MappingProxyType[str, Callable[[argparse.Namespace, Path], int]](
    {
        "inspect": _inspect,
        "map": _map,
        "add": _add,
        "list": _list,
        "validate": _validate,
        "remove": _remove,
        "history": _history,
    }
)

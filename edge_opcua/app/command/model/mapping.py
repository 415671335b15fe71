"""``model map``: drafts the manifest of a model from the file, a configuration and the tags of a device."""

from __future__ import annotations

import csv
import datetime as dt
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.look import printable
from edge_opcua.app.command.model.draft import (
    CaptureFacts,
    Draft,
    Shape,
    column_name,
    manifest_text,
    names_in,
    pipeline_text,
    shape_of,
)
from edge_opcua.app.command.model.inspection import SPARE_S, TRYOUT, sha256_of
from edge_opcua.app.command.model.match import Known, Match, Sureness, in_order, match_columns
from edge_opcua.app.command.tell import WRONG_USE, complain, say
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Scalar
from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import ask_apart
from edge_opcua.inference.manifest import NAME_PATTERN
from edge_opcua.inference.onnxcard import OnnxCard, read_card
from edge_opcua.inference.repository import ModelRepository

SCHEMA: Final = "edge-opcua.model-map/1"
_NO_NUMBERS: Final = (Scalar.STRING, Scalar.DATETIME)
_MOST_COLUMNS: Final = 10_000
_MOST_BYTES: Final = 4 * 2**20


@dataclass(frozen=True, slots=True)
class MapOptions:
    """How the manifest is drafted.

    Args:
        config: The configuration with the tags.
        devices: Whose tags; none: all.
        capture: The capture the model judges, ``<device>/<capture>``, instead of tags.
        columns: A file with the names of the columns: a line each, or the header of a CSV file.
        window: Samples of each tag.
        period_ms: Time from one sample to the next.
        name: Name of the model; that of the file without it.
        out: Where the draft goes; beside the model without it.
        timeout_s: Longest time to try the model; 0: it is not run.
        force: Whether a file that is there is overwritten.
        as_json: One JSON object instead of text.
    """

    config: Path
    devices: tuple[str, ...] = ()
    capture: str = ""
    columns: Path | None = None
    window: int | None = None
    period_ms: float | None = None
    name: str = ""
    out: Path | None = None
    timeout_s: float = 60.0
    force: bool = False
    as_json: bool = False


def map_model(path: Path, state_dir: Path, options: MapOptions) -> int:
    """Draft a manifest.

    Args:
        path: The model file.
        state_dir: Whose repository tells the next version.
        options: How.

    Returns:
        0; 2 if a file is missing, the configuration has errors, or the draft would overwrite something.
    """
    try:
        draft = drafted(path, state_dir, options)
    except ModelError as exc:
        complain(printable(f"{exc} ({exc.code})"))
        return WRONG_USE
    out = options.out or path.with_suffix(".toml")
    if out.exists() and not options.force:
        complain(f"{out} is there already; --force writes over it, --out FILE writes elsewhere")
        return WRONG_USE
    try:
        out.write_text(manifest_text(draft), encoding="utf-8")
    except OSError as exc:
        complain(f"{out} cannot be written: {exc.strerror}; --out FILE writes elsewhere")
        return WRONG_USE
    if options.as_json:
        say(json.dumps({"schema": SCHEMA, "manifest": str(out), **_rows(draft)}))
    else:
        _tell(draft, path, out)
    return 0


def drafted(path: Path, state_dir: Path, options: MapOptions) -> Draft:
    """Return the draft.

    Raises:
        ModelError: The model cannot be read (M507, M510), nothing can be fed to it (M504), or the
            configuration cannot be used (M615).
    """
    card, config = read_card(path), _config(options.config)
    if len(card.inputs) != 1:
        names = ", ".join(f'"{each.name}" {each}' for each in card.inputs[:8])
        raise ModelError(
            f"the model has {len(card.inputs)} inputs: {names}; a lane feeds one, so join them (Concat) "
            "before it is exported",
            code="M504",
        )
    name = options.name or _model_name(path)
    version = 1 + max((each for known, each in _versions(state_dir) if known == name), default=0)
    known: dict[str, Any] = {
        "name": name,
        "version": version,
        "sha256": sha256_of(path),
        "file": path.name,
        "card": card,
        "period_ms": options.period_ms,
        "today": dt.datetime.fromtimestamp(SystemClock().utc_ns() // 10**9, dt.UTC).date().isoformat(),
        "machine": f"{platform.machine()} {platform.processor()}".strip(),
    }
    if options.capture:
        capture = _capture(config, options.capture)
        shape = Shape(1, capture.sample_count, _open_filled(card, capture.sample_count))
        return Draft(**known, shape=shape, capture=capture, measured=_measured(path, card, shape, options))
    columns = _columns(card, options)
    shape_or_why = shape_of(card.inputs[0], len(columns), options.window)
    if isinstance(shape_or_why, str):
        raise ModelError(shape_or_why, code="M504")
    tags = _tags(config, options.devices)
    matches = _matched(columns, tags, shape_or_why)
    measured = _measured(path, card, shape_or_why, options)
    return Draft(**known, shape=shape_or_why, matches=tuple(matches), measured=measured)


def _matched(columns: Sequence[str], tags: Sequence[Known], shape: Shape) -> list[Match]:
    if not columns:
        return in_order(tags, shape.columns)
    if len(columns) != shape.columns:
        raise ModelError(
            f"it takes {shape.columns} tags of {shape.window} samples, {len(columns)} columns are named",
            code="M504",
        )
    return match_columns(columns, tags)


def _config(file: Path) -> EdgeConfig:
    loaded = load(file)
    if loaded.config is None:
        raise ModelError(f"{file} cannot be used: edge-opcua check {file}", code="M615")
    return loaded.config


def _versions(state_dir: Path) -> tuple[tuple[str, int], ...]:
    return ModelRepository(StateDir(state_dir).models).versions()


def _model_name(path: Path) -> str:
    stem = path.parent.parent.name if path.name == "model.onnx" and path.parent.name.isdigit() else path.stem
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem).strip("-")
    return name[:64] if NAME_PATTERN.fullmatch(name[:64]) else f"model-{name}"[:64].rstrip("-")


def _capture(config: EdgeConfig, reference: str) -> CaptureFacts:
    try:
        _, capture = config.capture(reference)
    except KeyError:
        raise ModelError(f"the configuration has no capture {reference}", code="M615") from None
    return CaptureFacts(reference, capture.sample_count, capture.sample_rate_hz, capture.unit)


def _open_filled(card: OnnxCard, count: int) -> tuple[int, ...]:
    """Return the shape for one capture; the model must hold as many numbers as one has samples."""
    tensor = card.inputs[0]
    sizes = tuple(count if not isinstance(size, int) else size for size in tensor.shape[1:]) or (count,)
    total = 1
    for size in sizes:
        total *= size
    if total != count:
        raise ModelError(
            f'input "{tensor.name}" is {tensor}; a capture has {count} samples: such a model needs [[steps]] '
            "that make its features (docs/reference/manifest.md)",
            code="M504",
        )
    return (1, *sizes)


def _tags(config: EdgeConfig, devices: Sequence[str]) -> list[Known]:
    names = {device.name for device in config.devices}
    unknown = [name for name in devices if name not in names]
    if unknown:
        known = ", ".join(sorted(names))
        raise ModelError(f"the configuration has no device {unknown[0]}; it has {known}", code="M615")
    return [
        Known(f"{device.name}/{tag.name}", tag.unit, tag.low, tag.high, tag.description)
        for device in config.devices
        if not devices or device.name in devices
        for tag in device.tags
        if tag.type not in _NO_NUMBERS and not tag.length
    ]


def _columns(card: OnnxCard, options: MapOptions) -> list[str]:
    """Return the names of the columns: from a file, or from what the model's author noted."""
    if options.columns is not None:
        return _from_file(options.columns)
    for key in ("feature_names", "features", "columns", "inputs", "input_names", "feature_names_in"):
        if found := names_in(card.metadata.get(key, "")):
            return found
    return []


def _from_file(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            text = stream.read(_MOST_BYTES)
    except (OSError, UnicodeDecodeError) as exc:
        raise ModelError(f"{path} cannot be read: {exc}", code="M507") from exc
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ModelError(f"{path} names no columns", code="M507")
    header = next(csv.reader(lines[:1], delimiter=";" if ";" in lines[0] else ","))
    found = header if len(header) > 1 else lines
    return [name.strip() for name in found[:_MOST_COLUMNS]]


def _measured(path: Path, card: OnnxCard, shape: Shape, options: MapOptions) -> Mapping[str, Any] | None:
    """Return what running it here gave; None if it is not run, or does not run."""
    if not options.timeout_s:
        return None
    request = {
        "path": str(path.absolute()),
        "provider": "cpu",
        "shapes": {card.inputs[0].name: list(shape.sizes)},
        "load_s": options.timeout_s,
    }
    try:
        return ask_apart(TRYOUT, request, within_s=options.timeout_s + SPARE_S)
    except ModelError as exc:
        complain(printable(f"it does not run here: {exc} ({exc.code})"))
        return None


def _rows(draft: Draft) -> dict[str, Any]:
    return {
        "model": f"{draft.name}/{draft.version}",
        "window": draft.shape.window,
        "shape": list(draft.shape.sizes),
        "tags": [
            {
                "name": column_name(match, number),
                "column": match.column,
                "tag": None if match.tag is None else match.tag.reference,
                "sure": match.sureness.value,
                "why": match.why,
            }
            for number, match in enumerate(draft.matches, 1)
        ],
        "open": draft.open_points,
        "pipeline": pipeline_text(draft),
    }


def _tell(draft: Draft, path: Path, out: Path) -> None:
    marks = {Sureness.SURE: "ok", Sureness.LIKELY: "ok", Sureness.UNSURE: "? "}
    width = max((len(match.column) for match in draft.matches), default=0)
    for number, match in enumerate(draft.matches, 1):
        column = match.column or f"column {number}"
        tag = "-" if match.tag is None else f"{match.tag.reference} {match.tag.unit}".rstrip()
        say(printable(f"{marks[match.sureness]}  {column:<{width}}  {tag}  ({match.why})"))
    say(f"{out} drafted")
    for point in draft.open_points:
        say(printable(f"to do: {point}"))
    say("into the configuration:")
    say(pipeline_text(draft))
    say(f"then: edge-opcua model add {path} --manifest {out}")

"""Reference samples from recorded rows, for a model whose trainer has left none.

The answers are those of this machine: such samples show that a model answers everywhere, and after every
change of hardware or runtime, as it does here; not that it was right where it was trained.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.app.serving.extractors import extractor_for
from edge_opcua.app.serving.judges import judge_of
from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import ask_apart
from edge_opcua.inference.judge import four_answers
from edge_opcua.inference.manifest import Manifest

Floats = npt.NDArray[np.float32]

TRYOUT: Final = "edge_opcua.inference.tryout"
MOST_SAMPLES: Final = 16
MOST_ROWS: Final = 1_000_000
SPARE_S: Final = 20.0


def write_samples(model: Path, manifest: Manifest, rows_file: Path, target: Path, *, timeout_s: float) -> int:
    """Write reference samples of a model.

    Args:
        model: The model file.
        manifest: What it promises.
        rows_file: A CSV file with a column for each of its tags, a row each sample, the oldest first.
        target: The ``.npz`` file.
        timeout_s: Longest time to load and run the model.

    Returns:
        How many they are.

    Raises:
        ModelError: The model is not fed with tags, or the file lacks a column or has too few rows (M618), or
            the model cannot be run.
    """
    if manifest.source != "tags":
        raise ModelError(
            "reference samples are made of rows only for a model that is fed with tags", code="M618"
        )
    windows = _windows(read_rows(rows_file, [tag.name for tag in manifest.tags]), manifest.window, rows_file)
    extractor = extractor_for(manifest)
    nothing = np.zeros(0)
    rows = np.stack([extractor.extract(each, manifest.sample_rate_hz, nothing).copy() for each in windows])
    known = manifest.completed(extractor.names, extractor.units)
    judge = judge_of(known)
    outputs = four_answers(rows.shape[1]) if judge is None else tuple(judge.outputs)
    answers = _answers(model, known, rows, timeout_s)
    samples: dict[str, Any] = {
        "waveform": windows,
        "context": np.zeros((len(rows), 0), np.float32),
        "features": rows.astype(np.float32),
    }
    for output in outputs:
        if output.name not in answers:
            raise ModelError(f'the model has no output "{output.name}"', code="M505")
        found = answers[output.name]
        samples[output.role] = found[:, 0] if output.size == 1 else found
    np.savez_compressed(target, **samples)
    return len(rows)


def read_rows(path: Path, names: Sequence[str]) -> Floats:
    """Return the columns of some names from a CSV file, shape ``(rows, names)``.

    Raises:
        ModelError: The file cannot be read, lacks a column, or holds something that is no number (M618).
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return np.array(list(_numbers(stream, names, path)), np.float32).reshape(-1, len(names))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise ModelError(f"{path} cannot be read: {exc}", code="M618") from exc


def _numbers(stream: Any, names: Sequence[str], path: Path) -> Iterator[list[float]]:
    head = stream.readline()
    separator = ";" if ";" in head else ","
    header = [name.strip() for name in next(csv.reader([head], delimiter=separator), [])]
    missing = [name for name in names if name not in header]
    if missing:
        raise ModelError(f"{path} has no column {', '.join(missing)}", code="M618")
    places = [header.index(name) for name in names]
    for number, row in enumerate(csv.reader(stream, delimiter=separator), 2):
        if number > MOST_ROWS:
            return
        try:
            yield [float(row[place]) for place in places]
        except (ValueError, IndexError):
            raise ModelError(f"{path}:{number}: not a number for each of its columns", code="M618") from None


def _windows(rows: Floats, window: int, path: Path) -> Floats:
    """Return some windows of consecutive rows, spread over all of them, shape ``(n, window * tags)``."""
    if len(rows) < window or not np.isfinite(rows).all():
        raise ModelError(f"{path} does not hold {window} rows of finite numbers", code="M618")
    starts = np.unique(np.linspace(0, len(rows) - window, MOST_SAMPLES).astype(int))
    return np.stack([rows[start : start + window].reshape(-1) for start in starts])


def _answers(model: Path, manifest: Manifest, rows: Floats, timeout_s: float) -> dict[str, Floats]:
    request = {
        "path": str(model.absolute()),
        "provider": "cpu",
        "load_s": timeout_s,
        "input": manifest.input_name,
        "shape": list(manifest.input_shape),
        "rows": rows.tolist(),
    }
    found = ask_apart(TRYOUT, request, within_s=timeout_s + SPARE_S)["answers"]
    return {name: np.array(values, np.float32) for name, values in found.items()}

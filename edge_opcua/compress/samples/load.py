"""Reads what a model is fed with, and what is true of it, out of the files that people have."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.dataset import Dataset, Rows
from edge_opcua.compress.samples.archive import read_arrays
from edge_opcua.compress.samples.recorded import is_recorded, read_recorded
from edge_opcua.errors import ModelError
from edge_opcua.inference.repository import ModelFiles

LABELS: Final = ("labels", "label")
TARGETS: Final = ("targets", "target")
MOST_LABEL: Final = 100_000
MOST_CALIBRATION: Final = 500
CALIBRATION_SHARE: Final = 0.2
FEWEST: Final = 10
_SPOKEN: Final = 5
_SPOKEN_LETTERS: Final = 60


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a model is fed with.

    Args:
        name: Name of its input.
        shape: Shape of one sample, without the batch axis; a name or 0 where an axis is open.
    """

    name: str
    shape: tuple[int | str, ...]


def load(path: Path, wanted: Wanted, files: ModelFiles | None = None) -> Dataset:
    """Return the samples of a file.

    Args:
        path: ``.npz``: an array named like the input, or one of numbers, and perhaps ``labels`` or
            ``targets``; what ``edge-opcua model export-windows`` wrote, if there is a package. ``.csv``: a
            column for each number of a sample, and perhaps ``label`` or ``target``, under a line of names.
        wanted: What the model is fed with.
        files: The package of the model; None if it is a bare ONNX file.

    Raises:
        ModelError: The file cannot be read (M670), or its samples are none for the model (M673).
    """
    arrays = _read_csv(path) if path.suffix.lower() == ".csv" else read_arrays(path, code="M670")
    if is_recorded(arrays):
        if files is None:
            raise ModelError(
                f"{path} holds recorded windows: only the manifest of a package says what a model is fed "
                "with of them",
                code="M673",
            )
        return read_recorded(path, files)
    rows = _rows(path, arrays, wanted)
    return Dataset(rows, _truth(path, arrays, len(rows)), origin=f"{len(rows)} samples of {path.name}")


def split(data: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Return the samples to make variants with, and those of the gate, which nobody else sees.

    A fifth, 500 at most, is for making; of each label as many as are its share, and what is drawn depends on
    the seed alone. Both stay in the order of the file.

    Raises:
        ModelError: There are too few samples to do both (M674).
    """
    if len(data) < FEWEST:
        raise ModelError(
            f"{data.origin}: {len(data)} samples cannot be split; name --calibration", code="M674"
        )
    share = min(CALIBRATION_SHARE, MOST_CALIBRATION / len(data))
    random = np.random.default_rng(seed)
    groups = data.truth if data.kind == "labels" else np.zeros(len(data), np.int64)
    taken = np.zeros(len(data), np.bool_)
    for group in np.unique(groups):  # type: ignore[arg-type]  # labels are there, or zeros
        members = np.flatnonzero(groups == group)
        count = min(max(1, math.floor(share * len(members))), len(members) - 1)
        taken[random.permutation(members)[:count]] = True
    if not taken.any():  # each label occurs once
        taken[random.permutation(len(data))[: math.floor(CALIBRATION_SHARE * len(data))]] = True
    return _part(data, taken, "to make variants with"), _part(data, ~taken, "for the gate")


def _part(data: Dataset, which: npt.NDArray[np.bool_], what: str) -> Dataset:
    some = data.some(np.flatnonzero(which))
    return Dataset(some.rows, some.truth, origin=f"{len(some)} of {data.origin}, {what}")


def _read_csv(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            names = _names(path, next(lines, []))
            table = [_numbers(path, number, names, line) for number, line in enumerate(lines, 2) if line]
    except UnicodeDecodeError as exc:
        raise ModelError(f"{path} is not written in UTF-8: save it so ({exc})", code="M670") from exc
    except MemoryError as exc:
        raise ModelError(f"{path} holds more than fits into memory; take fewer samples", code="M670") from exc
    except (OSError, csv.Error) as exc:
        raise ModelError(f"{path} cannot be read: {exc}", code="M670") from exc
    if len(set(names)) != len(names) or not table:
        raise ModelError(f"{path} has {'two columns of one name' if table else 'no rows'}", code="M670")
    columns = dict(zip(names, np.array(table).T, strict=True))
    labels = [name for name in names if name in LABELS]
    targets = [name for name in names if name in TARGETS or name.startswith("target_")]
    found = {name: columns[name] for name in labels}
    if targets:
        found["targets"] = np.stack([columns[name] for name in targets], axis=1)
    fed = [columns[name] for name in names if name not in (*labels, *targets)]
    return {**found, "rows": np.stack(fed, axis=1) if fed else np.empty((0, 0))}


def _names(path: Path, line: Sequence[str]) -> list[str]:
    """Return the names of the columns; ``Label`` is a label too, or it would be fed to the model."""
    names = [name.strip() for name in line]
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise ModelError(
            f"{path} has one column, {names[0][:_SPOKEN_LETTERS]!r}: columns are parted by commas, "
            "and numbers have a decimal point",
            code="M670",
        )
    return [name.lower() if name.lower() in (*LABELS, *TARGETS) else name for name in names]


def _numbers(path: Path, number: int, names: Sequence[str], line: Sequence[str]) -> npt.NDArray[np.float64]:
    if len(line) != len(names):
        raise ModelError(f"{path}, line {number}: {len(line)} values, not {len(names)}", code="M670")
    found = np.empty(len(line))
    for column, text in enumerate(line):
        try:
            found[column] = float(text)
        except ValueError:
            raise ModelError(
                f'{path}, line {number}, {names[column]}: "{text[:_SPOKEN_LETTERS]}" is no number',
                code="M670",
            ) from None
    return found


def _rows(path: Path, arrays: Mapping[str, npt.NDArray[Any]], wanted: Wanted) -> Rows:
    truths = {*LABELS, *TARGETS}
    candidates = [name for name, array in arrays.items() if name not in truths and array.dtype.kind in "fiub"]
    name = wanted.name if wanted.name in candidates else candidates[0] if len(candidates) == 1 else None
    if name is None:
        there = ", ".join(f"{each} ({array.dtype})" for each, array in arrays.items()) or "nothing"
        raise ModelError(f"{path}: which array is the input {wanted.name}? There is {there}", code="M673")
    with np.errstate(over="ignore"):
        rows = np.asarray(arrays[name], np.float32, order="C")
    if rows.ndim == 0 or rows.size == 0:
        raise ModelError(f"{path}: {name} holds no samples", code="M673")
    rows = _shaped(path, rows, wanted)
    _require_finite(path, name, rows)
    return rows


def _shaped(path: Path, rows: Rows, wanted: Wanted) -> Rows:
    """Return the samples in the shape that the model wants, if only axes of length 1 or flat rows differ."""
    given, shape = rows.shape[1:], wanted.shape
    if len(given) == len(shape) and all(
        one == other for one, other in zip(given, shape, strict=True) if isinstance(other, int) and other > 0
    ):
        return rows
    sizes = [size for size in shape if isinstance(size, int) and size > 0]
    if len(sizes) == len(shape) and math.prod(sizes) == math.prod(given):
        return rows.reshape(len(rows), *sizes)
    said = " x ".join(str(size) for size in shape)
    raise ModelError(
        f"{path}: a sample has {' x '.join(map(str, given)) or '1'} values, "
        f"the input {wanted.name} wants {said or '1'}",
        code="M673",
    )


def _require_finite(path: Path, name: str, array: npt.NDArray[Any]) -> None:
    off = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    if off.size:
        first = ", ".join(str(each) for each in off[:_SPOKEN])
        raise ModelError(
            f"{path}: {off.size} of {len(array)} samples of {name} hold NaN, or what float32 cannot hold; "
            f"the first: {first} (counted from 0)",
            code="M673",
        )


def _truth(path: Path, arrays: Mapping[str, npt.NDArray[Any]], samples: int) -> npt.NDArray[Any] | None:
    there = [name for name in (*LABELS, *TARGETS) if name in arrays]
    if len(there) > 1:
        raise ModelError(f"{path} holds both {there[0]} and {there[1]}", code="M673")
    if not there:
        return None
    name, array = there[0], arrays[there[0]]
    if array.dtype.kind not in "fiub" or array.shape[:1] != (samples,):
        raise ModelError(f"{path}: {name} has to be {samples} numbers, one for each sample", code="M673")
    _require_finite(path, name, np.asarray(array, np.float64))
    if array.size == 0:
        raise ModelError(f"{path}: {name} holds nothing", code="M673")
    if name in TARGETS:
        return np.asarray(array, np.float64).reshape(samples, -1)
    labels = np.asarray(array, np.float64).reshape(samples, -1)
    if labels.shape[1] != 1 or (labels != np.round(labels)).any() or abs(labels).max() > MOST_LABEL:
        raise ModelError(f"{path}: {name} has to be one whole number for each sample", code="M673")
    return labels[:, 0].astype(np.int64)

"""Stored samples with the answers the trainer got, read and held against what is found here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import Verdict
from edge_opcua.errors import ModelError
from edge_opcua.inference.judge import Floats, Judged, Output
from edge_opcua.inference.manifest import Golden, Manifest
from edge_opcua.inference.npzfile import read_arrays

MAX_GOLDEN_BYTES: Final = 256 * 2**20
"""Of the file, and of what is in it."""

Samples = dict[str, npt.NDArray[Any]]
"""``waveform`` (n, samples), ``context`` (n, m), ``features`` (n, k), and by role what the model answered.

Perhaps also ``verdict`` (n,): the numbers of the verdicts, judged one after the other.
"""


def read_golden(path: Path, manifest: Manifest, outputs: Sequence[Output] = ()) -> Samples:
    """Return the reference samples of a model.

    Args:
        path: The ``.npz`` file.
        manifest: What the model promises, its features listed.
        outputs: Whose answers are needed.

    Raises:
        ModelError: The file is missing (M507) or not what it should be (M513).
    """
    columns: dict[str, tuple[int, ...]] = {
        "waveform": (manifest.sample_count,),
        "context": (len(manifest.context),),
        "features": (len(manifest.features),),
    }
    try:
        if path.stat().st_size > MAX_GOLDEN_BYTES:
            raise ModelError(f"{path.name} is larger than {MAX_GOLDEN_BYTES} bytes", code="M513")
        with path.open("rb") as stream:
            names = (*columns, *(output.role for output in outputs))
            samples = read_arrays(stream, names, most_bytes=MAX_GOLDEN_BYTES, optional=("verdict",))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing", code="M507") from None
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path.name} cannot be read: {exc}", code="M513") from exc
    for output in outputs:
        one = samples[output.role].ndim == 1 and output.size == 1
        columns[output.role] = () if one else (output.size,)
    _check(path.name, samples, columns)
    return samples


def _check(name: str, samples: Samples, columns: dict[str, tuple[int, ...]]) -> None:
    for column, shape in columns.items():
        array = samples[column]
        if array.shape[1:] != shape or not np.issubdtype(array.dtype, np.floating):
            raise ModelError(f"{name}: {column} has shape {array.shape}, not {('n', *shape)}", code="M513")
    verdicts = samples.get("verdict")
    if verdicts is not None and (verdicts.ndim != 1 or not np.issubdtype(verdicts.dtype, np.integer)):
        raise ModelError(f"{name}: verdict is not one whole number for each sample", code="M513")
    rows = {len(array) if array.ndim else 0 for array in samples.values()}
    if len(rows) != 1 or rows == {0}:
        raise ModelError(f"{name} holds no complete samples", code="M513")


def compare(number: int, labels: Sequence[str], found: Floats, wanted: Floats, golden: Golden) -> None:
    """Refuse values that are off.

    Args:
        number: Number of the sample, from 0.
        labels: What each value is called.
        found: What was found here, shape ``(k,)``.
        wanted: What the trainer got, shape ``(k,)``.
        golden: How far it may be off.

    Raises:
        ModelError: One is off (M512).
    """
    off = np.flatnonzero(~np.isclose(found, wanted, rtol=golden.rtol, atol=golden.atol))
    if off.size:
        first = int(off[0])
        raise ModelError(
            f"reference sample {number + 1}: {labels[first]} is {found[first]:.6g} here, "
            f"{wanted[first]:.6g} where the model was trained",
            code="M512",
        )


def require_verdict(number: int, judged: Judged, wanted: int) -> None:
    """Refuse a verdict that is not the trainer's.

    Raises:
        ModelError: It is another one (M622).
    """
    if int(judged.verdict) != wanted:
        there = _NAMES.get(wanted, str(wanted))
        reason = f" ({judged.reason})" if judged.reason else ""
        raise ModelError(
            f"reference sample {number + 1}: the verdict is {_NAMES[int(judged.verdict)]}{reason} here, "
            f"{there} where the model was trained",
            code="M622",
        )


_NAMES: Final = {
    int(Verdict.UNDEFINED): "Undefined",
    int(Verdict.OK): "Ok",
    int(Verdict.NOT_OK): "NotOk",
    int(Verdict.NOT_DECIDABLE): "NotDecidable",
}

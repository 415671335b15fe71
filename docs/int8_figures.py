"""Brings the example models to INT8 step by step; prints the table of docs/explanation/compression.md.

python -m docs.int8_figures FOLDER   takes a minute

FOLDER is what examples/compress/digits.py, strokes.py and wear_classifier.py wrote.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from edge_opcua.assets import examples_dir
from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.graph import activations
from edge_opcua.compress.making import Device, Kitchen
from edge_opcua.compress.quantise.recipe import Int8
from edge_opcua.compress.quantise.running import decibels
from edge_opcua.compress.quantise.static import make, variant_of
from edge_opcua.compress.samples.load import Wanted, load
from edge_opcua.compress.search.subject import open_subject
from edge_opcua.compress.tasks.value import Value

SAMPLES: Final = 200
"""Of the calibration."""
EXAMPLES: Final = (("digits-cnn.onnx", "digits"), ("press-autoencoder/1", "press"), ("wear.onnx", "wear"))
STEPS: Final[dict[str, Int8 | None]] = {
    "the runtime's own quantiser": None,
    "a scale per tensor": Int8(),
    "a scale per tensor, corrected biases": Int8(bias_correction=True),
    "a scale per channel": Int8(per_channel=True),
    "a scale per channel, corrected biases": Int8(bias_correction=True, per_channel=True),
}


class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    """Hands samples to ONNX Runtime's own calibration, one at a time.

    Args:
        name: Name of the input.
        data: The samples.
    """

    def __init__(self, name: str, data: Dataset) -> None:
        self._fed: Iterator[dict[str, Any]] = ({name: row[None]} for row in data.rows)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next sample."""
        return next(self._fed, None)


def measured(model: str, samples: str, folder: Path) -> Iterator[str]:
    """Yield by step the signal-to-noise ratio of the answers to the gate's samples, and what is saved."""
    subject = open_subject(examples_dir() / "compress" / "models" / model, folder)
    wanted = Wanted(subject.input_name, subject.sample_shape or ())
    gate, calibration = (
        load(folder / f"{samples}-{part}.npz", wanted, subject.files) for part in ("gate", "calibration")
    )
    calibration = Dataset(calibration.rows[:SAMPLES])
    outputs = onnx.load(str(subject.path)).graph.output
    output = next(each.name for each in outputs if each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)
    device = Device("cpu", "", "x86_64", has_vnni=True)
    kitchen = Kitchen(subject.path, subject.input_name, calibration, None, Value(output), device, seed=1)
    for recipe in STEPS.values():
        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch) / "int8.onnx"
            if recipe is None:
                _by_the_runtime(kitchen, target)
            else:
                make(variant_of(recipe), subject.path, target, kitchen, lambda *_: None)
            right, answers = (
                activations(onnx.load(str(path)), [output], gate.rows)[output]
                for path in (subject.path, target)
            )
            saved = 1.0 - target.stat().st_size / subject.path.stat().st_size
        yield f"{decibels(right, answers):.0f} dB, {-100 * saved:.0f} %".replace("-", "\N{MINUS SIGN}")


def _by_the_runtime(kitchen: Kitchen, target: Path) -> None:
    reader = Reader(kitchen.input_name, kitchen.calibration)
    quantise: Callable[..., None] = quantize_static
    with contextlib.redirect_stdout(io.StringIO()):
        quantise(kitchen.original, target, reader, activation_type=QuantType.QUInt8)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    columns = [list(measured(model, samples, Path(sys.argv[1]))) for model, samples in EXAMPLES]
    for step, cells in zip(STEPS, zip(*columns, strict=True), strict=True):
        sys.stdout.write(f"| {step} | {' | '.join(cells)} |\n")

"""What training gives back to a pruned network: the figures of docs/explanation/compression.md, "Training".

python -m docs.train_figures FOLDER   takes some minutes, needs PyTorch; writes train-figures.json

FOLDER is what examples/compress/digits.py wrote.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.assets import examples_dir
from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.graph import activations, open_graph
from edge_opcua.compress.making import Device, Kitchen
from edge_opcua.compress.prune import make as prune
from edge_opcua.compress.samples.load import Wanted, load
from edge_opcua.compress.search.subject import open_subject
from edge_opcua.compress.tasks.labels import Labels
from edge_opcua.compress.train import distil, tune
from edge_opcua.compress.variant import Variant

FIGURES: Final = Path(__file__).parent / "explanation" / "train-figures.json"
SHARES: Final = (0.7, 0.8, 0.9, 0.95)
SEED: Final = 9
WAYS: Final = ("refit alone", "learned from the original", "fine-tuned", "learned from both")


def measure(folder: Path) -> dict[str, Any]:
    """Prune, train in each way, and judge by digits that neither has seen."""
    path = examples_dir() / "compress" / "models" / "digits-cnn.onnx"
    subject = open_subject(path, folder)
    wanted = Wanted(subject.input_name, subject.sample_shape or ())
    train, some, gate = (
        load(folder / f"digits-{part}.npz", wanted, subject.files)
        for part in ("train", "calibration", "gate")
    )
    output = open_graph(path).graph.output[0].name
    known = Kitchen(
        original=path,
        input_name=subject.input_name,
        calibration=some,
        training=train,
        task=Labels(output),
        device=Device("cpu", "", "x86_64", has_vnni=True),
        seed=SEED,
    )
    blind = replace(known, calibration=replace(some, truth=None), training=None)
    found: dict[str, Any] = {
        "samples": {"calibration": len(some), "training": len(train), "gate": len(gate)},
        "original": right(path, output, gate),
        "pruned": [],
    }
    with tempfile.TemporaryDirectory() as scratch:
        for share in SHARES:
            row = _row(Path(scratch), share, path, known, blind)
            found["pruned"].append(
                {"removed": share} | {way: right(made, output, gate) for way, made in row.items()}
            )
    FIGURES.write_text(json.dumps(found, indent=1) + "\n")
    return found


def right(path: Path, output: str, gate: Dataset) -> float:
    """Return the share of right decisions, in percent."""
    answers = activations(open_graph(path), [output], gate.rows)[output]
    return round(100.0 * float(np.mean(answers.argmax(1) == gate.truth)), 2)


def _row(scratch: Path, share: float, path: Path, known: Kitchen, blind: Kitchen) -> Mapping[str, Path]:
    files = {way: scratch / f"{way.replace(' ', '-')}.onnx" for way in WAYS}
    parent = files["refit alone"]
    prune.make(Variant("p", "pruned", {"share": share, "refit": True}), path, parent, known, _quiet)
    for way, maker, kitchen in (
        ("learned from the original", distil, blind),
        ("fine-tuned", tune, known),
        ("learned from both", distil, known),
    ):
        (variant,) = maker.proposals(parent, kitchen)
        maker.make(variant, parent, files[way], kitchen, _quiet)
    return files


def _quiet(share: float, text: str) -> None:
    """Tell nobody."""


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1])), indent=1) + "\n")

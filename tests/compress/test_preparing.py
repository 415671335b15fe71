"""What a run begins with: samples that decide are not made with, and what is to be known of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.options import Options
from edge_opcua.compress.search.preparing import Prepared, prepare
from edge_opcua.compress.search.subject import open_subject
from edge_opcua.errors import ModelError
from tests.compress import models

SIGNALS = models.signals(400, 5)


def prepared(folder: Path, gate: Dataset, calibration: Dataset | None = None) -> Prepared:
    model = models.saved(models.autoencoder(), folder)
    np.savez(folder / "gate.npz", rows=gate.rows)
    options = Options()
    if calibration is not None:
        np.savez(folder / "calibration.npz", rows=calibration.rows)
        options = Options(calibration=folder / "calibration.npz")
    return prepare(open_subject(model, folder / "state"), folder / "gate.npz", options)


def test_a_fifth_of_the_samples_is_made_with_and_judges_nothing(tmp_path: Path) -> None:
    found = prepared(tmp_path, SIGNALS)
    assert (len(found.kitchen.calibration), len(found.gate)) == (80, 320)
    assert found.kitchen.task.name == "reconstruction"
    assert not any(note.startswith("samples") for note in found.findings)


def test_samples_that_are_made_with_may_not_decide_as_well(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="40 of the 400 samples that decide") as caught:
        prepared(tmp_path, SIGNALS, SIGNALS.some(np.arange(40)))
    assert caught.value.code == "M682"


def test_samples_that_were_written_down_twice_are_told_of(tmp_path: Path) -> None:
    found = prepared(tmp_path, SIGNALS.some(np.arange(800) % 400), models.signals(100, 6))
    assert [note for note in found.findings if "400 of the 800 that decide are equal" in note]


@pytest.mark.skipif(find_spec("torch") is not None, reason="PyTorch is installed")
@pytest.mark.parametrize("options", [Options(training=Path("train.npz")), Options(only=frozenset({"qat"}))])
def test_training_that_is_asked_for_is_not_left_out_in_silence(tmp_path: Path, options: Options) -> None:
    subject = open_subject(models.saved(models.autoencoder(), tmp_path), tmp_path / "state")
    with pytest.raises(ModelError, match="needs PyTorch") as caught:
        prepare(subject, tmp_path / "gate.npz", options)
    assert caught.value.code == "M690"

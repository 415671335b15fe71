"""What makers are given in tests: samples to calibrate with, and nobody to report to."""

from __future__ import annotations

from pathlib import Path

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.making import Device, Kitchen
from edge_opcua.compress.task import Answers, Comparison, Task


class Undecided:
    """A task for makers that ask for nothing: it cannot compare."""

    name = "labels"
    outputs = ("logits",)

    def damage(self, original: Answers, variant: Answers, data: Dataset) -> float:
        """Refuse: whoever asks needs a real task."""
        raise AssertionError("this maker was not to look at answers")

    def compare(
        self, original: Answers, variant: Answers, data: Dataset, *, allowed: float | None, level: float
    ) -> Comparison:
        """Refuse: makers never compare."""
        raise AssertionError("a maker never sees the gate")


def kitchen(
    calibration: Dataset,
    training: Dataset | None = None,
    *,
    original: Path = Path("model.onnx"),
    seed: int = 1,
    task: Task | None = None,
) -> Kitchen:
    """Return what a maker is given for a model with the input "x" on a processor without VNNI."""
    device = Device("cpu", "some processor", "x86_64", has_vnni=False)
    return Kitchen(
        original=original,
        input_name="x",
        calibration=calibration,
        training=training,
        task=task or Undecided(),
        device=device,
        seed=seed,
    )


def quiet(share: float, text: str) -> None:
    """Take progress and tell nobody, if it is one."""
    assert 0.0 <= share <= 1.0
    assert text

"""What whoever makes a variant gets, and has to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.task import Task
from edge_opcua.compress.variant import Variant

Progress = Callable[[float, str], None]
"""Gets the share that is done, 0 to 1, and what is being done, in a few words."""


@dataclass(frozen=True, slots=True)
class Device:
    """What the variants are to run on.

    Args:
        provider: Execution provider as the configuration calls it: ``cpu``, ``cuda``, ``tensorrt`` …
        processor: Name of the processor, for people.
        machine: ``x86_64``, ``aarch64`` …
        has_vnni: Whether it multiplies INT8 with 32-bit sums in one instruction (AVX-512 VNNI, AVX-VNNI).
    """

    provider: str
    processor: str
    machine: str
    has_vnni: bool


@dataclass(frozen=True, slots=True)
class Kitchen:
    """What there is to make variants with; the samples of the gate are never among it.

    Args:
        original: ONNX file of the original, which a variant may learn from.
        input_name: Name of the model's one input.
        calibration: Samples to calibrate, prune, refit and choose with.
        training: Samples to train with; None if there are none beside ``calibration``.
        task: What the model is for.
        device: What the variants are to run on.
        seed: Of everything that draws numbers.
    """

    original: Path
    input_name: str
    calibration: Dataset
    training: Dataset | None
    task: Task
    device: Device
    seed: int


class Maker(Protocol):
    """Makes variants of one family."""

    def __call__(
        self, variant: Variant, source: Path, target: Path, kitchen: Kitchen, progress: Progress
    ) -> Mapping[str, Any]:
        """Read the ONNX file of its parent, write that of the variant, and return notes for the report.

        The same arguments write the same bytes. The original file is never changed.

        Raises:
            ModelError: It cannot be made of this model, and why; the search goes on without it.
        """
        ...

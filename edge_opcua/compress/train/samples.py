"""Which samples something learns from, and whether it is known what is true of them."""

from __future__ import annotations

import numpy as np

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.making import Kitchen
from edge_opcua.compress.train.lesson import Lesson
from edge_opcua.errors import ModelError


def lesson_data(kitchen: Kitchen, lesson: Lesson) -> Dataset:
    """Return the samples to learn from: those to train with, else those to calibrate with.

    Who learns to give its input again learns it from what is normal, as far as that is known.

    Raises:
        ModelError: Nobody knows what is true of them, and that was to be learned (M692).
    """
    data = kitchen.calibration if kitchen.training is None else kitchen.training
    if lesson.loss == "teacher":
        return data
    if kitchen.task.name == "reconstruction":
        if data.truth is None or data.kind != "labels":
            return data
        return data.some(np.flatnonzero(data.truth == 0))
    if data.truth is None:
        raise ModelError("there are no labels or targets to train with: --train", code="M692")
    return data


def knows_truth(kitchen: Kitchen) -> bool:
    """Return whether there are samples to train with whose truth is known, and a task that says how."""
    if kitchen.training is None:
        return False
    if kitchen.task.name == "reconstruction":
        return True
    return kitchen.training.truth is not None and kitchen.task.name in ("labels", "value")

"""Writes the handwritten digits of scikit-learn as files to train, to calibrate and to judge with.

    python examples/compress/digits.py data

1797 digits of 43 people, 8 by 8 pixels with 17 grey levels, scaled up to 16 by 16 and to 0..1. Most of them
stay for the gate: whether a smaller model has lost less than half a percentage point can only be shown on
many digits that neither the training nor the calibration has seen.

Source:
    E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998).
"""

# %%
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

SEED = 9
FOR_TRAINING = 497
FOR_CALIBRATION = 200  # of those that are trained with


def scaled_up(images: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return images of twice as many pixels each way, 0..1, shape ``(n, 1, 16, 16)``; linear in between."""
    n, rows, _ = images.shape
    places = (np.arange(2 * rows) - 0.5) / 2.0
    weights = np.maximum(0.0, 1.0 - np.abs(np.clip(places, 0, rows - 1)[:, None] - np.arange(rows)))
    large = np.einsum("ai,nij,bj->nab", weights, images / 16.0, weights)
    return np.asarray(large, np.float32).reshape(n, 1, 2 * rows, 2 * rows)


# %%
folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
found = load_digits()
order = np.random.default_rng(SEED).permutation(len(found.target))
image, labels = scaled_up(found.images)[order], found.target[order].astype(np.int64)
parts = {
    "digits-train": slice(0, FOR_TRAINING),
    "digits-calibration": slice(0, FOR_CALIBRATION),
    "digits-gate": slice(FOR_TRAINING, None),
}
for name, part in parts.items():
    np.savez_compressed(folder / f"{name}.npz", image=image[part], labels=labels[part])
    print(f"{len(labels[part])} digits: {folder / name}.npz")

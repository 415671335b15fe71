"""Trains a classifier of scikit-learn that says how worn the die of a press is, and exports it.

    python examples/compress/wear_classifier.py data examples/compress/models/wear.onnx

Data come from ``strokes.py``. Beside the model it writes the features of the strokes to calibrate and to
judge with, ``data/wear-….npz``. Who trains outside of this program has such files anyway.
"""

# %%
import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier

from edge_opcua import training

LABELS = ("sharp", "used", "blunt")
FROM_WEAR = (0.3, 0.5)  # from which on a die counts as used, and as blunt

# %% What a stroke is made into: levels of 64 bands up to 1600 Hz, and what the PLC knows beside it.
press = training.Capture(
    sample_count=2_000,
    sample_rate_hz=10_000,
    unit="m/s²",
    context=[training.Tag("tonnage", "kN"), training.Tag("die_temp", "°C")],
)
data = Path(sys.argv[1])
windows = {
    name: training.load_windows(data / f"press-{name}.npz", press) for name in ("worn", "calibration", "gate")
}
prepared = training.fit(
    press,
    [
        {"step": "detrend"},
        {"step": "fft_bands", "edges_hz": list(range(0, 1_625, 25))},
        {"step": "log"},
        {"step": "context"},
        {"step": "normalise"},
    ],
    windows["worn"],
)
rows = {name: prepared.features(some) for name, some in windows.items()}
labels = {name: np.digitize(some.facts["wear"], FROM_WEAR) for name, some in windows.items()}

# %% Train as you are used to.
model = MLPClassifier((128, 64), alpha=1e-2, early_stopping=True, max_iter=200, random_state=9)
model.fit(rows["worn"], labels["worn"])
right = model.score(rows["gate"], labels["gate"])
print(f"right on {len(labels['gate'])} strokes of presses it has never seen: {100 * right:.2f} %")

# %% To ONNX: one input, float32; probabilities as an array and not as a list of maps.
graph = to_onnx(model, rows["gate"][:1], target_opset=17, options={"zipmap": False})
target = Path(sys.argv[2])
target.write_bytes(graph.SerializeToString(deterministic=True))
for name in ("calibration", "gate"):
    np.savez_compressed(data / f"wear-{name}.npz", rows=rows[name], labels=labels[name])
print(f"{target}: {target.stat().st_size} bytes")

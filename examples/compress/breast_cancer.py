"""Trains a classifier on too few samples to prove anything small by: what the gate refuses.

    python examples/compress/breast_cancer.py data

400 tumours are left to judge with. A smaller model that decides like the original on every one of them may
still have lost nearly a percentage point, by chance alone.

Source:
    W. Wolberg, O. Mangasarian, N. Street, W. Street: Breast Cancer Wisconsin (Diagnostic), UCI Machine
    Learning Repository (1993).
"""

# %%
import csv
import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOR_TRAINING = 169

# %%
folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
found = load_breast_cancer()
order = np.random.default_rng(9).permutation(len(found.target))
rows, labels = found.data[order].astype(np.float32), found.target[order]
model = make_pipeline(StandardScaler(), MLPClassifier((512, 256), max_iter=1_000, alpha=1.0, random_state=9))
model.fit(rows[:FOR_TRAINING], labels[:FOR_TRAINING])
right = model.score(rows[FOR_TRAINING:], labels[FOR_TRAINING:])
print(f"right on {len(labels) - FOR_TRAINING} tumours that it has never seen: {100 * right:.2f} %")

# %% The scaler is part of the model, so that nobody forgets it.
graph = to_onnx(model, rows[:1], target_opset=17, options={"zipmap": False})
(folder / "cancer.onnx").write_bytes(graph.SerializeToString(deterministic=True))

# %% Samples as a table, a column for each feature and one for what is true.
for name, part in (("calibration", slice(0, FOR_TRAINING)), ("gate", slice(FOR_TRAINING, None))):
    with (folder / f"cancer-{name}.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow([*(str(feature).replace(" ", "_") for feature in found.feature_names), "label"])
        table.writerows([*row, label] for row, label in zip(rows[part], labels[part], strict=True))

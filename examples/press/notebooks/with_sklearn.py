"""Is the die worn? A classifier of scikit-learn, from recorded strokes to a package that a server takes.

    python examples/press/notebooks/with_sklearn.py strokes.npz packages

A notebook in plain text: editors show each ``# %%`` as a cell.
"""

# %%
import sys

import numpy as np
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from edge_opcua import training

# %% What a model of this press is fed with: the waveform of a stroke, and tags beside it.
press = training.Capture(
    sample_count=2_000,
    sample_rate_hz=10_000,
    unit="m/s²",
    context=[
        training.Tag("tonnage", "kN", low=400, high=1_250),
        training.Tag("die_temp", "°C", low=15, high=70),
        training.Tag("strokes_per_min", "1/min", low=9, high=66),
    ],
)

# %% Strokes, what a person said of them, and some presses that the model must not see.
strokes = training.load_windows(sys.argv[1], press)
worn = strokes.facts["answer"] == "real"
held_out = strokes.facts["press"] >= 6

# %% What a stroke is made into before a model sees it: declared here, computed by the server in the same way.
prepared = training.fit(
    press,
    [
        {"step": "statistics", "measures": ["crest_factor", "kurtosis"]},
        {"step": "fft_bands", "edges_hz": [0, 100, 200, 400, 800, 1_600, 5_000]},
        {"step": "log"},
        {"step": "context"},
        {"step": "normalise"},  # learns mean and scale; they travel with the model
    ],
    strokes[~held_out],
)

# %% Train as you are used to.
model = LogisticRegression(max_iter=1_000)
model.fit(prepared.features(strokes[~held_out]), worn[~held_out])
right = model.score(prepared.features(strokes[held_out]), worn[held_out])
print(f"right on presses it has never seen: {100 * right:.1f} %")

# %% To ONNX. One input, float32; probabilities as an array and not as a list of maps.
k = len(prepared.names)
graph = to_onnx(
    model,
    np.zeros((1, k), np.float32),
    target_opset=17,
    options={"zipmap": False},
)

# %% The package. It is proven before it is written: the ONNX file answers what scikit-learn answers.
card = training.ModelCard(
    name="press-anomaly",
    version=3,
    description="Is the die worn? Logistic regression of band levels",
    output={"kind": "classes", "probabilities": "probabilities", "labels": ["ok", "worn"]},
    max_days=365,
    proof={"right_on_unseen_presses": round(float(right), 4), "unseen_strokes": int(held_out.sum())},
    provenance={"trained_with": "scikit-learn", "notebook": "with_sklearn.py"},
)
golden = np.flatnonzero(held_out)[::20]
package = training.export(
    sys.argv[2],
    prepared,
    graph,
    card,
    golden=strokes[golden],
    answers=lambda features: {"probabilities": model.predict_proba(features)},
    healthy=strokes[held_out & ~worn],
)
print(f"{package.folder}: {package.samples} golden samples agree")

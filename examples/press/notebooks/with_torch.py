"""Does a stroke look like a healthy one? An autoencoder of PyTorch, from recorded strokes to a package.

    python examples/press/notebooks/with_torch.py strokes.npz packages

It learns from healthy strokes only, so nobody has to wait for a worn die. A notebook in plain text: editors
show each ``# %%`` as a cell.
"""

# %%
import sys

import numpy as np
import numpy.typing as npt
import torch

from edge_opcua import training

torch.manual_seed(7)
torch.set_num_threads(1)

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

# %% Healthy strokes to learn from, healthy ones of other presses for the limit, worn ones to try it on.
strokes = training.load_windows(sys.argv[1], press)
worn = strokes.facts["answer"] == "real"
held_out = strokes.facts["press"] >= 6
learned, unseen = strokes[~worn & ~held_out], strokes[~worn & held_out]

# %% What a stroke is made into; the waveform's spectrum between 0 and 1600 Hz, in 16 bands.
prepared = training.fit(
    press,
    [
        {"step": "detrend"},
        {"step": "fft_bands", "edges_hz": list(range(0, 1_700, 100))},
        {"step": "log"},
        {"step": "context", "tags": ["tonnage", "die_temp"]},
        {"step": "normalise"},
    ],
    learned,
)

# %% Train as you are used to.
k = len(prepared.names)
model = torch.nn.Sequential(torch.nn.Linear(k, 8), torch.nn.Tanh(), torch.nn.Linear(8, k))
optimiser = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-4)
rows = torch.from_numpy(prepared.features(learned))
for _ in range(400):
    optimiser.zero_grad()
    loss = torch.nn.functional.mse_loss(model(rows), rows)
    loss.backward()
    optimiser.step()
model.eval()


def reconstruct(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what the trained model makes of features, shape (n, k)."""
    with torch.no_grad():
        made: npt.NDArray[np.float32] = model(torch.from_numpy(features)).numpy()
    return made


# %% The score is the r.m.s. error; the limit comes from healthy presses that it has never seen.
def scores(windows: training.Windows) -> npt.NDArray[np.float32]:
    """Return the score of each window, shape (n,)."""
    features = prepared.features(windows)
    error: npt.NDArray[np.float32] = np.sqrt(np.mean((features - reconstruct(features)) ** 2, axis=1))
    return error


healthy = scores(unseen)
limit = float(healthy.mean() + 4.5 * healthy.std())
found = float((scores(strokes[worn]) >= limit).mean())
print(f"limit {limit:.3f}; finds {100 * found:.1f} % of the worn strokes")

# %% To ONNX: one input, its first axis open.
program = torch.onnx.export(
    model,
    (torch.zeros(2, k),),
    input_names=["features"],
    output_names=["reconstruction"],
    dynamic_shapes=({0: torch.export.Dim("batch")},),
    dynamo=True,
    verbose=False,
)

# %% The package. It is proven before it is written: the ONNX file answers what PyTorch answers.
card = training.ModelCard(
    name="press-anomaly",
    version=4,
    description="Deviation from healthy strokes; autoencoder of band levels",
    output={"kind": "reconstruction", "reconstruction": "reconstruction"},
    limit=round(limit, 4),
    max_days=365,
    proof={"found_of_worn_strokes": round(found, 4), "learned_strokes": len(learned)},
    provenance={"trained_with": "PyTorch", "notebook": "with_torch.py"},
)
golden = np.flatnonzero(held_out)[::20]
package = training.export(
    sys.argv[2],
    prepared,
    program.model_proto,
    card,
    golden=strokes[golden],
    answers=lambda features: {"reconstruction": reconstruct(features)},
    healthy=unseen,
)
print(f"{package.folder}: {package.samples} golden samples agree")

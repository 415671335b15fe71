"""Trains an autoencoder on the vibration of healthy strokes, and writes its package.

    python examples/compress/press_autoencoder.py data examples/compress/models

Data come from ``strokes.py``. The spectrum of a stroke, 128 bands of 10 Hz, goes through convolutions into 12
numbers and back; what does not come back is unusual.
"""

# %%
import datetime as dt
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edge_opcua import training

EPOCHS = 150
BATCH = 64
BANDS = 128
WIDTH_HZ = 10
NUMBERS = 12
LIMIT_SIGMA = 3.0  # above the mean of healthy presses that the network has never seen
TRAINED = dt.datetime(2026, 11, 22, 6, tzinfo=dt.UTC)

torch.manual_seed(9)
torch.set_num_threads(1)

# %% What a model of this press is fed with, and what a stroke is made into.
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
data = Path(sys.argv[1])
learned, for_limit = (training.load_windows(data / f"press-{name}.npz", press) for name in ("train", "limit"))
prepared = training.fit(
    press,
    [
        {"step": "detrend"},
        {"step": "fft_bands", "edges_hz": list(range(0, (BANDS + 1) * WIDTH_HZ, WIDTH_HZ))},
        {"step": "log"},
        {"step": "normalise"},
    ],
    learned,
)

# %% Wide enough for a workstation, that is: wider than it had to be.
model = nn.Sequential(
    nn.Unflatten(1, (1, BANDS)),
    nn.Conv1d(1, 16, 5, padding=2),
    nn.ReLU(),
    nn.Conv1d(16, 32, 5, stride=2, padding=2),
    nn.ReLU(),
    nn.Conv1d(32, 32, 5, padding=2),
    nn.ReLU(),
    nn.Conv1d(32, 32, 5, stride=2, padding=2),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(32 * BANDS // 4, NUMBERS),
    nn.Linear(NUMBERS, 64),
    nn.ReLU(),
    nn.Linear(64, BANDS),
)
rows = torch.from_numpy(prepared.features(learned))
steps = EPOCHS * -(-len(rows) // BATCH)
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
for _ in range(EPOCHS):
    for some in torch.randperm(len(rows)).split(BATCH):
        optimiser.zero_grad()
        given = rows[some] + 0.1 * torch.randn(len(some), BANDS)
        loss = nn.functional.mse_loss(model(given), rows[some])
        loss.backward()
        optimiser.step()
        plan.step()
model.eval()


def reconstruct(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what the trained model makes of features, shape ``(n, k)``."""
    with torch.no_grad():
        made: npt.NDArray[np.float32] = model(torch.from_numpy(features)).numpy()
    return made


# %% The score is the r.m.s. error.
def scores(windows: training.Windows) -> npt.NDArray[np.float32]:
    """Return the score of each window, shape ``(n,)``."""
    features = prepared.features(windows)
    error: npt.NDArray[np.float32] = np.sqrt(np.mean((features - reconstruct(features)) ** 2, axis=1))
    return error


healthy = scores(for_limit)
limit = round(float(healthy.mean() + LIMIT_SIGMA * healthy.std()), 4)
gate = training.load_windows(data / "press-gate.npz", press)
worn = gate.facts["answer"] == "real"
found, false_alarms = (float((scores(gate[which]) >= limit).mean()) for which in (worn, ~worn))
print(f"limit {limit:g}; finds {100 * found:.1f} % of the worn strokes")
print(f"calls {100 * false_alarms:.2f} % of the healthy ones worn")

# %% To ONNX: one input, its first axis open.
program = torch.onnx.export(
    model,
    (torch.zeros(2, BANDS),),
    input_names=["features"],
    output_names=["reconstruction"],
    dynamic_shapes=({0: torch.export.Dim("batch")},),
    opset_version=18,
    dynamo=True,
    verbose=False,
)

# %% The package. It is proven before it is written: the ONNX file answers what PyTorch answers.
card = training.ModelCard(
    name="press-autoencoder",
    version=1,
    description="Deviation from healthy strokes; autoencoder of 128 bands of 10 Hz",
    output={"kind": "reconstruction", "reconstruction": "reconstruction"},
    limit=limit,
    trained=TRAINED,
    max_days=3_650,
    proof={
        "learned_strokes": len(learned),
        "unseen_strokes": len(gate),
        "found_of_worn_strokes": round(found, 4),
        "false_alarms_of_healthy_strokes": round(false_alarms, 4),
    },
    provenance={"trained_with": "PyTorch", "script": "examples/compress/press_autoencoder.py"},
)
package = training.export(
    sys.argv[2],
    prepared,
    program.model_proto,
    card,
    golden=gate[np.arange(8) * 101],
    answers=lambda features: {"reconstruction": reconstruct(features)},
    healthy=for_limit,
)
print(f"{package.folder}: {package.samples} golden samples agree")

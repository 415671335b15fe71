"""Trains a small convolutional network on the digits and exports it: what the how-to compresses.

    python examples/compress/digits_cnn.py data examples/compress/models/digits-cnn.onnx
    python examples/compress/digits_cnn.py data digits-wide.onnx 2

With a 2 behind, each layer has twice as many channels, far more than ten digits need. Data come from
``digits.py``. The 497 digits are shifted, turned, scaled and made noisy anew in each epoch, so that the
network does not learn them by heart.
"""

# %%
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

EPOCHS = 120
BATCH = 64
LABELS = 10
WIDTH = int(sys.argv[3]) if len(sys.argv) > 3 else 1

torch.manual_seed(9)
torch.set_num_threads(1)


# %% What a user has: convolutions with batch normalisation, and a linear layer behind the mean.
def block(given: int, made: int) -> list[nn.Module]:
    """Return a convolution with what usually follows it."""
    return [nn.Conv2d(given, made, 3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU()]


model = nn.Sequential(
    *block(1, 32 * WIDTH),
    *block(32 * WIDTH, 32 * WIDTH),
    nn.MaxPool2d(2),
    *block(32 * WIDTH, 48 * WIDTH),
    nn.MaxPool2d(2),
    *block(48 * WIDTH, 64 * WIDTH),
    nn.AvgPool2d(4),
    nn.Flatten(),
    nn.Linear(64 * WIDTH, LABELS),
)


# %% Another digit of the same kind: turned up to 10°, scaled up to 10 %, shifted up to 1.5 pixels.
def varied(image: torch.Tensor) -> torch.Tensor:
    """Return images that somebody else might have written, shape ``(n, 1, 16, 16)``."""
    n = len(image)
    angle = (torch.rand(n) - 0.5) * 0.35
    scale, slant = 1.0 + (torch.rand(n) - 0.5) * 0.2, (torch.rand(n) - 0.5) * 0.3
    shift = (torch.rand(n, 2) - 0.5) * 0.375
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [torch.stack([cosine, slant - sine, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1)]
    grid = nn.functional.affine_grid(torch.stack(rows, 1), list(image.shape), align_corners=False)
    moved = nn.functional.grid_sample(image, grid, align_corners=False)
    return moved + 0.03 * torch.randn_like(moved)


# %%
data = Path(sys.argv[1])
with np.load(data / "digits-train.npz") as archive:
    image, labels = torch.from_numpy(archive["image"]), torch.from_numpy(archive["labels"])
steps = EPOCHS * -(-len(labels) // BATCH)
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=6e-3, total_steps=steps)
for _ in range(EPOCHS):
    for some in torch.randperm(len(labels)).split(BATCH):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(varied(image[some])), labels[some])
        loss.backward()
        optimiser.step()
        plan.step()
model.eval()

# %%
with np.load(data / "digits-gate.npz") as archive, torch.no_grad():
    unseen = archive["image"]
    logits = model(torch.from_numpy(unseen)).numpy()
    right = float((logits.argmax(1) == archive["labels"]).mean())
print(f"right on {len(unseen)} digits that it has never seen: {100 * right:.2f} %")

# %% To ONNX: one input, its first axis open.
target = Path(sys.argv[2])
target.parent.mkdir(parents=True, exist_ok=True)
program = torch.onnx.export(
    model,
    (torch.zeros(2, 1, 16, 16),),
    input_names=["image"],
    output_names=["logits"],
    dynamic_shapes=({0: torch.export.Dim("batch")},),
    opset_version=18,
    dynamo=True,
    verbose=False,
)
exported = program.model_proto
# The exporter notes where in this script each node comes from; folders of a machine belong into no model.
for part in (*exported.graph.node, *exported.graph.value_info):
    part.ClearField("metadata_props")
onnx.save(exported, target)
print(f"{target}: {target.stat().st_size} bytes")

# %% What PyTorch answered, so that the exported file can be held against it.
np.savez_compressed(data / f"{target.stem}-reference.npz", image=unseen[:64], logits=logits[:64])

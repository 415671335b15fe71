"""Writes strokes of simulated presses into a file, as ``edge-opcua model export-windows`` does of a real one.

    python examples/press/notebooks/record.py strokes.npz

On a real line nobody simulates: the strokes of some weeks are in the store of windows, and what people said
of the verdicts (``answer``) is what a model learns from.
"""

# %%
import json
import sys

import numpy as np

from edge_opcua.sim.physics import PressPhysics

PRESSES = 10
STROKES = 60  # of each press, from cold to warm
WORN_FROM = 0.35  # what a person calls worn
SPEEDS = (18.0, 12.0, 30.0, 60.0, 10.0, 45.0, 24.0)

# %% Every other press has a new die, the others one that is worn more or less.
samples, context, press, answer = [], [], [], []
for number in range(PRESSES):
    physics = PressPhysics(7_000 + number)
    for count in range(STROKES):
        wear = 0.1 * (count * 0.618 % 1.0) if number % 2 == 0 else WORN_FROM + 0.6 * (count * 0.618 % 1.0)
        index = round(1_500 * count / STROKES)
        stroke = physics.stroke(index, wear=wear, strokes_per_min=SPEEDS[number % len(SPEEDS)])
        samples.append(stroke.waveform)
        context.append((stroke.tonnage, stroke.die_temp, stroke.strokes_per_min))
        press.append(number)
        answer.append("real" if wear >= WORN_FROM else "normal")

# %%
np.savez_compressed(
    sys.argv[1],
    samples=np.array(samples, np.float32),
    context=np.array(context),
    press=np.array(press),
    answer=np.array(answer),
    about=json.dumps(
        {
            "unit": "m/s²",
            "sample_rate_hz": 10_000.0,
            "context": ["press/tonnage", "press/die_temp", "press/strokes_per_min"],
            "context_units": ["kN", "°C", "1/min"],
        }
    ),
)
print(f"{len(samples)} strokes of {PRESSES} presses: {sys.argv[1]}")

"""Writes strokes of simulated presses to train with and to judge with, as a server exports what it kept.

    python examples/compress/strokes.py data

On a real line nobody simulates: ``edge-opcua model export-windows --answered`` writes such a file of what the
line has seen and of what people said about it.
"""

# %%
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edge_opcua.sim.physics import PressPhysics

HEALTHY_TO, WORN_FROM, WORN_TO = 0.10, 0.30, 0.70  # wear that people call healthy, and worn
WARM = 1_500  # strokes after which a press is warm
SPEEDS = (18.0, 12.0, 30.0, 60.0, 10.0, 45.0, 24.0)
ABOUT = {
    "unit": "m/s²",
    "sample_rate_hz": 10_000.0,
    "context": ["press/tonnage", "press/die_temp", "press/strokes_per_min"],
    "context_units": ["kN", "°C", "1/min"],
}


def record(path: Path, presses: Iterable[int], strokes: int, *, worn: bool) -> None:
    """Write so many strokes of each press, from cold to warm.

    Args:
        path: File that is written.
        presses: Numbers of the presses; no two have the same scatter.
        strokes: Of each press.
        worn: Whether every other stroke has a worn die; else all are healthy.
    """
    samples, context, press, answer, wears = [], [], [], [], []
    for number in presses:
        physics = PressPhysics(9_000 + number)
        for count in range(strokes):
            step = count * 0.618 % 1.0
            is_worn = worn and count % 2 == 1
            wear = WORN_FROM + (WORN_TO - WORN_FROM) * step if is_worn else HEALTHY_TO * step
            speed = SPEEDS[number % len(SPEEDS)]
            stroke = physics.stroke(round(WARM * count / strokes), wear=wear, strokes_per_min=speed)
            samples.append(stroke.waveform)
            context.append((stroke.tonnage, stroke.die_temp, stroke.strokes_per_min))
            press.append(number)
            answer.append("real" if is_worn else "normal")
            wears.append(wear)
    np.savez_compressed(
        path,
        samples=np.array(samples, np.float32),
        context=np.array(context),
        press=np.array(press),
        answer=np.array(answer),
        wear=np.array(wears),
        about=json.dumps(ABOUT),
    )
    print(f"{len(samples)} strokes: {path}")


# %% No press is in two files: some are to learn from, healthy or worn, some to set the limit, some to
# calibrate with, and others again to judge with.
folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
record(folder / "press-train.npz", range(28), 60, worn=False)
record(folder / "press-limit.npz", range(100, 114), 30, worn=False)
record(folder / "press-calibration.npz", range(200, 214), 20, worn=True)
record(folder / "press-worn.npz", range(400, 440), 60, worn=True)
record(folder / "press-gate.npz", range(300, 350), 40, worn=True)

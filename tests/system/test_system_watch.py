"""The model of the running whole is watched, beside a safety lane too, and disturbs nobody by it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.plant import EXAMPLE, Plant

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

PIPELINE = "press-anomaly"


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    file = tmp_path / "press.toml"
    text = EXAMPLE.read_text().replace("deadline_ms = 100\n", 'deadline_ms = 100\nlane = "safety"\n', 1)
    assert text != EXAMPLE.read_text()
    for name in ("models", "tags"):
        (tmp_path / name).symlink_to(EXAMPLE.parent / name)
    file.write_text(text)
    async with Plant(tmp_path, config=file, time_factor=12.0) as running:
        yield running


async def _watch(plant: Plant) -> dict[str, Any]:
    rows = {row["pipeline"]: row["watch"] for row in (await plant.status())["pipelines"]}
    return dict(rows[PIPELINE])


async def test_a_safety_lane_is_watched_and_its_reference_samples_are_run_again(plant: Plant) -> None:
    await plant.until(lambda: len(plant.results(0)) >= 30, "thirty strokes", within_s=60)
    watch: dict[str, Any] = {}
    for _ in range(60):
        watch = await _watch(plant)
        if watch.get("reference_ok") is not None and (watch.get("results") or 0) >= 20:
            break
        await plant.clock.sleep(0.5)
    assert watch["reference_ok"] is True, watch
    assert (watch["model_name"], watch["model_version"]) == ("press-anomaly", 1)
    assert watch["alarms"] == 0, watch["alarm"]
    assert 0.0 < watch["score_mean"] < 1.0
    assert watch["input_quality"] == ""
    lane = {row["pipeline"]: row["lane"] for row in (await plant.status())["pipelines"]}[PIPELINE]
    assert (lane["failed"], lane["missed"]) == (0, 0)

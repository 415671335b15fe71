"""The page about steps names every one of them, and what it shows is understood."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from edge_opcua.features.chain import Chain
from edge_opcua.features.flow import Source
from edge_opcua.features.measures import MEASURES
from edge_opcua.features.registry import STEPS
from edge_opcua.features.stroke import Feature

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "steps.md").read_text()


def test_every_step_and_measure_is_on_the_page() -> None:
    assert set(STEPS) == set(re.findall(r"^### (\w+)", PAGE, re.MULTILINE))
    assert set(MEASURES) <= set(re.findall(r"`(\w+)`", PAGE))


def test_the_example_of_the_page_is_a_chain() -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    source = Source((Feature("", "m/s²"),), 2_000, 10_000.0, (Feature("die_temp", "°C"),))
    names = Chain(source, tomllib.loads(example)["steps"]).names
    assert names == ("rms", "kurtosis", "band_0_100_hz", "band_100_400_hz", "band_400_5000_hz", "die_temp")

"""Noise at every stage of a connection: memory stays, a good client sees no gap, nothing fails unforeseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.opcua.fuzz import MEMORY_BYTES, fuzz

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
async def no_debug_mode() -> AsyncIterator[None]:
    """It is most of what a client's round trip takes, and the server is a process of its own."""
    loop = asyncio.get_running_loop()
    loop.set_debug(False)
    yield
    loop.set_debug(True)


async def test_noise_at_every_stage_disturbs_nobody(tmp_path: Path) -> None:
    # The issue: malformed, truncated, oversized and deeply nested messages; longer on demand, see fuzz.py.
    report = await fuzz(tmp_path, seconds=6.0, seed=20261121)
    assert report.faults() == []
    assert report.peak_bytes - report.first_bytes < MEMORY_BYTES
    assert set(report.sent) == {
        "before hello",
        "before the channel",
        "no security",
        "secure channel",
        "session",
        "strange values",
        "tags",
    }
    assert report.answered > 50
    assert report.ended > 20
    assert report.facts["connections"] == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_more_noise_disturbs_nobody_either(tmp_path: Path, seed: int) -> None:
    report = await fuzz(tmp_path, seconds=60.0, seed=seed)
    assert report.faults() == []

"""The plants of the system tests: one for all that leave it as they found it, own ones for the others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.system.plant import Plant


@pytest.fixture(scope="session")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with Plant(tmp_path_factory.mktemp("plant")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_blocking_call_in_the_loop() -> None:
    """Watch nothing here: the server runs in processes of its own, this loop is only its client's."""

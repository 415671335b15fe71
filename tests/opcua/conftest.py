"""The standard's nodes are made once for the folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.opcua.standard_space import kept


@pytest.fixture(scope="session", autouse=True)
def standard_nodes_are_made_once() -> Iterator[None]:
    with kept():
        yield

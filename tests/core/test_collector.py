"""The collector rests while something large is made, and only then."""

from __future__ import annotations

import gc

import pytest

from edge_opcua.core.collector import paused


def _make(*, fails: bool) -> None:
    with paused():
        with paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
        if fails:
            raise KeyError


def test_it_rests_inside_and_works_again_whatever_happens() -> None:
    assert gc.isenabled()
    _make(fails=False)
    assert gc.isenabled()
    with pytest.raises(KeyError):
        _make(fails=True)
    assert gc.isenabled()

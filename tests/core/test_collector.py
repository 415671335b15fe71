"""The collector rests while something large is made, and only then."""

from __future__ import annotations

import gc

import pytest

from edge_opcua.core.collector import paused, settle


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


def test_what_has_settled_is_no_longer_looked_at() -> None:
    try:
        settle()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()

"""Looking at the certificate tells what a client will say, and touches nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_opcua.core.clock import SystemClock
from edge_opcua.security.inspection import own_certificate_state
from edge_opcua.security.pki import key_file, open_pki, own_certificate
from tests.security.certificates import make


def test_before_the_first_start_there_is_none_and_none_is_made(tmp_path: Path) -> None:
    assert own_certificate_state(tmp_path / "pki") is None
    assert not (tmp_path / "pki").exists()


def test_a_fresh_certificate_has_all_names_and_lasts(tmp_path: Path) -> None:
    pki = open_pki(tmp_path, names=["press-edge"], key_bits=2048)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    state = own_certificate_state(tmp_path, names=["press-edge"])
    assert state is not None
    assert (state.problem, state.missing) == ("", ())
    assert "press-edge" in state.names
    assert state.begins_ns < SystemClock().utc_ns() < state.ends_ns
    assert state.ends_ns // 1_000_000_000 == int(pki.certificate.not_valid_after_utc.timestamp())
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_a_name_that_came_later_is_missing(tmp_path: Path) -> None:
    open_pki(tmp_path, key_bits=2048)
    state = own_certificate_state(tmp_path, names=["scada-side.example"])
    assert state is not None
    assert state.missing == ("scada-side.example",)


@pytest.mark.parametrize("damage", ["missing", "damaged", "belongs to another certificate"])
def test_a_key_that_does_not_serve_is_told(tmp_path: Path, damage: str) -> None:
    open_pki(tmp_path, key_bits=2048)
    file = key_file(tmp_path)
    if damage == "missing":
        file.unlink()
    elif damage == "damaged":
        file.write_bytes(b"garbage")
    else:
        file.write_bytes(make("another").key_pem)
    state = own_certificate_state(tmp_path)
    assert state is not None
    assert state.problem == f"its key {file} {'is ' if 'belongs' not in damage else ''}{damage}"
    assert state.names


def test_a_damaged_certificate_is_told_not_raised(tmp_path: Path) -> None:
    file = own_certificate(tmp_path)
    file.parent.mkdir()
    file.write_bytes(b"\x30\x82 not a certificate")
    state = own_certificate_state(tmp_path)
    assert state is not None
    assert state.problem

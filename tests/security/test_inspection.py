"""Looking at the certificate tells what a client will say, and touches nothing."""

from __future__ import annotations

from pathlib import Path

from edge_opcua.core.clock import SystemClock
from edge_opcua.security.inspection import own_certificate_state
from edge_opcua.security.pki import open_pki, own_certificate


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


def test_a_damaged_certificate_is_told_not_raised(tmp_path: Path) -> None:
    file = own_certificate(tmp_path)
    file.parent.mkdir()
    file.write_bytes(b"\x30\x82 not a certificate")
    state = own_certificate_state(tmp_path)
    assert state is not None
    assert state.problem

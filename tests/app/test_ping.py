"""The ping in front of a probe: shown if there is one, never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_opcua.app.command.look import find_ping, ping_ms

ANSWERS = {
    "answers": ('echo "64 bytes from $6: icmp_seq=1 ttl=64 time=0.42 ms"', 0.42),
    "of another system": ('echo "Reply from $6: time<1 ms"', 1.0),
    "gets no answer": ("exit 1", None),
    "says something else": ('echo "ping: permission denied"; exit 2', None),
    "hangs": ("exec sleep 30", None),
}


def program(folder: Path, script: str) -> str:
    ping = folder / "ping"
    ping.write_text(f"#!/bin/sh\n{script}\n")
    ping.chmod(0o755)
    return str(ping)


@pytest.mark.parametrize("case", ANSWERS)
async def test_a_ping_is_a_time_or_nothing(case: str, tmp_path: Path) -> None:
    script, wanted = ANSWERS[case]
    ping = program(tmp_path, script)
    assert await ping_ms(ping, "192.0.2.1", -0.7 if case == "hangs" else 1.0) == wanted


async def test_without_the_program_there_is_no_ping() -> None:
    assert await ping_ms(None, "192.0.2.1", 1.0) is None


def test_the_program_is_looked_for_where_programs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_ping() is None
    ping = program(tmp_path, "")
    assert find_ping() == ping


@pytest.mark.parametrize("host", ["", "-f", "--help"])
async def test_a_host_that_would_be_an_option_is_not_pinged(host: str, tmp_path: Path) -> None:
    ping = program(tmp_path, f"touch {tmp_path}/ran")
    assert await ping_ms(ping, host, 1.0) is None
    assert not (tmp_path / "ran").exists()

"""The tutorial of the first device, typed as it stands: same commands, same answers, fewer than ten."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial" / "first-device.md"
METER = Path(__file__).with_name("unknown_meter.py")
ADDRESS = "192.168.0.20"

# What differs from run to run, and what is put in its place on both sides.
VARIABLE = (
    (re.compile(r"\b\d+(\.\d+)? ms\b"), "# ms"),
    (re.compile(r"\bping # ms   "), ""),  # not every machine has a ping
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d{3}\b"), "HH:MM:SS"),
    (re.compile(r"\b\d+\.\d s\b"), "# s"),
    (re.compile(r"tcp \d+ open"), "tcp # open"),
    (re.compile(r" +$", re.MULTILINE), ""),
)


@dataclass
class Typed:
    """One command of the page and what it answers."""

    command: str
    answer: list[str] = field(default_factory=list)


def commands() -> list[Typed]:
    """Return what the page types: ``$`` begins a command, ``>`` goes on with it."""
    found: list[Typed] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Typed(line[2:]))
            elif line.startswith("> "):
                found[-1].command += f"\n{line[2:]}"
            else:
                found[-1].answer.append(line)
    return found


@contextmanager
def meter() -> Iterator[tuple[int, list[int]]]:
    """Start the meter; yields its port, and afterwards how many writes it saw."""
    writes: list[int] = []
    with subprocess.Popen(
        [sys.executable, str(METER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), writes
        finally:
            process.stdin.close()
            writes.append(int(process.stdout.readline() or -1))


def typed(command: str, folder: Path, port: int) -> tuple[str, int]:
    """Type one command into a shell in a folder; return what is on the screen, and the exit code."""
    here = command.replace(ADDRESS, f"127.0.0.1:{port}")
    bin_dir = folder.parent / "bin"
    bin_dir.mkdir(exist_ok=True)
    program = bin_dir / "edge-opcua"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m edge_opcua.cli "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(folder.parent / "state"),
        "COLUMNS": "100",
    }
    for name in ("EDGE_OPCUA_CONFIG", "STATE_DIRECTORY", "FORCE_COLOR"):
        environment.pop(name, None)
    done = subprocess.run(
        ["bash", "-c", f"{here}\n"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout, done.returncode


def masked(text: str, folder: Path, port: int) -> str:
    text = text.replace(f"127.0.0.1:{port}", ADDRESS).replace("127.0.0.1", ADDRESS)
    text = text.replace(str(folder.parent / "state" / "edge-opcua"), "~/.local/state/edge-opcua")
    for pattern, shown in VARIABLE:
        text = pattern.sub(shown, text)
    return text.strip("\n")


def pattern(expected: str) -> str:
    """Return what an answer of the page stands for: a line ``…`` is any number of lines."""
    return "\n".join(re.escape(part) for part in expected.split("\n")).replace("\n…\n", "\n(?:.*\n)*")


@pytest.mark.timeout(180)
def test_an_unknown_meter_is_read_rightly_in_fewer_than_ten_commands(tmp_path: Path) -> None:
    page = commands()
    assert 5 < len(page) < 10
    folder = tmp_path / "work"
    folder.mkdir()
    with meter() as (port, writes):
        for step in page:
            shown, code = typed(step.command, folder, port)
            expected = masked("\n".join(step.answer), folder, port)
            assert re.fullmatch(pattern(expected), masked(shown, folder, port)), f"$ {step.command}\n{shown}"
            assert code == ("error[" in shown), step.command
    assert writes == [0]
    last = [line.split() for line in page[-1].answer]
    assert ["meter/rms_x", "23.41", "mm/s", "Good"] in [line[:4] for line in last]
    assert ["meter/rms_y", "19.87", "mm/s", "Good"] in [line[:4] for line in last]

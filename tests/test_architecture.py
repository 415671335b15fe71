"""The rooms, their borders and the owners of third-party libraries are what pyproject.toml says they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINT = (
    "import sys; from importlinter.cli import lint_imports; "
    "sys.exit(lint_imports(no_cache=True, no_logo=True))"
)

# What a newcomer might write on the first day, and the contract that has to answer.
BREACHES = {
    "upwards.py in core": ("core/upwards.py", "import edge_opcua.cli", "Imports point down"),
    "a room that meets its neighbour": (
        "records/meets.py",
        "import edge_opcua.drivers",
        "Imports point down",
    ),
    "a module without a room": ("helpers.py", "x = 1", "Imports point down"),
    "a protocol that asks another": (
        "drivers/s7/asks.py",
        "import edge_opcua.drivers.modbus.pdu",
        "Protocols know nothing of each other",
    ),
    "a foreign library": ("core/foreign.py", "import onnxruntime", "onnxruntime belongs to inference"),
    "a clock in pure code": ("features/impure.py", "import time", "Pure modules decide"),
    "a state table that acts": ("drivers/states.py", "import asyncio", "Pure modules decide"),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter in a process of its own: it configures itself globally and imports the package."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", LINT], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(120)
def test_every_import_contract_is_kept() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(120)
@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_found(breach: str, tmp_path: Path) -> None:
    place, text, contract = BREACHES[breach]
    shutil.copytree(
        ROOT / "edge_opcua", tmp_path / "edge_opcua", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    victim = tmp_path / "edge_opcua" / place
    former = victim.read_text() if victim.exists() else ""
    victim.write_text(f"{former}\n{text}\n")

    done = lint(tmp_path)

    assert done.returncode != 0
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert any(line.startswith(contract) for line in broken), done.stdout + done.stderr

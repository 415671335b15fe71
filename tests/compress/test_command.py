"""What ``edge-opcua compress`` does where nobody reads what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.compress.models import conv_net, pictures, saved


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return a command whose steps are done."""
    folder = tmp_path_factory.mktemp("a folder")
    data = pictures(40, 5)
    assert data.truth is not None
    np.savez(folder / "data.npz", x=data.rows, labels=data.truth)
    model = saved(conv_net(), folder)
    options = ["--only", "clean", "--timing", "0.05s", "--work", str(folder / "work")]
    line = ["compress", str(model), "--data", str(folder / "data.npz"), *options]
    found = [sys.executable, "-c", "from edge_opcua.cli import main; raise SystemExit(main())", *line]
    assert subprocess.run(found, check=False, capture_output=True).returncode == 1
    return found


def test_the_answer_is_the_exit_code_even_where_no_output_is_open(command: list[str]) -> None:
    ended = subprocess.run(
        ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_output_that_is_full_is_told_and_one_that_nobody_reads_changes_nothing(command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 3
    assert "M681: the report cannot be printed" in ended.stderr
    unread = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert unread.stdout is not None
    unread.stdout.close()
    assert unread.stderr is not None
    with unread.stderr:
        said = unread.stderr.read()
    assert unread.wait() == 1, said
    assert "Traceback" not in said

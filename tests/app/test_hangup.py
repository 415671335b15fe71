"""What SIGHUP means: read the file again, unless the terminal has gone, or nobody wants to know."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import os, signal, sys, time
if len(sys.argv) > 2:
    os.open(sys.argv[2], os.O_RDWR)  # the leader of a session without one takes it as its terminal
from edge_opcua.app.hangup import has_terminal, is_ignored
had, ignored = has_terminal(), is_ignored()
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
def tell(*_):
    os.write(out, f"{had} {has_terminal()} {ignored}\\n".encode())
    os._exit(0)
signal.signal(signal.SIGHUP, tell)
os.write(out, b"ready\\n")
time.sleep(10)
"""


def started(said: Path, *terminal: str, under: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """Start the program in a session of its own, and wait until it waits for the signal."""
    process = subprocess.Popen(
        [*under, sys.executable, "-c", PROGRAM, str(said), *terminal],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(500):
        if said.exists() and said.read_text().startswith("ready"):
            return process
        time.sleep(0.02)
    raise AssertionError("the program did not start")


def test_a_server_whose_terminal_is_closed_knows_it(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = started(tmp_path / "said", os.ttyname(theirs))
    os.close(theirs)
    os.close(ours)  # the kernel sends SIGHUP
    process.wait(10)
    assert (tmp_path / "said").read_text() == "ready\nTrue False False\n"


def test_a_signal_from_somebody_is_not_the_end_of_the_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = started(tmp_path / "said", os.ttyname(theirs))
    process.send_signal(signal.SIGHUP)
    process.wait(10)
    os.close(theirs)
    os.close(ours)
    assert (tmp_path / "said").read_text() == "ready\nTrue True False\n"


def test_a_service_has_no_terminal_and_one_under_nohup_ignores_the_signal(tmp_path: Path) -> None:
    for under, told in (((), "False False False"), (("nohup",), "False False True")):
        said = tmp_path / f"said{len(under)}"
        process = started(said, under=under)
        process.send_signal(signal.SIGHUP)
        process.wait(10)
        assert said.read_text() == f"ready\n{told}\n"

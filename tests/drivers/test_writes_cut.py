"""A cable that is pulled while something is written: what was given up must not land when it is back."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edge_opcua.drivers.unsent import forget_unsent
from tests.drivers.test_writes_drivers import OLD

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "drivers",
    [("modbus", "s7", "ethernet-ip"), pytest.param(("opcua",), marks=pytest.mark.slow)],  # its server is slow
)
def test_no_write_lands_from_our_own_kernel_when_the_cable_is_back(drivers: tuple[str, ...]) -> None:
    # Without care it does, a second after the link has proved itself, over whatever was written since.
    own_network = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*own_network, "true"], check=False).returncode:
        pytest.skip("this machine lets us have no network of our own (unshare --map-root-user --net)")
    command = [*own_network, sys.executable, "-m", "tests.drivers.cutnetwork", *drivers]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {name: ["BadTimeout", OLD] for name in drivers}


def test_what_has_got_across_closes_as_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        with theirs:
            ours.sendall(b"write")
            assert theirs.recv(5) == b"write"
            assert not forget_unsent(ours)
            ours.close()
            assert theirs.recv(1) == b""  # an end, and no reset


def test_what_has_not_got_across_is_thrown_away_with_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        with theirs:
            ours.setblocking(False)
            sent = 0
            while True:  # until the other side takes no more
                try:
                    sent += ours.send(bytes(65536))
                except BlockingIOError:
                    break
            assert forget_unsent(ours)
            ours.close()
            with pytest.raises(ConnectionResetError):
                read_to_the_end(theirs, sent)


def read_to_the_end(connection: socket.socket, sent: int) -> None:
    """Read until the other side closes; fail if all that it sent comes."""
    got = 0
    while chunk := connection.recv(1 << 20):
        got += len(chunk)
        assert got < sent
    raise AssertionError("it was closed as if everything had been delivered")


def test_a_connection_that_is_gone_has_nothing_to_forget() -> None:
    gone = socket.socket()
    gone.close()
    assert not forget_unsent(gone)
    assert not forget_unsent(None)

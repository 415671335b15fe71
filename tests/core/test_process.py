import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from edge_opcua.core import process as process_module
from edge_opcua.core.bus import Bus
from edge_opcua.core.control import Hub, Reply, Request
from edge_opcua.core.process import EXIT_FAILED, EXIT_FORCED, EXIT_OK, PING, die_with_parent
from edge_opcua.core.values import BAD_INVALID_STATE, GOOD, BlockSpec, Scalar, TagSpec

PEER = Path(__file__).with_name("child_peer.py")
IN_TIME_S = 1.5  # 1 s by contract, the rest for a busy machine to notice


@dataclass
class Started:
    process: subprocess.Popen[str]
    control: socket.socket
    note: Path

    def wait_ready(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if json.loads(line)["event"] == "test.ready":
                return
        raise AssertionError("the child ended before it was ready")

    def end(self) -> tuple[int, float, list[dict[str, Any]]]:
        """Return exit code, seconds until the end, and what it logged."""
        started = time.monotonic()
        _, text = self.process.communicate(timeout=10)
        took_s = time.monotonic() - started
        return self.process.returncode, took_s, [json.loads(line) for line in text.splitlines()]


@contextmanager
def child(tmp_path: Path, do: str, **given: int) -> Iterator[Started]:
    ours, theirs = socket.socketpair()
    bus = Bus.create([BlockSpec("a", (TagSpec("x", Scalar.DOUBLE),), depth=2)])
    config_fd = os.memfd_create("config")
    os.write(config_fd, b'{"version": 1}')
    fds = {"bus": bus.fd, "control": theirs.fileno(), "config": config_fd, **given}
    process = subprocess.Popen(
        [
            sys.executable,
            str(PEER),
            "io",
            *(f"--{name}-fd={fd}" for name, fd in fds.items()),
            f"--state={tmp_path}",
            f"--do={do}",
        ],
        pass_fds=(*bus.pass_fds, theirs.fileno(), config_fd),
        stderr=subprocess.PIPE,
        text=True,
    )
    theirs.close()
    try:
        yield Started(process, ours, tmp_path / "released")
    finally:
        process.kill()
        process.communicate()
        ours.close()
        bus.close()
        os.close(config_fd)


def end_by_sigterm(started: Started) -> None:
    started.process.send_signal(signal.SIGTERM)


def end_by_end_of_file(started: Started) -> None:
    started.control.close()


@pytest.mark.parametrize("end", [end_by_sigterm, end_by_end_of_file])
def test_a_child_releases_its_outputs_and_ends_in_time(tmp_path: Path, end: Any) -> None:
    with child(tmp_path, "release") as started:
        started.wait_ready()
        end(started)
        code, took_s, _ = started.end()
        assert code == EXIT_OK
        assert took_s < IN_TIME_S
        assert started.note.read_text() == "released"


def test_ctrl_c_is_the_supervisors_to_decide(tmp_path: Path) -> None:
    with child(tmp_path, "release") as started:
        started.wait_ready()
        started.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert started.process.poll() is None
        end_by_sigterm(started)
        assert started.end()[0] == EXIT_OK


def test_a_child_that_cannot_release_in_time_is_ended_all_the_same(tmp_path: Path) -> None:
    ways = [
        ("ignore", end_by_sigterm),
        ("too slow", end_by_sigterm),
        ("ignore", end_by_end_of_file),
        ("too slow", end_by_end_of_file),
        # A loop that hangs sees no SIGTERM; then the supervisor, which lives, kills the process.
        ("hang the loop", end_by_end_of_file),
    ]
    with ExitStack() as stack, ThreadPoolExecutor(len(ways)) as threads:
        children = [stack.enter_context(child(tmp_path, do)) for do, _ in ways]
        for started in children:
            started.wait_ready()
        ended = threads.map(ended_by, children, [end for _, end in ways])
        for (do, end), (code, took_s, logs) in zip(ways, ended, strict=True):
            assert code == EXIT_FORCED, (do, end)
            assert 0.7 < took_s < IN_TIME_S, (do, end)
            last = "process.release_incomplete" if do == "too slow" else "process.forced_to_end"
            assert last in [entry["event"] for entry in logs], (do, end)
    assert not (tmp_path / "released").exists()


def ended_by(started: Started, end: Callable[[Started], None]) -> tuple[int, float, list[dict[str, Any]]]:
    end(started)
    return started.end()


def test_a_child_ends_with_its_parent_even_if_somebody_else_holds_the_channel(tmp_path: Path) -> None:
    # The parent of this child dies without closing anything we hold: PDEATHSIG is what ends it.
    ours, theirs = socket.socketpair()
    bus = Bus.create([BlockSpec("a", (TagSpec("x", Scalar.DOUBLE),), depth=2)])
    command = [
        sys.executable,
        str(PEER),
        "io",
        f"--bus-fd={bus.fd}",
        f"--control-fd={theirs.fileno()}",
        f"--config-fd={bus.fd}",
        f"--state={tmp_path}",
        "--do=release",
    ]
    fds = (bus.fd, theirs.fileno())
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess, time\nsubprocess.Popen({command!r}, pass_fds={fds!r})\ntime.sleep(60)",
        ],
        pass_fds=fds,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stderr is not None
        assert json.loads(parent.stderr.readline())["event"] == "test.ready"
        parent.kill()
        started = time.monotonic()
        parent.communicate(timeout=5)  # stderr ends when the grandchild has ended too
        assert time.monotonic() - started < IN_TIME_S
        assert (tmp_path / "released").exists()
    finally:
        parent.kill()
        parent.wait()
        ours.close()
        theirs.close()
        bus.close()


def test_a_failure_is_logged_and_told_by_the_exit_code(tmp_path: Path) -> None:
    with child(tmp_path, "fail") as started:
        code, _, logs = started.end()
        assert code == EXIT_FAILED
        (entry,) = [entry for entry in logs if entry["event"] == "process.failed"]
        assert entry["role"] == "io"
        assert "what a pity" in entry["error"]
        assert "Traceback" in entry["exception"]


def test_a_child_whose_work_is_done_ends_well(tmp_path: Path) -> None:
    with child(tmp_path, "return") as started:
        assert started.end()[0] == EXIT_OK


@pytest.mark.parametrize("name", ["bus", "config"])
def test_a_child_without_its_descriptors_says_so(tmp_path: Path, name: str) -> None:
    with child(tmp_path, "release", **{name: 999}) as started:
        code, _, logs = started.end()
        assert code == EXIT_FAILED
        assert [entry["event"] for entry in logs] == ["process.cannot_start"]


async def test_a_child_answers_over_the_channel_and_stops_when_told(tmp_path: Path) -> None:
    async def nothing(request: Request) -> Reply:
        return Reply()

    hub = Hub(nothing)
    with child(tmp_path, "release") as started:
        started.wait_ready()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(hub.run())
            hub.attach("io", started.control)
            reply = await hub.request("io", "where", {}, timeout_s=5)
            assert reply.body == {
                "pid": started.process.pid,
                "blocks": ["a"],
                "config": '{"version": 1}',
                "role": "io",
            }
            assert (await hub.request("io", "stop", {}, timeout_s=5)).status == GOOD
            while started.process.poll() is None:
                await asyncio.sleep(0.01)
            assert started.note.exists()
            running.cancel()
        assert started.end()[0] == EXIT_OK


async def test_a_child_that_is_not_ready_says_so(tmp_path: Path) -> None:
    async def nothing(request: Request) -> Reply:
        return Reply()

    hub = Hub(nothing)
    with child(tmp_path, "slow start") as started:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(hub.run())
            hub.attach("io", started.control)
            reply = await hub.request("io", "write", {}, timeout_s=5)
            assert reply == Reply(BAD_INVALID_STATE, "io is still starting")
            before = hub.heard("io")
            assert (await hub.request("io", PING, {}, timeout_s=5)).status == GOOD
            assert hub.heard("io") > before
            assert hub.heard("opcua") == 0, "nobody is there"
            running.cancel()
        assert started.end()[0] == EXIT_OK


def test_a_kernel_that_does_not_tell_of_the_parents_death_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_PR_SET_PDEATHSIG", -1)  # EINVAL, as where prctl is filtered
    with capture_logs() as logs:
        die_with_parent()
    assert [entry["event"] for entry in logs] == ["process.no_parent_death_signal"]

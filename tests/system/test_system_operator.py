"""What the operator sees of a bad CSV, a taken port, a full disk; and that the server recovers."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_opcua.core.values import Verdict
from edge_opcua.demo.server import DemoServer
from tests.system.plant import EXAMPLE, Plant

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

DISK_BYTES = 6 * 1024 * 1024


def _edge_opcua(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_opcua.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **environment},
        check=False,
    )


def test_a_wrong_tag_table_stops_the_start_with_file_line_and_remedy(tmp_path: Path) -> None:
    home = tmp_path / "press"
    shutil.copytree(EXAMPLE.parent, home)
    table = home / "tags" / "press.csv"
    lines = table.read_text().splitlines()
    broken = next(i for i, line in enumerate(lines) if line.startswith("die_temp,"))
    lines[broken] = lines[broken].replace("DB10.DBD24:REAL", "DB10.DBD24:RAEL")
    table.write_text("\n".join(lines) + "\n")
    for command in ("check", "run"):
        done = _edge_opcua(
            command, str(home / "press.toml"), *(["--state", str(tmp_path)] * (command == "run"))
        )
        said = done.stdout + done.stderr
        assert done.returncode == 2, said
        assert f"press.csv:{broken + 1}" in said
        assert "RAEL" in said
        assert "1 error" in said


def test_check_prints_what_will_be_polled_written_and_exposed() -> None:
    done = _edge_opcua("check", str(EXAMPLE))
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("reads", "writes", "exposes", "DB20", "SignAndEncrypt", "Press01", "0 errors"):
        assert word in done.stdout


def test_status_without_a_server_says_so_with_its_own_exit_code(tmp_path: Path) -> None:
    done = _edge_opcua("status", "--state", str(tmp_path))
    assert done.returncode == 4
    assert "no server" in done.stderr


async def test_a_second_server_on_the_same_state_directory_is_refused(plant: Plant) -> None:
    worker = asyncio.get_running_loop().run_in_executor(
        None, lambda: _edge_opcua("run", str(EXAMPLE), "--state", str(plant.state_dir))
    )
    done = await worker
    assert done.returncode == 2
    assert "another server" in done.stderr


async def test_a_taken_port_is_named_and_the_server_listens_once_it_is_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        environment = {"OPCUA_LISTEN": f"127.0.0.1:{port}"}
        server = DemoServer(EXAMPLE, tmp_path, environment)
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(server.start(group))
            # A start has its own bound; how fast it comes to its port is a matter of the computer.
            while not any(str(port) in line and "H6" in line for line in server.lines):
                assert not starting.done(), f"nobody said that the port is taken: {list(server.lines)}"
                await asyncio.sleep(0.05)
            squatter.close()
            await starting
            assert f":{port}" in server.endpoint
            await server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB; needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", 0, f"size={DISK_BYTES}".encode()) != 0:
        pytest.skip(f"cannot mount a tmpfs here: {os.strerror(ctypes.get_errno())}")
    yield place
    libc.umount2(str(place).encode(), 2)


async def test_a_full_disk_is_named_judging_goes_on_and_the_journal_catches_up(
    tmp_path: Path, small_disk: Path
) -> None:
    async with Plant(tmp_path, state_dir=small_disk / "state") as plant:
        await plant.until(lambda: plant.results(0, Verdict.OK), "a first stroke")
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as stream:
            try:
                while stream.write(b"x" * 4096):
                    pass
            except OSError:
                pass  # full, as wanted
        mark = plant.mark()
        await plant.until(lambda: len(plant.results(mark, Verdict.OK)) > 6, "strokes judged on a full disk")
        status = await plant.status()
        assert any("disk" in fault["source"] or "disk" in fault["text"] for fault in status["faults"]), status
        await _records(plant, lambda row: (row["spooled"] or 0) > 0, "records waiting for room")
        ballast.unlink()
        row = await _records(plant, lambda row: row["spooled"] == 0, "records written")
        assert row["lost"] == 0
        for _ in range(100):
            if not (await plant.status())["faults"]:
                return
            await plant.clock.sleep(0.1)
        raise AssertionError((await plant.status())["faults"])


async def _records(plant: Plant, wanted, what: str) -> dict[str, object]:  # type: ignore[no-untyped-def]
    for _ in range(120):
        row: dict[str, object] = (await plant.status())["records"]
        if wanted(row):
            return row
        await plant.clock.sleep(0.1)
    raise AssertionError(f"not seen: {what}: {row}")


async def test_watch_follows_the_running_server_line_by_line(plant: Plant) -> None:
    done = await asyncio.get_running_loop().run_in_executor(
        None, lambda: _edge_opcua("watch", "--state", str(plant.state_dir), "--for", "2")
    )
    assert done.returncode == 0, done.stderr
    assert "press/die_temp" in done.stdout
    assert "press-anomaly/verdict  OK" in done.stdout or "press-anomaly/verdict  NOT" in done.stdout
    assert "Good" in done.stdout


async def test_status_tells_links_models_outputs_processes_and_clients(plant: Plant) -> None:
    await plant.until(lambda: plant.results(0, Verdict.OK), "a first stroke")
    done = await asyncio.get_running_loop().run_in_executor(
        None, lambda: _edge_opcua("status", "--state", str(plant.state_dir))
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith("Press01  running ")
    assert plant.server.endpoint in first
    for part in ("press  ONLINE", "vib  ONLINE", "press-anomaly", "verdict  ", "records  ", "clients  1: "):
        assert any(line.startswith(part) for line in rest), done.stdout

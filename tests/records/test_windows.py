"""The store of what the models judged: within its budget, and nobody suffers from its disk."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import Verdict
from edge_opcua.core.worker import Worker
from edge_opcua.records import windows as windows_module
from edge_opcua.records.window import Answer, WindowSource
from edge_opcua.records.windowfile import WindowFile
from edge_opcua.records.windowlook import Wanted, WindowLook
from edge_opcua.records.windows import UNUSABLE, Windows
from edge_opcua.testing import ManualClock
from tests.records.windowrig import SOURCE, window

PEER = Path(__file__).with_name("windows_peer.py")
MB = 1_000_000
P = "press-anomaly"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "windows.sqlite"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_module, "_BATCH_S", 0.005)
    monkeypatch.setattr(windows_module, "_RETRY_S", 0.02)


def results(path: Path, **more: bool) -> list[int]:
    return [found.result_id for found in WindowLook(path).windows(Wanted(P, **more))]


def on_disk(path: Path) -> int:
    return sum(part.stat().st_size for part in path.parent.glob(path.name + "*"))


def write_all(file: WindowFile, numbers: range) -> None:
    for first in numbers[::50]:
        file.write([window(number) for number in range(first, first + 50)])


async def results_aside(path: Path) -> list[int]:
    """The same while an event loop runs, which a reader would block."""
    worker = Worker("look")
    try:
        return await worker.call(results, path, timeout_s=10)
    finally:
        worker.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(windows: Windows) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(windows.run())
        try:
            yield
        finally:
            task.cancel()


def test_a_window_comes_back_as_it_was(path: Path) -> None:
    file = WindowFile(path, 10 * MB)
    given = window(7, verdict=Verdict.NOT_OK, score=float("nan"))
    kept = file.write([given])
    file.close()
    (found,) = WindowLook(path).windows(Wanted(P))
    assert (kept.windows, found.id) == (1, 1)
    for name in (
        "source",
        "result_id",
        "stroke",
        "captured_ns",
        "judged_ns",
        "verdict",
        "model",
        "version",
        "answer",
    ):
        assert getattr(found, name) == getattr(given, name), name
    assert np.isnan(found.score)
    for name in ("samples", "features", "context", "context_status"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name))


def test_what_is_there_already_is_not_there_twice(path: Path) -> None:
    file = WindowFile(path, 10 * MB)
    file.write([window(1), window(2)])
    assert file.write([window(2), window(3)]).windows == 3
    file.close()
    assert results(path) == [1, 2, 3]


def test_the_oldest_go_first_and_the_file_stays_within_its_budget(path: Path) -> None:
    file = WindowFile(path, 8 * MB)
    most = 0
    for first in range(0, 4000, 50):
        kept = file.write([window(number) for number in range(first, first + 50)])
        most = max(most, on_disk(path))
    file.close()
    found = results(path)
    assert most <= 8 * MB
    assert found == list(range(found[0], 4000))
    assert len(found) == kept.windows > 1000  # the room is used


def test_what_somebody_answered_goes_last_but_leaves_room_for_what_is_new(path: Path) -> None:
    file = WindowFile(path, 2 * MB)
    file.write([window(number) for number in range(200)])
    for number in range(0, 200, 2):
        done = file.answer(P, number, Answer.REAL, note="", who="anna", utc_ns=1)
        assert done is not None
        assert (done.former, done.model, done.version) == ("", "press-anomaly", 1)
    for first in range(200, 3000, 50):
        file.write([window(number) for number in range(first, first + 50)])
    assert results(path, answered=True) == list(range(0, 200, 2))
    for first in range(3000, 3600, 50):
        file.write([window(number) for number in range(first, first + 50)])
        for number in range(first, first + 50):
            assert file.answer(P, number, Answer.REAL, note="", who="anna", utc_ns=1) is not None
    kept = file.write([window(3600)])
    file.close()
    answered, every = results(path, answered=True), results(path)
    assert len(answered) == kept.answered
    assert answered == list(range(answered[0], 3600))  # of those too, the oldest went
    assert every[-1] == 3600


def test_another_budget_gives_the_disk_back(path: Path) -> None:
    file = WindowFile(path, 8 * MB)
    for first in range(0, 1500, 50):
        file.write([window(number) for number in range(first, first + 50)])
    assert on_disk(path) > 5 * MB
    file.resize(2 * MB)
    while file.write([]).is_full:
        pass
    for _ in range(3):
        file.write([])
    file.close()
    assert on_disk(path) <= 2 * MB
    assert results(path)[-1] == 1499


def test_the_last_answer_counts_and_the_history_stays(path: Path) -> None:
    file = WindowFile(path, 10 * MB)
    file.write([window(1), window(2)])
    file.answer(P, 1, Answer.REAL, note="", who="anna", utc_ns=10)
    done = file.answer(P, 1, Answer.SENSOR_FAULT, note="cable", who="ben", utc_ns=20)
    assert done is not None
    assert done.former == "real"
    assert file.answer(P, 3, Answer.REAL, note="", who="anna", utc_ns=30) is None
    assert file.answer("another", 1, Answer.REAL, note="", who="anna", utc_ns=30) is None
    file.close()
    look = WindowLook(path)
    found = look.one(P, 1)
    assert found is not None
    assert (found.answer, found.note, found.who, found.answered_ns) == (
        Answer.SENSOR_FAULT,
        "cable",
        "ben",
        20,
    )
    assert look.history(P, 1) == [(Answer.REAL, "", "anna", 10), (Answer.SENSOR_FAULT, "cable", "ben", 20)]
    assert results(path, answered=True) == [1]
    assert look.one(P, 3) is None


def test_windows_are_found_by_pipeline_time_and_number(path: Path) -> None:
    file = WindowFile(path, 10 * MB)
    other = WindowSource("tank", "tank")
    file.write([window(number) for number in range(1, 200)])
    file.write([window(number, source=other) for number in range(300, 310)])
    file.close()
    look = WindowLook(path)
    assert look.pipelines() == [P, "tank"]
    ns = 1_000_000_000
    found = look.find(Wanted(P, begin_ns=10 * ns, end_ns=150 * ns, most=100))
    assert found is not None
    assert (found.count, found.begin_ns, found.end_ns) == (100, 51 * ns, 150 * ns)
    wanted = Wanted(P, begin_ns=10 * ns, end_ns=150 * ns, most=100, with_samples=False)
    each = list(look.windows(wanted))
    assert [one.result_id for one in each] == list(range(51, 151))
    assert not each[0].samples.size
    assert look.find(Wanted("nobody")) is None


def test_who_reads_for_long_holds_nobody_up(path: Path) -> None:
    # A reader in SQLite keeps the log from being emptied as long as its transaction lasts.
    file = WindowFile(path, 2 * MB)
    file.write([window(number) for number in range(300)])
    reading = WindowLook(path).windows(Wanted(P))
    first = next(reading)
    for begin in range(300, 2000, 50):
        file.write([window(number) for number in range(begin, begin + 50)])
    assert on_disk(path) <= 2 * MB
    rest = list(reading)  # of those that are left
    file.close()
    assert first.result_id == 0
    assert len(rest) < 300


def test_a_reader_that_does_not_end_stops_the_windows_not_the_disk(path: Path) -> None:
    file = WindowFile(path, 2 * MB)
    file.write([window(number) for number in range(50)])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as greedy:
        greedy.execute("BEGIN")
        greedy.execute("SELECT COUNT(*) FROM windows").fetchone()
        with pytest.raises(OSError, match="reads the file without an end"):
            write_all(file, range(50, 20_000))
        assert on_disk(path) < 10 * MB
    file.write([window(30_000)])  # it has gone
    file.close()
    assert results(path)[-1] == 30_000


@pytest.mark.usefixtures("quick")
async def test_a_broken_file_is_moved_aside_and_told(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)
    path.with_name(path.name + ".broken").write_bytes(b"that of the last time")
    told: list[tuple[str, str]] = []
    windows = Windows(path, 10, clock=SystemClock(), tell=lambda *fault: told.append(fault))
    with capture_logs() as logs:
        async with running(windows):
            windows.put(window(1))
            await until(lambda: windows.state.kept.windows == 1)
    assert await results_aside(path) == [1]
    assert path.with_name(path.name + ".broken").read_bytes().startswith(b"no database")
    assert [entry["code"] for entry in logs if entry["event"] == "windows.begun_anew"] == ["R703"]
    assert told == []  # it is over before anybody can do anything


def test_a_file_that_breaks_while_it_is_open_is_begun_anew_when_that_shows(path: Path) -> None:
    file = WindowFile(path, 6 * MB)
    for first in range(0, 1500, 50):
        file.write([window(number) for number in range(first, first + 50)])
    with path.open("r+b") as stream:  # what a dying disk leaves
        stream.seek(4096)
        stream.write(random.Random(7).randbytes(path.stat().st_size - 4096))
    for first in range(1500, 9000, 50):
        file.write([window(number) for number in range(first, first + 50)])
        if file.moved_aside:
            break
    assert "is now windows.sqlite.broken" in file.moved_aside
    file.write([window(9001)])
    file.close()
    assert results(path)[-1] == 9001


@pytest.mark.usefixtures("quick")
async def test_a_disk_that_refuses_is_told_once_and_waits_within_bounds(tmp_path: Path) -> None:
    place = tmp_path / "gone"
    told: list[tuple[str, str]] = []
    windows = Windows(place / "windows.sqlite", 1000, clock=SystemClock(), tell=lambda *one: told.append(one))
    async with running(windows):
        for number in range(6000):
            windows.put(window(number, count=10))
        await until(lambda: bool(windows.state.fault))
        await asyncio.sleep(0.1)  # a few more attempts
        assert [code for code, _ in told] == [UNUSABLE]
        state = windows.state
        assert (state.waiting, state.lost) == (5000, 1000)
        with pytest.raises(OSError, match="No such file"):
            await windows.answer(P, 1, Answer.REAL, note="", who="anna")
        place.mkdir()
        await until(lambda: windows.state.kept.windows == 5000)
    assert told[1:] == [(UNUSABLE, "")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MB; needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting needs root; test_a_file_size_limit_is_told stands in")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.usefixtures("quick")
async def test_where_the_disk_gets_full_the_windows_make_room_for_others(small_disk: Path) -> None:
    windows = Windows(small_disk / "windows.sqlite", 10_000, clock=SystemClock())
    ballast = small_disk / "journal.sqlite"
    async with running(windows):
        for number in range(1200):  # more than there is room for
            windows.put(window(number, count=10_000))
            await asyncio.sleep(0.0005)
        await until(lambda: not windows.state.waiting)
        most = windows.state.kept.size_bytes
        assert not windows.state.fault
        assert 200 < windows.state.kept.windows < 1200
        ballast.write_bytes(bytes(600_000))  # what is left free is there for others
        count = 1200
        while windows.state.kept.size_bytes >= most and count < 2400:  # at its next batches it gives way
            for number in range(count, count + 100):
                windows.put(window(number, count=10_000))
                await asyncio.sleep(0.0005)
            count += 100
            await until(lambda: not windows.state.waiting)
        assert not windows.state.fault
        assert windows.state.kept.size_bytes < most
        assert (await results_aside(small_disk / "windows.sqlite"))[-1] == count - 1


@pytest.mark.parametrize("left", [200_000, 1_000_000])
def test_the_file_shrinks_also_where_others_have_taken_nearly_all(small_disk: Path, left: int) -> None:
    file = WindowFile(small_disk / "windows.sqlite", 10_000 * MB)
    for first in range(0, 1200, 10):  # more than there is room for
        file.write([window(number, count=10_000) for number in range(first, first + 10)])
    free = shutil.disk_usage(small_disk).free
    (small_disk / "journal.sqlite").write_bytes(bytes(free - left))
    before = (small_disk / "windows.sqlite").stat().st_size
    for number in range(1200, 1260, 2):
        file.write([window(number, count=10_000), window(number + 1, count=10_000)])
    assert (small_disk / "windows.sqlite").stat().st_size < before - MB
    assert shutil.disk_usage(small_disk).free > left + MB
    file.close()
    assert results(small_disk / "windows.sqlite")[-60:] == list(range(1200, 1260))


def test_a_file_size_limit_is_told(path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = subprocess.run(
        [sys.executable, str(PEER), str(path), "400"],
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
        preexec_fn=limit,
    )
    told = done.stdout.splitlines()
    assert len(told) == 2  # once, and how many wait
    assert told[0].startswith("R702 what the models judge is not kept: ")
    assert int(told[1]) > 0


@pytest.mark.usefixtures("quick")
async def test_what_comes_too_fast_for_the_budget_is_thinned_out_and_the_alarms_stay(path: Path) -> None:
    clock = ManualClock()
    windows = Windows(path, 6, clock=clock)  # 10 kB/s over ten minutes
    with capture_logs() as logs:
        for number in range(1000):  # 100 windows of 4 kB a second
            windows.put(window(number, verdict=Verdict.NOT_OK if number % 100 == 0 else Verdict.OK))
            await clock.advance(0.01)
    state = windows.state
    assert state.waiting + state.thinned == 1000
    assert state.thinned > 900
    assert [entry["event"] for entry in logs] == ["windows.thinned"]
    await windows.flush()
    kept = await results_aside(path)
    assert set(range(0, 1000, 100)) <= set(kept)
    assert kept[-1] > 900  # evenly, not only the first


@pytest.mark.usefixtures("quick")
async def test_a_budget_that_changes_while_it_runs_counts_at_once(path: Path) -> None:
    windows = Windows(path, 1000, clock=SystemClock())
    async with running(windows):
        for number in range(1500):
            windows.put(window(number))
        await until(lambda: windows.state.kept.windows == 1500)
        assert windows.state.kept.size_bytes > 6 * MB
        windows.resize(3)
        await until(lambda: 0 < windows.state.kept.size_bytes < 3 * MB)
        windows.resize(0)
        windows.put(window(2000))
        await until(lambda: not windows.state.waiting)
        windows.resize(1000)
        windows.put(window(2001))
        await until(lambda: windows.state.kept.windows > 0 and not windows.state.waiting)
    kept = await results_aside(path)
    assert kept[-2:] == [1499, 2001]  # what was there stays while nothing is kept


async def test_without_a_budget_nothing_is_kept(path: Path) -> None:
    windows = Windows(path, 0, clock=SystemClock())
    windows.put(window(1))
    assert await windows.flush()
    assert (windows.is_on, windows.state.waiting) == (False, 0)
    assert not path.exists()


def test_a_writer_killed_again_and_again_leaves_a_whole_file(path: Path) -> None:
    for _ in range(4):
        process = subprocess.Popen([sys.executable, str(PEER), str(path), "0"], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
            time.sleep(0.15 + random.random() / 5)
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            process.communicate()
    found = results(path)
    assert found == sorted(set(found))
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(found) > 50
    assert not path.with_name(path.name + ".broken").exists()


def test_what_is_missing_or_no_store_is_said_to_be_so(path: Path) -> None:
    with pytest.raises(OSError, match="is missing"):
        WindowLook(path).pipelines()
    path.write_bytes(b"no database " * 100)
    with pytest.raises(OSError, match="cannot be read"):
        WindowLook(path).pipelines()


def test_a_store_of_a_newer_program_is_left_alone(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(OSError, match="newer program"):
        WindowFile(path, MB).write([window(1)])
    with pytest.raises(OSError, match="newer program"):
        WindowLook(path).pipelines()
    assert SOURCE.text == WindowSource.of_text(SOURCE.text).text

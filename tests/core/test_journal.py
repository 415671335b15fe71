import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from edge_opcua.core import journal as journal_module
from edge_opcua.core import journalfile
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.journal import GAP, Journal, JournalLimits, JournalState, Record
from edge_opcua.testing import ManualClock

PEER = Path(__file__).with_name("journal_peer.py")
FAST = JournalLimits(batch_s=0.005, retry_s=0.02)


@asynccontextmanager
async def running(path: Path, limits: JournalLimits = FAST) -> AsyncIterator[Journal]:
    journal = Journal(path, clock=SystemClock(), limits=limits)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(journal.run())
        try:
            yield journal
        finally:
            task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def rows(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return db.execute("SELECT id, kind, utc_ns, body FROM records ORDER BY id").fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


async def test_records_are_numbered_in_the_order_they_came(path: Path) -> None:
    async with running(path) as journal:
        assert await journal.append_durably("audit", {"what": "ack"}, 5, timeout_s=5) == 1
        journal.append("result", {"score": np.float32(0.5), "parts": np.arange(2)}, 6)
        journal.append("job", {}, 7)
        assert await journal.append_durably("audit", {}, 8, timeout_s=5) == 4
        assert await journal.read("mes") == [
            Record(1, "audit", 5, {"what": "ack"}),
            Record(2, "result", 6, {"score": 0.5, "parts": [0, 1]}),
            Record(3, "job", 7, {}),
            Record(4, "audit", 8, {}),
        ]
        assert journal.state == JournalState(spooled=0, written=4, lost=0, fault="")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with running(path) as journal:
        assert await journal.append_durably("audit", {}, 9, timeout_s=5) == 5


async def test_each_reader_goes_on_where_it_acknowledged(path: Path) -> None:
    async with running(path) as journal:
        for n in range(10):
            journal.append("result" if n % 2 else "audit", {"n": n}, n)
        assert await journal.flush()
        assert [record.id for record in await journal.read("mes", limit=4)] == [1, 2, 3, 4]
        await journal.acknowledge("mes", 3)
        await journal.acknowledge("mes", 2)  # going back is ignored
        await journal.acknowledge("cloud", 9)
        assert [record.id for record in await journal.read("mes", kinds=["result"])] == [4, 6, 8, 10]
        assert [record.id for record in await journal.read("mes", after=8)] == [9, 10]
        assert [record.id for record in await journal.newest(3, ["audit"])] == [9, 7, 5]
    async with running(path) as journal:
        assert [record.id for record in await journal.read("cloud")] == [10]


async def test_marks_are_stored_with_the_records_they_belong_to(path: Path) -> None:
    async with running(path) as journal:
        journal.append("result", {}, 1, marks={"cursor": "1"})
        journal.append("result", {}, 1, marks={"cursor": "2", "other": "x"})
        assert await journal.flush()
        marks = await journal.marks()
    assert {name: marks[name] for name in ("cursor", "other")} == {"cursor": "2", "other": "x"}


async def test_what_waits_is_written_at_the_end(path: Path) -> None:
    async with running(path, JournalLimits(batch_s=60)) as journal:
        journal.append("result", {"n": 1}, 1)
        await asyncio.sleep(0.02)
    assert [row[0] for row in rows(path)] == [1]
    async with running(path) as journal:
        await asyncio.sleep(0)


async def test_old_records_go_once_everybody_has_seen_them(path: Path) -> None:
    limits = JournalLimits(keep_records=10, max_records=30)
    journal = Journal(path, clock=SystemClock(), limits=limits)

    async def add(count: int) -> list[int]:
        for _ in range(count):
            journal.append("result", {}, 1)
        assert await journal.flush()
        return [record.id for record in await journal.read("anybody", after=0)]

    assert await add(15) == list(range(6, 16))  # no reader is known
    await journal.acknowledge("mes", 7)
    assert await add(10) == list(range(8, 26))  # the reader has not seen 8
    with capture_logs() as logs:
        assert await add(30) == list(range(26, 56))  # but the disk is not without end
        await add(1)
    assert [entry["event"] for entry in logs] == ["journal.reader_overrun"]
    await journal.acknowledge("mes", 1000)
    assert await add(1) == list(range(48, 58))
    await journal._end()


def break_by_garbage(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def break_by_truncation(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 // 4096 * 4096 + 100)


def break_a_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


@pytest.mark.parametrize("damage", [break_by_garbage, break_by_truncation, break_a_page])
async def test_a_broken_file_is_moved_aside_with_a_word_and_a_new_one_begun(
    path: Path, damage: Callable[[Path], None]
) -> None:
    async with running(path) as journal:
        for n in range(200):
            journal.append("result", {"n": n, "text": "x" * 100}, n)
        assert await journal.flush()
    damage(path)
    broken = path.read_bytes()
    with capture_logs() as logs:
        async with running(path) as journal:
            number = await journal.append_durably("audit", {"what": "ack"}, 5, timeout_s=5)
            assert number == 2
            note, audit = await journal.read("mes")
            assert not journal.state.fault
    (entry,) = [entry for entry in logs if entry["event"] == "journal.broken"]
    assert Path(entry["moved_to"]).read_bytes() == broken
    assert note.kind == GAP
    assert note.body["moved_to"] == Path(entry["moved_to"]).name
    assert audit.body == {"what": "ack"}


async def test_a_second_broken_file_does_not_replace_the_first(path: Path) -> None:
    for _ in range(3):
        path.write_bytes(b"not a database, whatever its name says" * 100)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        async with running(path) as journal:
            assert await journal.append_durably("audit", {}, 5, timeout_s=5)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert len(list(path.parent.glob("*.broken-*"))) == 3


async def test_a_file_of_a_newer_program_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {journalfile.SCHEMA_VERSION + 1}")
    async with running(path) as journal:
        journal.append("result", {}, 1)
        await until(lambda: "newer program" in journal.state.fault)
        with pytest.raises(OSError, match="newer program"):
            await journal.read("mes")
        assert journal.state.spooled == 1


async def test_a_file_that_was_removed_under_us_is_noticed_and_begun_anew(path: Path) -> None:
    with capture_logs() as logs:
        async with running(path) as journal:
            assert await journal.append_durably("audit", {"n": 1}, 5, timeout_s=5) == 1
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            assert await journal.append_durably("audit", {"n": 2}, 5, timeout_s=5) == 1
    assert "journal.file_replaced" in [entry["event"] for entry in logs]
    assert len(rows(path)) == 1


async def test_while_the_disk_refuses_records_wait_and_go_in_when_it_is_back(tmp_path: Path) -> None:
    place = tmp_path / "state"
    path = place / "journal.sqlite"
    with capture_logs() as logs:
        async with running(path) as journal:  # the directory does not exist yet
            for n in range(50):
                journal.append("result", {"n": n}, n)
            assert await journal.append_durably("audit", {"n": 50}, 1, timeout_s=0.1) == 0
            await until(lambda: bool(journal.state.fault))
            assert journal.state.spooled == 51
            with pytest.raises(OSError, match="No such file"):
                await journal.marks()
            place.mkdir()
            await until(lambda: journal.state.written == 51)
            assert journal.state == JournalState(spooled=0, written=51, lost=0, fault="")
    events = [entry["event"] for entry in logs]
    assert events == ["journal.fault", "journal.recovered"]  # once each
    assert len(rows(path)) == 51


async def test_what_overflows_the_spool_is_counted_ordinary_before_vital_and_the_journal_says_so(
    tmp_path: Path,
) -> None:
    place = tmp_path / "state"
    path = place / "journal.sqlite"
    journal = Journal(path, clock=SystemClock(), limits=JournalLimits(spool_records=10))
    journal.append("result", {"n": -1}, 1)
    assert not await journal.flush()  # this one is a batch under way now
    waiting = asyncio.ensure_future(journal.append_durably("audit", {"n": 0}, 1, timeout_s=5))
    await asyncio.sleep(0)
    for n in range(1, 15):
        journal.append("result", {"n": n}, 1)
    assert journal.state.lost == 5
    assert not waiting.done()
    for n in range(15, 25):
        journal.append("audit", {"n": n}, 1, vital=True)
    assert await waiting == 0  # even vital ones, the oldest first, when there is nothing else
    assert journal.state.lost == 15
    place.mkdir()
    assert await journal.flush()
    assert journal.state == JournalState(spooled=0, written=11, lost=15, fault="")
    written = await journal.read("mes")
    assert [record.body.get("n") for record in written if record.kind != GAP] == [-1, *range(15, 25)]
    (gap,) = (record for record in written if record.kind == GAP)
    assert gap.body == {"source": "journal", "lost": 15, "reason": "the spool was full"}
    journal.append("result", {}, 1)
    assert await journal.flush()
    assert [record.kind for record in await journal.newest(1)] == ["result"]  # said once
    await journal._end()


async def test_the_spool_is_bounded_in_bytes_too(tmp_path: Path) -> None:
    journal = Journal(
        tmp_path / "none" / "j.sqlite", clock=SystemClock(), limits=JournalLimits(spool_bytes=10_000)
    )
    for _ in range(100):
        journal.append("result", {"text": "x" * 1000}, 1)
    assert journal.state.spooled == 9
    assert journal.state.lost == 91


async def test_a_disk_that_hangs_costs_a_thread_and_no_record(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_CALL_S", 0.1)
    release = threading.Event()
    write = journalfile.JournalFile.write
    hung: list[int] = []

    def hangs_once(self: journalfile.JournalFile, *args: Any) -> int:
        if not hung:
            hung.append(1)
            release.wait(10)
        return write(self, *args)

    monkeypatch.setattr(journalfile.JournalFile, "write", hangs_once)
    journal = Journal(path, clock=SystemClock())
    journal.append("result", {"n": 1}, 1)
    assert not await journal.flush()
    assert "did not answer" in journal.state.fault
    assert journal.state.spooled == 1
    monkeypatch.setattr(journal_module, "_CALL_S", 10)
    release.set()  # the write that was given up arrives after all
    await until(path.exists)
    await asyncio.sleep(0.1)
    journal.append("result", {"n": 2}, 2)
    assert await journal.flush()
    assert [record.body["n"] for record in await journal.read("mes")] == [1, 2]  # and not twice
    await journal._end()


async def test_a_commit_that_arrived_although_it_reported_an_error_is_not_repeated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = journalfile.JournalFile.write
    failed: list[int] = []

    def fails_after_the_fact(self: journalfile.JournalFile, *args: Any) -> int:
        number = write(self, *args)
        if not failed:
            failed.append(1)
            raise sqlite3.OperationalError("disk I/O error")
        return number

    monkeypatch.setattr(journalfile.JournalFile, "write", fails_after_the_fact)
    journal = Journal(path, clock=SystemClock())
    waiting = asyncio.ensure_future(journal.append_durably("audit", {"n": 1}, 1, timeout_s=5))
    await asyncio.sleep(0)
    assert not await journal.flush()
    journal.append("result", {"n": 2}, 1)
    assert await journal.flush()
    assert await waiting == 1
    assert [record.body["n"] for record in await journal.read("mes")] == [1, 2]
    await journal._end()


async def test_an_end_on_a_disk_that_hangs_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(journal_module, "_END_S", 0.1)
    monkeypatch.setattr(journalfile.JournalFile, "write", lambda self, *args: release.wait(10))
    journal = Journal(path, clock=SystemClock())
    journal.append("result", {}, 1)
    with capture_logs() as logs:
        await journal._end()
    assert [entry["event"] for entry in logs] == ["journal.end_hangs", "journal.lost_at_end"]
    release.set()


async def test_the_pause_after_a_fault_is_kept(tmp_path: Path) -> None:
    clock = ManualClock()
    journal = Journal(tmp_path / "none" / "j.sqlite", clock=clock, limits=JournalLimits(batch_s=1, retry_s=5))
    task = asyncio.ensure_future(journal.run())
    journal.append("result", {}, 1)
    await clock.advance(1.5)
    await until(lambda: bool(journal.state.fault))
    (tmp_path / "none").mkdir()
    await clock.advance(4.0)
    await asyncio.sleep(0.05)
    assert journal.state.written == 0
    await clock.advance(2.0)
    await until(lambda: journal.state.written == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from(["result", "audit"]), st.integers(1, 6)),
        st.tuples(st.just("flush"), st.none(), st.none()),
        st.tuples(st.just("restart"), st.none(), st.none()),
        st.tuples(st.just("outage"), st.none(), st.none()),
        st.tuples(st.just("acknowledge"), st.sampled_from(["a", "b"]), st.integers(0, 30)),
    ),
    max_size=25,
)


@settings(max_examples=25)
@given(_steps)
def test_whatever_happens_each_record_is_there_once_and_in_order(steps: list[tuple[str, Any, Any]]) -> None:
    async def play(place: Path) -> None:
        path = place / "journal.sqlite"
        journal = Journal(path, clock=SystemClock())
        expected: list[tuple[str, int]] = []
        acknowledged = {"a": 0, "b": 0}
        for step, name, number in steps:
            if step == "append":
                for _ in range(number):
                    journal.append(name, {"n": len(expected)}, 1)
                    expected.append((name, len(expected)))
            elif step == "outage":
                await journal._call(journal._file.close)
                place.rename(place.with_name("away"))
                await journal.flush()
                place.with_name("away").rename(place)
            elif step == "acknowledge":
                await journal.acknowledge(name, number)
                acknowledged[name] = max(acknowledged[name], number)
            else:
                assert await journal.flush()
                if step == "restart":
                    await journal._end()
                    journal = Journal(path, clock=SystemClock())
        assert await journal.flush()
        records = await journal.read("c")
        assert [record.id for record in records] == list(range(1, len(expected) + 1))
        assert [(record.kind, record.body["n"]) for record in records] == expected
        for reader, last in acknowledged.items():
            assert [record.id for record in await journal.read(reader)] == [
                record.id for record in records if record.id > last
            ]
        assert journal.state.lost == 0
        await journal._end()

    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "state"
        place.mkdir()
        asyncio.run(play(place))


def test_a_writer_killed_in_mid_batch_loses_nothing_it_reported_and_no_half_batch_stays(path: Path) -> None:
    reported = 0
    for _ in range(8):
        command = [sys.executable, str(PEER), str(path), "write"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = int(process.stdout.readline())
            time.sleep(random.random() / 10)
            process.send_signal(signal.SIGKILL)
            whole_lines = process.stdout.read().split("\n")[:-1]
        reported += max(first, *map(int, whole_lines), 0)
        found = rows(path)
        assert len(found) >= reported
        assert [row[0] for row in found] == list(range(1, len(found) + 1))
        assert len(found) % 10 == 0  # whole batches only
        reported = len(found)
    with closing(sqlite3.connect(path)) as db:
        (place,) = db.execute("SELECT value FROM marks WHERE name = 'place'").fetchone()
    assert int(place) == rows(path)[-1][2]  # the mark moved together with its records


def test_a_file_size_limit_is_a_full_disk(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PEER), str(path), "limit"],
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    fault, counts = done.stdout.splitlines()
    assert fault
    appended, written, lost, after = counts.split()
    assert int(written) + int(lost) == int(appended)
    assert after == "''"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB; needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting needs root; test_a_file_size_limit_is_a_full_disk stands in")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


async def test_a_full_disk_is_said_survived_and_recovered_from(small_disk: Path) -> None:
    path = small_disk / "journal.sqlite"
    ballast = small_disk / "ballast"
    with capture_logs() as logs:
        async with running(path, JournalLimits(batch_s=0.005, retry_s=0.02, spool_records=200)) as journal:
            assert await journal.append_durably("audit", {"n": 0}, 1, timeout_s=5) == 1
            with contextlib.suppress(OSError), ballast.open("wb") as file:
                while True:
                    file.write(b"x" * 4096)
                    file.flush()
            appended = 1
            while journal.state.fault != "the disk is full":
                journal.append("result", {"n": appended, "text": "x" * 500}, 1)
                appended += 1
                await asyncio.sleep(0.001)
            for _ in range(500):
                journal.append("result", {"n": appended, "text": "x" * 100}, 1)
                appended += 1
            state = journal.state
            assert state.spooled + state.written + state.lost == appended
            assert state.lost > 0
            assert [record.id for record in await journal.read("mes", limit=1)] == [1]  # reading goes on
            ballast.unlink()
            await until(lambda: not journal.state.fault and not journal.state.spooled)
            assert journal.state.written + journal.state.lost == appended
    assert [entry["event"] for entry in logs] == ["journal.fault", "journal.recovered"]
    found = rows(path)
    assert sum(row[1] == GAP for row in found) == 1
    assert len(found) == appended - state.lost + 1

import asyncio
import contextvars
import threading
import time

import pytest
from structlog.testing import capture_logs

from edge_opcua.core import worker as worker_module
from edge_opcua.core.worker import Worker


async def test_calls_run_one_after_the_other_in_one_thread_of_their_own() -> None:
    worker = Worker("device")
    order: list[tuple[int, int]] = []

    def note(n: int) -> int:
        order.append((n, threading.get_ident()))
        return n * n

    async with asyncio.TaskGroup() as tasks:
        results = [tasks.create_task(worker.call(note, n, timeout_s=5)) for n in range(20)]
    assert [task.result() for task in results] == [n * n for n in range(20)]
    assert [n for n, _ in order] == list(range(20))
    assert {thread for _, thread in order} != {threading.get_ident()}
    assert len({thread for _, thread in order}) == 1
    worker.close()


async def test_what_the_function_raises_reaches_the_caller_whatever_it_is() -> None:
    worker = Worker("device")

    def fails(exc: BaseException) -> None:
        raise exc

    for exc in (OSError("gone"), SystemExit(3)):
        with pytest.raises(type(exc)):
            await worker.call(fails, exc, timeout_s=5)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await worker.call(fails, StopIteration(), timeout_s=5)
    assert await worker.call(int, "7", timeout_s=5) == 7
    worker.close()


async def test_a_timeout_raised_by_the_function_abandons_nothing() -> None:
    # socket.timeout is TimeoutError: a device that does not answer is not a thread that hangs.
    worker = Worker("device")

    def late() -> None:
        raise TimeoutError("no answer")

    with pytest.raises(TimeoutError, match="no answer"):
        await worker.call(late, timeout_s=5)
    assert worker.abandoned == 0
    worker.close()


async def test_a_thread_that_hangs_is_abandoned_and_replaced() -> None:
    worker = Worker("device")
    release = threading.Event()
    with capture_logs() as logs:
        with pytest.raises(TimeoutError):
            await worker.call(release.wait, 30, timeout_s=0.05)
        started = time.perf_counter()
        assert await worker.call(int, "7", timeout_s=5) == 7
    assert time.perf_counter() - started < 2
    assert worker.abandoned == 1
    assert [entry["event"] for entry in logs] == ["worker.abandoned"]
    release.set()
    worker.close()


async def test_threads_that_never_come_back_are_bounded() -> None:
    worker = Worker("device")
    release = threading.Event()
    for _ in range(worker_module.MAX_ABANDONED):
        with pytest.raises(TimeoutError):
            await worker.call(release.wait, 30, timeout_s=0.01)
    with pytest.raises(TimeoutError, match="never came back"):
        await worker.call(int, "7", timeout_s=5)
    release.set()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await worker.call(int, "7", timeout_s=5) == 7
                break
            except TimeoutError:
                await asyncio.sleep(0.01)
    worker.close()


async def test_a_caller_that_times_out_while_it_waits_leaves_the_running_call_alone() -> None:
    worker = Worker("device")
    release = threading.Event()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(worker.call(release.wait, 30, timeout_s=10))
        await asyncio.sleep(0.02)
        with pytest.raises(TimeoutError):
            await worker.call(int, "7", timeout_s=0.05)
        assert worker.abandoned == 0
        release.set()
        assert await first
    worker.close()


async def test_cancellation_passes_at_once_and_the_next_call_waits_for_the_thread() -> None:
    worker = Worker("device")
    release = threading.Event()
    ended: list[str] = []

    def slow() -> None:
        release.wait(30)
        ended.append("slow")

    task = asyncio.ensure_future(worker.call(slow, timeout_s=10))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    following = asyncio.ensure_future(worker.call(ended.append, "next", timeout_s=10))
    await asyncio.sleep(0.05)
    assert ended == []
    release.set()
    await following
    assert ended == ["slow", "next"]
    assert worker.abandoned == 0
    worker.close()


async def test_a_call_left_behind_by_its_caller_is_abandoned_at_its_own_deadline() -> None:
    worker = Worker("device")
    release = threading.Event()
    task = asyncio.ensure_future(worker.call(release.wait, 30, timeout_s=0.2))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError):  # before that deadline: the thread may still come back
        await worker.call(int, "7", timeout_s=0.02)
    assert worker.abandoned == 0
    with pytest.raises(TimeoutError):
        await worker.call(int, "7", timeout_s=0.3)
    assert worker.abandoned == 1
    assert await worker.call(int, "7", timeout_s=5) == 7
    release.set()
    worker.close()


async def test_closing_while_a_call_hangs_still_lets_the_next_one_through() -> None:
    worker = Worker("device")
    release = threading.Event()
    task = asyncio.ensure_future(worker.call(release.wait, 30, timeout_s=0.1))
    await asyncio.sleep(0.02)
    worker.close()
    with pytest.raises(TimeoutError):
        await task
    assert await worker.call(int, "7", timeout_s=5) == 7
    release.set()
    worker.close()
    worker.close()


async def test_a_result_that_came_while_the_loop_was_busy_gives_up_no_thread() -> None:
    worker = Worker("device")
    asking = asyncio.ensure_future(worker.call(int, "7", timeout_s=0.02))
    await asyncio.sleep(0)
    busy_until = time.monotonic() + 0.1
    while time.monotonic() < busy_until:  # the thread is done long before the loop hears of it
        pass
    with pytest.raises(TimeoutError):
        await asking
    assert worker.abandoned == 0
    assert await worker.call(int, "8", timeout_s=5) == 8
    worker.close()


async def test_the_callers_context_goes_along_for_the_log() -> None:
    worker = Worker("device")
    device = contextvars.ContextVar("device", default="")
    device.set("press")
    assert await worker.call(device.get, timeout_s=5) == "press"
    worker.close()


def test_a_result_that_comes_after_the_loop_is_gone_is_dropped() -> None:
    release = threading.Event()
    threads: list[threading.Thread] = []

    def slow() -> None:
        release.wait(30)

    async def ask() -> None:
        worker = Worker("device")
        with pytest.raises(TimeoutError):
            await worker.call(slow, timeout_s=0.02)
        threads.append(worker._lost[0].thread)

    with capture_logs() as logs:
        asyncio.run(ask())
        release.set()
        threads[0].join(5)
    assert "worker.result_unwanted" in [entry["event"] for entry in logs]

"""The watch over runs: what takes too long is cancelled, what hangs is told once, the rest is left alone."""

from __future__ import annotations

import threading

import pytest

from edge_opcua.inference.overrun import (
    GRACE_NS,
    SHORTEST_NS,
    TIMES_EXPECTED,
    Hung,
    Run,
    ThreadUse,
    Watch,
    thread_use,
)
from edge_opcua.testing import ManualClock

COST_NS = 1_000_000


class Told:
    """Counts how often it was told to end."""

    def __init__(self) -> None:
        self.times = 0

    def cancel(self) -> None:
        self.times += 1


class Watched:
    """A watch whose looks a test makes itself, over one worker."""

    def __init__(self, cost_ns: int = COST_NS) -> None:
        self.clock = ManualClock()
        self.hung: list[Hung] = []
        self.binding = Told()
        self.use: ThreadUse | None = None
        self.watch = Watch(
            self.clock, 1, cost_ns=lambda *_: cost_ns, on_hung=self.hung.append, use=lambda _: self.use
        )

    def begin(self, *, until_ns: int | None = None) -> Run:
        now_ns = self.clock.monotonic_ns()
        run = Run("m/1", 4, now_ns, self.binding, None if until_ns is None else now_ns + until_ns)
        self.watch.current[0] = run
        return run

    def after(self, delay_ns: int) -> int:
        self.clock.step(delay_ns / 1e9)
        self.watch.look()
        return self.binding.times


def test_a_run_is_not_cancelled_while_it_may_last() -> None:
    watched = Watched()
    run = watched.begin()
    assert watched.after(SHORTEST_NS) == 0
    assert not run.overran
    assert watched.after(1_000) == 1
    assert run.overran


def test_a_model_that_is_slow_by_nature_may_take_longer() -> None:
    watched = Watched(cost_ns=100_000_000)
    watched.begin()
    assert watched.after(TIMES_EXPECTED * 100_000_000) == 0
    assert watched.after(1_000) == 1


def test_a_remote_run_ends_with_its_deadline() -> None:
    watched = Watched()
    watched.begin(until_ns=40_000_000)
    assert watched.after(40_000_000) == 0
    assert watched.after(1_000) == 1


def test_a_run_that_does_not_end_is_cancelled_at_every_look_and_told_of_once() -> None:
    # The first word may come in the moment before the runtime listens, and be lost.
    watched = Watched()
    watched.begin()
    assert watched.after(SHORTEST_NS + 1_000) == 1
    assert watched.after(GRACE_NS) == 2
    assert watched.hung == []
    for _ in range(3):
        watched.after(1_000_000)
    (hung,) = watched.hung
    assert (hung.model, hung.batch, hung.code) == ("m/1", 4, "M542")
    assert hung.took_ns >= SHORTEST_NS + GRACE_NS
    assert "m/1 has not answered for 1.3 s" in str(hung)


def test_runs_that_end_in_time_are_left_alone_for_ever() -> None:
    watched = Watched()
    for _ in range(50):
        watched.begin()
        assert watched.after(SHORTEST_NS // 2) == 0
    watched.watch.current[0] = None
    assert watched.after(10 * GRACE_NS) == 0
    assert watched.hung == []


def test_what_is_cancelled_for_others_is_told_again_until_it_ends() -> None:
    # The first word may come in the moment before the run begins, and be lost.
    watched = Watched()
    run = watched.begin()
    run.unwanted = True
    assert watched.after(1_000) == 1
    assert watched.after(1_000) == 2
    assert run.was_preempted
    watched.after(SHORTEST_NS)
    assert not run.was_preempted  # by now it is the run itself that is too slow


@pytest.mark.parametrize("started", [False, True])
def test_a_watch_can_be_closed(started: bool) -> None:
    watched = Watched()
    if started:
        watched.watch.start()
        watched.watch.start()
    watched.watch.close()
    watched.watch.close()


TICK_NS = 100_000_000


def looks(watched: Watched, seconds: float, *, could_run: bool, share: float) -> None:
    """Let time pass in which the thread of the run computes for so much of it."""
    before_ns = watched.use.cpu_ns if watched.use is not None else 0
    for number in range(1, round(seconds * 10) + 1):
        watched.use = ThreadUse(could_run, before_ns + round(number * share * TICK_NS))
        watched.after(TICK_NS)


def test_waiting_for_a_processor_is_no_fault_of_a_model() -> None:
    # Nice 19 beside busy cores: a run of 60 ms takes 3 s, and cancelling it takes just as long.
    watched = Watched()
    run = watched.begin()
    looks(watched, 3.0, could_run=True, share=0.02)
    assert not run.overran
    looks(watched, 12.0, could_run=True, share=0.02)
    assert run.overran  # it has computed for 300 ms by now
    looks(watched, 40.0, could_run=True, share=0.02)
    assert watched.hung == []
    looks(watched, 20.0, could_run=True, share=0.02)
    assert len(watched.hung) == 1


def test_a_run_that_computes_all_the_time_is_not_excused() -> None:
    watched = Watched()
    watched.begin()
    looks(watched, 0.4, could_run=True, share=1.0)
    assert watched.binding.times >= 1
    looks(watched, 1.2, could_run=True, share=1.0)
    assert len(watched.hung) == 1


def test_a_run_that_waits_for_something_else_is_not_excused() -> None:
    watched = Watched()
    watched.begin()
    looks(watched, 0.4, could_run=False, share=0.0)
    assert watched.binding.times >= 1


def test_what_the_thread_computed_before_does_not_count_for_a_run() -> None:
    watched = Watched()
    watched.use = ThreadUse(could_run=True, cpu_ns=10**12)
    watched.begin()
    assert watched.after(TICK_NS) == 0
    watched.begin()
    watched.use = ThreadUse(could_run=True, cpu_ns=10**12 + SHORTEST_NS)
    assert watched.after(TICK_NS) == 0


def test_the_kernel_tells_who_computes_and_who_waits() -> None:
    go, over = threading.Event(), threading.Event()
    found: list[int] = []

    def work() -> None:
        found.append(threading.get_native_id())
        go.wait(10.0)
        while not over.is_set():
            sum(range(1_000))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        pause = threading.Event()
        for _ in range(1_000):
            idle = thread_use(found[0]) if found else None
            if idle is not None and not idle.could_run:
                break
            pause.wait(0.005)
        assert idle is not None
        assert not idle.could_run
        go.set()
        for _ in range(1_000):
            busy = thread_use(found[0])
            if busy is not None and busy.could_run and busy.cpu_ns > idle.cpu_ns:
                break
            pause.wait(0.005)
        assert busy is not None
        assert busy.cpu_ns > idle.cpu_ns
    finally:
        go.set()
        over.set()
        thread.join()
    assert thread_use(2**22 + 1) is None

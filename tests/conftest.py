"""What every test stands on: one event loop in debug mode in which nothing of ours may block."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import linecache
import signal
import sys
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

import hypothesis
import pytest
from blockbuster import blockbuster_ctx

from tests import secondprocess

# A property is about what holds, not about how long this computer takes for one example.
hypothesis.settings.register_profile("edge", deadline=None)
hypothesis.settings.load_profile("edge")

NEVER = 1_000_000_000


def pytest_configure(config: pytest.Config) -> None:
    _give_children_their_signals()
    gc.disable()  # until all is collected: nothing of it is garbage, and looking for some takes a third of it
    secondprocess.register(config)
    _make_debug_mode_cheap()


def _give_children_their_signals() -> None:
    """Let programs that tests start know hang-up and Ctrl+C, also where this run was started to ignore them.

    That is inherited: by ``nohup``, or behind ``&`` in a script. What has a handler here is as usual there.
    """
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def _make_debug_mode_cheap() -> None:
    """Record no more than somebody will read: it cost a sixth of the suite.

    Each future, task and callback keeps the stack of its maker. Below the event loop that is pytest's own,
    the same forty frames each time; and nobody need ask the disk for each whether its file has changed.
    """
    traceback.walk_stack = _down_to_the_loop
    linecache.checkcache = _files_stay_as_they_are


_THE_LOOP = asyncio.BaseEventLoop.run_forever.__code__


def _down_to_the_loop(f: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    frame: FrameType | None = f or sys._getframe(1)
    while frame is not None:
        yield frame, frame.f_lineno
        frame = None if frame.f_code is _THE_LOOP else frame.f_back


def _files_stay_as_they_are(filename: str | None = None) -> None:
    pass


def pytest_collection_finish() -> None:
    """Collect no garbage in the middle of a test: going through a server's nodes takes up to a second.

    What is there by now stays for the whole run: modules, and the tests themselves.
    """
    gc.enable()
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, NEVER)


@pytest.fixture(scope="module", autouse=True)
def garbage_goes_between_modules() -> Iterator[None]:
    yield
    gc.collect()
    gc.freeze()  # what is left then is modules and caches: looking at them after each module took minutes


_LIBM = ctypes.CDLL("libm.so.6")
_FE_DFL_ENV = ctypes.c_void_p(-1)  # fenv.h of glibc on x86-64 and aarch64


@pytest.fixture(autouse=True)
def denormals_are_numbers() -> None:
    """Undo what a model leaves behind in its thread.

    ONNX Runtime's ``set_denormal_as_zero`` switches the processor to flush-to-zero, which suits a lane's own
    process and nobody else: hypothesis rightly refuses to work on such floats.
    """
    _LIBM.fesetenv(_FE_DFL_ENV)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    # Debug mode names the coroutine that was never awaited and refuses calls from a foreign thread. It costs
    # about 0.3 ms per round trip (each future records its stack), so nothing here may assert on speed.
    return "asyncio", {"debug": True}


@pytest.fixture(autouse=True)
def no_blocking_call_in_the_loop() -> Iterator[None]:
    """Fail a test in which code of this package blocks the event loop it runs on.

    Only calls made *through* edge_opcua count: what a test itself reads from disk, or what a library does
    on its own, is not this project's business. ``threading.Lock`` is left out: structlog, logging and numpy
    take short locks everywhere, and a lock that hurts is found by the test's own timeout.
    """
    with blockbuster_ctx(scanned_modules=["edge_opcua"]) as guard:
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            guard.functions[name].deactivate()
        yield

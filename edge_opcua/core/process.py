"""What every child process does first and last: take over its descriptors, and end for certain and in time.

A child ends when the supervisor says so (``stop`` on the control channel), on SIGTERM, or when the control
channel is at its end because the supervisor died. Each way sets ``Child.stopping``; from then on the child
has :data:`RELEASE_S` to release its outputs, is cancelled after that, and a thread ends the process
:data:`EXIT_S` after the beginning even if the event loop hangs.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import mmap
import os
import select
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.control import SUPERVISOR, Handler, Peer, Reply, Request
from edge_opcua.core.logs import LineSink, configure_logging
from edge_opcua.core.supervise import describe, foreseen
from edge_opcua.core.values import BAD_INVALID_STATE
from edge_opcua.errors import BusError

RELEASE_S: Final = 0.8
EXIT_S: Final = 1.0

PING: Final = "ping"  # answered by every child whose event loop turns
# The three steps of a change while it runs: take it over, go back, and let go of what was before.
CHANGES: Final = ("change", "revert", "settle")

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_FORCED: Final = 70  # sysexits.h EX_SOFTWARE: outputs may not have been released
EXIT_HUNG: Final = 75  # EX_TEMPFAIL: a model did not end its run, which only the end of the process ends

_LAST_WORDS_S: Final = 0.05
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)

_log = structlog.get_logger(__name__)


async def _not_ready(request: Request) -> Reply:
    return Reply(BAD_INVALID_STATE, f"{request.to} is still starting")


async def _unchangeable(request: Request) -> Reply:
    return Reply(BAD_INVALID_STATE, f"{request.to} cannot be changed now")


@dataclass(slots=True)
class Child:
    """What a child process is given.

    Attributes:
        role: Its name on the control channel, e.g. ``io`` or ``lane-press-anomaly``.
        bus: The tag bus.
        config: The configuration as the supervisor checked it, read where the supervisor wrote it.
        control: Its end of the control channel.
        clock: Clock of the machine.
        state_dir: State directory of the server.
        arguments: What else the supervisor put on the command line.
        stopping: Set when the process shall release its outputs and return.
        handle: Answers requests of others; to be replaced as soon as the child can.
        change: Answers :data:`CHANGES`; to be replaced as soon as the child can.
        descriptors: Where descriptors of new memory come in, a socket of whole packets; None: nowhere.
        starting: Whether it makes what it needs, which may hold its event loop for long; pings tell.
    """

    role: str
    bus: Bus
    config: memoryview
    control: Peer
    clock: Clock
    state_dir: Path
    arguments: tuple[str, ...] = ()
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    handle: Handler = _not_ready
    change: Handler = _unchangeable
    descriptors: socket.socket | None = None
    starting: bool = False


def run_child(main: Callable[[Child], Awaitable[None]], argv: Sequence[str] | None = None) -> int:
    """Run a child process to its end and return its exit code.

    Args:
        main: Works until ``child.stopping`` is set, then releases its outputs and returns.
        argv: ``ROLE --bus-fd N[,N …] --control-fd N --config-fd N [--descriptors-fd N] [--state DIR]
            [more …]``; by default the process's own.

    Returns:
        0 after an orderly end, 1 if ``main`` failed. 70 is the code of a process that had to be forced.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal tells the whole group; the supervisor decides
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
    given, more = _parser().parse_known_args(argv)
    sink = configure_logging(role=given.role)
    with socket.socket(fileno=given.control_fd) as control:
        watchdog = _Watchdog(control, sink)
        try:
            return asyncio.run(_run(main, given, tuple(more), control, watchdog))
        finally:
            watchdog.close()
            sink.drain()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("role")
    parser.add_argument("--bus-fd", type=lambda text: tuple(map(int, text.split(","))), required=True)
    for name in ("--control-fd", "--config-fd"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--descriptors-fd", type=int)
    parser.add_argument("--state", type=Path, default=Path())
    return parser


async def _run(
    main: Callable[[Child], Awaitable[None]],
    given: argparse.Namespace,
    more: tuple[str, ...],
    control: socket.socket,
    watchdog: _Watchdog,
) -> int:
    try:
        bus = Bus.attach(*given.bus_fd)
        config = mapped(given.config_fd)
    except (BusError, OSError, ValueError) as exc:  # ValueError: it is empty
        _log.error("process.cannot_start", error=describe(exc))
        return EXIT_FAILED
    stopping = asyncio.Event()

    async def handle(request: Request) -> Reply:
        if request.kind == PING:
            return Reply(body={"starting": child.starting})
        if request.kind in CHANGES:
            return await child.change(request)
        if request.kind != "stop":
            return await child.handle(request)
        stopping.set()
        return Reply()

    child = Child(
        role=given.role,
        bus=bus,
        config=config,
        control=Peer(control, handle, SUPERVISOR),
        clock=SystemClock(),
        state_dir=given.state,
        arguments=more,
        stopping=stopping,
        descriptors=_descriptors(given.descriptors_fd),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    try:
        async with asyncio.TaskGroup() as tasks:
            channel = tasks.create_task(_until_end_of_file(child), name="control")
            ender = tasks.create_task(_end_in_time(child, watchdog, asyncio.current_task()), name="end")
            try:
                await main(child)
            finally:
                ender.cancel()
                channel.cancel()
    except asyncio.CancelledError:
        _log.error("process.release_incomplete", after_s=RELEASE_S)
        return EXIT_FORCED
    except Exception as exc:  # noqa: BLE001 - the end of the process; the supervisor starts it again
        _log.error("process.failed", error=describe(exc), exc_info=not foreseen(exc))
        return EXIT_FAILED
    finally:
        bus.close()
        if child.descriptors is not None:
            child.descriptors.close()
    return EXIT_OK


def _descriptors(fd: int | None) -> socket.socket | None:
    if fd is None:
        return None
    found = socket.socket(fileno=fd)
    found.setblocking(False)  # noqa: FBT003 - the only way to say it
    return found


async def _until_end_of_file(child: Child) -> None:
    await child.control.run()
    if not child.stopping.is_set():
        _log.warning("process.supervisor_gone")
    child.stopping.set()


async def _end_in_time(child: Child, watchdog: _Watchdog, main: asyncio.Task[object] | None) -> None:
    """Give ``main`` its time to release the outputs, then cancel it."""
    await child.stopping.wait()
    watchdog.start_countdown()
    await child.clock.sleep(RELEASE_S)
    if main is not None:
        main.cancel()


def end_now(code: int) -> None:
    """End the process although its event loop hangs; called from another thread, after the last word."""
    threading.Event().wait(_LAST_WORDS_S)  # the log writes in a thread of its own
    os._exit(code)


def mapped(fd: int) -> memoryview:
    """Return what a memfd holds; all processes share its memory."""
    # Private: Linux before 6.7 refuses a shared mapping of what is sealed; memory is shared all the same.
    return memoryview(mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies: for a child, a backstop for the end of its channel."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        _log.warning("process.no_parent_death_signal", errno=ctypes.get_errno())


class _Watchdog:
    """A thread that ends the process in time, whatever the event loop does.

    Args:
        control: Control socket; its end starts the countdown even if nobody reads it.
        sink: Log to write out before the end.
    """

    def __init__(self, control: socket.socket, sink: LineSink) -> None:
        self._sink = sink
        self._control_fd = os.dup(control.fileno())
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._ended = threading.Event()
        threading.Thread(target=self._work, name="watchdog", daemon=True).start()

    def start_countdown(self) -> None:
        """End the process :data:`EXIT_S` from now unless :meth:`close` is called before."""
        os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """Take the watch off."""
        self.start_countdown()  # first: the thread closes its descriptors once it knows of the end
        self._ended.set()

    def _work(self) -> None:
        poll = select.poll()
        poll.register(self._control_fd, select.POLLRDHUP)
        poll.register(self._wake_fd, select.POLLIN)
        poll.poll()
        if not self._ended.wait(EXIT_S - _LAST_WORDS_S):
            _log.error("process.forced_to_end", after_s=EXIT_S)
            self._sink.drain(_LAST_WORDS_S)
            os._exit(EXIT_FORCED)
        os.close(self._control_fd)
        os.close(self._wake_fd)

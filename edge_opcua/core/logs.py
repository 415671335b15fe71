"""Sets up logging of a process: JSON lines in service, readable on a terminal, never blocking."""

from __future__ import annotations

import atexit
import collections
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import structlog

_MAX_LINES: Final = 10_000
_FLUSH_S: Final = 0.3


class TextStream(Protocol):
    """The part of a text file that a log needs."""

    def write(self, text: str, /) -> int:
        """Write a text."""
        ...

    def flush(self) -> None:
        """Hand on what was written."""
        ...


class LineSink:
    """A stream that never makes the caller wait: a thread of its own writes the lines.

    A reader of stderr that stands still (a paused terminal, a stuck log collector) would otherwise stop the
    event loop and with it the heartbeat. Overflow: the oldest lines are dropped and counted.

    Args:
        stream: Where lines go in the end.
    """

    def __init__(self, stream: TextStream) -> None:
        self.dropped = 0
        self._stream = stream
        self._lines: collections.deque[str] = collections.deque()
        self._changed = threading.Condition()
        self._writing = False
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Take over a text."""
        with self._changed:
            if len(self._lines) >= _MAX_LINES:
                self._lines.popleft()
                self.dropped += 1
            self._lines.append(text)
            self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread writes as fast as the stream takes it."""

    def drain(self, timeout_s: float = _FLUSH_S) -> bool:
        """Wait until everything is written; False if the stream did not take it in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._writing, timeout_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._lines))
                text = "".join(self._lines)
                self._lines.clear()
                self._writing = True
                dropped, self.dropped = self.dropped, 0
            if dropped:
                text = f'{{"event": "log.dropped", "level": "warning", "lines": {dropped}}}\n{text}'
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                continue  # nobody reads any more; there is no place left to say so


def configure_logging(
    *, json: bool | None = None, level: int = logging.INFO, stream: TextStream | None = None, **facts: Any
) -> LineSink:
    """Send every event of this process, and what libraries log from WARNING on, to stderr.

    Args:
        json: One JSON object per line; by default wherever stderr is not a terminal.
        level: Lowest level of our own events.
        stream: Where lines go, by default stderr.
        facts: Keys that every line of this process carries, e.g. ``role="io"``.

    Returns:
        The sink; a process that ends by ``os._exit`` drains it first.
    """
    if json is None:
        json = not os.isatty(2)
    sink = LineSink(stream or sys.stderr)
    atexit.register(sink.drain)
    structlog.contextvars.bind_contextvars(**facts)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Never rich: it needs 52 ms on the event loop for one traceback, the plain one 0.3 ms.
    last: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if json
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sink),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    foreign = logging.StreamHandler(sink)
    foreign.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[foreign], level=logging.WARNING, force=True)
    return sink


@contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Keep the answer of a command clean: what the rooms below log is shown beside it, if it is a warning."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def silenced() -> Iterator[None]:
    """Log nothing: for commands that say all there is to say by themselves, in words for a person."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    highest = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(highest)
        structlog.configure(**before)

"""Lines of JSON between the benchmark and the processes it measures, and what the kernel says of those."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from edge_opcua.bench.opcua.channel import LoadError

START_S: Final = 120.0
ANSWER_S: Final = 60.0
_STOP_S: Final = 5.0
_CPU_CLOCK: Final = 2  # clock_getcpuclockid(3): all threads of a process, exact


class Remote:
    """A child process that answers each line on its input with one on its output.

    Args:
        command: What to run.
        pass_fds: Descriptors it inherits.
        core: Core it is pinned to; None for any.
        given: First line that it gets.
        log: Where its errors go.
    """

    def __init__(
        self,
        command: Sequence[str],
        given: dict[str, Any],
        *,
        pass_fds: Sequence[int] = (),
        core: int | None = None,
        log: Path | None = None,
    ) -> None:
        self._log = log
        self.began_s = time.monotonic()
        with contextlib.ExitStack() as stack:
            errors = stack.enter_context(log.open("wb")) if log else subprocess.DEVNULL
            self._process = subprocess.Popen(  # noqa: S603 - our own modules, and node with our file
                command,
                pass_fds=tuple(pass_fds),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        if core is not None:
            os.sched_setaffinity(self._process.pid, {core})
        self._buffer = b""
        self.tell(given)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, line: dict[str, Any]) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as exc:
            raise LoadError(f"a process of the benchmark ended: {self._last_words()}") from exc

    def hear(self, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """Return the next line.

        Raises:
            LoadError: The process ended, or said nothing in time.
        """
        found = self.heard(timeout_s)
        if found is None:
            raise LoadError(f"a process of the benchmark said nothing within {timeout_s:g} s")
        return found

    def heard(self, timeout_s: float = 0.0) -> dict[str, Any] | None:
        """Return the next line if there is one within a time."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        until_s = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            if not select.select([fd], [], [], max(0.0, until_s - time.monotonic()))[0]:
                return None
            more = os.read(fd, 65536)
            if not more:
                raise LoadError(f"a process of the benchmark ended: {self._last_words()}")
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, line: dict[str, Any], timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """Send a line and return the answer."""
        self.tell(line)
        return self.hear(timeout_s)

    def cpu_s(self) -> float:
        """Return the processor time of all its threads, s."""
        return time.clock_gettime_ns((~self._process.pid << 3) | _CPU_CLOCK) / 1e9

    def memory_mb(self) -> float:
        """Return its own resident memory, MB of 2**20 bytes; shared memory such as the bus apart."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
        raise LoadError("the kernel does not tell anonymous memory")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        if self._log is None:
            return f"exit code {self._process.returncode}"
        return self._log.read_text(errors="replace")[-2000:]


def python(module: str) -> list[str]:
    """Return the command that runs one of our modules."""
    return [sys.executable, "-m", module]


def lines() -> Callable[[], dict[str, Any] | None]:
    """Return a function that reads the next line of this process's input, None at its end."""

    def following() -> dict[str, Any] | None:
        line = sys.stdin.readline()
        if not line:
            return None
        found: dict[str, Any] = json.loads(line)
        return found

    return following


def say(line: dict[str, Any]) -> None:
    """Write a line to this process's output."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()

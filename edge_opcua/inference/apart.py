"""Asks something of a model in a process of its own: it may hang, crash or eat memory, and only that ends.

The process is one of our modules, run as a program. It gets one JSON object on stdin and writes JSON lines on
stdout: steps for whoever watches, the last one with the answer or with the refusal.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Final

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.process import die_with_parent
from edge_opcua.errors import ModelError
from edge_opcua.inference import memory

Step = dict[str, Any]

MOST_BYTES: Final = 16 * 2**20
"""What a process may say altogether."""
VICTIM: Final = 900
"""How willingly it is ended if memory runs out: before all lanes."""
KEEP_FREE_BYTES: Final = 256 * memory.MB
_CHUNK_BYTES: Final = 2**16
_END_S: Final = 2.0
_TAIL: Final = 300


def ask_apart(
    module: str,
    request: Mapping[str, Any],
    *,
    within_s: float,
    progress: Callable[[Step], None] | None = None,
    clock: Clock | None = None,
    while_it_tells: bool = False,
) -> Step:
    """Run a module as a program and return its answer.

    Args:
        module: Its name, e.g. ``edge_opcua.inference.tryout``; it ends with :func:`answer_with`.
        request: What it shall do.
        within_s: Longest time; then it is killed.
        progress: Gets every step it tells.
        clock: For the deadline.
        while_it_tells: Whether ``within_s`` is the longest time without a word, however long it all takes.

    Raises:
        ModelError: What the process refused, with its code; or the process ended without an answer (M610), or
            did not answer in time (M611).
    """
    clock = clock or SystemClock()
    command = [sys.executable, "-m", module]
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
        stdin.write(json.dumps(request).encode())
        stdin.seek(0)
        process = subprocess.Popen(  # noqa: S603 - a module of ours
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
        )
        try:
            answer = _listen(process, _Patience(clock, within_s, renewed=while_it_tells), progress)
            if answer is None:  # it ends, or it closed its output and stays
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_END_S)
        finally:
            _kill(process)
        if answer is None:
            raise _ended(process.returncode, stderr)
    if "refused" in answer:
        raise ModelError(str(answer["refused"]), code=str(answer.get("code", "M610")))
    return dict(answer["answer"])


class _Patience:
    """How long is still waited for a process.

    Args:
        clock: For the deadline.
        within_s: Longest time.
        renewed: Whether it begins anew with every word.
    """

    def __init__(self, clock: Clock, within_s: float, *, renewed: bool) -> None:
        self._clock = clock
        self._within_s = within_s
        self._renewed = renewed
        self._deadline_s = clock.monotonic_s() + within_s

    def left_s(self) -> float:
        """Return the time that is left, seconds."""
        return self._deadline_s - self._clock.monotonic_s()

    def renew(self) -> None:
        """Take note of a word."""
        if self._renewed:
            self._deadline_s = self._clock.monotonic_s() + self._within_s


def _listen(
    process: subprocess.Popen[bytes],
    patience: _Patience,
    progress: Callable[[Step], None] | None,
) -> Step | None:
    """Return the last line; None if there is none. Lines that are not JSON are the runtime's own."""
    assert process.stdout is not None
    for line in _lines(process.stdout, patience):
        with contextlib.suppress(ValueError, RecursionError):
            step = json.loads(line)
            if isinstance(step, dict) and ("answer" in step or "refused" in step):
                return step
            if isinstance(step, dict) and progress is not None:
                progress(step)
    return None


def _lines(stream: IO[bytes], patience: _Patience) -> Iterator[bytes]:
    kept, total = b"", 0
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            left_s = patience.left_s()
            if left_s <= 0 or not selector.select(left_s):
                raise ModelError("it was not done in the time it was given and was ended", code="M611")
            chunk = os.read(stream.fileno(), _CHUNK_BYTES)
            total += len(chunk)
            if not chunk or total > MOST_BYTES:
                return
            *lines, kept = (kept + chunk).split(b"\n")
            yield from lines
            patience.renew()  # what the listener did meanwhile is not the process's time


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process, and what it may have started: it leads a session of its own."""
    if process.stdout is not None:
        process.stdout.close()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ended(code: int, stderr: IO[bytes]) -> ModelError:
    stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, stderr.tell() - 4096))
    tail = stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
    said = "".join(letter if letter.isprintable() else " " for letter in tail)[:_TAIL]
    how = _signal_name(-code) if code < 0 else f"exit code {code}"
    return ModelError(
        f"the process that tried the model ended ({how}){f': {said}' if said else ''}", code="M610"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def answer_with(work: Callable[[Mapping[str, Any]], Step]) -> None:
    """Do what stdin asks for in this process, within memory the machine can spare, and write the answer.

    Args:
        work: Takes the request; ModelError is a refusal.
    """
    die_with_parent()
    memory.offer_as_victim(VICTIM)
    request = json.load(sys.stdin)
    memory.Limit(keep_free_bytes=int(request.get("keep_free_bytes", KEEP_FREE_BYTES))).renew()
    try:
        told: Step = {"answer": work(request)}
    except ModelError as exc:
        told = {"refused": str(exc), "code": exc.code}
    except MemoryError:
        told = {"refused": "it takes more memory than this machine can spare", "code": "M581"}
    tell(told)
    sys.stdout.flush()
    # A model may have left threads behind that never end.
    os._exit(0)


def tell(step: Step) -> None:
    """Write one line for whoever watches."""
    sys.stdout.write(json.dumps(step) + "\n")
    sys.stdout.flush()

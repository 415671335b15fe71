"""The servers of one part of a run, of which only the one that is measured has processor time."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeVar

from edge_opcua.bench.opcua.channel import LoadError
from edge_opcua.bench.opcua.target import OURS, Home, Load, Target, start

_T = TypeVar("_T")


class Stage:
    """The servers of one part of the run; only the one that is measured has processor time."""

    def __init__(
        self, names: tuple[str, ...], load: Load, where: Home, placed: tuple[int | None, int | None]
    ) -> None:
        self._stack = ExitStack()
        self.targets: dict[str, Target] = {}
        with ExitStack() as stack:
            for name in names:
                progress(f"starting {name} with {load.tags} variables")
                target = start(name, load, where, placed)
                stack.callback(target.close)
                self.targets[name] = target
                target.pause()
            self._stack = stack.pop_all()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def each(
        self, what: str, ask: Callable[[Target], _T], *, only: Callable[[str], bool] | None = None
    ) -> dict[str, _T]:
        """Measure one thing on every server, one after the other.

        A peer that cannot do it is left out, with a line on standard error; if ours cannot, that is an error.
        """
        found: dict[str, _T] = {}
        for name, target in self.targets.items():
            if only is not None and not only(name):
                continue
            progress(f"{what}: {name}")
            target.resume()
            try:
                found[name] = ask(target)
            except LoadError as exc:
                if name == OURS:
                    raise
                progress(f"{what}: {name} does not: {exc}")
            finally:
                target.pause()
        return found


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Stay on one core meanwhile."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def percent(share: float) -> str:
    """Return a share for people."""
    return f"{100 * share:.0f} %"


def progress(text: str) -> None:
    """Say on standard error what is done now: a run takes minutes."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def grouped(figure: float) -> str:
    """Return a number for people, in groups of three."""
    return f"{figure:,.0f}".replace(",", " ")

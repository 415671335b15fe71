"""One instance of a program or a function block, as the world outside sees it."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any, Final

from edge_opcua.sim.softplc.blocks import RunningBlock
from edge_opcua.sim.softplc.errors import StError
from edge_opcua.sim.softplc.runtime import Scan
from edge_opcua.sim.softplc.types import Array, Block, Elementary, Kind, Record, Type, single

_STEP: Final = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[(-?[0-9]+(?:\s*,\s*-?[0-9]+)*)\]", re.ASCII)

Read = Callable[[], Any]


class Instance:
    """An instance with its own state.

    Args:
        running: The compiled instance.
        block: Its variables.
        scan: The scan it takes its time from.
    """

    def __init__(self, running: RunningBlock, block: Block, scan: Scan) -> None:
        self.block = block
        self._running = running
        self._scan = scan
        self._reads: dict[str, tuple[Read, Type]] = {}

    def scan(self, now_s: float) -> None:
        """Execute it once; ``now_s`` is the time of the scan, on any clock that never goes back.

        Raises:
            StFaultError: It did what stops a PLC.
        """
        self.scan_at(round(now_s * 1e9))

    def scan_at(self, now_ns: int) -> None:
        """Execute it once at a time in nanoseconds; see :meth:`scan`."""
        self._scan.begin(now_ns)
        self._running.run()

    def get(self, name: str) -> Any:
        """Return a variable, such as ``edge.Control[1]``: an array as a list, a STRUCT as a dictionary.

        Raises:
            StError: There is none of that name.
        """
        read, kind = self.reader(name)
        return _plain(read(), kind)

    def set(self, name: str, value: object) -> None:
        """Give a variable a value, an array all of its elements.

        Raises:
            StError: There is no such variable, or the value does not fit its type.
        """
        owner: Any = self._running
        kind: Type = self.block
        *before, last = _steps(name)
        for step in before:
            after = _after(kind, step, name)
            owner, kind = _follow(owner, kind, step), after
        wanted = _after(kind, last, name)
        given = _fitting(value, wanted, name)
        if isinstance(wanted, Array):
            _follow(owner, kind, last)[:] = given
        elif isinstance(last, str):
            setattr(owner, f"v_{last}", given)
        else:
            assert isinstance(kind, Array)
            owner[last - kind.bounds[0][0]] = given

    def reader(self, name: str) -> tuple[Read, Type]:
        """Return what reads a variable quickly, and its type.

        Raises:
            StError: There is none of that name.
        """
        if name not in self._reads:
            self._reads[name] = self._reader(name)
        return self._reads[name]

    def list_of(self, name: str) -> list[Any]:
        """Return an array of one dimension itself: its elements may be read and written between scans.

        Raises:
            StError: It is no such array.
        """
        read, kind = self.reader(name)
        if not isinstance(kind, Array) or not isinstance(kind.row, Elementary):
            raise StError(f"{name} is no array of one dimension")
        found: list[Any] = read()
        return found

    def _reader(self, name: str) -> tuple[Read, Type]:
        running: Any = self._running
        kind: Type = self.block
        steps = list(_steps(name))
        if all(isinstance(step, str) for step in steps):  # the usual case, in one call
            for step in steps:
                kind = _after(kind, step, name)
            fetch = operator.attrgetter(".".join(f"v_{step}" for step in steps))
            return lambda: fetch(running), kind
        types = []
        for step in steps:
            types.append((kind, step))
            kind = _after(kind, step, name)

        def read() -> Any:
            found = running
            for owner, step in types:
                found = _follow(found, owner, step)
            return found

        return read, kind


def _steps(name: str) -> list[str | int]:
    found: list[str | int] = []
    place, text = 0, "." + name
    while place < len(text):
        match = _STEP.match(text, place)
        if match is None:
            raise StError(f"{name} is no name of a variable")
        if match[1]:
            found.append(match[1].lower())
        else:
            found += [int(index) for index in match[2].split(",")]
        place = match.end()
    return found


def _after(kind: Type, step: str | int, name: str) -> Type:
    found: Type | None = None
    if isinstance(step, int) and isinstance(kind, Array) and kind.bounds[0][0] <= step <= kind.bounds[0][1]:
        found = kind.row
    elif isinstance(step, str) and isinstance(kind, Block):
        found = kind.find(step)
    elif isinstance(step, str) and isinstance(kind, Record):
        found = kind.fields.get(step)
    if found is None:
        raise StError(f"there is no {name}")
    return found


def _follow(found: Any, kind: Type, step: str | int) -> Any:
    if isinstance(step, str):
        return getattr(found, f"v_{step}")
    assert isinstance(kind, Array)
    return found[step - kind.bounds[0][0]]


def _fitting(value: object, kind: Type, name: str) -> Any:
    """Return a value as a variable of a type holds it.

    Raises:
        StError: It does not fit.
    """
    if isinstance(kind, Array) and isinstance(kind.row, Elementary):
        count = kind.bounds[0][1] - kind.bounds[0][0] + 1
        if not isinstance(value, (list, tuple)) or len(value) != count:
            raise StError(f"{name} takes a list of {count} values")
        return [_fitting(each, kind.row, name) for each in value]
    if not isinstance(kind, Elementary):
        raise StError(f"{name} is set part by part")
    if kind.kind is Kind.BOOL and isinstance(value, bool):
        return value
    if kind.kind is Kind.REAL and isinstance(value, (int, float)) and not isinstance(value, bool):
        return single(float(value)) if kind.bits == 32 else float(value)
    whole = kind.is_whole and isinstance(value, int) and not isinstance(value, bool)
    if whole and isinstance(value, int) and kind.low <= value <= kind.high:
        return value
    raise StError(f"{name} is {kind.name}, which {value!r} is not")


def _plain(value: Any, kind: Type) -> Any:
    if isinstance(kind, Array):
        return [_plain(each, kind.row) for each in value]
    if isinstance(kind, Record):
        return {name: _plain(getattr(value, f"v_{name}"), each) for name, each in kind.fields.items()}
    if isinstance(kind, Block):
        shown = {**kind.inputs, **kind.outputs}
        return {name: _plain(getattr(value, f"v_{name}"), each) for name, each in shown.items()}
    return value


def as_json(value: Any) -> Any:
    """Return a value as JSON can carry it: numbers that are none, or too large, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, list):
        return [as_json(each) for each in value]
    if isinstance(value, dict):
        return {name: as_json(each) for name, each in value.items()}
    return value

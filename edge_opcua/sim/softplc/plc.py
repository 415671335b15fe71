"""A PLC in this process: a program, its areas and its scan; no sockets and no clock of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from edge_opcua.sim.s7server import DataBlock
from edge_opcua.sim.softplc.areas import Area, Mapped, memories
from edge_opcua.sim.softplc.errors import StError, StFaultError
from edge_opcua.sim.softplc.instance import Instance
from edge_opcua.sim.softplc.library import Library, compile_st
from edge_opcua.sim.softplc.trace import Reaction, Trace
from edge_opcua.sim.softplc.tree import ArrayOf, Named, Variables
from edge_opcua.sim.softplc.triggering import Triggering

MAIN: Final = "Main"
BLOCK: Final = "edge"
"""Name of the function block in a program made by :func:`main_around`."""


def main_around(text: str, block: str, *, payload: int = 0) -> str:
    """Return the text of a program that calls one function block of a text and has a variable for each input.

    Args:
        text: Structured Text with the function block.
        block: Its name.
        payload: Elements of an array Payload beside it, for requests of mode triggered.

    Raises:
        StError: There is no such block, or its text is wrong.
    """
    unit = compile_st(text).unit(block)
    inputs = [each for each in unit.variables if each.section == "VAR_INPUT"]
    names = [name for each in inputs for name in each.names]
    lines = [f"PROGRAM {MAIN}", "VAR", f"    {BLOCK} : {unit.name};"]
    lines += [f"    {_declared(each)}" for each in inputs]
    lines += [
        f"    Control : {_written(each.specification)};"
        for each in unit.variables
        if each.section == "VAR_OUTPUT" and "control" in (name.lower() for name in each.names)
    ]
    has_control = lines[-1].startswith("    Control")
    if payload:
        lines.append(f"    Payload : ARRAY[0..{payload - 1}] OF INT;")
    lines += ["END_VAR", f"{BLOCK}(" + ", ".join(f"{name} := {name}" for name in names) + ");"]
    if has_control:
        lines.append(f"Control := {BLOCK}.Control;")
    return "\n".join([*lines, "END_PROGRAM", ""])


class SoftPlc:
    """A program with its areas.

    The owner stores what clients wrote into the memory of the data blocks, calls :meth:`scan`, and shows the
    memory to the readers.

    Args:
        texts: Structured Text.
        program: Name of the program in it.
        areas: Where its arrays lie.
        watch: Variables whose changes are kept.

    Attributes:
        library: What was compiled.
        main: The program.
        blocks: The S7 data blocks.
        registers: The Modbus holding registers, two bytes each; None if there are none.
        trace: The changes of variables.
        reaction: How the block ``edge`` in the program reacts; None if there is none.
        triggering: Requests that are being made; None if there are none.
        scans: Number of scans so far.
        fault: What stopped the program, or an empty string.

    Raises:
        StError: The program is wrong, or an area does not fit.
    """

    def __init__(
        self,
        texts: Sequence[str],
        *,
        program: str = MAIN,
        areas: Iterable[Area] = (),
        watch: Iterable[str] = (),
    ) -> None:
        self.library: Library = compile_st(*texts)
        self.main: Instance = self.library.instance(program)
        self.mapped = [Mapped(area, self.main) for area in areas]
        self.blocks: list[DataBlock]
        self.registers: DataBlock | None
        self.blocks, self.registers = memories(self.mapped)
        self.trace = Trace(self.main, watch)
        self.reaction = _reaction(self.main)
        self.triggering: Triggering | None = None
        self.scans = 0
        self.fault = ""
        self._buttons: dict[str, int] = {}

    def scan(self, now_ns: int) -> None:
        """Execute the program once; after a fault it stays stopped.

        Args:
            now_ns: Time of the scan on CLOCK_MONOTONIC.
        """
        if self.fault:
            return
        self.scans += 1
        for area in self.mapped:
            area.take()
        if self.triggering is not None:
            self.triggering.before(self.scans, now_ns)
        try:
            self.main.scan_at(now_ns)
        except StFaultError as exc:
            self.fault = str(exc)
            return
        self._release_buttons()
        for area in self.mapped:
            area.give()
        self.trace.note(self.scans, now_ns)
        if self.reaction is not None:
            self.reaction.note(now_ns)
        if self.triggering is not None:
            self.triggering.after(self.scans, now_ns)

    def press(self, name: str, *, scans: int = 1) -> None:
        """Hold a button: set a BOOL for some scans.

        Raises:
            StError: There is no such BOOL.
        """
        if not 1 <= scans <= 100_000:
            raise StError(f"a button is held for 1 to 100000 scans, not {scans}")
        self.main.set(name, value=True)
        self._buttons[name] = scans

    def trigger(self, *, times: int, pause_scans: int = 5) -> None:
        """Start to ask for results; see :class:`Triggering`."""
        self.triggering = Triggering(self.main, block=BLOCK, times=times, pause_scans=pause_scans)

    def _release_buttons(self) -> None:
        for name, left in list(self._buttons.items()):
            if left > 1:
                self._buttons[name] = left - 1
            else:
                del self._buttons[name]
                self.main.set(name, value=False)


def _reaction(main: Instance) -> Reaction | None:
    try:
        return Reaction(main, f"{BLOCK}.")
    except StError:
        return None  # another program


def _declared(variables: Variables) -> str:
    initial = ""
    if variables.initial and isinstance(variables.specification, Named):
        initial = f" := {_literal(variables.initial[0].value, variables.initial[0].type_name)}"
    return f"{', '.join(variables.names)} : {_written(variables.specification)}{initial};"


def _written(specification: Named | ArrayOf) -> str:
    if isinstance(specification, Named):
        return specification.name
    bounds = ", ".join(f"{low}..{high}" for low, high in specification.bounds)
    return f"ARRAY[{bounds}] OF {specification.element.name}"


def _literal(value: Any, type_name: str) -> str:
    if type_name == "TIME":
        return f"T#{value}ms"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return f"{type_name}#{value}" if type_name else f"{value}"

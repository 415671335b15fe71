"""The PLC side of the edge-AI interface: executes the function block that is exported for the real PLC."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edge_opcua.assets import examples_dir
from edge_opcua.sim.softplc.areas import Area, Mapped, memories
from edge_opcua.sim.softplc.library import compile_st
from edge_opcua.sim.softplc.trace import Reaction

CONTROL_DB: Final = 21
STATUS_DB: Final = 20


def exported_block() -> Path:
    """Return the file with the function block of the press."""
    return examples_dir() / "press" / "plc" / "codesys" / "FB_EdgeAI_verdict.st"


class EdgeBlock:
    """One instance of the function block, with its areas as data blocks.

    Args:
        text: Structured Text with one function block.

    Attributes:
        status: DB20: the edge writes it.
        control: DB21: the edge reads it.
        reaction: When trust fell last, and after how much silence.

    Raises:
        StError: The text is wrong.
    """

    def __init__(self, text: str) -> None:
        library = compile_st(text)
        (name,) = library.blocks
        self._block = library.instance(name)
        self._block.set("Enable", value=True)
        self._given = Mapped(Area("Status", STATUS_DB, 0, writable=True), self._block)
        self._made = Mapped(Area("Control", CONTROL_DB, 0, writable=False), self._block)
        (self.status, self.control), _ = memories((self._given, self._made))
        self.reaction = Reaction(self._block)

    def scan(self, *, ack: bool, grant: bool, state: int, now_s: float) -> None:
        """Execute the block; to be called once in every scan of the PLC.

        Args:
            ack: The acknowledge button.
            grant: Whether the plant lets the edge act.
            state: PackML state of the press.
            now_s: Time of the scan.
        """
        self._given.take()
        self._block.set("OpAck", ack)
        self._block.set("Grant", grant)
        self._block.set("State", state)
        now_ns = round(now_s * 1e9)
        self._block.scan_at(now_ns)
        self._made.give()
        self.reaction.note(now_ns)

    @property
    def trusted(self) -> bool:
        """Whether the PLC acts on what the edge writes."""
        return bool(self._block.get("InUse"))

    @property
    def ack_required(self) -> bool:
        """Whether somebody has to acknowledge before it does so again."""
        return bool(self._block.get("AckReq"))

    def new_result(self) -> tuple[int, int] | None:
        """Return verdict and stroke of a result that came in this scan, if one did."""
        if not self._block.get("NewResult"):
            return None
        return int(self._block.get("Verdict")), int(self._block.get("Cycle"))

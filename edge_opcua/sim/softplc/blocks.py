"""The standard function blocks (IEC 61131-3 ed. 3, tables 43 to 46; ed. 2, tables 34 to 37).

Their time is that of the scan, so a timer ends in the first scan whose time is late enough.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from edge_opcua.sim.softplc.runtime import Scan
from edge_opcua.sim.softplc.types import BOOL, INT, TIME, Block, Type

_MS_NS: Final = 1_000_000


class RunningBlock(Protocol):
    """An instance of a function block; its variables are attributes ``v_<name>``."""

    def run(self) -> None:
        """Execute the block once."""
        ...


class _Ton:
    """TON: Q follows IN after PT."""

    __slots__ = ("_since_ns", "scan", "v_et", "v_in", "v_pt", "v_q")

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.v_in = self.v_q = False
        self.v_pt = self.v_et = 0
        self._since_ns: int | None = None

    def run(self) -> None:
        if not self.v_in:
            self._since_ns = None
            self.v_q, self.v_et = False, 0
            return
        if self._since_ns is None:
            self._since_ns = self.scan.now_ns
        elapsed_ms = (self.scan.now_ns - self._since_ns) // _MS_NS
        self.v_et = min(elapsed_ms, self.v_pt)
        self.v_q = elapsed_ms >= self.v_pt


class _Tof:
    """TOF: Q stays for PT after IN fell."""

    __slots__ = ("_since_ns", "scan", "v_et", "v_in", "v_pt", "v_q")

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.v_in = self.v_q = False
        self.v_pt = self.v_et = 0
        self._since_ns: int | None = None

    def run(self) -> None:
        if self.v_in:
            self._since_ns = None
            self.v_q, self.v_et = True, 0
            return
        if not self.v_q:
            return  # never on, or over: ET stays at PT
        if self._since_ns is None:
            self._since_ns = self.scan.now_ns
        elapsed_ms = (self.scan.now_ns - self._since_ns) // _MS_NS
        self.v_et = min(elapsed_ms, self.v_pt)
        self.v_q = elapsed_ms < self.v_pt


class _Tp:
    """TP: a pulse of length PT at each rise of IN that does not fall into a pulse."""

    __slots__ = ("_since_ns", "scan", "v_et", "v_in", "v_pt", "v_q")

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.v_in = self.v_q = False
        self.v_pt = self.v_et = 0
        self._since_ns: int | None = None

    def run(self) -> None:
        if self._since_ns is None and self.v_in:
            self._since_ns = self.scan.now_ns
        if self._since_ns is None:
            return
        elapsed_ms = (self.scan.now_ns - self._since_ns) // _MS_NS
        self.v_et = min(elapsed_ms, self.v_pt)
        self.v_q = elapsed_ms < self.v_pt
        if not self.v_q and not self.v_in:
            self._since_ns, self.v_et = None, 0


class _RisingEdge:
    """R_TRIG: ``Q := CLK AND NOT M; M := CLK;``."""

    __slots__ = ("_m", "v_clk", "v_q")

    def __init__(self, scan: Scan) -> None:
        del scan
        self.v_clk = self.v_q = self._m = False

    def run(self) -> None:
        self.v_q = self.v_clk and not self._m
        self._m = self.v_clk


class _FallingEdge:
    """F_TRIG: ``Q := NOT CLK AND NOT M; M := NOT CLK;``, so a CLK that is FALSE at first is an edge."""

    __slots__ = ("_m", "v_clk", "v_q")

    def __init__(self, scan: Scan) -> None:
        del scan
        self.v_clk = self.v_q = self._m = False

    def run(self) -> None:
        self.v_q = not self.v_clk and not self._m
        self._m = not self.v_clk


class _SetDominant:
    """SR: ``Q1 := S1 OR (NOT R AND Q1);``."""

    __slots__ = ("v_q1", "v_r", "v_s1")

    def __init__(self, scan: Scan) -> None:
        del scan
        self.v_s1 = self.v_r = self.v_q1 = False

    def run(self) -> None:
        self.v_q1 = self.v_s1 or (not self.v_r and self.v_q1)


class _ResetDominant:
    """RS: ``Q1 := NOT R1 AND (S OR Q1);``."""

    __slots__ = ("v_q1", "v_r1", "v_s")

    def __init__(self, scan: Scan) -> None:
        del scan
        self.v_s = self.v_r1 = self.v_q1 = False

    def run(self) -> None:
        self.v_q1 = not self.v_r1 and (self.v_s or self.v_q1)


class _CountUp:
    """CTU: counts the rises of CU up to the largest INT."""

    __slots__ = ("_before", "v_cu", "v_cv", "v_pv", "v_q", "v_r")

    def __init__(self, scan: Scan) -> None:
        del scan
        self.v_cu = self.v_r = self.v_q = self._before = False
        self.v_pv = self.v_cv = 0

    def run(self) -> None:
        rises, self._before = self.v_cu and not self._before, self.v_cu
        if self.v_r:
            self.v_cv = 0
        elif rises and self.v_cv < INT.high:
            self.v_cv += 1
        self.v_q = self.v_cv >= self.v_pv


class _CountDown:
    """CTD: counts the rises of CD down to the smallest INT."""

    __slots__ = ("_before", "v_cd", "v_cv", "v_ld", "v_pv", "v_q")

    def __init__(self, scan: Scan) -> None:
        del scan
        self.v_cd = self.v_ld = self.v_q = self._before = False
        self.v_pv = self.v_cv = 0

    def run(self) -> None:
        rises, self._before = self.v_cd and not self._before, self.v_cd
        if self.v_ld:
            self.v_cv = self.v_pv
        elif rises and self.v_cv > INT.low:
            self.v_cv -= 1
        self.v_q = self.v_cv <= 0


_TIMER: Final[tuple[dict[str, Type], dict[str, Type]]] = ({"in": BOOL, "pt": TIME}, {"q": BOOL, "et": TIME})
_EDGE: Final[tuple[dict[str, Type], dict[str, Type]]] = ({"clk": BOOL}, {"q": BOOL})

STANDARD: Final[dict[str, tuple[Block, type[Any]]]] = {
    "ton": (Block("TON", *_TIMER), _Ton),
    "tof": (Block("TOF", *_TIMER), _Tof),
    "tp": (Block("TP", *_TIMER), _Tp),
    "r_trig": (Block("R_TRIG", *_EDGE), _RisingEdge),
    "f_trig": (Block("F_TRIG", *_EDGE), _FallingEdge),
    "sr": (Block("SR", {"s1": BOOL, "r": BOOL}, {"q1": BOOL}), _SetDominant),
    "rs": (Block("RS", {"s": BOOL, "r1": BOOL}, {"q1": BOOL}), _ResetDominant),
    "ctu": (Block("CTU", {"cu": BOOL, "r": BOOL, "pv": INT}, {"q": BOOL, "cv": INT}), _CountUp),
    "ctd": (Block("CTD", {"cd": BOOL, "ld": BOOL, "pv": INT}, {"q": BOOL, "cv": INT}), _CountDown),
}
"""By the lower-case name: the type, and the class of its instances."""

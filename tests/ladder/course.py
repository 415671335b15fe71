"""A course of scans in which everything happens that may, with an edge that mostly answers as it should."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from edge_opcua.config.eai import ControlWord, Ctrl, Stat
from edge_opcua.ladder.facts import Facts
from tests.ladder.blocks import ON, Bench

_USUAL: Final = (Stat.ONLINE, Stat.AUTHORITY_ACTIVE)
_TOLD: Final = (*_USUAL, Stat.FAIL_SAFE_ACTIVE, Stat.ACK_REQUIRED, Stat.ERROR, Stat.SIMULATED)
_INPUTS: Final = ("Enable", "Grant", "OpAck", "SetOffline", "Fallback")
_EXTRA: Final = {"triggered": ("Trigger",), "veto": ("PlcLimit", "PlcPermit", "FallbackPermit")}


class Course:
    """What happens to a block, drawn by chance but the same for the same seed.

    Args:
        of: What the block is made from.
        seed: Of the chance.
    """

    def __init__(self, of: Facts, seed: int) -> None:
        self.bench = Bench(of)
        self.now_ms = 10_000.0
        self.given: dict[str, Any] = dict.fromkeys(_INPUTS, False) | ON
        self.given |= dict.fromkeys(_EXTRA.get(of.mode, ()), False)
        if of.mode == "veto":
            self.given |= {"PlcLimit": 8.0, "PlcPermit": True}
        self._chance = random.Random(seed)
        self._triggered = of.mode == "triggered"
        self._alive, self._silent_ms = True, 0.0
        if self._triggered:
            self.bench.say(results_valid=False, trigger_ready=True)

    def scans(self, count: int) -> Iterator[list[float]]:
        """Run scans and yield what each was given: the time, the inputs and the status words."""
        for _ in range(count):
            step_ms = self._chance.choice((5, 20, 20, 20, 37, 110))
            self.now_ms += step_ms
            self._beat(step_ms)
            self._happen()
            if self._triggered:
                self._answer()
            edge = self.bench.edge
            edge.tail = self._chance.randint(0, 65_535) if self._chance.random() < 0.01 else None
            words = edge.words()
            self.bench.set(**self.given)
            self.bench.block.set("Status", words)
            self.bench.block.scan(self.now_ms / 1000)
            yield [self.now_ms, *map(float, self.given.values()), *map(float, words)]

    def _beat(self, step_ms: float) -> None:
        self._silent_ms += step_ms
        if self._alive and self._silent_ms >= 100:
            self.bench.edge.beat()
            self._silent_ms = 0.0

    def _happen(self) -> None:
        happens: tuple[tuple[float, Callable[[], None]], ...] = (
            (0.01, self._the_plant_changes_its_mind),
            (0.04, self._somebody_presses),
            (0.06, self._a_result_comes),
            (0.03, self._the_edge_says),
            (0.005, self._the_edge_freezes_or_runs),
            (0.003, self._a_late_frame_lands),
            (0.003, self._another_version_speaks),
            (0.08, self._the_plc_wants_something),
            (0.15, self._the_edge_recovers),
        )
        for chance, what in happens:
            if self._chance.random() < chance:
                what()

    def _the_plant_changes_its_mind(self) -> None:
        for name, usual in (("Enable", True), ("Grant", True), ("SetOffline", False)):
            self.given[name] = usual if self._chance.random() < 0.8 else not usual

    def _somebody_presses(self) -> None:
        self.given["OpAck"] = not self.given["OpAck"]

    def _a_result_comes(self) -> None:
        if not self._triggered:
            self.bench.edge.judge(Verdict=self._chance.randint(-1, 2), Score=self._chance.randint(-30, 30))

    def _the_edge_says(self) -> None:
        bit = self._chance.choice(_TOLD)
        on = self._chance.random() < (0.9 if bit in _USUAL else 0.3)
        self.bench.say(**{str(bit.name): on})

    def _the_edge_freezes_or_runs(self) -> None:
        self._alive = self._chance.random() < 0.8

    def _a_late_frame_lands(self) -> None:
        self.bench.edge.heartbeat = self._chance.choice((0, self._chance.randint(0, 65_535)))

    def _another_version_speaks(self) -> None:
        self.bench.edge.version = self.bench.facts.map.version + (self._chance.random() < 0.3)

    def _the_plc_wants_something(self) -> None:
        if self._triggered:
            self.given["Trigger"] = not self.given["Trigger"]
        if "PlcLimit" in self.given:
            self.given["PlcLimit"] = float(self._chance.randint(-5, 15))
            self.given["PlcPermit"] = self._chance.random() < 0.8
            self.given["FallbackPermit"] = self._chance.random() < 0.5

    def _the_edge_recovers(self) -> None:
        """Ask for an acknowledge when the PLC has lost trust, and take the one that comes."""
        bench = self.bench
        if Ctrl.CLEAR_ERROR in bench.ctrl or self._chance.random() < 0.1:
            bench.say(ack_required=False, authority_active=True)
        elif Ctrl.LATCHED in bench.ctrl:
            bench.say(online=True, authority_active=False, fail_safe_active=False, ack_required=True)
        else:
            bench.say(online=True, authority_active=True, fail_safe_active=False, ack_required=False)

    def _answer(self) -> None:
        """Go on with the handshake, in three scans of four."""
        if self._chance.random() < 0.25:
            return
        bench, edge = self.bench, self.bench.edge
        asks, took = Ctrl.TRIGGER in bench.ctrl, Ctrl.RESULTS_ACK in bench.ctrl
        if asks and Stat.TRIGGER_READY in edge.stat:
            bench.say(trigger_ready=False, trigger_ack=True)
        elif Stat.TRIGGER_ACK in edge.stat and not asks:
            bench.say(trigger_ack=False, results_valid=self._chance.random() < 0.9)
            edge.judge(Verdict=1, Score=self._chance.randint(-30, 30))
            edge.sequence = bench.control[ControlWord.TRIGGER_SEQ]
        elif Stat.RESULTS_VALID in edge.stat and took:
            bench.say(results_valid=self._chance.random() < 0.05, trigger_ready=True)
        elif Stat.RESULTS_VALID not in edge.stat and not asks:
            bench.say(trigger_ready=self._chance.random() < 0.9)

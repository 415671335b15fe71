"""Both ends together: the exported function block and the edge, while everything around them fails.

Writes are lost, come late, overtake each other, or land without an answer; either side stands still or starts
anew; people and the machine press what they like. What has to hold is looked at in every scan of the PLC.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest

from edge_opcua.config.eai import Stat
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import BAD_NO_COMMUNICATION, BAD_TIMEOUT, GOOD, Link, Verdict
from edge_opcua.sim.softplc.plc import MAIN
from edge_opcua.writeback.states import State
from tests.writeback.line import Line, Press, configuration, exported

TICK_S: Final = 0.005
MS: Final = 1_000_000
TIMEOUT_NS: Final = 500 * MS
NEVER: Final = -(1 << 62)
RULING: Final = (State.ACTIVE, State.HOLD)


class Wire(Press):
    """A PLC behind a network that does what networks do.

    Attributes:
        chance: How often a write is ``lost``, ``late`` or takes effect without an answer (``mute``).
        delayed: Writes under way, with the time at which they land.
        ruled_ns: When a write that claims authority landed late.
    """

    rng = random.Random(0)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.chance = {"lost": 0.0, "late": 0.0, "mute": 0.0}
        self.delayed: list[tuple[int, bytes]] = []
        self.ruled_ns = NEVER

    async def write_bytes(
        self, area: str, offset: int, payload: bytes, *, timeout_s: float = 1.0
    ) -> WriteOutcome:
        if not self.link_up:
            return WriteOutcome(BAD_NO_COMMUNICATION, "no link")
        fate = next((name for name, share in self.chance.items() if self.rng.random() < share), "")
        if fate == "late":
            after_s = self.rng.choice((0.05, 0.2, 0.6, 3.0)) * self.rng.random()
            self.delayed.append((self._line.clock.monotonic_ns() + round(after_s * 1e9), payload))
        elif fate != "lost":
            self.status = payload
        return WriteOutcome(BAD_TIMEOUT, fate) if fate else WriteOutcome()

    def deliver(self, now_ns: int) -> None:
        for each in [each for each in self.delayed if each[0] <= now_ns]:
            self.delayed.remove(each)
            self.status = each[1]
            if int.from_bytes(self.status[:2], "big") & Stat.AUTHORITY_ACTIVE:
                self.ruled_ns = now_ns


class World:
    """One schedule of events, and what was seen of both ends."""

    def __init__(self, seed: int, config: dict[str, Any]) -> None:
        self.rng = random.Random(seed)
        self.line = Line(configuration(**config), press=Wire)
        assert isinstance(self.line.plc, Wire)
        self.plc = self.line.plc
        self.plc.rng = self.rng
        self.triggered = config["mode"] == "triggered"
        self.plc.set(AcceptRemoteAck=self.rng.random() < 0.7)
        self.scan_ns = self.rng.choice((5, 20, 50, 100)) * MS
        self.edge_stands = self.plc_stands = False
        self.scanned_ns = self.read_ns = 0
        self.ruled_ns = self.acknowledged_ns = NEVER
        self.lost_ns: int | None = None
        self.in_use = False
        self.used: list[tuple[object, int]] = []
        self.scans_in_use = 0
        self.wishes: list[str] = []

    @property
    def now_ns(self) -> int:
        return self.line.clock.monotonic_ns()

    # --- what happens --------------------------------------------------------------------------------

    def disturb(self) -> None:
        """Let something happen."""
        line, plc, rng = self.line, self.plc, self.rng
        events: tuple[Callable[[], object], ...] = (
            lambda: setattr(self, "edge_stands", not self.edge_stands),
            lambda: setattr(self, "plc_stands", not self.plc_stands),
            lambda: setattr(line, "lane_lives", not line.lane_lives),
            lambda: setattr(line, "source_lives", not line.source_lives),
            lambda: setattr(line, "reads", not line.reads),
            lambda: setattr(plc, "link_up", not plc.link_up),
            lambda: plc.chance.update({rng.choice(("lost", "late", "mute")): rng.choice((0.0, 0.3, 1.0))}),
            lambda: plc.chance.update(lost=0.0, late=0.0, mute=0.0),
            lambda: plc.set(Enable=rng.random() < 0.7, Grant=rng.random() < 0.8),
            lambda: plc.set(SetOffline=rng.random() < 0.3),
            lambda: self.button(on=rng.random() < 0.5),
            lambda: self.wishes.append(rng.choice(("acknowledge", "acknowledge", "manual", "automatic"))),
            lambda: line.judge(score=rng.choice((float("nan"), float("inf"), -1e300)), stroke=line.number),
            line.judge_late,
            lambda: line.capture(rng.choice((Link.UP, Link.LOST))),
            line.restart if rng.random() < 0.3 else self.heal,
            self.restart_plc if rng.random() < 0.3 else self.heal,
        )
        rng.choice(events)()

    def heal(self) -> None:
        """Let everything work again."""
        self.edge_stands = self.plc_stands = False
        self.line.lane_lives = self.line.source_lives = self.line.reads = self.plc.link_up = True
        self.plc.chance.update(lost=0.0, late=0.0, mute=0.0)
        self.plc.set(Enable=True, Grant=True, SetOffline=False)
        self.line.capture()

    def button(self, *, on: bool) -> None:
        """Press the PLC's own button, or let go of it."""
        self.plc.set(OpAck=on)
        if on:
            self.acknowledged_ns = self.now_ns

    def restart_plc(self) -> None:
        """Let the PLC's program begin anew; what it had latched is gone, as after a download."""
        self.plc.main = exported(self.line.config).instance(MAIN)
        self.plc.set(Enable=True, Grant=True)
        self.in_use, self.lost_ns = False, None

    def produce(self) -> None:
        """Let the lane judge something; in mode triggered what was asked for, or something else."""
        rng, line = self.rng, self.line
        if not self.triggered:
            if rng.random() < 0.05 and line.lane_lives:
                line.judge(score=float(line.number + 1), stroke=line.number + 1)
            return
        if rng.random() < 0.03:
            self.plc.set(Trigger=rng.random() < 0.5)
        if rng.random() < 0.06:
            asked = self.plc.get("TriggerSeq") + rng.choice((0, 0, 0, -1, 1))
            line.judge(rng.choice((Verdict.OK, Verdict.NOT_OK)), stroke=max(1, asked), score=float(asked))

    async def tick(self) -> None:
        line, now_ns = self.line, self.now_ns
        self.plc.deliver(now_ns)
        if line.lane_lives:
            line.writers["wear.result"].beat()
        if line.source_lives:
            line.source.refreshed_ns = now_ns
        if not self.plc_stands and now_ns - self.scanned_ns >= self.scan_ns:
            self.scan(now_ns)
        if not self.edge_stands:
            if now_ns - self.read_ns >= 20 * MS:
                self.read_ns = now_ns
                line.read_plc()
            if self.rng.random() < 0.5:  # the loop is busy now and then
                await self.decide(now_ns)
        self.produce()
        line.clock.step(TICK_S)

    async def decide(self, now_ns: int) -> None:
        output = self.line.output
        for wish in self.wishes:
            if wish == "acknowledge" and (await output.acts.acknowledge("anna")).status == GOOD:
                self.acknowledged_ns = now_ns
            elif wish == "manual":
                await output.acts.manual("anna")
            elif wish == "automatic":
                await output.acts.automatic("anna")
        self.wishes.clear()
        output.step()
        if output.state in RULING:
            self.ruled_ns = now_ns
        if self.rng.random() < 0.8:
            await output.send()

    # --- what has to hold ----------------------------------------------------------------------------

    def scan(self, now_ns: int) -> None:
        """Let the PLC's program run once, and look at it."""
        gap_ns, self.scanned_ns = now_ns - self.scanned_ns, now_ns
        self.plc.scan(now_ns)
        in_use = self.plc.get("InUse")
        self.scans_in_use += in_use
        if in_use:
            said_ns = max(self.ruled_ns, self.plc.ruled_ns)
            assert now_ns - said_ns <= TIMEOUT_NS + gap_ns + 2 * self.scan_ns, "nobody rules"
        if self.in_use and not in_use:
            assert self.plc.get("Latched"), "trust was lost without a trace"
            self.lost_ns = now_ns
        if in_use and self.lost_ns is not None:
            assert self.acknowledged_ns >= self.lost_ns, "nobody has acknowledged"
            self.lost_ns = None
        self.in_use = in_use
        if self.plc.get("NewResult"):
            self.use()

    def use(self) -> None:
        """Look at a result that the PLC has just taken."""
        assert self.in_use
        number, cycle = self.plc.get("ResultSeq"), self.plc.get("Cycle")
        if self.triggered:
            assert number == self.plc.get("TriggerSeq"), "an answer to another request"
            assert self.plc.get("ResultCode") != 0 or cycle == number, "a result of another request"
            assert (self.plc.main, number) not in self.used, "answered twice"
            self.used.append((self.plc.main, number))
        else:
            assert not self.used or cycle > self.used[-1][1], "used twice, or out of order"
            assert self.plc.get("Score") == cycle, "parts of two results"
            self.used.append((None, cycle))

    # --- schedules -----------------------------------------------------------------------------------

    async def suffer(self, duration_s: float) -> None:
        for _ in range(round(duration_s / TICK_S)):
            if self.rng.random() < 0.03:
                self.disturb()
            await self.tick()

    async def recover(self, within_s: float = 30.0) -> None:
        """Mend everything, acknowledge at both ends now and then, and wait until the edge is in use."""
        self.heal()
        self.wishes.append("automatic")
        self.plc.set(OpAck=False)
        for number in range(round(within_s / TICK_S)):
            if number % 300 == 100:
                self.button(on=True)
            elif number % 300 == 120:
                self.button(on=False)
            elif number % 300 == 250:
                self.wishes.append("acknowledge")
            if not self.triggered and number % 20 == 0:
                self.line.judge(score=float(self.line.number + 1), stroke=self.line.number + 1)
            await self.tick()
            if number > 400 and self.in_use and self.line.state == "ACTIVE":
                return
        raise AssertionError(f"not in use again: {self.line.state}, {self.line.reason}")


CONFIGURATIONS: Final[dict[str, dict[str, Any]]] = {
    "polled": {"mode": "polled", "recover_hold_s": 0.5},
    "held": {"mode": "polled", "recover_hold_s": 0.2, "hold_s": 0.6},
    "triggered": {"mode": "triggered", "recover_hold_s": 0.5},
}


@pytest.fixture(params=[(name, seed) for name in CONFIGURATIONS for seed in (1, 2)], ids=str)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    name, seed = request.param
    made = World(seed, CONFIGURATIONS[name])
    yield made
    made.line.close()


async def test_whatever_fails_nothing_acts_unasked_and_everything_comes_back(world: World) -> None:
    for _ in range(2):
        await world.recover()
        await world.suffer(5.0)
    await world.recover()
    assert world.scans_in_use > 10
    assert world.used or world.triggered

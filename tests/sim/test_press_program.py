"""The program of the PLC, scan by scan: whom it trusts, what it obeys, when it stops."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_opcua.config.eai import Ctrl, Stat, eai_map
from edge_opcua.sim.edgeblock import EdgeBlock, exported_block
from edge_opcua.sim.physics import Fault, PressPhysics, Stroke
from edge_opcua.sim.press import NOT_OK, SCAN_S, PressProgram, State
from tests.sim.edgetwin import ACTIVE, PRESS_INTERFACE, EdgeTwin

OK = 1
TIMEOUT_S = 0.5
BLOCK = exported_block().read_text("utf-8")
MAP = eai_map("verdict", PRESS_INTERFACE, "s7")


class Plant:
    """The program with a scan cycle driven by hand and an edge that writes by hand."""

    def __init__(self, *, time_factor: float = 1.0) -> None:
        self.struck: list[Stroke] = []
        self.program = PressProgram(
            PressPhysics(7), time_factor=time_factor, strike=self.struck.append, edge=EdgeBlock(BLOCK)
        )
        self.edge = EdgeTwin(MAP)
        self.now_s = 100.0
        self.scan()

    def scan(self) -> None:
        self.program.scan(self.now_s)
        self.now_s += SCAN_S

    def run(self, seconds: float, *, edge_alive: bool = False) -> None:
        """Scan for a while; an edge that lives writes every 100 ms."""
        for number in range(round(seconds / SCAN_S)):
            if edge_alive and number % 5 == 0:
                self.write()
            self.scan()

    def write(self) -> None:
        """Write the status area with a new heartbeat."""
        self.edge.beat()
        self.put()

    def put(self) -> None:
        """Write the status area as it is."""
        image = self.edge.image()
        self.program.edge.status.memory[: len(image)] = image

    def judge(self, verdict: int, stroke: int) -> None:
        """Write a new result, and let the PLC scan it."""
        self.edge.judge(Verdict=verdict, Score=0.5, Cycle=stroke)
        self.run(0.3, edge_alive=True)

    def acknowledge(self) -> None:
        self.program.setpoints.memory[8] |= 1

    @property
    def ctrl(self) -> Ctrl:
        return Ctrl(int.from_bytes(self.program.edge.control.memory[:2], "big"))

    @property
    def flags(self) -> int:
        """DB10.DBB10: trusted, acknowledge required, guard closed, tonnage sensor fault."""
        return self.program.process.memory[10]

    @property
    def trusted(self) -> bool:
        return bool(self.flags & 1)

    @property
    def ack_required(self) -> bool:
        return bool(self.flags & 2)

    def real(self, offset: int) -> float:
        return float(struct.unpack_from(">f", self.program.process.memory, offset)[0])


@pytest.fixture
def plant() -> Plant:
    return Plant()


@pytest.fixture
def trusting(plant: Plant) -> Plant:
    plant.run(0.3, edge_alive=True)
    assert plant.trusted
    return plant


# The edge interface: what the exported function block makes of what the edge writes


def test_before_its_first_heartbeat_the_edge_is_neither_trusted_nor_missed(plant: Plant) -> None:
    plant.run(2.0)

    assert not plant.trusted
    assert not plant.ack_required


def test_the_first_trust_needs_no_acknowledge_but_a_heartbeat_that_moves(plant: Plant) -> None:
    plant.write()
    plant.scan()
    assert not plant.trusted

    plant.write()
    plant.scan()
    assert plant.trusted
    assert Ctrl.IN_USE in plant.ctrl


def test_a_heartbeat_that_stops_ends_trust_after_half_a_second_and_one_scan(trusting: Plant) -> None:
    trusting.write()
    trusting.scan()
    trusting.run(TIMEOUT_S - SCAN_S)
    assert trusting.trusted

    trusting.run(2 * SCAN_S)

    assert not trusting.trusted
    assert trusting.ack_required
    reaction = trusting.program.edge.reaction
    assert reaction.falls == 1
    assert reaction.silence_ms == pytest.approx(500.0, abs=1000 * SCAN_S)


def test_trust_comes_back_only_with_an_acknowledge_while_the_edge_asks_for_one(trusting: Plant) -> None:
    trusting.run(1.0)
    trusting.acknowledge()  # too early: nobody there
    trusting.scan()
    assert trusting.ack_required

    trusting.edge.stat = ACTIVE | Stat.ACK_REQUIRED
    trusting.run(0.5, edge_alive=True)
    assert not trusting.trusted

    trusting.acknowledge()
    trusting.scan()
    assert not trusting.ack_required
    assert Ctrl.CLEAR_ERROR in trusting.ctrl

    trusting.edge.stat = ACTIVE
    trusting.run(0.3, edge_alive=True)
    assert trusting.trusted


def test_the_plc_lets_go_of_the_acknowledge_button(trusting: Plant) -> None:
    trusting.acknowledge()
    trusting.scan()

    assert trusting.program.setpoints.memory[8] == 2  # grant_authority is still there


@pytest.mark.parametrize(
    "stat",
    [Stat.ONLINE, ACTIVE | Stat.FAIL_SAFE_ACTIVE, ACTIVE & ~Stat.ONLINE],
    ids=["no authority", "safe", "off"],
)
def test_an_edge_that_says_no_ends_trust_at_once(trusting: Plant, stat: Stat) -> None:
    trusting.edge.stat = stat
    trusting.write()
    trusting.scan()

    assert not trusting.trusted
    assert trusting.ack_required


def test_half_a_write_counts_for_nothing_until_the_time_out(trusting: Plant) -> None:
    trusting.edge.tail = 77
    trusting.run(TIMEOUT_S - 0.1, edge_alive=True)
    assert trusting.trusted

    trusting.run(0.2, edge_alive=True)
    assert not trusting.trusted


def test_an_edge_that_restarted_is_not_trusted_on_its_old_word(trusting: Plant) -> None:
    trusting.edge.heartbeat = 0
    trusting.put()
    trusting.scan()

    assert not trusting.trusted
    assert trusting.ack_required


def test_an_edge_of_another_map_is_not_trusted(trusting: Plant) -> None:
    trusting.edge.version += 1
    trusting.write()
    trusting.scan()

    assert not trusting.trusted


def test_the_plant_can_withdraw_authority(trusting: Plant) -> None:
    trusting.program.setpoints.memory[8] = 0
    trusting.write()
    trusting.scan()

    assert not trusting.trusted
    assert Ctrl.GRANT_AUTHORITY not in trusting.ctrl


class EdgeRules(RuleBasedStateMachine):
    """Whatever the edge and the operator do, trust has its reasons."""

    def __init__(self) -> None:
        super().__init__()
        self.edge = EdgeBlock(BLOCK)
        self.twin = EdgeTwin(MAP)
        self.now_s = 100.0
        self.alive = False
        self.seen = self.twin.heartbeat
        self.silent_s: float | None = None
        self.ack = self.ack_before = False
        self.was_trusted = self.lost = self.released = self.asked = False
        self.scan()

    def scan(self) -> None:
        image = self.twin.image()
        self.edge.status.memory[: len(image)] = image
        self.edge.scan(ack=self.ack, grant=True, state=4, now_s=self.now_s)
        # The time-out starts in the first scan that sees nothing new: one scan after the last sign of life.
        moved, self.seen = self.twin.heartbeat != self.seen, self.twin.heartbeat
        self.silent_s = None if moved else self.now_s if self.silent_s is None else self.silent_s
        asks = Stat.ACK_REQUIRED in self.twin.stat
        pressed = self.ack and not self.ack_before and asks
        # Somebody pressed the button, or acknowledged at the edge, which then no longer asks.
        self.released = self.released or pressed or (self.asked and not asks)
        self.asked = self.asked or asks
        self.ack_before = self.ack
        if self.was_trusted and not self.edge.trusted:
            self.lost, self.released, self.asked = True, False, asks
        if self.edge.trusted and not self.was_trusted:
            assert self.released or not self.lost
            self.lost = False
        self.was_trusted = self.edge.trusted

    @rule(beats=st.integers(1, 70_000))
    def beat(self, beats: int) -> None:
        heartbeat = (self.twin.heartbeat + beats - 1) % 65_535 + 1
        if heartbeat != self.twin.heartbeat:
            self.alive = 0 < beats % 65_535 <= 1000 and self.twin.heartbeat != 0
            self.twin.heartbeat = heartbeat
        self.scan()

    @rule()
    def restart(self) -> None:
        self.twin.heartbeat, self.alive = 0, False
        self.scan()

    @rule(passed_s=st.sampled_from((0.02, 0.1, 0.48, 0.52, 3.0)))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s
        self.scan()

    @rule(
        stat=st.sampled_from(
            [ACTIVE, Stat.ONLINE, ACTIVE | Stat.ACK_REQUIRED, ACTIVE | Stat.FAIL_SAFE_ACTIVE]
        )
    )
    def say(self, stat: Stat) -> None:
        self.twin.stat = stat
        self.scan()

    @rule(ack=st.booleans())
    def press(self, ack: bool) -> None:
        self.ack = ack
        self.scan()

    @precondition(lambda self: self.lost)
    @rule()
    def recover(self) -> None:
        self.ack = False
        self.twin.stat = ACTIVE | Stat.ACK_REQUIRED
        for _ in range(3):
            self.beat(1)
        self.ack = True
        self.scan()
        self.twin.stat = ACTIVE
        self.beat(1)
        assert self.edge.trusted

    @invariant()
    def trust_has_its_reasons(self) -> None:
        if self.edge.trusted:
            assert self.alive
            assert self.silent_s is None or self.now_s - self.silent_s < TIMEOUT_S
            assert self.twin.stat == ACTIVE
            assert not self.edge.ack_required


TestEdgeRules = EdgeRules.TestCase
TestEdgeRules.settings = settings(max_examples=40, stateful_step_count=25)


# Verdicts


def test_a_bad_verdict_diverts_its_part_once(trusting: Plant) -> None:
    trusting.run(5.0, edge_alive=True)
    stroke = trusting.program.strokes
    assert stroke

    trusting.judge(NOT_OK, stroke)
    trusting.judge(NOT_OK, stroke)

    assert trusting.program.rejects == 1
    assert struct.unpack_from(">Ih", trusting.program.process.memory, 32) == (1, NOT_OK)


def test_a_bad_verdict_without_trust_diverts_nothing(trusting: Plant) -> None:
    trusting.run(5.0, edge_alive=True)
    trusting.run(1.0)

    trusting.judge(NOT_OK, trusting.program.strokes)

    assert trusting.program.rejects == 0
    assert struct.unpack_from(">h", trusting.program.process.memory, 36) == (0,)


def test_a_verdict_on_a_part_that_is_long_gone_or_never_was_diverts_nothing() -> None:
    plant = Plant(time_factor=20.0)
    plant.run(3.0, edge_alive=True)
    assert plant.program.strokes > 10

    plant.judge(NOT_OK, 1)
    plant.judge(NOT_OK, plant.program.strokes + 5)

    assert plant.program.rejects == 0


# Motion and set-points


def test_the_press_makes_18_strokes_a_minute(plant: Plant) -> None:
    plant.run(60.0)

    assert len(plant.struck) in (18, 19)
    assert [stroke.index for stroke in plant.struck] == list(range(1, len(plant.struck) + 1))


def test_the_time_factor_makes_strokes_come_faster_but_shows_the_speed_of_the_press() -> None:
    plant = Plant(time_factor=10.0)
    plant.run(6.0)

    assert len(plant.struck) in (17, 18, 19)
    assert plant.real(20) == pytest.approx(18.0, rel=0.03)


def test_a_new_speed_is_approached_and_reached(plant: Plant) -> None:
    struct.pack_into(">f", plant.program.setpoints.memory, 0, 60.0)
    plant.run(10.0)
    before = len(plant.struck)
    plant.run(10.0)

    assert len(plant.struck) - before in (9, 10, 11)
    assert plant.real(20) == pytest.approx(60.0, rel=0.03)


@pytest.mark.parametrize(("asked", "got"), [(500.0, 60.0), (0.0, 10.0), (math.inf, 60.0), (math.nan, 18.0)])
def test_a_set_point_is_clamped_and_the_plc_shows_what_holds(plant: Plant, asked: float, got: float) -> None:
    struct.pack_into(">f", plant.program.setpoints.memory, 0, asked)
    plant.scan()

    assert struct.unpack_from(">f", plant.program.setpoints.memory, 0) == (got,)


def test_the_press_stops_at_its_tonnage_limit_and_goes_on_when_it_is_raised(plant: Plant) -> None:
    struct.pack_into(">f", plant.program.setpoints.memory, 4, 500.0)
    plant.run(10.0)

    assert len(plant.struck) == 1
    assert struct.unpack_from(">h", plant.program.process.memory, 4) == (State.ABORTED,)
    assert plant.real(20) == 0.0

    struct.pack_into(">f", plant.program.setpoints.memory, 4, 1_500.0)
    plant.run(10.0)
    assert len(plant.struck) > 1


def test_a_broken_tonnage_sensor_is_reported_and_does_not_stop_the_press(plant: Plant) -> None:
    plant.program.faults = frozenset({Fault.TONNAGE})
    plant.run(10.0)

    assert plant.program.state is State.EXECUTE
    assert plant.flags & 8
    assert plant.real(16) == pytest.approx(2_370.3)

    plant.program.faults = frozenset()
    plant.run(10.0)
    assert not plant.flags & 8
    assert plant.real(16) < 1_000.0


def test_an_open_guard_idles_the_press(plant: Plant) -> None:
    plant.program.guard_closed = False
    plant.run(10.0)

    assert not plant.struck
    assert plant.program.state is State.IDLE
    assert not plant.flags & 4


def test_the_plc_heartbeat_counts_and_never_shows_0_while_it_runs(plant: Plant) -> None:
    beats = []
    for _ in range(100):
        plant.scan()
        beats.append(struct.unpack_from(">H", plant.program.edge.control.memory, 2)[0])

    assert beats[-1] - beats[10] in (17, 18, 19)
    assert all(beats[10:])

"""The soft PLC in one process: the exported block against an edge by hand, areas, traces, requests."""

from __future__ import annotations

import itertools

import pytest

from edge_opcua.config.eai import CONTROL_WORDS, ControlWord, Ctrl, EaiMap, Stat, eai_map, following
from edge_opcua.config.outputs import InterfaceConfig
from edge_opcua.ladder.codesys import function_block
from edge_opcua.ladder.facts import Facts
from edge_opcua.sim.edgeblock import exported_block
from edge_opcua.sim.softplc.areas import Area
from edge_opcua.sim.softplc.errors import StError
from edge_opcua.sim.softplc.plc import SoftPlc, main_around
from tests.sim.edgetwin import ACTIVE, PRESS_INTERFACE, EdgeTwin

SCAN_NS = 20_000_000
TIMEOUT_NS = 500_000_000
MAP = eai_map("verdict", PRESS_INTERFACE, "s7")


def triggered() -> tuple[str, EaiMap]:
    """A block for requests, and its map."""
    interface = InterfaceConfig(mode="triggered", control="hr:200", status="hr:220")
    words = EaiMap("ask", interface, high_first=False)
    facts = Facts(
        output="ask",
        map=words,
        device="plc",
        driver="modbus",
        heartbeat_ms=100,
        plc_timeout_ms=500,
        plc_scan_ms=20.0,
        recover_ms=2000.0,
        result_ms=1200,
    )
    return function_block(facts), words


class Line:
    """A soft PLC with the press' block and an edge, scanned by hand."""

    def __init__(self) -> None:
        text = exported_block().read_text("utf-8")
        block = "FB_EdgeAI_verdict"
        self.plc = SoftPlc(
            [text, main_around(text, block)],
            areas=[Area.parse("Status=DB20"), Area.parse("Control=DB21,ro")],
            watch=["edge.InUse", "edge.AckReq", "edge.Out"],
        )
        self.edge = EdgeTwin(MAP)
        self.now_ns = 10**12
        for name in ("Enable", "Grant"):
            self.plc.main.set(name, value=True)
        self.plc.main.set("Fallback", 5.0)

    def scan(self) -> None:
        self.plc.scan(self.now_ns)
        self.now_ns += SCAN_NS

    def run(self, seconds: float, *, alive: bool = True) -> None:
        """Scan for a while; an edge that lives writes every 100 ms."""
        for number in range(round(seconds * 1e9 / SCAN_NS)):
            if alive and number % 5 == 0:
                self.edge.beat()
                self.write()
            self.scan()

    def write(self) -> None:
        status = next(block for block in self.plc.blocks if block.number == 20)
        status.memory[: 2 * MAP.status_words] = self.edge.image()

    @property
    def ctrl(self) -> Ctrl:
        control = next(block for block in self.plc.blocks if block.number == 21)
        return Ctrl(int.from_bytes(control.memory[:2], "big"))

    def in_use(self) -> bool:
        return bool(self.plc.main.get("edge.InUse"))


@pytest.fixture
def line() -> Line:
    found = Line()
    found.run(1.0)
    found.edge.judge(Verdict=1, Score=2.0, Cycle=7)
    found.run(2.0)
    assert found.in_use()
    return found


def test_the_exported_block_belongs_to_the_map_of_the_press(line: Line) -> None:
    control = line.plc.main.get("Control")

    assert len(control) == CONTROL_WORDS
    assert control[ControlWord.INTERFACE_VERSION] == MAP.version
    assert control[ControlWord.ECHO_EDGE_HEARTBEAT] == line.edge.heartbeat
    assert Ctrl.ENABLE | Ctrl.GRANT_AUTHORITY | Ctrl.IN_USE in line.ctrl


def test_a_silent_edge_loses_the_outputs_within_the_time_out_and_one_scan_and_without_a_jump(
    line: Line,
) -> None:
    reaction = line.plc.reaction
    assert reaction is not None
    assert line.plc.main.get("edge.Out") == 2.0
    reaction.reset()

    line.run(3.0, alive=False)

    assert reaction.falls == 1
    assert reaction.silence_ms is not None
    assert 500.0 <= reaction.silence_ms <= 500.0 + SCAN_NS / 1e6
    # 2 per second in scans of 20 ms: Out walks to its fallback.
    assert 0.0 < reaction.largest_step <= 0.04 + 1e-6
    assert line.plc.main.get("edge.Out") == 5.0
    assert Ctrl.LATCHED in line.ctrl
    changes = [(each.name, each.after) for each in line.plc.trace.changes() if each.name != "edge.Out"]
    assert changes[-2:] == [("edge.InUse", False), ("edge.AckReq", True)]


def test_trust_comes_back_after_an_acknowledge_at_the_plc_only(line: Line) -> None:
    line.run(1.0, alive=False)
    line.edge.stat |= Stat.ACK_REQUIRED
    line.edge.stat &= ~Stat.AUTHORITY_ACTIVE
    line.run(1.0)
    assert not line.in_use()

    line.plc.press("OpAck")
    line.run(0.1)
    assert Ctrl.CLEAR_ERROR in line.ctrl  # held until the edge has seen it
    assert Ctrl.LATCHED not in line.ctrl
    assert not line.in_use()

    line.edge.stat = ACTIVE
    line.run(0.3)
    assert Ctrl.CLEAR_ERROR not in line.ctrl
    assert line.in_use()


def test_a_frame_of_before_the_outage_that_lands_late_is_no_sign_of_life(line: Line) -> None:
    late = line.edge.image()
    line.run(0.2)
    line.run(1.0, alive=False)
    assert not line.in_use()

    status = next(block for block in line.plc.blocks if block.number == 20)
    status.memory[: len(late)] = late
    line.scan()

    assert not line.plc.main.get("edge.CommOk")
    assert not line.in_use()


def test_what_was_judged_before_is_history_and_a_new_result_comes_once(line: Line) -> None:
    seen = []
    line.edge.judge(Verdict=2, Score=9.0, Cycle=8)
    for _ in range(10):
        line.edge.beat()
        line.write()
        line.scan()
        seen.append((line.plc.main.get("edge.NewResult"), line.plc.main.get("edge.Verdict")))

    assert [new for new, _ in seen].count(True) == 1
    assert seen[-1] == (False, 2)


def test_a_program_that_does_what_stops_a_plc_stops_and_says_so() -> None:
    plc = SoftPlc(["PROGRAM Main VAR a, b : INT; END_VAR\na := a / b;\nEND_PROGRAM"])

    plc.scan(0)
    plc.scan(SCAN_NS)

    assert plc.fault == "line 2: division by zero"
    assert plc.scans == 1


# Requests


class Oracle:
    """An edge that answers requests some scans after it has seen them."""

    def __init__(self, plc: SoftPlc, words: EaiMap, *, scans: int) -> None:
        self.twin = EdgeTwin(words)
        self.twin.stat = Stat.ONLINE | Stat.AUTHORITY_ACTIVE | Stat.TRIGGER_READY
        self.seen: list[tuple[int, ...]] = []
        self._plc = plc
        self._scans = scans
        self._left: int | None = None

    def act(self) -> None:
        control = self._plc.main.get("Control")
        ctrl, twin = Ctrl(control[ControlWord.CTRL]), self.twin
        twin.beat()
        if Ctrl.TRIGGER in ctrl and Stat.TRIGGER_ACK not in twin.stat:
            twin.stat |= Stat.TRIGGER_ACK | Stat.BUSY
            twin.stat &= ~Stat.TRIGGER_READY
            self.seen.append(tuple(self._plc.main.get("Payload")))
            self._left = self._scans
        if Ctrl.TRIGGER not in ctrl:
            twin.stat &= ~Stat.TRIGGER_ACK
        if Ctrl.RESULTS_ACK in ctrl:
            twin.stat &= ~Stat.RESULTS_VALID
            if Ctrl.TRIGGER not in ctrl:
                twin.stat |= Stat.TRIGGER_READY
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self._left = None
                twin.sequence = control[ControlWord.TRIGGER_SEQ]
                twin.results = {"Verdict": 1, "Cycle": twin.sequence}
                twin.stat = (twin.stat | Stat.RESULTS_VALID) & ~Stat.BUSY
        self._plc.main.set("Status", twin.words())


def asking(*, scans: int) -> tuple[SoftPlc, Oracle]:
    text, words = triggered()
    plc = SoftPlc(
        [text, main_around(text, "FB_EdgeAI_ask", payload=4)], areas=[Area.parse("Control=hr:200,ro")]
    )
    for name in ("Enable", "Grant"):
        plc.main.set(name, value=True)
    plc.main.set("Payload", [1, -2, 3, -4])
    return plc, Oracle(plc, words, scans=scans)


def test_each_request_has_one_answer_and_the_scans_it_took() -> None:
    plc, oracle = asking(scans=3)
    ticks = itertools.count(10**12, SCAN_NS)
    for _ in range(20):
        oracle.act()
        plc.scan(next(ticks))

    plc.trigger(times=4, pause_scans=6)
    for _ in range(100):
        oracle.act()
        plc.scan(next(ticks))

    assert plc.triggering is not None
    found = plc.triggering.as_dict()
    assert found["left"] == 0
    assert found["errors"] == []
    assert found["scans"] == [3, 3, 3, 3]
    assert found["ms"] == [60.0, 60.0, 60.0, 60.0]
    assert oracle.seen == [(1, -2, 3, -4)] * 4
    assert plc.main.get("edge.ResultSeq") == following(following(following(following(0))))


def test_a_request_without_an_answer_ends_with_error_901() -> None:
    plc, oracle = asking(scans=10_000)
    ticks = itertools.count(10**12, SCAN_NS)
    for _ in range(20):
        oracle.act()
        plc.scan(next(ticks))

    plc.trigger(times=1)
    for _ in range(100):
        oracle.act()
        plc.scan(next(ticks))

    assert plc.triggering is not None
    (answer,) = plc.triggering.answers
    assert answer.error == 901
    assert 1200 <= answer.ns / 1e6 <= 1200 + 3 * 20


@pytest.mark.parametrize(
    ("areas", "says"),
    [
        (["Status=DB20", "Control=DB20.DBB8"], "overlap"),
        (["Nobody=DB20"], "Nobody"),
        (["edge.Out=DB20"], "no array"),
        (["Status=hr:65530"], "behind the last"),
        (["Status=MW4"], "write NAME=DB20"),
    ],
)
def test_an_area_that_does_not_fit_is_refused(areas: list[str], says: str) -> None:
    text = exported_block().read_text("utf-8")

    with pytest.raises(StError, match=says):
        SoftPlc([text, main_around(text, "FB_EdgeAI_verdict")], areas=[Area.parse(each) for each in areas])

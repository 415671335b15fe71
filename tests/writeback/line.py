"""The whole chain around an output, moved by hand: its PLC executes the exported function block itself."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from edge_opcua.config.eai import CONTROL_WORDS, eai_map
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import (
    BAD_NO_COMMUNICATION,
    BAD_TIMEOUT,
    GOOD,
    UNCERTAIN_SUBNORMAL,
    UNCERTAIN_SUBSTITUTE,
    BlockSpec,
    Link,
    Scalar,
    TagSpec,
    Verdict,
)
from edge_opcua.ladder.codesys import function_block
from edge_opcua.ladder.facts import facts_of
from edge_opcua.sim.softplc.library import Library, compile_st
from edge_opcua.sim.softplc.plc import BLOCK, MAIN, main_around
from edge_opcua.testing import ManualClock
from edge_opcua.writeback.build import build_output
from edge_opcua.writeback.output import Output, authority_block
from edge_opcua.writeback.target import Order, Record

SCAN_S = 0.020
RESULT = BlockSpec(
    "wear.result",
    (
        TagSpec("stroke", Scalar.UINT32),
        TagSpec("part_id", Scalar.UINT32),
        TagSpec("score", Scalar.DOUBLE),
        TagSpec("verdict", Scalar.INT32),
        TagSpec("confidence", Scalar.DOUBLE),
        TagSpec("infer_ms", Scalar.DOUBLE),
        TagSpec("fail_safe_active", Scalar.BOOLEAN),
        TagSpec("model_name", Scalar.STRING, 64),
        TagSpec("model_version", Scalar.UINT32),
        TagSpec("reason", Scalar.STRING, 120),
        TagSpec("result_id", Scalar.UINT64),
    ),
    64,
    wakes=1,
)


def configuration(
    *, mode: str = "polled", interface: dict[str, Any] | None = None, **more: Any
) -> EdgeConfig:
    """Return a press with an output over an interface block, or over the tags in ``values``."""
    output: dict[str, Any] = {"name": "verdict", "device": "press", "pipeline": "wear", **more}
    if "values" not in more:
        output["interface"] = {"mode": mode, "control": "DB21", "status": "DB20", **(interface or {})}
    tags = [
        {"name": "speed", "address": "-", "type": Scalar.FLOAT, "group": "slow"},
        {"name": "limit", "address": "-", "type": Scalar.INT16, "group": "slow", "low": 0, "high": 50},
        {"name": "divert", "address": "-", "type": Scalar.BOOLEAN, "group": "slow"},
        {"name": "beat", "address": "-", "type": Scalar.UINT16, "group": "slow"},
        {"name": "latched", "address": "-", "type": Scalar.BOOLEAN, "group": "fast"},
        {"name": "alive", "address": "-", "type": Scalar.UINT16, "group": "fast"},
        {"name": "echo", "address": "-", "type": Scalar.UINT16, "group": "fast"},
        {"name": "grant", "address": "-", "type": Scalar.BOOLEAN, "group": "fast"},
        {"name": "trusts", "address": "-", "type": Scalar.BOOLEAN, "group": "fast"},
        {"name": "ack", "address": "-", "type": Scalar.BOOLEAN, "group": "fast"},
    ]
    stroke = {"name": "stroke", "sequence": "-", "samples": "-", "sample_rate_hz": 10_000, "poll_ms": 20}
    return EdgeConfig.model_validate(
        {
            "version": 1,
            "site": {"name": "plant", "machine": "Press01"},
            "devices": [
                {
                    "name": "press",
                    "driver": "s7",
                    "url": "s7://localhost",
                    "tags": tags,
                    "groups": [{"name": "fast", "period_ms": 20}, {"name": "slow", "period_ms": 100}],
                },
                {"name": "vib", "driver": "modbus", "url": "modbus://localhost", "captures": [stroke]},
            ],
            "pipelines": [{"name": "wear", "model": "wear", "capture": "vib/stroke"}],
            "outputs": [output],
        }
    )


@lru_cache(maxsize=16)
def compiled(text: str, block: str) -> Library:
    """Return a function block in a program; each is compiled once for all tests."""
    return compile_st(text, main_around(text, block))


def exported(config: EdgeConfig) -> Library:
    """Return the function block that is exported for the output."""
    facts = facts_of(config, config.outputs[0])
    return compiled(function_block(facts), facts.block)


def _words(name: str, count: int) -> BlockSpec:
    return BlockSpec(f"press.{name}", (TagSpec(name, Scalar.UINT16, count),), 8)


class Source:
    """The device that the capture comes from."""

    def __init__(self, clock: ManualClock) -> None:
        self.refreshed_ns = clock.monotonic_ns()


class Press:
    """The device that is written to: a PLC, its memory, and the link to it.

    Attributes:
        fails: What becomes of writes: nothing, lost, or ``late`` (they land when the link is back).
    """

    def __init__(self, line: Line, library: Library | None) -> None:
        self._line = line
        self.link_up = True
        self.why_no_writes = ""
        self.refreshed_ns = line.clock.monotonic_ns()
        self.main = None if library is None else library.instance(MAIN)
        self.fails = ""
        self.late: list[bytes] = []
        self.sent: list[bytes] = []
        self.writes: list[tuple[str, Any, Order]] = []
        self.held: dict[str, Any] = {}
        self.answers: dict[str, WriteOutcome] = {}
        self.landed: Counter[str] = Counter()
        self.polled: list[str] = []
        self.heard: dict[str, list[Callable[[], None]]] = {}
        self.status = b"\0\0" * line.status_words

    async def write(self, tag: str, value: Any, order: Order, *, timeout_s: float) -> WriteOutcome:
        assert 0 < timeout_s <= 1.0
        outcome = self._outcome()
        if outcome.status == GOOD:
            self.writes.append((tag, value, order))
            outcome = self.answers.get(tag, outcome)
            if outcome.status == GOOD:
                self.held[tag] = value
        return outcome

    async def write_bytes(
        self, area: str, offset: int, payload: bytes, *, timeout_s: float = 1.0
    ) -> WriteOutcome:
        assert (area, offset) == ("DB20", 0)
        assert 0 < timeout_s <= 1.0
        outcome = self._outcome()
        if outcome.status == GOOD:
            self.status = payload
            self.sent.append(payload)
        elif self.fails == "late":
            self.late.append(payload)
        return outcome

    def _outcome(self) -> WriteOutcome:
        if not self.link_up:
            return WriteOutcome(BAD_NO_COMMUNICATION, "no link")
        if self.fails:
            return WriteOutcome(BAD_TIMEOUT, "no answer")
        return WriteOutcome()

    async def poll_now(self, group: str, *, timeout_s: float = 5.0) -> WriteOutcome:
        self.polled.append(group)
        if not self.link_up or self.fails:
            return WriteOutcome(BAD_TIMEOUT, "no answer")
        if group == "verdict.control":
            self._line.read_plc()
            return WriteOutcome()
        self._line.publish_words("press.verdict.status", self.status)
        return WriteOutcome()

    def landed_late(self, tag: str) -> int:
        return self.landed[tag]

    def listen(self, group: str, call: Callable[[], None]) -> Callable[[], None]:
        calls = self.heard.setdefault(group, [])
        calls.append(call)
        return lambda: calls.remove(call)

    def land(self) -> None:
        """Let what had timed out take effect now."""
        for payload in self.late:
            self.status = payload
        self.late.clear()

    def scan(self, now_ns: int) -> None:
        """Execute the PLC's program once, over what the edge wrote."""
        if self.main is not None:
            words = struct.unpack(f">{len(self.status) // 2}H", self.status)
            self.main.set("Status", list(words))
            self.main.scan_at(now_ns)

    def get(self, name: str) -> Any:
        """Return a variable of the function block."""
        assert self.main is not None
        return self.main.get(f"{BLOCK}.{name}")

    def set(self, **inputs: bool) -> None:
        """Set inputs of the function block."""
        assert self.main is not None
        for name, value in inputs.items():
            self.main.set(name, value=value)


class Line:
    """The chain: a source, a lane, an output, a PLC.

    Attributes:
        lane_lives: Whether the lane shows life.
        reads: Whether the PLC is read.
        scans: Whether the PLC's program runs.
        source_lives: Whether the source is read.
    """

    def __init__(self, config: EdgeConfig | None = None, *, press: type[Press] = Press) -> None:
        self.config = config or configuration()
        self.output_config = self.config.outputs[-1]
        interface = self.output_config.interface
        self.status_words = 0
        library = None
        if interface is not None:
            self.status_words = eai_map("verdict", interface, "s7").status_words
            library = exported(self.config)
        self.clock = ManualClock()
        self.lane_lives = self.reads = self.scans = self.source_lives = True
        self.number = 0
        self.words = b"\0\0" * CONTROL_WORDS
        self.records: list[Record] = []
        self.commands: list[tuple[str, int]] = []
        self.command_works = True
        self.tags: dict[str, Any] = {"grant": True, "latched": False, "trusts": False, "alive": 0, "echo": 0}
        device = self.config.devices[0]
        specs = [
            BlockSpec(
                "press.verdict.control", (TagSpec("verdict.control", Scalar.UINT16, CONTROL_WORDS),), 8
            ),
            BlockSpec(
                "press.verdict.status",
                (TagSpec("verdict.status", Scalar.UINT16, max(1, self.status_words)),),
                8,
            ),
            BlockSpec("press.fast", tuple(tag.spec for tag in device.tags_of("fast")), 8),
            BlockSpec("press.slow", tuple(tag.spec for tag in device.tags_of("slow")), 8),
            BlockSpec("vib.stroke", (TagSpec("sequence", Scalar.UINT32),), 8),
            replace(RESULT, wakes=len(self.config.outputs)),
            authority_block(self.output_config),
        ]
        self.bus = Bus.create(specs, clock=self.clock)
        self.writers = {spec.name: self.bus.writer(spec.name) for spec in specs[:-1]}
        self.shown = self.bus.reader("verdict.authority")
        self.source = Source(self.clock)
        self.plc = press(self, library)
        if self.plc.main is not None:
            self.plc.set(Enable=True, Grant=True)
        self.capture()
        self.restart()

    def restart(self) -> None:
        """Let the edge start anew, as after a kill."""
        self.output: Output = build_output(
            self.config,
            self.output_config,
            (self.plc, self.source),
            self.bus,
            self.clock,
            audit=self.records.append,
            run_command=self._run_command,
        )

    async def _run_command(self, name: str, argument: int) -> bool:
        self.commands.append((name, argument))
        return self.command_works

    def close(self) -> None:
        self.bus.close()

    # --- what the world does -------------------------------------------------------------------------

    def capture(self, link: Link = Link.UP) -> None:
        writer = self.writers["vib.stroke"]
        writer.batch.status[:] = GOOD
        writer.publish(link=link)

    def judge(
        self,
        verdict: int = Verdict.OK,
        *,
        stroke: int | None = None,
        status: int = GOOD,
        late: bool = False,
        score: float = 0.5,
        reason: str = "",
        link: Link = Link.UP,
        score_status: int | None = None,
    ) -> None:
        """Let the lane publish a result."""
        self.number += 1
        writer = self.writers["wear.result"]
        batch = writer.batch
        values = {
            "stroke": 100 + self.number if stroke is None else stroke,
            "part_id": 7,
            "score": score,
            "verdict": int(verdict),
            "confidence": 0.9,
            "infer_ms": 1.2,
            "fail_safe_active": late,
            "model_name": "wear",
            "model_version": 3,
            "reason": reason,
            "result_id": self.number,
        }
        for name, value in values.items():
            batch.set(batch.row(name), value)
        batch.status[:] = GOOD
        for name in ("verdict", "score", "confidence"):
            batch.status[batch.row(name)] = status
        if late:
            batch.status[batch.row("verdict")] = UNCERTAIN_SUBSTITUTE
        if score_status is not None:
            batch.status[batch.row("score")] = score_status
        writer.publish(link=link)

    def judge_late(self) -> None:
        self.judge(Verdict.NOT_DECIDABLE, status=BAD_TIMEOUT, late=True)

    def judge_degraded(self) -> None:
        self.judge(status=UNCERTAIN_SUBNORMAL)

    def publish_words(self, block: str, payload: bytes) -> None:
        writer = self.writers[block]
        writer.batch.set(0, list(struct.unpack(f">{len(payload) // 2}H", payload)))
        writer.batch.status[:] = GOOD
        writer.publish()

    def read_plc(self) -> None:
        """Read the PLC as its device would."""
        if not self.plc.link_up or not self.reads:
            return
        if self.plc.main is not None:
            words = self.plc.main.get("Control")
            self.words = struct.pack(f">{CONTROL_WORDS}H", *words)
        self.publish_words("press.verdict.control", self.words)
        for block in ("press.fast", "press.slow"):
            writer = self.writers[block]
            for row, tag in enumerate(writer.batch.layout.spec.tags):
                writer.batch.set(row, self.plc.held.get(tag.name, self.tags.get(tag.name, 0)))
            writer.batch.status[:] = GOOD
            writer.publish()
        self.plc.refreshed_ns = self.clock.monotonic_ns()
        for call in self.plc.heard.get("verdict.control", []):
            call()

    # --- time ----------------------------------------------------------------------------------------

    async def step(self) -> None:
        """Let one scan of the PLC pass, and everything of ours."""
        self.clock.step(SCAN_S)
        if self.lane_lives:
            self.writers["wear.result"].beat()
        if self.source_lives:
            self.source.refreshed_ns = self.clock.monotonic_ns()
        if self.scans:
            self.plc.scan(self.clock.monotonic_ns())
        self.read_plc()
        await self.decide()

    async def decide(self) -> None:
        self.output.step()
        await self.output.send()

    async def run(self, duration_s: float, *, each: Callable[[], None] | None = None) -> None:
        for _ in range(max(1, round(duration_s / SCAN_S))):
            await self.step()
            if each is not None:
                each()

    async def until(self, state: str, *, within_s: float = 30.0) -> None:
        for _ in range(round(within_s / SCAN_S)):
            if self.state == state:
                return
            await self.step()
        raise AssertionError(f"{self.state} ({self.reason}), not {state}")

    @property
    def state(self) -> str:
        return self.output.state.name

    @property
    def reason(self) -> str:
        return str(self.authority()["reason"])

    def authority(self) -> dict[str, Any]:
        batch = self.shown.latest()
        assert batch is not None
        return {tag.name: batch.value(row) for row, tag in enumerate(batch.layout.spec.tags)}

    def stat(self) -> tuple[int, ...]:
        """Return the status words that the PLC holds."""
        return struct.unpack(f">{len(self.plc.status) // 2}H", self.plc.status)

"""A plant for the tests: a bus whose writers the test holds, the true server on it, and a true client."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import BlockWriter, Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.messages import Reply
from edge_opcua.core.values import GOOD, BlockSpec, Policy, Scalar, TagSpec, Verdict
from edge_opcua.inference.blocks import shadow_block, watch_block
from edge_opcua.inference.watch.latency import BOUNDS_US
from edge_opcua.opcua.modelmethods import ModelRequest
from edge_opcua.opcua.models import ModelInfo
from edge_opcua.opcua.nodesets import NodeSet, read_nodesets
from edge_opcua.opcua.outputmethods import OutputAct
from edge_opcua.opcua.seam import ServerSecurity
from edge_opcua.opcua.server import PlantServer
from edge_opcua.opcua.standard.audit import Journal, nowhere
from edge_opcua.opcua.writes import ClientWrite
from edge_opcua.security.pki import Pki, open_pki
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import TrustList
from edge_opcua.security.users import UserStore
from edge_opcua.writeback.output import authority_block
from tests.security.certificates import Identity, make

MACHINE = "Press01"
CLIENT_URI = "urn:tests:client"
FEATURES = ("rms", "crest", "band_200_400")
SHA_A, SHA_B = "a" * 64, "b" * 64
MODELS = (
    ModelInfo(
        "press-anomaly",
        1,
        SHA_A,
        "Active",
        FEATURES,
        {"false_alarms_per_week": 0.5, "samples": 400},
        pipelines=("press-anomaly",),
    ),
    ModelInfo(
        "press-anomaly",
        2,
        SHA_B,
        "Available",
        FEATURES,
        {"note": "retrained"},
        trained_ns=1_780_000_000_000_000_000,
        max_age_days=90.0,
        when_old="degrade",
        precision="int8",
        provenance={"author": "Ada", "rows": 400},
    ),
)


# On the bus's clock, which a test skips ahead: a loaded machine is neither stale nor lost.
STALE_S, LOST_S, HOLD_S = 20.0, 40.0, 60.0
PATIENT = Policy(writer_lost_s=LOST_S)


class SkippingClock(SystemClock):
    """The machine's clock, and what a test skips of it."""

    def __init__(self) -> None:
        self._skipped_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self._skipped_s

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + round(self._skipped_s * 1e9)

    def skip(self, duration_s: float) -> None:
        """Let time pass for whoever reads this clock."""
        self._skipped_s += duration_s


def tag(name: str, kind: Scalar, address: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "address": address, "type": kind, "group": "fast", **more}


TAGS: list[dict[str, Any]] = [
    tag("die_temp", Scalar.FLOAT, "DB10.DBD24:REAL", unit="°C", low=0, high=120, description="Die"),
    tag("tonnage", Scalar.FLOAT, "DB10.DBD16:REAL", unit="kN", low=0, high=2000),
    tag("speed", Scalar.FLOAT, "DB10.DBD20:REAL", unit="1/min", low=0, high=70, substitute=0.0),
    tag("guard_closed", Scalar.BOOLEAN, "DB10.DBX10.2:BOOL", substitute=False),
    tag("stroke_count", Scalar.UINT32, "DB10.DBD0:UDINT"),
    tag("recipe", Scalar.STRING, "DB10.DBB38:STRING[16]", length=16),
    tag("profile", Scalar.INT16, "DB10.DBW60:INT[3]", length=3, unit="furlong"),
    tag("total", Scalar.UINT64, "DB10.DBD80:ULINT", unit="pcs"),
    tag("sp_speed", Scalar.FLOAT, "DB11.DBD0:REAL", unit="1/min", low=10, high=60, access="rw"),
    tag("sp_recipe", Scalar.STRING, "DB11.DBB10:STRING[8]", length=8, access="rw"),
    tag("ack", Scalar.BOOLEAN, "DB11.DBX8.0:BOOL", access="rw"),
]


INTERFACE = {"control": "DB21", "status": "DB20"}


def output(name: str, **more: Any) -> dict[str, Any]:
    """Return an output of the press."""
    return {"name": name, "device": "press", "pipeline": "press-anomaly", **more}


def configuration(**changes: Any) -> EdgeConfig:
    raw: dict[str, Any] = {
        "version": 1,
        "site": {
            "name": "plant-1",
            "machine": MACHINE,
            "manufacturer": "Example Presses",
            "model": "SP-80",
            "serial_number": "17",
            "location": "Hall 2",
        },
        "opcua": {"listen": "127.0.0.1:0", "publish_ms": 10},
        "devices": [
            {
                "name": "press",
                "driver": "s7",
                "url": "s7://operator:secret@192.168.0.10?rack=0&slot=1",
                "tags": TAGS,
                "groups": [{"name": "fast", "period_ms": 100}],
            },
            {
                "name": "vib",
                "driver": "modbus",
                "url": "modbus://192.168.0.20:502/1",
                "captures": [
                    {
                        "name": "stroke",
                        "sequence": "1/hr:0:UINT",
                        "samples": "1/hr:100:INT[2000]",
                        "sample_rate_hz": 10000,
                        "sample_count": 2000,
                        "unit": "m/s²",
                        "low": -300,
                        "high": 300,
                        "description": "Shock of one stroke",
                    }
                ],
            },
        ],
        "pipelines": [{"name": "press-anomaly", "model": "press-anomaly", "capture": "vib/stroke"}],
        "outputs": [output("verdict", interface=INTERFACE)],
    }
    raw.update(changes)
    return EdgeConfig.model_validate(raw)


def result_block(name: str, *, depth: int = 64) -> BlockSpec:
    text = [("model_name", 64), ("model_sha256", 64), ("reason", 120), ("label", 64)]
    floats = ["acquire_ms", "queue_ms", "infer_ms", "total_ms", "input_age_ms", "score", "confidence"]
    return BlockSpec(
        name,
        (
            TagSpec("stroke", Scalar.UINT32),
            TagSpec("part_id", Scalar.UINT32),
            TagSpec("verdict", Scalar.INT32, substitute=int(Verdict.NOT_DECIDABLE)),
            *(TagSpec(each, Scalar.DOUBLE) for each in floats),
            *(TagSpec(each, Scalar.FLOAT, 8) for each in ("contributions", "features", "expected")),
            TagSpec("captured_ns", Scalar.INT64),
            TagSpec("fail_safe_active", Scalar.BOOLEAN, substitute=True),
            TagSpec("model_version", Scalar.UINT32),
            TagSpec("result_id", Scalar.UINT64),
            *(TagSpec(each, Scalar.STRING, size) for each, size in text),
        ),
        depth,
        Policy(hold_s=HOLD_S, writer_lost_s=LOST_S),
    )


def link_block(name: str) -> BlockSpec:
    counters = [TagSpec(each, Scalar.UINT64) for each in ("requests", "errors", "reconnects")]
    return BlockSpec(
        name,
        (
            TagSpec("state", Scalar.INT32),
            TagSpec("state_text", Scalar.STRING, 24),
            *counters,
            TagSpec("rtt_ms", Scalar.DOUBLE),
            TagSpec("last_error", Scalar.STRING, 200),
            TagSpec("last_good_ns", Scalar.INT64),
            TagSpec("values_good", Scalar.UINT32),
            TagSpec("values_bad", Scalar.UINT32),
        ),
        8,
        PATIENT,
    )


def blocks(config: EdgeConfig) -> list[BlockSpec]:
    """The blocks as the other processes declare them; their times pass only where a test lets them."""
    policy = Policy(STALE_S, HOLD_S, LOST_S)
    press = config.device("press")
    found = [
        BlockSpec("press.fast", tuple(each.spec for each in press.tags_of("fast")), 16, policy),
        link_block("press.link"),
        link_block("vib.link"),
        BlockSpec(
            "vib.stroke",
            (
                TagSpec("sequence", Scalar.UINT32),
                TagSpec("ready_ns", Scalar.INT64),
                TagSpec("sample_rate_hz", Scalar.DOUBLE),
                TagSpec("waveform", Scalar.FLOAT, 2000),
            ),
            8,
            PATIENT,
        ),
        BlockSpec(
            "records.health",
            (
                TagSpec("spooled", Scalar.UINT64),
                TagSpec("written", Scalar.UINT64),
                TagSpec("lost", Scalar.UINT64),
                TagSpec("fault", Scalar.STRING, 120),
            ),
            8,
            PATIENT,
        ),
    ]
    found += [dataclasses.replace(authority_block(each), depth=8, policy=PATIENT) for each in config.outputs]
    for pipeline in config.pipelines:
        lane = [TagSpec(each, Scalar.UINT64) for each in ("processed", "missed", "late")]
        times = [TagSpec(each, Scalar.DOUBLE) for each in ("p50_ms", "p99_ms")]
        found.append(result_block(pipeline.result_block))
        rows = (TagSpec("state", Scalar.STRING, 24), *lane, *times)
        found.append(BlockSpec(pipeline.lane_block, rows, 8, PATIENT))
        found += [dataclasses.replace(watch_block(pipeline), policy=PATIENT), shadow_block(pipeline)]
    return found


@dataclasses.dataclass
class Recorded:
    """What the server asked for, and what it is told."""

    writes: list[tuple[str, Any, str]] = dataclasses.field(default_factory=list)
    written: list[ClientWrite] = dataclasses.field(default_factory=list)
    acts: list[OutputAct] = dataclasses.field(default_factory=list)
    gone: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    loads: list[tuple[str, int, str, str]] = dataclasses.field(default_factory=list)
    models: list[tuple[str, dict[str, Any]]] = dataclasses.field(default_factory=list)
    polls: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    write_reply: Reply = dataclasses.field(default_factory=Reply)
    load_reply: Reply = dataclasses.field(default_factory=lambda: Reply(body={"job": "job-1"}))
    answer_reply: Reply = dataclasses.field(default_factory=Reply)
    poll_reply: Reply = dataclasses.field(default_factory=Reply)
    act_reply: Reply = dataclasses.field(default_factory=Reply)
    delay_s: float = 0.0

    async def write(self, write: ClientWrite) -> Reply:
        self.writes.append((write.tag, write.value, write.user))
        self.written.append(write)
        await asyncio.sleep(self.delay_s)
        return self.write_reply

    async def act(self, act: OutputAct) -> Reply:
        self.acts.append(act)
        return self.act_reply

    def writer_gone(self, output: str, user: str, why: str) -> None:
        self.gone.append((output, user, why))

    async def change_model(self, request: ModelRequest) -> Reply:
        body = dict(request.body)
        self.models.append((request.kind, body))
        if request.kind == "answer_verdict":
            return self.answer_reply
        if request.kind == "load_model":
            self.loads.append((body["name"], body["version"], body["sha256"], body["user"]))
        return self.load_reply

    async def poll(self, device: str, group: str, user: str) -> Reply:
        self.polls.append((device, group, user))
        return self.poll_reply


@dataclasses.dataclass(frozen=True)
class Ground:
    """What a server finds at its start; made by blocking calls, so before the loop runs."""

    root: Path
    pki: Pki
    identity: Identity
    trust: TrustList
    nodesets: tuple[NodeSet, ...]


@dataclasses.dataclass
class Plant:
    """A running server and the hands on its bus."""

    config: EdgeConfig
    bus: Bus
    server: PlantServer
    asked: Recorded
    ground: Ground
    clock: SkippingClock = dataclasses.field(default_factory=SkippingClock)
    writers: dict[str, BlockWriter] = dataclasses.field(default_factory=dict)

    def writer(self, block: str) -> BlockWriter:
        if block not in self.writers:
            self.writers[block] = self.bus.writer(block)
        return self.writers[block]

    def stamp(self, block: str) -> tuple[int, int]:
        """Mark every row of a block as read now; returns its source and server time."""
        batch = self.writer(block).batch
        now_ns = self.clock.utc_ns()
        batch.status[:] = GOOD
        batch.source_ns[:] = now_ns - 5_000_000
        batch.server_ns[:] = now_ns
        return now_ns - 5_000_000, now_ns

    def press(self, **values: Any) -> None:
        """Publish the press's tags; those not named are 0."""
        self.stamp("press.fast")
        batch = self.writer("press.fast").batch
        for name, value in values.items():
            batch.set(batch.row(name), value)
        self.writer("press.fast").publish()

    def link(self, device: str, state: str, *, error: str = "", bad: int = 0) -> None:
        block = f"{device}.link"
        self.stamp(block)
        batch = self.writer(block).batch
        states = ("DISABLED", "CONNECTING", "ONLINE", "SUSPECT", "OFFLINE", "DEMOTED", "RECOVERING")
        for name, value in {
            "state": states.index(state),
            "state_text": state,
            "requests": 10,
            "last_error": error,
            "last_good_ns": self.clock.utc_ns(),
            "values_bad": bad,
            "rtt_ms": 1.5,
        }.items():
            batch.set(batch.row(name), value)
        self.writer(block).publish()

    def result(self, stroke: int, verdict: Verdict = Verdict.OK, **changes: Any) -> None:
        """Publish a result as a lane does."""
        block = self.config.pipelines[0].result_block
        source_ns, _ = self.stamp(block)
        batch = self.writer(block).batch
        values: dict[str, Any] = {
            "stroke": stroke,
            "part_id": 1000 + stroke,
            "score": 0.25,
            "verdict": int(verdict),
            "confidence": 0.75,
            "contributions": np.array([0.5, 0.25, 0.25], np.float32),
            "features": np.array([1.0, 2.0, 3.0], np.float32),
            "expected": np.array([1.5, 2.5, 3.5], np.float32),
            "acquire_ms": 12.5,
            "queue_ms": 0.5,
            "infer_ms": 0.25,
            "total_ms": 13.25,
            "input_age_ms": 40.0,
            "captured_ns": source_ns,
            "fail_safe_active": False,
            "model_name": "press-anomaly",
            "model_version": 1,
            "model_sha256": SHA_A,
            "reason": "",
            "label": "",
            "result_id": 7000 + stroke,
            **changes,
        }
        for name, value in values.items():
            batch.set(batch.row(name), value)
        self.writer(block).publish()

    def authority(self, output: str, **values: Any) -> None:
        """Publish what an output says of itself; what is not named stays as it was."""
        block = f"{output}.authority"
        self.stamp(block)
        batch = self.writer(block).batch
        for name, value in values.items():
            batch.set(batch.row(name), value)
        self.writer(block).publish()

    async def client(self) -> Client:
        """Return a trusted client that is not connected yet."""
        client = Client(self.server.url, timeout=5, watchdog_intervall=5)  # server and client share a loop
        client.application_uri = CLIENT_URI
        root = self.ground.root
        await client.set_security(
            SecurityPolicyBasic256Sha256,
            certificate=str(root / "client.der"),
            private_key=str(root / "client.pem"),
            server_certificate=str(root / "pki" / "own" / "cert.der"),
        )
        return client


@cache
def nodesets() -> tuple[NodeSet, ...]:
    """Our nodesets, read once."""
    return read_nodesets()


def prepare(root: Path) -> Ground:
    """Make a server's certificate, and a client's that it trusts."""
    pki = open_pki(root / "pki", names=("127.0.0.1",), key_bits=2048)
    identity = make("test client", uri=CLIENT_URI)
    (root / "client.der").write_bytes(identity.der)
    (root / "client.crt").write_bytes(identity.pem)
    (root / "client.pem").write_bytes(identity.key_pem)
    trust = TrustList(root / "pki")
    trust.add(identity.der, roles=frozenset({Role.OPERATOR, Role.ENGINEER}))
    return Ground(root, pki, identity, trust, nodesets())


@asynccontextmanager
async def running(
    ground: Ground,
    config: EdgeConfig | None = None,
    *,
    journal: Journal = nowhere,
    users: UserStore | None = None,
) -> AsyncIterator[Plant]:
    """Run a plant; the endpoint is open inside."""
    config = config or configuration()
    clock = SkippingClock()
    bus = Bus.create(blocks(config), clock=clock)
    asked = Recorded()
    server = PlantServer(
        config,
        bus,
        security=ServerSecurity(ground.pki, ground.trust, config.opcua.secure_policies, users=users),
        nodesets=ground.nodesets,
        write=asked.write,
        act=asked.act,
        writer_gone=asked.writer_gone,
        change_model=asked.change_model,
        bounds_us=BOUNDS_US,
        poll=asked.poll,
        models=MODELS,
        journal=journal,
        clock=clock,
    )
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run(stopping), name="plant")
        try:
            async with asyncio.timeout(15):
                await server.ready.wait()
            yield Plant(config, bus, server, asked, ground, clock)
        finally:
            stopping.set()
    bus.close()


async def until(condition: Any, *, within_s: float = 30.0) -> None:
    """Wait until an awaitable condition holds; long enough for a machine that has other things to do."""
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.01)


class Watcher:
    """Collects what a subscription delivers."""

    def __init__(self) -> None:
        self.values: list[tuple[str, ua.DataValue]] = []
        self.events: list[Any] = []

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        self.values.append((str(node.nodeid.Identifier), data.monitored_item.Value))

    def event_notification(self, event: Any) -> None:
        self.events.append(event)

    def status_change_notification(self, status: Any) -> None:
        pass

    def of(self, name: str) -> list[ua.DataValue]:
        return [value for each, value in self.values if each == name]

    async def wait(self, count: int, *, within_s: float = 30.0) -> None:
        async def enough() -> bool:
            return len(self.events) >= count

        await until(enough, within_s=within_s)

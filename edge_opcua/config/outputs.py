"""What is written back to a PLC: the interface block it shares with us, or single tags, and who may rule."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, StringConstraints

from edge_opcua.config.fields import STRICT, Finite, Milliseconds, Name, Reference, Seconds

Mode = Literal["polled", "triggered", "setpoint", "veto"]
Source = Literal["verdict", "score", "confidence", "cycle", "part_id"]
Strategy = Literal["preset", "hold_last", "low", "high", "relinquish"]
WriteClass = Literal["setpoint", "command", "bit"]
Writer = Literal["operator", "program", "model"]
Command = Literal["load_model"]

PlcName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*$", max_length=24)]
AreaAddress = Annotated[str, StringConstraints(min_length=2, max_length=120)]


MODEL_ALONE: Final[frozenset[Writer]] = frozenset({"model"})


class ResultConfig(BaseModel):
    """One value of a result that the PLC gets."""

    model_config = STRICT

    name: PlcName = Field(description="Name in the PLC's function block.")
    source: Source = Field(description="What of a result it is.")
    type: Literal["DINT", "REAL"] = Field(description="Type in the PLC; two words.")


RESULTS: Final = (
    ResultConfig(name="Verdict", source="verdict", type="DINT"),
    ResultConfig(name="Score", source="score", type="REAL"),
    ResultConfig(name="Cycle", source="cycle", type="DINT"),
)


class InterfaceConfig(BaseModel):
    """The edge-AI interface block (EAI): an area each way, and a function block that goes with it."""

    model_config = STRICT

    mode: Mode = Field(
        default="polled",
        description="`polled`: every result is passed on; `triggered`: the PLC asks, one result for each "
        "trigger; `setpoint`: a value that the PLC clamps and ramps; `veto`: the edge may only restrict.",
    )
    control: AreaAddress = Field(
        description="First word of what the PLC writes: `DB21` (S7), `hr:200` (Modbus), an INT array such as "
        "`EdgeAI_Control` (EtherNet/IP)."
    )
    status: AreaAddress = Field(
        description="First word of what we write, as `control`; nothing else may write it."
    )
    poll_ms: Milliseconds = Field(default=20, description="Period at which `control` is read.")
    ack_timeout_ms: Milliseconds = Field(
        default=1000, description="Time the PLC has to take a result before we take it back and go on."
    )
    results: tuple[ResultConfig, ...] = Field(
        default=RESULTS, min_length=1, max_length=40, description="Values of a result, in order."
    )
    value: PlcName = Field(
        default="Score", description="The result that the function block gives out clamped and ramped."
    )
    low: Finite = Field(default=-1e9, description="Lower limit of `value` in the PLC.")
    high: Finite = Field(default=1e9, description="Upper limit of `value` in the PLC.")
    rate_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1e9,
        description="Fastest change of `value` in the PLC, per second; to its fallback too.",
    )
    word_order: Literal["high_first", "low_first"] | None = Field(
        default=None,
        description="Order of the two words of a value; high word first for S7, low word first else, as the "
        "memory of those PLCs has it.",
    )
    commands: tuple[Command, ...] = Field(
        default=(), description="Commands that the PLC may give: `load_model` (1, argument: the version)."
    )


class OutputValueConfig(BaseModel):
    """One tag that an output writes."""

    model_config = STRICT

    tag: Reference = Field(description="Tag that is written, `<device>/<tag>`; access rw.")
    source: Source = Field(description="What of a result is written.")
    kind: WriteClass = Field(
        default="setpoint",
        description="`setpoint`: the latest wins; `command`: each once and in order; `bit`: never coalesced.",
    )
    strategy: Strategy = Field(
        default="preset",
        description="What is written when the output falls safe: `preset`, `hold_last` (nothing), the `low` "
        "or `high` end of the range, or `relinquish` (nothing: authority is given back).",
    )
    preset: Finite | None = Field(default=None, description="Fail-safe value of strategy `preset`.")
    low: Finite | None = Field(default=None, description="Smallest value; the tag's own if not set.")
    high: Finite | None = Field(default=None, description="Largest value; the tag's own if not set.")
    rate_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Fastest change, per second; also after authority came back (bumpless)."
    )
    deadband: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0, description="Smaller changes are not written."
    )
    min_interval_ms: Annotated[int, Field(ge=0, le=3_600_000)] = Field(
        default=0, description="Shortest time between two writes."
    )
    ttl_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Age at which a value that nobody renews is a fault."
    )
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0, description="Difference at which the value read back still counts as written."
    )
    writers: tuple[Writer, ...] = Field(
        default=("model",),
        min_length=1,
        description="Who may write this tag, the first before the others: `operator` (a person), `program` "
        "(an application without a person), `model`. Each OPC UA writer needs its role as well.",
    )


class OutputConfig(BaseModel):
    """Results written back to a PLC, under an authority that lets the PLC fall safe."""

    model_config = STRICT

    name: Name = Field(description="Name; its state is the block `<name>.authority`.")
    device: Name = Field(description="Device that gets the results.")
    pipeline: Name = Field(description="Pipeline whose results are written.")
    interface: InterfaceConfig | None = Field(
        default=None, description="The interface block that PLC and edge share; or `values`."
    )
    values: tuple[OutputValueConfig, ...] = Field(
        default=(), description="Single tags of a device that has no program for us; or `interface`."
    )
    heartbeat_ms: Annotated[int, Field(ge=10, le=10_000)] = Field(
        default=100, description="Period of the heartbeat; at most a fifth of the PLC's time-out."
    )
    plc_timeout_ms: Annotated[int, Field(ge=50, le=60_000)] = Field(
        default=500, description="Time after which the PLC falls safe without a heartbeat; as set in the PLC."
    )
    plc_scan_ms: Annotated[float, Field(gt=0, le=10_000)] = Field(
        default=20.0,
        description="Cycle time of the PLC's program, for the reaction times of `check`.",
    )
    process_limit_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Longest time from a fault to the fail-safe value that the process tolerates; an output "
        "that may take longer is refused.",
    )
    granted_by: Literal["plc", "operator", "always"] = Field(
        default="always",
        description="Who lets us write: the PLC by a bit, a person by the method GrantAuthority, or whoever "
        "started us.",
    )
    acknowledged_by: Literal["plc", "operator", "either"] = Field(
        default="either",
        description="Who may acknowledge after a fault: the PLC by a bit, or a person.",
    )
    auto_restart: bool = Field(
        default=False,
        description="Whether the output comes back without an acknowledge after faults.",
    )
    recover_hold_s: Seconds = Field(
        default=2.0, description="Time that all faults must be gone before an acknowledge is asked for."
    )
    hold_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=0.0,
        description="Time for which the last value is held (HOLD) before falling safe, for faults that may "
        "pass: an input or a result missing for a moment. 0: fall safe at once.",
    )
    acknowledge: Reference | None = Field(
        default=None, description="Writable BOOL whose rising edge lets the PLC trust the verdict again."
    )
    plc_trusts: Reference | None = Field(
        default=None, description="BOOL by which the PLC says that it uses the verdict."
    )
    ack_required: Reference | None = Field(
        default=None, description="BOOL by which the PLC says that it waits for an acknowledge."
    )
    plc_heartbeat: Reference | None = Field(
        default=None, description="Counter by which the PLC shows that it runs."
    )
    echo_heartbeat: Reference | None = Field(
        default=None, description="Counter in which the PLC gives our heartbeat back."
    )
    heartbeat: Reference | None = Field(
        default=None,
        description="Writable counter that gets our heartbeat, without an interface block.",
    )
    grant: Reference | None = Field(
        default=None,
        description="BOOL by which the PLC grants authority; without it authority is always granted.",
    )

    @property
    def has_heartbeat(self) -> bool:
        """Whether a program in the PLC hears of the end of the writes."""
        return self.interface is not None or self.heartbeat is not None

    @property
    def authority_block(self) -> str:
        """Bus name of the block with the output's authority state."""
        return f"{self.name}.authority"

    @property
    def control_tag(self) -> str:
        """Tag of the device in which the interface's control words are read, an array of UINT."""
        return f"{self.name}.control"

    @property
    def status_tag(self) -> str:
        """Tag of the device in which the interface's status words are read back, an array of UINT."""
        return f"{self.name}.status"

    @property
    def writers(self) -> dict[str, frozenset[Writer]]:
        """Who may write the tags that belong to this output, and nobody else; by public id."""
        owned = {value.tag: frozenset(value.writers) for value in self.values}
        return owned if self.heartbeat is None else owned | {self.heartbeat: MODEL_ALONE}

"""The configuration as data: what every process gets as JSON, with nothing left to look up.

A field marked ``RESOLVED`` is filled by the loader; in a file it is an unknown key.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from edge_opcua.config.fields import (
    NAME_PATTERN,
    RESOLVED,
    STRICT,
    FailSafeVerdict,
    Finite,
    GroupName,
    InputName,
    Milliseconds,
    Name,
    NodeName,
    PermissionName,
    Reference,
    RoleName,
    Seconds,
    SecurityPolicy,
    Text,
    split_address,
)
from edge_opcua.config.lanes import CheaperVersion, InferenceConfig, LaneName, LatePolicy
from edge_opcua.config.modelcare import ChangeConfig, TelemetryConfig, WatchConfig
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.tags import DEFAULT_GROUP, TagName, TagRows
from edge_opcua.config.tags import TagConfig as TagConfig
from edge_opcua.core.values import Policy

VERSION: Final = 1


class SiteConfig(BaseModel):
    """Which machine this is; the names become part of every NodeId and never change again."""

    model_config = STRICT

    name: Name = Field(description="Name of the plant; `urn:<name>:plant` is the namespace of all tags.")
    machine: Name = Field(description="Name of the machine under Objects/Machines, e.g. `Press01`.")
    manufacturer: Text = Field(default="", description="Manufacturer on the machine's name plate.")
    model: Text = Field(default="", description="Model on the machine's name plate.")
    serial_number: Text = Field(default="", description="Serial number on the machine's name plate.")
    product_instance_uri: Text = Field(
        default="", description="World-wide unique URI of this machine; `urn:<name>:<machine>` if left empty."
    )
    location: Text = Field(default="", description="Where the machine stands, for people.")

    @property
    def namespace_uri(self) -> str:
        """URI of the namespace that holds the machine's own nodes."""
        return f"urn:{self.name}:plant"

    @property
    def instance_uri(self) -> str:
        """The machine's ProductInstanceUri, made from the names where none is given."""
        return self.product_instance_uri or f"urn:{self.name}:{self.machine}"


def public_url(url: str) -> str:
    """Return a device's URL without user name and password."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url  # put together again, modbus+rtu:///dev/ttyUSB0 would lose two of its slashes
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class AccessConfig(BaseModel):
    """What a role may do with some nodes, instead of what it may by itself; the last match counts."""

    model_config = STRICT

    nodes: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="Which nodes: a pattern (`*`, `?`, `[…]`) on the string of their NodeIds, "
        "e.g. `Press01.Process.*`."
    )
    role: RoleName = Field(description="For whom.")
    permissions: tuple[PermissionName, ...] = Field(
        description='All the role may do there; `"none"` hides the nodes from it.'
    )

    @field_validator("permissions", mode="before")
    @classmethod
    def _none_is_no_permission(cls, value: Any) -> Any:
        if value == "none":
            return ()
        return tuple(value) if isinstance(value, list) else value  # what a strict check takes for a list


class OpcuaConfig(BaseModel):
    """The OPC UA server: where it listens and how clients may connect."""

    model_config = STRICT

    listen: str = Field(
        default="0.0.0.0:4840", description="Address and port of the endpoint; port 0 takes any free one."
    )
    advertised_urls: tuple[str, ...] = Field(
        default=(),
        description="Endpoint URLs told to clients, where this box has another name for them.",
    )
    security: tuple[SecurityPolicy, ...] = Field(
        default=("Basic256Sha256",),
        min_length=1,
        description='Policies offered, SignAndEncrypt; "None", if listed, lets everyone read (not write).',
    )
    revocation: Literal["if_present", "required"] = Field(
        default="if_present",
        description="Revocation lists of the authorities that vouch for clients: looked at `if_present`, or "
        "`required`: no client of an authority whose list is missing or expired gets in.",
    )
    anonymous: bool = Field(
        default=True,
        description="Whether a trusted client may connect without a user name; the role of its certificate "
        "says what it may do. `false`: everybody has to sign in.",
    )
    access: tuple[AccessConfig, ...] = Field(default=(), description="Exceptions from what the roles may do.")
    publish_ms: Annotated[int, Field(ge=5, le=10_000)] = Field(
        default=20,
        description="Tick at which new values are taken from the bus and handed to subscriptions. Tags are "
        "also taken right before a subscription publishes or a client reads; while nobody waits for "
        "anything else, ticks are 100 ms apart.",
    )
    max_sessions: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=50, description="Sessions that may be open at once."
    )
    shutdown_s: Annotated[float, Field(ge=0, le=10)] = Field(
        default=1.0,
        description="How long clients see the end announced (`ServerStatus`) before their connections close; "
        "nobody connected, no wait.",
    )

    @field_validator("listen")
    @classmethod
    def _listen_is_host_and_port(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("advertised_urls")
    @classmethod
    def _urls_are_opc_tcp(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            try:
                parts = urlsplit(url)
                usable = parts.scheme == "opc.tcp" and bool(parts.hostname) and (parts.port or 1) > 0
            except ValueError:
                usable = False
            if not usable:
                raise PydanticCustomError(
                    "C114", '"{url}" is not an endpoint URL, e.g. "opc.tcp://press-edge:4840"', {"url": url}
                )
        return value

    @property
    def host(self) -> str:
        """Address part of ``listen``."""
        return split_address(self.listen)[0]

    @property
    def port(self) -> int:
        """Port part of ``listen``."""
        return split_address(self.listen)[1]

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """Names under which clients reach this box, apart from those it knows itself."""
        hosts = [urlsplit(url).hostname or "" for url in self.advertised_urls]
        unusable = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
        return tuple(host for host in (*hosts, self.host) if host not in unusable)

    @property
    def secure_policies(self) -> tuple[str, ...]:
        """The offered policies without ``None``."""
        return tuple(policy for policy in self.security if policy != "None")


class ModelsConfig(BaseModel):
    """Where models come from before anything was loaded by a client."""

    model_config = STRICT

    folder: Path | None = Field(
        default=None,
        description="Folder with delivered models, `<name>/<version>/model.onnx`; a version that the state "
        "directory lacks is copied from here at start. `models` beside this file if that exists.",
    )
    windows_mb: Annotated[int, Field(ge=0, le=10_000_000)] = Field(
        default=512,
        description="Room on disk (MB) for what the models judged, with their verdicts; the oldest go "
        "first, those that somebody answered last. 0 keeps nothing.",
    )


class GroupConfig(BaseModel):
    """Tags of one device that are read together; one block on the bus."""

    model_config = STRICT

    name: GroupName = Field(description="Name that the `group` column of the tag table refers to.")
    trigger: TagName | None = Field(
        default=None,
        description="Tag of the same device: the group is polled each time its value changes, besides the "
        "period or instead of it.",
    )
    on_request: bool = Field(
        default=False,
        description="Whether the group needs no period: it is polled when the link comes up and then only "
        "when a client asks for it.",
    )
    period_ms: Annotated[int, Field(ge=0, le=3_600_000)] = Field(
        default=0,
        validate_default=True,
        json_schema_extra={"minimum": 1},
        description="Time from one poll of the group to the next; only with `trigger` or `on_request` it "
        "may be left out: then the group is not polled by time.",
    )
    phase_ms: Annotated[int, Field(ge=0, le=3_600_000)] = Field(
        default=0, description="Delay of the first poll, so that groups of one device do not fall together."
    )

    @field_validator("period_ms")
    @classmethod
    def _period_or_demand(cls, value: int, info: ValidationInfo) -> int:
        if value or info.data.get("trigger") or info.data.get("on_request"):
            return value
        help_text = "or give the group a trigger, or on_request = true"
        raise PydanticCustomError("C103", "0 is out of range 1..3600000", {"help": help_text})

    @property
    def is_added(self) -> bool:
        """Whether an output's interface block added it."""
        return "." in self.name

    @property
    def on_demand(self) -> bool:
        """Whether it is never polled by time."""
        return not self.period_ms


class CaptureConfig(BaseModel):
    """A waveform that a device records by itself and offers when it is complete; one block on the bus."""

    model_config = STRICT

    name: Name = Field(description="Name; pipelines refer to `<device>/<name>`.")
    poll_ms: Milliseconds = Field(
        default=20, description="Period at which `sequence` and `ready` are looked at."
    )
    sequence: str = Field(description="Address of the number that grows with each capture.")
    ready: str | None = Field(
        default=None, description="Address of a BOOL that is true while a capture may be read."
    )
    ready_ns: str | None = Field(
        default=None,
        description="Address of the device's own time of completion, ns UTC; else the time of the read.",
    )
    stroke: str | None = Field(
        default=None, description="Address of the machine cycle this capture belongs to."
    )
    samples: str = Field(description="Address of the samples, an array such as `1/hr:100:INT[2000]`.")
    scale: Finite = Field(default=1.0, description="Engineering value = raw value x scale + offset.")
    offset: Finite = Field(default=0.0, description="See `scale`.")
    sample_rate_hz: float = Field(gt=0, le=10_000_000, description="Samples per second.")
    unit: Text = Field(default="", description="Unit of the engineering value.")
    low: Finite | None = Field(default=None, description="Lower end of the range (EURange).")
    high: Finite | None = Field(default=None, description="Upper end of the range (EURange).")
    description: Text = Field(default="", description="What is measured, for people.")
    sample_count: int = Field(default=0, description="Samples of one capture.", json_schema_extra=RESOLVED)


class WatchdogConfig(BaseModel):
    """The device's own watchdog, by which its outputs fall safe when nobody writes to them any more."""

    model_config = STRICT

    profile: Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)] = Field(
        description="Kind of device: `moxa-iologik-e1200`, `turck-bl` or `wago-750`."
    )
    timeout_ms: Annotated[int, Field(ge=50, le=6_553_500)] = Field(
        description="Time after which the device falls safe; it is triggered four times as often."
    )
    restart: Literal["acknowledge", "automatic"] = Field(
        default="acknowledge",
        description="After it has tripped: `acknowledge` starts it again when an output of the device is "
        "acknowledged, `automatic` with the next connection.",
    )


class DeviceConfig(BaseModel):
    """One PLC or sensor unit, and how its tags are read."""

    model_config = STRICT

    name: Name = Field(description="Name; a tag's public id is `<device>/<tag>`.")
    driver: str = Field(description="Protocol driver, a plugin of the group `edge_opcua.drivers`.")
    url: str = Field(description="Where the device is, e.g. `s7://192.168.0.10?rack=0&slot=1`.")
    tags: TagRows = Field(
        default=TagRows.of(()), description="Tag table (CSV), or a list of them; relative to this file."
    )
    simulate: bool = Field(
        default=False,
        description="Whether the device is simulated: nothing is connected to, values are made up, and "
        "every one of them is marked UncertainSimulatedValue.",
    )
    timeout_ms: Milliseconds = Field(
        default=1000, description="Deadline of one request; a device that takes longer is lost."
    )
    stale_after_s: Seconds | None = Field(
        default=None,
        description="Age at which values not refreshed become Uncertain although the link lives; "
        "three periods of the group, at least 1 s, if not set.",
    )
    hold_s: Seconds = Field(
        default=10.0,
        description="How long the last value is shown as Uncertain after the link is lost; `inf` for ever.",
    )
    reconnect_max_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=10.0, description="Longest pause between two attempts to connect again."
    )
    max_requests_per_s: Annotated[float, Field(gt=0)] = Field(
        default=200.0, description="Load on the device above which `check` warns."
    )
    groups: tuple[GroupConfig, ...] = Field(
        default=(), description=f"Poll groups; without any there is one, `{DEFAULT_GROUP}`, of 1000 ms."
    )
    captures: tuple[CaptureConfig, ...] = Field(default=(), description="Triggered captures.")
    watchdog: WatchdogConfig | None = Field(
        default=None, description="Its own watchdog, armed before anything is written; without: as it is."
    )
    options: dict[str, Any] = Field(default={}, description="Settings that belong to the driver.")
    template: str = Field(default="", description="Template it is made from.", json_schema_extra=RESOLVED)

    def group(self, name: str) -> GroupConfig:
        """Return the poll group of that name.

        Raises:
            KeyError: The device has no such group.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)

    def tags_of(self, group: str) -> TagRows:
        """Return the tags of a poll group, in the order of the table; the rows of its block."""
        return self.tags.where("group", group)

    def block_name(self, part: str) -> str:
        """Return the bus name of a group's or capture's block."""
        return f"{self.name}.{part}"

    @property
    def link_block(self) -> str:
        """Bus name of the block with link state and counters."""
        return f"{self.name}.link"

    def policy(self, group: str) -> Policy:
        """Return when the values of a group stop being trusted; what is read on demand never grows stale."""
        if self.group(group).on_demand:
            return Policy(stale_after_s=math.inf, hold_s=self.hold_s)
        stale_s = self.stale_after_s
        if stale_s is None:
            stale_s = max(1.0, 3 * self.group(group).period_ms / 1000)
        return Policy(stale_after_s=stale_s, hold_s=self.hold_s)

    @property
    def capture_policy(self) -> Policy:
        """A capture never grows stale by itself; after a loss of the link it is held like a tag."""
        return Policy(stale_after_s=math.inf, hold_s=self.hold_s)


class PipelineConfig(BaseModel):
    """A capture, or samples of tags, that become features, go through a model, and come out as a verdict."""

    model_config = STRICT

    name: Name = Field(description="Name; its results are the block `<name>.result`.")
    model: Name = Field(description="Name of the model in the model repository.")
    version: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1,
        description="Version that is active at the first start; `LoadModel` changes it at run time.",
    )
    backend: str = Field(
        default="onnxruntime", description="What runs the model, a plugin of the group `edge_opcua.backends`."
    )
    provider: Literal["cpu", "cuda", "tensorrt", "openvino", "tensorrt_rtx", "remote"] = Field(
        default="cpu",
        description="Where the model runs; the start is refused if it cannot run exactly there.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the backend; its page in the reference lists them."
    )
    lane: LaneName = Field(
        default="realtime",
        description="Class of the lane. `safety`: a process and a real-time priority of its own, the newest "
        "capture wins. `realtime`: by deadline, with admission. `best_effort`: what is left, shed first.",
    )
    group: Name | None = Field(
        default=None,
        description="Pipelines of one group share a process, its models and its workers, and are judged in "
        "batches where that pays; a process of its own if left out.",
    )
    priority: Annotated[int, Field(ge=1, le=9)] = Field(
        default=5,
        description="Who is shed last when not all can be served, 1 the last; deadlines decide before.",
    )
    period_ms: Milliseconds | None = Field(
        default=None,
        description="Shortest time between two captures, for the report on what can be served; the deadline "
        "if left out.",
    )
    late: LatePolicy = Field(
        default="fail_safe",
        description="What a late verdict becomes: `fail_safe` the fail-safe verdict, `hold_last` the last "
        "verdict as Uncertain, `publish_late` itself as Uncertain. A safety lane falls safe.",
    )
    max_batch: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=32, description="Most captures judged in one run of the model; 1 switches batches off."
    )
    cheaper_version: CheaperVersion | None = Field(
        default=None,
        description="Version of the same model that judges while this one is too slow. `auto`: the fastest "
        "that was compressed from the same original, proved to be as good, and is faster than the one that "
        "runs, whichever that is.",
    )
    memory_mb: Annotated[int, Field(ge=16, le=1_000_000)] | None = Field(
        default=None,
        description="Most memory (MB) that the process of the pipeline may use, at least 128; for a group "
        "the sum of its pipelines. What the machine can spare if left out, also at one of the group only.",
    )
    load_s: Annotated[float, Field(gt=0, le=600)] = Field(
        default=30, description="Longest time (s) to load and prove the model; then it is refused."
    )
    capture: Reference | None = Field(
        default=None, description="Capture that triggers the pipeline, `<device>/<capture>`; or `inputs`."
    )
    inputs: dict[InputName, Reference] = Field(
        default={},
        description="Tags whose samples the model is fed with, instead of a capture: a list of "
        '`<device>/<tag>`, each called by its tag\'s name, or a table `name = "<device>/<tag>"`.',
    )
    every_ms: Milliseconds | None = Field(
        default=None, description="With `inputs`: time from one sample of them to the next."
    )
    trigger: Reference | None = Field(
        default=None,
        description="With `inputs`, instead of `every_ms`: tag, `<device>/<tag>`; a sample is taken each "
        "time its value changes.",
    )
    window: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=1, description="With `inputs`: samples of each tag that the model is given at once."
    )
    context: tuple[Reference, ...] = Field(
        default=(), description="Tags the model also looks at, `<device>/<tag>`, in the order of its inputs."
    )
    part_id: Reference | None = Field(
        default=None, description="Tag with the number of the part in the machine, told with each result."
    )
    deadline_ms: Milliseconds = Field(
        default=100,
        description="Time from the capture being read to the verdict; later is the fail-safe verdict.",
    )
    fail_safe_verdict: FailSafeVerdict = Field(
        default="NotDecidable", description="Verdict given out when a result is late or an input is Bad."
    )

    @field_validator("inputs", mode="before")
    @classmethod
    def _inputs_have_names(cls, value: Any) -> Any:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            return value
        named: dict[str, str] = {}
        for reference in value:
            name = reference.rpartition("/")[2]
            if name in named:
                help_text = f'give them names: inputs = {{ {name} = "{named[name]}", other = "{reference}" }}'
                raise PydanticCustomError(
                    "C197",
                    "{first} and {second} would both be called {name}",
                    {"first": named[name], "second": reference, "name": name, "help": help_text},
                )
            named[name] = reference
        return named

    change: ChangeConfig = Field(default=ChangeConfig(), description="How a new version takes over.")
    watch: WatchConfig = Field(default=WatchConfig(), description="What the model is watched for.")
    keep_windows: bool = Field(
        default=True,
        description="Whether what the model judged is kept (`windows_mb` of `[models]`), for `model try`, "
        "`model compare` and retraining.",
    )

    @property
    def source(self) -> str:
        """What its strokes are captures or samples of, for people: the capture, else its own name."""
        return self.capture or self.name

    @property
    def samples_block(self) -> str:
        """Bus name of the block with the samples of its tags."""
        return f"{self.name}.samples"

    @property
    def result_block(self) -> str:
        """Bus name of the block with the results."""
        return f"{self.name}.result"

    @property
    def process(self) -> str:
        """Name of the group of pipelines that share this one's process: its own name if it is alone."""
        return self.group or self.name

    @property
    def lane_block(self) -> str:
        """Bus name of the block with the health of the lane."""
        return f"{self.name}.lane"

    @property
    def shadow_block(self) -> str:
        """Bus name of the block in which a version in shadow says how far it agrees."""
        return f"{self.name}.shadow"

    @property
    def watch_block(self) -> str:
        """Bus name of the block in which the model is watched."""
        return f"{self.name}.watch"


class TemplateConfig(BaseModel):
    """What many machines have in common: tables with `${column}` where a machine's row is put in."""

    model_config = STRICT

    name: Name = Field(description="Name; `[[machines]]` refers to it.")
    devices: tuple[dict[str, Any], ...] = Field(
        default=(), description='Devices of each machine, e.g. `name = "${name}"`, `url = "s7://${host}"`.'
    )
    pipelines: tuple[dict[str, Any], ...] = Field(default=(), description="Pipelines of each machine.")
    outputs: tuple[dict[str, Any], ...] = Field(default=(), description="Outputs of each machine.")


class MachinesConfig(BaseModel):
    """A table of machines that are made from one template."""

    model_config = STRICT

    template: Name = Field(description="Template that each row is put into.")
    table: str = Field(
        description="Table (CSV) of the machines, relative to this file: a column `name`, and one for each "
        "`${column}` of the template and of its tag tables."
    )


class RenameConfig(BaseModel):
    """A rename that clients have to follow, agreed to: without it the start is refused (C191)."""

    model_config = STRICT

    old: NodeName = Field(
        description="What clients know: the string of a NodeId as `check` prints it, e.g. "
        "`Press01.Process.oil_temp`; also covers what begins with it and a point. Or a namespace's URI."
    )
    new: NodeName = Field(description="Its name from now on, e.g. `Press01.Process.oil_temperature`.")


class EdgeConfig(BaseModel):
    """The whole configuration of one running server."""

    model_config = STRICT

    version: int = Field(description=f"Version of the configuration format: {VERSION}.")
    include: tuple[str, ...] = Field(
        default=(),
        description='Files that belong to this one, e.g. `["lines/*.toml"]`, in the order of their names; '
        "what two of them set is an error.",
    )
    site: SiteConfig = Field(description="The machine.")
    opcua: OpcuaConfig = Field(default=OpcuaConfig(), description="The OPC UA server.")
    models: ModelsConfig = Field(default=ModelsConfig(), description="The model repository.")
    inference: InferenceConfig = Field(default=InferenceConfig(), description="What holds for all pipelines.")
    devices: tuple[DeviceConfig, ...] = Field(min_length=1, description="PLCs and sensor units.")
    pipelines: tuple[PipelineConfig, ...] = Field(default=(), description="From captures to verdicts.")
    outputs: tuple[OutputConfig, ...] = Field(default=(), description="Verdicts written back to PLCs.")
    telemetry: TelemetryConfig = Field(default=TelemetryConfig(), description="What monitoring systems get.")
    templates: tuple[TemplateConfig, ...] = Field(
        default=(), description="What many machines have in common."
    )
    machines: tuple[MachinesConfig, ...] = Field(default=(), description="Machines made from templates.")
    renames: tuple[RenameConfig, ...] = Field(
        default=(), description="Renames of nodes that clients know, agreed to."
    )
    file: Path = Field(default=Path(), description="The file this came from.", json_schema_extra=RESOLVED)

    @field_validator("version")
    @classmethod
    def _version_is_known(cls, value: int) -> int:
        if value != VERSION:
            raise PydanticCustomError("C109", f"is not a version that this program reads; it reads {VERSION}")
        return value

    def device(self, name: str) -> DeviceConfig:
        """Return the device of that name.

        Raises:
            KeyError: There is no such device.
        """
        for device in self.devices:
            if device.name == name:
                return device
        raise KeyError(name)

    def pipeline(self, name: str) -> PipelineConfig:
        """Return the pipeline of that name.

        Raises:
            KeyError: There is no such pipeline.
        """
        for pipeline in self.pipelines:
            if pipeline.name == name:
                return pipeline
        raise KeyError(name)

    def tag(self, reference: str) -> tuple[DeviceConfig, TagConfig]:
        """Return device and tag of a public id ``<device>/<tag>``.

        Raises:
            KeyError: There is no such tag.
        """
        device_name, _, tag_name = reference.partition("/")
        device = self.device(device_name)
        row = device.tags.row_of(tag_name)
        if row is None:
            raise KeyError(reference)
        return device, device.tags[row]

    def capture(self, reference: str) -> tuple[DeviceConfig, CaptureConfig]:
        """Return device and capture of a reference ``<device>/<capture>``.

        Raises:
            KeyError: There is no such capture.
        """
        device_name, _, capture_name = reference.partition("/")
        device = self.device(device_name)
        for capture in device.captures:
            if capture.name == capture_name:
                return device, capture
        raise KeyError(reference)

    def source_block(self, pipeline: PipelineConfig) -> str:
        """Return the bus name of the block that a pipeline takes its captures or samples from.

        Raises:
            KeyError: There is no such capture.
        """
        if pipeline.capture is None:
            return pipeline.samples_block
        device, capture = self.capture(pipeline.capture)
        return device.block_name(capture.name)

    def source_devices(self, pipeline: PipelineConfig) -> tuple[DeviceConfig, ...]:
        """Return the devices that a pipeline's captures or samples come from, in order, each once.

        Raises:
            KeyError: There is no such device.
        """
        references = (pipeline.capture, pipeline.trigger, *pipeline.inputs.values())
        names = (each.partition("/")[0] for each in references if each is not None)
        return tuple(self.device(name) for name in dict.fromkeys(names))

    @property
    def tag_count(self) -> int:
        """Number of tags of all devices."""
        return sum(len(device.tags) for device in self.devices)


def is_resolved(model: type[BaseModel], key: str) -> bool:
    """Return whether the loader fills this field, so that a file may not set it."""
    extra = model.model_fields[key].json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("resolved"))

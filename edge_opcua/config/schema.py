"""The configuration as data: what every process gets as JSON, with nothing left to look up.

A field marked ``RESOLVED`` is filled by the loader; in a file it is an unknown key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    Field,
    StringConstraints,
    field_validator,
)
from pydantic_core import PydanticCustomError

from edge_opcua.config.devices import CaptureConfig as CaptureConfig
from edge_opcua.config.devices import DeviceConfig as DeviceConfig
from edge_opcua.config.devices import GroupConfig as GroupConfig
from edge_opcua.config.devices import WatchdogConfig as WatchdogConfig
from edge_opcua.config.fields import (
    RESOLVED,
    STRICT,
    Name,
    NodeName,
    PermissionName,
    RoleName,
    SecurityPolicy,
    Text,
    split_address,
)
from edge_opcua.config.lanes import InferenceConfig
from edge_opcua.config.modelcare import TelemetryConfig
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.pipelines import PipelineConfig as PipelineConfig
from edge_opcua.config.tags import TagConfig as TagConfig

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

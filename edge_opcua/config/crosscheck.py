"""Checks what one setting says against what others say: names, references, one writer, times, security."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import SplitResult, urlsplit

from edge_opcua.config.draft import DeviceDraft, Draft, tables_of, text_of
from edge_opcua.config.locate import Path
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.problem import Problem, Severity, alternatives, nearest, quoted
from edge_opcua.config.schema import CaptureConfig, DeviceConfig, PipelineConfig, TagConfig
from edge_opcua.core.values import Scalar
from edge_opcua.errors import AddressError

RESERVED_PARTS: Final = ("link",)
_INTEGERS: Final = frozenset(
    {
        Scalar.SBYTE,
        Scalar.BYTE,
        Scalar.INT16,
        Scalar.UINT16,
        Scalar.INT32,
        Scalar.UINT32,
        Scalar.INT64,
        Scalar.UINT64,
    }
)
_HEARTBEATS_PER_TIMEOUT: Final = 5


def cross_check(draft: Draft) -> None:
    """Add to a draft's problems whatever its parts contradict each other in."""
    _names(draft)
    for device in draft.devices:
        _device(draft, device)
    _same_names(draft)
    _same_url(draft)
    for index, pipeline in draft.pipelines.items():
        _pipeline(draft, index, pipeline)
    for index, output in draft.outputs.items():
        _output(draft, index, output)
    _same_mailbox(draft)


def _names(draft: Draft) -> None:
    """Devices, pipelines and outputs share one space of names: each begins the names of its blocks."""
    everything = [*draft.names("devices"), *draft.names("pipelines"), *draft.names("outputs")]
    _unique(draft, everything)
    for device in draft.devices:
        table = tables_of(draft.raw, "devices")[device.index]
        parts = [
            ((*device.path, kind, index, "name"), name)
            for kind in ("groups", "captures")
            for index, item in enumerate(tables_of(table, kind))
            if (name := text_of(item, "name"))
        ]
        _unique(draft, parts)
        for path, name in parts:
            if name in RESERVED_PARTS:
                draft.report(path, Problem("C111", f"{quoted(name)} is the name of a block of our own"))


def _unique(draft: Draft, named: Iterable[tuple[Path, str]]) -> None:
    first: dict[str, Path] = {}
    for path, name in named:
        other = first.setdefault(name, path)
        if other != path:
            place = draft.document.places.value(other)
            first_at = place.origin or (f"{place.file}:{place.line}" if place.file else f"line {place.line}")
            draft.report(path, Problem("C111", f"{quoted(name)} is defined twice (first in {first_at})"))


def _device(draft: Draft, device: DeviceDraft) -> None:
    config = device.config
    if config is None:
        return
    _triggers(draft, device, config)
    used = {tag.group for tag in device.tables.tags}
    is_known = device.is_complete and 0 < len(device.tables.names) == len(device.tables.tags)
    for index, group in enumerate(config.groups):
        path = (*device.path, "groups", index)
        if is_known and group.name not in used:
            message = f"no tag belongs to group {quoted(group.name)}; it will not be polled"
            draft.report((*path, "name"), Problem("C123", message, Severity.WARNING))
        if config.stale_after_s is not None and config.stale_after_s * 1000 < group.period_ms:
            message = (
                f"{config.stale_after_s:g} s is shorter than the period of {group.name}, {group.period_ms} ms"
            )
            help_text = "values would become Uncertain between two polls; three periods are usual"
            draft.report(
                (*device.path, "stale_after_s"), Problem("C119", message, Severity.WARNING, help=help_text)
            )
    if config.simulate:
        message = f"device {quoted(device.name)} is simulated: its values are made up"
        draft.report((*device.path, "simulate"), Problem("D390", message, Severity.WARNING))
    if device.is_complete and not device.tables.names and not config.captures:
        message = f"device {quoted(device.name)} has neither tags nor captures; nothing will be read"
        draft.report(device.path, Problem("C123", message, Severity.WARNING), at_key=True)
    for index, capture in enumerate(config.captures):
        if capture.low is not None and capture.high is not None and capture.low >= capture.high:
            message = f"range {capture.low:g}..{capture.high:g}: low must be below high"
            draft.report((*device.path, "captures", index, "high"), Problem("C118", message))
        if capture.scale == 0:
            message = "scale 0 would make every sample the same"
            draft.report((*device.path, "captures", index, "scale"), Problem("C103", message))


def _triggers(draft: Draft, device: DeviceDraft, config: DeviceConfig) -> None:
    """A trigger is a tag that is seen by the poll of another group."""
    for index, group in enumerate(config.groups):
        if group.trigger is None:
            continue
        path = (*device.path, "groups", index, "trigger")
        tag = device.tag(group.trigger)
        if group.trigger not in device.tables.names and device.is_complete:
            message = f"device {quoted(device.name)} has no tag"
            _unknown_part(draft, path, message, "", group.trigger, device.tables.names)
        elif tag is not None and tag.group == group.name:
            message = (
                f"{quoted(group.trigger)} belongs to the group itself, so it is seen only when that is polled"
            )
            draft.report(path, Problem("C126", message, help="name a tag of another group"))
        elif tag is not None and tag.length:
            message = f"{quoted(group.trigger)} is not a single value ({tag.address})"
            draft.report(path, Problem("C126", message))


def split_url(url: str) -> SplitResult | None:
    """Return the parts of a device URL, or None if it is none, whatever its scheme."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is not a number in 0..65535
    except ValueError:
        return None
    return parts if parts.scheme and (parts.netloc or parts.path) else None


def _same_names(draft: Draft) -> None:
    """Machines of one template have tags of their own; else the second's NodeIds would be taken (C193)."""
    first: dict[tuple[str, str], DeviceDraft] = {}
    said: set[str] = set()
    for device in draft.devices:
        machine = draft.document.machines.get(device.path)
        for tag in device.tables.tags if machine else ():
            template = machine.template if machine else ""
            other = first.setdefault((template, tag.name), device)
            if other is device or tag.node_id or template in said:
                continue
            said.add(template)
            message = f"{quoted(device.name)} and {quoted(other.name)} both have a tag {quoted(tag.name)}"
            help_text = (
                f"in {tag.file} begin every name with a column of the machines, e.g. ${{name}}.{tag.name}"
            )
            draft.report((*device.path, "tags"), Problem("C134", message, help=help_text))


def _same_url(draft: Draft) -> None:
    first: dict[str, DeviceDraft] = {}
    for device in draft.devices:
        url = text_of(tables_of(draft.raw, "devices")[device.index], "url").strip().casefold().rstrip("/")
        if not url:
            continue
        other = first.setdefault(url, device)
        if other is not device:
            message = f"{quoted(url)} is also the URL of {quoted(other.name)}"
            help_text = "two connections to one device cost it resources; is one of them a mistake?"
            draft.report((*device.path, "url"), Problem("C115", message, Severity.WARNING, help=help_text))


def _pipeline(draft: Draft, index: int, pipeline: PipelineConfig) -> None:
    path: Path = ("pipelines", index)
    _delivered(draft, path, pipeline)
    _capture(draft, (*path, "capture"), pipeline.capture)
    if pipeline.part_id is not None:
        part = _tag(draft, (*path, "part_id"), pipeline.part_id)
        if part and not _is_integer(part):
            message = f"{quoted(pipeline.part_id)} is not a whole number ({part.address})"
            draft.report((*path, "part_id"), Problem("C117", message))
    seen: set[str] = set()
    for number, reference in enumerate(pipeline.context):
        place = (*path, "context", number)
        if reference in seen:
            draft.report(place, Problem("C111", f"{quoted(reference)} stands twice"))
            continue
        seen.add(reference)
        tag = _tag(draft, place, reference)
        if tag and (tag.length or tag.type in (Scalar.STRING, Scalar.DATETIME)):
            draft.report(
                place, Problem("C117", f"{quoted(reference)} is not a number; a model cannot take it")
            )


def _delivered(draft: Draft, path: Path, pipeline: PipelineConfig) -> None:
    if draft.delivered is None or pipeline.version in draft.delivered.get(pipeline.model, ()):
        return
    versions = draft.delivered.get(pipeline.model)
    key = "version" if versions else "model"
    found = (
        f"only version {alternatives(str(version) for version in versions)}"
        if versions
        else f"only {alternatives(draft.delivered) or 'no model'}"
    )
    message = f"{pipeline.model} {pipeline.version} is not delivered with this file, {found}"
    suggestion = "" if versions else nearest(pipeline.model, draft.delivered)
    help_text = "that is right if the state directory has it already"
    problem = Problem("M501", message, Severity.WARNING, help=help_text, suggestion=suggestion)
    draft.report((*path, key), problem)


def _output(draft: Draft, index: int, output: OutputConfig) -> None:
    path: Path = ("outputs", index)
    pipelines = [name for _, name in draft.names("pipelines")]
    if output.pipeline not in pipelines:
        _unknown(draft, (*path, "pipeline"), "pipeline", output.pipeline, pipelines)
    device = draft.device(output.device)
    if device is None:
        _unknown(
            draft, (*path, "device"), "device", output.device, [name for _, name in draft.names("devices")]
        )
    elif output.db is not None:
        _mailbox(draft, path, output, device)
    for key, needs, word in (
        ("acknowledge", _is_bool, "BOOL"),
        ("plc_trusts", _is_bool, "BOOL"),
        ("ack_required", _is_bool, "BOOL"),
        ("grant", _is_bool, "BOOL"),
        ("plc_heartbeat", _is_integer, "whole number"),
        ("echo_heartbeat", _is_integer, "whole number"),
    ):
        reference = getattr(output, key)
        if reference is not None:
            _output_tag(draft, (*path, key), reference, needs, word, must_write=key == "acknowledge")
    if output.heartbeat_ms * _HEARTBEATS_PER_TIMEOUT > output.plc_timeout_ms:
        message = f"{output.heartbeat_ms} ms is more than a fifth of plc_timeout_ms = {output.plc_timeout_ms}"
        help_text = "one late heartbeat would make the PLC fall safe"
        draft.report((*path, "heartbeat_ms"), Problem("C119", message, Severity.WARNING, help=help_text))


def _is_bool(tag: TagConfig) -> bool:
    return tag.type is Scalar.BOOLEAN and not tag.length


def _is_integer(tag: TagConfig) -> bool:
    return tag.type in _INTEGERS and not tag.length


def _output_tag(
    draft: Draft,
    path: Path,
    reference: str,
    needs: Callable[[TagConfig], bool],
    word: str,
    *,
    must_write: bool,
) -> None:
    tag = _tag(draft, path, reference)
    if tag is None:
        return
    if not needs(tag):
        draft.report(path, Problem("C117", f"{quoted(reference)} is not a {word} ({tag.address})"))
    elif must_write and not tag.writable:
        help_text = f"give it access rw in {tag.file}:{tag.line}"
        draft.report(path, Problem("C117", f"{quoted(reference)} is not writable", help=help_text))
    elif not must_write and _is_on_demand(draft, reference, tag):
        message = f"{quoted(reference)} is read on demand only; a handshake needs to see it all the time"
        draft.report(path, Problem("C119", message, help=f"give group {quoted(tag.group)} a period"))


def _is_on_demand(draft: Draft, reference: str, tag: TagConfig) -> bool:
    device = draft.device(reference.partition("/")[0])
    groups = device.config.groups if device is not None and device.config is not None else ()
    return any(group.name == tag.group and group.on_demand for group in groups)


def _mailbox(draft: Draft, path: Path, output: OutputConfig, device: DeviceDraft) -> None:
    if device.plugin is not None:
        try:
            device.plugin.parse_address(f"{output.db}.DBW0:UINT")
        except AddressError:
            message = f"device {quoted(device.name)} has no data blocks; a mailbox needs an S7 PLC"
            draft.report((*path, "device"), Problem("C117", message))
            return
    parse = device.tables.parse
    for tag in device.tables.tags:
        if tag.writable and parse and parse(tag.address).canonical.startswith(f"{output.db}."):
            message = (
                f"{device.name}/{tag.name} is written by output {quoted(output.name)} "
                "and also allowed to SCADA users: one writer only"
            )
            problem = Problem(
                "T221", message, help=f"give it access r, or leave {output.db} to the output alone"
            )
            draft.problems.append(device.tables.problem_at(tag, "access", problem))


def _same_mailbox(draft: Draft) -> None:
    first: dict[tuple[str, str | None], int] = {}
    for index, output in draft.outputs.items():
        if output.db is None:
            continue
        other = first.setdefault((output.device, output.db), index)
        if other != index:
            writer = quoted(draft.outputs[other].name)
            message = f"{output.db} of {quoted(output.device)} is written by output {writer}: one writer only"
            draft.report(("outputs", index, "db"), Problem("C124", message))


def _tag(draft: Draft, path: Path, reference: str) -> TagConfig | None:
    device_name, _, name = reference.partition("/")
    device = _device_of(draft, path, device_name, reference)
    if device is None:
        return None
    if name not in device.tables.names and device.is_complete:
        _unknown_part(
            draft, path, f"device {quoted(device_name)} has no tag", device_name, name, device.tables.names
        )
    return device.tag(name)


def _capture(draft: Draft, path: Path, reference: str) -> CaptureConfig | None:
    device_name, _, name = reference.partition("/")
    device = _device_of(draft, path, device_name, reference)
    if device is None:
        return None
    if name not in device.captures:
        _unknown_part(
            draft, path, f"device {quoted(device_name)} has no capture", device_name, name, device.captures
        )
    return device.captures.get(name)


def _device_of(draft: Draft, path: Path, name: str, reference: str) -> DeviceDraft | None:
    device = draft.device(name)
    if device is None:
        known = [found for _, found in draft.names("devices")]
        suggestion = nearest(name, known)
        suggested = reference.replace(name, suggestion, 1) if suggestion else ""
        help_text = "" if suggested else f"devices: {alternatives(known)}"
        message = f"device {quoted(name)} is not defined"
        draft.report(path, Problem("C112", message, suggestion=suggested, help=help_text))
    return device


def _unknown_part(
    draft: Draft, path: Path, message: str, device: str, name: str, known: Iterable[str]
) -> None:
    names = list(known)
    suggestion = nearest(name, names)
    help_text = "" if suggestion else f"it has {alternatives(names) or 'none'}"
    suggested = f"{device}/{suggestion}" if suggestion and device else suggestion
    draft.report(path, Problem("C112", f"{message} {quoted(name)}", suggestion=suggested, help=help_text))


def _unknown(draft: Draft, path: Path, kind: str, name: str, known: list[str]) -> None:
    suggestion = nearest(name, known)
    help_text = "" if suggestion else f"{kind}s: {alternatives(known) or 'none'}"
    message = f"{kind} {quoted(name)} is not defined"
    draft.report(path, Problem("C112", message, suggestion=suggestion, help=help_text))


def check_security(draft: Draft) -> None:
    """Add a warning for everything that lets strangers in."""
    opcua = draft.raw.get("opcua")
    if not isinstance(opcua, dict):
        return
    security = opcua.get("security")
    if isinstance(security, list) and "None" in security:
        message = '"None": everyone on the network can read, and pretend to be this server'
        help_text = "keep it to commissioning; Basic256Sha256 costs one edge-opcua trust per client"
        draft.report(("opcua", "security"), Problem("S442", message, Severity.WARNING, help=help_text))
        if opcua.get("anonymous") is False:
            message = "nobody can use the endpoint without security: there is no sign-in there"
            help_text = 'take "None" out of opcua.security'
            draft.report(("opcua", "anonymous"), Problem("S443", message, Severity.WARNING, help=help_text))

"""Checks what one setting says against what others say: names, references, one writer, times, security."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import SplitResult, urlsplit

from edge_opcua.config.draft import DeviceDraft, Draft, tables_of, text_of
from edge_opcua.config.inputcheck import check_source
from edge_opcua.config.lanecheck import check_lanes
from edge_opcua.config.locate import Path
from edge_opcua.config.problem import Problem, Severity, alternatives, nearest, quoted
from edge_opcua.config.references import is_integer, report_unknown_part, tag_of
from edge_opcua.config.schema import DeviceConfig, PipelineConfig
from edge_opcua.config.writecheck import check_outputs
from edge_opcua.core.values import Scalar

RESERVED_PARTS: Final = ("link",)


def cross_check(draft: Draft) -> None:
    """Add to a draft's problems whatever its parts contradict each other in."""
    _names(draft)
    for device in draft.devices:
        _device(draft, device)
    _same_names(draft)
    _same_url(draft)
    for index, pipeline in draft.pipelines.items():
        _pipeline(draft, index, pipeline)
    check_lanes(draft)
    check_outputs(draft)


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
            elif "." in name:
                message = f"{quoted(name)}: such groups are added by outputs with an interface block"
                draft.report(path, Problem("C110", message, help="leave the point away"))


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
    _echoes(draft, device, config)
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
    if device.is_complete and not device.tables.names and not config.captures and not device.areas:
        message = f"device {quoted(device.name)} has neither tags nor captures; nothing will be read"
        draft.report(device.path, Problem("C123", message, Severity.WARNING), at_key=True)
    for index, capture in enumerate(config.captures):
        if capture.low is not None and capture.high is not None and capture.low >= capture.high:
            message = f"range {capture.low:g}..{capture.high:g}: low must be below high"
            draft.report((*device.path, "captures", index, "high"), Problem("C118", message))
        if capture.scale == 0:
            message = "scale 0 would make every sample the same"
            draft.report((*device.path, "captures", index, "scale"), Problem("C103", message))


def _echoes(draft: Draft, device: DeviceDraft, config: DeviceConfig) -> None:
    """An echo is another number of the device, and is read by itself."""
    if not device.is_complete:
        return
    on_demand = {group.name for group in config.groups if group.on_demand}
    for tag in device.tables.tags:
        if not tag.echo:
            continue
        echo = device.tag(tag.echo)
        fits = echo is not None and echo.name != tag.name and echo.type.is_number and not echo.length
        if not fits and (echo is not None or tag.echo not in device.tables.names):
            message = f"{tag.name}: echo {quoted(tag.echo)} is not another number of the device"
            draft.report((*device.path, "tags"), Problem("T247", message))
        elif echo is not None and echo.group in on_demand:
            message = f"{tag.name}: echo {quoted(tag.echo)} is read on demand only, so nobody would see it"
            draft.report((*device.path, "tags"), Problem("T247", message))


def _triggers(draft: Draft, device: DeviceDraft, config: DeviceConfig) -> None:
    """A trigger is a tag that is seen by the poll of another group."""
    for index, group in enumerate(config.groups):
        if group.trigger is None:
            continue
        path = (*device.path, "groups", index, "trigger")
        tag = device.tag(group.trigger)
        if group.trigger not in device.tables.names and device.is_complete:
            message = f"device {quoted(device.name)} has no tag"
            report_unknown_part(draft, path, message, "", group.trigger, device.tables.names)
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
    _delivered(draft, path, pipeline, "version", pipeline.version)
    if isinstance(pipeline.cheaper_version, int):
        _delivered(draft, path, pipeline, "cheaper_version", pipeline.cheaper_version)
    check_source(draft, path, pipeline)
    if pipeline.part_id is not None:
        part = tag_of(draft, (*path, "part_id"), pipeline.part_id)
        if part and not is_integer(part):
            message = f"{quoted(pipeline.part_id)} is not a whole number ({part.address})"
            draft.report((*path, "part_id"), Problem("C117", message))
    seen: set[str] = set()
    for number, reference in enumerate(pipeline.context):
        place = (*path, "context", number)
        if reference in seen:
            draft.report(place, Problem("C111", f"{quoted(reference)} stands twice"))
            continue
        seen.add(reference)
        tag = tag_of(draft, place, reference)
        if tag and (tag.length or tag.type in (Scalar.STRING, Scalar.DATETIME)):
            draft.report(
                place, Problem("C117", f"{quoted(reference)} is not a number; a model cannot take it")
            )


def _delivered(draft: Draft, path: Path, pipeline: PipelineConfig, key: str, version: int) -> None:
    if draft.delivered is None or version in draft.delivered.get(pipeline.model, ()):
        return
    versions = draft.delivered.get(pipeline.model)
    found = (
        f"only version {alternatives(str(version) for version in versions)}"
        if versions
        else f"only {alternatives(draft.delivered) or 'no model'}"
    )
    message = f"{pipeline.model} {version} is not delivered with this file, {found}"
    suggestion = "" if versions else nearest(pipeline.model, draft.delivered)
    help_text = "that is right if the state directory has it already"
    problem = Problem("M501", message, Severity.WARNING, help=help_text, suggestion=suggestion)
    draft.report((*path, key if versions else "model"), problem)


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

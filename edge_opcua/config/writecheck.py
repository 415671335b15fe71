"""Checks what the outputs say against the rest: what they write and read, who may rule, one writer each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge_opcua.config.draft import DeviceDraft, Draft, tables_of
from edge_opcua.config.eaicheck import check_areas, check_interface
from edge_opcua.config.locate import Path
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.problem import Problem, Severity, quoted
from edge_opcua.config.references import is_bool, is_integer, report_unknown, tag_of
from edge_opcua.config.schema import EdgeConfig, TagConfig
from edge_opcua.config.valuecheck import check_values, check_writers
from edge_opcua.config.writeplan import over_limit

_HEARTBEATS_PER_TIMEOUT: Final = 5
_REFERENCES: Final[tuple[tuple[str, Callable[[TagConfig], bool], str], ...]] = (
    ("acknowledge", is_bool, "BOOL"),
    ("plc_trusts", is_bool, "BOOL"),
    ("ack_required", is_bool, "BOOL"),
    ("grant", is_bool, "BOOL"),
    ("heartbeat", is_integer, "whole number"),
    ("plc_heartbeat", is_integer, "whole number"),
    ("echo_heartbeat", is_integer, "whole number"),
)
WRITTEN: Final = ("acknowledge", "heartbeat")
"""References to tags that somebody writes; the others are only looked at."""


def check_outputs(draft: Draft) -> None:
    """Add to a draft's problems whatever its outputs contradict, or each other."""
    for index, output in draft.outputs.items():
        path: Path = ("outputs", index)
        _output(draft, path, output)
        check_interface(draft, path, output)
        check_values(draft, path, output)
    check_areas(draft)
    check_writers(draft)
    _acknowledgeable(draft)


def check_limits(draft: Draft, config: EdgeConfig) -> None:
    """Hold the worst cases of outputs against what their processes tolerate."""
    for index, output in enumerate(config.outputs):
        found = over_limit(config, output)
        if found is not None:
            problem = Problem("C173", found[0], help=found[1])
            draft.report(("outputs", index, "process_limit_ms"), problem)


def _output(draft: Draft, path: Path, output: OutputConfig) -> None:
    pipelines = [name for _, name in draft.names("pipelines")]
    if output.pipeline not in pipelines:
        report_unknown(draft, (*path, "pipeline"), "pipeline", output.pipeline, pipelines)
    device = draft.device(output.device)
    if device is None:
        devices = [name for _, name in draft.names("devices")]
        report_unknown(draft, (*path, "device"), "device", output.device, devices)
    _way(draft, path, output)
    _times(draft, path, output)
    if device is not None:
        _watched(draft, path, output, device)
    _rule(draft, path, output)
    for key, needs, word in _REFERENCES:
        reference = getattr(output, key)
        if reference is not None:
            _reference(draft, (*path, key), reference, needs, word, must_write=key in WRITTEN)


def _way(draft: Draft, path: Path, output: OutputConfig) -> None:
    """An output writes in one way: an interface block, or single tags."""
    ways = {"interface": output.interface, "values": output.values or None}
    given = [key for key, value in ways.items() if value is not None]
    if len(given) > 1:
        message = f"output {quoted(output.name)} has {given[0]} and {given[1]}: it writes in one way"
        draft.report((*path, given[1]), Problem("C160", message, help="make two outputs of it"))
    elif not given:
        message = f"output {quoted(output.name)} does not say what it writes"
        help_text = (
            "[outputs.interface] where the PLC has a program for it, [[outputs.values]] for single tags"
        )
        draft.report(path, Problem("C160", message, help=help_text), at_key=True)
    if output.interface is None:
        return
    for key, _, _ in _REFERENCES:
        if getattr(output, key) is not None:
            message = f"the interface block has {key} already"
            draft.report(
                (*path, key), Problem("C172", message, Severity.WARNING, help="without effect: leave it out")
            )


def _times(draft: Draft, path: Path, output: OutputConfig) -> None:
    if output.heartbeat_ms >= output.plc_timeout_ms:
        message = f"{output.heartbeat_ms} ms is not below plc_timeout_ms = {output.plc_timeout_ms}"
        help_text = "the PLC would fall safe before each heartbeat; take a fifth of its time-out"
        draft.report((*path, "heartbeat_ms"), Problem("C119", message, help=help_text))
    elif output.heartbeat_ms * _HEARTBEATS_PER_TIMEOUT > output.plc_timeout_ms:
        message = f"{output.heartbeat_ms} ms is more than a fifth of plc_timeout_ms = {output.plc_timeout_ms}"
        help_text = "one late heartbeat would make the PLC fall safe"
        draft.report((*path, "heartbeat_ms"), Problem("C119", message, Severity.WARNING, help=help_text))
    if 2 * output.plc_scan_ms > output.plc_timeout_ms:
        message = f"{output.plc_scan_ms:g} ms is more than half of plc_timeout_ms = {output.plc_timeout_ms}"
        help_text = "the PLC would not look often enough to see a heartbeat in time"
        draft.report((*path, "plc_scan_ms"), Problem("C119", message, Severity.WARNING, help=help_text))


def _watched(draft: Draft, path: Path, output: OutputConfig, device: DeviceDraft) -> None:
    """Somebody has to notice when we write no more: a program in the PLC, or the device itself."""
    if output.has_heartbeat or device.config is None or device.config.watchdog is not None:
        return
    message = (
        f"device {quoted(device.name)} keeps what was written last when this computer or its network dies"
    )
    help_text = "arm its own watchdog with [devices.watchdog], or let a program look at a heartbeat"
    draft.report((*path, "device"), Problem("C175", message, Severity.WARNING, help=help_text))


def _acknowledgeable(draft: Draft) -> None:
    """A watchdog that waits for an acknowledge has to get one: a person gives it, to an output."""
    names = {device.name for device in draft.devices}
    outputs = list(draft.outputs.values())
    if len(outputs) < len(tables_of(draft.raw, "outputs")) or any(o.device not in names for o in outputs):
        return  # some output is wrong, and might be the one
    for device in draft.devices:
        watchdog = None if device.config is None else device.config.watchdog
        if watchdog is None or watchdog.restart != "acknowledge" or not device.name:
            continue
        if any(o.device == device.name and o.acknowledged_by != "plc" for o in outputs):
            continue
        message = f"nobody could acknowledge when the watchdog of {quoted(device.name)} has tripped"
        help_text = 'write restart = "automatic", or let an operator acknowledge an output of the device'
        problem = Problem("C167", message, help=help_text)
        draft.report((*device.path, "watchdog", "restart"), problem)


def _rule(draft: Draft, path: Path, output: OutputConfig) -> None:
    """Who grants and acknowledges has to have a way to do so, and a way that is there has to count."""
    if output.interface is not None:
        if output.auto_restart:
            message = "the function block in the PLC latches by itself; it wants an acknowledge all the same"
            help_text = 'let it be acknowledged at the PLC: acknowledged_by = "plc"'
            problem = Problem("C172", message, Severity.WARNING, help=help_text)
            draft.report((*path, "auto_restart"), problem)
        return
    if not output.values:
        return
    if output.granted_by == "plc" and output.grant is None:
        message = "the PLC has no way to grant authority: there is neither an interface block nor grant"
        help_text = 'name the BOOL: grant = "device/tag"; or write granted_by = "operator"'
        draft.report((*path, "granted_by"), Problem("C167", message, help=help_text))
    if output.grant is not None and output.granted_by != "plc":
        message = f"{quoted(output.grant)} would not be asked: granted_by is {quoted(output.granted_by)}"
        draft.report((*path, "grant"), Problem("C167", message, help='write granted_by = "plc"'))
    if output.acknowledged_by == "plc" and output.acknowledge is None:
        message = "the PLC has no way to acknowledge: there is neither an interface block nor acknowledge"
        help_text = (
            'name the BOOL: acknowledge = "device/tag"; or let people do it: acknowledged_by = "operator"'
        )
        draft.report((*path, "acknowledged_by"), Problem("C167", message, help=help_text))
    if output.echo_heartbeat is not None and output.heartbeat is None:
        message = "there is nothing to give back: the PLC gets no heartbeat"
        draft.report(
            (*path, "echo_heartbeat"),
            Problem("C167", message, help='name the counter: heartbeat = "device/tag"'),
        )


def _reference(
    draft: Draft,
    path: Path,
    reference: str,
    needs: Callable[[TagConfig], bool],
    word: str,
    *,
    must_write: bool,
) -> None:
    tag = tag_of(draft, path, reference)
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

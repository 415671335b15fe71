"""The plan before the act: what will be polled, written and exposed, as lines for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from edge_opcua.config.busplan import bus_json, bus_rows
from edge_opcua.config.problem import Problem, Severity, counted
from edge_opcua.config.schema import DeviceConfig, EdgeConfig, GroupConfig, OpcuaConfig, PipelineConfig
from edge_opcua.config.syntax import Document
from edge_opcua.config.writeplan import reaction_rows, watchdog_rows, write_rows, writes_json
from edge_opcua.core.values import BlockSpec


class Reads(Protocol):
    """What one poll group or capture asks of its device."""

    @property
    def requests(self) -> int:
        """Requests of one poll; of a capture, to look whether one is ready."""
        ...

    @property
    def extra_requests(self) -> int:
        """Further requests when a capture is ready; 0 for groups."""
        ...


class PollPlan(Protocol):
    """How the driver will read one device; the planner of the drivers makes it."""

    @property
    def reads(self) -> Mapping[str, Reads]:
        """What is asked, by the name of the group or capture."""
        ...


def plan_lines(
    config: EdgeConfig,
    plans: Sequence[PollPlan],
    blocks: Sequence[BlockSpec],
    file: str,
    machines: Iterable[tuple[str, int]] = (),
    lanes: Sequence[Sequence[str]] = (),
) -> list[str]:
    """Return what will be done, one subject per line.

    Args:
        config: The configuration.
        plans: How each device is read, in the order of the configuration.
        blocks: Blocks of the bus.
        file: Name of the configuration file.
        machines: Templates, and how many machines are made from each.
        lanes: What can be promised of the pipelines, in cells.
    """
    counts = [
        counted(len(config.devices), "device"),
        counted(config.tag_count, "tag"),
        counted(len(config.pipelines), "model"),
        counted(len(config.outputs), "output"),
    ]
    lines = [f"{file}   {config.site.machine} of {config.site.name}: {', '.join(counts)}"]
    lines += _section("machines", [[counted(count, "machine") + f" from {name}"] for name, count in machines])
    lines += _section("reads", _reads(config, plans))
    lines += _section("writes", _writes(config))
    lines += _section("reacts", list(reaction_rows(config)))
    lines += _section("exposes", _exposes(config))
    lines += _section("models", [_model(pipeline) for pipeline in config.pipelines])
    lines += _section("inference", lanes)
    lines += _section("bus", bus_rows(blocks))
    return lines


def _section(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    indent = max(8, len(title))
    columns = max((len(row) for row in rows), default=0)
    widths = [max((len(row[i]) for row in rows if i < len(row) - 1), default=0) for i in range(columns)]
    lines = []
    for number, row in enumerate(rows):
        cells = [cell.ljust(widths[i]) if i < len(row) - 1 else cell for i, cell in enumerate(row)]
        lines.append(f"{title if number == 0 else '':<{indent}} {'   '.join(cells)}".rstrip())
    return lines


def _reads(config: EdgeConfig, plans: Sequence[PollPlan]) -> list[list[str]]:
    rows = []
    for number, alike in _alike(config):
        device = config.devices[number]
        reads = plans[number].reads if number < len(plans) else {}
        head = [device.name, device.driver, "simulated" if device.simulate else _address(device.url)]
        for group in device.groups:
            polls = _polls(reads.get(group.name), group.period_ms, _demand(group))
            rows.append([*head, group.name, counted(len(device.tags_of(group.name)), "tag"), polls])
            head = ["", "", ""]
        for capture in device.captures:
            size = counted(capture.sample_count, "sample")
            rows.append([*head, capture.name, size, _polls(reads.get(capture.name), capture.poll_ms)])
            head = ["", "", ""]
        if reads:
            rate = requests_per_second(device, reads)
            rows[-1][-1] += f"   {rate:g}/s of {device.max_requests_per_s:g}/s allowed"
        if len(alike) > 1:
            last = config.devices[alike[-1]].name
            rows.append([f"and {len(alike) - 1} more like it from template {device.template}, to {last}"])
    return rows


def _alike(config: EdgeConfig) -> list[tuple[int, list[int]]]:
    """Return the number of each device to show, and of all that one template makes like it."""
    found: dict[tuple[object, ...], list[int]] = {}
    for number, device in enumerate(config.devices):
        # What outputs add is called after them, and each machine has outputs of its own.
        groups = [group.name.rpartition(".")[2] for group in device.groups]
        parts = (*groups, *(one.name for one in device.captures))
        likeness = (device.template, device.driver, parts, len(device.tags)) if device.template else (number,)
        found.setdefault(likeness, []).append(number)
    return [(numbers[0], numbers) for numbers in found.values()]


def _demand(group: GroupConfig) -> str:
    """Return what makes a group due apart from its period."""
    return f"when {group.trigger} changes" if group.trigger else "on request"


def _polls(reads: Reads | None, period_ms: int, demand: str = "") -> str:
    every = f"every {period_ms / 1000:g} s" if period_ms >= 1000 else f"every {period_ms} ms"
    if not period_ms:
        every = demand
    elif demand.startswith("when"):
        every += f" and {demand}"
    if reads is None:
        return every
    extra = f", {reads.extra_requests} more when ready" if reads.extra_requests else ""
    return f"{counted(reads.requests, 'request')} {every}{extra}"


def _address(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or url
    return f"{host}:{parts.port}" if parts.port else host


def requests_per_second(device: DeviceConfig, reads: Mapping[str, Reads]) -> float:
    """Return the requests a device gets each second, without the samples of captures."""
    periods = {group.name: group.period_ms for group in device.groups}
    periods |= {capture.name: capture.poll_ms for capture in device.captures}
    regular = [(reads[name].requests, period) for name, period in periods.items() if period and name in reads]
    total = sum(requests * 1000 / period for requests, period in regular)
    return round(total, 1)


def overloads(config: EdgeConfig, plans: Sequence[PollPlan], document: Document) -> list[Problem]:
    """Return a warning for each device that would get more requests than it may."""
    problems = []
    for index, (device, plan) in enumerate(zip(config.devices, plans, strict=False)):
        rate = requests_per_second(device, plan.reads)
        if rate > device.max_requests_per_s:
            message = f"{rate:g} requests/s are planned, {device.max_requests_per_s:g} are allowed"
            where = f"devices[{device.name}].max_requests_per_s"
            place = document.places.value(("devices", index, "max_requests_per_s"))
            problems.append(document.at(Problem("C125", message, Severity.WARNING, place=place, where=where)))
    return problems


def _writes(config: EdgeConfig) -> list[list[str]]:
    rows = list(write_rows(config))
    owned = {tag for output in config.outputs for tag in output.writers}
    for number, alike in _alike(config):
        device = config.devices[number]
        rows += watchdog_rows(device)
        for tag in device.tags.writable:
            if f"{device.name}/{tag.name}" in owned:
                continue
            limits = ""
            if tag.low is not None or tag.high is not None:
                limits = f" {_bound(tag.low)}..{_bound(tag.high)} {tag.unit}".rstrip()
            rows.append([f"{device.name}/{tag.name}", f"{tag.address}   by clients{limits}; read back"])
        if len(alike) > 1 and len(device.tags.writable):
            rows.append([f"and the same in {len(alike) - 1} more from template {device.template}"])
    return rows


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _exposes(config: EdgeConfig) -> list[list[str]]:
    policies = ", ".join(
        "None: neither signed nor encrypted" if policy == "None" else f"{policy} SignAndEncrypt"
        for policy in config.opcua.security
    )
    own = {tag for output in config.outputs for tag in output.writers}
    shared = {each.tag for output in config.outputs for each in output.values if each.writers != ("model",)}
    writable = sum(len(device.tags.writable) for device in config.devices) - len(own - shared)
    methods = "models, devices and outputs" if config.outputs else "models and devices"
    variables = f"{counted(config.tag_count, 'variable')} ({writable} writable), methods of {methods}"
    place = f"Machines/{config.site.machine}"
    return [*([f"{url}   {policies}"] for url in endpoint_urls(config.opcua)), [f"{place}: {variables}"]]


def endpoint_urls(opcua: OpcuaConfig) -> tuple[str, ...]:
    """Return the URLs clients connect to; the address of the box where every address is listened on."""
    if opcua.advertised_urls:
        return opcua.advertised_urls
    host = f"[{opcua.host}]" if ":" in opcua.host else opcua.host
    name = "<this box>" if opcua.host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
    return (f"opc.tcp://{name}:{opcua.port or '<any free port>'}",)


def _model(pipeline: PipelineConfig) -> list[str]:
    context = f" + {counted(len(pipeline.context), 'tag')}" if pipeline.context else ""
    late = {"hold_last": "the last one", "publish_late": "late, as Uncertain"}
    otherwise = late.get(pipeline.late, pipeline.fail_safe_verdict)
    answer = f"verdict within {pipeline.deadline_ms} ms, else {otherwise}"
    return [
        f"{pipeline.model} {pipeline.version}",
        f"{_judged(pipeline)}{context} -> {answer}",
        f"{pipeline.backend}, {pipeline.provider}",
    ]


def _judged(pipeline: PipelineConfig) -> str:
    """Return what a pipeline judges, and when."""
    if pipeline.capture is not None:
        return pipeline.capture
    when = f"at each change of {pipeline.trigger}" if pipeline.trigger else f"every {pipeline.every_ms} ms"
    window = f", the last {pipeline.window} samples" if pipeline.window > 1 else ""
    return f"{counted(len(pipeline.inputs), 'tag')} {when}{window}"


def plan_json(config: EdgeConfig, plans: Sequence[PollPlan], blocks: Sequence[BlockSpec]) -> dict[str, Any]:
    """Return what will be done for programs."""
    reads = []
    for number, device in enumerate(config.devices):
        planned = plans[number].reads if number < len(plans) else {}
        reads.append(
            {
                "device": device.name,
                "driver": device.driver,
                "simulated": device.simulate,
                "watchdog": None if device.watchdog is None else device.watchdog.model_dump(),
                "tags": len(device.tags),
                "groups": {group.name: group.period_ms for group in device.groups},
                "captures": {capture.name: capture.sample_count for capture in device.captures},
                "requests_per_poll": {name: one.requests for name, one in planned.items()},
                "requests_when_ready": {
                    name: one.extra_requests for name, one in planned.items() if one.extra_requests
                },
                "requests_per_s": requests_per_second(device, planned) if planned else None,
                "max_requests_per_s": device.max_requests_per_s,
            }
        )
    return {
        "machine": config.site.machine,
        "reads": reads,
        "writes": writes_json(config),
        "writable": [
            f"{device.name}/{name}"
            for device in config.devices
            for name in device.tags.writable.column("name")
        ],
        "exposes": list(endpoint_urls(config.opcua)),
        "security": list(config.opcua.security),
        "models": [f"{pipeline.model} {pipeline.version}" for pipeline in config.pipelines],
        "bus": bus_json(blocks),
    }

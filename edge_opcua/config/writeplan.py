"""The plan of the outputs: what is written where, what it falls safe to, who rules, how long that takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from edge_opcua.config.eai import CONTROL_WORDS, eai_map
from edge_opcua.config.outputs import InterfaceConfig, OutputConfig, OutputValueConfig
from edge_opcua.config.reaction import Reaction, reactions
from edge_opcua.config.schema import DeviceConfig, EdgeConfig, TagConfig

_CLASSES: Final = {"setpoint": "set-point", "command": "command", "bit": "bit"}
_GRANTED: Final = {
    "plc": "the PLC grants authority",
    "operator": "an operator grants authority",
    "always": "authority is always granted",
}
_ACKNOWLEDGED: Final = {
    "plc": "the PLC acknowledges faults",
    "operator": "an operator acknowledges faults",
    "either": "PLC or operator acknowledge faults",
}


def write_rows(config: EdgeConfig) -> Iterator[list[str]]:
    """Yield what each output writes, a row of cells each."""
    for alike in _alike(config):
        output = alike[0]
        if output.interface is not None:
            yield from _interface_rows(config, output, output.interface)
        else:
            yield from _value_rows(config, output)
        if len(alike) > 1:
            yield [_more(config, alike)]


def _alike(config: EdgeConfig) -> list[list[OutputConfig]]:
    """Return the outputs; those that one template makes for each of its machines together."""
    templates = {device.name: device.template for device in config.devices}
    found: dict[tuple[object, ...], list[OutputConfig]] = {}
    of_device: Counter[str] = Counter()
    for number, output in enumerate(config.outputs):
        template = templates[output.device]
        mode = output.interface.mode if output.interface is not None else len(output.values)
        place = (template, of_device[output.device]) if template else (number,)
        of_device[output.device] += 1
        key = (*place, mode, output.heartbeat_ms, output.plc_timeout_ms)
        found.setdefault(key, []).append(output)
    return list(found.values())


def _more(config: EdgeConfig, alike: list[OutputConfig]) -> str:
    template = config.device(alike[0].device).template
    return f"and {len(alike) - 1} more like it from template {template}, to {alike[-1].name}"


def _interface_rows(
    config: EdgeConfig, output: OutputConfig, interface: InterfaceConfig
) -> Iterator[list[str]]:
    found = eai_map(output.name, interface, config.device(output.device).driver)
    results = ", ".join(f"{field.config.name} {field.config.type}" for field in found.results)
    yield [
        f"{output.device}/{interface.status}",
        f"{output.name}: interface block, {interface.mode}, {found.status_words} words at once: {results}",
    ]
    yield [
        "",
        f"{CONTROL_WORDS} words from {interface.control} every {interface.poll_ms} ms; map {found.version}",
    ]
    safe = config.pipeline(output.pipeline).fail_safe_verdict
    yield ["", f"fail-safe {safe}; {_silence(output)} the PLC takes its fallback"]
    yield ["", _rulers(output)]


def _value_rows(config: EdgeConfig, output: OutputConfig) -> Iterator[list[str]]:
    for value in output.values:
        _, tag = config.tag(value.tag)
        kind = _CLASSES[value.kind]
        terms = "; ".join(_terms(value, tag))
        yield [value.tag, f"{output.name}: {value.source} as {kind}{_range(value, tag)}; {terms}"]
    if output.heartbeat is not None:
        yield [output.heartbeat, f"heartbeat; {_silence(output)} the PLC falls safe"]
    else:
        watchdog = config.device(output.device).watchdog
        watched = "nobody notices when the writes end"
        if watchdog is not None:
            watched = (
                f"{watchdog.timeout_ms} ms after the last trigger its watchdog ({watchdog.profile}) acts"
            )
        yield ["", f"no heartbeat; {watched}"]
    yield ["", _rulers(output)]


def _terms(value: OutputValueConfig, tag: TagConfig) -> Iterator[str]:
    yield f"falls safe to {safe_text(value, tag)}"
    if value.rate_per_s is not None:
        yield f"{value.rate_per_s:g}/s at most"
    if value.min_interval_ms:
        yield f"every {value.min_interval_ms} ms at most"
    if value.ttl_s is not None:
        yield f"counts for {value.ttl_s:g} s"
    yield f"by {', then '.join(value.writers)}"


def safe_text(value: OutputValueConfig, tag: TagConfig) -> str:
    """Return what a tag becomes when its output falls safe."""
    if value.strategy == "preset":
        return "nothing known" if value.preset is None else f"{value.preset:g}"
    if value.strategy in ("low", "high"):
        own: float | None = getattr(value, value.strategy)
        bound: float | None = own if own is not None else getattr(tag, value.strategy)
        return f"its {value.strategy} end" + ("" if bound is None else f", {bound:g}")
    return (
        "its last value" if value.strategy == "hold_last" else "whatever the PLC has: authority is given back"
    )


def _range(value: OutputValueConfig, tag: TagConfig) -> str:
    low = value.low if value.low is not None else tag.low
    high = value.high if value.high is not None else tag.high
    if low is None and high is None:
        return ""
    bounds = ("" if low is None else f"{low:g}") + ".." + ("" if high is None else f"{high:g}")
    return f" {bounds} {tag.unit}".rstrip()


def _silence(output: OutputConfig) -> str:
    return f"{output.plc_timeout_ms} ms without a heartbeat (every {output.heartbeat_ms} ms)"


def _rulers(output: OutputConfig) -> str:
    hold = f"; held for {output.hold_s:g} s first" if output.hold_s else ""
    who = output.acknowledged_by
    if who == "either" and output.interface is None and output.acknowledge is None:
        who = "operator"  # the PLC has no way to do so
    back = "comes back by itself" if output.auto_restart else _ACKNOWLEDGED[who]
    return f"{_GRANTED[output.granted_by]}; {back}{hold}"


def watchdog_rows(device: DeviceConfig) -> Iterator[list[str]]:
    """Yield what is written to a device so that it falls safe by itself."""
    watchdog = device.watchdog
    if watchdog is None:
        return
    armed = "is armed before anything else is written"
    if device.simulate:
        armed = "is not armed: the device is simulated"
    again = "an acknowledge" if watchdog.restart == "acknowledge" else "the next connection"
    text = f"its watchdog ({watchdog.profile}, {watchdog.timeout_ms} ms) {armed}; a trip ends with {again}"
    yield [device.name, text]


def reaction_rows(config: EdgeConfig) -> Iterator[list[str]]:
    """Yield the worst cases of each output, from a fault to the fail-safe value in the PLC."""
    for alike in _alike(config):
        output = alike[0]
        found = reactions(config, output)
        width = max(len(_total(each)) for each in found)
        limit_ms = output.process_limit_ms
        for number, each in enumerate(found):
            over = limit_ms is not None and each.total_ms > limit_ms
            beyond = f"   more than the {limit_ms:g} ms that the process tolerates" if over else ""
            yield [
                output.name if number == 0 else "",
                each.fault,
                f"{_total(each):>{width}}",
                f"{parts_text(each)}{beyond}",
            ]
        if len(alike) > 1:
            yield [_more(config, alike)]


def parts_text(reaction: Reaction) -> str:
    """Return what a worst case is made of, e.g. ``silence 300 + write 500``."""
    return " + ".join(f"{name} {_ms(ms)}".rstrip() for name, ms in reaction.parts)


def _total(reaction: Reaction) -> str:
    return f"{_ms(reaction.total_ms)} ms" if math.isfinite(reaction.total_ms) else "never"


def _ms(ms: float) -> str:
    return f"{ms:.6g}" if math.isfinite(ms) else ""


def writes_json(config: EdgeConfig) -> list[dict[str, Any]]:
    """Return the same for programs."""
    return [_output_json(config, output) for output in config.outputs]


def _output_json(config: EdgeConfig, output: OutputConfig) -> dict[str, Any]:
    found: dict[str, Any] = {
        "output": output.name,
        "device": output.device,
        "pipeline": output.pipeline,
        "fail_safe": config.pipeline(output.pipeline).fail_safe_verdict,
        "heartbeat_ms": output.heartbeat_ms,
        "plc_timeout_ms": output.plc_timeout_ms,
        "granted_by": output.granted_by,
        "acknowledged_by": output.acknowledged_by,
        "auto_restart": output.auto_restart,
        "interface": None,
        "values": [_value_json(config, value) for value in output.values],
        "process_limit_ms": output.process_limit_ms,
        "reactions": [_reaction_json(each) for each in reactions(config, output)],
    }
    if output.interface is not None:
        block = eai_map(output.name, output.interface, config.device(output.device).driver)
        found["interface"] = {
            "mode": output.interface.mode,
            "control": output.interface.control,
            "control_words": CONTROL_WORDS,
            "poll_ms": output.interface.poll_ms,
            "status": output.interface.status,
            "status_words": block.status_words,
            "version": block.version,
            "results": {field.config.name: field.word for field in block.results},
        }
    return found


def _value_json(config: EdgeConfig, value: OutputValueConfig) -> dict[str, Any]:
    _, tag = config.tag(value.tag)
    return {
        "tag": value.tag,
        "source": value.source,
        "kind": value.kind,
        "strategy": value.strategy,
        "preset": value.preset,
        "falls_safe_to": safe_text(value, tag),
        "writers": list(value.writers),
    }


def _reaction_json(reaction: Reaction) -> dict[str, Any]:
    parts = [{"part": name, "ms": ms if math.isfinite(ms) else None} for name, ms in reaction.parts]
    total_ms = reaction.total_ms if math.isfinite(reaction.total_ms) else None
    return {"fault": reaction.fault, "total_ms": total_ms, "parts": parts}


def over_limit(config: EdgeConfig, output: OutputConfig) -> tuple[str, str] | None:
    """Return what takes longer than the process tolerates, and of what that is made; None if nothing does."""
    limit_ms = output.process_limit_ms
    if limit_ms is None:
        return None
    found = sorted(reactions(config, output), key=lambda each: -each.total_ms)
    over = [each for each in found if each.total_ms > limit_ms]
    if not over:
        return None
    worst = over[0]
    total = f"up to {_total(worst)}" if math.isfinite(worst.total_ms) else "nobody notices"
    message = f"{worst.fault}: {total}, and the process tolerates {limit_ms:g} ms"
    return message, parts_text(worst) + _others(over[1:])


def _others(reactions_over: Iterable[Reaction]) -> str:
    names = [each.fault for each in reactions_over]
    return f"; too long as well: {', '.join(names)}" if names else ""

"""From a configuration to an output that can run: which tags, which times, which way to the PLC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from edge_opcua.config.eai import CONTROL_WORDS, HIGHEST, eai_map
from edge_opcua.config.outputs import InterfaceConfig, OutputConfig
from edge_opcua.config.reaction import Times, times_of
from edge_opcua.config.schema import DeviceConfig, EdgeConfig, TagConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import Verdict
from edge_opcua.writeback.decision import limits_of
from edge_opcua.writeback.face import Row
from edge_opcua.writeback.handshake import Waits
from edge_opcua.writeback.interface import WATCH_NS, Area, InterfaceFace
from edge_opcua.writeback.output import Chain, Output
from edge_opcua.writeback.shaping import shape_of
from edge_opcua.writeback.tagwrites import References, TagPlan, TagsFace, WrittenTag
from edge_opcua.writeback.target import Audit, RunCommand, Source, Target, no_audit, no_commands
from edge_opcua.writeback.words import safe_answer

_SAFE_VERDICTS: Final = {"NotDecidable": Verdict.NOT_DECIDABLE, "NotOk": Verdict.NOT_OK}
_PERIODS_OLD: Final = 3
_LEAST_EARLY_NS: Final = 100_000_000
_NEVER_NS: Final = 1 << 62
_MS: Final = 1_000_000


def build_output(
    config: EdgeConfig,
    output: OutputConfig,
    devices: tuple[Target, Source],
    bus: Bus,
    clock: Clock,
    *,
    audit: Audit = no_audit,
    run_command: RunCommand = no_commands,
) -> Output:
    """Return one output, ready to run.

    Args:
        config: The whole configuration.
        output: The output.
        devices: The device that it writes to, and the one that its pipeline's capture comes from.
        bus: The tag bus.
        clock: Clock for all times.
        audit: Takes what has to be on record.
        run_command: Carries out commands of the PLC.
    """
    target, source = devices
    pipeline = config.pipeline(output.pipeline)
    times = times_of(config, output)
    safe_verdict = _SAFE_VERDICTS[pipeline.fail_safe_verdict]
    face: InterfaceFace | TagsFace
    if output.interface is not None:
        area = _area(config, output, output.interface, bus, times)
        face = InterfaceFace(
            area,
            target,
            clock,
            landed=lambda: made.landed_late(),
            begin=lambda command: made.begin(command),
        )
    else:
        references = References(_references(config, output, bus, times), target, _ns(times.control_ms))
        face = TagsFace(_plan(config, output, bus, times), references, target, clock)
    chain = Chain(
        source=source,
        capture=bus.reader(config.source_block(pipeline)),
        results=bus.reader(pipeline.result_block),
        wake=_wake(config, output),
        target=target,
        writer=bus.writer(output.authority_block),
        limits=limits_of(output, times),
        safe_verdict=safe_verdict,
        face=face,
    )
    made = Output(output, chain, clock, audit=audit, run_command=run_command)
    return made


def _wake(config: EdgeConfig, output: OutputConfig) -> int:
    """Return which of the pipeline's deadline readers an output is."""
    sharing = [other.name for other in config.outputs if other.pipeline == output.pipeline]
    return sharing.index(output.name)


def _area(
    config: EdgeConfig, output: OutputConfig, interface: InterfaceConfig, bus: Bus, times: Times
) -> Area:
    device = config.device(output.device)
    pipeline = config.pipeline(output.pipeline)
    eai = eai_map(output.name, interface, device.driver)
    assert eai.control_words == CONTROL_WORDS
    ack_ns = interface.ack_timeout_ms * _MS
    waits = Waits(
        # Before the PLC gives up by itself, so that it hears why.
        answer_ns=2 * pipeline.deadline_ms * _MS + ack_ns // 2,
        ack_ns=ack_ns,
        early_ns=max(_LEAST_EARLY_NS, _PERIODS_OLD * interface.poll_ms * _MS),
        safe=safe_answer(eai, int(_SAFE_VERDICTS[pipeline.fail_safe_verdict])),
    )
    return Area(
        eai=eai,
        address=interface.status,
        status_group=output.status_tag,
        control_group=output.control_tag,
        control=Row(
            bus.reader(device.block_name(output.control_tag)), output.control_tag, _ns(times.control_ms)
        ),
        status=Row(bus.reader(device.block_name(output.status_tag)), output.status_tag, WATCH_NS),
        waits=waits,
        write_s=times.write_ms / 1000,
        retry_ns=_ns(times.heartbeat_ms),
        simulated=any(source.simulate for source in config.source_devices(pipeline)),
    )


def _references(config: EdgeConfig, output: OutputConfig, bus: Bus, times: Times) -> Mapping[str, Row]:
    """Return the tags in which a PLC without an interface block says something of itself."""
    found = {
        "granted": output.grant,
        "latched": output.ack_required,
        "trusts": output.plc_trusts,
        "alive": output.plc_heartbeat,
        "echo": output.echo_heartbeat,
        # Where only the PLC acknowledges its own button has to be seen, else nobody ever could.
        "acknowledging": output.acknowledge if output.acknowledged_by == "plc" else None,
    }
    rows = {}
    for meaning, reference in found.items():
        if reference is not None:
            device, tag = config.tag(reference)
            old_ns = max(2 * _ns(times.plc_timeout_ms), _PERIODS_OLD * _period_ns(device, tag.group))
            rows[meaning] = Row(bus.reader(device.block_name(tag.group)), tag.name, old_ns)
    return rows


def _plan(config: EdgeConfig, output: OutputConfig, bus: Bus, times: Times) -> TagPlan:
    tags = []
    for value in output.values:
        device, tag = config.tag(value.tag)
        row = Row(bus.reader(device.block_name(tag.group)), tag.name, _NEVER_NS)
        tags.append(WrittenTag(value, tag.name, tag.type, shape_of(value, tag.low, tag.high), row))
    said = (output.grant, output.ack_required, output.plc_trusts, output.plc_heartbeat, output.echo_heartbeat)
    groups = {
        tag.group
        for reference in said
        if reference is not None and reference.partition("/")[0] == output.device
        for _, tag in (config.tag(reference),)
    }
    return TagPlan(
        output.name,
        tags,
        heartbeat=None if output.heartbeat is None else output.heartbeat.partition("/")[2],
        highest=HIGHEST if output.heartbeat is None else _highest(config.tag(output.heartbeat)[1]),
        groups=sorted(groups),
        write_s=times.write_ms / 1000,
        retry_ns=_ns(times.heartbeat_ms),
    )


def _highest(tag: TagConfig) -> int:
    """Return the largest heartbeat that a tag can hold: an INT, say, ends at 32767."""
    own = int(np.iinfo(tag.type.dtype.name).max)
    return max(1, min(HIGHEST, own, own if tag.high is None else int(tag.high)))


def _ns(duration_ms: float) -> int:
    return round(duration_ms * _MS)


def _period_ns(device: DeviceConfig, group: str) -> int:
    periods = [named.period_ms for named in device.groups if named.name == group]
    return (periods[0] if periods else 1000) * _MS

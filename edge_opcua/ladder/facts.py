"""What a function block is made from: the map, the times and the names, taken from the configuration once."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_opcua.config.eai import EaiMap, eai_map
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Facts:
    """What the generated files say about an output.

    Args:
        output: Its name in the configuration.
        map: Where each word lies.
        device: Name of its device.
        driver: Protocol of its device.
        heartbeat_ms: Period of the edge's heartbeat.
        plc_timeout_ms: Time after which the PLC falls safe without one.
        plc_scan_ms: Cycle time of the PLC's program.
        recover_ms: Time that faults must be gone before the edge asks for an acknowledge.
        result_ms: Longest time from a trigger to its result.
    """

    output: str
    map: EaiMap
    device: str
    driver: str
    heartbeat_ms: int
    plc_timeout_ms: int
    plc_scan_ms: float
    recover_ms: float
    result_ms: int

    @property
    def mode(self) -> str:
        """How the PLC uses results."""
        return self.map.interface.mode

    @property
    def name(self) -> str:
        """The output's name as an identifier of IEC 61131-3: ``press-veto`` becomes ``press_veto``."""
        return re.sub(r"[^A-Za-z0-9]+", "_", self.output).strip("_")

    @property
    def block(self) -> str:
        """Name of the function block."""
        return f"FB_EdgeAI_{self.name}"


def facts_of(config: EdgeConfig, output: OutputConfig) -> Facts:
    """Return what the function block of an output is made from.

    Raises:
        ConfigError: The output has no interface block (C180).
    """
    if output.interface is None:
        message = f"output {output.name} writes single tags: no function block belongs to it"
        raise ConfigError(message, code="C180")
    device = config.device(output.device)
    deadline_ms = config.pipeline(output.pipeline).deadline_ms
    return Facts(
        output=output.name,
        map=eai_map(output.name, output.interface, device.driver),
        device=device.name,
        driver=device.driver,
        heartbeat_ms=output.heartbeat_ms,
        plc_timeout_ms=output.plc_timeout_ms,
        plc_scan_ms=output.plc_scan_ms,
        recover_ms=1000 * output.recover_hold_s,
        # Twice the deadline: one for a result still in work, one for ours; and the time to hand it over.
        result_ms=2 * deadline_ms + output.interface.ack_timeout_ms,
    )

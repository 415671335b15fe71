"""What a function block is made from: the map, the times and the names, taken from the configuration once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.eai import EaiMap, eai_map
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.errors import ConfigError

_LONGEST: Final = 24
"""Characters of an output's name in the PLC: 40, the most Rockwell takes, less our prefix and suffix."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the generated files say about an output.

    Args:
        output: Its name in the configuration.
        map: Where each word lies.
        driver: Protocol of its device.
        device: Name of its device.
        heartbeat_ms: Period of the edge's heartbeat.
        plc_timeout_ms: Time after which the PLC falls safe without one.
        result_ms: Longest time from a trigger to its result.
        auto_restart: Whether the PLC trusts the edge again without an acknowledge.
    """

    output: str
    map: EaiMap
    driver: str
    device: str
    heartbeat_ms: int
    plc_timeout_ms: int
    result_ms: int
    auto_restart: bool

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
        ConfigError: The output has no interface block (C180), or no PLC could take its name (C181).
    """
    if output.interface is None:
        raise ConfigError(f"{output.name} writes single tags: there is no block to export", code="C180")
    deadline_ms = config.pipeline(output.pipeline).deadline_ms
    facts = Facts(
        output=output.name,
        map=eai_map(output.name, output.interface, config.device(output.device).driver),
        driver=config.device(output.device).driver,
        device=output.device,
        heartbeat_ms=output.heartbeat_ms,
        plc_timeout_ms=output.plc_timeout_ms,
        # Twice the deadline: one for a result still in work, one for ours; and the time to hand it over.
        result_ms=2 * deadline_ms + output.interface.ack_timeout_ms,
        auto_restart=output.auto_restart,
    )
    _named_apart(config, facts)
    return facts


def _named_apart(config: EdgeConfig, facts: Facts) -> None:
    """Refuse names that a PLC cannot tell apart (it ignores case) or that are too long for one."""
    if len(facts.name) > _LONGEST:
        raise ConfigError(
            f"{facts.output}: a PLC takes {_LONGEST} characters of an output's name", code="C181"
        )
    for other in config.outputs:
        same = re.sub(r"[^A-Za-z0-9]+", "_", other.name).strip("_").lower() == facts.name.lower()
        if same and other.name != facts.output:
            raise ConfigError(
                f"{facts.output} and {other.name} are one name in a PLC: {facts.block}", code="C181"
            )

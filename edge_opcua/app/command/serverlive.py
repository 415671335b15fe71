"""``check --live`` beside a running server: its snapshot instead of a second connection to each PLC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.look import remedy, told
from edge_opcua.app.command.tagfaults import TagReading
from edge_opcua.config.schema import DeviceConfig, EdgeConfig
from edge_opcua.core.control import ask
from edge_opcua.core.values import is_good
from edge_opcua.drivers.linkstate import State
from edge_opcua.drivers.probing import Finding

ANSWER_S: Final = 3.0
_UNKNOWN: Final = "the running server has no such device"
_UP: Final = (State.ONLINE.name, State.RECOVERING.name, State.SUSPECT.name, State.SIMULATED.name)


@dataclass(slots=True)
class ServerReading:
    """What the server knows of one device.

    Args:
        note: State of its link.
        failure: Why there is no link.
        tags: Its tags, in the order of the table.
    """

    note: str
    failure: Finding | None = None
    tags: list[TagReading] = field(default_factory=list)


async def read_from_server(socket: Path, config: EdgeConfig) -> list[ServerReading] | None:
    """Return what a running server knows of each device; None if it does not answer."""
    rows: dict[str, Mapping[str, Any]] = {}
    links: dict[str, Mapping[str, Any]] = {}
    following: int | None = 0
    while following is not None:
        reply = await ask(socket, "supervisor", "snapshot", {"from": following}, timeout_s=ANSWER_S)
        if not is_good(reply.status):
            return None
        rows |= {row["id"]: row for row in reply.body["rows"]}
        links = {link["device"]: link for link in reply.body["links"]}
        following = reply.body.get("next")
    return [_device(device, rows, links.get(device.name)) for device in config.devices]


def _device(
    device: DeviceConfig, rows: Mapping[str, Mapping[str, Any]], link: Mapping[str, Any] | None
) -> ServerReading:
    if link is None:
        return ServerReading("unknown", Finding("read", _UNKNOWN, "D384", remedy("D384")))
    state = str(link.get("state_text") or "starting")
    error = str(link.get("last_error") or "")
    found = ServerReading(f"in the server: {state}")
    if device.simulate:
        return found
    if state not in _UP:
        code, text, step = told(error or "has no link", "D310")
        found.failure = Finding("read", text, code, step)
        return found
    for row, name in enumerate(device.tags.column("name")):
        known = rows.get(f"{device.name}/{name}")
        if known is None:
            found.tags.append(TagReading(row, None, said="the running server does not know it"))
            continue
        found.tags.append(TagReading(row, known["status"], known["value"], said=_said(known, error)))
    return found


def _said(row: Mapping[str, Any], error: str) -> str:
    """Return the last refusal of the device if it can be about this row: a configuration error."""
    return error if row.get("quality") == "BadConfigurationError" else ""

"""Outputs in the io process: devices as they see them, and what people and programs ask of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from edge_opcua.config.outputs import OutputConfig, Writer
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.control import SUPERVISOR, Reply, Request
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.process import Child
from edge_opcua.core.values import (
    BAD_INVALID_ARGUMENT,
    BAD_INVALID_STATE,
    BAD_NODE_ID_UNKNOWN,
    BAD_NOT_SUPPORTED,
    is_bad,
    is_good,
)
from edge_opcua.drivers.poller import Device
from edge_opcua.drivers.writeterms import WriteKind, WriteTerms
from edge_opcua.writeback.acts import Acts
from edge_opcua.writeback.build import build_output
from edge_opcua.writeback.output import Output
from edge_opcua.writeback.target import Order, Record, Source

RECORDS: Final = "records"
_LOAD_S: Final = 2.0


class DeviceTarget:
    """A device as an output writes to it.

    Args:
        device: The device.
    """

    def __init__(self, device: Device) -> None:
        self._device = device

    @property
    def link_up(self) -> bool:
        """See :class:`~edge_opcua.writeback.target.Target`."""
        return self._device.link_up

    @property
    def why_no_writes(self) -> str:
        """See :class:`~edge_opcua.writeback.target.Target`."""
        return self._device.watchdog_notice

    @property
    def refreshed_ns(self) -> int:
        """See :class:`~edge_opcua.writeback.target.Target`."""
        return self._device.refreshed_ns

    async def write(self, tag: str, value: Any, order: Order, *, timeout_s: float) -> WriteOutcome:
        """See :class:`~edge_opcua.writeback.target.Target`."""
        terms = WriteTerms(order.who, order.why, WriteKind(order.kind), order.tolerance)
        return await self._device.write(tag, value, timeout_s=timeout_s, terms=terms)

    async def write_bytes(
        self, area: str, offset: int, payload: bytes, *, timeout_s: float = 1.0
    ) -> WriteOutcome:
        """See :class:`~edge_opcua.writeback.target.Target`."""
        return await self._device.write_bytes(area, offset, payload, timeout_s=timeout_s)

    async def poll_now(self, group: str, *, timeout_s: float = 5.0) -> WriteOutcome:
        """See :class:`~edge_opcua.writeback.target.Target`."""
        return await self._device.poll_now(group, timeout_s=timeout_s)

    def landed_late(self, tag: str) -> int:
        """See :class:`~edge_opcua.writeback.target.Target`."""
        return self._device.unanswered(tag)[1]

    def listen(self, group: str, call: Callable[[], None]) -> Callable[[], None]:
        """See :class:`~edge_opcua.writeback.target.Target`."""
        return self._device.listen(group, call)


@dataclass(frozen=True, slots=True)
class Sources:
    """The devices that a pipeline's inputs come from, seen as one: it is as fresh as the last of them.

    Args:
        devices: The devices, at least one.
    """

    devices: Sequence[Source]

    @property
    def refreshed_ns(self) -> int:
        """See :class:`~edge_opcua.writeback.target.Source`."""
        return min(device.refreshed_ns for device in self.devices)


def make_output(
    child: Child, config: EdgeConfig, output: OutputConfig, devices: Mapping[str, Device]
) -> Output:
    """Return an output that keeps its records and has its commands carried out by the supervisor."""
    pipeline = config.pipeline(output.pipeline)
    source = Sources([devices[device.name] for device in config.source_devices(pipeline)])
    return build_output(
        config,
        output,
        (DeviceTarget(devices[output.device]), source),
        child.bus,
        child.clock,
        audit=partial(_keep, child),
        run_command=partial(_run_command, child, output.name, pipeline.model),
    )


def _keep(child: Child, record: Record) -> None:
    body = {
        "what": record.what,
        "who": record.who,
        "why": record.why,
        "old": record.old,
        "new": record.new,
        "outcome": record.outcome,
    }
    child.control.notify(RECORDS, "audit", body)


async def _run_command(child: Child, output: str, model: str, name: str, argument: int) -> bool:
    """Begin what the PLC wants: ``load_model`` is a job, of which the result rows tell when it is done."""
    if name != "load_model":
        return False
    body = {"name": model, "version": argument, "sha256": "", "user": f"PLC ({output})"}
    reply = await child.control.request(SUPERVISOR, "load_model", body, timeout_s=_LOAD_S)
    return not is_bad(reply.status)


async def restart_watchdog(
    child: Child, config: EdgeConfig, devices: Mapping[str, Device], request: Request
) -> Reply | None:
    """Answer the acknowledge of an output whose device has tripped; None if that is not what is asked.

    It starts the device's watchdog again, no more: the output itself falls safe over the link that is back,
    and waits for an acknowledge of its own.
    """
    body = request.body
    output = next((each for each in config.outputs if each.name == body.get("output")), None)
    device = None if output is None else devices.get(output.device)
    if body.get("action") != "acknowledge" or device is None or not device.watchdog_tripped:
        return None
    user, why = str(body.get("user") or ""), str(body.get("why") or "")
    outcome = await device.restart_watchdog()
    said = "armed" if is_good(outcome.status) else outcome.reason
    _keep(child, Record(f"watchdog {device.name}", user, "tripped", "armed", said, why))
    return Reply(outcome.status, outcome.reason, {"recorded": True})


async def act(outputs: Mapping[str, Output], request: Request) -> Reply:
    """Answer ``output``: ``action`` of ``user`` on ``output``, with ``why`` and for ``manual`` ``values``."""
    body = request.body
    name, user, why = str(body.get("output")), str(body.get("user") or ""), str(body.get("why") or "")
    output = outputs.get(name)
    if output is None:
        return Reply(BAD_NODE_ID_UNKNOWN, f"there is no output {name}")
    values = body.get("values") or {}
    if not isinstance(values, dict):
        return Reply(BAD_INVALID_ARGUMENT, "values is not a table of tags")
    outcome = await _acted(output.acts, str(body.get("action")), user, why, values)
    return Reply(outcome.status, outcome.reason, {"recorded": True})


async def _acted(acts: Acts, action: str, user: str, why: str, values: dict[str, Any]) -> WriteOutcome:
    match action:
        case "acknowledge":
            return await acts.acknowledge(user, why)
        case "grant":
            return await acts.grant(user, why)
        case "revoke":
            return await acts.revoke(user, why)
        case "manual":
            return await acts.manual(user, values, why)
        case "automatic":
            return await acts.automatic(user, why)
        case "writer_gone":
            return acts.writer_gone(user)
        case _:
            return WriteOutcome(BAD_NOT_SUPPORTED, f"an output cannot {action}")


async def write_owned(
    outputs: Mapping[str, Output], config: EdgeConfig, body: dict[str, Any]
) -> Reply | None:
    """Write a tag that belongs to an output; None if it belongs to none."""
    tag = str(body["tag"])
    owner = next((each for each in config.outputs if tag in each.writers), None)
    if owner is None:
        return None
    output = outputs.get(owner.name)
    if output is None:
        return Reply(BAD_INVALID_STATE, f"the output {owner.name} is being changed")
    writer: Writer = "operator" if body.get("writer") == "operator" else "program"
    user, why = str(body.get("user") or ""), str(body.get("why") or "")
    outcome = await output.acts.write(tag, body["value"], writer=writer, user=user, why=why)
    return Reply(outcome.status, outcome.reason, {"recorded": True})

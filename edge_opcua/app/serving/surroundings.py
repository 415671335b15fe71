"""What a lane process looks at every two seconds: heat, memory, and whether its deadlines can be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Never

import structlog

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.control import SUPERVISOR
from edge_opcua.core.process import Child
from edge_opcua.core.realtime import Granted
from edge_opcua.core.supervise import describe
from edge_opcua.core.worker import Worker
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.group import LaneGroup
from edge_opcua.inference.health import Surroundings
from edge_opcua.inference.memory import MB, Limit, Room
from edge_opcua.inference.nvml import Nvml
from edge_opcua.inference.promises import Promises
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.inference.thermal import Heat, Thermometer

PERIOD_S: Final = 2.0
READ_S: Final = 10.0
# Sources of faults that are nobody's alone: every group sees the same machine, and says the same of it.
HEAT: Final = "machine/heat"
MEMORY: Final = "machine/memory"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LaneParts:
    """What a lane process is made of.

    Args:
        group: Its lanes.
        engine: Runs their models.
        costs: What those cost.
        limit: The memory of the process.
        granted: How urgent it is.
        workers: Threads that run models; 0: the main thread.
    """

    group: LaneGroup
    engine: Engine
    costs: CostTable
    limit: Limit
    granted: Granted
    workers: int


class LaneWatch:
    """Looks around for a lane process, tells its lanes, and tells people what needs them.

    Args:
        child: This process.
        config: The configuration.
        name: Name of the group.
        parts: What the process is made of.
    """

    def __init__(self, child: Child, config: EdgeConfig, name: str, parts: LaneParts) -> None:
        self._child = child
        self._config = config
        self._name = name
        self._group = parts.group
        self._engine = parts.engine
        self._limit = parts.limit
        self._granted = granted = parts.granted
        lanes = list(parts.group.lanes.values())
        self._is_safety = any(lane.spec.lane is LaneClass.SAFETY for lane in lanes)
        cores = len(granted.cores)
        self._promises = Promises(name, lanes, parts.costs, child.clock, workers=parts.workers, cores=cores)
        self._worker = Worker("surroundings")
        self._thermometer: Thermometer | None = None
        self._shedding = False
        self._alarms: dict[str, bool] = {}
        self._surround(Heat(), None)  # how urgent it is, is known already

    async def run(self) -> Never:
        """Look, for ever."""
        source = f"lane/{self._name}"
        if self._is_safety and self._granted.notes:
            self._tell(source, "M593", "; ".join(self._granted.notes))
        else:  # another process of the group may have told it, before the configuration changed
            self._tell_over(source, "M593")
        heat, room = Heat(), None
        while True:
            try:
                # Firmware may take milliseconds to say how hot it is: not in the thread that judges.
                heat, room = await self._worker.call(self._read, timeout_s=READ_S)
            except Exception as exc:  # noqa: BLE001 - drivers of cards and firmware answer; the lanes go on
                # What was seen last holds: a sensor that fails has not become cool.
                _log.warning("lane.blind", group=self._name, error=describe(exc))
            self._apply(heat, room)
            await self._child.clock.sleep(PERIOD_S)

    def _read(self) -> tuple[Heat, Room | None]:
        if self._thermometer is None:
            cards = Nvml.open()
            self._thermometer = Thermometer(
                warm_celsius=self._config.inference.warm_celsius,
                accelerators=() if cards is None else (cards,),
            )
        return self._thermometer.read(), self._limit.renew()

    def _apply(self, heat: Heat, room: Room | None) -> None:
        self._engine.set_scale(heat.factor)
        short = room is not None and room.short
        if (heat.warm or short) != self._shedding:
            self._shedding = heat.warm or short
            self._engine.shed(self._shedding)
            event = "lane.sheds_best_effort" if self._shedding else "lane.serves_all"
            _log.warning(event, group=self._name, where=heat.where, memory_short=short)
        self._alarm(HEAT, "M584", f"best effort is shed: {heat.where}" if heat.warm else "")
        self._alarm(MEMORY, "M583", "" if room is None or not short else self._limit.describe(room))
        # Of lanes that are not active here another process knows more, and tells it.
        for alarm in self._promises.look() if self._group.is_active else ():
            if alarm.text:
                self._tell(alarm.pipeline, "M590", alarm.text)
            else:
                self._tell_over(alarm.pipeline, "M590")
        self._surround(heat, room)

    def _alarm(self, source: str, code: str, text: str) -> None:
        """Tell what has changed; at first whatever it is: a former process may have said otherwise."""
        if self._alarms.get(source) == bool(text):
            return
        self._alarms[source] = bool(text)
        if text:
            self._tell(source, code, text)
        else:
            self._child.control.notify(SUPERVISOR, "fault_over", {"source": source, "code": code})

    def _surround(self, heat: Heat, room: Room | None) -> None:
        found = Surroundings(
            utilisation=max(self._engine.load().utilisation, self._promises.utilisation),
            celsius=heat.celsius,
            throttled=heat.throttled,
            rss_mb=0.0 if room is None else room.rss_bytes / MB,
            scheduler=self._granted.scheduler,
            memory_locked=self._granted.locked,
        )
        schedulable = self._promises.schedulable
        for pipeline, lane in self._group.lanes.items():
            lane.surround(found, schedulable=schedulable[pipeline])

    def _tell(self, source: str, code: str, text: str) -> None:
        self._child.control.notify(SUPERVISOR, "fault", {"source": source, "code": code, "text": text})

    def _tell_over(self, source: str, code: str) -> None:
        self._child.control.notify(SUPERVISOR, "fault_over", {"source": source, "code": code})

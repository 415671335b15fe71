"""A driver whose prober says what a test wants: the commands are tried without a device."""

from __future__ import annotations

from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.plugins import DRIVERS, PluginNotFoundError


class MeterDriver(ModbusDriver):
    """Modbus by another name, so that ``tests.app.meter.probe`` is its prober."""


class MuteDriver(ModbusDriver):
    """A driver without a prober."""


MuteDriver.__module__ = "tests.app.meter.probe"  # a module, which holds no probe of its own

_DRIVERS = {"modbus": MeterDriver, "mute": MuteDriver}


class Meters:
    """The plugins of this package."""

    def names(self, group: str) -> tuple[str, ...]:
        return tuple(_DRIVERS) if group == DRIVERS else ("onnxruntime",)

    def load(self, group: str, name: str) -> type[ModbusDriver]:
        if name not in _DRIVERS:
            raise PluginNotFoundError(group, name, self.names(group))
        return _DRIVERS[name]

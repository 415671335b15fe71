"""ThingsBoard's Modbus connector polls scattered registers; says how long the first complete set took.

Run by the Python of tests/peers/.installed/thingsboard: ``thingsboard_modbus.py PORT TAGS STEP``. Its
platform is this file: it takes the values that the connector wants to store, and counts them. Prints the
seconds from its start to the last of the values, connecting included (one round trip), as JSON.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from typing import Any

from thingsboard_gateway.connectors.modbus.modbus_connector import AsyncModbusConnector

PATIENCE_S = 100.0


class RemoteHandler(logging.Handler):
    """Takes the connector's logs, which would go to the platform."""

    def __init__(self) -> None:
        super().__init__()
        self.loggers: dict[str, Any] = {}
        self.activated = False

    def emit(self, record: logging.LogRecord) -> None:
        """Say what went wrong; the rest is of no interest here."""
        if record.levelno >= logging.ERROR:
            sys.stderr.write(record.getMessage() + "\n")

    def add_logger(self, name: str, level: Any, *_: Any, **__: Any) -> None:
        """Remember a logger, as the connector asks for."""
        self.loggers[name] = level

    update_logger = add_logger


class Platform:
    """What a connector talks to."""

    def __init__(self, tags: int) -> None:
        self.remote_handler = RemoteHandler()
        self.main_handler = self.remote_handler
        self.devices: dict[str, Any] = {}
        self.complete = threading.Event()
        self._tags = tags
        self._seen: set[str] = set()

    def get_config_path(self) -> str:
        """Return where nothing is."""
        return "/nonexistent/"

    def get_devices(self) -> dict[str, Any]:
        """Return the devices that it has told of."""
        return self.devices

    def add_device(self, name: str, content: Any, **_: Any) -> bool:
        """Take a device."""
        self.devices[name] = content
        return True

    def del_device(self, name: str) -> None:
        """Forget a device."""
        self.devices.pop(name, None)

    def send_to_storage(self, _connector: str, _id: str, data: Any) -> None:
        """Take values; note when every tag has been seen."""
        for entry in data.telemetry:
            self._seen.update(key.key for key in entry.values)
        if len(self._seen) >= self._tags:
            self.complete.set()


def main() -> None:
    """Poll until every tag has a value."""
    port, tags, step = map(int, sys.argv[1:])
    slave = {
        "host": "127.0.0.1",
        "port": port,
        "type": "tcp",
        "method": "socket",
        "unitId": 1,
        "deviceName": "plc",
        "deviceType": "default",
        "timeout": 35,
        "byteOrder": "BIG",
        "wordOrder": "BIG",
        "pollPeriod": 60_000,  # shorter than a poll takes, polls pile up and none is ever complete
        "attributes": [],
        "timeseries": [
            {"tag": f"t{i}", "type": "16int", "functionCode": 3, "objectsCount": 1, "address": step * i}
            for i in range(tags)
        ],
    }
    platform = Platform(tags)
    connector = AsyncModbusConnector(platform, {"name": "bench", "master": {"slaves": [slave]}}, "modbus")
    started_s = time.perf_counter()
    connector.open()
    if not platform.complete.wait(PATIENCE_S):
        sys.exit(f"not all values came within {PATIENCE_S:.0f} s")
    sys.stdout.write(json.dumps(time.perf_counter() - started_s))
    sys.stdout.flush()


if __name__ == "__main__":
    main()

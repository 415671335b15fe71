"""What the supervisor shows to people: where clients connect, and what is wrong now."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from edge_opcua.core.clock import Clock

LOW_DISK_BYTES: Final = 64 * 1024 * 1024
LOW_DISK_SHARE: Final = 0.02
DISK_CHECK_S: Final = 2.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Fault:
    """Something a person has to know until it is over."""

    source: str
    code: str
    text: str
    since_ns: int
    since_s: float


class Board:
    """Says what changes, once, and knows what is the case.

    Args:
        clock: For how long something lasted.
        announce: Prints a line for the operator.

    Attributes:
        endpoints: Where clients connect; empty before they can.
        thumbprint: Of the server's certificate.
        certificate: Where that lies.
        faults: What is wrong now, by source.
    """

    def __init__(self, clock: Clock, announce: Callable[[str], None]) -> None:
        self.endpoints: list[str] = []
        self.thumbprint = ""
        self.certificate = ""
        self.faults: dict[str, Fault] = {}
        self._clock = clock
        self._announce = announce

    def report(self, source: str, code: str, text: str) -> None:
        """Show a fault, and say it once."""
        known = self.faults.get(source)
        if known is not None and (known.code, known.text) == (code, text):
            return
        self.faults[source] = Fault(source, code, text, self._clock.utc_ns(), self._clock.monotonic_s())
        self._announce(f"error[{code}] {source}: {text}   explain: edge-opcua explain {code}")
        _log.warning("fault.raised", source=source, code=code, text=text)

    def clear(self, source: str, *, code: str = "") -> None:
        """Take a fault back, and say that it is over.

        Args:
            source: Whose fault it is.
            code: Only a fault of this code; empty: whatever it is.
        """
        known = self.faults.get(source)
        fault = self.faults.pop(source, None) if known and code in ("", known.code) else None
        if fault is not None:
            seconds = self._clock.monotonic_s() - fault.since_s
            self._announce(f"{source}: over after {seconds:.1f} s ({fault.code})")
            _log.info("fault.cleared", source=source, code=fault.code, duration_s=round(seconds, 3))

    def rows(self) -> list[dict[str, Any]]:
        """Return the faults as plain data."""
        return [
            {"source": fault.source, "code": fault.code, "text": fault.text, "since_ns": fault.since_ns}
            for fault in self.faults.values()
        ]

    def listening(
        self, body: Mapping[str, Any], ready_s: float, *, security: Sequence[str], state_dir: Path
    ) -> None:
        """Take over what the OPC UA process says of itself; the first time, say where clients connect.

        Args:
            body: Its notice.
            ready_s: How long the start took, seconds.
            security: Security policies that clients may choose.
            state_dir: State directory.
        """
        first = not self.endpoints
        self.endpoints = [str(url) for url in body.get("endpoints", ())]
        self.thumbprint = str(body.get("thumbprint", ""))
        self.certificate = str(body.get("certificate", ""))
        self.clear("opcua")
        if not first:
            return
        lines = [f"{url}   {', '.join(security)}" for url in self.endpoints]
        lines.append(f"certificate {self.thumbprint}   {self.certificate}")
        lines += [f"warn[S431] {warning}" for warning in body.get("warnings", ())]
        lines.append(f"ready in {ready_s:.1f} s.  Clients that knock: edge-opcua trust --state {state_dir}")
        for line in lines:
            self._announce(line)

    async def watch_disk(self, place: Path) -> None:
        """Look whether the disk of a directory is there and has room, for ever."""
        while True:
            try:
                disk = shutil.disk_usage(place)
            except OSError as exc:
                self.report("disk", "H632", f"{place} is gone: {exc.strerror}")
            else:
                if disk.free < min(LOW_DISK_BYTES, LOW_DISK_SHARE * disk.total):
                    self.report("disk", "R701", f"the disk of {place} is nearly full")
                else:
                    self.clear("disk")
            await self._clock.sleep(DISK_CHECK_S)

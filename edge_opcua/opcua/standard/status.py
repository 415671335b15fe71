"""Server/ServerStatus and the announced shutdown (Part 5 §12.10): a client learns of it in time."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Final

from asyncua import ua

from edge_opcua import __version__
from edge_opcua.core.clock import Clock
from edge_opcua.opcua.standard.variables import Variables
from edge_opcua.opcua.values import utc

__all__ = ["ServerState"]

_STATUS: Final = "Server_ServerStatus"
# Nobody stamps a build: the time of our files is the nearest thing, the release or the installation.
_BUILT_NS: Final = Path(__file__).stat().st_mtime_ns


class ServerState:
    """What ServerStatus says.

    Args:
        product_uri: Of the build information.
        manufacturer: Of the build information.
        product: Name of the product.
        clock: Says the time.
    """

    def __init__(self, product_uri: str, manufacturer: str, product: str, clock: Clock) -> None:
        self._clock = clock
        self._started = utc(clock.utc_ns())
        self._state = ua.ServerState.Running
        self._ends_s: float | None = None
        self._reason = ua.LocalizedText("", "en")
        self._build = ua.BuildInfo(
            ProductUri=product_uri,
            ManufacturerName=manufacturer,
            ProductName=product,
            SoftwareVersion=__version__,
            BuildNumber=__version__,
            BuildDate=utc(_BUILT_NS),
        )

    @property
    def shutting_down(self) -> bool:
        """Whether the shutdown was announced."""
        return self._ends_s is not None

    def announce_shutdown(self, reason: str, within_s: float) -> None:
        """Say that the server ends.

        Args:
            reason: One sentence for people.
            within_s: Time until the connections are closed.
        """
        self._state = ua.ServerState.Shutdown
        self._ends_s = self._clock.monotonic_s() + within_s
        self._reason = ua.LocalizedText(reason, "en")

    def seconds_till_shutdown(self) -> int:
        """Return the whole seconds left, rounded up; 0 while none is announced."""
        if self._ends_s is None:
            return 0
        return max(0, math.ceil(self._ends_s - self._clock.monotonic_s()))

    def structure(self) -> Any:
        """Return the whole ServerStatusDataType."""
        return ua.ServerStatusDataType(
            StartTime=self._started,
            CurrentTime=utc(self._clock.utc_ns()),
            State=self._state,
            BuildInfo=self._build,
            SecondsTillShutdown=self.seconds_till_shutdown(),
            ShutdownReason=self._reason,
        )

    def show(self, variables: Variables) -> None:
        """Give ServerStatus and its parts their values."""
        ids, kinds = ua.ObjectIds, ua.VariantType
        live = variables.live
        live(ids.Server_ServerStatus, kinds.ExtensionObject, self.structure)
        live(ids.Server_ServerStatus_StartTime, kinds.DateTime, lambda: self._started)
        live(ids.Server_ServerStatus_CurrentTime, kinds.DateTime, lambda: utc(self._clock.utc_ns()))
        live(ids.Server_ServerStatus_State, kinds.Int32, lambda: int(self._state))
        live(ids.Server_ServerStatus_SecondsTillShutdown, kinds.UInt32, self.seconds_till_shutdown)
        live(ids.Server_ServerStatus_ShutdownReason, kinds.LocalizedText, lambda: self._reason)
        live(ids.Server_ServerStatus_BuildInfo, kinds.ExtensionObject, lambda: self._build)
        for name in ("ProductUri", "ManufacturerName", "ProductName", "SoftwareVersion", "BuildNumber"):
            variables.show(
                getattr(ids, f"{_STATUS}_BuildInfo_{name}"), getattr(self._build, name), kinds.String
            )
        variables.show(ids.Server_ServerStatus_BuildInfo_BuildDate, self._build.BuildDate, kinds.DateTime)
        live(ids.Server_LocalTime, kinds.ExtensionObject, self._local_time)

    def _local_time(self) -> Any:
        """Return the zone of this machine (Part 5 §12.2): minutes from UTC, summer time included."""
        local = time.localtime(self._clock.utc_ns() / 1e9)
        return ua.TimeZoneDataType(Offset=local.tm_gmtoff // 60, DaylightSavingInOffset=local.tm_isdst > 0)

"""Keeps an eye on certificates: takes a new one of our own without a restart, and says what ends soon."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

import structlog
from asyncua import ua

from edge_opcua.core.clock import Clock
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ConfigError
from edge_opcua.opcua.seam import SecureServer
from edge_opcua.opcua.services.audit import Act
from edge_opcua.security.inspection import Expiry, expiries
from edge_opcua.security.pki import Pki, key_file, local_names, names_missing, own_certificate, read_own

__all__ = ["CertificateWatch"]

# A few hundred files, each forced to a slow card.
FILES_S: Final = 45.0
DAY_S: Final = 86_400.0

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_log = structlog.get_logger(__name__)


class CertificateWatch:
    """Looks at the certificate files as long as the server runs.

    Args:
        server: Gets a changed certificate.
        clock: Clock of the server.

    Attributes:
        expiring: What ended or ends within thirty days, the most urgent first; looked at once a day.
        names_missing: Names and addresses of this box that the certificate lacks; looked at once a day.
    """

    def __init__(self, server: SecureServer, clock: Clock) -> None:
        self.expiring: tuple[Expiry, ...] = ()
        self.names_missing: tuple[str, ...] = ()
        self._changed = asyncio.Event()
        self._server = server
        self._clock = clock
        self._root = server.security.pki.root
        self._files = Worker("opcua.certificates")
        self._seen: tuple[int, ...] = ()
        self._next_day_s = -math.inf

    async def run(self) -> None:
        """Look every few seconds whether the files changed, and once a day what ends soon."""
        try:
            while True:
                await self.look()
                if self._clock.monotonic_s() >= self._next_day_s:
                    self._next_day_s = self._clock.monotonic_s() + DAY_S
                    await self._look_at_ends()
                await self._clock.sleep(self._server.iserver.limits.recheck_s)
        finally:
            self._files.close()

    async def call(self, fn: Callable[[*_Ts], _T], *arguments: *_Ts) -> _T:
        """Run something that works on these files in their thread.

        Raises:
            TimeoutError: The disk does not answer.
        """
        return await self._files.call(fn, *arguments, timeout_s=FILES_S)

    async def changed(self) -> Pki:
        """Wait for the next change of our certificate, and return the new one."""
        await self._changed.wait()
        self._changed.clear()
        return self._server.security.pki

    async def look(self) -> None:
        """Take the certificate that lies there now, if it is another one."""
        try:
            version = await self.call(_version, self._root)
            if version == self._seen:
                return
            pki = await self.call(read_own, self._root)
        except (OSError, TimeoutError, ConfigError) as exc:
            # It may be half written, or its disk away for a moment: go on with the one we have.
            _log.warning("certificate.not_readable", error=str(exc) or "no answer in time")
            return
        self._seen = version
        self.adopt(pki, who="edge-opcua certs")

    def adopt(self, pki: Pki, *, who: str, session: ua.NodeId | None = None) -> None:
        """Use a certificate from now on; the same one changes nothing.

        Args:
            pki: What lies in the files.
            who: Who put it there, for the audit.
            session: Session of a client that did it; None: somebody on this machine.
        """
        now = self._server.security.pki
        if pki.certificate == now.certificate and pki.chain == now.chain:
            return
        if pki.application_uri != now.application_uri:
            _log.error(
                "certificate.other_application", uri=pki.application_uri, help="restart the server to use it"
            )
            return
        self._server.use(pki)
        self._changed.set()
        self._next_day_s = -math.inf
        facts = {"thumbprint": pki.thumbprint, "before": now.thumbprint}
        self._server.iserver.audit(
            Act("certificate.updated", 0, who, session or ua.NodeId(), ua.NodeId(), facts)
        )

    async def _look_at_ends(self) -> None:
        try:
            self.expiring = tuple(await self.call(expiries, self._root, self._clock.utc_ns()))
            wanted = await self.call(local_names, self._server.security.names)
        except (OSError, TimeoutError) as exc:
            _log.warning("certificate.not_readable", error=str(exc) or "no answer in time")
            return
        self.names_missing = names_missing(self._server.security.pki.certificate, wanted)
        for one in self.expiring:
            facts = {"kind": one.kind, "name": one.name, "thumbprint": one.thumbprint}
            _log.warning("certificate.expires", text=one.text, days=round(one.days, 1), code="S431", **facts)
            self._server.iserver.audit(
                Act("certificate.expires", facts={**facts, "days": round(one.days, 1)})
            )
        if self.names_missing:
            _log.warning("certificate.names_missing", names=self.names_missing, help="edge-opcua recert")


def _version(root: Path) -> tuple[int, ...]:
    stats = [file.stat() for file in (own_certificate(root), key_file(root))]
    return tuple(number for one in stats for number in (one.st_mtime_ns, one.st_ino))

"""Keeps an eye on certificates: takes a new one of our own, tells who is trusted anew, and what ends soon."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

import structlog
from asyncua import ua

from edge_opcua.core.clock import Clock
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ConfigError
from edge_opcua.opcua.seam import SecureServer
from edge_opcua.opcua.services.audit import Act
from edge_opcua.security.inspection import Expiry, expiries
from edge_opcua.security.pki import (
    Pki,
    key_file,
    local_names,
    names_missing,
    own_certificate,
    read_own,
    thumbprint,
)
from edge_opcua.security.trust import TrustList
from edge_opcua.security.trustfiles import TrustFiles
from edge_opcua.security.users import role_names

__all__ = ["CertificateWatch"]

# A few hundred files, each forced to a slow card.
FILES_S: Final = 45.0
DAY_S: Final = 86_400.0
# Who changes files, where nobody says more.
ON_THIS_MACHINE: Final = "somebody on this machine"
TRUST_LIST: Final = ua.NodeId(
    ua.ObjectIds.ServerConfiguration_CertificateGroups_DefaultApplicationGroup_TrustList
)

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Listed:
    """Who is in the trust lists, as far as a change of it is to be told.

    Args:
        roles: Roles of each trusted certificate by its thumbprint.
        issuers: Thumbprints of those that only help to build chains.
        lists: Digests of the revocation lists.
    """

    roles: Mapping[str, list[str]]
    issuers: frozenset[str]
    lists: frozenset[str]

    def since(self, before: Listed) -> dict[str, Any]:
        """Return what changed, for the audit."""
        old, new = {*before.roles} | before.issuers, {*self.roles} | self.issuers
        kept = before.roles.keys() & self.roles.keys()
        return {
            "added": sorted(new - old),
            "removed": sorted(old - new),
            "roles": {one: self.roles[one] for one in sorted(kept) if self.roles[one] != before.roles[one]},
            "lists": len(self.lists),
        }


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
        self._trust_version: tuple[int, ...] = ()
        self._listed: Listed | None = None
        self._one_change_at_a_time = asyncio.Lock()
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
                await self._look_at_trust()
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

    @asynccontextmanager
    async def changing_trust(self, who: str, session: ua.NodeId) -> AsyncIterator[None]:
        """Change the trust lists inside; what is another afterwards is told in the name of this client.

        Args:
            who: The client.
            session: Its session.
        """
        async with self._one_change_at_a_time:
            await self._compare(ON_THIS_MACHINE, ua.NodeId())
            yield
            await self._compare(who, session)

    async def _look_at_trust(self) -> None:
        try:
            async with self._one_change_at_a_time:
                version = await self.call(self._server.security.trust.version)
                if version != self._trust_version:
                    await self._compare(ON_THIS_MACHINE, ua.NodeId())
                    self._trust_version = version
        except (OSError, TimeoutError) as exc:
            _log.warning("trust.not_readable", error=str(exc) or "no answer in time")

    async def _compare(self, who: str, session: ua.NodeId) -> None:
        """Tell what is another in the lists than last time; the first time there is nothing to compare."""
        before, self._listed = self._listed, await self.call(_listed, self._root)
        if before is None or before == self._listed:
            return
        facts = self._listed.since(before)
        _log.info("trust.changed", who=who, **facts)
        self._server.iserver.audit(Act("trust.changed", 0, who, session, TRUST_LIST, facts))

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
        self.adopt(pki, who=ON_THIS_MACHINE)

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


def _listed(root: Path) -> Listed:
    content = TrustFiles(root).content()
    return Listed(
        roles={one.thumbprint: role_names(one.roles) for one in TrustList(root).trusted()},
        issuers=frozenset(map(thumbprint, content.issuers)),
        lists=frozenset(map(thumbprint, (*content.trusted_lists, *content.issuer_lists))),
    )

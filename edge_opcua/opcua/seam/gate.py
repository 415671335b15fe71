"""The security decisions of one server, made off the event loop, and one log line for each refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.core.worker import Worker
from edge_opcua.security.pki import Pki, utc
from edge_opcua.security.trust import Decision, Knock, TrustList, knock_of, refusal
from edge_opcua.security.users import UserStore

DECIDE_S: Final = 5.0
RECORD_S: Final = 5.0
# One who tries again and again is one line a minute, a crowd is this many.
QUIET_S: Final = 60.0
MAX_LINES: Final = 60
# Refused clients whose certificates wait to be written; beyond that they are only reported.
MAX_RECORDING: Final = 4

_log = structlog.get_logger(__name__)


def ignore_knock(_: Knock) -> None:
    """Do nothing beyond the log."""


@dataclass(frozen=True, slots=True)
class ServerSecurity:
    """What a server needs to know about itself and its clients.

    Args:
        pki: Its own certificate and key.
        trust: Who may connect.
        policies: Security policies offered, each as SignAndEncrypt only.
        allow_none: Whether sessions without security exist; they may read and subscribe, nothing else.
        on_refused: Called on the event loop for each client that was refused; must not block.
        users: Who can sign in; None: nobody by name.
        anonymous: Whether a client may connect without a user; its certificate says what it may do.
        names: Names under which clients reach this box besides its own, for certificates.
    """

    pki: Pki
    trust: TrustList
    policies: tuple[str, ...] = ("Basic256Sha256",)
    allow_none: bool = False
    on_refused: Callable[[Knock], None] = ignore_knock
    users: UserStore | None = None
    anonymous: bool = True
    names: tuple[str, ...] = ()


class Gate:
    """Decides who comes in.

    Deciding and keeping a record have a thread each: a flood of strangers whose certificates are written to
    a slow disk must not make a trusted client wait.

    Args:
        security: The server's settings.
        clock: Times the quiet between two equal log lines.
        on_told: Called for each refusal that is worth a line, so not for each of a flood; must not block.
    """

    def __init__(
        self, security: ServerSecurity, clock: Clock, on_told: Callable[[Knock], None] = ignore_knock
    ) -> None:
        self.security = security
        self.refused = 0
        self._on_told = on_told
        self.clock = clock
        self._deciding = Worker("opcua.trust")
        self._recording = Worker("opcua.knocks")
        self._waiting = 0
        self._told: set[tuple[str, str]] = set()
        self._untold = 0
        self._minute_s = clock.monotonic_s()

    async def admit(self, sent: bytes, address: str) -> Decision:
        """Decide whether a channel may open; the lists are read anew. A refused certificate is kept."""
        try:
            decision = await self._deciding.call(self.security.trust.decide, sent, timeout_s=DECIDE_S)
        except (OSError, TimeoutError) as exc:  # no list, no trust
            decision = refusal("S414", str(exc) or "no answer in time")
            self.refuse(decision, address)
            return decision
        if not decision.trusted:
            self._tell(await self._record(decision, address))
        return decision

    async def version(self) -> tuple[int, ...] | None:
        """Return the version of the lists; None if it cannot be told now."""
        try:
            return await self._deciding.call(self.security.trust.version, timeout_s=DECIDE_S)
        except (OSError, TimeoutError) as exc:
            # A disk that is away for a moment ends no channel that is open already.
            _log.warning("trust.not_readable", error=str(exc) or "no answer in time")
            return None

    def use(self, pki: Pki) -> None:
        """Be somebody new: channels that open from now on are asked for this certificate."""
        self.security = replace(self.security, pki=pki)

    def refuse(self, decision: Decision, address: str) -> None:
        """Report a refusal that has nothing to do with the trust list, so that nothing is kept of it."""
        self._tell(knock_of(decision, address, utc(self.clock.utc_ns())))

    def close(self) -> None:
        """Let the threads go."""
        self._deciding.close()
        self._recording.close()

    async def _record(self, decision: Decision, address: str) -> Knock:
        if self._waiting < MAX_RECORDING:
            self._waiting += 1
            try:
                return await self._recording.call(
                    self.security.trust.record, decision, address, timeout_s=RECORD_S
                )
            except (OSError, TimeoutError) as exc:
                _log.warning("trust.not_kept", error=str(exc) or "no answer in time")
            finally:
                self._waiting -= 1
        return knock_of(decision, address, utc(self.clock.utc_ns()))

    def _tell(self, knock: Knock) -> None:
        now_s = self.clock.monotonic_s()
        if now_s - self._minute_s >= QUIET_S:
            if self._untold:
                _log.warning("client.refused_more", count=self._untold)
            self._told.clear()
            self._untold, self._minute_s = 0, now_s
        kind = (knock.thumbprint or knock.address.rpartition(":")[0], knock.code)
        told = kind in self._told or len(self._told) >= MAX_LINES
        if told:
            self._untold += 1
        else:
            self._told.add(kind)
            self._on_told(knock)
        self.refused += 1
        log = _log.debug if told else _log.warning
        log(
            "client.refused",
            number=knock.number,
            peer=knock.address,
            name=knock.name,
            application_uri=knock.application_uri,
            thumbprint=knock.thumbprint,
            code=knock.code,
            reason=knock.reason,
            file=str(knock.file) if knock.file else "",
        )
        self.security.on_refused(knock)

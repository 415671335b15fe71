"""Who the user of a session is: which identity tokens are offered, and what they are worth.

Part 4 §5.7.3 and §7.40. A client gets one of two answers, whatever the reason: BadIdentityTokenRejected for a
token of a kind that is not offered, BadUserAccessDenied for one that is wrong. The exact reason is in the log
and in the audit trail. Passwords are hashed in a thread, one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.security_policies import SecurityPolicyNone

from edge_opcua.core.clock import Clock
from edge_opcua.core.worker import Worker
from edge_opcua.errors import SecurityError
from edge_opcua.opcua.seam.gate import ServerSecurity
from edge_opcua.security.lockout import LockOut
from edge_opcua.security.roles import Role
from edge_opcua.security.tokens import ALGORITHMS, check_signature, open_secret
from edge_opcua.security.trust import Decision, Trusted
from edge_opcua.security.users import User, UserStore, Verdict, role_names

READ_S: Final = 5.0
VERIFY_S: Final = 10.0
# Sign-ins that wait for their turn; one more is told that the server is busy.
MAX_WAITING: Final = 32
# A crowd that asks for endpoints does not make the disk busy.
REFRESH_S: Final = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """The user a session acts for.

    Args:
        roles: What he may do.
        user: Who it is; None: anonymous.
        by_certificate: Whether he signed in with a certificate.
    """

    roles: frozenset[Role]
    user: User | None = None
    by_certificate: bool = False

    @property
    def name(self) -> str:
        """Name of the user; empty if anonymous."""
        return self.user.name if self.user is not None else ""


NOBODY: Final = Account(frozenset({Role.ANONYMOUS}))


@dataclass(frozen=True, slots=True)
class Circumstances:
    """On which channel, and for which session, somebody wants to sign in.

    Args:
        peer: Certificate of the client application; None without security.
        address: ``host:port`` of the client.
        policy_uri: Security policy of the channel.
        certificate: Our certificate on this channel (DER).
        key: Its private key; None without security.
        nonce: Last ServerNonce of the session.
    """

    peer: Decision | None
    address: str
    policy_uri: str
    certificate: bytes
    key: Any = field(repr=False)
    nonce: bytes = field(repr=False)

    @property
    def client(self) -> tuple[str, str]:
        """What tells clients apart for the lock-out: certificate and address."""
        return self.peer.thumbprint if self.peer else "", self.address.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Who can sign in, as last read.

    Args:
        users: The users.
        clients: The trusted client applications.
    """

    users: tuple[User, ...] = ()
    clients: tuple[Trusted, ...] = ()


class SignInRefusedError(ServiceError):
    """Somebody was not signed in.

    Args:
        status: What the client is told.
        verdict: The exact reason, for log and audit only.
        name: What he called himself, fit for a log.
    """

    def __init__(self, status: int, verdict: Verdict, name: str = "") -> None:
        super().__init__(status)
        self.verdict = verdict
        self.name = name


class Identity:
    """Signs users in.

    Args:
        security: The users, the trust list, and whether anonymous users are welcome.
        clock: For the lock-out.
        tell_locked: Called with user, client and seconds when somebody is locked.
    """

    def __init__(
        self, security: ServerSecurity, clock: Clock, tell_locked: Callable[[str, str, float], None]
    ) -> None:
        self.snapshot = Snapshot()
        self._security = security
        self._clock = clock
        self._tell_locked = tell_locked
        self._locks = LockOut(clock)
        self._hashing = Worker("opcua.passwords")
        self._looking = Worker("opcua.users")
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._version: tuple[int, ...] | None = None
        self._read_s = -REFRESH_S
        self._faulty = False

    # --- what is offered -----------------------------------------------------------------------------

    def offered(self, policy_uri: str) -> list[ua.UserTokenPolicy]:
        """Return the ways to sign in on an endpoint, only those by which somebody can.

        Without security there is none but Anonymous: a password would be a present to whoever listens.
        """
        found = []
        if self._security.anonymous:
            found.append(_policy("anonymous", ua.UserTokenType.Anonymous, SecurityPolicyNone.URI))
        if policy_uri not in ALGORITHMS:
            return found
        name = policy_uri.rpartition("#")[2]
        if any(user.password is not None for user in self.snapshot.users):
            found.append(_policy(f"username_{name}", ua.UserTokenType.UserName, policy_uri))
        if any(user.certificate for user in self.snapshot.users):
            found.append(_policy(f"certificate_{name}", ua.UserTokenType.Certificate, policy_uri))
        return found

    async def begin(self) -> None:
        """Read the users for the first time, and say so if nobody at all can connect."""
        await self.refresh(now=True)
        if not any(self.offered(policy_uri) for policy_uri in ALGORITHMS):
            _log.warning("users.nobody_can_sign_in", hint="edge-opcua users add NAME --role ROLE")

    async def refresh(self, *, now: bool = False) -> None:
        """Look whether users or trusted clients have changed.

        Args:
            now: Also if somebody looked a moment ago.
        """
        now_s = self._clock.monotonic_s()
        if not now and now_s - self._read_s < REFRESH_S:
            return
        self._read_s = now_s
        try:
            version, found = await self._looking.call(self._read, self._version, timeout_s=READ_S)
        except (OSError, TimeoutError, SecurityError) as exc:
            self._fault(exc)
            return
        self._faulty = False
        if found is not None and self._version is not None:
            _log.info("users.changed", users=len(found.users), clients=len(found.clients))
        self._version, self.snapshot = version, found or self.snapshot

    def _read(self, known: tuple[int, ...] | None) -> tuple[tuple[int, ...], Snapshot | None]:
        users, trust = self._security.users, self._security.trust
        version = (*(users.version() if users else ()), -1, *trust.version())
        if version == known:
            return version, None
        return version, Snapshot(users.users() if users else (), tuple(trust.trusted()))

    def _fault(self, exc: Exception) -> None:
        log = _log.debug if self._faulty else _log.error
        self._faulty = True
        # Nobody loses his session because of a disk that is away for a moment; nobody new comes in by name.
        log("users.not_readable", code="S459", error=str(exc) or "no answer in time")

    # --- signing in ----------------------------------------------------------------------------------

    async def sign_in(self, token: Any, signature: ua.SignatureData, where: Circumstances) -> Account:
        """Return whom a token stands for.

        Args:
            token: UserIdentityToken of the ActivateSession request.
            signature: Its UserTokenSignature.
            where: The channel and the session.

        Raises:
            ServiceError: Nobody; always one of two codes, or BadServerTooBusy.
        """
        await self.refresh(now=True)
        if isinstance(token, ua.UserNameIdentityToken):
            return await self._by_password(token, where)
        if isinstance(token, ua.X509IdentityToken):
            return await self._by_certificate(token, signature, where)
        return self._anonymous(token, where)

    def _anonymous(self, token: Any, where: Circumstances) -> Account:
        """Part 4 §7.40.3; a null token means the same. What he may is up to his application's certificate."""
        known = isinstance(token, ua.AnonymousIdentityToken)
        null = token is None or (isinstance(token, ua.ExtensionObject) and token.TypeId == ua.NodeId())
        if not (known or null) or not self._security.anonymous:
            raise _rejected("S454", type(token).__name__ if not (known or null) else "anonymous")
        # Some clients leave it out: there is only one way to be anonymous.
        if known and token.PolicyId not in (None, "", "anonymous"):
            raise _rejected("S454", f"policy {_printable(token.PolicyId)!r}")
        return anonymous(where.peer)

    async def _by_password(self, token: ua.UserNameIdentityToken, where: Circumstances) -> Account:
        """Part 4 §7.40.4; only encrypted, only as the policy says, only for this very session."""
        name = _printable(token.UserName)
        self._expect(token.PolicyId, ua.UserTokenType.UserName, where, name)
        if token.EncryptionAlgorithm != ALGORITHMS[where.policy_uri][0]:
            detail = _printable(token.EncryptionAlgorithm) or "in plain text"
            raise _rejected("S455", detail, name)
        sent = bytes(token.Password or b"")
        check = partial(self._check_password, token.UserName, sent, where)
        return await self._verified(name, where, check)

    def _check_password(self, name: str | None, sent: bytes, where: Circumstances) -> Verdict:
        """Decrypt and compare; whatever is wrong, the same work is done. Runs in the thread."""
        fault, password = "", None
        try:
            password = open_secret(where.key, ALGORITHMS[where.policy_uri][0], sent, where.nonce)
        except SecurityError as exc:
            fault = str(exc)
        verdict = self._users().check_password(str(name or ""), password)
        return Verdict(None, "S456", fault) if fault else verdict

    async def _by_certificate(
        self, token: ua.X509IdentityToken, signature: ua.SignatureData, where: Circumstances
    ) -> Account:
        """Part 4 §7.40.5: the token's certificate signs our certificate and the session's nonce."""
        self._expect(token.PolicyId, ua.UserTokenType.Certificate, where)
        if signature.Algorithm != ALGORITHMS[where.policy_uri][1]:
            raise _rejected("S458", f"algorithm {_printable(signature.Algorithm)!r}")
        sent = bytes(token.CertificateData or b"")
        check = partial(self._check_certificate, sent, bytes(signature.Signature or b""), where)
        return await self._verified("", where, check, by_certificate=True)

    def _check_certificate(self, sent: bytes, signature: bytes, where: Circumstances) -> Verdict:
        try:
            check_signature(sent, ALGORITHMS[where.policy_uri][1], where.certificate + where.nonce, signature)
        except SecurityError as exc:
            return Verdict(None, "S458", str(exc))
        return self._users().check_certificate(sent)

    def _expect(
        self, policy_id: str | None, kind: ua.UserTokenType, where: Circumstances, name: str = ""
    ) -> None:
        """Refuse a token whose PolicyId was not offered on this endpoint for its kind."""
        offered = self.offered(where.policy_uri) if where.peer is not None else []
        if not any(policy.TokenType == kind and policy.PolicyId == policy_id for policy in offered):
            raise _rejected("S454", f"{kind.name}, policy {_printable(policy_id)!r}", name)

    async def _verified(
        self,
        name: str,
        where: Circumstances,
        check: Callable[[], Verdict],
        *,
        by_certificate: bool = False,
    ) -> Account:
        """Run a check in the thread, unless its client has to wait, and count its failure."""
        if self._waiting >= MAX_WAITING:
            raise ServiceError(ua.StatusCodes.BadServerTooBusy)
        self._waiting += 1
        try:
            # One at a time: who sends fifty guesses at once gets five, not fifty.
            async with asyncio.timeout(VERIFY_S), self._turn:
                verdict = await self._judged(name, where, check)
        except TimeoutError as exc:
            raise _denied(Verdict(None, "S459", "no answer in time"), name) from exc
        finally:
            self._waiting -= 1
        if verdict.user is None:
            raise _denied(verdict, name)
        return Account(_signed_in(verdict.user), verdict.user, by_certificate)

    async def _judged(self, name: str, where: Circumstances, check: Callable[[], Verdict]) -> Verdict:
        wait_s = self._locks.waits_s(name, *where.client)
        if wait_s > 0:
            return Verdict(None, "S453", f"for {wait_s:.0f} s more")
        try:
            verdict = await self._hashing.call(check, timeout_s=VERIFY_S)
        except (OSError, SecurityError) as exc:
            return Verdict(None, "S459", str(exc))
        if verdict.user is not None:
            self._locks.succeeded(name, *where.client)
        elif (lock_s := self._locks.failed(name, *where.client)) > 0:
            self._tell_locked(name, where.address, lock_s)
        return verdict

    async def is_still(self, account: Account) -> Account | None:
        """Return an account as it is now; None: whoever uses it has to go."""
        if account.user is None:
            return account
        look = partial(self._users().is_still, account.user, by_certificate=account.by_certificate)
        try:
            user = await self._looking.call(look, timeout_s=READ_S)
        except (OSError, TimeoutError, SecurityError) as exc:
            self._fault(exc)
            return account
        return None if user is None else Account(_signed_in(user), user, account.by_certificate)

    def close(self) -> None:
        """Let the threads go."""
        self._hashing.close()
        self._looking.close()

    def _users(self) -> UserStore:
        assert self._security.users is not None, "without users none of their policies is offered"
        return self._security.users


def anonymous(peer: Decision | None) -> Account:
    """Return the account of whoever does not say who he is: his application's certificate speaks for him."""
    return Account(frozenset({Role.ANONYMOUS}) | (peer.roles if peer is not None else frozenset()))


def facts_of(account: Account) -> Mapping[str, Any]:
    """Return what the audit trail keeps of an account."""
    return {"user": account.name, "roles": role_names(account.roles)}


def _signed_in(user: User) -> frozenset[Role]:
    """Who signs in acts with his own rights, not with those of the application he uses."""
    return frozenset({Role.ANONYMOUS, Role.AUTHENTICATED_USER}) | user.roles


def _policy(policy_id: str, kind: ua.UserTokenType, policy_uri: str) -> ua.UserTokenPolicy:
    policy = ua.UserTokenPolicy()
    policy.PolicyId, policy.TokenType, policy.SecurityPolicyUri = policy_id, kind, policy_uri
    return policy


def _rejected(code: str, detail: str, name: str = "") -> SignInRefusedError:
    status = int(ua.StatusCodes.BadIdentityTokenRejected)
    return SignInRefusedError(status, Verdict(None, code, detail), name)


def _denied(verdict: Verdict, name: str) -> SignInRefusedError:
    return SignInRefusedError(int(ua.StatusCodes.BadUserAccessDenied), verdict, name)


def _printable(text: Any) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(text or "")[:200])

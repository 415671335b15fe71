"""Users and what they may do: names, roles, hashes of passwords, user certificates, in one file.

``users.json`` in the state directory (mode 0600) is changed by ``edge-opcua users`` and read by the server,
which notices every change without a restart. A password is never kept, only a salted scrypt hash of it.
User certificates have a trust directory of their own, ``pki/users/trusted``.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.errors import SecurityError
from edge_opcua.security.chain import UNREADABLE, der_of, load
from edge_opcua.security.pki import thumbprint, wait_for_lock, write_atomic
from edge_opcua.security.roles import Role, parse_roles
from edge_opcua.security.trust import TrustList

MIN_PASSWORD: Final = 8
MAX_PASSWORD_BYTES: Final = 512
MAX_NAME: Final = 64
MAX_USERS: Final = 1000
MAX_FILE_BYTES: Final = 1024 * 1024
VERSION: Final = 1

# Whatever can be wrong with what somebody wrote by hand, or a disk lost.
_DAMAGED: Final = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    SecurityError,
)

_log = structlog.get_logger(__name__)

# Why somebody was not signed in, by stable code; for log and audit, never for the wire.
REASONS: Final[dict[str, str]] = {
    "S450": "no such user",
    "S451": "wrong password",
    "S452": "the user is disabled",
    "S453": "locked after too many failures",
    "S454": "this kind of sign-in is not offered",
    "S455": "the password is not encrypted as the policy demands",
    "S456": "the secret was not made for this session",
    "S457": "no user has this certificate",
    "S458": "the signature of the user certificate is wrong",
    "S459": "the users cannot be read",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Parameters of scrypt (RFC 7914): 128 * n * r bytes of memory, ``p`` times over.

    Args:
        n: CPU and memory cost, a power of two.
        r: Block size.
        p: How often.
    """

    n: int = 2**15
    r: int = 8
    p: int = 3

    def digest(self, password: bytes, salt: bytes) -> bytes:
        """Return the hash; takes the time it is meant to take."""
        room = 256 * self.n * self.r + 1024 * 1024
        return hashlib.scrypt(password, salt=salt, n=self.n, r=self.r, p=self.p, maxmem=room, dklen=32)

    def is_sane(self) -> bool:
        """Whether a hash with these parameters is neither for nothing nor the end of this machine."""
        power = self.n > 0 and self.n & (self.n - 1) == 0
        return power and 2**10 <= self.n <= 2**18 and 1 <= self.r <= 16 and 1 <= self.p <= 16


@dataclass(frozen=True, slots=True)
class Password:
    """The hash of a password.

    Args:
        cost: How it was hashed.
        salt: Random bytes of this user.
        digest: The hash.
    """

    cost: Cost
    salt: bytes
    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, password: str, cost: Cost) -> Password:
        """Hash a password with a new salt."""
        salt = secrets.token_bytes(16)
        return cls(cost, salt, cost.digest(password.encode(), salt))

    def matches(self, password: bytes) -> bool:
        """Whether this is the password."""
        return hmac.compare_digest(self.cost.digest(password, self.salt), self.digest)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who can sign in.

    Args:
        name: How he is called; unique whatever its case.
        roles: What he may do.
        disabled: Whether he is kept out.
        password: Hash of his password; None: he has none.
        certificate: SHA-256 of his certificate, in hex; empty: he has none.
        thumbprint: SHA-1 of it, as clients show it.
    """

    name: str
    roles: frozenset[Role]
    disabled: bool = False
    password: Password | None = None
    certificate: str = ""
    thumbprint: str = ""

    @property
    def credentials(self) -> tuple[bytes, str]:
        """What changes when his password or certificate does; not secret."""
        return self.password.salt if self.password else b"", self.certificate


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether somebody is who he says he is.

    Args:
        user: Who it is; None: refused.
        code: Stable code of the reason; empty if he is signed in.
        detail: More about it, for the log.
    """

    user: User | None
    code: str = ""
    detail: str = ""

    @property
    def reason(self) -> str:
        """One sentence for log and audit."""
        known = REASONS.get(self.code, "")
        return f"{known} ({self.detail})" if known and self.detail else known or self.detail


@dataclass(frozen=True, slots=True)
class UserRow:
    """One line of a list of users.

    Args:
        name: Name.
        roles: Names of his roles, sorted.
        signs_in_with: ``password``, ``certificate``, both or nothing.
        disabled: Whether he is kept out.
        thumbprint: SHA-1 of his certificate; empty without.
        until: End of its validity; None without one.
    """

    name: str
    roles: tuple[str, ...]
    signs_in_with: tuple[str, ...]
    disabled: bool
    thumbprint: str
    until: dt.datetime | None


class UserStore:
    """The users of one server; the command line and the server work on the same file.

    Every method blocks: in the server they run in a worker thread.

    Args:
        root: The state directory.
        clock: For the validity of user certificates.
        cost: How new passwords are hashed.
    """

    def __init__(self, root: Path, *, clock: Clock | None = None, cost: Cost | None = None) -> None:
        self._root = root
        self._file = root / "users.json"
        self._trusted = root / "pki" / "users" / "trusted"
        self._certificates = TrustList(root / "pki" / "users", clock=clock, people=True)
        self._cost = cost or Cost()
        self._nobody = Password(self._cost, b"nobody", bytes(32))
        self._read_at: tuple[int, ...] | None = None
        self._users: tuple[User, ...] = ()

    # --- the server's side ---------------------------------------------------------------------------

    def version(self) -> tuple[int, ...]:
        """Return what changes whenever a user or the trust in a user certificate does."""
        return (*self._stamp(), 0, *self._certificates.version())

    def users(self) -> tuple[User, ...]:
        """Return all users, by name; the file is read again only after it has changed.

        Raises:
            SecurityError: The file is damaged.
            OSError: It cannot be read.
        """
        stamp = self._stamp()
        if stamp != self._read_at:
            self._users = self._read() if stamp else ()
            self._read_at = stamp
        return self._users

    def find(self, name: str) -> User | None:
        """Return the user of that name."""
        return next((user for user in self.users() if user.name == name), None)

    def check_password(self, name: str, password: bytes | None) -> Verdict:
        """Say whether the password is that of the user; takes the same time for a user that does not exist.

        Args:
            name: What he calls himself.
            password: UTF-8 bytes; None: it could not even be read, and is wrong.
        """
        user = self.find(name)
        known = user.password if user is not None else None
        right = (known or self._nobody).matches(password or b"")
        if user is None:
            return Verdict(None, "S450", name)
        if known is None or password is None or not right:
            return Verdict(None, "S451", name)
        return Verdict(None, "S452", name) if user.disabled else Verdict(user)

    def check_certificate(self, sent: bytes) -> Verdict:
        """Say whose certificate this is, if it may be used; whether he holds its key is another question.

        Args:
            sent: The certificate (DER), issuers may follow it.
        """
        decision = self._certificates.decide(sent)
        if not decision.trusted:
            return Verdict(None, decision.code, f"user certificate {decision.thumbprint}: {decision.reason}")
        print_ = hashlib.sha256(decision.leaf).hexdigest()
        user = next((user for user in self.users() if user.certificate == print_), None)
        if user is None:
            return Verdict(None, "S457", f"{decision.name} {decision.thumbprint}")
        return Verdict(None, "S452", user.name) if user.disabled else Verdict(user)

    def is_still(self, before: User, *, by_certificate: bool = False) -> User | None:
        """Return the user as he is now, or None if whoever signed in as him before has to go.

        Args:
            before: The user as he was at that time.
            by_certificate: Whether he signed in with his certificate.
        """
        now = self.find(before.name)
        if now is None or now.disabled or now.credentials != before.credentials:
            return None
        if by_certificate and self.check_certificate(self._certificate(now)).user is None:
            return None
        return now

    # --- the operator's side -------------------------------------------------------------------------

    def add(
        self,
        name: str,
        roles: frozenset[Role],
        *,
        password: str | None = None,
        certificate: bytes | None = None,
    ) -> User:
        """Enter a new user.

        Args:
            name: How he is called.
            roles: What he may do.
            password: His password, if he signs in with one.
            certificate: His certificate (DER or PEM), if he signs in with one.

        Raises:
            SecurityError: The name is taken or impossible, the password too short, or no certificate given.
        """
        _check_name(name)
        if password is None and certificate is None:
            raise SecurityError(f"{name} needs a password or a certificate")
        if password is not None:
            check_password(password, name)
        der = _der(certificate) if certificate is not None else b""
        with self._changing() as users:
            if any(user.name.casefold() == name.casefold() for user in users):
                raise SecurityError(f'there is already a user "{name}"')
            if len(users) >= MAX_USERS:
                raise SecurityError(f"there are {MAX_USERS} users already")
            user = User(name, roles, password=Password.of(password, self._cost) if password else None)
            if der:
                user = self._with_certificate(user, der, users)
            users.append(user)
        return user

    def set_password(self, name: str, password: str) -> User:
        """Give a user another password; whoever is signed in with the old one has to go."""
        check_password(password, name)
        hashed = Password.of(password, self._cost)
        return self._change(name, lambda user: replace(user, password=hashed))

    def set_roles(self, name: str, roles: frozenset[Role]) -> User:
        """Say anew what a user may do."""
        return self._change(name, lambda user: replace(user, roles=roles))

    def set_disabled(self, name: str, *, disabled: bool) -> User:
        """Keep a user out, or let him in again."""
        return self._change(name, lambda user: replace(user, disabled=disabled))

    def remove(self, name: str) -> User:
        """Forget a user, and the trust in his certificate."""
        with self._changing() as users:
            user = _only(users, name)
            users.remove(user)
        if user.certificate:
            self._place(user).unlink(missing_ok=True)
        return user

    # --- inside --------------------------------------------------------------------------------------

    def _change(self, name: str, change: Callable[[User], User]) -> User:
        with self._changing() as users:
            user = _only(users, name)
            users[users.index(user)] = changed = change(user)
        return changed

    @contextmanager
    def _changing(self) -> Iterator[list[User]]:
        """Yield the users and write them back; two commands at once follow one another."""
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise SecurityError(f"state directory {self._root} cannot be used: {exc.strerror}") from exc
        try:
            wait_for_lock(fd)
            users = list(self._read() if self._stamp() else ())
            yield users
            users.sort(key=lambda user: user.name.casefold())
            content = {"version": VERSION, "users": [_record(user) for user in users]}
            write_atomic(self._file, json.dumps(content, indent=1).encode(), mode=0o600)
            self._give_to_owner(self._file)
        except OSError as exc:
            raise SecurityError(f"{self._file} cannot be changed: {exc.strerror}") from exc
        finally:
            os.close(fd)

    def _with_certificate(self, user: User, der: bytes, users: list[User]) -> User:
        print_ = hashlib.sha256(der).hexdigest()
        if any(other.certificate == print_ for other in users):
            raise SecurityError("another user has this certificate")
        user = replace(user, certificate=print_, thumbprint=thumbprint(der))
        self._trusted.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self._place(user), der, mode=0o644)
        self._give_to_owner(self._trusted.parent, self._trusted, self._place(user))
        return user

    def _give_to_owner(self, *places: Path) -> None:
        """What root writes belongs to whoever owns the state directory: the server has to read it."""
        if os.geteuid() == 0:
            owner = self._root.stat()
            for place in places:
                os.chown(place, owner.st_uid, owner.st_gid)

    def _place(self, user: User) -> Path:
        return self._trusted / f"{user.thumbprint}.der"

    def _certificate(self, user: User) -> bytes:
        try:
            return self._place(user).read_bytes()
        except OSError:
            return b""

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return ()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> tuple[User, ...]:
        found = self._file.stat()
        if found.st_mode & 0o077:
            _log.warning("users.file_was_readable_by_others", file=str(self._file))
            self._file.chmod(0o600)
        if found.st_size > MAX_FILE_BYTES:
            raise SecurityError(f"{self._file} is too large")
        try:
            return _users(json.loads(self._file.read_bytes()))
        except _DAMAGED as exc:
            raise SecurityError(f"{self._file} is damaged: {exc!s}") from exc

    def row(self, user: User) -> UserRow:
        """Return a user as a line of a list."""
        try:
            until = load(self._certificate(user)).not_valid_after_utc if user.certificate else None
        except UNREADABLE:  # somebody removed or spoilt the file
            until = None
        ways = (("password", user.password is not None), ("certificate", bool(user.certificate)))
        return UserRow(
            name=user.name,
            roles=tuple(role_names(user.roles)),
            signs_in_with=tuple(way for way, has in ways if has),
            disabled=user.disabled,
            thumbprint=user.thumbprint,
            until=until,
        )


def users_table(root: Path) -> list[UserRow]:
    """Return the users of a state directory with their roles, by name.

    Raises:
        SecurityError: The file is damaged.
        OSError: It cannot be read.
    """
    store = UserStore(root)
    return [store.row(user) for user in store.users()]


def role_names(roles: frozenset[Role]) -> list[str]:
    """Return the names of roles, sorted."""
    return sorted(role.browse_name for role in roles)


def check_password(password: str, name: str) -> None:
    """Refuse a password that is easy to guess.

    Raises:
        SecurityError: It is too short, too long, or the name itself.
    """
    if len(password) < MIN_PASSWORD:
        raise SecurityError(f"the password has {len(password)} characters; {MIN_PASSWORD} are the least")
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        raise SecurityError(f"the password is longer than {MAX_PASSWORD_BYTES} bytes")
    if password.casefold() == name.casefold() or len(set(password)) == 1:
        raise SecurityError("the password is too easy to guess")


def _check_name(name: str) -> None:
    if not name or len(name) > MAX_NAME or not name.isprintable() or name != name.strip():
        shown = "".join(letter if letter.isprintable() else "?" for letter in name[:MAX_NAME])
        raise SecurityError(f'"{shown}" cannot be a user name: 1 to {MAX_NAME} printable characters')


def _der(certificate: bytes) -> bytes:
    try:
        return der_of(load(certificate))
    except UNREADABLE as exc:
        raise SecurityError("this is no X.509 certificate") from exc


def _only(users: list[User], name: str) -> User:
    found = next((user for user in users if user.name == name), None)
    if found is None:
        raise SecurityError(f'there is no user "{name}"; edge-opcua users lists them')
    return found


def _record(user: User) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": user.name,
        "roles": role_names(user.roles),
        "disabled": user.disabled,
        "certificate": user.certificate,
        "thumbprint": user.thumbprint,
    }
    if user.password is not None:
        cost = user.password.cost
        record["password"] = {
            "kdf": "scrypt",
            "n": cost.n,
            "r": cost.r,
            "p": cost.p,
            "salt": user.password.salt.hex(),
            "hash": user.password.digest.hex(),
        }
    return record


def _users(content: Any) -> tuple[User, ...]:
    if content["version"] != VERSION:
        raise SecurityError(f"version {content['version']} is not one this program reads")
    return tuple(_user(record) for record in content["users"])


def _user(record: dict[str, Any]) -> User:
    return User(
        name=str(record["name"]),
        roles=parse_roles(record["roles"]),
        disabled=record["disabled"] is not False,
        password=_password(record["password"]) if "password" in record else None,
        certificate=str(record["certificate"]),
        thumbprint=str(record["thumbprint"]),
    )


def _password(record: dict[str, Any]) -> Password:
    cost = Cost(int(record["n"]), int(record["r"]), int(record["p"]))
    if record["kdf"] != "scrypt" or not cost.is_sane():
        raise SecurityError("a password is hashed in a way that this program does not know")
    digest = bytes.fromhex(record["hash"])
    if len(digest) != 32:
        raise SecurityError("a hash is cut short")
    return Password(cost, bytes.fromhex(record["salt"]), digest)

"""Whom this server believes: decided anew from the trust directory each time a channel opens.

A certificate is trusted when it lies in ``trusted/`` itself, or when its issuers lead up to a root and one
of them lies in ``trusted/`` (``issuers/`` only helps to build that chain). Everything else is refused with
an exact reason in our log and kept in ``rejected/``, so that one command can trust it.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from cryptography import x509

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.errors import SecurityError
from edge_opcua.security.chain import (
    UNREADABLE,
    Examined,
    der_of,
    examine,
    is_authority,
    load,
    load_revocations,
    name_of,
    split_chain,
    uri_of,
)
from edge_opcua.security.pki import thumbprint, utc, write_atomic
from edge_opcua.security.roles import Role, parse_roles

_T = TypeVar("_T")

MAX_REJECTED: Final = 100
MAX_FILE_BYTES: Final = 65_536
# A client that tries again every second shall not wear out the flash.
QUIET: Final = dt.timedelta(seconds=10)
MIN_THUMBPRINT_DIGITS: Final = 8
_HOW: Final = f"give its number, or at least {MIN_THUMBPRINT_DIGITS} digits of its thumbprint"
# What a trusted client may do unless somebody said more.
DEFAULT_ROLES: Final = frozenset({Role.OBSERVER})

CERTIFICATE_SUFFIXES: Final = frozenset({".der", ".crt", ".cer", ".pem"})
REVOCATION_SUFFIX: Final = ".crl"

_log = structlog.get_logger(__name__)

# Every reason to refuse, by its stable code: what happened, and what to do about it.
REASONS: Final[dict[str, tuple[str, str]]] = {
    "S401": ("not trusted", "compare its thumbprint with the client's own, then: edge-opcua trust N"),
    "S402": ("expired", "renew the certificate in the client, then trust the new one"),
    "S403": ("not valid yet", "set the clocks of both machines; the certificate begins in the future"),
    "S404": ("its key is too weak", "make a new client certificate with an RSA key of 2048 to 4096 bits"),
    "S405": ("signed with a weak hash", "make a new client certificate signed with SHA-256"),
    "S406": ("cannot be read", "the client sent something that is no X.509 certificate; see its settings"),
    "S407": ("its issuers are incomplete", "copy the missing issuer's certificate into pki/issuers"),
    "S408": ("revoked by its issuer", "the issuer withdrew it; the client needs a new certificate"),
    "S409": ("not made for this use", "the certificate must allow digital signatures and client use"),
    "S410": ("names no ApplicationUri", "the client's certificate needs its ApplicationUri as URI name"),
    "S411": ("no certificate was sent", "choose a client certificate in the client's connection settings"),
    "S412": ("the client holds another certificate of this server", "let the client fetch endpoints anew"),
    "S413": ("security policy not offered", "choose a policy of `security` in the [opcua] section"),
    "S414": ("the trust list could not be read", "see the log of the server: directory pki and its disk"),
    "S415": ("the channel could not be opened", "choose an endpoint with mode SignAndEncrypt in the client"),
    "S416": ("it is not known whether it was revoked", "fetch the issuer's list: edge-opcua certs crl FILE"),
    "S420": ("session certificate is not the channel's", "nobody does this by accident; look at who it is"),
    "S421": ("ApplicationUri is not the certificate's", "make the client's certificate for its own URI"),
    "S422": ("wrong session token", "nobody does this by accident; look at who it is"),
    "S423": ("signature of the activation is wrong", "nobody does this by accident; look at who it is"),
}


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about one client certificate.

    Args:
        trusted: Whether the channel may open.
        code: Stable code of :data:`REASONS`; empty if trusted.
        reason: One sentence for the log, never for the wire; empty if trusted.
        leaf: The certificate itself (DER), without its issuers; empty if unreadable.
        name: Common name of its subject.
        application_uri: URI it was made for.
        thumbprint: SHA-1 of the leaf.
        roles: What the application may do; empty if it is not trusted.
    """

    trusted: bool
    code: str
    reason: str
    leaf: bytes
    name: str
    application_uri: str
    thumbprint: str
    roles: frozenset[Role] = frozenset()


@dataclass(frozen=True, slots=True)
class Knock:
    """A client that was refused.

    Args:
        number: What ``edge-opcua trust N`` takes; never given to another certificate. 0: not kept.
        name: Common name of its certificate.
        application_uri: URI it was made for.
        thumbprint: SHA-1 of the certificate.
        address: Whence it came, ``host:port``.
        when: Time of its latest try.
        reason: Why it was refused, one sentence.
        code: Stable code of the reason.
        file: Where its certificate lies; None if it could not be kept.
    """

    number: int
    name: str
    application_uri: str
    thumbprint: str
    address: str
    when: dt.datetime
    reason: str
    code: str
    file: Path | None


@dataclass(frozen=True, slots=True)
class Trusted:
    """A certificate in the trust list.

    Args:
        name: Common name.
        application_uri: URI it was made for.
        thumbprint: SHA-1 of the certificate.
        until: End of its validity.
        authority: Whether it vouches for others.
        file: Where it lies.
        roles: What it, or whoever it vouches for, may do.
    """

    name: str
    application_uri: str
    thumbprint: str
    until: dt.datetime
    authority: bool
    file: Path
    roles: frozenset[Role] = DEFAULT_ROLES


class TrustList:
    """The trust directories of one server; the command line and the server work on the same files.

    Every method blocks on the file system: in the server they run in a worker thread.

    Args:
        pki_dir: The ``pki`` directory.
        clock: For validity and the time of a knock.
        people: The certificates are those of users, not of applications.
        revocation_required: Each authority has to have a revocation list here that is in force.
    """

    def __init__(
        self,
        pki_dir: Path,
        *,
        clock: Clock | None = None,
        people: bool = False,
        revocation_required: bool = False,
    ) -> None:
        self._people = people
        self._trusted_dir = pki_dir / "trusted"
        self._issuers_dir = pki_dir / "issuers"
        self._rejected_dir = pki_dir / "rejected"
        self._lists = _Directories(self._trusted_dir, self._issuers_dir, revocation_required)
        self._clock = clock or SystemClock()

    # --- the server's side ---------------------------------------------------------------------------

    def decide(self, sent: bytes) -> Decision:
        """Say whether a channel may open for the sender of this certificate; reads the lists anew.

        Args:
            sent: SenderCertificate of the OpenSecureChannel: the leaf, issuers may follow it.
        """
        if not sent:
            return _refuse("S411")
        try:
            chain = split_chain(sent)
        except UNREADABLE:
            return _refuse("S406")
        leaf = chain[0]
        try:
            now = utc(self._clock.utc_ns())
            found = examine(leaf, chain[1:], self._lists, now, person=self._people)
        except UNREADABLE as exc:  # a field that is only parsed when somebody looks at it
            found = Examined("S406", str(exc))
        if found.anchor is None:
            return _refuse(found.code, leaf, found.detail)
        known = _describe(leaf, trusted=True, code="", reason="")
        return replace(known, roles=self._roles_of(found.anchor))

    def version(self) -> tuple[int, ...]:
        """Return what changes whenever a certificate comes into the lists or goes."""
        directories = (self._trusted_dir, self._issuers_dir)
        return tuple(place.stat().st_mtime_ns for place in directories if place.is_dir())

    def record(self, decision: Decision, address: str) -> Knock:
        """Keep a refused certificate in ``rejected/``, the newest :data:`MAX_REJECTED` of them.

        A full list forgets the oldest entry of the address with the most entries, so that a flood from
        one machine does not push out the client that somebody is waiting for.

        Args:
            decision: From :meth:`decide`.
            address: The peer, ``host:port``.

        Returns:
            The entry; its number is 0 if it could not be kept.
        """
        knock = knock_of(decision, address, utc(self._clock.utc_ns()))
        if not decision.leaf:
            return knock
        known = self.rejected()
        before = next((k for k in known if k.thumbprint == knock.thumbprint), None)
        if before and before.code == knock.code and abs(knock.when - before.when) < QUIET:
            return before
        number = (before.number if before else 0) or self._next(known)
        file = self._rejected_dir / certificate_file_name(knock.name, knock.thumbprint)
        knock = replace(knock, number=number, file=file)
        try:
            self._make_room([k for k in known if k.thumbprint != knock.thumbprint])
            write_atomic(file.with_suffix(".json"), _note(knock), mode=0o600)
            write_atomic(file, decision.leaf, mode=0o644)
        except OSError as exc:
            _log.warning("trust.not_kept", file=str(file), error=exc.strerror)
            return replace(knock, number=0, file=None)
        return knock

    # --- the operator's side -------------------------------------------------------------------------

    def rejected(self) -> list[Knock]:
        """Return who knocked and was refused, oldest number first."""
        knocks = [self._knock(file, certificate) for file, certificate in certificates_in(self._rejected_dir)]
        return sorted(knocks, key=lambda knock: (knock.number, knock.thumbprint))

    def trusted(self) -> list[Trusted]:
        """Return who is trusted, by name."""
        found = [_trusted(file, certificate) for file, certificate in certificates_in(self._trusted_dir)]
        return sorted(found, key=lambda item: (item.name.lower(), item.thumbprint))

    def trust(self, selector: str | int, roles: frozenset[Role] = DEFAULT_ROLES) -> Trusted:
        """Move a refused certificate to the trust list; its next channel opens.

        Args:
            selector: Number of the knock, or at least eight digits of the thumbprint.
            roles: What the client may do.

        Raises:
            SecurityError: None, or more than one, is meant.
        """
        text = _digits(selector)
        knocks = self.rejected()
        if text.isdecimal() and len(text) < MIN_THUMBPRINT_DIGITS:
            chosen = [knock for knock in knocks if knock.number == int(text)]
        else:
            chosen = [knock for knock in knocks if _is_meant(knock.thumbprint, text)]
        file = _only(
            chosen, f"no refused client is meant by {selector!r}: {_HOW}", lambda knock: knock.thumbprint
        ).file
        assert file is not None, "a listed knock has its file"
        return self.add(file.read_bytes(), roles=roles, forget=file)

    def add(
        self,
        certificate_der: bytes,
        *,
        roles: frozenset[Role] = DEFAULT_ROLES,
        forget: Path | None = None,
    ) -> Trusted:
        """Put a certificate into the trust list.

        Args:
            certificate_der: The certificate, DER or PEM.
            roles: What it may do; those of an authority count for everybody it vouches for.
            forget: Its file in ``rejected/``, removed afterwards.

        Raises:
            SecurityError: It is no certificate.
        """
        try:
            certificate = load(certificate_der)
        except UNREADABLE as exc:
            raise SecurityError("this is no X.509 certificate") from exc
        der = der_of(certificate)
        file = self._trusted_dir / certificate_file_name(name_of(certificate), thumbprint(der))
        _write_roles(file, thumbprint(der), roles)  # first: the certificate never stands there without them
        write_atomic(file, der, mode=0o644)
        if forget is not None:
            _forget(forget)
        item = _trusted(file, certificate)
        _log.info("trust.added", name=item.name, thumbprint=item.thumbprint, roles=_names(item.roles))
        return item

    def set_roles(self, selector: str, roles: frozenset[Role]) -> Trusted:
        """Say anew what a trusted client may do.

        Args:
            selector: At least eight digits of the thumbprint, or the exact name.
            roles: All it may do from now on.

        Raises:
            SecurityError: None, or more than one, is meant.
        """
        item = self._trusted_by(selector)
        _write_roles(item.file, item.thumbprint, roles)
        _log.info("trust.roles_changed", name=item.name, thumbprint=item.thumbprint, roles=_names(roles))
        return replace(item, roles=roles)

    def distrust(self, selector: str) -> Trusted:
        """Take a certificate out of the trust list; it shows up among the refused, to be trusted again.

        New channels are refused at once, a channel that is open at its next renewal.

        Args:
            selector: At least eight digits of the thumbprint, or the exact name.

        Raises:
            SecurityError: None, or more than one, is meant.
        """
        item = self._trusted_by(selector)
        certificate = load(item.file.read_bytes())
        decision = _refuse("S401", certificate, "trust was withdrawn")
        self.record(decision, address="")
        _forget(item.file)
        _log.info("trust.withdrawn", name=item.name, thumbprint=item.thumbprint)
        return item

    # --- inside --------------------------------------------------------------------------------------

    def _trusted_by(self, selector: str) -> Trusted:
        text = _digits(selector)
        chosen = [t for t in self.trusted() if t.name == selector or _is_meant(t.thumbprint, text)]
        return _only(chosen, f"no trusted client is meant by {selector!r}", lambda found: found.thumbprint)

    def _roles_of(self, anchor: x509.Certificate) -> frozenset[Role]:
        """Return the roles of an entry of the trust list; of one that lies there twice, what both say."""
        files = [file for file, certificate in certificates_in(self._trusted_dir) if certificate == anchor]
        print_ = thumbprint(der_of(anchor))
        return frozenset[Role]().union(*(_read_roles(file, print_) for file in files))

    def _next(self, known: Sequence[Knock]) -> int:
        """Take the next number; kept on disk so that no number ever means a second certificate."""
        counter = self._rejected_dir / ".last-number"
        try:
            last = int(counter.read_text(encoding="ascii"))
        except (OSError, ValueError):  # the first knock, or a file that was cut short
            last = 0
        number = max([last, *(knock.number for knock in known)]) + 1
        try:
            write_atomic(counter, str(number).encode("ascii"), mode=0o600)
        except OSError as exc:
            _log.warning("trust.number_not_kept", error=exc.strerror)
        return number

    def _make_room(self, known: list[Knock]) -> None:
        while len(known) >= MAX_REJECTED:
            crowd = Counter(_host(knock.address) for knock in known)
            most = max(crowd.values())
            oldest = min((k for k in known if crowd[_host(k.address)] == most), key=lambda k: k.when)
            known.remove(oldest)
            assert oldest.file is not None, "a listed knock has its file"
            _forget(oldest.file)

    def _knock(self, file: Path, certificate: x509.Certificate) -> Knock:
        note = _read_note(file.with_suffix(".json"))
        return Knock(
            number=int(note.get("number", 0)),
            name=name_of(certificate),
            application_uri=uri_of(certificate),
            thumbprint=thumbprint(der_of(certificate)),
            address=str(note.get("address", "")),
            when=utc(int(note.get("when_ns", 0)) or file.stat().st_mtime_ns),
            reason=str(note.get("reason", "")),
            code=str(note.get("code", "")),
            file=file,
        )


class _Directories:
    """The trust directories as the lists a decision needs, read anew each time."""

    def __init__(self, trusted: Path, issuers: Path, revocation_required: bool) -> None:  # noqa: FBT001 - passed on
        self.revocation_required = revocation_required
        self._trusted = trusted
        self._issuers = issuers

    def trusted(self) -> list[x509.Certificate]:
        return [certificate for _, certificate in certificates_in(self._trusted)]

    def issuers(self) -> list[x509.Certificate]:
        return [certificate for _, certificate in certificates_in(self._issuers)]

    def revocations(self) -> list[x509.CertificateRevocationList]:
        return [one for place in (self._trusted, self._issuers) for _, one in revocations_in(place)]


def describe(sent: bytes) -> Decision:
    """Return who a certificate says it is, without deciding anything (``trusted`` is False)."""
    try:
        return _describe(split_chain(sent)[0], trusted=False, code="", reason="")
    except UNREADABLE:
        return _refuse("S406")


def _refuse(code: str, leaf: x509.Certificate | None = None, detail: str = "") -> Decision:
    reason = f"{REASONS[code][0]} ({detail})" if detail else REASONS[code][0]
    if leaf is None:
        return Decision(
            trusted=False, code=code, reason=reason, leaf=b"", name="", application_uri="", thumbprint=""
        )
    return _describe(leaf, trusted=False, code=code, reason=reason)


def refusal(code: str, detail: str = "", *, of: Decision | None = None) -> Decision:
    """Return a refusal for a reason found elsewhere, about the certificate of an earlier decision."""
    bare = _refuse(code, None, detail)
    return bare if of is None else replace(of, trusted=False, code=bare.code, reason=bare.reason)


def knock_of(decision: Decision, address: str, when: dt.datetime) -> Knock:
    """Return the report of a refusal of which nothing is kept."""
    return Knock(
        number=0,
        name=decision.name,
        application_uri=decision.application_uri,
        thumbprint=decision.thumbprint,
        address=address,
        when=when,
        reason=decision.reason,
        code=decision.code,
        file=None,
    )


def _describe(leaf: x509.Certificate, *, trusted: bool, code: str, reason: str) -> Decision:
    der = der_of(leaf)
    return Decision(
        trusted=trusted,
        code=code,
        reason=reason,
        leaf=der,
        name=name_of(leaf),
        application_uri=uri_of(leaf),
        thumbprint=thumbprint(der),
    )


def _trusted(file: Path, certificate: x509.Certificate) -> Trusted:
    return Trusted(
        name=name_of(certificate),
        application_uri=uri_of(certificate),
        thumbprint=thumbprint(der_of(certificate)),
        until=certificate.not_valid_after_utc,
        authority=_vouches(certificate),
        file=file,
        roles=_read_roles(file, thumbprint(der_of(certificate))),
    )


def _vouches(certificate: x509.Certificate) -> bool:
    try:
        return is_authority(certificate)
    except UNREADABLE:
        return False


def _write_roles(file: Path, print_: str, roles: frozenset[Role]) -> None:
    """Keep roles beside a trusted certificate; the thumbprint ties them to it, whatever the file's name."""
    note = {"thumbprint": print_, "roles": _names(roles)}
    write_atomic(file.with_suffix(".json"), json.dumps(note).encode(), mode=0o600)


def _read_roles(file: Path, print_: str) -> frozenset[Role]:
    """Return the roles kept beside a certificate; without a readable note that is about it: the least."""
    note = _read_note(file.with_suffix(".json"))
    if not note:
        return DEFAULT_ROLES
    try:
        if note["thumbprint"] == print_:
            return parse_roles(note["roles"])
    except (KeyError, TypeError, AttributeError, SecurityError):
        _log.warning("trust.roles_unreadable", file=str(file.with_suffix(".json")))
    return DEFAULT_ROLES


def _names(roles: frozenset[Role]) -> list[str]:
    return sorted(role.browse_name for role in roles)


def certificates_in(directory: Path) -> Iterator[tuple[Path, x509.Certificate]]:
    """Yield every certificate in a directory; what is none is logged and passed over."""
    for file in _files(directory, CERTIFICATE_SUFFIXES):
        try:
            yield file, load(file.read_bytes())
        except FileNotFoundError:  # withdrawn by somebody else at this very moment
            continue
        except (PermissionError, *UNREADABLE):  # who cannot be read is not trusted; that harms nobody else
            _log.warning("trust.file_unreadable", file=str(file))


def revocations_in(directory: Path) -> Iterator[tuple[Path, x509.CertificateRevocationList]]:
    """Yield every revocation list in a directory; what is none is logged and passed over."""
    for file in _files(directory, frozenset({REVOCATION_SUFFIX})):
        try:
            yield file, load_revocations(file.read_bytes())
        except FileNotFoundError:
            continue
        except UNREADABLE:  # but one that may not be read refuses everybody: it may revoke anybody
            _log.warning("trust.file_unreadable", file=str(file))


def _files(directory: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    """Yield the files of a directory with one of the suffixes; drafts and what is no file are passed over."""
    if not directory.is_dir():
        return
    for file in sorted(directory.iterdir()):
        if file.name.startswith(".") or file.suffix.lower() not in suffixes:
            continue
        try:
            found = file.stat()
        except FileNotFoundError:  # trusted or withdrawn by somebody else at this very moment
            continue
        if stat.S_ISREG(found.st_mode) and found.st_size <= MAX_FILE_BYTES:
            yield file


def certificate_file_name(name: str, print_: str, suffix: str = ".der") -> str:
    """Return a file name that a person recognises and that no other certificate has."""
    readable = re.sub(r"[^A-Za-z0-9@._-]+", "_", name).strip("._")[:60] or "unnamed"
    return f"{readable} [{print_}]{suffix}"


def _note(knock: Knock) -> bytes:
    return json.dumps(
        {
            "number": knock.number,
            "address": knock.address,
            "when_ns": round(knock.when.timestamp() * 1e9),
            "code": knock.code,
            "reason": knock.reason,
        }
    ).encode()


def _read_note(file: Path) -> dict[str, Any]:
    """Return what is remembered of a knock; a certificate that somebody put there by hand has none."""
    try:
        note = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _forget(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.with_suffix(".json").unlink(missing_ok=True)


def _host(address: str) -> str:
    return address.rpartition(":")[0]


def _digits(selector: str | int) -> str:
    return re.sub(r"[\s:]", "", str(selector)).upper()


def _is_meant(print_: str, text: str) -> bool:
    return len(text) >= MIN_THUMBPRINT_DIGITS and print_.startswith(text)


def _only(chosen: Sequence[_T], none: str, print_of: Callable[[_T], str]) -> _T:
    if not chosen:
        raise SecurityError(none)
    if len({print_of(item) for item in chosen}) > 1:
        raise SecurityError(f"{len(chosen)} certificates are meant; give more digits of the thumbprint")
    return chosen[0]

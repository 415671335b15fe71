"""The trust lists as a whole: shown to, and replaced by, whoever manages certificates (Part 12 §7.8.2).

The same files as those of ``edge-opcua trust``: ``trusted/`` and ``issuers/`` hold certificates and the
revocation lists of the authorities among them. A replacement is written down first and done then, so that a
power cut leaves the old lists or the new ones.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edge_opcua.errors import CertificateError
from edge_opcua.security.chain import (
    UNREADABLE,
    der_of,
    is_authority,
    is_list_of,
    load,
    load_revocations,
    name_of,
    signed_by,
    weakness,
)
from edge_opcua.security.pki import locked, thumbprint, write_atomic
from edge_opcua.security.trust import (
    TrustList,
    certificate_file_name,
    certificates_in,
    revocations_in,
)

MAX_ENTRIES: Final = 500

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TrustContent:
    """The four lists of a TrustListDataType (Part 12 §7.8.2.8), DER.

    Args:
        trusted: Certificates that are trusted, or vouch for others.
        trusted_lists: Revocation lists of the authorities among them.
        issuers: Certificates that only help to build chains.
        issuer_lists: Revocation lists of those.
    """

    trusted: tuple[bytes, ...] = ()
    trusted_lists: tuple[bytes, ...] = ()
    issuers: tuple[bytes, ...] = ()
    issuer_lists: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class RevocationSummary:
    """What there is to know about a revocation list.

    Args:
        issuer: The authority that made it.
        made: When, ISO 8601.
        following: When the next one is due; empty if it says nothing.
        revoked: How many certificates it lists.
    """

    issuer: str
    made: str
    following: str
    revoked: int


class TrustFiles:
    """The trust directories as lists that can be replaced. Every method blocks on the file system.

    Args:
        root: The ``pki`` directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._trusted = root / "trusted"
        self._issuers = root / "issuers"
        self._draft = root / "next-trust.json"

    def trusted(self) -> list[x509.Certificate]:
        """Return who is trusted, or vouches for others."""
        return [certificate for _, certificate in certificates_in(self._trusted)]

    def issuers(self) -> list[x509.Certificate]:
        """Return who only helps to build chains."""
        return [certificate for _, certificate in certificates_in(self._issuers)]

    def revocations(self) -> list[x509.CertificateRevocationList]:
        """Return all revocation lists."""
        return [one for place in (self._trusted, self._issuers) for _, one in revocations_in(place)]

    def summaries(self) -> list[RevocationSummary]:
        """Return what the revocation lists say of themselves."""
        return [
            RevocationSummary(
                _issuer_name(one),
                one.last_update_utc.isoformat(),
                one.next_update_utc.isoformat() if one.next_update_utc is not None else "",
                len(one),
            )
            for one in self.revocations()
        ]

    def content(self) -> TrustContent:
        """Return everything, each certificate once."""
        return TrustContent(
            trusted=tuple(dict.fromkeys(map(der_of, self.trusted()))),
            trusted_lists=tuple(dict.fromkeys(_der(one) for _, one in revocations_in(self._trusted))),
            issuers=tuple(dict.fromkeys(map(der_of, self.issuers()))),
            issuer_lists=tuple(dict.fromkeys(_der(one) for _, one in revocations_in(self._issuers))),
        )

    def examine(self, wanted: TrustContent) -> None:
        """Look at lists that shall replace ours; what we have already may stay as it is.

        Raises:
            CertificateError: One of them cannot be used.
        """
        entries = [entry for field in fields(wanted) for entry in getattr(wanted, field.name)]
        if len(entries) > MAX_ENTRIES:
            raise CertificateError(f"more than {MAX_ENTRIES} certificates and revocation lists", code="S436")
        before = self.content()
        try:
            _examine(wanted, {*before.trusted, *before.issuers})
        except UNREADABLE as exc:  # a field that is only parsed when somebody looks at it
            raise CertificateError(f"an entry cannot be read ({exc})", code="S406") from exc

    def replace(self, wanted: TrustContent) -> None:
        """Make the lists what they shall be; who stays keeps his roles, who is new gets the least."""
        with locked(self._root):
            self._finish()
            draft = {
                field.name: [base64.b64encode(der).decode("ascii") for der in getattr(wanted, field.name)]
                for field in fields(wanted)
            }
            write_atomic(self._draft, json.dumps(draft).encode(), mode=0o600)
            self._finish()

    def finish(self) -> None:
        """Do what is left of a replacement that was cut short; usually nothing."""
        if self._draft.exists():
            with locked(self._root):
                self._finish()

    def add_revocations(self, content: bytes) -> str:
        """Put a revocation list beside the certificate of its issuer; returns the issuer's name.

        Raises:
            CertificateError: It is none, nobody here made it, or a newer one is here.
        """
        wanted = usable_revocations(content)
        for place in (self._trusted, self._issuers):
            for _, certificate in certificates_in(place):
                if is_list_of(wanted, certificate):
                    self._put_revocations(place, wanted, certificate)
                    return name_of(certificate)
        raise CertificateError(f"the authority {_issuer_name(wanted)} is not known here", code="S435")

    def _put_revocations(
        self, place: Path, wanted: x509.CertificateRevocationList, issuer: x509.Certificate
    ) -> None:
        former = [(file, one) for file, one in revocations_in(place) if is_list_of(one, issuer)]
        if any(one.last_update_utc > wanted.last_update_utc for _, one in former):
            raise CertificateError(f"a newer list of {name_of(issuer)} is here already", code="S437")
        file = place / certificate_file_name(name_of(issuer), thumbprint(der_of(issuer)), ".crl")
        write_atomic(file, _der(wanted), mode=0o644)
        for other, _ in former:
            if other != file:
                other.unlink(missing_ok=True)

    def _finish(self) -> None:
        if not self._draft.exists():
            return
        try:
            draft = json.loads(self._draft.read_bytes())
            wanted = TrustContent(
                **{name: tuple(map(base64.b64decode, ders)) for name, ders in draft.items()}
            )
        except (ValueError, TypeError, AttributeError, RecursionError) as exc:
            _log.error("trust.draft_unreadable", file=str(self._draft), error=str(exc))
            self._draft.unlink()
            return
        # In this order no moment trusts more than the old lists or the new ones do.
        places = ((self._trusted, wanted.trusted_lists), (self._issuers, wanted.issuer_lists))
        for place, lists in places:
            _put_lists(place, lists)
        _drop(self._trusted, wanted.trusted)
        _drop(self._issuers, wanted.issuers)
        self._put_issuers(wanted.issuers)
        listed, here = TrustList(self._root), {der_of(one) for one in self.trusted()}
        for der in wanted.trusted:
            if der not in here:
                listed.add(der)
        for place, lists in places:
            _drop_lists(place, lists)
        self._draft.unlink()

    def _put_issuers(self, ders: Sequence[bytes]) -> None:
        here = {der_of(one) for one in self.issuers()}
        for der in ders:
            if der not in here:
                name = certificate_file_name(name_of(load(der)), thumbprint(der))
                write_atomic(self._issuers / name, der, mode=0o644)


def _examine(wanted: TrustContent, known: set[bytes]) -> None:
    certificates = [usable_certificate(der) for der in (*wanted.trusted, *wanted.issuers)]
    for certificate in certificates:
        if der_of(certificate) not in known and (fault := weakness(certificate)):
            raise CertificateError(f"{name_of(certificate)}: {fault[1]}", code=fault[0])
    for der in (*wanted.trusted_lists, *wanted.issuer_lists):
        one = usable_revocations(der)
        if not any(is_list_of(one, certificate) for certificate in certificates):
            raise CertificateError(f"nobody here signed the list of {_issuer_name(one)}", code="S435")


def usable_certificate(der: bytes) -> x509.Certificate:
    """Return a certificate that somebody sent.

    Raises:
        CertificateError: It cannot be read.
    """
    try:
        certificate = load(der)
        certificate.public_key()
        is_authority(certificate)
    except UNREADABLE as exc:
        raise CertificateError("this is no X.509 certificate", code="S406") from exc
    return certificate


def usable_revocations(content: bytes) -> x509.CertificateRevocationList:
    """Return a revocation list that somebody sent, DER or PEM.

    Raises:
        CertificateError: It cannot be read.
    """
    try:
        return load_revocations(content)
    except UNREADABLE as exc:
        raise CertificateError("this is no revocation list", code="S406") from exc


def dependents(certificate: x509.Certificate, content: TrustContent) -> bool:
    """Whether another certificate in the lists needs this one to be validated (Part 12 §7.8.2.7)."""
    others = [load(der) for der in (*content.trusted, *content.issuers)]
    return any(one != certificate and signed_by(one, certificate) for one in others)


def without(certificate: x509.Certificate, content: TrustContent, *, trusted: bool) -> TrustContent:
    """Return the lists without a certificate of one of them, and without the revocation lists it made."""
    der = der_of(certificate)
    lists = (content.trusted, content.trusted_lists) if trusted else (content.issuers, content.issuer_lists)
    certificates = tuple(one for one in lists[0] if one != der)
    left = tuple(one for one in lists[1] if not is_list_of(load_revocations(one), certificate))
    if trusted:
        return TrustContent(certificates, left, content.issuers, content.issuer_lists)
    return TrustContent(content.trusted, content.trusted_lists, certificates, left)


def _put_lists(place: Path, ders: Sequence[bytes]) -> None:
    here = {_der(one) for _, one in revocations_in(place)}
    for der in ders:
        if der not in here:
            name = _issuer_name(load_revocations(der))
            write_atomic(place / certificate_file_name(name, thumbprint(der), ".crl"), der, mode=0o644)


def _drop_lists(place: Path, ders: Sequence[bytes]) -> None:
    for file, one in revocations_in(place):
        if _der(one) not in ders:
            file.unlink(missing_ok=True)


def _drop(place: Path, ders: Sequence[bytes]) -> None:
    for file, certificate in certificates_in(place):
        if der_of(certificate) not in ders:
            file.unlink(missing_ok=True)
            file.with_suffix(".json").unlink(missing_ok=True)


def _der(one: x509.CertificateRevocationList) -> bytes:
    return one.public_bytes(serialization.Encoding.DER)


def _issuer_name(one: x509.CertificateRevocationList) -> str:
    text = one.issuer.rfc4514_string()[:120]
    return "".join(letter if letter.isprintable() else "?" for letter in text)

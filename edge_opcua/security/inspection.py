"""Looks at the server's own certificate without making, changing or repairing anything."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edge_opcua.security.chain import UNREADABLE, der_of, load, name_of
from edge_opcua.security.pki import (
    key_file,
    local_names,
    names_in,
    names_missing,
    own_certificate,
    thumbprint,
    utc,
)
from edge_opcua.security.trustfiles import TrustFiles

DAY_NS: Final = 86_400 * 1_000_000_000
# So long before its end a person is told, once a day.
WARN_DAYS: Final = 30
# Revocation lists live for days or weeks and are replaced in time; only a late one is worth a word.
WARN_LIST_DAYS: Final = 1


@dataclass(frozen=True, slots=True)
class CertificateState:
    """What there is to know about the certificate that clients trust.

    Args:
        file: Where it lies.
        names: Host names and addresses it was made for.
        missing: Names under which clients may reach this machine and that it lacks.
        begins_ns: Begin of its validity, ns UTC.
        ends_ns: End of its validity, ns UTC.
        problem: Why it cannot be used, i.e. read, or its key; empty if it can.
    """

    file: str
    names: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    begins_ns: int = 0
    ends_ns: int = 0
    problem: str = ""


def own_certificate_state(root: Path, *, names: Sequence[str] = ()) -> CertificateState | None:
    """Return the state of the certificate in a ``pki`` directory; None if none was made yet.

    Blocking: asks the resolver for this machine's full name.

    Args:
        root: The ``pki`` directory.
        names: Names under which clients reach this machine besides its own.
    """
    file = own_certificate(root)
    try:
        if not file.is_file():
            return None
        certificate = x509.load_der_x509_certificate(file.read_bytes())
        present = names_in(certificate)
    except (OSError, ValueError) as exc:
        return CertificateState(str(file), problem=" ".join(str(exc).split()) or repr(exc))
    return CertificateState(
        str(file),
        names=tuple(sorted(present)),
        missing=names_missing(certificate, local_names(names)),
        begins_ns=int(certificate.not_valid_before_utc.timestamp()) * 1_000_000_000,
        ends_ns=int(certificate.not_valid_after_utc.timestamp()) * 1_000_000_000,
        problem=_key_problem(key_file(root), certificate),
    )


def _key_problem(file: Path, certificate: x509.Certificate) -> str:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except PermissionError:
        return ""  # it is the server's alone; whoever asks here may be somebody else
    except FileNotFoundError:
        return f"its key {file} is missing"
    except (OSError, ValueError, TypeError):
        return f"its key {file} is damaged"
    if key.public_key() != certificate.public_key():
        return f"its key {file} belongs to another certificate"
    return ""


@dataclass(frozen=True, slots=True)
class Expiry:
    """Something that ends soon, or has ended.

    Args:
        kind: ``own``, ``trusted``, ``issuer``, ``user`` or ``revocations``.
        name: Common name, of a revocation list that of its issuer.
        thumbprint: SHA-1 of the certificate; empty for a revocation list.
        ends_ns: When it ends, ns UTC.
        days: Days until then, negative afterwards.
    """

    kind: str
    name: str
    thumbprint: str
    ends_ns: int
    days: float

    @property
    def text(self) -> str:
        """What a person is told."""
        what = {
            "own": "the certificate of this server",
            "trusted": f"the certificate of {self.name}",
            "issuer": f"the certificate of the authority {self.name}",
            "user": f"the certificate of the user {self.name}",
        }.get(self.kind, f"the revocation list of {self.name}")
        day = f"{utc(self.ends_ns):%Y-%m-%d}"
        return f"{what} ended on {day}" if self.days < 0 else f"{what} ends on {day}, in {self.days:.0f} days"


def expiries(root: Path, now_ns: int) -> list[Expiry]:
    """Return what ends soon, the most urgent first. Blocking.

    Args:
        root: The ``pki`` directory.
        now_ns: The time, ns UTC.
    """
    files = TrustFiles(root)
    certificates = [("own", one) for one in _own(own_certificate(root))]
    certificates += [("trusted", one) for one in files.trusted()]
    certificates += [("issuer", one) for one in files.issuers()]
    certificates += [("user", one) for one in TrustFiles(root / "users").trusted()]
    found = [
        _expiry(kind, name_of(one), thumbprint(der_of(one)), one.not_valid_after_utc, now_ns)
        for kind, one in certificates
    ]
    soon = [one for one in found if one.days < WARN_DAYS]
    for one in files.revocations():
        if one.next_update_utc is not None:
            name = one.issuer.rfc4514_string()[:120]
            ends = _expiry("revocations", name, "", one.next_update_utc, now_ns)
            soon += [ends] if ends.days < WARN_LIST_DAYS else []
    return sorted(soon, key=lambda one: one.ends_ns)


def _own(file: Path) -> list[x509.Certificate]:
    """Return the certificate in a file; none where it is missing or damaged, which others report."""
    try:
        return [load(file.read_bytes())] if file.is_file() else []
    except UNREADABLE:
        return []


def _expiry(kind: str, name: str, print_: str, ends: dt.datetime, now_ns: int) -> Expiry:
    ends_ns = int(ends.timestamp()) * 1_000_000_000
    return Expiry(kind, name, print_, ends_ns, (ends_ns - now_ns) / DAY_NS)

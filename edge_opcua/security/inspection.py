"""Looks at the server's own certificate without making, changing or repairing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from edge_opcua.security.pki import local_names, names_in, names_missing, own_certificate


@dataclass(frozen=True, slots=True)
class CertificateState:
    """What there is to know about the certificate that clients trust.

    Args:
        file: Where it lies.
        names: Host names and addresses it was made for.
        missing: Names under which clients may reach this machine and that it lacks.
        begins_ns: Begin of its validity, ns UTC.
        ends_ns: End of its validity, ns UTC.
        problem: Why it cannot be read; empty if it can.
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
    if not file.is_file():
        return None
    try:
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
    )

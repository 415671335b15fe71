"""Another certificate for this server: asked for, examined, put into place, the old one kept.

The command line and the push methods of OPC UA (Part 12 §7.10) go through here, so that both refuse the same
things for the same reasons. Nothing is changed before everything was examined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.errors import CertificateError
from edge_opcua.security.chain import (
    UNREADABLE,
    der_of,
    is_self_signed,
    load,
    may_sign,
    out_of_time,
    signed_by,
    uri_of,
    weakness,
)
from edge_opcua.security.making import self_signed, signing_request
from edge_opcua.security.pki import (
    KEY_BITS,
    Pki,
    application_uri,
    finish_replacement,
    key_pem,
    locked,
    make_private,
    read_own,
    replace_own,
    thumbprint,
    utc,
    write_atomic,
)

# Keys of requests that were not answered yet; the newest ones.
MAX_PENDING: Final = 4
MAX_KEPT: Final = 5
MAX_ISSUERS: Final = 5
MAX_KEY_BYTES: Final = 65_536
STAMP_DIGITS: Final = 20

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Replacement:
    """A certificate that was examined and may take the place of ours.

    Args:
        certificate: The certificate.
        key: The key it belongs to.
        chain: The authorities above it, the nearest first.
    """

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    chain: tuple[x509.Certificate, ...]


class Renewal:
    """Changes of the server's own certificate. Every method blocks on the file system.

    Args:
        root: The ``pki`` directory; key and certificate are there already.
        clock: For validity, and the names of what is kept.
        key_bits: Size of a new key.
    """

    def __init__(self, root: Path, *, clock: Clock | None = None, key_bits: int = KEY_BITS) -> None:
        self._root = root
        self._clock = clock or SystemClock()
        self._key_bits = key_bits
        self._pending = root / "own" / "pending"
        self._kept = root / "own" / "previous"

    # --- asking --------------------------------------------------------------------------------------

    def request(
        self, *, names: Sequence[str], subject: x509.Name | None = None, new_key: bool = False
    ) -> bytes:
        """Return a request for an authority (PKCS #10, DER).

        Args:
            names: Host names and addresses under which clients reach this box.
            subject: Who it is; None: who it was.
            new_key: Make a new key for it, kept until its certificate comes; otherwise the present one.
        """
        own = read_own(self._root)
        key = own.private_key
        if new_key:
            key = rsa.generate_private_key(public_exponent=65537, key_size=self._key_bits)
            self._keep_pending(key)
        made = signing_request(
            key, subject=subject or own.certificate.subject, uri=own.application_uri, names=names
        )
        return made.public_bytes(serialization.Encoding.DER)

    def _keep_pending(self, key: rsa.RSAPrivateKey) -> None:
        make_private(self._pending)
        stamp = _next_stamp(self._pending, self._clock)
        write_atomic(self._pending / f"{stamp}.pem", key_pem(key), mode=0o600)
        _forget_oldest(self._pending, MAX_PENDING)

    # --- examining -----------------------------------------------------------------------------------

    def examine(
        self, certificate: bytes, *, key: bytes | None = None, issuers: Iterable[bytes] = ()
    ) -> Replacement:
        """Look at a certificate that shall become ours (Part 4 §6.1.3, Part 12 §7.10.5).

        Args:
            certificate: DER or PEM.
            key: Its key, PEM or PFX without a password; None: the present key, or that of a request.
            issuers: Authorities above it, DER or PEM, in any order.

        Raises:
            CertificateError: It cannot be used; nothing was changed.
        """
        own = read_own(self._root)
        leaf = _readable(certificate)
        keys = [_key(key)] if key is not None else [own.private_key, *self._pending_keys().values()]
        fitting = next((one for one in keys if one.public_key() == leaf.public_key()), None)
        if fitting is None:
            what = "the key that came with it" if key is not None else "any key of this server"
            raise CertificateError(f"the certificate does not belong to {what}", code="S432")
        brought = [_readable(one) for one in issuers]
        try:
            objection = _objection(leaf, own, self._clock)
            if objection is not None:
                raise CertificateError(objection[1], code=objection[0])
            return Replacement(leaf, fitting, _ordered(leaf, brought, self._clock))
        except UNREADABLE as exc:  # a field that is only parsed when somebody looks at it
            raise CertificateError(f"it cannot be read ({exc})", code="S406") from exc

    def _pending_keys(self) -> dict[Path, rsa.RSAPrivateKey]:
        """Return the keys of requests, by file; one that was damaged is of no use, and does no harm."""
        found: dict[Path, rsa.RSAPrivateKey] = {}
        for file in self._pending.glob("*.pem"):
            try:
                found[file] = _key(file.read_bytes())
            except CertificateError as exc:
                _log.warning("pki.pending_key_unreadable", file=str(file), error=str(exc))
        return found

    # --- changing ------------------------------------------------------------------------------------

    def install(self, found: Replacement) -> Pki:
        """Put it into place and keep what was there; a power cut leaves one or the other, whole."""
        with locked(self._root):
            finish_replacement(self._root)
            self._keep_own()
            replace_own(Pki(self._root, found.certificate, found.key, found.chain))
        for file, key in self._pending_keys().items():
            if key.public_key() == found.key.public_key():
                file.unlink(missing_ok=True)
        own = read_own(self._root)
        _log.info("pki.certificate_replaced", thumbprint=own.thumbprint, until=_until(own.certificate))
        return own

    def renew(self, names: Sequence[str]) -> Pki:
        """Make a new key and a certificate signed by itself, for the same application with these names.

        Every client has to trust it once.
        """
        own = read_own(self._root)
        key = rsa.generate_private_key(public_exponent=65537, key_size=self._key_bits)
        certificate = self_signed(
            key,
            subject=own.certificate.subject,
            uri=own.application_uri,
            names=names,
            now=utc(self._clock.utc_ns()),
        )
        return self.install(Replacement(certificate, key, ()))

    def _keep_own(self) -> None:
        """Copy key, certificate and chain; they stand there already, so they can be read."""
        own_dir = self._root / "own"
        certificate = x509.load_der_x509_certificate((own_dir / "cert.der").read_bytes())
        chain = own_dir / "chain.pem"
        make_private(self._kept)
        parts = (
            (own_dir / "key.pem").read_bytes(),
            certificate.public_bytes(serialization.Encoding.PEM),
            chain.read_bytes() if chain.exists() else b"",
        )
        stamp = _next_stamp(self._kept, self._clock)
        name = f"{stamp}-{thumbprint(der_of(certificate))[:8]}.pem"
        write_atomic(self._kept / name, b"".join(parts), mode=0o600)
        _forget_oldest(self._kept, MAX_KEPT)


def request_pem(der: bytes) -> bytes:
    """Return a signing request as a file for people and authorities."""
    return x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM)


def split_pem(content: bytes) -> list[bytes]:
    """Return the certificates in a file, each for itself: a chain in PEM, or the one in DER."""
    if b"-----BEGIN" not in content:
        return [content]
    try:
        return [der_of(one) for one in x509.load_pem_x509_certificates(content)]
    except UNREADABLE as exc:
        raise CertificateError("this is no X.509 certificate", code="S406") from exc


def _objection(leaf: x509.Certificate, own: Pki, clock: Clock) -> tuple[str, str] | None:
    """Return code and text of what is wrong with a certificate for us; None if nothing is."""
    if fault := weakness(leaf) or out_of_time(leaf, utc(clock.utc_ns())):
        word = {"S402": "it expired", "S403": "it is not valid yet", "S404": "its key is too weak"}
        return fault[0], f"{word.get(fault[0], 'it is signed with a weak hash')} ({fault[1]})"
    if not _may_serve(leaf):
        return "S409", "its key usage does not allow it to identify a server"
    if application_uri(leaf) != own.application_uri:
        return (
            "S433",
            f"it is for the ApplicationUri {uri_of(leaf)!r}, this server is {own.application_uri!r}",
        )
    return None


def _may_serve(certificate: x509.Certificate) -> bool:
    if not may_sign(certificate):
        return False
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in purposes


def _ordered(
    leaf: x509.Certificate, issuers: Sequence[x509.Certificate], clock: Clock
) -> tuple[x509.Certificate, ...]:
    """Return the authorities above the leaf in their order; what has nothing to do with it is left out."""
    if len(issuers) > MAX_ISSUERS:
        raise CertificateError(f"more than {MAX_ISSUERS} issuers", code="S407")
    found: list[x509.Certificate] = []
    child = leaf
    while not is_self_signed(child) and len(found) <= len(issuers):
        issuer = next((one for one in issuers if signed_by(child, one)), None)
        if issuer is None:
            break
        if fault := weakness(issuer) or out_of_time(issuer, utc(clock.utc_ns())):
            raise CertificateError(f"an issuer of it cannot be used ({fault[1]})", code=fault[0])
        found.append(issuer)
        child = issuer
    if issuers and not found and not is_self_signed(leaf):
        raise CertificateError("none of the issuers that came with it signed it", code="S407")
    return tuple(found)


def _readable(content: bytes) -> x509.Certificate:
    try:
        certificate = load(content)
        certificate.public_key()  # these two are only parsed when somebody looks at them
        application_uri(certificate)
    except UNREADABLE as exc:
        raise CertificateError("this is no X.509 certificate", code="S406") from exc
    return certificate


def _key(content: bytes) -> rsa.RSAPrivateKey:
    """Read a private key, PEM or PFX, without a password."""
    if len(content) > MAX_KEY_BYTES:
        raise CertificateError("the private key cannot be read", code="S434")
    try:
        if content.lstrip().startswith(b"-----BEGIN"):
            key = serialization.load_pem_private_key(content, password=None)
        else:
            key = pkcs12.load_key_and_certificates(content, None)[0]  # type: ignore[assignment]
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise CertificateError("the private key cannot be read, or has a password", code="S434") from exc
    if not isinstance(key, rsa.RSAPrivateKey):
        raise CertificateError("the private key is not an RSA key", code="S434")
    return key


def _next_stamp(directory: Path, clock: Clock) -> str:
    """Return the beginning of a file name that sorts behind those that are there, whatever the clock says.

    Otherwise what was just written would be the first to be forgotten.
    """
    before = [file.name[:STAMP_DIGITS] for file in directory.glob("*.pem")]
    newest = max((int(digits) for digits in before if digits.isdecimal()), default=-1)
    return f"{max(clock.utc_ns(), newest + 1):0{STAMP_DIGITS}d}"


def _forget_oldest(directory: Path, keep: int) -> None:
    for file in sorted(directory.glob("*.pem"))[:-keep]:
        file.unlink(missing_ok=True)


def _until(certificate: x509.Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"

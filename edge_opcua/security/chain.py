"""What a certificate that somebody else made is worth, and the issuers behind it; decides, does no I/O."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature as InvalidSignature
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_opcua.security.pki import application_uri, common_name

MIN_KEY_BITS: Final = 2048
MAX_KEY_BITS: Final = 4096
MAX_CHAIN_BYTES: Final = 32_768
MAX_CHAIN: Final = 6
MAX_TEXT: Final = 200
STRONG_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
# What a certificate reader may raise on bytes that somebody else made.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
)


class Lists(Protocol):
    """Whom the operator believes; each list is asked for only if the decision needs it."""

    def trusted(self) -> Sequence[x509.Certificate]:
        """Return the certificates that are trusted themselves, or vouch for others."""
        ...

    def issuers(self) -> Sequence[x509.Certificate]:
        """Return the certificates that only help to build a chain."""
        ...

    def revocations(self) -> Sequence[x509.CertificateRevocationList]:
        """Return what issuers took back."""
        ...

    @property
    def revocation_required(self) -> bool:
        """Whether each issuer has to have a revocation list that is in force."""
        ...


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found out about a certificate.

    Args:
        code: Code of the first objection; empty if there is none.
        detail: More about it, for the log.
        anchor: The entry of the trust list on which the trust rests: the leaf or one of its issuers.
    """

    code: str
    detail: str = ""
    anchor: x509.Certificate | None = None


def examine(
    leaf: x509.Certificate,
    sent: Sequence[x509.Certificate],
    lists: Lists,
    now: dt.datetime,
    *,
    person: bool = False,
) -> Examined:
    """Return the first objection, in the order of Part 4 §6.1.3, or on whom the trust rests.

    Args:
        leaf: Certificate of the client.
        sent: Issuers the client sent along.
        lists: Whom the operator believes.
        now: Time of the decision.
        person: It is a user's certificate: what Part 6 §6.2.2 demands of applications (ApplicationUri,
            client use) does not count; it has to allow signatures.
    """
    if weak := weakness(leaf):
        return Examined(*weak)
    trusted = lists.trusted()
    pool = [*trusted, *lists.issuers(), *sent]
    if leaf in trusted:
        found = _examine_pinned(leaf, pool, lists, now)
    else:
        found = _examine_issuers(leaf, pool, trusted, lists, now)
    if found.code:
        return found
    if late := out_of_time(leaf, now):
        return Examined(*late)
    if not (may_sign(leaf) if person else _may_sign_as_client(leaf)):
        return Examined("S409", "key usage")
    return found if person or application_uri(leaf) else Examined("S410")


def split_chain(sent: bytes) -> list[x509.Certificate]:
    """Return the certificates that lie one behind the other (Part 6 §6.2.6): leaf first.

    Raises:
        ValueError: It is too long, cut short, or no certificate at all.
    """
    if len(sent) > MAX_CHAIN_BYTES:
        raise ValueError("chain is too long")
    found: list[x509.Certificate] = []
    rest = sent
    while rest:
        if len(found) >= MAX_CHAIN:
            raise ValueError("chain is too long")
        size = _der_size(rest)
        found.append(x509.load_der_x509_certificate(rest[:size]))
        rest = rest[size:]
    if not found:
        raise ValueError("no certificate")
    return found


def leaf_of(sent: bytes) -> bytes:
    """Return the leaf (DER) of a certificate with or without its issuers; empty if it is unreadable."""
    try:
        return der_of(split_chain(sent)[0])
    except UNREADABLE:
        return b""


def load(content: bytes) -> x509.Certificate:
    """Read a certificate, DER or PEM; raises one of :data:`UNREADABLE`."""
    if content.lstrip().startswith(b"-----BEGIN"):
        return x509.load_pem_x509_certificate(content)
    return x509.load_der_x509_certificate(content)


def load_revocations(content: bytes) -> x509.CertificateRevocationList:
    """Read a revocation list, DER or PEM; raises one of :data:`UNREADABLE`."""
    pem = content.lstrip().startswith(b"-----BEGIN")
    found = x509.load_pem_x509_crl(content) if pem else x509.load_der_x509_crl(content)
    found.issuer.rfc4514_string()  # is only parsed when somebody looks at it
    return found


def der_of(certificate: x509.Certificate) -> bytes:
    """Return the certificate as it travels."""
    return certificate.public_bytes(serialization.Encoding.DER)


def pem_of(certificate: x509.Certificate) -> bytes:
    """Return the certificate as a file for people."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def name_of(certificate: x509.Certificate) -> str:
    """Return the common name of the subject, fit for a terminal."""
    return _printable(certificate, common_name)


def uri_of(certificate: x509.Certificate) -> str:
    """Return the ApplicationUri, fit for a terminal."""
    return _printable(certificate, application_uri)


def _printable(certificate: x509.Certificate, field: Callable[[x509.Certificate], str]) -> str:
    """Return a text that a stranger wrote, fit for a terminal: no control characters, no endless line."""
    try:
        text = field(certificate)
    except UNREADABLE:
        return ""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:MAX_TEXT]


def _examine_issuers(
    leaf: x509.Certificate,
    pool: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
    lists: Lists,
    now: dt.datetime,
) -> Examined:
    """Follow the issuers up to a root; one of them must be trusted, all of them sound."""
    anchor: x509.Certificate | None = None
    child = leaf
    for below in range(MAX_CHAIN):
        if is_self_signed(child):
            return Examined("S401") if anchor is None else Examined("", anchor=anchor)
        issuer = _issuer_of(child, pool, below, now)
        if issuer is None:
            name = child.issuer.rfc4514_string()[:120]
            return Examined("S401") if anchor is None else Examined("S407", f"issuer {name} is unknown")
        if fault := weakness(issuer) or out_of_time(issuer, now):
            return Examined(fault[0], f"issuer {name_of(issuer)}: {fault[1]}")
        if objection := _revocation(child, issuer, lists, now):
            return objection
        if anchor is None and issuer in trusted:
            anchor = issuer
        child = issuer
    return Examined("S407", f"more than {MAX_CHAIN} issuers")


def _examine_pinned(
    leaf: x509.Certificate, pool: Sequence[x509.Certificate], lists: Lists, now: dt.datetime
) -> Examined:
    """Ask about a certificate that is trusted itself: only its issuer may still object.

    A person trusted this very certificate, so an issuer that nobody brought here is no reason to refuse it,
    unless the operator wants every revocation known.
    """
    trusted = Examined("", anchor=leaf)
    if is_self_signed(leaf):
        return trusted
    issuer = _issuer_of(leaf, pool, 0, now)
    if issuer is not None:
        return _revocation(leaf, issuer, lists, now) or trusted
    if lists.revocation_required:
        return Examined("S407", f"issuer {leaf.issuer.rfc4514_string()[:120]} is unknown")
    return trusted


def _issuer_of(
    child: x509.Certificate, pool: Sequence[x509.Certificate], below: int, now: dt.datetime
) -> x509.Certificate | None:
    """Return who signed a certificate; of several certificates of the same authority a sound one."""
    found = [one for one in pool if _issued(one, child, below)]
    sound = (one for one in found if not (weakness(one) or out_of_time(one, now)))
    return next(sound, found[0] if found else None)


def _revocation(
    child: x509.Certificate, issuer: x509.Certificate, lists: Lists, now: dt.datetime
) -> Examined | None:
    """Return the objection of an issuer's revocation lists to one of its certificates (Part 4 §6.1.3).

    What any of them lists is refused, even after its time: a revocation does not heal by waiting. Whether a
    list has to be there, and in force, is the operator's choice.
    """
    own = [one for one in lists.revocations() if is_list_of(one, issuer)]
    if any(one.get_revoked_certificate_by_serial_number(child.serial_number) is not None for one in own):
        return Examined("S408", f"by {name_of(issuer)}")
    if not lists.revocation_required or any(_in_force(one, now) for one in own):
        return None
    return Examined("S416", f"{name_of(issuer)} has {'only expired lists' if own else 'no list'} here")


def is_list_of(revocations: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """Whether an authority made a revocation list: its name, its key, its right to (RFC 5280 §6.3)."""
    try:
        if not _has_signed(issuer, revocations):
            return False
    except UNREADABLE:  # an algorithm that nobody knows signs nothing here
        return False
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _has_signed(issuer: x509.Certificate, revocations: x509.CertificateRevocationList) -> bool:
    key = issuer.public_key()
    return (
        revocations.issuer == issuer.subject
        and isinstance(revocations.signature_hash_algorithm, STRONG_HASHES)
        and isinstance(key, rsa.RSAPublicKey)
        and revocations.is_signature_valid(key)
    )


def _in_force(revocations: x509.CertificateRevocationList, now: dt.datetime) -> bool:
    """Whether a list says all there is to say now; one with a critical extension may be only a part of it."""
    ends = revocations.next_update_utc
    if now < revocations.last_update_utc or ends is None or now > ends:
        return False
    return not any(extension.critical for extension in revocations.extensions)


def out_of_time(certificate: x509.Certificate, now: dt.datetime) -> tuple[str, str] | None:
    """Return code and detail if a certificate is not valid now."""
    if now > certificate.not_valid_after_utc:
        return "S402", f"since {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if now < certificate.not_valid_before_utc:
        return "S403", f"before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return None


def weakness(certificate: x509.Certificate) -> tuple[str, str] | None:
    """Return code and detail if key or signature of a certificate are too weak."""
    try:
        key, used = certificate.public_key(), certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return "S405", "unknown algorithm"
    if not isinstance(key, rsa.RSAPublicKey):
        return "S404", "not an RSA key"
    if not MIN_KEY_BITS <= key.key_size <= MAX_KEY_BITS:
        return "S404", f"{key.key_size} bits"
    if not isinstance(used, STRONG_HASHES):
        return "S405", used.name if used else "unknown"
    return None


def _may_sign_as_client(certificate: x509.Certificate) -> bool:
    """Part 6 §6.2.2 demands both extensions; where one is missing there is nothing it forbids."""
    if not may_sign(certificate):
        return False
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    # Part 6 §6.2.2: serverAuth and/or clientAuth; a server that is also a client often has the first only.
    return ExtendedKeyUsageOID.CLIENT_AUTH in purposes or ExtendedKeyUsageOID.SERVER_AUTH in purposes


def may_sign(certificate: x509.Certificate) -> bool:
    """Whether nothing forbids the key of a certificate to sign."""
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        return True


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether nobody but its own key signed a certificate."""
    return certificate.subject == certificate.issuer and signed_by(certificate, certificate)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate vouches for others; raises one of :data:`UNREADABLE`."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def signed_by(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether an authority, by its name and key, signed a certificate."""
    try:
        child.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _issued(issuer: x509.Certificate, child: x509.Certificate, below: int) -> bool:
    """Whether ``issuer`` is an authority that signed ``child``, with ``below`` authorities under it."""
    try:
        return child.issuer == issuer.subject and _may_issue(issuer, below) and signed_by(child, issuer)
    except UNREADABLE:  # a broken one in the lists is nobody's issuer, and in nobody's way
        return False


def _may_issue(issuer: x509.Certificate, below: int) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    if not constraints.ca or (constraints.path_length is not None and constraints.path_length < below):
        return False
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _der_size(data: bytes) -> int:
    """Return how long the ASN.1 SEQUENCE at the start of the data says it is (X.690 §8.1.3)."""
    if len(data) < 4 or data[0] != 0x30:
        raise ValueError("no ASN.1 sequence")
    if data[1] < 0x80:
        size = 2 + data[1]
    else:
        digits = data[1] & 0x7F
        if not 1 <= digits <= 3:
            raise ValueError("impossible length")
        size = 2 + digits + int.from_bytes(data[2 : 2 + digits], "big")
    if size > len(data):
        raise ValueError("cut short")
    return size

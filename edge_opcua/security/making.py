"""What a certificate of ours says, whoever signs it: ourselves, or an authority that gets our request."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Sequence
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_opcua.errors import SecurityError

# Clients trust this very certificate, byte by byte, not an authority: an early end adds no safety, it stops
# the line on a day that nobody has in his calendar. Replacing it is one command.
VALID_YEARS: Final = 20
# A box without a battery clock may run behind its clients at the first start, or a little ahead of them.
BACKDATED: Final = dt.timedelta(days=1)
MAX_SUBJECT: Final = 500

_FIELDS: Final = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "L": NameOID.LOCALITY_NAME,
    "S": NameOID.STATE_OR_PROVINCE_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "C": NameOID.COUNTRY_NAME,
}
_PART: Final = re.compile(r'\s*([A-Za-z]{1,2})\s*=\s*("[^"]*"|[^,/"]*)\s*([,/]|$)')


_Builder = TypeVar("_Builder", x509.CertificateBuilder, x509.CertificateSigningRequestBuilder)


def subject_of(host: str) -> x509.Name:
    """Return the subject of a server on this host."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"edge_opcua@{host}"[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "edge_opcua"),
        ]
    )


def parse_subject(text: str) -> x509.Name:
    """Read a subject as clients write it: ``CN=Press 1, O=Plant`` or ``/CN=Press 1/O=Plant``.

    Raises:
        SecurityError: It is none, or has no CN.
    """
    try:
        found = _attributes(text)
    except (KeyError, ValueError) as exc:
        raise SecurityError(f"{text[:80]!r} is no subject like CN=Press 1, O=Plant ({exc})") from exc
    if not any(attribute.oid == NameOID.COMMON_NAME for attribute in found):
        raise SecurityError(f"the subject {text[:80]!r} has no CN")
    return x509.Name(found)


def _attributes(text: str) -> list[x509.NameAttribute[str]]:
    rest = text.strip().removeprefix("/")
    found: list[x509.NameAttribute[str]] = []
    while rest:
        part = _PART.match(rest) if len(text) <= MAX_SUBJECT else None
        if part is None:
            raise ValueError(f"cannot read {rest[:40]!r}")
        value = part[2].strip().strip('"')
        found.append(x509.NameAttribute(_FIELDS[part[1].upper()], value))
        rest = rest[part.end() :]
    return found


def self_signed(
    key: rsa.RSAPrivateKey, *, subject: x509.Name, uri: str, names: Sequence[str], now: dt.datetime
) -> x509.Certificate:
    """Return a certificate that its own key signed.

    Args:
        key: The server's key.
        subject: Who it is.
        uri: ApplicationUri.
        names: Host names and IP addresses under which clients reach the server.
        now: The time; it is valid from a day earlier on.
    """
    start, public = now - BACKDATED, key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=365.25 * VALID_YEARS))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return _described(builder, uri, names, signs_itself=True).sign(key, hashes.SHA256())


def signing_request(
    key: rsa.RSAPrivateKey, *, subject: x509.Name, uri: str, names: Sequence[str]
) -> x509.CertificateSigningRequest:
    """Return the request (PKCS #10) with which an authority makes such a certificate."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return _described(builder, uri, names, signs_itself=False).sign(key, hashes.SHA256())


def _described(builder: _Builder, uri: str, names: Sequence[str], *, signs_itself: bool) -> _Builder:
    """Add what Part 6 §6.2.2, table 45 wants of an application: the ApplicationUri stands first."""
    alternatives = [x509.UniformResourceIdentifier(uri), *map(_general_name, names)]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # These four, and keyCertSign where it is signed by itself.
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=True,
                key_encipherment=True,
                data_encipherment=True,
                key_agreement=False,
                key_cert_sign=signs_itself,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)

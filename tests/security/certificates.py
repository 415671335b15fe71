"""Certificates made for one test run; none is ever stored in the repository."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_opcua.security.pki import thumbprint

NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Make a key once per name: key generation is what certificates cost."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@dataclass(frozen=True)
class Identity:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def as_sha1(self) -> bytes:
        """Return the certificate (DER) as if it were signed with SHA-1, which our library no longer does."""
        sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
        return self.der.replace(sha256, sha1)

    @property
    def print(self) -> str:
        return thumbprint(self.der)


def make(
    name: str,
    *,
    uri: str | None = "",
    issuer: Identity | None = None,
    authority: bool = False,
    path_length: int | None = None,
    bits: int = 2048,
    start: dt.datetime | None = None,
    days: float = 3650,
    signing: bool = True,
    purposes: tuple[x509.ObjectIdentifier, ...] | None = (ExtendedKeyUsageOID.CLIENT_AUTH,),
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
    plain: bool = False,
    serial: int | None = None,
) -> Identity:
    """Make a certificate as a client (or an authority) would have it; each argument spoils one thing."""
    own = key or rsa_key(name, bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    # Yesterday by the machine's clock, unless told otherwise: some tests run against the real one.
    start = start or dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=days))
    )
    if uri is not None:
        names = [x509.UniformResourceIdentifier(uri or f"urn:test:{name}"), x509.DNSName("localhost")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if not plain:
        builder = builder.add_extension(
            x509.BasicConstraints(ca=authority, path_length=path_length), critical=True
        ).add_extension(
            x509.KeyUsage(
                digital_signature=signing,
                content_commitment=True,
                key_encipherment=True,
                data_encipherment=True,
                key_agreement=False,
                key_cert_sign=authority,
                crl_sign=authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        if purposes is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    signer = issuer.key if issuer else own
    return Identity(builder.sign(signer, hashes.SHA256()), own)  # type: ignore[arg-type]


def revoke(
    issuer: Identity,
    *revoked: Identity,
    start: dt.datetime = NOW,
    days: float = 30,
    partial: bool = False,
) -> bytes:
    """Return the issuer's revocation list (DER); each argument spoils one thing."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(start)
        .next_update(start + dt.timedelta(days=days))
    )
    if partial:
        builder = builder.add_extension(x509.DeltaCRLIndicator(1), critical=True)
    for identity in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(identity.certificate.serial_number)
            .revocation_date(start)
            .build()
        )
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

"""What is inside a user's identity token: the encrypted password and the signature of his certificate.

Only what our policies use (Part 7): RSA-OAEP, and RSA signatures over SHA-256. There is no RSA with PKCS #1
v1.5 encryption here, whatever a client asks for: its padding tells an attacker the password bit by bit.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from edge_opcua.errors import SecurityError
from edge_opcua.security.chain import UNREADABLE, split_chain

RSA_OAEP: Final = "http://www.w3.org/2001/04/xmlenc#rsa-oaep"
RSA_OAEP_SHA256: Final = "http://opcfoundation.org/UA/security/rsa-oaep-sha2-256"
RSA_SHA256: Final = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
RSA_PSS_SHA256: Final = "http://opcfoundation.org/UA/security/rsa-pss-sha2-256"
MAX_BLOCKS: Final = 4

_POLICY: Final = "http://opcfoundation.org/UA/SecurityPolicy#"
# Encryption of passwords and signature of user certificates, by the URI of the token's security policy.
ALGORITHMS: Final = {
    f"{_POLICY}Basic256Sha256": (RSA_OAEP, RSA_SHA256),
    f"{_POLICY}Aes128_Sha256_RsaOaep": (RSA_OAEP, RSA_SHA256),
    f"{_POLICY}Aes256_Sha256_RsaPss": (RSA_OAEP_SHA256, RSA_PSS_SHA256),
}


def open_secret(key: rsa.RSAPrivateKey, algorithm: str, sent: bytes, nonce: bytes) -> bytes:
    """Return the secret of an encrypted token (Part 4 §7.40.2.2).

    Args:
        key: Our private key.
        algorithm: One of the two RSA-OAEP URIs.
        sent: The encrypted bytes: length, secret and nonce.
        nonce: ServerNonce of the session that the token has to be made for.

    Raises:
        SecurityError: It cannot be decrypted, is not what it should be, or made for another nonce. The
            reason is for the log; a client must not learn which it was.
    """
    size = key.key_size // 8
    if not sent or len(sent) % size or len(sent) > MAX_BLOCKS * size:
        raise SecurityError(f"{len(sent)} bytes are no encrypted secret")
    digest = hashes.SHA1() if algorithm == RSA_OAEP else hashes.SHA256()  # noqa: S303 - OAEP's own hash
    oaep = padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=None)
    try:
        plain = b"".join(key.decrypt(sent[i : i + size], oaep) for i in range(0, len(sent), size))
    except ValueError as exc:
        raise SecurityError("the secret cannot be decrypted") from exc
    length = int.from_bytes(plain[:4], "little")
    content, rest = plain[4 : 4 + length], plain[4 + length :]
    # Some stacks fill the last block with zeros.
    if len(plain) < 4 or len(content) != length or length < len(nonce) or any(rest):
        raise SecurityError("the lengths inside the secret are wrong")
    if not nonce or not hmac.compare_digest(content[length - len(nonce) :], nonce):
        raise SecurityError("the nonce is not the last one of this session")
    return content[: length - len(nonce)]


def check_signature(certificate: bytes, algorithm: str, data: bytes, signature: bytes) -> None:
    """Check that the holder of a certificate signed some data (Part 4 §7.40.5).

    Args:
        certificate: The certificate (DER), issuers may follow it.
        algorithm: One of the two signature URIs.
        data: Server certificate and ServerNonce.
        signature: What the client sent.

    Raises:
        SecurityError: He did not.
    """
    way: padding.AsymmetricPadding = padding.PKCS1v15()
    if algorithm == RSA_PSS_SHA256:
        way = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    try:
        public = split_chain(certificate)[0].public_key()
        if not isinstance(public, rsa.RSAPublicKey):
            raise SecurityError("not an RSA key")
        public.verify(signature, data, way, hashes.SHA256())
    except (InvalidSignature, *UNREADABLE) as exc:
        raise SecurityError("the signature is not that of the certificate") from exc

"""Inside an identity token: only what was encrypted, signed and made for this session counts."""

from __future__ import annotations

import os
import struct

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from edge_opcua.errors import SecurityError
from edge_opcua.security.tokens import (
    ALGORITHMS,
    RSA_OAEP,
    RSA_OAEP_SHA256,
    RSA_PSS_SHA256,
    RSA_SHA256,
    check_signature,
    open_secret,
)
from tests.security.certificates import make, rsa_key

KEY = rsa_key("server")
NONCE = os.urandom(32)
USER = make("user", uri=None)


def encrypt(plain: bytes, algorithm: str = RSA_OAEP) -> bytes:
    digest = hashes.SHA1() if algorithm == RSA_OAEP else hashes.SHA256()
    way = padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=None)
    room = KEY.key_size // 8 - 2 * digest.digest_size - 2
    blocks = [plain[i : i + room] for i in range(0, len(plain), room)] or [b""]
    return b"".join(KEY.public_key().encrypt(block, way) for block in blocks)


def secret(password: bytes, nonce: bytes = NONCE, *, length: int | None = None) -> bytes:
    content = password + nonce
    return struct.pack("<I", len(content) if length is None else length) + content


@pytest.mark.parametrize("algorithm", [RSA_OAEP, RSA_OAEP_SHA256])
@pytest.mark.parametrize("password", [b"", b"correct horse", "pässwörd".encode(), b"long " * 80])
def test_a_secret_made_for_this_session_is_opened(algorithm: str, password: bytes) -> None:
    # Part 4 §7.40.2.2, in several blocks if it is long.
    assert open_secret(KEY, algorithm, encrypt(secret(password), algorithm), NONCE) == password


def test_a_last_block_filled_with_zeros_is_read() -> None:
    assert open_secret(KEY, RSA_OAEP, encrypt(secret(b"horse") + bytes(20)), NONCE) == b"horse"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "no encrypted secret"),
        (b"plain text", "no encrypted secret"),
        (os.urandom(256), "cannot be decrypted"),
        (os.urandom(256 * 5), "no encrypted secret"),
        (encrypt(secret(b"horse"), RSA_OAEP_SHA256), "cannot be decrypted"),
        (KEY.public_key().encrypt(secret(b"horse"), padding.PKCS1v15()), "cannot be decrypted"),
        (encrypt(b""), "lengths"),
        (encrypt(b"\x01"), "lengths"),
        (encrypt(secret(b"horse")[:-1]), "lengths"),
        (encrypt(secret(b"horse", length=2**32 - 1)), "lengths"),
        (encrypt(secret(b"horse", length=31)), "lengths"),
        (encrypt(secret(b"horse") + b"more"), "lengths"),
        (encrypt(secret(b"horse", os.urandom(32))), "nonce"),
        (encrypt(secret(b"horse", b"") + bytes(0)), "lengths"),
        (encrypt(secret(b"h" * 40, b"")), "nonce"),
    ],
)
def test_any_other_secret_is_refused(sent: bytes, reason: str) -> None:
    with pytest.raises(SecurityError, match=reason):
        open_secret(KEY, RSA_OAEP, sent, NONCE)


def test_without_a_nonce_nothing_is_opened() -> None:
    with pytest.raises(SecurityError, match="nonce"):
        open_secret(KEY, RSA_OAEP, encrypt(secret(b"horse", b"")), b"")


def test_no_policy_offers_the_padding_that_gives_passwords_away() -> None:
    # Part 7, Basic128Rsa15; CVE of many stacks.
    assert all("rsa-1_5" not in algorithm for pair in ALGORITHMS.values() for algorithm in pair)


PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


@pytest.mark.parametrize(("algorithm", "way"), [(RSA_SHA256, padding.PKCS1v15()), (RSA_PSS_SHA256, PSS)])
def test_the_holder_of_the_key_can_sign(algorithm: str, way: padding.AsymmetricPadding) -> None:
    signature = USER.key.sign(b"certificate" + NONCE, way, hashes.SHA256())
    check_signature(USER.der, algorithm, b"certificate" + NONCE, signature)
    for data, signed, by in (
        (b"certificate" + bytes(32), signature, algorithm),
        (b"certificate" + NONCE, b"", algorithm),
        (b"certificate" + NONCE, signature, RSA_SHA256 if algorithm == RSA_PSS_SHA256 else RSA_PSS_SHA256),
    ):
        with pytest.raises(SecurityError):
            check_signature(USER.der, by, data, signed)


@pytest.mark.parametrize(
    "certificate", [b"", b"nonsense", make("curve", key=ec.generate_private_key(ec.SECP256R1())).der]
)
def test_what_is_no_rsa_certificate_signs_nothing(certificate: bytes) -> None:
    with pytest.raises(SecurityError):
        check_signature(certificate, RSA_SHA256, b"data", b"signature")

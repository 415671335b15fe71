"""Signs and encrypts one direction of a secure channel, with objects that are made once for each token.

A message of a hundred bytes is signed in less time than its keyed hash takes to be made, so that one is made
when the keys are and copied for each message. A cipher's context is not kept: each chunk begins with the
initialization vector of its token (Part 6 §6.7.5), and keeping one saves only a microsecond.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.hmac import HMAC

BLOCK_BYTES: Final = 16
SIGNATURE_BYTES: Final = 32


class Seal:
    """HMAC-SHA256, and AES-CBC if the channel is encrypted.

    Args:
        key: Signing key.
        cipher: Encryption key and initialization vector; None: signed only.
    """

    __slots__ = ("_cipher", "_mac", "encrypts")

    def __init__(self, key: bytes, cipher: Cipher[modes.CBC] | None) -> None:
        self._mac = HMAC(key, hashes.SHA256())
        self._cipher = cipher
        self.encrypts = cipher is not None

    def signature(self, signed: bytes) -> bytes:
        """Return the signature of some bytes."""
        mac = self._mac.copy()
        mac.update(signed)
        return mac.finalize()

    def has_signed(self, head: bytes, text: bytes, signature: bytes) -> bool:
        """Whether a signature is that of two pieces of bytes; compared in constant time."""
        mac = self._mac.copy()
        mac.update(head)
        mac.update(text)
        return hmac.compare_digest(mac.finalize(), signature)

    def encrypted(self, plain: bytes) -> bytes:
        """Encrypt whole blocks."""
        assert self._cipher is not None, "asked only if it encrypts"
        return self._cipher.encryptor().update(plain)

    def decrypted(self, sealed: bytes) -> bytes:
        """Decrypt whole blocks."""
        assert self._cipher is not None, "asked only if it encrypts"
        return self._cipher.decryptor().update(sealed)

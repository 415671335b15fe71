"""Signs and encrypts one direction of a secure channel, with objects that are made once for each token.

A message of a hundred bytes is signed and encrypted in less time than the objects for that take to be made:
so the keyed hash is made once and copied for each message, and the cipher's contexts are made once and go on.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.hmac import HMAC

BLOCK_BYTES: Final = 16
SIGNATURE_BYTES: Final = 32


class Seal:
    """HMAC-SHA256, and AES-CBC if the channel is encrypted.

    Each message begins with the initialization vector of its token (Part 6 §6.7.5), but a context goes on
    where the last message ended: with the last block of ciphertext, which CBC combines with the first one of
    plaintext by exclusive or. Here that block is taken out again and the initialization vector put in.

    Args:
        key: Signing key.
        cipher: Encryption key and initialization vector; None: signed only.
    """

    __slots__ = ("_decrypt", "_encrypt", "_first", "_mac", "_received", "_sent", "encrypts")

    def __init__(self, key: bytes, cipher: Cipher[modes.CBC] | None) -> None:
        self._mac = HMAC(key, hashes.SHA256())
        self.encrypts = cipher is not None
        if cipher is None:
            return
        self._encrypt: Callable[[bytes], bytes] = cipher.encryptor().update
        self._decrypt: Callable[[bytes], bytes] = cipher.decryptor().update
        self._first = _number(bytes(cipher.mode.initialization_vector))
        self._sent = self._received = self._first

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
        """Encrypt a message.

        Raises:
            ValueError: It is not of whole blocks.
        """
        _check(plain)
        first = _number(plain[:BLOCK_BYTES]) ^ self._first ^ self._sent
        sealed = self._encrypt(_block(first) + plain[BLOCK_BYTES:])
        self._sent = _number(sealed[-BLOCK_BYTES:])
        return sealed

    def decrypted(self, sealed: bytes) -> bytes:
        """Decrypt a message, whoever made it.

        Raises:
            ValueError: It is not of whole blocks.
        """
        _check(sealed)
        plain = self._decrypt(sealed)
        first = _number(plain[:BLOCK_BYTES]) ^ self._first ^ self._received
        self._received = _number(sealed[-BLOCK_BYTES:])
        return _block(first) + plain[BLOCK_BYTES:]


def _check(message: bytes) -> None:
    if not message or len(message) % BLOCK_BYTES:
        raise ValueError(f"{len(message)} bytes are no whole blocks")


def _number(block: bytes) -> int:
    return int.from_bytes(block, "little")


def _block(number: int) -> bytes:
    return number.to_bytes(BLOCK_BYTES, "little")

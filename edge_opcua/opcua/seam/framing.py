"""Chunks of ordinary messages as bytes (Part 6 §6.7.2): headers, padding, signature, encryption.

A chunk of a hundred bytes has six numbers before its body. asyncua makes an object of each header and encodes
it field by field; here they are packed and unpacked at once. What is here is made once for the keys of a
token and knows nothing of the channel's state.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from asyncua.crypto.security_policies import (
    Cryptography,
    CryptographyNone,
    DecryptorAesCbc,
    EncryptorAesCbc,
    SignerHMac256,
    VerifierHMac256,
)

from edge_opcua.security.sealing import BLOCK_BYTES, SIGNATURE_BYTES, Seal

# Type and finality, size, SecureChannelId, TokenId; then SequenceNumber and RequestId (Tables 42, 44, 45).
HEADERS: Final = struct.Struct("<4sIII")
_ALL_HEADERS: Final = struct.Struct("<4sIIIII")
_SEQUENCE: Final = struct.Struct("<II")
_CLEAR_BYTES: Final = HEADERS.size
_SEQUENCE_BYTES: Final = _SEQUENCE.size
_PADDING_SIZE_BYTES: Final = 1
# PaddingSize and as many bytes, each of which says how many they are.
_PADDINGS: Final = tuple(bytes([size]) * (size + 1) for size in range(2 * BLOCK_BYTES))

FINAL: Final = b"MSGF"
INTERMEDIATE: Final = b"MSGC"


class Opened(NamedTuple):
    """A chunk that was what it says.

    Attributes:
        number: Its place in the sequence.
        request_id: Which request it belongs to.
        body: What it carries.
    """

    number: int
    request_id: int
    body: bytes


class Sealer:
    """Makes the chunks that we send.

    Args:
        seal: The keys; None without security.
        block: What encrypted bytes are a multiple of.
        chunk_bytes: Largest chunk.

    Attributes:
        room: Largest body of one chunk.
    """

    __slots__ = ("_block", "_seal", "room")

    def __init__(self, seal: Seal | None, block: int, chunk_bytes: int) -> None:
        self._seal = seal
        self._block = block
        sealed = (chunk_bytes - _CLEAR_BYTES) // block * block
        overhead = SIGNATURE_BYTES if seal is not None else 0
        if seal is not None and seal.encrypts:
            overhead += _PADDING_SIZE_BYTES
        self.room = sealed - _SEQUENCE_BYTES - overhead

    def chunk(
        self, kind: bytes, channel: int, token: int, number: int, request_id: int, body: bytes
    ) -> bytes:
        """Return one chunk.

        Args:
            kind: ``FINAL`` or ``INTERMEDIATE``.
            channel: SecureChannelId.
            token: TokenId.
            number: SequenceNumber.
            request_id: RequestId.
            body: No longer than ``room``.
        """
        seal, size = self._seal, _ALL_HEADERS.size + len(body)
        if seal is None:
            return _ALL_HEADERS.pack(kind, size, channel, token, number, request_id) + body
        size += SIGNATURE_BYTES
        if not seal.encrypts:
            signed = _ALL_HEADERS.pack(kind, size, channel, token, number, request_id) + body
            return signed + seal.signature(signed)
        size += _PADDING_SIZE_BYTES
        padding = (_CLEAR_BYTES - size) % self._block
        size += padding
        signed = _ALL_HEADERS.pack(kind, size, channel, token, number, request_id) + body + _PADDINGS[padding]
        plain = signed[_CLEAR_BYTES:] + seal.signature(signed)
        return signed[:_CLEAR_BYTES] + seal.encrypted(plain)


class Opener:
    """Opens the chunks that we get.

    Args:
        seal: The keys; None without security.
    """

    __slots__ = ("_seal",)

    def __init__(self, seal: Seal | None) -> None:
        self._seal = seal

    def open(self, chunk: bytes) -> Opened | None:
        """Return what a chunk carries; None if it is not what somebody with the keys made of it."""
        seal = self._seal
        plain = chunk[_CLEAR_BYTES:]
        end = len(plain)
        if seal is not None:
            if seal.encrypts:
                if not end or end % BLOCK_BYTES:
                    return None
                plain = seal.decrypted(plain)
            end -= SIGNATURE_BYTES
            if end <= 0 or not seal.has_signed(chunk[:_CLEAR_BYTES], plain[:end], plain[end:]):
                return None
            if seal.encrypts:
                end -= plain[end - 1] + _PADDING_SIZE_BYTES
        if end < _SEQUENCE_BYTES:
            return None
        number, request_id = _SEQUENCE.unpack_from(plain)
        return Opened(number, request_id, plain[_SEQUENCE_BYTES:end])


def sealer_of(crypto: Any, chunk_bytes: int) -> Sealer | None:
    """Return what makes chunks as asyncua's object would; None if it is of a kind that is not known here."""
    if type(crypto) is CryptographyNone:
        return Sealer(None, 1, chunk_bytes)
    if type(crypto) is not Cryptography or type(crypto.Signer) is not SignerHMac256:
        return None
    if not crypto.is_encrypted:
        return Sealer(Seal(crypto.Signer.key, None), 1, chunk_bytes)
    if type(crypto.Encryptor) is not EncryptorAesCbc:
        return None
    seal = Seal(crypto.Signer.key, crypto.Encryptor.cipher)
    return Sealer(seal, crypto.Encryptor.plain_block_size(), chunk_bytes)


def opener_of(crypto: Any) -> Opener | None:
    """Return what opens chunks as asyncua's object would; None if it is of a kind that is not known here."""
    if type(crypto) is CryptographyNone:
        return Opener(None)
    if type(crypto) is not Cryptography or type(crypto.Verifier) is not VerifierHMac256:
        return None
    if not crypto.is_encrypted:
        return Opener(Seal(crypto.Verifier.key, None))
    if type(crypto.Decryptor) is not DecryptorAesCbc:
        return None
    return Opener(Seal(crypto.Verifier.key, crypto.Decryptor.cipher))

"""A seal that lives as long as its token does what a new one does for each message."""

from __future__ import annotations

import hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.security.sealing import BLOCK_BYTES, Seal

KEY, VECTOR = bytes(range(32)), bytes(range(100, 116))


def cipher(bits: int = 256) -> Any:
    return Cipher(algorithms.AES(KEY[: bits // 8]), modes.CBC(VECTOR))


def blocks(count: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=BLOCK_BYTES * count, max_size=BLOCK_BYTES * count)


MESSAGES = st.lists(st.integers(1, 5).flatmap(blocks), min_size=1, max_size=6)


@pytest.mark.parametrize("bits", [128, 256])
@given(messages=MESSAGES)
def test_each_message_begins_with_the_initialization_vector(bits: int, messages: list[bytes]) -> None:
    # Part 6 §6.7.5: the vector of the token, for each chunk anew.
    seal, other = Seal(KEY, cipher(bits)), Seal(KEY, cipher(bits))
    for message in messages:
        sealed = seal.encrypted(message)
        assert sealed == cipher(bits).encryptor().update(message)
        assert other.decrypted(sealed) == message


@given(messages=MESSAGES)
def test_noise_between_two_messages_spoils_neither(messages: list[bytes]) -> None:
    seal = Seal(KEY, cipher())
    for message in messages:
        assert seal.decrypted(message) == cipher().decryptor().update(message)


@pytest.mark.parametrize("size", [0, 1, 15, 17, 40])
def test_what_is_not_of_whole_blocks_spoils_nothing(size: int) -> None:
    seal = Seal(KEY, cipher())
    for work in (seal.encrypted, seal.decrypted):
        with pytest.raises(ValueError, match="no whole blocks"):
            work(b"x" * size)
    assert seal.decrypted(seal.encrypted(b"y" * 32)) == b"y" * 32


@given(head=st.binary(max_size=40), text=st.binary(max_size=100))
def test_a_signature_is_hmac_sha256(head: bytes, text: bytes) -> None:
    seal = Seal(KEY, None)
    assert not seal.encrypts
    for _ in range(2):
        signature = seal.signature(head + text)
        assert signature == hmac.digest(KEY, head + text, "sha256")
        assert seal.has_signed(head, text, signature)
        assert not seal.has_signed(head, text + b"!", signature)
        assert not seal.has_signed(head, text, signature[:-1])
        assert not seal.has_signed(head, text, b"")

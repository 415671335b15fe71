"""Our chunks are asyncua's, byte for byte, and what was tampered with is not opened."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.connection import MessageChunk, SecureConnection, TransportLimits
from asyncua.crypto import security_policies
from asyncua.ua.ua_binary import header_from_binary, nodeid_to_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.channel import Channel
from edge_opcua.opcua.seam.framing import opener_of, sealer_of
from edge_opcua.opcua.seam.request import Ordinary, ordinary_header, read_header
from edge_opcua.testing import ManualClock
from tests.opcua.secure_peers import GOOD, OTHER

SIGN, ENCRYPT = ua.MessageSecurityMode.Sign, ua.MessageSecurityMode.SignAndEncrypt
POLICIES: dict[str, Callable[..., Any]] = {
    "None": lambda *_: security_policies.SecurityPolicyNone(),
    "Basic256Sha256": partial(security_policies.SecurityPolicyBasic256Sha256, mode=ENCRYPT),
    "Aes128_Sha256_RsaOaep": partial(security_policies.SecurityPolicyAes128Sha256RsaOaep, mode=ENCRYPT),
    "Aes256_Sha256_RsaPss": partial(security_policies.SecurityPolicyAes256Sha256RsaPss, mode=ENCRYPT),
    "signed only": partial(security_policies.SecurityPolicyBasic256Sha256, mode=SIGN),
}
SECURED = [name for name in POLICIES if name != "None"]
LARGEST = (1 << 32) - 1
LIFETIME_S = 600.0
MSG = ua.MessageType.SecureMessage


class Pair:
    """The two ends of one open channel: ours, and asyncua's as the client's and as another server's."""

    def __init__(self, policy: str, chunk_bytes: int = 65_535) -> None:
        self.clock = ManualClock()
        limits = TransportLimits(max_recv_buffer=chunk_bytes, max_send_buffer=chunk_bytes)
        self.ours = Channel(limits, ServerLimits(), self.clock)
        self.theirs = SecureConnection(security_policies.SecurityPolicyNone(), limits)
        self.client = SecureConnection(security_policies.SecurityPolicyNone(), limits)
        self.ours.until_s = self.clock.monotonic_s() + LIFETIME_S
        self.ours.activated = True
        for server in (self.ours, self.theirs):
            server.security_policy = POLICIES[policy](GOOD.certificate, OTHER.certificate, OTHER.key)
        self.client.security_policy = POLICIES[policy](OTHER.certificate, GOOD.certificate, GOOD.key)
        self.renew(13)
        for end in (self.ours, self.theirs, self.client):
            end._open = True
            end._peer_sequence_number = end._sequence_number = 1

    def renew(self, token: int) -> None:
        """Use other keys from now on, at all ends."""
        served, sent = bytes([token]) * 32, bytes([token + 1]) * 32
        for end, own, other in (
            (self.ours, served, sent),
            (self.theirs, served, sent),
            (self.client, sent, served),
        ):
            end.security_policy.make_local_symmetric_key(other, own)
            end.security_policy.make_remote_symmetric_key(own, other, LIFETIME_S * 1000)
            end.security_token.TokenId, end.security_token.ChannelId = token, 4711

    def take(self, chunk: bytes) -> Any:
        """Open a chunk in our way; the state of the channel changes only if that succeeds."""
        before = self.ours._peer_sequence_number
        opened = self.ours.take(chunk)
        number = opened.number if opened is not None else before
        assert self.ours._peer_sequence_number == number
        assert not self.ours._incoming_parts
        return opened


def general(channel: SecureConnection, chunk: bytes) -> Any:
    """Receive a chunk in asyncua's way."""
    buffer = StrictBuffer(chunk)
    return channel.receive_from_header_and_body(header_from_binary(buffer), buffer)


@pytest.fixture(scope="module")
def pairs() -> dict[str, Pair]:
    return {policy: Pair(policy) for policy in POLICIES}


# --- what we send --------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@given(size=st.one_of(st.integers(1, 200), st.integers(1, 70_000)), request_id=st.integers(0, LARGEST))
def test_what_we_send_is_what_asyncua_would(
    pairs: dict[str, Pair], policy: str, size: int, request_id: int
) -> None:
    # Part 6 §6.7.2: headers, padding, signature, encryption.
    pair, body = pairs[policy], bytes(index & 0xFF for index in range(size))
    pair.theirs._sequence_number = pair.ours._sequence_number
    sent = pair.ours.message_to_binary(body, MSG, request_id)
    assert sent == pair.theirs.message_to_binary(body, MSG, request_id)
    assert pair.ours._sequence_number == pair.theirs._sequence_number


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("chunk_bytes", [8192, 8193, 8207, 65_535])
def test_chunks_end_where_asyncuas_end(policy: str, chunk_bytes: int) -> None:
    pair = Pair(policy, chunk_bytes)
    room = pair.ours.room()
    crypto = pair.theirs.security_policy.symmetric_cryptography
    assert room == MessageChunk.max_body_size(crypto, chunk_bytes)
    around = [times * room + more for times in (1, 2, 3) for more in range(-35, 36)]
    for size in [*range(1, 50), *around]:
        body = b"\xa5" * size
        sent = pair.ours.message_to_binary(body, MSG, 7)
        assert sent == pair.theirs.message_to_binary(body, MSG, 7)
        assert max(_sizes(sent)) <= chunk_bytes


def _sizes(sent: bytes) -> list[int]:
    sizes = []
    while sent:
        sizes.append(int.from_bytes(sent[4:8], "little"))
        sent = sent[sizes[-1] :]
    return sizes


@pytest.mark.parametrize("policy", POLICIES)
def test_sequence_numbers_wrap_as_asyncuas(policy: str) -> None:
    # Part 6 §6.7.2.4.
    pair = Pair(policy, 8192)
    pair.ours._sequence_number = pair.theirs._sequence_number = LARGEST - 3
    for _ in range(4):
        body = b"x" * 20_000
        assert pair.ours.message_to_binary(body, MSG, 1) == pair.theirs.message_to_binary(body, MSG, 1)
    assert pair.ours._sequence_number == pair.theirs._sequence_number < 1024


def test_whatever_is_no_message_is_left_to_asyncua() -> None:
    pair = Pair("Basic256Sha256")
    closing = pair.ours.message_to_binary(b"bye", ua.MessageType.SecureClose, 3)
    assert closing == pair.theirs.message_to_binary(b"bye", ua.MessageType.SecureClose, 3)
    assert pair.ours.message_to_binary(b"", MSG, 3) == pair.theirs.message_to_binary(b"", MSG, 3) == b""
    assert pair.ours.message_to_binary(b"open", ua.MessageType.SecureOpen, 3).startswith(b"OPNF")


def test_keys_of_a_kind_we_do_not_know_are_left_to_asyncua() -> None:
    old = security_policies.SecurityPolicyBasic256(
        GOOD.certificate, OTHER.certificate, OTHER.key, mode=ENCRYPT
    )
    old.make_local_symmetric_key(b"a" * 32, b"b" * 32)
    old.make_remote_symmetric_key(b"a" * 32, b"b" * 32, 1000)
    assert sealer_of(old.symmetric_cryptography, 65_535) is None
    assert opener_of(old.symmetric_cryptography) is None
    pair = Pair("Basic256Sha256")
    for end in (pair.ours, pair.theirs):
        end.security_policy = old
    assert pair.ours.message_to_binary(b"x", MSG, 1) == pair.theirs.message_to_binary(b"x", MSG, 1)
    assert pair.ours.room() == MessageChunk.max_body_size(old.symmetric_cryptography, 65_535)
    chunk = pair.client.message_to_binary(b"x", MSG, 1)
    assert pair.take(chunk) is None


# --- what we get ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@given(body=st.binary(min_size=1, max_size=300), request_id=st.integers(0, LARGEST))
def test_what_asyncua_sends_is_opened(
    pairs: dict[str, Pair], policy: str, body: bytes, request_id: int
) -> None:
    pair = pairs[policy]
    pair.ours._peer_sequence_number = pair.client._sequence_number
    opened = pair.take(pair.client.message_to_binary(body, MSG, request_id))
    assert opened == (pair.client._sequence_number, request_id, body)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_largest_chunk_is_opened(policy: str) -> None:
    pair = Pair(policy)
    for size in range(pair.ours.room() - 40, pair.ours.room() + 1):
        assert pair.take(pair.client.message_to_binary(b"y" * size, MSG, 1)).body == b"y" * size


@pytest.mark.parametrize("policy", SECURED)
@given(data=st.data())
def test_a_byte_that_was_changed_opens_nothing(pairs: dict[str, Pair], policy: str, data: Any) -> None:
    pair = pairs[policy]
    pair.ours._peer_sequence_number = pair.client._sequence_number
    chunk = bytearray(pair.client.message_to_binary(b"set the valve to 12", MSG, 5))
    place = data.draw(st.integers(0, len(chunk) - 1))
    chunk[place] ^= data.draw(st.integers(1, 255))
    assert pair.take(bytes(chunk)) is None


@pytest.mark.parametrize("policy", SECURED)
@given(data=st.data())
def test_a_chunk_that_was_cut_opens_nothing(pairs: dict[str, Pair], policy: str, data: Any) -> None:
    pair = pairs[policy]
    pair.ours._peer_sequence_number = pair.client._sequence_number
    chunk = pair.client.message_to_binary(b"set the valve to 12", MSG, 5)
    size = data.draw(st.integers(13, len(chunk) - 1))  # the socket's side sees to the first twelve
    assert pair.take(chunk[:4] + size.to_bytes(4, "little") + chunk[8:size]) is None


@given(junk=st.binary(min_size=13, max_size=100))
def test_noise_opens_nothing(pairs: dict[str, Pair], junk: bytes) -> None:
    for pair in pairs.values():
        assert pair.take(junk) is None
        assert pair.take(b"MSGF" + junk) is None


@pytest.mark.parametrize("policy", POLICIES)
def test_only_the_next_number_of_the_sequence_is_opened(policy: str) -> None:
    # Part 6 §6.7.2.4; a number that wraps is asyncua's to judge.
    pair = Pair(policy)
    for before, number in ((1, 1), (1, 3), (1, 0), (5, 4), (LARGEST, 1), (LARGEST, 0), (None, 2)):
        pair.ours._peer_sequence_number = before
        pair.client._sequence_number = number - 1
        assert pair.take(pair.client.message_to_binary(b"x", MSG, 1)) is None
    pair.ours._peer_sequence_number = LARGEST - 1
    pair.client._sequence_number = LARGEST - 1
    assert pair.take(pair.client.message_to_binary(b"x", MSG, 1)).number == LARGEST
    wrapped = pair.client.message_to_binary(b"y", MSG, 1)
    assert pair.take(wrapped) is None
    assert bytes(general(pair.ours, wrapped).body()) == b"y"
    assert pair.take(pair.client.message_to_binary(b"z", MSG, 1)).body == b"z"


@pytest.mark.parametrize("policy", POLICIES)
def test_the_unusual_is_left_to_asyncua(policy: str) -> None:
    pair = Pair(policy, 8192)
    long = pair.client.message_to_binary(b"l" * 20_000, MSG, 2)
    first, second = long[: _sizes(long)[0]], long[_sizes(long)[0] : 2 * _sizes(long)[0]]
    assert pair.take(first) is None  # the first of several chunks
    assert general(pair.ours, first) is None
    assert pair.ours._incoming_parts
    assert pair.ours.take(long[len(first) + len(second) :]) is None  # the last of them
    pair = Pair(policy)
    chunk = pair.client.message_to_binary(b"x", MSG, 1)
    for name, value in (("_open", False), ("activated", False), ("until_s", -math.inf)):
        before = getattr(pair.ours, name)
        setattr(pair.ours, name, value)
        assert pair.take(chunk) is None
        setattr(pair.ours, name, before)
    pair.ours.until_s -= LIFETIME_S + 1.0  # Part 4 §5.5.2.1
    assert pair.take(chunk) is None
    pair.ours.until_s += LIFETIME_S + 1.0
    for name, value in (("max_recv_buffer", len(chunk) - 1), ("max_message_size", len(chunk) - 1)):
        before = getattr(pair.ours._limits, name)
        setattr(pair.ours._limits, name, value)
        assert pair.take(chunk) is None
        setattr(pair.ours._limits, name, before)
    pair.ours.security_token.ChannelId += 1
    assert pair.take(chunk) is None
    pair.ours.security_token.ChannelId -= 1
    assert pair.take(chunk).body == b"x"


def test_after_a_renewal_only_the_new_keys_open_and_seal() -> None:
    # Part 4 §5.5.2, Part 6 §6.7.4: whoever uses the new token first makes it the one in use.
    pair = Pair("Basic256Sha256")
    assert pair.take(pair.client.message_to_binary(b"old", MSG, 1)).body == b"old"
    old = pair.client.message_to_binary(b"late", MSG, 2)
    sent = pair.ours.message_to_binary(b"answer", MSG, 1)
    pair.renew(14)
    assert pair.take(old) is None
    pair.client._sequence_number -= 1
    assert pair.take(pair.client.message_to_binary(b"new", MSG, 2)).body == b"new"
    pair.theirs._sequence_number = pair.ours._sequence_number
    again = pair.ours.message_to_binary(b"answer", MSG, 1)
    assert again == pair.theirs.message_to_binary(b"answer", MSG, 1)
    assert again[24:] != sent[24:]


# --- request headers -----------------------------------------------------------------------------------

TOKEN = bytes(range(32))


def _request(**fields: Any) -> bytes:
    header = ua.RequestHeader()
    header.AuthenticationToken = ua.NodeId(TOKEN, 0, ua.NodeIdType.ByteString)
    for name, value in fields.items():
        setattr(header, name, value)
    type_id = ua.FourByteNodeId(ua.ObjectIds.ReadRequest_Encoding_DefaultBinary)
    return bytes(nodeid_to_binary(type_id) + struct_to_binary(header)) + b"parameters"


@given(handle=st.integers(0, LARGEST), hint=st.integers(0, LARGEST), diagnostics=st.integers(0, LARGEST))
def test_an_ordinary_header_is_read_as_any_other(handle: int, hint: int, diagnostics: int) -> None:
    # Part 4 §7.33.
    for audit in (None, ""):
        whole = _request(
            RequestHandle=handle, TimeoutHint=hint, ReturnDiagnostics=diagnostics, AuditEntryId=audit
        )
        general = StrictBuffer(whole, 4)
        header = read_header(general)
        assert ordinary_header(whole, TOKEN) == Ordinary(handle, hint, general.cur_pos)
        assert (header.RequestHandle, header.TimeoutHint) == (handle, hint)
        assert whole[general.cur_pos :] == b"parameters"


def test_any_other_header_is_not_ordinary() -> None:
    other = bytes(31) + b"\x01"
    extra = ua.ExtensionObject(TypeId=ua.NodeId(1), Body=b"x")
    for fields in (
        {"AuthenticationToken": ua.NodeId(other, 0, ua.NodeIdType.ByteString)},
        {"AuthenticationToken": ua.NodeId(TOKEN, 1, ua.NodeIdType.ByteString)},
        {"AuthenticationToken": ua.NodeId(TOKEN + b"x", 0, ua.NodeIdType.ByteString)},
        {"AuthenticationToken": ua.NodeId(1000)},
        {"AuditEntryId": "shift 3"},
        {"AdditionalHeader": extra},
    ):
        assert ordinary_header(_request(**fields), TOKEN) is None
    whole = _request()
    assert all(ordinary_header(whole[:size], TOKEN) is None for size in range(len(whole) - 10))

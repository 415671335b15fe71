"""A secure channel on a raw non-blocking socket: UACP frames, None and Basic256Sha256 (Part 6 §6.7, §7.1).

The handshake is made with asyncua's client side; what comes afterwards is framed, signed and encrypted here,
so that a message costs what its bytes cost.
"""

from __future__ import annotations

import asyncio
import hmac
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlparse

from asyncua import ua
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.crypto import uacrypto
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256, SecurityPolicyNone
from asyncua.ua.ua_binary import (
    header_from_binary,
    struct_from_binary,
    struct_to_binary,
    uatcp_to_binary,
)

from edge_opcua.bench.opcua.answers import head
from edge_opcua.bench.opcua.wire import PAD
from edge_opcua.errors import EdgeError

PATIENCE_S: Final = 30.0
LIFETIME_MS: Final = 3_600_000
_BUFFER: Final = 65_535
_READ: Final = 1 << 20
_HEADER: Final = struct.Struct("<3scI")
_FRAME: Final = struct.Struct("<3scIIIII")  # type, chunk, size; channel, token; sequence, request
_CLEAR: Final = 16  # of these, what is not encrypted
_SEQUENCE: Final = 8
_SIGNATURE: Final = 32
_BLOCK: Final = 16

Handler = Callable[[bytes], None]
_T = TypeVar("_T")


class LoadError(EdgeError):
    """The server under test did not answer as expected."""


@dataclass(frozen=True, slots=True)
class Secured:
    """What a client needs for SignAndEncrypt.

    Args:
        certificate: Its certificate, DER.
        key: Its private key, PEM.
        server: The server's certificate, DER.
        uri: Its application URI, as in the certificate.
    """

    certificate: Path
    key: Path
    server: Path
    uri: str


@dataclass(slots=True)
class _Keys:
    """Keys of one direction (Part 6 §6.7.5)."""

    signing: bytes
    cipher: Any

    @classmethod
    def derived(cls, secret: bytes, seed: bytes) -> _Keys:
        signing, key, vector = uacrypto.p_sha256(secret, seed, (_SIGNATURE, 32, _BLOCK))
        return cls(signing, uacrypto.cipher_aes_cbc(key, vector))


class Channel:
    """One connection with its secure channel.

    Args:
        url: Endpoint of the server.
        secured: Certificates for SignAndEncrypt; None for security None.
    """

    def __init__(self, url: str, secured: Secured | None = None) -> None:
        self.url = url
        self.policy: Any = _policy(secured)
        self._sealed = secured is not None
        where = urlparse(url)
        self.socket = socket.create_connection((where.hostname or "", where.port or 4840), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(0.0)
        self._in = bytearray()
        self._room = memoryview(bytearray(_READ))
        self._parts: dict[int, list[bytes]] = {}
        self._handlers: dict[int, Handler] = {}
        self._request = 0
        self._sequence = 0
        self._channel_id = self._token = 0
        self._sending: _Keys | None = None
        self._receiving: _Keys | None = None
        self._chunk = _BUFFER
        self.received = 0
        self._hello()
        self._open()

    def fileno(self) -> int:
        """Return the socket's descriptor, for polling."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close the connection without a word."""
        self.socket.close()

    # --- requests ------------------------------------------------------------------------------------

    def send(self, body: bytes, handler: Handler) -> None:
        """Send a request; the handler gets the bytes of its answer, padded with :data:`PAD`."""
        self._request += 1
        self._handlers[self._request] = handler
        room = self._chunk - 1024
        if len(body) <= room:
            self._write(self._framed(b"F", body))
            return
        parts = [body[at : at + room] for at in range(0, len(body), room)]
        chunks = [self._framed(b"C", part) for part in parts[:-1]]
        self._write(b"".join([*chunks, self._framed(b"F", parts[-1])]))

    def call(self, request: Any, answer: type[_T]) -> _T:
        """Send one request and wait for its answer.

        Raises:
            LoadError: It was refused, or nothing came in time.
        """
        found = self.exchange(struct_to_binary(request))
        first = head(found)
        if first.result:
            name = type(request).__name__
            raise LoadError(f"{name}: {ua.StatusCode(ua.UInt32(first.result)).name}")
        return cast("_T", struct_from_binary(answer, ua.utils.Buffer(found)))

    def exchange(self, body: bytes) -> bytes:
        """Send the bytes of a request and wait for those of its answer."""
        came: list[bytes] = []
        self.send(body, came.append)
        until_s = time.monotonic() + PATIENCE_S
        while not came:
            self.wait(until_s)
        return came[0]

    def wait(self, until_s: float) -> None:
        """Wait for bytes and handle them.

        Raises:
            LoadError: Nothing came until then (monotonic, s).
        """
        left_s = until_s - time.monotonic()
        if left_s <= 0 or not select.select([self.socket], [], [], left_s)[0]:
            raise LoadError(f"{self.url} did not answer within {PATIENCE_S:g} s")
        self.receive()

    # --- frames --------------------------------------------------------------------------------------

    def receive(self) -> None:
        """Take what has arrived, and hand out the answers that are complete."""
        try:
            size = self.socket.recv_into(self._room)
        except BlockingIOError:
            return
        if not size:
            raise LoadError(f"{self.url} closed the connection")
        self.received += size
        data = self._in
        data += self._room[:size]
        at, frames = 0, []
        while len(data) - at >= _HEADER.size:
            kind, chunk, length = _HEADER.unpack_from(data, at)
            if len(data) - at < length:
                break
            if kind != b"MSG":
                raise LoadError(f"{self.url} sent {kind!r}: {bytes(data[at + 8 : at + 200])!r}")
            frames.append((at, length, chunk == b"F"))
            at += length
        taken = bytes(data[:at])
        del data[:at]
        for begin, length, last in frames:
            self._take(taken, begin, length, last=last)

    def _take(self, data: bytes, at: int, length: int, *, last: bool) -> None:
        request, body = self._opened(data, at, length)
        parts = self._parts.setdefault(request, [])
        parts.append(body)
        if last:
            del self._parts[request]
            parts.append(PAD)
            self._handlers.pop(request)(b"".join(parts))

    def _opened(self, data: bytes, at: int, length: int) -> tuple[int, bytes]:
        """Return the request id of a chunk and its part of the body."""
        if self._receiving is None:
            (request,) = struct.unpack_from("<I", data, at + _CLEAR + 4)
            return request, data[at + _CLEAR + _SEQUENCE : at + length]
        plain = uacrypto.cipher_decrypt(self._receiving.cipher, data[at + _CLEAR : at + length])
        signed = data[at : at + _CLEAR] + plain[:-_SIGNATURE]
        if hmac.digest(self._receiving.signing, signed, "sha256") != plain[-_SIGNATURE:]:
            raise LoadError(f"{self.url} sent a chunk with a wrong signature")
        (request,) = struct.unpack_from("<I", plain, 4)
        padding = plain[-_SIGNATURE - 1] + 1
        return request, plain[_SEQUENCE : len(plain) - _SIGNATURE - padding]

    def _framed(self, chunk: bytes, body: bytes) -> bytes:
        self._sequence += 1
        if self._sending is None:
            size = _FRAME.size + len(body)
            ids = (self._channel_id, self._token, self._sequence, self._request)
            return _FRAME.pack(b"MSG", chunk, size, *ids) + body
        fill = -(_SEQUENCE + len(body) + 1 + _SIGNATURE) % _BLOCK
        size = _CLEAR + _SEQUENCE + len(body) + 1 + fill + _SIGNATURE
        ids = (self._channel_id, self._token, self._sequence, self._request)
        signed = _FRAME.pack(b"MSG", chunk, size, *ids) + body + bytes([fill]) * (fill + 1)
        whole = signed + hmac.digest(self._sending.signing, signed, "sha256")
        sealed: bytes = uacrypto.cipher_encrypt(self._sending.cipher, whole[_CLEAR:])
        return whole[:_CLEAR] + sealed

    def _write(self, data: bytes) -> None:
        """Send everything, taking what arrives meanwhile: a server may wait for us to read."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.socket.send(view) :]
            except BlockingIOError:
                select.select([], [self.socket], [], 1.0)

    # --- handshake -----------------------------------------------------------------------------------

    def _hello(self) -> None:
        hello = ua.Hello()
        hello.EndpointUrl = self.url
        hello.ReceiveBufferSize = hello.SendBufferSize = _BUFFER
        hello.MaxMessageSize = hello.MaxChunkCount = 0
        self._write(uatcp_to_binary(ua.MessageType.Hello, hello))
        frame = self._frame()
        if frame[:3] != b"ACK":
            raise LoadError(f"{self.url} answered Hello with {frame[:200]!r}")
        acknowledge = struct_from_binary(ua.Acknowledge, ua.utils.Buffer(frame[8:]))
        self._chunk = min(_BUFFER, int(acknowledge.ReceiveBufferSize))

    def _open(self) -> None:
        connection = SecureConnection(self.policy, TransportLimits())
        request = ua.OpenSecureChannelRequest()
        request.Parameters.RequestType = ua.SecurityTokenRequestType.Issue
        request.Parameters.SecurityMode = self.policy.Mode
        request.Parameters.RequestedLifetime = LIFETIME_MS
        nonce = ua.utils.create_nonce(self.policy.secure_channel_nonce_length) if self._sealed else b""
        request.Parameters.ClientNonce = nonce
        self._request += 1
        self._sequence += 1
        self._write(
            connection.message_to_binary(struct_to_binary(request), ua.MessageType.SecureOpen, self._request)
        )
        frame = self._frame()
        if frame[:3] != b"OPN":
            raise LoadError(f"{self.url} refused the channel: {frame[8:300]!r}")
        buffer = ua.utils.Buffer(frame)
        message = connection.receive_from_header_and_body(header_from_binary(buffer), buffer)
        if not isinstance(message, ua.Message):
            raise LoadError(f"{self.url} refused the channel: {message}")
        answer = struct_from_binary(ua.OpenSecureChannelResponse, message.body()).Parameters
        self._channel_id = int(answer.SecurityToken.ChannelId)
        self._token = int(answer.SecurityToken.TokenId)
        if self._sealed:
            self._sending = _Keys.derived(answer.ServerNonce, nonce)
            self._receiving = _Keys.derived(nonce, answer.ServerNonce)

    def _frame(self) -> bytes:
        """Return the next frame of the handshake."""
        until_s = time.monotonic() + PATIENCE_S
        while len(self._in) < 8 or len(self._in) < _HEADER.unpack_from(self._in)[2]:
            if not select.select([self.socket], [], [], max(0.0, until_s - time.monotonic()))[0]:
                raise LoadError(f"{self.url} did not answer within {PATIENCE_S:g} s")
            more = self.socket.recv(_BUFFER)
            if not more:
                raise LoadError(f"{self.url} closed the connection during the handshake")
            self._in += more
        size = _HEADER.unpack_from(self._in)[2]
        frame = bytes(self._in[:size])
        del self._in[:size]
        return frame


def _policy(secured: Secured | None) -> Any:
    if secured is None:
        return SecurityPolicyNone()
    return SecurityPolicyBasic256Sha256(
        secured.server.read_bytes(),
        uacrypto.x509_from_der(secured.certificate.read_bytes()),
        _key(secured.key),
        ua.MessageSecurityMode.SignAndEncrypt,
    )


@cache
def _key(file: Path) -> Any:
    return asyncio.run(uacrypto.load_private_key(file))

"""A secure channel that expires, and that takes only small messages until its client is known.

Ordinary messages are opened and sealed by :mod:`~edge_opcua.opcua.seam.framing`. Whatever is unusual about
one that comes (an OpenSecureChannel, several chunks, another token, a sequence number that wraps, anything
wrong) is left to asyncua's way, which decides about it.
"""

from __future__ import annotations

import math
from typing import Any, Final

from asyncua import ua
from asyncua.common.connection import MessageChunk, SecureConnection, TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.crypto.security_policies import SecurityPolicyNone

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.framing import (
    FINAL,
    HEADERS,
    INTERMEDIATE,
    Opened,
    Opener,
    Sealer,
    opener_of,
    sealer_of,
)

# Part 6 §7.1.2.3: buffers are at least this large; no message needs more chunks than its size // this + 1.
CHUNK_BYTES: Final = 8192
_NUMBERS: Final = 1 << 32


class Channel(SecureConnection):
    """asyncua's channel with a clamped lifetime, an end, and a size limit before activation.

    Args:
        transport_limits: Buffer sizes, negotiated in Hello.
        limits: Ours.
        clock: Counts the lifetime.

    Attributes:
        activated: Whether a session was activated here: from then on messages may be large.
        until_s: Monotonic time after which no message is taken (Part 4 §5.5.2.1: lifetime plus 25 %).
    """

    _sequence_number: int
    _peer_sequence_number: int | None

    def __init__(self, transport_limits: TransportLimits, limits: ServerLimits, clock: Clock) -> None:
        super().__init__(SecurityPolicyNone(), transport_limits)
        self.activated = False
        self.until_s = math.inf
        self._server_limits = limits
        self._clock = clock
        self._opener: Opener | None = None
        self._opens_for: Any = None
        self._sealer: Sealer | None = None
        self._seals_for: Any = None

    def open(self, params: Any, server: Any) -> ua.OpenSecureChannelResult:
        """Open or renew; refuses what asyncua takes without a look.

        Raises:
            ServiceError: Wrong kind of request for this state, or a nonce of the wrong length.
        """
        renewing = params.RequestType == ua.SecurityTokenRequestType.Renew
        if renewing != self.is_open():
            raise ServiceError(ua.StatusCodes.BadRequestTypeInvalid)
        wanted = self.security_policy.secure_channel_nonce_length
        if wanted and (len(params.ClientNonce or b"") != wanted or params.ClientNonce == self.remote_nonce):
            raise ServiceError(ua.StatusCodes.BadNonceInvalid)
        limits = self._server_limits
        lifetime_s = min(max(params.RequestedLifetime / 1000, limits.min_lifetime_s), limits.max_lifetime_s)
        params.RequestedLifetime = round(lifetime_s * 1000)
        self.until_s = self._clock.monotonic_s() + 1.25 * lifetime_s
        return super().open(params, server)

    def _check_sym_header(self, security_hdr: ua.SymmetricAlgorithmHeader) -> None:
        if not self.is_open() or self._clock.monotonic_s() > self.until_s:
            raise ServiceError(ua.StatusCodes.BadSecureChannelClosed)
        if not security_hdr.TokenId:  # what asyncua's "next token" is before there is a next one
            raise ServiceError(ua.StatusCodes.BadSecureChannelTokenUnknown)
        super()._check_sym_header(security_hdr)

    def _receive(self, msg: Any) -> ua.Message | None:
        limit = self._server_limits.early_message_bytes
        if not self.activated and (
            self._incoming_size + len(msg.Body) > limit or len(self._incoming_parts) > limit // CHUNK_BYTES
        ):
            raise ServiceError(ua.StatusCodes.BadTcpMessageTooLarge)
        return super()._receive(msg)

    # --- ordinary messages ---------------------------------------------------------------------------

    def take(self, chunk: bytes) -> Opened | None:
        """Open a message that came in one chunk, with the token in use, as the next in the sequence.

        Returns:
            The message, which counts as received; None: nothing has happened, and asyncua's way decides.
        """
        if len(chunk) < HEADERS.size or not self.activated:
            return None
        kind, size, channel, token = HEADERS.unpack_from(chunk)
        now_is = self.security_token
        limits = self._limits
        if (
            kind != FINAL
            or token != now_is.TokenId
            or channel != now_is.ChannelId
            or not self._open
            or not token
            or self._incoming_parts
            or size > limits.max_recv_buffer
            or size > limits.max_message_size > 0
            or self._clock.monotonic_s() > self.until_s
        ):
            return None
        opened = self._open_chunk(chunk)
        before = self._peer_sequence_number
        if opened is None or before is None or opened.number != before + 1:
            return None
        self._peer_sequence_number = opened.number
        return opened

    def _open_chunk(self, chunk: bytes) -> Opened | None:
        crypto = self.security_policy.symmetric_cryptography
        keys = getattr(crypto, "Verifier", crypto)  # another object whenever the keys are others
        if keys is not self._opens_for:
            self._opener, self._opens_for = opener_of(crypto), keys
        return self._opener.open(chunk) if self._opener is not None else None

    def room(self) -> int:
        """Return the largest body of one chunk that we send."""
        sealer = self._current_sealer()
        if sealer is not None:
            return sealer.room
        crypto = self.security_policy.symmetric_cryptography
        return int(MessageChunk.max_body_size(crypto, self._limits.max_send_buffer))

    def _current_sealer(self) -> Sealer | None:
        crypto = self.security_policy.symmetric_cryptography
        keys = getattr(crypto, "Signer", crypto)
        if keys is not self._seals_for:
            self._sealer = sealer_of(crypto, self._limits.max_send_buffer)
            self._seals_for = keys
        return self._sealer

    def message_to_binary(
        self, message: bytes, message_type: Any = ua.MessageType.SecureMessage, request_id: int = 0
    ) -> bytes:
        """Return a message in as many chunks as it needs."""
        sealer = self._current_sealer() if message_type == ua.MessageType.SecureMessage else None
        if sealer is None or not message:
            return bytes(super().message_to_binary(message, message_type, request_id))
        token = self.security_token
        channel, token_id, room = token.ChannelId, token.TokenId, sealer.room
        if len(message) <= room:
            return sealer.chunk(FINAL, channel, token_id, self._next_number(), request_id, message)
        last = (len(message) - 1) // room * room
        return b"".join(
            sealer.chunk(
                INTERMEDIATE if start < last else FINAL,
                channel,
                token_id,
                self._next_number(),
                request_id,
                message[start : start + room],
            )
            for start in range(0, len(message), room)
        )

    def _next_number(self) -> int:
        """Count what we send (Part 6 §6.7.2.4: after the largest number comes one below 1024)."""
        number = self._sequence_number + 1
        if number >= _NUMBERS:
            number = 1
        self._sequence_number = number
        return number

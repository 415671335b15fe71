"""A secure channel that expires, and that takes only small messages until its client is known."""

from __future__ import annotations

import math
from typing import Any, Final

from asyncua import ua
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.crypto.security_policies import SecurityPolicyNone

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.limits import ServerLimits

# Part 6 §7.1.2.3: buffers are at least this large; no message needs more chunks than its size // this + 1.
CHUNK_BYTES: Final = 8192


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

    def __init__(self, transport_limits: TransportLimits, limits: ServerLimits, clock: Clock) -> None:
        super().__init__(SecurityPolicyNone(), transport_limits)
        self.activated = False
        self.until_s = math.inf
        self._server_limits = limits
        self._clock = clock

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

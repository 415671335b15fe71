"""Who may have a secure channel, and whether he may keep it: asked before any key is touched."""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final

from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.ua.ua_binary import struct_from_binary

from edge_opcua.opcua.seam.channel import CHUNK_BYTES, Channel
from edge_opcua.opcua.services.audit import Act
from edge_opcua.security.chain import leaf_of
from edge_opcua.security.trust import Decision, describe, refusal

_MAX_URI: Final = 100


class Admission:
    """Decides about the channel of one connection.

    Args:
        core: The server core: its gate, its policies, its audit.
        channel: The channel.
        limits: The connection's buffers; the greeting makes them smaller.
        address: Where the client is.

    Attributes:
        peer: What was decided about the client's certificate; None without security.
        greeted: Whether it said Hello.
        client_bytes: Largest answer that the client takes.
        client_chunks: Most chunks of an answer that it takes.
    """

    def __init__(self, core: Any, channel: Channel, limits: TransportLimits, address: str) -> None:
        self.peer: Decision | None = None
        self.greeted = False
        self.client_bytes: float = math.inf
        self.client_chunks: float = math.inf
        self._core = core
        self._channel = channel
        self._limits = limits
        self._address = address
        self._sent = b""
        self._trust_version: tuple[int, ...] | None = None

    def greet(self, body: Any) -> ua.Acknowledge:
        """Agree on sizes (Part 6 §7.1.2.3).

        Raises:
            ServiceError: It is no greeting for now, or with buffers that are too small.
        """
        hello = struct_from_binary(ua.Hello, body)
        if self.greeted or min(hello.ReceiveBufferSize, hello.SendBufferSize) < CHUNK_BYTES:
            raise ServiceError(ua.StatusCodes.BadConnectionRejected)
        self.greeted = True
        limits = self._limits
        limits.max_recv_buffer = min(hello.SendBufferSize, limits.max_recv_buffer)
        limits.max_send_buffer = min(hello.ReceiveBufferSize, limits.max_send_buffer)
        # What the client says of messages is about answers, what we say about requests; 0: no limit.
        self.client_bytes = hello.MaxMessageSize or math.inf
        self.client_chunks = hello.MaxChunkCount or math.inf
        return ua.Acknowledge(
            ReceiveBufferSize=limits.max_recv_buffer,
            SendBufferSize=limits.max_send_buffer,
            MaxMessageSize=limits.max_message_size,
            MaxChunkCount=limits.max_chunk_count,
        )

    async def admit(self, header: Any, body: Any) -> bool:
        """Decide whether this channel may open, or go on, before any key is touched."""
        security = struct_from_binary(ua.AsymmetricAlgorithmHeader, body.copy(header.body_size))
        if header.ChunkType != ua.ChunkType.Single:  # Part 6 §6.7.2.2: always one chunk
            return self.refuse(refusal("S406", "OpenSecureChannel in several chunks"))
        secured = security.SecurityPolicyURI != SecurityPolicyNone.URI
        if self._channel.is_open():
            same = security.SecurityPolicyURI == self._channel.security_policy.URI
            leaf = leaf_of(security.SenderCertificate or b"") if secured else b""
            if not same or leaf != (self.peer.leaf if self.peer else b""):
                return self.refuse(refusal("S420", "at the renewal of the channel", of=self.peer))
        if not secured:
            # Needed for discovery in any case; CreateSession asks whether more is allowed.
            return True
        sent = security.SenderCertificate or b""
        if security.SecurityPolicyURI not in {policy.cls.URI for policy in self._core.policies}:
            detail = printable(str(security.SecurityPolicyURI)[:_MAX_URI])
            return self.refuse(refusal("S413", detail, of=describe(sent)))
        if security.ReceiverCertificateThumbPrint != self._own_thumbprint():
            return self.refuse(refusal("S412", of=describe(sent)))
        version = await self._core.gate.version()
        decision: Decision = await self._core.gate.admit(sent, self._address)
        self.peer = decision if decision.trusted else None
        self._sent, self._trust_version = sent, version
        return decision.trusted

    def _own_thumbprint(self) -> bytes:
        """Return the SHA-1 of our certificate: on an open channel the one that it was opened with."""
        own = self._core.gate.security.pki.certificate_der
        if self._channel.is_open():
            own = self._channel.security_policy.host_certificate
        return hashlib.sha1(own, usedforsecurity=False).digest()

    async def is_still_trusted(self) -> bool:
        """Whether the client may stay: decided again only after the lists have changed."""
        if self.peer is None:
            return True
        version = await self._core.gate.version()
        if version is None or version == self._trust_version:
            return True
        decision: Decision = await self._core.gate.admit(self._sent, self._address)
        self._trust_version = version
        if decision.trusted:
            self.peer = decision  # its roles may be others
        return decision.trusted or decision.code == "S414"  # unreadable for a moment: look again later

    def refuse(self, decision: Decision) -> bool:
        """Report a refusal; always False."""
        self._core.gate.refuse(decision, self._address)
        return False

    def tell(self, kind: str) -> None:
        """Tell that the channel was opened or closed; without security there is nobody to tell about."""
        if self.peer is None:
            return
        channel = self._channel
        facts = {
            "channel": int(channel.security_token.ChannelId),
            "policy": channel.security_policy.URI.rpartition("#")[2],
            "thumbprint": self.peer.thumbprint,
        }
        event: dict[str, Any] = {
            **self.facts(),
            "RequestType": int(ua.SecurityTokenRequestType.Issue),
            "SecurityPolicyUri": channel.security_policy.URI,
            "SecurityMode": int(channel.security_policy.Mode),
            "RequestedLifetime": float(channel.security_token.RevisedLifetime),
        }
        if kind == "channel.closed":
            event = {"SecureChannelId": event["SecureChannelId"]}
        who = f"{self.peer.application_uri} ({self._address})"
        self._core.audit(Act(kind, 0, who, facts=facts, event=event))

    def facts(self) -> dict[str, Any]:
        """Return what Part 5 §6.5.6, §6.5.8 tell of a channel."""
        return {
            "SecureChannelId": str(self._channel.security_token.ChannelId),
            "ClientCertificate": self.peer.leaf if self.peer is not None else b"",
            "ClientCertificateThumbprint": self.peer.thumbprint if self.peer is not None else "",
        }


def printable(text: str) -> str:
    """Return a stranger's text fit for a log."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def address_of(peer: Any) -> str:
    """Return ``host:port`` of a socket's peer name."""
    if isinstance(peer, tuple) and len(peer) >= 2:
        return f"[{peer[0]}]:{peer[1]}" if ":" in str(peer[0]) else f"{peer[0]}:{peer[1]}"
    return str(peer or "")

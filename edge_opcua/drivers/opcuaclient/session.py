"""A session with a server: its endpoints, a secured channel, who we are; new for every connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.crypto import security_policies

from edge_opcua import __version__
from edge_opcua.core.clock import Clock
from edge_opcua.core.worker import Worker
from edge_opcua.drivers.opcuaclient.channel import Channel
from edge_opcua.drivers.opcuaclient.messages import ServiceRefusedError
from edge_opcua.drivers.opcuaclient.reasons import STRANGER, UNREADABLE, UNTRUSTED, UNWELCOME, WEAK, refusal
from edge_opcua.drivers.opcuaclient.settings import AUTO, NONE, POLICIES, Endpoint, OpcUaOptions
from edge_opcua.drivers.opcuaclient.trusting import Credentials, credentials
from edge_opcua.drivers.reasons import Reason
from edge_opcua.drivers.wire import Traffic
from edge_opcua.errors import DeviceError
from edge_opcua.security.chain import InvalidSignature, leaf_of

_PREFIX: Final = "http://opcfoundation.org/UA/SecurityPolicy#"
_CLASSES: Final[dict[str, Any]] = {
    NONE: security_policies.SecurityPolicyNone,
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
_MODES: Final = {
    NONE: ua.MessageSecurityMode.None_,
    "Sign": ua.MessageSecurityMode.Sign,
    "SignAndEncrypt": ua.MessageSecurityMode.SignAndEncrypt,
}
_CHANNEL_S: Final = 3600.0
_RENEW_AT: Final = 0.75
_NONCE_BYTES: Final = 32  # Part 4 §5.6.2
_FILES_S: Final = 12.0  # whoever replaces our certificate may hold it for ten
_MOST_ANSWER_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Access:
    """How a server is reached.

    Args:
        name: Name of the device.
        endpoint: What its URL says.
        options: Its settings.
        pki: Directory of our certificate and of those that are trusted.
        session_s: How long the server shall keep a session over which nobody asks, seconds.
    """

    name: str
    endpoint: Endpoint
    options: OpcUaOptions
    pki: Path
    session_s: float


@dataclass(frozen=True, slots=True)
class Offer:
    """An endpoint of a server.

    Args:
        policy: Name of its security policy.
        mode: ``None``, ``Sign`` or ``SignAndEncrypt``.
        certificate: Certificate of the server, issuers may follow it.
        tokens: How users may show who they are.
    """

    policy: str
    mode: str
    certificate: bytes
    tokens: tuple[Any, ...]

    @property
    def secured(self) -> bool:
        """Whether messages are signed."""
        return self.policy != NONE

    def __str__(self) -> str:
        return self.policy if not self.secured else f"{self.policy} {self.mode}"


class Session:
    """One session over one channel.

    Args:
        access: How the server is reached.
        timeout_s: Deadline of each step, seconds.
        clock: Clock, for the renewal of keys.
        traffic: Where the traffic is counted.
    """

    def __init__(self, access: Access, timeout_s: float, clock: Clock, traffic: Traffic) -> None:
        self._access = access
        self._timeout_s = timeout_s
        self._clock = clock
        self._traffic = traffic
        self._renew_at_ns = 0
        self.channel: Channel | None = None

    async def open(self, known: Offer | None = None) -> Offer:
        """Open channel and session.

        Args:
            known: The endpoint as it was the last time; None: ask the server.

        Returns:
            The endpoint that was used.

        Raises:
            DeviceError: The server does not answer, is not trusted, or does not let us in.
        """
        offer = known
        if offer is None:
            offers = await self.endpoints()
            offer = choose(offers, self._access.options, self._access.endpoint.name)
        held = await self._credentials(offer)
        await self._open_channel(offer, held)
        try:
            nonce = await self._create(offer, held)
            await self._activate(offer, held, nonce)
        except ServiceRefusedError as exc:
            raise DeviceError(self._said(exc.status, held).of(self.where)) from exc
        return offer

    async def endpoints(self) -> list[Offer]:
        """Ask a server what it offers, without security: what it says is checked when a session opens."""
        return offers_of((await self.describe()).Endpoints)

    async def describe(self) -> Any:
        """Return the answer to GetEndpoints."""
        channel = Channel(self._access.endpoint, _CLASSES[NONE](), self._timeout_s, self._traffic)
        try:
            await channel.open(_CHANNEL_S)
            request = ua.GetEndpointsRequest()
            request.Parameters.EndpointUrl = self._access.endpoint.url
            return await channel.call(request, ua.GetEndpointsResponse)
        except ServiceRefusedError as exc:
            raise DeviceError(refusal(exc.status).of(self.where)) from exc
        finally:
            channel.farewell()

    async def _credentials(self, offer: Offer) -> Credentials:
        access = self._access
        files = Worker(f"{access.name}.files")
        try:
            return await files.call(
                lambda: credentials(
                    access.pki, access.endpoint, access.options, offer.certificate, secured=offer.secured
                ),
                timeout_s=_FILES_S,
            )
        except TimeoutError as exc:
            raise DeviceError(UNREADABLE.of(f"{access.pki} (the disk does not answer)")) from exc
        finally:
            files.close()

    async def _open_channel(self, offer: Offer, held: Credentials) -> None:
        policy = _CLASSES[NONE]()
        if held.own is not None:
            policy = _CLASSES[offer.policy](
                held.peer,
                held.own.certificate,
                held.own.private_key,
                _MODES[offer.mode],
                host_cert_chain=list(held.own.chain),
            )
        channel = Channel(self._access.endpoint, policy, self._timeout_s, self._traffic)
        if held.own is not None:
            channel.unwelcome = _unwelcome(held)
        self.channel = channel
        self._keys_are_good_for(await channel.open(_CHANNEL_S))

    def _keys_are_good_for(self, lifetime_s: float) -> None:
        self._renew_at_ns = self._clock.monotonic_ns() + int(1e9 * _RENEW_AT * lifetime_s)

    async def keep_keys(self) -> None:
        """Agree on new keys while the old ones are good."""
        if self.channel is not None and self._clock.monotonic_ns() >= self._renew_at_ns:
            self._keys_are_good_for(await self.channel.renew(_CHANNEL_S))

    async def _create(self, offer: Offer, held: Credentials) -> bytes:
        """Make a session; returns the nonce of the server."""
        request = ua.CreateSessionRequest()
        params = request.Parameters
        params.ClientDescription = self._description(held)
        params.EndpointUrl = self._access.endpoint.url
        params.SessionName = f"edge_opcua {self._access.name}"
        params.ClientNonce = ua.utils.create_nonce(_NONCE_BYTES)
        params.RequestedSessionTimeout = 1000 * self._access.session_s
        params.MaxResponseMessageSize = _MOST_ANSWER_BYTES
        ours = held.own.certificate_der if held.own is not None else None
        params.ClientCertificate = ours
        assert self.channel is not None
        made = (await self.channel.call(request, ua.CreateSessionResponse)).Parameters
        if held.own is not None:
            self._check_server(made, offer, ours + params.ClientNonce)
        self._check_offers(made.ServerEndpoints, offer)
        self.channel.authentication_token = made.AuthenticationToken
        return bytes(made.ServerNonce or b"")

    def _check_server(self, made: Any, offer: Offer, signed: bytes) -> None:
        """Let the server prove that it holds the key of its certificate (Part 4 §5.6.2)."""
        assert self.channel is not None
        impostor: str | None = None
        if leaf_of(made.ServerCertificate or b"") != leaf_of(offer.certificate):
            impostor = "shows another certificate to the session than to the channel"
        elif len(made.ServerNonce or b"") < _NONCE_BYTES:
            impostor = "sends a nonce that is too short"
        else:
            try:
                signature = made.ServerSignature.Signature or b""
                self.channel.policy.asymmetric_cryptography.verify(signed, signature)
            except (InvalidSignature, ValueError):
                impostor = "does not hold the key of its certificate"
        if impostor is not None:
            step = "find out who answers at this address in its place"
            raise DeviceError(Reason(UNTRUSTED.code, impostor, step).of(self.where))

    def _check_offers(self, listed: Sequence[Any], offer: Offer) -> None:
        """Refuse if somebody on the way has hidden a better endpoint from us (Part 4 §5.6.2)."""
        if not listed or not offer.secured:
            return
        best = choose(offers_of(listed), self._access.options, self.where)
        if (best.policy, best.mode) != (offer.policy, offer.mode):
            raise DeviceError(WEAK.of(f"{self.where} offers {best}, but {offer} was what came through; it"))

    async def _activate(self, offer: Offer, held: Credentials, nonce: bytes) -> None:
        assert self.channel is not None
        policy = self.channel.policy
        request = ua.ActivateSessionRequest()
        params = request.Parameters
        if held.own is not None:
            challenge = leaf_of(offer.certificate) + nonce
            params.ClientSignature.Algorithm = policy.AsymmetricSignatureURI
            params.ClientSignature.Signature = policy.asymmetric_cryptography.signature(challenge)
        params.LocaleIds = ["en"]
        params.UserIdentityToken = self._token(offer, held, nonce)
        await self.channel.call(request, ua.ActivateSessionResponse)

    def _token(self, offer: Offer, held: Credentials, nonce: bytes) -> Any:
        user = self._access.options.user
        kind = ua.UserTokenType.UserName if user else ua.UserTokenType.Anonymous
        token = next((token for token in offer.tokens if token.TokenType == kind), None)
        if token is None:
            wanted = "takes no user name here" if user else "lets nobody in without a user"
            step = "choose another endpoint" if user else "set user and password in the options of the device"
            raise DeviceError(Reason(STRANGER.code, wanted, step).of(self.where))
        if not user:
            anonymous = ua.AnonymousIdentityToken()
            anonymous.PolicyId = token.PolicyId
            return anonymous
        named = ua.UserNameIdentityToken()
        named.PolicyId, named.UserName = token.PolicyId, user
        self._lock_password(named, token.SecurityPolicyUri or _PREFIX + offer.policy, offer, held, nonce)
        return named

    def _lock_password(self, token: Any, uri: str, offer: Offer, held: Credentials, nonce: bytes) -> None:
        """Put the password into a token, encrypted for the server (Part 4 §7.41)."""
        method = uri.removeprefix(_PREFIX)
        secret = held.password.encode()
        if method == NONE and offer.mode == "SignAndEncrypt":
            token.Password, token.EncryptionAlgorithm = secret, None
            return
        if method not in POLICIES or held.peer is None:
            raise DeviceError(
                Reason(
                    STRANGER.code,
                    f"wants the password in a way that gives it away ({method})",
                    "choose an endpoint with SignAndEncrypt",
                ).of(self.where)
            )
        packed = ua.ua_binary.Primitives.Bytes.pack(secret + nonce)
        token.Password, token.EncryptionAlgorithm = security_policies.encrypt_asymmetric(
            held.peer.public_key(), packed, uri
        )

    def _description(self, held: Credentials) -> Any:
        description = ua.ApplicationDescription()
        uri = held.own.application_uri if held.own is not None else "urn:edge-opcua:client"
        description.ApplicationUri = uri
        description.ProductUri = "urn:edge-opcua"
        description.ApplicationName = ua.LocalizedText(f"edge_opcua {__version__}")
        description.ApplicationType = ua.ApplicationType.Client
        return description

    def _said(self, status: int, held: Credentials) -> Reason:
        found = refusal(status)
        return _unwelcome(held, found.sentence) if found.code == UNWELCOME.code and held.own else found

    @property
    def where(self) -> str:
        """What messages call the server: ``host:port``."""
        return self._access.endpoint.name

    @property
    def name(self) -> str:
        """Name of the device."""
        return self._access.name

    async def call(self, request: Any, answer: type[Any]) -> Any:
        """Send a service over the session; see :meth:`Channel.call`."""
        if self.channel is None:
            raise DeviceError(f"{self.where} is not connected")
        return await self.channel.call(request, answer)

    def close(self) -> None:
        """Say goodbye without waiting, and drop the connection."""
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.farewell()


def _unwelcome(held: Credentials, sentence: str = UNWELCOME.sentence) -> Reason:
    assert held.own is not None
    file = held.own.root / "own" / "cert.der"
    step = f"trust {held.own.thumbprint} in the server ({file})"
    return Reason(UNWELCOME.code, sentence, step)


def offers_of(described: Iterable[Any]) -> list[Offer]:
    """Return the endpoints that speak binary over TCP, in words."""
    names = {mode: name for name, mode in _MODES.items()}
    return [
        Offer(
            str(each.SecurityPolicyUri or "").removeprefix(_PREFIX),
            names.get(each.SecurityMode, "?"),
            bytes(each.ServerCertificate or b""),
            tuple(each.UserIdentityTokens or ()),
        )
        for each in described
        if str(each.EndpointUrl or "").startswith("opc.tcp://")
    ]


def choose(offers: Sequence[Offer], options: OpcUaOptions, where: str) -> Offer:
    """Return the best endpoint that the settings allow.

    Raises:
        DeviceError: There is none (D370).
    """
    wanted = POLICIES if options.security == AUTO else (options.security,)
    mode = NONE if options.security == NONE else options.security_mode
    for policy in wanted:
        for offer in offers:
            if (offer.policy, offer.mode) == (policy, mode):
                return offer
    there = ", ".join(dict.fromkeys(map(str, offers))) or "nothing"
    asked = f"{mode} with {' or '.join(wanted)}" if mode != NONE else "connections without security"
    plain = '; or write security = "None"' if mode != NONE and "None" in map(str, offers) else ""
    raise DeviceError(Reason(WEAK.code, f"offers {there}, wanted is {asked}", WEAK.step + plain).of(where))

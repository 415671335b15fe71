"""One secure channel over one socket: asyncua's protocol, from which requests go out as prepared bytes.

asyncua's ``Client`` is not used: it starts tasks that outlive a broken link, reads every value into objects,
and sends a password in plain text where the server names no policy for it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any, Final

from asyncua import ua
from asyncua.client.ua_client import UASocketProtocol
from asyncua.common.connection import TransportLimits
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from edge_opcua.drivers.opcuaclient.messages import MALFORMED, ServiceRefusedError
from edge_opcua.drivers.opcuaclient.reasons import NOT_SERVING, UNWELCOME, refusal
from edge_opcua.drivers.opcuaclient.settings import Endpoint
from edge_opcua.drivers.reasons import CLOSED, REFUSED, SILENT, Reason, of_socket
from edge_opcua.drivers.unsent import forget_unsent
from edge_opcua.drivers.wire import Traffic
from edge_opcua.errors import DeviceError, DeviceTimeoutError

_PATIENCE: Final = 4
_MOST_ANSWER_BYTES: Final = 64 * 1024 * 1024
_MOST_CHUNK_BYTES: Final = 1024 * 1024  # 65535 are agreed on; some servers count differently
_MOST_CHUNKS: Final = 4096
_OWN_CHUNK_BYTES: Final = 65_535
_LEAST_CHUNK_BYTES: Final = 8192  # what every server takes (Part 6 §7.1.2.3)
_READ_BYTES: Final = 16 * 1024  # taken from the socket at once: a flood must not hold up the event loop
# What asyncua would log is said once per outage by the poller.
for _noisy in ("asyncua.client", "asyncua.uaprotocol"):
    logging.getLogger(_noisy).setLevel(logging.CRITICAL + 1)


class _Limits(TransportLimits):
    """What we take is ours to say: asyncua takes over the limits that the server has for requests."""

    def update_client_limits(self, msg: Any) -> None:
        """Send chunks of a size that the server takes (Part 6 §7.1.2.4)."""
        self.max_send_buffer = max(_LEAST_CHUNK_BYTES, min(_OWN_CHUNK_BYTES, int(msg.ReceiveBufferSize)))


class Channel(UASocketProtocol):
    """A socket that speaks OPC UA.

    Args:
        endpoint: Where it leads.
        policy: Security policy with both certificates.
        timeout_s: Deadline of connecting, seconds; of each step after that four times as long, since a small
            CPU needs seconds for the keys.
        traffic: Where its traffic is counted.

    Attributes:
        unwelcome: What to say if the server does not take our certificate; None without one.
    """

    def __init__(self, endpoint: Endpoint, policy: Any, timeout_s: float, traffic: Traffic) -> None:
        limits = _Limits(_MOST_CHUNK_BYTES, _OWN_CHUNK_BYTES, _MOST_CHUNKS, _MOST_ANSWER_BYTES)
        super().__init__(_PATIENCE * timeout_s, security_policy=policy, limits=limits)
        self._chunks = 0
        self._endpoint = endpoint
        self._connect_s = timeout_s
        self._timeout_s = _PATIENCE * timeout_s
        self._traffic = traffic
        self._why: Exception | None = None
        self.writing = False  # a write was sent that is not answered
        self.unwelcome: Reason | None = None

    @property
    def policy(self) -> Any:
        """Security policy of the channel, with its keys."""
        return self._connection.security_policy

    # --- what asyncua calls ---------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Take little at once from the socket."""
        transport.max_size = _READ_BYTES
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take what came; a peer that never comes to an end is cut off."""
        self._traffic.size_bytes += len(data)
        super().data_received(data)
        waiting = self.receive_buffer or b""
        if self.transport is None or self.transport.is_closing():
            return  # what follows an error is not read any more
        if int.from_bytes(waiting[4:8], "little") > _MOST_CHUNK_BYTES:
            self._cut_off()

    def _process_received_message(self, msg: Any) -> None:
        """Take a message, or None for a part of one; those may not go on for ever."""
        self._chunks = self._chunks + 1 if msg is None else 0
        if self._chunks > _MOST_CHUNKS:
            self._cut_off()
        else:
            super()._process_received_message(msg)

    def _cut_off(self) -> None:
        """End a connection over which more comes than any answer has; who waits is told, not cancelled."""
        self._fail_all_pending(ua.UaStatusCodeError(ua.StatusCodes.BadTcpMessageTooLarge))
        if self.transport is not None:
            self.transport.abort()

    def _fail_all_pending(self, exc: Exception) -> None:
        """Remember why, since what fails may not be waiting any more."""
        if self._why is None:
            self._why = exc
        super()._fail_all_pending(exc)

    # --- what we call ---------------------------------------------------------------------------------

    async def open(self, lifetime_s: float) -> float:
        """Connect and open the channel; returns how long its keys are good for, seconds.

        Raises:
            DeviceError: The server does not answer, or not as it should.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                await loop.create_connection(lambda: self, self._endpoint.host, self._endpoint.port)
        except OSError as exc:
            found = of_socket(exc)
            reason = NOT_SERVING if found is REFUSED else found
            raise DeviceError(reason.of(self._endpoint.name)) from exc
        await self._step(self.send_hello(self._endpoint.url), timeout_s=self._connect_s)
        return await self.renew(lifetime_s, first=True)

    async def renew(self, lifetime_s: float, *, first: bool = False) -> float:
        """Agree on keys; returns how long they are good for, seconds."""
        params = ua.OpenSecureChannelParameters()
        kinds = ua.SecurityTokenRequestType
        params.RequestType = kinds.Issue if first else kinds.Renew
        policy = self.policy
        params.SecurityMode = policy.Mode
        params.RequestedLifetime = int(1000 * lifetime_s)
        params.ClientNonce = ua.utils.create_nonce(policy.secure_channel_nonce_length)
        result = await self._step(self.open_secure_channel(params), opening=first)
        return float(result.SecurityToken.RevisedLifetime) / 1000

    async def _step(self, step: Any, *, opening: bool = False, timeout_s: float = 0.0) -> Any:
        """Await a step of the handshake."""
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                return await step
        except TimeoutError as exc:
            raise self.silent(timeout_s) from exc
        except (ua.UaError, OSError, AssertionError) as exc:  # AssertionError: a fault in place of a channel
            raise self.failure(exc, opening=opening) from exc

    async def call(self, request: Any, answer: type[Any]) -> Any:
        """Send a service and return its answer.

        Raises:
            DeviceError: No answer, or the channel broke.
            ServiceRefusedError: The server refuses the service.
        """
        self._traffic.requests += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                data = await self._send_request(request, self._timeout_s)
        except TimeoutError as exc:
            raise self.silent() from exc
        except (ua.UaError, OSError) as exc:
            raise self.failure(exc) from exc
        try:
            fault = data.copy()
            kind = ua.ua_binary.nodeid_from_binary(fault)
            if kind.Identifier == ua.ObjectIds.ServiceFault_Encoding_DefaultBinary:
                header = struct_from_binary(ua.ResponseHeader, fault)
                raise ServiceRefusedError(int(header.ServiceResult.value))
            found = struct_from_binary(answer, data)
        except MALFORMED as exc:
            raise DeviceError(f"{self._endpoint.name}: the answer cannot be read ({exc!r})") from exc
        status = int(found.ResponseHeader.ServiceResult.value)
        if status & 0x80000000:
            raise ServiceRefusedError(status)
        return found

    def send(self, kind: bytes, body: bytes, *, waits: bool = False) -> asyncio.Future[Any]:
        """Send a request of which all but the header is bytes already.

        Args:
            kind: Encoded NodeId of its type.
            body: What follows the header.
            waits: Whether the server may take its time, as with Publish.

        Returns:
            What becomes its answer.

        Raises:
            DeviceError: There is no connection any more.
        """
        if self.transport is None or self.transport.is_closing():
            raise self.failure(ConnectionError("connection lost"))
        header = ua.RequestHeader()
        self._setup_request_header(header, 0 if waits else self._timeout_s)
        self.revolve_security_token()
        self._request_id += 1
        message = self._connection.message_to_binary(
            kind + struct_to_binary(header) + body, request_id=self._request_id
        )
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._callbackmap[self._request_id] = future
        self.transport.write(message)
        self._traffic.requests += 1
        self._traffic.size_bytes += len(message)
        return future

    async def answer(self, future: asyncio.Future[Any], timeout_s: float) -> bytes:
        """Wait for the answer to :meth:`send`; the connection stands if there is none in time.

        Raises:
            DeviceTimeoutError: None came.
            DeviceError: The channel broke.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return bytes(await future)
        except TimeoutError as exc:
            # A request has a number of its own: a late answer is no other's.
            raise self.silent(timeout_s, again=True) from exc
        except (ua.UaError, OSError) as exc:
            raise self.failure(exc) from exc

    def silent(self, timeout_s: float = 0.0, *, again: bool = False) -> DeviceTimeoutError:
        """Return the error of an answer that did not come."""
        late = replace(SILENT, sentence=f"did not answer in {timeout_s or self._timeout_s:g} s")
        return DeviceTimeoutError(late.of(self._endpoint.name), again=again)

    def failure(self, exc: BaseException, *, opening: bool = False) -> DeviceError:
        """Return the error of a channel that broke: what the server said before counts."""
        where = self._endpoint.name
        said = next((each for each in (exc, self._why) if isinstance(each, ua.UaStatusCodeError)), None)
        if said is not None:
            reason = refusal(int(said.code))
            if reason.code == UNWELCOME.code and self.unwelcome is not None:
                reason = replace(self.unwelcome, sentence=reason.sentence)
            return DeviceError(reason.of(where))
        if opening and self.unwelcome is not None:
            sentence = "closed the connection when it saw our certificate"
            return DeviceError(replace(self.unwelcome, sentence=sentence).of(where))
        cause = self._why or exc
        if isinstance(cause, OSError) and cause.errno is not None:
            return DeviceError(of_socket(cause).of(where))
        return DeviceError(CLOSED.of(where))

    def farewell(self) -> None:
        """Say goodbye without waiting for an answer, and drop the connection."""
        transport = self.transport
        if transport is not None and self.writing and forget_unsent(transport.get_extra_info("socket")):
            self.abort()
            return
        if self.transport is not None and not self.transport.is_closing():
            try:
                if not self.authentication_token.is_null():
                    session = ua.CloseSessionRequest()
                    session.DeleteSubscriptions = True
                    self._send_request(session, self._timeout_s).cancel()
                self._send_request(
                    ua.CloseSecureChannelRequest(), message_type=ua.MessageType.SecureClose
                ).cancel()
            except (ua.UaError, OSError, AttributeError, ValueError):
                pass  # the channel never opened: there are no keys to say goodbye with
        self.abort()

    def abort(self) -> None:
        """Drop the connection at once, with what was not sent yet."""
        for future in self._callbackmap.values():
            future.cancel()
        self._callbackmap.clear()
        if self.transport is not None:
            self.transport.abort()

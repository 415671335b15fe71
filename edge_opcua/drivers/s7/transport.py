"""The connection to an S7 PLC in a thread of its own: python-snap7's ISO on TCP, several requests at once.

Its ``Client`` is not used: it has no time-out for connecting (5 s are fixed), and takes stale answers for new
ones up to three times. Here an answer belongs to the request whose number it has, or costs the connection.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from snap7.connection import ISOTCPConnection
from snap7.error import S7Error, S7TimeoutError
from snap7.s7protocol import S7Protocol

from edge_opcua.core.worker import Worker
from edge_opcua.drivers import reasons as sockets
from edge_opcua.drivers.s7 import reasons
from edge_opcua.drivers.s7.frames import sequence_of
from edge_opcua.drivers.s7.settings import Endpoint
from edge_opcua.drivers.unsent import forget_unsent
from edge_opcua.drivers.wire import Traffic
from edge_opcua.errors import DeviceError, DeviceTimeoutError

# The thread gets a little longer than the socket, so that the socket's own time-out ends a call.
_GRACE_S: Final = 0.25
# Several requests at once may take longer than one, but a peer that trickles must not take so much longer.
_MOST_PATIENCE: Final = 2
_DISCONNECT: Final = 0x80
_REASON_AT: Final = 6

# What snap7 would log is said once per outage by the poller; its own lines come per request.
logging.getLogger("snap7").setLevel(logging.CRITICAL + 1)


class TransportRefusedError(DeviceError):
    """The PLC took the TCP connection and refused the transport connection.

    Args:
        where: Host and port.
        code: Reason of ISO 8073.
    """

    def __init__(self, where: str, code: int) -> None:
        reason = reasons.of_transport(code)
        super().__init__(replace(reason, sentence=f"{reason.sentence} ({code:#04x})").of(where))


class _Connection(ISOTCPConnection):  # type: ignore[misc]  # the library has no types
    """Says why a connection was refused, and how far it came.

    Attributes:
        reached: Whether the TCP connection was there.
    """

    reached = False

    def _iso_connect(self) -> None:
        self.reached = True
        super()._iso_connect()

    def _parse_cotp_cc(self, data: bytes) -> None:
        if len(data) > _REASON_AT and data[1] == _DISCONNECT:
            raise _RefusalError(data[_REASON_AT])
        super()._parse_cotp_cc(data)


class _RefusalError(S7Error):  # type: ignore[misc]  # the library has no types
    """Carries the reason through the library.

    Args:
        reason: Reason of ISO 8073.
    """

    def __init__(self, reason: int) -> None:
        super().__init__(f"refused ({reason})")
        self.reason = reason


class Transport:
    """One connection to one PLC, not yet open.

    Args:
        name: Name of the device; the thread is called after it.
        endpoint: Where the PLC is.
        timeout_s: Deadline of one answer, seconds.
        traffic: What goes over it is counted there.

    Attributes:
        reached: Whether the host took the TCP connection at the last attempt, whatever came after.
        writing: Whether a write was sent that is not answered.
    """

    def __init__(self, name: str, endpoint: Endpoint, timeout_s: float, traffic: Traffic) -> None:
        self.where = f"{endpoint.host}:{endpoint.port}"
        self.reached = False
        self.writing = False
        self.traffic = traffic
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._worker = Worker(f"{name}.s7")
        self._connection: Any = None
        self._protocol: Any = S7Protocol()

    @property
    def requests(self) -> Any:
        """The library's builder of requests; each call gives the next number."""
        if self._connection is None:
            raise DeviceError(f"{self.where} is not connected")
        return self._protocol

    def next_sequence(self) -> int:
        """Return the number of the next request that is not made by :attr:`requests`."""
        protocol = self.requests
        protocol.sequence = protocol.sequence % 0xFFFF + 1
        return int(protocol.sequence)

    async def open(self) -> None:
        """Connect; DeviceError if that fails or takes too long."""
        await self.close()
        there = self._endpoint
        connection = _Connection(there.host, there.port, there.local_tsap, there.remote_tsap)
        self._connection = connection
        self._protocol = S7Protocol()
        self.writing = False

        def connect() -> None:
            try:
                connection.connect(self._timeout_s)
            except S7Error as exc:
                refused = exc if isinstance(exc, _RefusalError) else exc.__context__
                if isinstance(refused, _RefusalError | OSError):
                    raise refused from None
                raise

        try:
            await self._call(connect, timeout_s=2 * self._timeout_s)
        except DeviceError:
            await self.close()
            raise
        finally:
            self.reached = connection.reached

    async def close(self) -> None:
        """Drop the connection; a call that still waits for an answer ends at once."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        peer = connection.socket
        if peer is not None:
            if self.writing:
                forget_unsent(peer)
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it was never connected, or the other side was faster
            finally:
                peer.close()
        self._worker.close()

    async def ask(self, request: bytes) -> bytes:
        """Send one PDU and return the answer to it."""
        (answer,) = await self.ask_all((request,))
        return answer

    async def tell(self, request: bytes) -> bytes:
        """Send one PDU that writes and return the answer to it."""
        self.writing = True
        answer = await self.ask(request)
        self.writing = False
        return answer

    async def ask_all(self, requests: Sequence[bytes], deadline_s: float | None = None) -> list[bytes]:
        """Send some PDUs at once and return the answers, in the order of the requests.

        Args:
            requests: At most as many as the PLC takes at once.
            deadline_s: Longest wait for one answer, if shorter than the connection's own.
        """
        connection = self._connection
        if connection is None:
            raise DeviceError(f"{self.where} is not connected")
        patience_s = min(self._timeout_s, deadline_s or self._timeout_s)
        numbers = [sequence_of(request) for request in requests]

        def exchange() -> dict[int, bytes]:
            connection.socket.settimeout(patience_s)
            for request in requests:
                connection.send_data(request)
            answers: dict[int, bytes] = {}
            while len(answers) < len(numbers):
                answer: bytes = connection.receive_data()
                number = sequence_of(answer)
                if number not in numbers or number in answers:
                    raise DeviceError(f"{self.where} answered request {number}, asked were {numbers}")
                answers[number] = answer
            return answers

        self.traffic.requests += len(requests)
        try:
            answers = await self._call(exchange, timeout_s=patience_s * min(len(requests), _MOST_PATIENCE))
        except DeviceError:
            self.traffic.errors += 1
            raise
        self.traffic.size_bytes += sum(map(len, requests)) + sum(map(len, answers.values()))
        return [answers[number] for number in numbers]

    async def _call(self, fn: Callable[[], Any], *, timeout_s: float) -> Any:
        """Run a blocking call of snap7; whatever goes wrong there costs the connection."""
        try:
            return await self._worker.call(fn, timeout_s=timeout_s + _GRACE_S)
        except (TimeoutError, S7TimeoutError) as exc:
            raise DeviceTimeoutError(self._silent) from exc
        except _RefusalError as exc:
            raise TransportRefusedError(self.where, exc.reason) from exc
        except OSError as exc:
            raise DeviceError(sockets.of_socket(exc).of(self.where)) from exc
        except S7Error as exc:
            if "timed out" in str(exc):
                raise DeviceTimeoutError(self._silent) from exc
            raise DeviceError(self._lost(str(exc))) from exc

    def _lost(self, text: str) -> str:
        """Return the message of the library, with a code."""
        known = sockets.CLOSED if "closed by peer" in text or "reset" in text else sockets.GARBLED
        return replace(known, sentence=f"{known.sentence} ({text})").of(self.where)

    @property
    def _silent(self) -> str:
        sentence = f"did not answer in {self._timeout_s:g} s"
        return replace(sockets.SILENT, sentence=sentence).of(self.where)

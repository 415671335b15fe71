"""A connection whose every wait ends at one moment, or when another thread says so."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
from collections.abc import Sequence
from typing import Final

from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.remote.addresses import Address
from edge_opcua.inference.backends.remote.patience import Stop, Until
from edge_opcua.inference.backends.remote.reasons import of_socket, silent, unreachable

_READABLE: Final = select.POLLIN
_WRITABLE: Final = select.POLLOUT
_AGAIN: Final = (BlockingIOError, InterruptedError)


class Stream:
    """One connection, open; belongs to one thread at a time.

    Args:
        sock: Connected, not blocking; over TLS after the handshake.
        where: What messages call the server.

    Attributes:
        used: Whether anything was ever asked over it.
        heard: Whether a byte of the present answer has arrived.
    """

    def __init__(self, sock: socket.socket, where: str) -> None:
        self.used = False
        self.heard = False
        self._sock = sock
        self._where = where

    @property
    def idle(self) -> bool:
        """Whether nothing has arrived that nobody asked for: bytes, or the end of the connection."""
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return False
        poll = select.poll()
        poll.register(self._sock, _READABLE)
        return not poll.poll(0)

    def send(self, message: bytes, until: Until, stop: Stop) -> None:
        """Send a whole message; ModelError M570, M571 or M535 if that cannot be done."""
        self.used, self.heard = True, False
        view = memoryview(message)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except (*_AGAIN, ssl.SSLWantWriteError):
                _wait(self._sock, _WRITABLE, until, stop, self._where)
            except ssl.SSLWantReadError:
                _wait(self._sock, _READABLE, until, stop, self._where)
            except OSError as exc:
                raise _lost(self._where, exc) from exc

    def receive(self, into: memoryview, until: Until, stop: Stop) -> int:
        """Receive some bytes, at least one; 0 at the end of the connection."""
        while True:
            try:
                count = self._sock.recv_into(into)
            except (*_AGAIN, ssl.SSLWantReadError):
                _wait(self._sock, _READABLE, until, stop, self._where)
            except ssl.SSLWantWriteError:
                _wait(self._sock, _WRITABLE, until, stop, self._where)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0
            except OSError as exc:
                raise _lost(self._where, exc) from exc
            else:
                self.heard = self.heard or count > 0
                return count

    def close(self) -> None:
        """Close the connection; waits for nothing."""
        with contextlib.suppress(OSError):
            self._sock.close()


def connect(
    addresses: Sequence[Address],
    where: str,
    tls: tuple[ssl.SSLContext, str] | None,
    until: Until,
    stop: Stop,
) -> Stream:
    """Connect to the first address that answers, each given an equal share of the time that is left.

    Args:
        addresses: Where the server may be.
        where: What messages call it.
        tls: How to encrypt, and the name its certificate must show; None for none.
        until: When waiting ends.
        stop: Ends it before.

    Raises:
        ModelError: There is no connection (M570, M571, M574), or the run was cancelled (M535).
    """
    last: ModelError | None = None
    for number, (family, address) in enumerate(addresses):
        try:
            sock = _connected(family, address, where, until.share(len(addresses) - number), stop)
        except ModelError as exc:
            stop.check()
            last = exc
            continue
        if tls is None:
            return Stream(sock, where)
        return Stream(_encrypted(sock, where, tls, until, stop), where)
    raise last or unreachable(where, "it has no address")


def _connected(family: int, address: object, where: str, until: Until, stop: Stop) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as exc:
        raise of_socket(where, exc) from exc
    try:
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        refused = sock.connect_ex(address)  # type: ignore[arg-type]  # what getaddrinfo returned
        if refused == errno.EINPROGRESS:
            _wait(sock, _WRITABLE, until, stop, where)
            refused = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if refused:
            raise unreachable(where, os.strerror(refused))
    except OSError as exc:
        sock.close()
        raise of_socket(where, exc) from exc
    except ModelError:
        sock.close()
        raise
    return sock


def _encrypted(
    sock: socket.socket, where: str, tls: tuple[ssl.SSLContext, str], until: Until, stop: Stop
) -> ssl.SSLSocket:
    context, name = tls
    secure: ssl.SSLSocket | None = None
    try:
        secure = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
        while True:
            try:
                secure.do_handshake()
            except ssl.SSLWantReadError:
                _wait(secure, _READABLE, until, stop, where)
            except ssl.SSLWantWriteError:
                _wait(secure, _WRITABLE, until, stop, where)
            else:
                return secure
    except (OSError, ValueError) as exc:  # ValueError: a server_name that is no name
        (secure or sock).close()
        known = exc if isinstance(exc, OSError) else OSError(errno.EINVAL, str(exc))
        raise of_socket(where, known) from exc
    except ModelError:
        (secure or sock).close()
        raise


def _wait(sock: socket.socket, wanted: int, until: Until, stop: Stop, where: str) -> None:
    """Wait until a socket can be read or written; M571 when the time is over, M535 when cancelled."""
    poll = select.poll()
    poll.register(sock, wanted)
    poll.register(stop.fd, _READABLE)
    left_s = until.left_s()
    ready = poll.poll(left_s * 1e3) if left_s else []
    stop.check()
    if not ready:
        raise silent(where, until.patience_ms)


def _lost(where: str, exc: OSError) -> ModelError:
    return (
        of_socket(where, exc)
        if isinstance(exc, ssl.SSLError)
        else unreachable(where, f"lost: {exc.strerror}")
    )

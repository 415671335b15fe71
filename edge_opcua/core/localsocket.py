"""Local sockets in the file system: mode 0600, at any depth, and never two servers on one."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge_opcua.errors import ControlError

_BACKLOG: Final = 32
_CREDENTIALS: Final = struct.Struct("=3i")  # pid, uid, gid (unix(7), SO_PEERCRED)


def peer_uid(sock: socket.socket) -> int:
    """Return the user id of the process at the other end, as the kernel knows it."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return uid


@contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """Yield a name of ``path`` that fits the 107 bytes of a socket address, however deep it lies."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


def listen_unix(path: Path) -> socket.socket:
    """Return a listening socket of mode 0600; nobody can connect before the mode is set.

    Raises:
        ControlError: Another server answers there, or the place cannot be used.
    """
    try:
        connect_unix(path).close()
    except ControlError:
        pass
    else:
        raise ControlError(f"another server answers at {path}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        with _short_name(path) as name:
            listener.bind(name)
        path.chmod(0o600)
        listener.listen(_BACKLOG)
        listener.settimeout(0)
    except OSError as exc:
        listener.close()
        raise ControlError(f"{path} cannot be made: {exc.strerror}") from exc
    return listener


def connect_unix(path: Path) -> socket.socket:
    """Return a non-blocking socket connected to the server that listens at ``path``; this never waits.

    Raises:
        ControlError: No server answers there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(0)
    try:
        with _short_name(path) as name:
            sock.connect(name)
    except OSError as exc:
        sock.close()
        raise ControlError(f"{path}: {exc.strerror}") from exc
    return sock

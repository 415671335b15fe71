"""What our own kernel still has to deliver when a connection is dropped: a write must not be among it.

A closed socket goes on: what the other side has not acknowledged is repeated for a minute and more, so that a
write that was given up while the cable was out would land when it is back.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import Final, Protocol

_ABORT: Final = struct.pack("ii", 1, 0)  # SO_LINGER, 0 s: close by a reset, and deliver nothing more


class Socket(Protocol):
    """A TCP socket, or what asyncio shows of one."""

    def fileno(self) -> int:
        """Return its number."""
        ...

    def setsockopt(self, level: int, optname: int, value: bytes, /) -> None:
        """Set an option."""
        ...


def forget_unsent(connection: Socket | None) -> bool:
    """Let the kernel throw away, when it is closed, what a connection has not got across.

    If everything was acknowledged the connection closes as ever: then the device has it, and a farewell frees
    its resources sooner.

    Args:
        connection: An open socket; None: there is none any more.

    Returns:
        Whether there was anything to throw away.
    """
    if connection is None:
        return False
    try:
        waiting: int = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        if waiting:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    except (OSError, ValueError):  # it was closed already
        return False
    return waiting > 0

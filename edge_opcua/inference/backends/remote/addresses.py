"""The addresses of a server's name, looked up beside the runs: asking DNS cannot be given a deadline."""

from __future__ import annotations

import socket
import threading
from typing import Any, TypeAlias

from edge_opcua.inference.backends.remote.patience import Until
from edge_opcua.inference.backends.remote.reasons import of_socket, silent

Address: TypeAlias = tuple[int, Any]
"""Family, and what ``connect`` takes."""


class Addresses:
    """Where a server is, as far as is known.

    Args:
        host: Name or address.
        port: TCP port.
        where: What messages call the server.
    """

    def __init__(self, host: str, port: int, where: str) -> None:
        self._host, self._port, self._where = host, port, where
        self._known: tuple[Address, ...] = ()
        self._failure: OSError | None = None
        self._asking: threading.Thread | None = None

    def known(self, until: Until) -> tuple[Address, ...]:
        """Return the addresses; waits for the first answer only.

        Raises:
            ModelError: Nobody knows the name (M570), or that could not be found out in time (M571).
        """
        if not self._known:
            self.refresh()
            asking = self._asking
            if asking is not None:
                asking.join(until.left_s())
        if self._known:
            return self._known
        if self._failure is not None:
            raise of_socket(self._where, self._failure) from self._failure
        raise silent(f"the name service, asked for {self._where},", until.patience_ms)

    def refresh(self) -> None:
        """Look the name up again in a thread of its own, unless one does it now; waits for nothing."""
        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=self._ask, name="remote.addresses", daemon=True)
            self._asking.start()

    def _ask(self) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as exc:
            self._failure = exc
        else:
            self._known = tuple((int(family), address) for family, _, _, _, address in found)

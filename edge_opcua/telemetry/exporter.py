"""Serves the metrics over HTTP, to few readers at a time and to nobody for long."""

from __future__ import annotations

import socket
import threading
from http.server import ThreadingHTTPServer
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.registry import Collector

from edge_opcua.errors import ConfigError

MOST_READERS: Final = 8
PATIENCE_S: Final = 5.0
"""How long a reader may take to ask, and to take what it asked for."""

_log = structlog.get_logger(__name__)


class _Handler(MetricsHandler):
    """Answers one reader."""

    timeout = PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Log a request where all of ours is logged."""
        _log.debug("metrics.asked", client=self.client_address[0], request=format % args)


class _Server(ThreadingHTTPServer):
    """Takes so many readers at a time; who comes then is not answered and tries again."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, family: socket.AddressFamily, address: Any, handler: type[MetricsHandler]) -> None:
        self.address_family = family
        self._room = threading.BoundedSemaphore(MOST_READERS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a reader a thread, if there is room."""
        if not self._room.acquire(blocking=False):
            _log.warning("metrics.too_many_readers", client=client_address[0], most=MOST_READERS)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer in the thread, and make room again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the library's name
        """Say that a reader did not come to an end; it is its own fault, or it has gone."""
        _log.info("metrics.reader_lost", client=client_address[0], exc_info=True)


class Exporter:
    """Serves a registry on one address.

    Args:
        registry: What is read.
        host: Address to listen on.
        port: Port; 0 takes a free one.

    Raises:
        ConfigError: Nobody can listen there (H633).
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        handler = _Handler.factory(registry)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self._server = _Server(found[0], found[4], handler)
        except OSError as exc:
            raise ConfigError(
                f"metrics cannot be served on {host}:{port}: {exc.strerror}", code="H633"
            ) from exc
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        host, port = self._server.server_address[:2]
        host = host.decode() if isinstance(host, bytes) else str(host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def close(self) -> None:
        """Serve nobody any more."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def registry_of(collector: Collector) -> CollectorRegistry:
    """Return a registry that holds one collector and nothing of this process's own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry

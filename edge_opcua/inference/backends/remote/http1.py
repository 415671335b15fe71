"""HTTP/1.1 as far as a client of a model server needs it: one question, one answer, connections kept open.

Nothing of an answer is believed: lengths are bounded before anything is read, and whatever is not HTTP ends
the connection. Redirections, compression and proxies of the environment are not followed.
"""

from __future__ import annotations

import re
import ssl
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.remote.addresses import Addresses
from edge_opcua.inference.backends.remote.patience import Stop, Until
from edge_opcua.inference.backends.remote.reasons import UNREACHABLE, garbled, unreachable
from edge_opcua.inference.backends.remote.stream import Stream, connect

MOST_KEPT: Final = 8
_MOST_HEAD: Final = 32 * 1024
_MOST_LINE: Final = 1024
_PIECE: Final = 64 * 1024
_END: Final = b"\r\n\r\n"
_HTTP: Final = b"HTTP/"
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_DIGITS: Final = re.compile(r"[0-9]{1,12}")
_INTERIM, _NO_CONTENT, _NOT_MODIFIED = 100, 204, 304
_MOST_INTERIM: Final = 4


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.

    Args:
        status: Status code.
        fields: Header fields by name in lower case; the last one of a name.
        body: Body, whole.
    """

    status: int
    fields: Mapping[str, str]
    body: memoryview

    @property
    def good(self) -> bool:
        """Whether the server did what it was asked."""
        return self.status == 200

    @property
    def text(self) -> str:
        """The body as text, for messages."""
        return bytes(self.body[:4096]).decode("utf-8", "replace")


class HttpClient:
    """Asks one server; any thread may, each with a connection of its own.

    Args:
        addresses: Where the server is.
        where: What messages call it.
        tls: How to encrypt, and the name its certificate must show; None for none.
    """

    def __init__(self, addresses: Addresses, where: str, tls: tuple[ssl.SSLContext, str] | None) -> None:
        self._addresses = addresses
        self._where = where
        self._tls = tls
        self._kept: list[Stream] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._kept)

    def ask(self, request: bytes, most: int, until: Until, stop: Stop) -> Response:
        """Send a request and return its answer.

        A server may close a connection that was idle at the very moment it is used: then, and only if not
        one byte of the answer came, the request goes out once more. An inference changes nothing there.

        Args:
            request: The whole request.
            most: Longest body that is read, bytes.
            until: When waiting ends.
            stop: Ends it before.

        Raises:
            ModelError: No connection (M570, M574), no answer in time (M571), no HTTP (M576), or cancelled
                (M535).
        """
        while True:
            stream = self._take() or self._connect(until, stop)
            again = stream.used
            keep = False
            try:
                stream.send(request, until, stop)
                response, keep = _Reader(stream, self._where, most, until, stop).response()
            except ModelError as exc:
                if again and not stream.heard and exc.code == UNREACHABLE:
                    continue
                raise
            finally:
                self._put_back(stream, keep=keep)
            return response

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            _close_all(self._kept)

    def _connect(self, until: Until, stop: Stop) -> Stream:
        try:
            return connect(self._addresses.known(until), self._where, self._tls, until, stop)
        except ModelError:
            self._addresses.refresh()  # for the next time: it may have moved
            raise

    def _take(self) -> Stream | None:
        """Return a connection that is still open and on which nothing unasked has arrived."""
        while True:
            with self._lock:
                stream = self._kept.pop() if self._kept else None
            if stream is None or stream.idle:
                return stream
            stream.close()

    def _put_back(self, stream: Stream, *, keep: bool) -> None:
        with self._lock:
            if keep and len(self._kept) < MOST_KEPT:
                self._kept.append(stream)
                return
        stream.close()


def _close_all(streams: list[Stream]) -> None:
    while streams:
        streams.pop().close()


class _Reader:
    """Reads one answer."""

    def __init__(self, stream: Stream, where: str, most: int, until: Until, stop: Stop) -> None:
        self._stream, self._where, self._most = stream, where, most
        self._until, self._stop = until, stop
        self._held = bytearray()

    def response(self) -> tuple[Response, bool]:
        """Return the answer, and whether the connection can be used again."""
        for _ in range(_MOST_INTERIM):
            newer, status, fields = self._head()
            if status >= 2 * _INTERIM:
                break
        else:
            raise garbled(self._where, "it goes on saying that it will answer")
        if fields.get("content-encoding", "identity") != "identity":
            raise garbled(self._where, "a compressed body, which was not asked for")
        body, whole = self._body(status, fields)
        options = {option.strip().lower() for option in fields.get("connection", "").split(",")}
        keep = whole and not self._held and "close" not in options and (newer or "keep-alive" in options)
        return Response(status, fields, body), keep

    def _head(self) -> tuple[bool, int, dict[str, str]]:
        while (end := self._held.find(_END)) < 0:
            if len(self._held) > _MOST_HEAD:
                raise garbled(self._where, f"a head of more than {_MOST_HEAD} bytes")
            self._more()
            if not (_HTTP.startswith(self._held) or self._held.startswith(_HTTP)):
                raise garbled(self._where, "no HTTP")
        lines = bytes(self._held[:end]).split(b"\r\n")
        del self._held[: end + len(_END)]
        first = _STATUS.fullmatch(lines[0])
        if first is None:
            raise garbled(self._where, "no HTTP")
        fields: dict[str, str] = {}
        for line in lines[1:]:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise garbled(self._where, "a header that is none")
            name, value = field[1].decode("ascii").lower(), field[2].decode("latin-1")
            if name == "content-length" and fields.get(name, value) != value:
                raise garbled(self._where, "two lengths of one body")
            fields[name] = value
        return first[1] == b"1", int(first[2]), fields

    def _body(self, status: int, fields: Mapping[str, str]) -> tuple[memoryview, bool]:
        """Return the body, and whether its end was told rather than being the end of the connection."""
        coding, length = fields.get("transfer-encoding"), fields.get("content-length")
        if coding is not None:
            if coding.strip().lower() != "chunked" or length is not None:
                raise garbled(self._where, "a body whose length is told in two ways or in none")
            return memoryview(self._chunks()), True
        if status in (_NO_CONTENT, _NOT_MODIFIED):
            return memoryview(b""), True
        if length is None:
            return memoryview(self._rest()), False
        if not _DIGITS.fullmatch(length):
            raise garbled(self._where, "a length that is no number")
        self._allow(int(length))
        return self._exactly(int(length)), True

    def _allow(self, size: int) -> None:
        if size > self._most:
            raise garbled(self._where, f"a body of {size} bytes where at most {self._most} are expected")

    def _exactly(self, size: int) -> memoryview:
        """Return so many bytes, read straight to where they stay."""
        body = bytearray(size)
        have = min(size, len(self._held))
        body[:have] = self._held[:have]
        del self._held[:have]
        view = memoryview(body)
        while have < size:
            count = self._stream.receive(view[have:], self._until, self._stop)
            if not count:
                raise self._ended()
            have += count
        return view

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            size = _SIZE.fullmatch(self._line())
            if size is None:
                raise garbled(self._where, "a chunk without a length")
            count = int(size[1], 16)
            self._allow(len(body) + count)
            if not count:
                break
            body += self._exactly(count)
            if self._line():
                raise garbled(self._where, "a chunk longer than it says")
        for _ in range(100):
            if not self._line():  # the trailer, of no use to us
                return bytes(body)
        raise garbled(self._where, "a trailer without an end")

    def _line(self) -> bytes:
        while (end := self._held.find(b"\r\n")) < 0:
            if len(self._held) > _MOST_LINE:
                raise garbled(self._where, "a line without an end")
            self._more()
        line = bytes(self._held[:end])
        del self._held[: end + 2]
        return line

    def _rest(self) -> bytes:
        while True:
            self._allow(len(self._held))
            try:
                self._more()
            except _EndError:
                body, self._held = bytes(self._held), bytearray()
                return body

    def _more(self) -> None:
        piece = bytearray(_PIECE)
        count = self._stream.receive(memoryview(piece), self._until, self._stop)
        if not count:
            raise self._ended()
        self._held += piece[:count]

    def _ended(self) -> ModelError:
        return _EndError(str(unreachable(self._where, "it closed the connection")), code=UNREACHABLE)


class _EndError(ModelError):
    """The server has closed the connection."""

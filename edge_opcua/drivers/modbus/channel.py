"""The bytes of a line: a TCP or TLS connection, or a serial port; knows nothing of frames."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import termios
from collections.abc import Callable
from typing import Final, Protocol

import serial
import serial.rs485

from edge_opcua.core.worker import Worker
from edge_opcua.drivers.modbus.endpoint import LineSettings, Rs485, SerialSettings, TlsFiles
from edge_opcua.drivers.modbus.tls import tls_context
from edge_opcua.drivers.reasons import CLOSED, UNFIT, UNPLUGGED, Reason, of_serial, of_socket
from edge_opcua.drivers.unsent import forget_unsent
from edge_opcua.errors import DeviceError, DeviceTimeoutError

_CHUNK: Final = 4096
_FILES_S: Final = 5.0  # reading three small files, or setting up a port, when the disk is busy


class Receiver(Protocol):
    """Who uses a channel."""

    def received(self, chunk: bytes) -> None:
        """Take bytes that came."""
        ...

    def lost(self, reason: Reason) -> None:
        """Learn that nothing will come any more; never called after :meth:`Channel.close`."""
        ...


class Channel(Protocol):
    """An open connection or port."""

    def send(self, frame: bytes) -> None:
        """Send one frame; OSError if a serial port does not take it."""
        ...

    def hurry(self) -> None:
        """Acknowledge at once what comes next, because more is expected behind it.

        Many small devices hold an answer back until the one before is acknowledged (RFC 896), which a
        receiver that has nothing to send puts off for up to 40 ms (RFC 1122 §4.2.3.2).
        """
        ...

    def close(self, *, forget: bool = False) -> None:
        """Drop it at once; unsent bytes to a frozen peer are not waited for.

        Args:
            forget: Whether what has not got across must not be delivered any more.
        """
        ...


async def open_tcp(settings: LineSettings, receiver: Receiver) -> Channel:
    """Connect; the caller sets the deadline.

    Raises:
        DeviceTimeoutError: The kernel gave up.
        DeviceError: Nobody is there, or TLS found no agreement.
    """
    context, name = None, None
    if settings.tls is not None:
        context, name = await _context(settings.tls), settings.tls.server_name
    loop = asyncio.get_running_loop()
    try:
        _, channel = await loop.create_connection(
            lambda: _TcpChannel(receiver),
            settings.host,
            settings.port,
            ssl=context,
            server_hostname=name,
        )
    except TimeoutError as exc:
        raise DeviceTimeoutError(of_socket(exc).of(settings.name)) from exc
    except OSError as exc:
        raise DeviceError(of_socket(exc).of(settings.name)) from exc
    return channel


async def _context(files: TlsFiles) -> ssl.SSLContext:
    worker = Worker("modbus.tls")
    try:
        return await worker.call(tls_context, files, timeout_s=_FILES_S)
    finally:
        worker.close()


class _TcpChannel(asyncio.Protocol):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._open = True
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._socket = transport.get_extra_info("socket")

    def data_received(self, data: bytes) -> None:
        if self._open:
            self._receiver.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open:
            self._open = False
            self._receiver.lost(of_socket(exc) if isinstance(exc, OSError) else CLOSED)

    def send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def hurry(self) -> None:
        if self._open and self._socket is not None:
            with contextlib.suppress(OSError):  # connection_lost is on its way
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def close(self, *, forget: bool = False) -> None:
        self._open = False
        if self._transport is not None:
            if forget:
                forget_unsent(self._socket)
            self._transport.abort()


async def open_serial(
    path: str, settings: SerialSettings, rs485: Rs485 | None, receiver: Receiver
) -> Channel:
    """Open a port for us alone and set it up; the caller sets the deadline.

    Raises:
        DeviceError: It is not there, not ours, in use, or cannot do what is asked of it.
    """
    worker = Worker("modbus.serial")  # some adapters take their time to be opened
    opening = _Opening(path, settings, rs485)
    try:
        port = await worker.call(opening.open, timeout_s=_FILES_S)
    except OSError as exc:  # SerialException is one
        raise DeviceError(of_serial(exc).of(path)) from exc
    except (ValueError, termios.error) as exc:
        raise DeviceError(UNFIT.of(f"{path} ({exc})")) from exc
    except asyncio.CancelledError:
        opening.unwanted = True
        raise
    finally:
        worker.close()
    return _SerialChannel(port, receiver)


class _Opening:
    """A port on its way to being open, which nobody may want any more when it is."""

    def __init__(self, path: str, settings: SerialSettings, rs485: Rs485 | None) -> None:
        self.unwanted = False
        self._path = path
        self._settings = settings
        self._rs485 = rs485

    def open(self) -> serial.Serial:
        port = serial.Serial(
            self._path,
            self._settings.baud,
            parity=self._settings.parity,
            stopbits=self._settings.stop,
            timeout=0,
            exclusive=True,
        )
        with contextlib.suppress(OSError, ValueError):  # an FTDI chip would keep each answer for 16 ms
            port.set_low_latency_mode(low_latency_settings=True)
        try:
            if self._rs485 is not None:
                port.rs485_mode = serial.rs485.RS485Settings(
                    rts_level_for_tx=self._rs485.rts_on_send,
                    rts_level_for_rx=not self._rs485.rts_on_send,
                    delay_before_tx=self._rs485.before_s,
                    delay_before_rx=self._rs485.after_s,
                )
        except BaseException:
            port.close()
            raise
        if self.unwanted:
            port.close()
        return port


class _SerialChannel:
    def __init__(self, port: serial.Serial, receiver: Receiver) -> None:
        self._port = port
        self._fd: int = port.fileno()
        self._receiver: Receiver | None = receiver
        self._forget: Callable[[int], bool] = asyncio.get_running_loop().remove_reader
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        try:
            chunk = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as exc:
            chunk, reason = b"", of_serial(exc)
        else:
            reason = UNPLUGGED
        if chunk:
            receiver.received(chunk)
        else:
            self.close()
            receiver.lost(reason)

    def send(self, frame: bytes) -> None:
        try:
            self._port.reset_input_buffer()  # whatever came unasked cannot be the answer
        except termios.error as exc:
            raise OSError(*exc.args) from exc
        if os.write(self._fd, frame) != len(frame):
            raise BlockingIOError("the port takes no more bytes")

    def hurry(self) -> None:
        """Nothing is acknowledged on a serial line."""

    def close(self, *, forget: bool = False) -> None:  # noqa: ARG002 - a port forgets in any case
        if self._receiver is None:
            return
        self._receiver = None
        self._forget(self._fd)
        with contextlib.suppress(OSError, termios.error):  # an adapter that is gone cannot be cleared
            self._port.reset_output_buffer()  # the kernel would wait half a minute for a stopped line
        with contextlib.suppress(OSError):
            self._port.close()

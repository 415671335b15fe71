"""Modbus/TCP Security: TLS 1.2 or newer in which both sides show a certificate (MB-TCP-Security v36)."""

from __future__ import annotations

import ssl
import stat

from edge_opcua.drivers.modbus.endpoint import TlsFiles
from edge_opcua.drivers.reasons import UNREADABLE, of_tls
from edge_opcua.errors import DeviceError


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Return how to connect; reads files.

    Raises:
        DeviceError: A file is missing, is not what it should be, or the key is readable by others.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    file = files.key
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            raise DeviceError(UNREADABLE.of(f"{file}, readable by others ({mode:04o}),"))
        file = files.certificate
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
        file = files.ca
        context.load_verify_locations(files.ca)
    except ssl.SSLError as exc:
        raise DeviceError(UNREADABLE.of(f"{file} ({exc.reason or of_tls(exc).sentence})")) from exc
    except OSError as exc:
        raise DeviceError(UNREADABLE.of(f"{file} ({exc.strerror})")) from exc
    return context


def _no_password() -> str:
    """Answer what would otherwise be asked at a terminal nobody sits at; an encrypted key is refused."""
    return ""

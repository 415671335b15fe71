"""Secrets and certificates of a server, read from files that only we may read."""

from __future__ import annotations

import base64
import ssl
import stat
from pathlib import Path

from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.remote.reasons import UNREADABLE
from edge_opcua.inference.backends.remote.settings import RemoteOptions


def authorization(options: RemoteOptions) -> str:
    """Return the value of the header ``Authorization``, empty if the server wants none.

    Raises:
        ModelError: A file cannot be used (M578).
    """
    if options.token is not None:
        return f"Bearer {_secret(options.token.file)}"
    if options.password is not None:
        pair = f"{options.user}:{_secret(options.password.file)}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
    return ""


def tls_context(options: RemoteOptions) -> ssl.SSLContext:
    """Return how to connect by TLS; reads files.

    Raises:
        ModelError: A file cannot be used (M578).
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    file = options.ca
    try:
        if options.ca is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_verify_locations(options.ca)
        if options.certificate is not None and options.key is not None:
            private(options.key)
            file = options.certificate
            context.load_cert_chain(options.certificate, options.key, password=_no_password)
    except ssl.SSLError as exc:
        raise _unusable(file, exc.reason or "not in PEM") from exc
    except OSError as exc:
        raise _unusable(file, exc.strerror or "it cannot be read") from exc
    context.set_alpn_protocols(["http/1.1"])
    return context


def content(file: Path | None) -> bytes | None:
    """Return what stands in a file, None for none; ModelError M578 if it cannot be read."""
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as exc:
        raise _unusable(file, exc.strerror or "it cannot be read") from exc


def private(file: Path) -> None:
    """Refuse a secret that others can read (M578)."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as exc:
        raise _unusable(file, exc.strerror or "it cannot be read") from exc
    if mode & 0o077:
        raise _unusable(file, f"others may read it ({mode:04o}); chmod 600")


def _secret(file: Path) -> str:
    private(file)
    try:
        text = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise _unusable(file, "not UTF-8" if isinstance(exc, ValueError) else str(exc.strerror)) from exc
    if not text or not text.isprintable():
        raise _unusable(file, "it is empty, or more than one line")
    return text


def _unusable(file: Path | None, why: str) -> ModelError:
    return ModelError(f"{file} cannot be used: {why}", code=UNREADABLE)


def _no_password() -> str:
    """Answer what would otherwise be asked at a terminal nobody sits at; an encrypted key is refused."""
    return ""

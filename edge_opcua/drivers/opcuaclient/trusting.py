"""Who we are to a server, whom we take it for, and what we know it by; all of it reads files and blocks."""

from __future__ import annotations

import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_opcua.core.statedir import state_option
from edge_opcua.drivers.opcuaclient.reasons import UNREADABLE, UNTRUSTED
from edge_opcua.drivers.opcuaclient.settings import Endpoint, OpcUaOptions
from edge_opcua.drivers.reasons import Reason
from edge_opcua.errors import ConfigError, DeviceError
from edge_opcua.security.chain import UNREADABLE as NO_CERTIFICATE
from edge_opcua.security.chain import der_of, leaf_of, load
from edge_opcua.security.pki import Pki, make_private, own_certificate, read_own, thumbprint
from edge_opcua.security.trust import TrustList

OWN_WAIT_S: Final = 5.0
_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a connection is opened with.

    Args:
        own: Our key and certificate; None without security.
        peer: The server's certificate, if it has shown one and it is needed.
        password: Password of the user.
    """

    own: Pki | None
    peer: Any
    password: str


def device_trust(pki: Path) -> Path:
    """Return the directory of trust in devices: those who serve us, not those whom we serve."""
    return pki / "devices"


def credentials(
    pki: Path, endpoint: Endpoint, options: OpcUaOptions, shown: bytes, *, secured: bool
) -> Credentials:
    """Read everything that a connection needs, and decide about the server's certificate.

    Args:
        pki: The ``pki`` directory of this server.
        endpoint: The server.
        options: Settings of the device.
        shown: The server's certificate, issuers may follow it.
        secured: Whether messages are signed.

    Raises:
        DeviceError: A file cannot be used (D379), or the certificate is not trusted (D371).
    """
    own = own_identity(pki) if secured else None
    peer = None
    # A password is encrypted for whoever holds this certificate, also where nothing else is encrypted.
    if secured or (options.user and shown):
        peer = trusted_peer(pki, endpoint, options, shown)
    return Credentials(own, peer, read_password(options))


def own_identity(pki: Path) -> Pki:
    """Return our key and certificate as they are now.

    Raises:
        DeviceError: There is none yet, or it cannot be used.
    """
    file = own_certificate(pki)
    try:
        # At the very first start another process is just making it.
        pause, tries = threading.Event(), round(OWN_WAIT_S / _PAUSE_S)
        while not file.exists() and tries > 0:
            pause.wait(_PAUSE_S)
            tries -= 1
        if not file.exists():
            step = "start the server once, or let edge-opcua probe opc.tcp://HOST make it"
            raise DeviceError(Reason(UNREADABLE.code, "is not there yet", step).of(str(file)))
        return read_own(pki)
    except (ConfigError, OSError) as exc:
        raise DeviceError(UNREADABLE.of(f"{file} ({exc})")) from exc


def trusted_peer(pki: Path, endpoint: Endpoint, options: OpcUaOptions, shown: bytes) -> Any:
    """Return the certificate of a server that is trusted.

    Raises:
        DeviceError: It is not; the message says how to trust it.
    """
    leaf = leaf_of(shown)
    if not leaf:
        raise DeviceError(UNTRUSTED.of(f"{endpoint.name} (it is none)"))
    print_ = thumbprint(leaf)
    if options.server_certificate is not None:
        if _pinned(options.server_certificate) != leaf:
            step = (
                f"compare it with the device's own; if it is right, put it into {options.server_certificate}"
            )
            what = f"shows another certificate ({print_}) than server_certificate"
            raise DeviceError(Reason(UNTRUSTED.code, what, step).of(endpoint.name))
        return load(leaf)
    root = device_trust(pki)
    try:
        for place in (root, *(root / part for part in ("trusted", "issuers", "rejected"))):
            make_private(place)
        lists = TrustList(root)
        decision = lists.decide(shown)
        if decision.trusted:
            return load(leaf)
        knock = lists.record(decision, endpoint.name)
    except OSError as exc:
        raise DeviceError(UNREADABLE.of(f"{root} ({exc.strerror})")) from exc
    if decision.code == "S401":
        which = str(knock.number or print_[:8])
        command = f"edge-opcua trust --devices{state_option(pki.parent)} {which}"
        step = f"compare it with the device's own, then run {command}"
        raise DeviceError(
            Reason(UNTRUSTED.code, f"shows a certificate not trusted here ({print_})", step).of(endpoint.name)
        )
    sentence = f"shows a certificate that cannot be trusted ({decision.code} {decision.reason})"
    raise DeviceError(Reason(UNTRUSTED.code, sentence, "give the device a new one").of(endpoint.name))


def _pinned(file: Path) -> bytes:
    try:
        return der_of(load(file.read_bytes()))
    except OSError as exc:
        raise DeviceError(UNREADABLE.of(f"{file} ({exc.strerror})")) from exc
    except NO_CERTIFICATE as exc:
        raise DeviceError(UNREADABLE.of(f"{file} (no certificate)")) from exc


def read_password(options: OpcUaOptions) -> str:
    """Return the password of the user, empty if none is set.

    Raises:
        DeviceError: Its file cannot be read, or others can.
    """
    if options.password is None:
        return ""
    file = options.password.file
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            raise DeviceError(UNREADABLE.of(f"{file}, readable by others ({mode:04o}),"))
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        said = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise DeviceError(UNREADABLE.of(f"{file} ({said})")) from exc

"""Why a socket or a serial port does not work: a stable code, a sentence, and the next physical step."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something does not work, in the words of who has to mend it.

    Args:
        code: Stable code, e.g. ``D311``; ``edge-opcua explain`` has its page.
        sentence: What was seen, to be put behind the name of the device.
        step: The next thing to do with hands or eyes.
    """

    code: str
    sentence: str
    step: str

    def of(self, where: str) -> str:
        """Return the whole text for one device, port or host."""
        return f"{self.code} {where} {self.sentence}: {self.step}"


SILENT: Final = Reason("D310", "does not answer", "look at its power, its link light and the cable")
REFUSED: Final = Reason("D311", "refuses the connection", "check the port; enable the server in the device")
UNKNOWN: Final = Reason("D312", "is a name nobody knows", "write the IP address, or enter the name in DNS")
CLOSED: Final = Reason("D313", "closed the connection", "close other clients; look for idle limits between")
GARBLED: Final = Reason(
    "D314", "does not speak the protocol", "check host and port; look for a second master"
)
NO_ROUTE: Final = Reason(
    "D315", "cannot be reached from here", "check this machine's address, mask and cable"
)
FAILED: Final = Reason("D316", "cannot be used", "see the message of the operating system")

NO_PORT: Final = Reason("D300", "is not there", "plug the adapter in; look with ls -l /dev/serial/by-id")
NO_RIGHT: Final = Reason("D301", "may not be opened", "add the service's user to the group dialout")
TAKEN: Final = Reason("D302", "is used by another program", "find it with fuser -v, and stop it")
UNFIT: Final = Reason("D303", "does not take these settings", "check baud, parity and rs485 with the adapter")
UNPLUGGED: Final = Reason("D304", "went away", "look at the plug of the adapter and at dmesg")

UNTRUSTED: Final = Reason(
    "D305", "shows a certificate not trusted here", "compare ca with the device's issuer"
)
MISNAMED: Final = Reason("D306", "shows a certificate for another name", "write that name as server_name")
UNWELCOME: Final = Reason("D307", "does not take our certificate", "let the device trust its issuer")
NO_TLS: Final = Reason("D308", "does not speak TLS 1.2 or newer", "check the port; 802 is TLS, 502 is plain")
UNREADABLE: Final = Reason("D309", "cannot be used as key or certificate", "check path, owner and chmod 600")

_SOCKET: Final[dict[int, Reason]] = {
    errno.ETIMEDOUT: SILENT,
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: CLOSED,
    errno.EPIPE: CLOSED,
    errno.ECONNABORTED: CLOSED,
    errno.EHOSTUNREACH: NO_ROUTE,
    errno.ENETUNREACH: NO_ROUTE,
    errno.EHOSTDOWN: NO_ROUTE,
    errno.ENETDOWN: NO_ROUTE,
    errno.EADDRNOTAVAIL: NO_ROUTE,
}
_SERIAL: Final[dict[int, Reason]] = {
    errno.ENOENT: NO_PORT,
    errno.ENXIO: NO_PORT,
    errno.ENODEV: UNPLUGGED,
    errno.EIO: UNPLUGGED,
    errno.EACCES: NO_RIGHT,
    errno.EPERM: NO_RIGHT,
    errno.EBUSY: TAKEN,
    errno.EAGAIN: TAKEN,
    errno.EINVAL: UNFIT,
    errno.ENOTTY: UNFIT,
}
# Alerts by which a server says no to the certificate that was shown (RFC 8446 §6.2).
_OUR_CERTIFICATE: Final = (
    "UNKNOWN_CA",
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "ACCESS_DENIED",
    "EXPIRED",
)


def of_socket(exc: OSError) -> Reason:
    """Return why a connection could not be made or was lost."""
    if isinstance(exc, ssl.SSLError):
        return of_tls(exc)
    if isinstance(exc, socket.gaierror):
        return UNKNOWN
    if isinstance(exc, TimeoutError):
        return SILENT
    found = _SOCKET.get(exc.errno or 0)
    if found is None and "Connect call failed" in str(exc):  # asyncio's word for several addresses at once
        found = next((_SOCKET[code] for code in _SOCKET if f"[Errno {code}]" in str(exc)), None)
    return found or _unforeseen(exc)


def of_tls(exc: ssl.SSLError) -> Reason:
    """Return why a TLS connection could not be made or was ended."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        name = "mismatch" in exc.verify_message or "not valid for" in exc.verify_message
        return MISNAMED if name else UNTRUSTED
    told = (getattr(exc, "reason", None) or str(exc)).upper()
    if "ALERT" in told and any(word in told for word in _OUR_CERTIFICATE):
        return UNWELCOME
    return NO_TLS


def of_serial(exc: OSError) -> Reason:
    """Return why a serial port cannot be opened or used."""
    return _SERIAL.get(exc.errno or 0) or _unforeseen(exc)


def _unforeseen(exc: OSError) -> Reason:
    said = exc.strerror or str(exc) or type(exc).__name__
    return Reason(FAILED.code, f"{FAILED.sentence} ({said})", FAILED.step)


_TOLD: Final = re.compile(r"(?P<code>D3\d\d) (?P<sentence>.+): (?P<step>.+)", re.DOTALL)


def parts_of(told: str) -> tuple[str, str, str]:
    """Return code, sentence and step of an error's text; what has no code is an answer not understood."""
    match = _TOLD.fullmatch(told)
    if match is None:
        return GARBLED.code, told, GARBLED.step
    return match["code"], match["sentence"], match["step"]

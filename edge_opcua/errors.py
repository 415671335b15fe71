"""The exception tree: each branch answers who has to act.

::

    EdgeError
    ├── ConfigError          the operator: the file is wrong (exit code 2)
    │   ├── AddressError     a tag address its driver cannot read
    │   └── IdentityError    clients would find a node under another id (C191 … C193)
    ├── DeviceError          time: the device or its link may come back by itself
    │   ├── DeviceTimeoutError
    │   └── DeviceRefusedError   the device answered no (exception, access denied)
    ├── WriteRejectedError   the caller: this write is not allowed or not possible now
    ├── ModelError           the ML engineer: this model cannot be served (M5xx)
    ├── SecurityError        nobody: refuse
    │   └── CertificateError     a certificate or key that somebody brought cannot be used (S4xx)
    ├── ControlError         a process of ours did not answer
    └── BusError             the shared table is not what this version expects
"""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 600


class EdgeError(Exception):
    """Root of every error this package raises on purpose."""


class ConfigError(EdgeError):
    """The configuration is wrong; the operator has to mend it.

    Args:
        message: What is wrong, in the user's words.
        code: Stable code to look up.

    Attributes:
        device: Name of the device whose settings are meant; empty if that is not known.
    """

    def __init__(self, message: str, *, code: str = "C190") -> None:
        super().__init__(message)
        self.code = code
        self.device = ""


class AddressError(ConfigError):
    """A tag address does not follow its driver's grammar.

    Args:
        message: One sentence in the user's words.
        hint: What to do about it, or an empty string.
        code: Stable code of the T2xx family.
    """

    def __init__(self, message: str, *, hint: str = "", code: str = "T211") -> None:
        super().__init__(message, code=code)
        self.hint = hint


class IdentityError(ConfigError):
    """Clients would find a node under another id than before.

    Args:
        message: What would move, old -> new.
        code: Stable code, C191, C192 or C193.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, code=code)


class DeviceError(EdgeError):
    """A device or its link does not work; time or the plant may heal it."""


class DeviceTimeoutError(DeviceError):
    """The device did not answer in time; a write may still land.

    Args:
        message: Who did not answer, and how long it was waited for.
        again: Whether a read may be sent again over the same connection.
    """

    def __init__(self, message: str = "", *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


class DeviceRefusedError(DeviceError):
    """The device answered, and the answer is no.

    Args:
        message: What was refused and why, in the user's words.
        status: OPC UA StatusCode the affected rows get.
        code: Stable code of the D3xx family.
    """

    def __init__(self, message: str, *, status: int, code: str = "D340") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class WriteRejectedError(EdgeError):
    """A write was refused before it left the box.

    Args:
        message: The reason, in the user's words.
        status: OPC UA StatusCode of the answer.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class ModelError(EdgeError):
    """A model cannot be served.

    Args:
        message: The reason, naming input, shape or hash. Names in it may be chosen by whoever made the model:
            what would move a terminal's cursor is replaced, and what is longer than any reason is cut.
        code: Stable code of the M5xx family.
    """

    def __init__(self, message: str, *, code: str = "M500") -> None:
        super().__init__(_told(message))
        self.code = code


def _told(message: str) -> str:
    if len(message) > _LONGEST:
        message = message[: _LONGEST - 1] + "…"
    if message.isprintable():
        return message
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in message)


class SecurityError(EdgeError):
    """Refused for a security reason; the exact reason is for the log, never for the wire."""


class CertificateError(SecurityError):
    """A certificate, key or revocation list that somebody brought cannot be used.

    Args:
        message: What is wrong with it.
        code: Stable code of the S4xx family.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class ControlError(EdgeError):
    """A process of ours did not answer on the control channel."""


class BusError(EdgeError):
    """The shared memory is not a bus, or one of another layout version."""

"""What the sections of the configuration are made of: names, references, numbers with their limits."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, JsonValue, StringConstraints
from pydantic_core import PydanticCustomError

RESOLVED: Final[dict[str, JsonValue]] = {"resolved": True}

NAME_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_-]*$"
# The dotted ones are the groups that an output's interface block adds to its device.
GROUP_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_-]*(\.control|\.status)?$"
INPUT_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_.-]*$"
REFERENCE_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_-]*/[A-Za-z_][A-Za-z0-9_.-]*$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)]
GroupName = Annotated[str, StringConstraints(pattern=GROUP_PATTERN, max_length=72)]
Reference = Annotated[str, StringConstraints(pattern=REFERENCE_PATTERN, max_length=200)]
InputName = Annotated[str, StringConstraints(pattern=INPUT_PATTERN, max_length=64)]
Text = Annotated[str, StringConstraints(max_length=500)]
NodeName = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
Seconds = Annotated[float, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

SecurityPolicy = Literal["None", "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"]
FailSafeVerdict = Literal["NotDecidable", "NotOk"]
RoleName = Literal[
    "anonymous",
    "authenticateduser",
    "observer",
    "operator",
    "supervisor",
    "engineer",
    "configureadmin",
    "securityadmin",
]
PermissionName = Literal["browse", "read", "write", "call", "history", "events"]

STRICT: Final = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", hide_input_in_errors=True)


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of a ``host:port`` text; an IPv6 host stands in brackets.

    Raises:
        PydanticCustomError: The text is not ``host:port`` (C114), or the port is out of range (C103).
    """
    host, _, port_text = address.rpartition(":")
    if not host or not port_text.isascii() or not port_text.isdigit():
        raise PydanticCustomError("C114", 'is not "host:port", e.g. "0.0.0.0:4840"')
    port = int(port_text[:12])
    if port > 65535:
        raise PydanticCustomError("C103", "port {port} is out of range 1..65535", {"port": port_text[:20]})
    return host.strip("[]"), port

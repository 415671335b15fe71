"""What the sections of the configuration are made of: names, references, numbers with their limits."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, JsonValue, StringConstraints

RESOLVED: Final[dict[str, JsonValue]] = {"resolved": True}

NAME_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_-]*$"
# The dotted ones are the groups that an output's interface block adds to its device.
GROUP_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_-]*(\.control|\.status)?$"
REFERENCE_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_-]*/[A-Za-z_][A-Za-z0-9_.-]*$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)]
GroupName = Annotated[str, StringConstraints(pattern=GROUP_PATTERN, max_length=72)]
Reference = Annotated[str, StringConstraints(pattern=REFERENCE_PATTERN, max_length=200)]
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

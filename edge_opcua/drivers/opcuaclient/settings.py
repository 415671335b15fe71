"""What an OPC UA server's URL and options say, and the limits of a Read that follow from them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from edge_opcua.drivers.opcuaclient.address import Space
from edge_opcua.drivers.options import DriverOptions
from edge_opcua.drivers.planner import ETHERNET_BYTE_RATE, Fragment
from edge_opcua.errors import ConfigError

PORT: Final = 4840
NONE: Final = "None"
AUTO: Final = "auto"
# The strongest first; what is older (Basic128Rsa15, Basic256) rests on SHA-1 and is never spoken.
POLICIES: Final = ("Aes256_Sha256_RsaPss", "Aes128_Sha256_RsaOaep", "Basic256Sha256")
_ANSWER_BYTES: Final = 12.0  # of a value: mask, type, source time


class Secret(BaseModel):
    """A secret by reference: what stands in a file of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path = Field(description="Where it stands: an absolute path, mode 0600.")

    @field_validator("file")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise PydanticCustomError("C114", "file has to be an absolute path")
        return value


class OpcUaOptions(DriverOptions):
    """Settings of an OPC UA server that is read."""

    security: Literal["auto", "None", "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"] = (
        Field(
            default=AUTO,
            description="Security policy; `auto`: the best the server offers. `None` has to be written: "
            "everybody on the network could read along and answer in the server's place.",
        )
    )
    security_mode: Literal["SignAndEncrypt", "Sign"] = Field(
        default="SignAndEncrypt", description="Whether messages are encrypted, or only signed."
    )
    server_certificate: Path | None = Field(
        default=None,
        description="The one certificate the server may show, DER or PEM, an absolute path; if not set, "
        "those that were trusted by `edge-opcua trust --devices`.",
    )
    user: str = Field(default="", description="User name; empty: anonymous.")
    password: Secret | None = Field(
        default=None,
        description='Its password, by reference: `{ file = "/etc/edge-opcua/plc1.password" }`, mode 0600.',
    )
    mode: Literal["read", "subscribe"] = Field(
        default="read",
        description="Whether every poll reads all values, or the server sends those that changed and a poll "
        "takes what has come; then its keep-alive shows that it lives.",
    )
    max_nodes: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1000, description="Values that one Read may ask for; the server may allow fewer."
    )
    pipeline: Annotated[int, Field(ge=1, le=16)] = Field(
        default=4, description="Reads on the way at once on one connection."
    )
    register_nodes: bool = Field(
        default=True,
        description="Whether nodes are registered with a server that can do that, so that it need not look "
        "them up at every Read.",
    )

    @field_validator("server_certificate")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise PydanticCustomError("C114", "server_certificate has to be an absolute path")
        return value

    @field_validator("password")
    @classmethod
    def _password_of_a_user(cls, value: Secret | None, info: object) -> Secret | None:
        given = cast("dict[str, object]", getattr(info, "data", {}))
        if value is not None and not given.get("user"):
            raise PydanticCustomError("C114", "a password needs a user")
        return value


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the URL of a device says.

    Args:
        host: Name or address.
        port: TCP port.
        url: The URL as the server gets it.
    """

    host: str
    port: int
    url: str

    @property
    def name(self) -> str:
        """What messages call it: ``host:port``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class OpcUaShape:
    """Limits of a Read: so many nodes.

    Args:
        max_nodes: Nodes per Read.
    """

    max_nodes: int = 1000

    @property
    def byte_rate(self) -> float:
        """Return that of Ethernet."""
        return ETHERNET_BYTE_RATE

    def unit_bytes(self, space: Hashable) -> int:
        """Return the bytes of the image that a value takes."""
        return cast(Space, space).unit_bytes

    def wire_bytes(self, space: Hashable) -> float:
        """Return about how many bytes of an answer a value takes."""
        return cast(Space, space).unit_bytes + _ANSWER_BYTES

    def station(self, space: Hashable) -> Hashable:  # noqa: ARG002 - of the Protocol
        """Return None: a connection leads to one server."""
        return None

    def max_units(self, space: Hashable) -> int:  # noqa: ARG002 - of the Protocol
        """Return 1: a value is read as a whole."""
        return 1

    def max_gap(self, space: Hashable) -> int:  # noqa: ARG002 - of the Protocol
        """Return 0: nothing lies between two values."""
        return 0

    def fits(self, fragments: Sequence[Fragment], more: Fragment) -> bool:  # noqa: ARG002 - of the Protocol
        """Return whether a Read can ask for one more node."""
        return len(fragments) < self.max_nodes


@lru_cache(maxsize=256)  # asked for each tag of a device
def parse_url(url: str) -> Endpoint:
    """Read ``opc.tcp://host[:4840][/path]``.

    Raises:
        ConfigError: It is not such a URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORT
    except ValueError:
        parts, port = urlsplit(""), 0
    host = parts.hostname
    if parts.scheme != "opc.tcp" or not host or parts.username or parts.query or parts.fragment:
        raise ConfigError(f'"{url}" is not an OPC UA URL; write e.g. opc.tcp://192.168.0.10:4840')
    bracketed = f"[{host}]" if ":" in host else host
    return Endpoint(host, port, f"opc.tcp://{bracketed}:{port}{parts.path}")

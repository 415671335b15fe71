"""What the options of a pipeline say about the server that runs its model."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.layout import MOST_SAMPLES
from edge_opcua.inference.backends.remote.reasons import UNFIT

Scheme: TypeAlias = Literal["http", "https", "grpc", "grpcs"]

_PORTS: Final[dict[str, int]] = {"http": 8000, "https": 443, "grpc": 8001, "grpcs": 443}
_SECURE: Final = frozenset({"https", "grpcs"})


class Secret(BaseModel):
    """A secret by reference: what stands in a file of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path = Field(description="Where it stands: an absolute path, mode 0600.")

    @field_validator("file")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return _absolute("file", value)


class RemoteOptions(BaseModel):
    """Settings of a server that speaks the Open Inference Protocol (KServe v2)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: Annotated[str, Field(max_length=300)] = Field(
        description="Where the server is: `http://`, `https://`, `grpc://` or `grpcs://`, host, port and, "
        "for HTTP, a path in front of `/v2`. Ports if left out: 8000, 8001 for gRPC, 443 with TLS."
    )
    model: Annotated[str, Field(max_length=200)] = Field(
        default="", description="Name of the model on the server; that of the pipeline's model if left empty."
    )
    version: Annotated[str, Field(max_length=100)] | None = Field(
        default=None,
        description="Version of the model on the server; that of the pipeline's model if left out. Empty: "
        "none is asked for, for servers that have no versions.",
    )
    timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = Field(
        default=100,
        description="Longest time (ms) that an answer is waited for, connecting included; not more than the "
        "deadline of the pipeline.",
    )
    max_batch: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None = Field(
        default=None,
        description="Most samples of one request, where the model's first axis is open; what the server "
        "says, or 32, if left out.",
    )
    encoding: Literal["auto", "binary", "json"] = Field(
        default="auto",
        description="How numbers travel over HTTP: as bytes after the JSON part, in the JSON part, or as "
        "bytes if the server can. gRPC always sends bytes.",
    )
    ca: Path | None = Field(
        default=None,
        description="Certificates (PEM) of who may issue the server's, an absolute path; those of this "
        "computer if left out.",
    )
    certificate: Path | None = Field(
        default=None, description="Our certificate (PEM), where the server wants one, an absolute path."
    )
    key: Path | None = Field(default=None, description="Its key (PEM, mode 0600), an absolute path.")
    server_name: Annotated[str, Field(max_length=253)] = Field(
        default="", description="Name in the server's certificate, where it is not the host of the URL."
    )
    user: Annotated[str, Field(max_length=200)] = Field(
        default="", description="User name (HTTP Basic); needs TLS unless the server is on this computer."
    )
    password: Secret | None = Field(
        default=None, description='Its password: `{ file = "/etc/edge-opcua/model-server.password" }`.'
    )
    token: Secret | None = Field(
        default=None, description="Bearer token, in a file as the password; instead of user and password."
    )
    fail_after: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="Failures in a row after which the server is left alone for a while."
    )
    retry_first_s: Annotated[float, Field(gt=0, le=60)] = Field(
        default=0.5, description="How long (s) at first; it doubles each time a single request fails again."
    )
    retry_most_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=10.0, description="How long (s) at most."
    )

    @field_validator("ca", "certificate", "key")
    @classmethod
    def _files(cls, value: Path | None) -> Path | None:
        return None if value is None else _absolute("file", value)

    @field_validator("user")
    @classmethod
    def _user(cls, value: str) -> str:
        if ":" in value or not value.isprintable():
            raise PydanticCustomError("C114", "a user name has no colon (RFC 7617)")
        return value

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        parse_url(value)
        return value

    @model_validator(mode="after")
    def _together(self) -> RemoteOptions:
        target = parse_url(self.url)
        if bool(self.user) != (self.password is not None):
            raise PydanticCustomError("C114", "user and password go together")
        if self.user and self.token is not None:
            raise PydanticCustomError("C114", "either user and password, or a token")
        if (self.user or self.token is not None) and not target.secure and not target.local:
            raise PydanticCustomError(
                "C114", "a secret would travel readable for everybody: write https:// or grpcs://"
            )
        if (self.certificate is None) != (self.key is None):
            raise PydanticCustomError("C114", "certificate and key go together")
        if (self.ca or self.certificate or self.server_name) and not target.secure:
            raise PydanticCustomError("C114", "ca, certificate and server_name need https:// or grpcs://")
        return self


@dataclass(frozen=True, slots=True)
class Target:
    """What the URL of a server says.

    Args:
        scheme: How it is spoken to.
        host: Name or address.
        port: TCP port.
        path: In front of ``/v2``, without a slash at its end.
    """

    scheme: Scheme
    host: str
    port: int
    path: str

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted and the server shows who it is."""
        return self.scheme in _SECURE

    @property
    def grpc(self) -> bool:
        """Whether it is spoken to by gRPC."""
        return self.scheme.startswith("grpc")

    @property
    def local(self) -> bool:
        """Whether what is sent does not leave this computer."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL, complete."""
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_url(url: str) -> Target:
    """Read ``http://host[:8000][/path]``, or the same with https, grpc or grpcs.

    Raises:
        PydanticCustomError: It is not such a URL (C114).
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    scheme, host = parts.scheme, parts.hostname
    plain = url.isascii() and url.isprintable() and " " not in url
    extra = parts.username or parts.query or parts.fragment or (scheme.startswith("grpc") and parts.path)
    if scheme not in _PORTS or not host or extra or port == 0 or not plain:
        raise PydanticCustomError(
            "C114", "not the URL of a model server; write e.g. http://192.168.0.20:8000 or grpc://host:8001"
        )
    return Target(scheme, host, port or _PORTS[scheme], parts.path.rstrip("/"))  # type: ignore[arg-type]


def read_options(options: Mapping[str, Any]) -> RemoteOptions:
    """Return the options of a pipeline as settings.

    Raises:
        ModelError: They do not fit (M579).
    """
    try:
        return RemoteOptions.model_validate(dict(options))
    except ValidationError as exc:
        first = exc.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"options{f'.{name}' if name else ''}: {first['msg']}", code=UNFIT) from exc


def _absolute(name: str, value: Path) -> Path:
    if not value.is_absolute():
        raise PydanticCustomError("C114", "{name} has to be an absolute path", {"name": name})
    return value

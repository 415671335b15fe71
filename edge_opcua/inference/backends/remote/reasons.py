"""Why a server does not answer, as errors with a stable code, and which of them speak against the server."""

from __future__ import annotations

import socket
import ssl
from typing import Final

from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.remote.breaker import Event

UNREACHABLE: Final = "M570"
SILENT: Final = "M571"
LEFT_ALONE: Final = "M572"
NOT_SERVED: Final = "M573"
STRANGER: Final = "M574"
OTHER_MODEL: Final = "M575"
GARBLED: Final = "M576"
NO_GRPC: Final = "M577"
UNREADABLE: Final = "M578"
UNFIT: Final = "M579"

MODEL_FAILED: Final = "M532"
CANCELLED: Final = "M535"

_AGAINST_THE_SERVER: Final = frozenset({UNREACHABLE, SILENT, NOT_SERVED, STRANGER, GARBLED, OTHER_MODEL})
_MOST_SAID: Final = 300


def verdict(code: str) -> Event:
    """Return what the end of a run says of the server.

    Args:
        code: Stable code it failed with; empty if it did not. A model that fails on the server (M532) has a
            server that answers.
    """
    if code == CANCELLED:
        return Event.ABANDONED
    return Event.FAILURE if code in _AGAINST_THE_SERVER else Event.SUCCESS


def unreachable(where: str, why: str) -> ModelError:
    """Return that there is no connection, or none any more."""
    return ModelError(f"{where} cannot be reached: {why}", code=UNREACHABLE)


def silent(where: str, patience_ms: float) -> ModelError:
    """Return that the answer did not come in time."""
    return ModelError(f"{where} has not answered within {patience_ms:g} ms", code=SILENT)


def not_served(where: str, why: str) -> ModelError:
    """Return that the server lives, but does not serve the model."""
    return ModelError(f"{where} does not serve it: {said(why)}", code=NOT_SERVED)


def stranger(where: str, why: str) -> ModelError:
    """Return that one side does not trust the other."""
    return ModelError(f"{where}: {said(why)}", code=STRANGER)


def other_model(where: str, why: str) -> ModelError:
    """Return that what is served is not what was proven, or what the manifest says."""
    return ModelError(f"{where} serves another model: {why}", code=OTHER_MODEL)


def garbled(where: str, why: str) -> ModelError:
    """Return that the answer is none of the protocol."""
    return ModelError(f"{where} answers with what is no answer: {why}", code=GARBLED)


def failed(where: str, why: str) -> ModelError:
    """Return that the model failed on the server."""
    return ModelError(f"the model failed at {where}: {said(why)}", code=MODEL_FAILED)


def of_socket(where: str, exc: OSError) -> ModelError:
    """Return what an error of the socket means."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return stranger(where, f"its certificate is not trusted: {exc.verify_message}")
    if isinstance(exc, ssl.SSLError):
        return stranger(where, f"no TLS 1.2 or newer with it: {exc.reason or 'the connection ended'}")
    if isinstance(exc, socket.gaierror):
        return unreachable(where, "nobody knows the name")
    return unreachable(where, exc.strerror or type(exc).__name__)


def said(text: str) -> str:
    """Return what a server said in one line of bounded length, without what a terminal would obey."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= _MOST_SAID else f"{line[:_MOST_SAID]}…"

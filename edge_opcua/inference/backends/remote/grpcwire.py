"""The Open Inference Protocol over gRPC, with grpcio; its messages are our own bytes.

grpcio connects, resolves names and connects again by itself, in threads of its own; it never makes a run
wait for that (``wait_for_ready`` is off): without a connection a run fails at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from ssl import get_default_verify_paths
from typing import Any, Final, TypeVar

import numpy as np

from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.layout import Floats
from edge_opcua.inference.backends.remote import grpcmessages as messages
from edge_opcua.inference.backends.remote.patience import Stop, Until, cancelled
from edge_opcua.inference.backends.remote.protocol import (
    FACTS_BYTES,
    Answer,
    Asked,
    ModelFacts,
    ServerFacts,
)
from edge_opcua.inference.backends.remote.reasons import (
    MODEL_FAILED,
    NO_GRPC,
    failed,
    garbled,
    not_served,
    said,
    silent,
    stranger,
    unreachable,
)
from edge_opcua.inference.backends.remote.settings import RemoteOptions, Target
from edge_opcua.inference.backends.remote.trust import content, private

SERVICE: Final = "inference.GRPCInferenceService"
_MOST_BYTES: Final = 64 * FACTS_BYTES
_HEARD: Final = 0.05

_Result = TypeVar("_Result")


class GrpcServer:
    """A server over gRPC.

    Args:
        settings: Options of the pipeline.
        target: Where it is.
        where: What messages call it.
        model: Name and version of the model there; an empty version for none.
        authorization: Value of that metadata, empty for none.

    Raises:
        ModelError: grpcio is not installed (M577), or a file cannot be used (M578).
    """

    wire = "grpc"

    def __init__(
        self,
        settings: RemoteOptions,
        target: Target,
        where: str,
        model: tuple[str, str],
        authorization: str,
    ) -> None:
        self._grpc = _library()
        self._where = where
        self._model = model
        self._metadata = (("authorization", authorization),) if authorization else None
        self._channel = self._open(settings, target)
        self._methods: dict[str, Any] = {}

    def server(self, until: Until, stop: Stop) -> ServerFacts:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Server`."""
        return self._told("ServerMetadata", b"", messages.server_facts, until, stop)

    def require_ready(self, until: Until, stop: Stop) -> None:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Server`."""
        if not self._told("ModelReady", messages.model_request(*self._model), messages.flag, until, stop):
            raise not_served(self._where, "it is not ready, or not there")

    def model(self, until: Until, stop: Stop) -> ModelFacts:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Server`."""
        asked = messages.model_request(*self._model)
        return self._told("ModelMetadata", asked, messages.model_facts, until, stop)

    def limit(self, until: Until, stop: Stop) -> int:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Server`."""
        asked = messages.model_request(*self._model)
        return self._told("ModelConfig", asked, messages.most_samples, until, stop)

    def question(self, asked: Asked) -> GrpcQuestion:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Server`."""
        return GrpcQuestion(self, self._where, self._model, asked)

    def close(self) -> None:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Server`."""
        self._channel.close()

    def begin(self, method: str, message: bytes, until: Until) -> Any:
        """Send a request and return the call, which can be cancelled and waited for.

        Args:
            method: Method of the service.
            message: The request.
            until: Deadline; the server is told of it.
        """
        found = self._methods.get(method)
        if found is None:
            # No serializers: bytes in, bytes out.
            found = self._methods[method] = self._channel.unary_unary(f"/{SERVICE}/{method}")
        return found.future(message, timeout=until.left_s(), metadata=self._metadata, wait_for_ready=False)

    def finish(self, call: Any, until: Until, stop: Stop) -> bytes:
        """Return the answer to a call.

        Raises:
            ModelError: There is none (M570, M571, M573, M574), the model failed (M532), or cancelled (M535).
        """
        grpc = self._grpc
        try:
            # The deadline is grpc's own; ours comes a moment later and is for the case that it forgets it.
            return bytes(call.result(timeout=until.left_s() + _HEARD))
        except grpc.FutureTimeoutError:
            call.cancel()
            raise silent(self._where, until.patience_ms) from None
        except grpc.FutureCancelledError:
            stop.check()
            raise unreachable(self._where, "the call was ended") from None
        except grpc.RpcError as exc:
            stop.check()
            raise self._of(exc, until) from exc

    def _told(
        self,
        method: str,
        message: bytes,
        read: Callable[[bytes], _Result],
        until: Until,
        stop: Stop,
    ) -> _Result:
        try:
            return read(self.finish(self.begin(method, message, until), until, stop))
        except ValueError as exc:
            raise garbled(self._where, str(exc)) from exc
        except ModelError as exc:
            if exc.code != MODEL_FAILED:
                raise
            raise not_served(self._where, str(exc)) from exc  # MLServer: UNKNOWN for a model it has not

    def _of(self, exc: Any, until: Until) -> ModelError:
        """Return what a status of gRPC means."""
        codes = self._grpc.StatusCode
        code, why = exc.code(), said(exc.details() or "")
        if code is codes.DEADLINE_EXCEEDED:
            return silent(self._where, until.patience_ms)
        if code in (codes.UNAUTHENTICATED, codes.PERMISSION_DENIED):
            return stranger(self._where, why)
        if code is codes.UNAVAILABLE and _is_of_tls(why):
            return stranger(self._where, why)
        if code in (codes.NOT_FOUND, codes.UNIMPLEMENTED):
            return not_served(self._where, why)
        if code in (codes.UNAVAILABLE, codes.CANCELLED):
            return unreachable(self._where, why)
        if code is codes.RESOURCE_EXHAUSTED:
            return garbled(self._where, why)
        return failed(self._where, f"{code.name}: {why}")

    def _open(self, settings: RemoteOptions, target: Target) -> Any:
        grpc = self._grpc
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", _MOST_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.use_local_subchannel_pool", 1),  # a connection of ours is closed with us
        ]
        if not target.secure:
            return grpc.insecure_channel(target.authority, options=options)
        if settings.server_name:
            options.append(("grpc.ssl_target_name_override", settings.server_name))
        if settings.key is not None:
            private(settings.key)
        system = get_default_verify_paths().cafile
        roots = content(settings.ca or (Path(system) if system else None))
        credentials = grpc.ssl_channel_credentials(
            roots, content(settings.key), content(settings.certificate)
        )
        return grpc.secure_channel(target.authority, credentials, options=options)


class GrpcQuestion:
    """One request over gRPC.

    Args:
        server: The server.
        where: What messages call it.
        model: Name and version of the model there.
        asked: What is asked.

    Attributes:
        inputs: Arrays that are sent.
    """

    def __init__(self, server: GrpcServer, where: str, model: tuple[str, str], asked: Asked) -> None:
        self.inputs: Mapping[str, Floats] = {
            name: np.zeros(shape, np.float32) for name, shape in asked.inputs.items()
        }
        self._server = server
        self._where = where
        self._most = asked.most_bytes
        self._head = messages.infer_head(*model, asked.inputs, asked.outputs, asked.timeout_us)
        self._arrays = tuple(self.inputs.values())
        self._call: Any = None

    def ask(self, until: Until, stop: Stop) -> Answer:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Question`."""
        self._call = self._server.begin("ModelInfer", self._head + messages.infer_raw(self._arrays), until)
        try:
            if stop.asked:  # it came before there was a call to cancel
                self._call.cancel()
                raise cancelled()
            reply = self._server.finish(self._call, until, stop)
        finally:
            self._call = None
        if len(reply) > self._most:
            raise garbled(self._where, f"{len(reply)} bytes where at most {self._most} are expected")
        try:
            return messages.answer(reply)
        except ValueError as exc:
            raise garbled(self._where, str(exc)) from exc

    def interrupt(self) -> None:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Question`."""
        call = self._call
        if call is not None:
            call.cancel()


def _is_of_tls(why: str) -> bool:
    return any(word in why.lower() for word in ("ssl", "tls", "certificate", "handshake", "hostname"))


def _library() -> Any:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # our errors tell what it would print
    try:
        import grpc  # an extra
    except ImportError as exc:
        raise ModelError(
            f"grpc:// needs grpcio, which cannot be imported ({exc}); install the extra: "
            "pip install 'edge-opcua[grpc]', or use http://",
            code=NO_GRPC,
        ) from exc
    return grpc

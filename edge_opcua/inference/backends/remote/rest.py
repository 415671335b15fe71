"""The Open Inference Protocol over HTTP: JSON, and numbers as bytes behind it where the server can."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import numpy as np

from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.layout import Floats, Port
from edge_opcua.inference.backends.remote.http1 import HttpClient, Response
from edge_opcua.inference.backends.remote.patience import Stop, Until
from edge_opcua.inference.backends.remote.protocol import (
    FACTS_BYTES,
    FP32,
    WIRE,
    Answer,
    Asked,
    ModelFacts,
    ServerFacts,
    elements,
    port,
    tensor,
)
from edge_opcua.inference.backends.remote.reasons import (
    MODEL_FAILED,
    failed,
    garbled,
    not_served,
    stranger,
)
from edge_opcua.inference.backends.remote.settings import Target

_LENGTH: Final = "inference-header-content-length"
_UNTRUSTED: Final = frozenset({401, 403, 407})
_ABSENT: Final = frozenset({404, 429, 502, 503, 504})
_REDIRECTED: Final = range(300, 400)


class RestServer:
    """A server over HTTP.

    Args:
        client: Asks it.
        target: Where it is.
        where: What messages call it.
        model: Name of the model there.
        version: Its version there; empty for none.
        authorization: Value of that header, empty for none.
    """

    def __init__(
        self, client: HttpClient, target: Target, where: str, model: tuple[str, str], authorization: str
    ) -> None:
        self.wire: str = target.scheme
        self._client = client
        self._where = where
        name, version = (quote(part, safe="") for part in model)
        self._root = f"{target.path}/v2"
        self._model = f"{self._root}/models/{name}" + (f"/versions/{version}" if version else "")
        self._fields = f"Host: {target.authority}\r\nUser-Agent: edge-opcua\r\n"
        if authorization:
            self._fields += f"Authorization: {authorization}\r\n"

    def server(self, until: Until, stop: Stop) -> ServerFacts:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Server`."""
        told = self._get(self._root, until, stop)
        return ServerFacts(
            _text(told.get("name")), _text(told.get("version")), frozenset(_texts(told.get("extensions")))
        )

    def require_ready(self, until: Until, stop: Stop) -> None:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Server`."""
        response = self._client.ask(self._request(f"{self._model}/ready"), FACTS_BYTES, until, stop)
        if response.status in _UNTRUSTED:
            raise stranger(self._where, _error(response))
        if not response.good:
            raise not_served(self._where, _error(response))
        try:
            told = _object(response.body)
        except ValueError:  # the status is what counts; the body is nobody's promise
            return
        if told.get("ready") is False:  # KServe's own servers say it in the body
            raise not_served(self._where, "it is not ready")

    def model(self, until: Until, stop: Stop) -> ModelFacts:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Server`."""
        told = self._get(self._model, until, stop)
        try:
            return ModelFacts(
                tuple(_texts(told.get("versions"))),
                _ports(told.get("inputs")),
                _ports(told.get("outputs")),
            )
        except (TypeError, ValueError, KeyError) as exc:
            raise garbled(self._where, f"metadata that is none ({exc})") from exc

    def limit(self, until: Until, stop: Stop) -> int:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Server`."""
        most = self._get(f"{self._model}/config", until, stop).get("max_batch_size", 0)
        return most if isinstance(most, int) and most > 0 else 0

    def question(self, asked: Asked) -> RestQuestion:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Server`."""
        return RestQuestion(self._client, self._where, f"{self._model}/infer", self._fields, asked)

    def close(self) -> None:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Server`."""
        self._client.close()

    def _request(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\n{self._fields}Accept: application/json\r\n\r\n".encode("ascii")

    def _get(self, path: str, until: Until, stop: Stop) -> dict[str, Any]:
        response = self._client.ask(self._request(path), FACTS_BYTES, until, stop)
        try:
            require_good(response, self._where)
        except ModelError as exc:
            if exc.code != MODEL_FAILED:
                raise
            raise not_served(self._where, _error(response)) from exc
        try:
            return _object(response.body)
        except ValueError as exc:
            raise garbled(self._where, f"no JSON ({exc})") from exc


class RestQuestion:
    """One request over HTTP.

    Args:
        client: Asks the server.
        where: What messages call it.
        path: Where the model is asked.
        fields: Header fields of every request.
        asked: What is asked.

    Attributes:
        inputs: Arrays that are sent.
    """

    def __init__(self, client: HttpClient, where: str, path: str, fields: str, asked: Asked) -> None:
        self.inputs: Mapping[str, Floats] = {
            name: np.zeros(shape, np.float32) for name, shape in asked.inputs.items()
        }
        self._client = client
        self._where = where
        self._asked = asked
        self._start = f"POST {path} HTTP/1.1\r\n{fields}"
        self._head = self._binary_head() if asked.binary else b""
        self._layout: tuple[bytes, str, tuple[tuple[str, tuple[int, ...], int], ...]] | None = None

    def ask(self, until: Until, stop: Stop) -> Answer:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Question`."""
        request = self._binary() if self._asked.binary else self._json()
        response = self._client.ask(request, self._asked.most_bytes, until, stop)
        require_good(response, self._where)
        try:
            return self._answer(response)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as exc:
            raise garbled(self._where, str(exc) or type(exc).__name__) from exc

    def interrupt(self) -> None:
        """See :class:`edge_opcua.inference.backends.remote.protocol.Question`: waits look at the stop."""

    def _binary_head(self) -> bytes:
        """Return everything before the numbers; it is the same for every request."""
        inputs = [
            {**_tensor_facts(name, array), "parameters": {"binary_data_size": array.nbytes}}
            for name, array in self.inputs.items()
        ]
        message = self._message(inputs, binary=True)
        numbers = sum(array.nbytes for array in self.inputs.values())
        fields = (
            "Content-Type: application/octet-stream\r\n"
            f"Inference-Header-Content-Length: {len(message)}\r\n"
            f"Content-Length: {len(message) + numbers}\r\n\r\n"
        )
        return f"{self._start}{fields}".encode("ascii") + message

    def _binary(self) -> bytes:
        return b"".join((self._head, *(array.astype(WIRE).tobytes() for array in self.inputs.values())))

    def _json(self) -> bytes:
        inputs = [
            {**_tensor_facts(name, array), "data": array.reshape(-1).tolist()}
            for name, array in self.inputs.items()
        ]
        try:
            message = self._message(inputs, binary=False)
        except ValueError as exc:  # JSON has no NaN and no infinity
            raise failed(self._where, "the sample holds what is not a finite number") from exc
        fields = f"Content-Type: application/json\r\nContent-Length: {len(message)}\r\n\r\n"
        return f"{self._start}{fields}".encode("ascii") + message

    def _message(self, inputs: list[dict[str, Any]], *, binary: bool) -> bytes:
        message: dict[str, Any] = {"inputs": inputs}
        parameters: dict[str, Any] = {}
        if self._asked.timeout_us:
            parameters["timeout"] = self._asked.timeout_us
        if self._asked.outputs:
            wanted = {"parameters": {"binary_data": True}} if binary else {}
            message["outputs"] = [{"name": name, **wanted} for name in self._asked.outputs]
        elif binary:
            parameters["binary_data_output"] = True
        if parameters:
            message["parameters"] = parameters
        return json.dumps(message, allow_nan=False, separators=(",", ":")).encode()

    def _answer(self, response: Response) -> Answer:
        length = response.fields.get(_LENGTH)
        size = len(response.body) if length is None else int(length)
        if not 0 <= size <= len(response.body):
            raise ValueError("the JSON part is longer than the body")
        head, numbers = response.body[:size], response.body[size:]
        if self._layout is None or head != self._layout[0]:
            told = _object(head)
            version, outputs = _text(told.get("model_version")), _objects(told.get("outputs"))
            if not all("binary_data_size" in _parameters(one) for one in outputs):
                return Answer(version, _mixed(outputs, numbers))
            self._layout = (bytes(head), version, tuple(_place(one) for one in outputs))
        _, version, places = self._layout  # the same head again: it need not be read a second time
        found, start = {}, 0
        for name, shape, count in places:
            found[name] = tensor(name, FP32, shape, numbers[start : start + count])
            start += count
        if start != len(numbers):
            raise ValueError(f"{len(numbers)} bytes of numbers where {start} were told")
        return Answer(version, found)


def require_good(response: Response, where: str) -> None:
    """Refuse an answer that says no.

    Raises:
        ModelError: The server does not know us (M574), does not serve the model (M573), or it failed (M532).
    """
    if response.good:
        return
    why = _error(response)
    if response.status in _UNTRUSTED:
        raise stranger(where, why)
    if response.status in _ABSENT:
        raise not_served(where, why)
    if response.status in _REDIRECTED:
        raise garbled(where, f"{why}: redirections are not followed")
    raise failed(where, why)


def _error(response: Response) -> str:
    """Return what a server says of its refusal."""
    try:
        told = _object(response.body)
        text = told.get("error") or told.get("detail") or ""
    except ValueError:
        text = response.text
    return f"HTTP {response.status} {text if isinstance(text, str) else json.dumps(text)}".strip()


def _place(output: Mapping[str, Any]) -> tuple[str, tuple[int, ...], int]:
    """Return name, shape and bytes of an output whose numbers are behind the JSON."""
    name, shape = _text(output["name"]), _shape(output["shape"])
    if output.get("datatype") != FP32:
        raise ValueError(f'output "{name}" is {output.get("datatype")}, not {FP32}')
    count = _size(_parameters(output)["binary_data_size"])
    if count != elements(shape) * WIRE.itemsize:
        raise ValueError(f'output "{name}" of shape {list(shape)} comes with {count} bytes')
    return name, shape, count


def _mixed(outputs: Sequence[Mapping[str, Any]], numbers: memoryview) -> dict[str, Floats]:
    """Return outputs of which at least one is in the JSON; those of other types are left out."""
    found: dict[str, Floats] = {}
    start = 0
    for output in outputs:
        name, shape = _text(output["name"]), _shape(output["shape"])
        behind = _parameters(output).get("binary_data_size")
        raw = memoryview(b"")
        if behind is not None:
            raw = numbers[start : start + _size(behind)]
            start += len(raw)
        if output.get("datatype") != FP32:
            continue
        if behind is not None:
            found[name] = tensor(name, FP32, shape, raw)
        else:
            flat = _numbers(output["data"])
            if flat.size != elements(shape):
                raise ValueError(f'output "{name}" of shape {list(shape)} comes with {flat.size} numbers')
            found[name] = flat.reshape(shape)
    return found


def _numbers(data: object) -> Floats:
    """Return the numbers of an output in JSON, flat or in lists; infinite where float32 ends."""
    array = np.asarray(data)
    if array.dtype.kind not in "fiu":
        raise ValueError("data that are no numbers")
    with np.errstate(over="ignore"):
        return array.astype(np.float32).reshape(-1)


def _tensor_facts(name: str, array: Floats) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": FP32}


def _ports(value: object) -> tuple[Port, ...]:
    return tuple(
        port(_text(one["name"]), _text(one["datatype"]), _integers(one["shape"])) for one in _objects(value)
    )


def _object(body: memoryview) -> dict[str, Any]:
    """Return a JSON object; ValueError if it is none."""
    try:
        value = json.loads(bytes(body))
    except RecursionError:
        raise ValueError("lists within lists without an end") from None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - of the bytes, not of a caller
    return value


def _objects(value: object) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("no list of objects")
    return value


def _parameters(output: Mapping[str, Any]) -> dict[str, Any]:
    found = output.get("parameters") or {}
    if not isinstance(found, dict):
        raise ValueError("parameters that are none")  # noqa: TRY004 - of the bytes, not of a caller
    return found


def _shape(value: object) -> tuple[int, ...]:
    shape = _integers(value)
    elements(shape)
    return shape


def _integers(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(one) is int for one in value):
        raise ValueError("a shape that is none")
    return tuple(value)


def _size(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a size that is none")
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []

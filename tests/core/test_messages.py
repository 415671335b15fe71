import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_opcua.core.messages import (
    MAX_FRAME_BYTES,
    VERSION,
    Decoder,
    Reply,
    Request,
    encode,
    notify_message,
    refusal,
    reply_message,
    request_message,
)
from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_CONFIGURATION_ERROR,
    BAD_INTERNAL_ERROR,
    BAD_OUT_OF_RANGE,
    BAD_TIMEOUT,
    BAD_USER_ACCESS_DENIED,
    GOOD,
)
from edge_opcua.errors import (
    ConfigError,
    ControlError,
    DeviceError,
    DeviceRefusedError,
    DeviceTimeoutError,
    EdgeError,
    ModelError,
    SecurityError,
    WriteRejectedError,
)

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_bodies = st.dictionaries(st.text(max_size=20), _json, max_size=5)
_names = st.text(max_size=20)
_requests = st.builds(
    Request,
    to=_names,
    kind=_names,
    body=_bodies,
    origin=_names,
    timeout_s=st.floats(min_value=0, max_value=3600),
)
_replies = st.builds(Reply, status=st.integers(0, 2**32 - 1), reason=st.text(), body=_bodies)
_messages = st.one_of(
    st.builds(request_message, st.integers(0, 2**40), _requests),
    st.builds(reply_message, st.integers(0, 2**40), _replies),
    st.builds(notify_message, _requests),
)


def _frame(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_messages, max_size=4), st.data())
def test_messages_survive_any_cutting_of_the_stream(
    messages: list[dict[str, Any]], data: st.DataObject
) -> None:
    stream = b"".join(encode(message) for message in messages)
    decoder = Decoder()
    received = []
    at = 0
    while at < len(stream):
        size = data.draw(st.integers(1, max(1, len(stream) - at)))
        received += decoder.feed(stream[at : at + size])
        at += size
    assert received == [{"v": VERSION, **message} for message in messages]


@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_but_control_error(garbage: bytes) -> None:
    try:
        Decoder().feed(garbage)
        Decoder().feed(_frame(garbage))
    except ControlError:
        pass


@given(_json)
def test_json_that_is_no_message_is_refused(value: object) -> None:
    with pytest.raises(ControlError):
        Decoder().feed(_frame(json.dumps(value).encode()))


@pytest.mark.parametrize(
    "spoil",
    [
        {"v": 2},
        {"v": None},
        {"t": "telegram"},
        {"t": ["request"]},
        {"id": "7"},
        {"id": True},
        {"to": None},
        {"body": []},
        {"timeout_s": -1.0},
        {"timeout_s": math.nan},
        {"timeout_s": math.inf},
        {"timeout_s": 1e9},
    ],
)
def test_a_request_with_an_improper_field_is_refused(spoil: dict[str, object]) -> None:
    message = {"v": VERSION, **request_message(7, Request("io", "write", {}))}
    with pytest.raises(ControlError):
        Decoder().feed(_frame(json.dumps({**message, **spoil}).encode()))


@pytest.mark.parametrize("status", [-1, 2**32, 0.5, True])
def test_a_reply_whose_status_is_no_status_code_is_refused(status: object) -> None:
    message = {"v": VERSION, **reply_message(7, Reply()), "status": status}
    with pytest.raises(ControlError):
        Decoder().feed(_frame(json.dumps(message).encode()))


def test_a_frame_over_the_limit_is_refused_from_its_length_alone() -> None:
    with pytest.raises(ControlError, match="limit"):
        Decoder().feed(struct.pack(">I", MAX_FRAME_BYTES + 1))


def test_nesting_that_would_exhaust_the_stack_is_refused() -> None:
    with pytest.raises(ControlError):
        Decoder().feed(_frame(b"[" * 100_000))


def test_a_number_too_long_to_read_is_refused() -> None:
    with pytest.raises(ControlError):
        Decoder().feed(_frame(b'{"v":' + b"9" * 10_000 + b"}"))


@pytest.mark.parametrize("body", [{"x": object()}, {"x": "y" * MAX_FRAME_BYTES}, {"x": {1, 2}}])
def test_what_json_cannot_say_is_refused_before_it_is_sent(body: dict[str, object]) -> None:
    with pytest.raises(ControlError):
        encode({"t": "notify", "body": body})


def test_numpy_values_are_sent_as_plain_numbers() -> None:
    frame = encode(
        {"t": "notify", "x": np.float32(1.5), "y": np.arange(3, dtype=np.uint16), "z": np.bool_(True)}
    )
    assert json.loads(frame[4:]) == {"v": VERSION, "t": "notify", "x": 1.5, "y": [0, 1, 2], "z": True}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (WriteRejectedError("too high", status=BAD_OUT_OF_RANGE), BAD_OUT_OF_RANGE),
        (WriteRejectedError("a programmer's slip", status=GOOD), BAD_INTERNAL_ERROR),
        (DeviceRefusedError("no", status=BAD_OUT_OF_RANGE), BAD_OUT_OF_RANGE),
        (DeviceTimeoutError("late"), BAD_TIMEOUT),
        (DeviceError("gone"), BAD_COMMUNICATION_ERROR),
        (ConfigError("wrong"), BAD_CONFIGURATION_ERROR),
        (ModelError("bad"), BAD_INTERNAL_ERROR),
        (EdgeError("else"), BAD_INTERNAL_ERROR),
    ],
)
def test_an_error_of_ours_is_told_with_its_status_and_reason(error: EdgeError, status: int) -> None:
    assert refusal(error) == Reply(status, str(error))


def test_the_reason_of_a_security_refusal_stays_inside() -> None:
    reply = refusal(SecurityError("thumbprint 12AB is on the reject list"))
    assert (reply.status, reply.reason) == (BAD_USER_ACCESS_DENIED, "not allowed")

"""Faults become a code with a page, a sentence, and the next physical step."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from edge_opcua.config.codes import codes
from edge_opcua.drivers import reasons
from edge_opcua.drivers.modbus import reasons as modbus
from edge_opcua.drivers.reasons import Reason, of_serial, of_socket, parts_of
from edge_opcua.drivers.wire import FaultKind


def all_reasons() -> list[Reason]:
    found = [value for module in (reasons, modbus) for value in vars(module).values()]
    return [value for value in found if isinstance(value, Reason)] + [
        told.reason for told in modbus.EXCEPTIONS.values()
    ]


@pytest.mark.parametrize("reason", all_reasons(), ids=lambda reason: f"{reason.code} {reason.sentence}")
def test_every_reason_has_a_page_and_a_step_and_fits_the_link_block(reason: Reason) -> None:
    assert reason.code in codes()
    assert reason.step
    told = reason.of("192.168.100.200:50200 unit 247 hr:65535")
    assert parts_of(told) == (
        reason.code,
        f"192.168.100.200:50200 unit 247 hr:65535 {reason.sentence}",
        reason.step,
    )
    assert len(told.encode()) <= 200  # what `last_error` of the link block holds


def os_error(number: int) -> OSError:
    return OSError(number, "said by the system")


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (os_error(errno.ECONNREFUSED), "D311"),
        (os_error(errno.ECONNRESET), "D313"),
        (os_error(errno.EPIPE), "D313"),
        (os_error(errno.EHOSTUNREACH), "D315"),
        (os_error(errno.ENETUNREACH), "D315"),
        (os_error(errno.ETIMEDOUT), "D310"),
        (TimeoutError(), "D310"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "D312"),
        (
            OSError(
                "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] Connect call"
            ),
            "D311",
        ),
        (os_error(errno.EMFILE), "D316"),
        (ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert"), "D307"),
        (ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred"), "D308"),
    ],
)
def test_a_socket_says_why(exc: OSError, code: str) -> None:
    assert of_socket(exc).code == code


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, "D300"),
        (errno.ENXIO, "D300"),
        (errno.EACCES, "D301"),
        (errno.EBUSY, "D302"),
        (errno.EAGAIN, "D302"),  # flock
        (errno.EINVAL, "D303"),
        (errno.ENOTTY, "D303"),
        (errno.EIO, "D304"),
        (errno.ENODEV, "D304"),
        (errno.EMFILE, "D316"),
    ],
)
def test_a_serial_port_says_why(number: int, code: str) -> None:
    assert of_serial(os_error(number)).code == code


def test_all_exceptions_of_the_protocol_mean_something() -> None:
    # Application protocol V1.1b3 §7: 1..6, 8, 10, 11; 7 comes from older devices, 9 is reserved.
    assert sorted(modbus.EXCEPTIONS) == list(range(1, 12))
    kinds = {code: told.kind for code, told in modbus.EXCEPTIONS.items()}
    assert [code for code, kind in kinds.items() if kind is FaultKind.ADDRESS] == [1, 2, 3]
    assert [code for code, kind in kinds.items() if kind is FaultKind.BUSY] == [5, 6]
    assert [code for code, kind in kinds.items() if kind is FaultKind.ABSENT] == [10, 11]
    assert modbus.refusal(77).kind is FaultKind.DEVICE
    assert "Modbus exception 77" in modbus.refusal(77).text("unit 1 hr:5", 77)


def test_a_text_without_a_code_is_an_answer_not_understood() -> None:
    assert parts_of("something odd")[:2] == ("D314", "something odd")

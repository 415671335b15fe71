"""Frames of Modbus: which answers are believed, which are late, which end a connection."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer.rtu import FramerRTU

from edge_opcua.drivers.modbus.framing import MAX_LATE, MbapFraming, RtuFraming, checksum
from edge_opcua.drivers.modbus.pdu import (
    Ask,
    ask_identity,
    ask_mask,
    ask_read,
    ask_write_bits,
    ask_write_registers,
    identity_objects,
)
from edge_opcua.errors import DeviceError


def mbap(key: int, unit: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", key, 0, len(pdu) + 1, unit) + pdu


def rtu(unit: int, pdu: bytes) -> bytes:
    body = bytes((unit,)) + pdu
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


def registers(*values: int) -> bytes:
    return bytes((3, 2 * len(values))) + struct.pack(f">{len(values)}H", *values)


def sent(framing: MbapFraming, *asks: Ask) -> dict[int, Ask]:
    return {framing.frame(ask)[0]: ask for ask in asks}


ONE = ask_read(1, "hr", 0, 1)
TWO = ask_read(2, "hr", 7, 2)


def test_the_checksum_is_that_of_the_standard() -> None:
    # Modbus over serial line V1.02, appendix B: low byte first; a frame every manual shows.
    assert checksum(bytes.fromhex("010300000001")) == bytes.fromhex("840a")
    assert RtuFraming().frame(ONE) == (0, bytes.fromhex("010300000001840a"))


def test_answers_are_matched_by_transaction_whatever_their_order() -> None:
    framing = MbapFraming()
    flying = sent(framing, ONE, TWO)
    first, second = flying
    answers = framing.feed(mbap(second, 2, registers(8, 9)) + mbap(first, 1, registers(5)), flying)
    assert answers == [(second, b"\0\x08\0\x09"), (first, b"\0\x05")]


@given(st.lists(st.integers(1, 40), max_size=12))
def test_answers_may_come_in_any_pieces(cuts: list[int]) -> None:
    framing = MbapFraming()
    flying = sent(framing, ONE, TWO)
    first, second = flying
    stream = mbap(first, 1, registers(5)) + mbap(second, 2, registers(8, 9))
    got = []
    for cut in [*cuts, len(stream)]:
        piece, stream = stream[:cut], stream[cut:]
        if piece:
            for key, answer in framing.feed(piece, flying):
                del flying[key]
                got.append(answer)
    assert got == [b"\0\x05", b"\0\x08\0\x09"]


def test_a_late_answer_is_dropped_and_counted_and_the_good_ones_live() -> None:
    # grid-x/modbus #78: one late reply, and every later one was taken for the next request's.
    framing = MbapFraming()
    flying = sent(framing, ONE, TWO)
    first, second = flying
    framing.expired(first, flying.pop(first))
    assert framing.feed(mbap(first, 1, registers(5)), flying) == []
    assert framing.strays.late == 1
    assert framing.feed(mbap(second, 2, registers(8, 9)), flying) == [(second, b"\0\x08\0\x09")]


def test_a_device_that_stays_out_of_step_costs_the_connection() -> None:
    framing = MbapFraming()
    for _ in range(MAX_LATE):
        flying = sent(framing, ONE)
        (key,) = flying
        framing.expired(key, ONE)
        assert framing.feed(mbap(key, 1, registers(5)), {}) == []
    (key,) = sent(framing, ONE)
    framing.expired(key, ONE)
    with pytest.raises(DeviceError, match="out of step"):
        framing.feed(mbap(key, 1, registers(5)), {})
    framing.reset()
    with pytest.raises(DeviceError, match="nobody had asked"):
        framing.feed(mbap(key, 1, registers(5)), {})


def test_an_unknown_transaction_is_a_lie_where_nothing_ever_timed_out() -> None:
    framing = MbapFraming()
    flying = sent(framing, ONE)
    with pytest.raises(DeviceError, match="transaction 77"):
        framing.feed(mbap(77, 1, registers(5)), flying)


def test_transaction_ids_go_round_without_zero() -> None:
    framing = MbapFraming()
    keys = {framing.frame(ONE)[0] for _ in range(65_535)}
    assert keys == set(range(1, 65_536))
    assert framing.frame(ONE)[0] == 1


@pytest.mark.parametrize(
    ("ask", "answer", "payload"),
    [
        (ONE, registers(5), b"\0\x05"),
        (ONE, b"\x83\x02", 2),
        (ask_read(1, "co", 0, 10), b"\x01\x02\xff\x03", b"\xff\x03"),
        (ask_write_registers(1, 5, [7]), struct.pack(">BHH", 6, 5, 7), b""),
        (ask_write_registers(1, 5, [7, 8]), struct.pack(">BHH", 16, 5, 2), b""),
        (ask_write_bits(1, 5, [True]), struct.pack(">BHH", 5, 5, 0xFF00), b""),
        (ask_mask(1, 5, 0xFF00, 3), struct.pack(">BHHH", 22, 5, 0xFF00, 3), b""),
        (ask_identity(1), b"\x2b\x0e\x01\x01\0\0\x01\0\x04ACME", b"\x01\0\0\x01\0\x04ACME"),
    ],
)
@given(cut=st.integers(1, 30))
def test_an_rtu_answer_ends_where_its_length_says(
    ask: Ask, answer: bytes, payload: bytes | int, cut: int
) -> None:
    framing = RtuFraming()
    framing.frame(ask)
    frame = rtu(1, answer)
    got = [*framing.feed(frame[:cut], {0: ask})]
    if frame[cut:]:
        assert got == []
        got = framing.feed(frame[cut:], {0: ask})
    assert got == [(0, payload)]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (rtu(1, registers(5))[:-1] + b"\0", "checksum"),
        (rtu(3, registers(5)), "unit 3"),
        (rtu(1, b"\x04\x02\0\x05"), "function 4"),
        (rtu(1, registers(5, 6)), "begins with"),
        (rtu(1, registers(5)) + b"\0", "follow"),
        (b"HTTP/1.1 400 Bad Request", "unit 72"),
    ],
)
def test_an_rtu_frame_that_cannot_be_the_answer_is_refused(frame: bytes, said: str) -> None:
    framing = RtuFraming()
    framing.frame(ONE)
    with pytest.raises(DeviceError, match=said):
        framing.feed(frame, {0: ONE})


def test_the_late_answer_of_a_unit_given_up_is_not_the_next_units() -> None:
    framing = RtuFraming()
    framing.frame(ONE)
    framing.expired(0, ONE)
    framing.frame(TWO)
    late = rtu(1, registers(5))
    assert framing.feed(late[:4], {0: TWO}) == []
    assert framing.feed(late[4:] + rtu(2, registers(8, 9)), {0: TWO}) == [(0, b"\0\x08\0\x09")]
    assert framing.strays.late == 1
    framing.frame(TWO)
    with pytest.raises(DeviceError, match="unit 1"):  # once is late, twice is a second master
        framing.feed(late, {0: TWO})


def test_a_late_answer_is_dropped_also_while_nobody_asks() -> None:
    framing = RtuFraming(noisy=False)
    framing.frame(ONE)
    late = rtu(1, registers(5))
    assert framing.feed(late[:3], {0: ONE}) == []
    framing.expired(0, ONE)
    assert framing.feed(late[3:5], {}) == []
    framing.frame(TWO)  # TCP loses nothing: the rest of it comes before the next answer
    assert framing.feed(late[5:] + rtu(2, registers(8, 9)), {0: TWO}) == [(0, b"\0\x08\0\x09")]
    assert framing.strays.late == 1
    with pytest.raises(DeviceError, match="nobody had asked"):
        framing.feed(late, {})


def test_an_echo_is_taken_off_and_a_wrong_one_is_a_fault() -> None:
    framing = RtuFraming(echo=True)
    _, out = framing.frame(ONE)
    assert framing.feed(out[:3], {0: ONE}) == []
    assert framing.feed(out[3:] + rtu(1, registers(5)), {0: ONE}) == [(0, b"\0\x05")]
    framing.frame(ONE)
    with pytest.raises(DeviceError, match="D355"):
        framing.feed(b"\x01\x03\x07", {0: ONE})


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_at_all_become_a_value_by_accident(noise: bytes, serial: bool) -> None:
    framing = RtuFraming() if serial else MbapFraming()
    key, _ = framing.frame(ONE)
    try:
        answers = framing.feed(noise, {key: ONE})
    except DeviceError:
        return
    for _, answer in answers:  # a right frame: then it says what was asked
        right = rtu(1, registers(0)) if serial else mbap(key, 1, registers(0))
        assert len(noise) == len(right) or isinstance(answer, int)


def test_an_identification_that_ends_too_early_is_refused() -> None:
    assert identity_objects(b"\x01\xff\x02\x01\0\x04ACME") == ({0: "ACME"}, 2)
    for broken in (b"\x01", b"\x01\0\0\x02\0\x04ACME", b"\x01\0\0\x01\0\x09ACME"):
        with pytest.raises(DeviceError, match="too early"):
            identity_objects(broken)

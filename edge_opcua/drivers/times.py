"""Dates and times as PLCs hold them, many at once: BCD, structures and counts of days or nanoseconds; pure.

Bytes are given and returned in the order of the standard, most significant first; byte orders are the
codec's business. A PLC's clock names no zone: what it says is taken as UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_opcua.core.ticks import EPOCH_TICKS, TICKS_PER_DAY, TICKS_PER_US, to_utc

Bytes: TypeAlias = npt.NDArray[np.uint8]
Numbers: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_DAYS_TO_1990: Final = 7305  # from 1970
_NS_PER_US: Final = 1000
_US_PER_MS: Final = 1000
_S5_BASES_MS: Final = (10, 100, 1_000, 10_000)
_S5_MOST: Final = 999
_FIRST_DTL_YEAR, _LAST_DTL_YEAR = 1970, 2554
_FIRST_DT_YEAR, _LAST_DT_YEAR = 1990, 2089


@dataclass(frozen=True, slots=True)
class TimeForm:
    """How one type is coded.

    Args:
        decode: Bytes, shape ``(n, size)``, to numbers and which of them are none, each ``(n,)``.
        encode: A number to bytes; ValueError if the type cannot hold it.
    """

    decode: Callable[[Bytes], tuple[Numbers, Flags]]
    encode: Callable[[int], bytes]


def _unsigned(raw: Bytes) -> Numbers:
    """Return big-endian integers of up to seven bytes."""
    found = np.zeros(len(raw), np.int64)
    for column in raw.T:
        found <<= 8
        found |= column
    return found


def _decimals(raw: Bytes) -> tuple[Numbers, Flags]:
    """Return two BCD digits a byte as numbers, same shape, and which are no digits."""
    high, low = (raw >> 4).astype(np.int64), (raw & 15).astype(np.int64)
    return 10 * high + low, (high > 9) | (low > 9)


def _days(year: Numbers, month: Numbers, day: Numbers) -> tuple[Numbers, Flags]:
    """Return days since 1970, and which dates do not exist."""
    wrong = (month < 1) | (month > 12)
    months = (year - 1970) * 12 + np.where(wrong, 0, month - 1)
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    following = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    found = first + day - 1
    return found, wrong | (day < 1) | (found >= following)


def _ticks(days: Numbers, us: Numbers, wrong: Flags) -> tuple[Numbers, Flags]:
    found = EPOCH_TICKS + days * TICKS_PER_DAY + us * TICKS_PER_US
    found[wrong] = 0
    return found, wrong


def _time_us(hour: Numbers, minute: Numbers, second: Numbers) -> tuple[Numbers, Flags]:
    """Return microseconds since midnight, and which times do not exist."""
    wrong = (hour > 23) | (minute > 59) | (second > 59)
    return ((hour * 60 + minute) * 60 + second) * 1_000_000, wrong


def _bcd(number: int) -> int:
    return number // 10 << 4 | number % 10


# --- DATE: days since 1990-01-01, UINT -------------------------------------------------------------------


def _date_from(raw: Bytes) -> tuple[Numbers, Flags]:
    days = _unsigned(raw) + _DAYS_TO_1990
    return _ticks(days, np.zeros(len(raw), np.int64), np.zeros(len(raw), np.bool_))


def _date_to(ticks: int) -> bytes:
    days, rest = divmod(ticks - EPOCH_TICKS, TICKS_PER_DAY)
    if rest or not 0 <= days - _DAYS_TO_1990 <= 0xFFFF:
        raise ValueError("DATE holds whole days from 1990-01-01 to 2169-06-06")
    return (days - _DAYS_TO_1990).to_bytes(2, "big")


# --- DATE_AND_TIME: eight BCD bytes; the last half-byte is the day of the week ------------------------------


def _dt_from(raw: Bytes) -> tuple[Numbers, Flags]:
    fields, wrong = _decimals(raw[:, :7])
    year, month, day, hour, minute, second, hundredths = fields.T
    last = (raw[:, 7] >> 4).astype(np.int64)
    days, no_date = _days(np.where(year < 90, 2000, 1900) + year, month, day)
    us, no_time = _time_us(hour, minute, second)
    us += (10 * hundredths + last) * _US_PER_MS
    no_digits = np.logical_or.reduce(wrong, axis=1)
    return _ticks(days, us, no_digits | (last > 9) | no_date | no_time)


def _dt_to(ticks: int) -> bytes:
    time = to_utc(ticks)
    if not _FIRST_DT_YEAR <= time.year <= _LAST_DT_YEAR:
        raise ValueError("DATE_AND_TIME holds 1990-01-01 to 2089-12-31")
    ms = time.microsecond // _US_PER_MS
    fields = (time.year % 100, time.month, time.day, time.hour, time.minute, time.second, ms // 10)
    return bytes((*map(_bcd, fields), ms % 10 << 4 | _weekday(time.isoweekday())))


def _weekday(iso: int) -> int:
    """Return the day of the week as a PLC counts it: 1 is Sunday."""
    return iso % 7 + 1


# --- DTL: year, month, day, weekday, hour, minute, second, nanosecond --------------------------------------


def _dtl_from(raw: Bytes) -> tuple[Numbers, Flags]:
    year, ns = _unsigned(raw[:, :2]), _unsigned(raw[:, 8:12])
    month, day, _, hour, minute, second = raw[:, 2:8].astype(np.int64).T
    wrong = (year < _FIRST_DTL_YEAR) | (year > _LAST_DTL_YEAR) | (ns > 999_999_999)
    days, no_date = _days(np.where(wrong, _FIRST_DTL_YEAR, year), month, day)
    us, no_time = _time_us(hour, minute, second)
    us += ns // _NS_PER_US
    return _ticks(days, us, wrong | no_date | no_time)


def _dtl_to(ticks: int) -> bytes:
    time = to_utc(ticks)
    if not _FIRST_DTL_YEAR <= time.year <= _LAST_DTL_YEAR:
        raise ValueError("DTL holds 1970-01-01 to 2554-12-31")
    head = (time.month, time.day, _weekday(time.isoweekday()), time.hour, time.minute, time.second)
    ns = time.microsecond * _NS_PER_US
    return time.year.to_bytes(2, "big") + bytes(head) + ns.to_bytes(4, "big")


# --- LDT: nanoseconds since 1970, LINT ---------------------------------------------------------------------


def _ldt_from(raw: Bytes) -> tuple[Numbers, Flags]:
    ns = np.ascontiguousarray(raw).view(">i8")[:, 0].astype(np.int64)
    return EPOCH_TICKS + ns // _NS_PER_US * TICKS_PER_US, np.zeros(len(raw), np.bool_)


def _ldt_to(ticks: int) -> bytes:
    ns = (ticks - EPOCH_TICKS) * (_NS_PER_US // TICKS_PER_US)
    if not -(1 << 63) <= ns < 1 << 63:
        raise ValueError("LDT holds times up to 2262-04-11")
    return ns.to_bytes(8, "big", signed=True)


# --- S5TIME: two bits of time base, three BCD digits -------------------------------------------------------


def _s5time_from(raw: Bytes) -> tuple[Numbers, Flags]:
    digits, wrong = _decimals(raw & np.array((0x0F, 0xFF), np.uint8))
    bases: Any = np.array(_S5_BASES_MS, np.int64)[raw[:, 0] >> 4 & 3]
    bad = wrong[:, 0] | wrong[:, 1]
    found = (100 * digits[:, 0] + digits[:, 1]) * bases
    found[bad] = 0
    return found, bad


def _s5time_to(ms: int) -> bytes:
    for index, base_ms in enumerate(_S5_BASES_MS):
        count, rest = divmod(ms, base_ms)
        if not rest and 0 <= count <= _S5_MOST:
            return bytes((index << 4 | count // 100, _bcd(count % 100)))
    raise ValueError("S5TIME holds 10 ms to 9 990 000 ms in three digits")


DATE: Final = TimeForm(_date_from, _date_to)
DATE_AND_TIME: Final = TimeForm(_dt_from, _dt_to)
DTL: Final = TimeForm(_dtl_from, _dtl_to)
LDT: Final = TimeForm(_ldt_from, _ldt_to)
S5TIME: Final = TimeForm(_s5time_from, _s5time_to)

"""The timing diagram of an output as SVG: the exchange, and what happens when the edge goes silent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal
from xml.sax.saxutils import escape

from edge_opcua.config.eai import PLC_HEARTBEAT_MS
from edge_opcua.ladder.facts import Facts
from edge_opcua.ladder.header import header

_RIM: Final = 'stroke="#ffffff" stroke-width="3" paint-order="stroke"'
_FONT: Final = 'font-family="sans-serif" font-size="12"'
_LEFT: Final = 230
_WIDTH: Final = 720
_ROW: Final = 30
_HIGH: Final = 18
_EDGE: Final = "#1f6fb2"
_PLC: Final = "#b2541f"
_HEAD: Final = 112
_GAP: Final = 92


@dataclass(frozen=True, slots=True)
class Wave:
    """One signal.

    Args:
        name: What it is called.
        who: Whose it is.
        steps: Times at which it changes, ms, and its level from then on, 0..1.
        starts: Its level before.
        slopes: Whether it moves from one level to the next instead of jumping.
    """

    name: str
    who: Literal["edge", "PLC"]
    steps: tuple[tuple[float, float], ...]
    starts: float = 0.0
    slopes: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A time with a name, between two moments, under a signal."""

    row: int
    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Signals over one axis of time.

    Args:
        title: What it shows.
        end: Length of the axis, ms.
        waves: The signals, from the top.
        spans: The times.
        moments: What happens when: ms and text.
    """

    title: str
    end: float
    waves: tuple[Wave, ...]
    spans: tuple[Span, ...]
    moments: tuple[tuple[float, str], ...]


def timing(facts: Facts) -> str:
    """Return the diagram."""
    panels = (_triggered(facts) if facts.mode == "triggered" else _streaming(facts), _silent(facts))
    height = _HEAD + sum(len(panel.waves) * _ROW + _GAP for panel in panels)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 30} {height}" {_FONT}>',
        "<!--",
        *(line.replace("--", "-") for line in header(facts, "the timing")),
        "-->",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        _text(12, 22, f"{facts.block}: mode {facts.mode}, interface version {facts.map.version}", size=15),
        _text(
            12, 42, "blue: the edge writes; brown: the PLC writes or decides. Times are the configured ones."
        ),
    ]
    top = _HEAD
    for panel in panels:
        lines += _panel(panel, top)
        top += len(panel.waves) * _ROW + _GAP
    return "\n".join([*lines, "</svg>"]) + "\n"


def _beats(
    period: float, until: float, *, since: float = 0.0, first: int = 0
) -> tuple[tuple[float, float], ...]:
    """Return a signal that changes with each heartbeat, up with the even ones."""
    count = int((until - since) / period) + 1
    return tuple((since + index * period, float((first + index) % 2 == 0)) for index in range(count))


def _triggered(facts: Facts) -> Panel:
    """Trigger, ack, valid, ack; and what each wait is bounded by."""
    ack_ms = facts.map.interface.ack_timeout_ms
    poll, scan = float(facts.map.interface.poll_ms), facts.plc_scan_ms
    asked = scan
    took = asked + poll
    valid = took + (facts.result_ms - ack_ms) / 4
    taken = valid + scan
    dropped = taken + poll
    end = asked + facts.result_ms + 2 * scan
    pulse = 2 * scan
    waves = (
        Wave("Trigger (input)", "PLC", ((asked, 1.0), (dropped, 0.0))),
        Wave("Ctrl.Trigger, TriggerSeq = n", "PLC", ((asked, 1.0), (took + scan, 0.0))),
        Wave("Stat.TriggerReady", "edge", ((took, 0.0), (dropped + scan, 1.0)), starts=1.0),
        Wave("Stat.TriggerAck", "edge", ((took, 1.0), (took + scan + poll, 0.0))),
        Wave("Stat.ResultsValid, ResultSeq = n", "edge", ((valid, 1.0), (dropped, 0.0))),
        Wave("Done", "PLC", ((taken, 1.0), (taken + pulse, 0.0))),
        Wave("Ctrl.ResultsAck", "PLC", ((taken, 1.0), (dropped + scan, 0.0))),
        Wave("Busy", "PLC", ((asked, 1.0), (dropped + scan, 0.0))),
    )
    spans = (
        Span(4, asked, asked + facts.result_ms, f"no result within {facts.result_ms} ms: ErrorId 901"),
        Span(
            6, taken, taken + ack_ms, f"no answer within {ack_ms} ms: ErrorId 900, and the edge takes it back"
        ),
    )
    return Panel("The handshake", end, waves, spans, ((asked, "asked"), (taken, "taken")))


def _streaming(facts: Facts) -> Panel:
    beat, scan = float(facts.heartbeat_ms), facts.plc_scan_ms
    end = 8 * beat
    results = (1.5 * beat, 4.5 * beat)
    waves = (
        Wave("EdgeHeartbeat", "edge", _beats(beat, end)),
        Wave("EchoEdgeHeartbeat", "PLC", _beats(beat, end, since=scan)),
        Wave("PlcHeartbeat", "PLC", _beats(PLC_HEARTBEAT_MS, end, since=0.3 * PLC_HEARTBEAT_MS)),
        Wave("ResultSeq, results, tail", "edge", tuple((at, float(i == 0)) for i, at in enumerate(results))),
        Wave(
            "NewResult (one scan)",
            "PLC",
            tuple(
                step
                for at in results
                for step in ((at + scan / 2, 1.0), (at + max(1.5 * scan, 0.01 * end), 0.0))
            ),
        ),
    )
    spans = (
        Span(0, 0.0, beat, f"{facts.heartbeat_ms} ms"),
        Span(2, 0.3 * PLC_HEARTBEAT_MS, 1.3 * PLC_HEARTBEAT_MS, f"{PLC_HEARTBEAT_MS} ms"),
    )
    return Panel(
        "Results as they come",
        end,
        waves,
        spans,
        tuple((at, f"result {i + 1}") for i, at in enumerate(results)),
    )


def _silent(facts: Facts) -> Panel:
    """The edge freezes, comes back, asks for an acknowledge and gets it."""
    beat, scan, timeout = float(facts.heartbeat_ms), facts.plc_scan_ms, float(facts.plc_timeout_ms)
    last = 4 * beat
    lost = last + scan + timeout
    back = lost + 0.5 * timeout
    asks = back + facts.recover_ms
    acked = asks + 2 * beat
    used = acked + 2 * beat
    end = used + 4 * beat
    waves = (
        Wave("EdgeHeartbeat", "edge", (*_beats(beat, last), *_beats(beat, end, since=asks, first=5))),
        Wave("CommOk", "PLC", ((lost, 0.0), (asks + scan, 1.0)), starts=1.0),
        Wave("Stat.AuthorityActive", "edge", ((back, 0.0), (used, 1.0)), starts=1.0),
        Wave("Stat.FailSafeActive", "edge", ((back, 1.0), (asks, 0.0))),
        Wave("Stat.AckRequired", "edge", ((asks, 1.0), (acked + beat, 0.0))),
        Wave("OpAck", "PLC", ((acked, 1.0), (acked + beat, 0.0))),
        Wave("AckReq, Ctrl.Latched", "PLC", ((lost, 1.0), (acked, 0.0))),
        Wave("InUse", "PLC", ((lost, 0.0), (used + scan, 1.0)), starts=1.0),
        Wave(
            "Out (its slope: rate_per_s)",
            "PLC",
            ((lost, 1.0), (lost + 0.6 * facts.recover_ms, 0.0), (used + scan, 0.0), (end, 0.6)),
            starts=1.0,
            slopes=True,
        ),
    )
    spans = (
        Span(1, last, lost, f"plc_timeout {facts.plc_timeout_ms} ms + {scan:g} ms"),
        Span(3, back, asks, f"recover_hold {facts.recover_ms:g} ms without a fault"),
    )
    moments = ((last, "frozen"), (lost, "falls safe"), (back, "runs again"), (acked, "acknowledged"))
    return Panel("The edge goes silent", end, waves, spans, moments)


def _panel(panel: Panel, top: int) -> Iterator[str]:
    bottom = top + len(panel.waves) * _ROW
    yield _text(12, top - 40, panel.title, size=14)
    for number, (at, text) in enumerate(panel.moments):
        x = _x(panel, at)
        yield f'<path d="M{x} {top - 6}V{bottom}" stroke="#999999" stroke-dasharray="3 3"/>'
        yield _text(x, top - 10 - 13 * (number % 2), text, anchor="middle", fill="#444444")
    for row, wave in enumerate(panel.waves):
        base = top + row * _ROW + _HIGH + 5
        color = _EDGE if wave.who == "edge" else _PLC
        yield _text(_LEFT - 10, base - 3, wave.name, anchor="end", fill=color)
        points = _points(panel, wave, base)
        yield f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{points}"/>'
    for span in panel.spans:
        yield from _span(panel, span, top)
    yield f'<line x1="{_LEFT}" y1="{bottom + 6}" x2="{_LEFT + _WIDTH}" y2="{bottom + 6}" stroke="#000000"/>'
    for at in _ticks(panel.end):
        x = _x(panel, at)
        yield f'<path d="M{x} {bottom + 6}v4" stroke="#000000"/>'
        yield _text(x, bottom + 23, f"{at:g} ms", anchor="middle")


def _ticks(end: float) -> Iterator[float]:
    """Yield four to ten round numbers from 0 to the end."""
    decade = 10.0 ** math.floor(math.log10(end))
    apart = next(decade * part for part in (0.1, 0.2, 0.5, 1.0, 2.0) if end / (decade * part) < 10)
    yield from (round(index * apart, 6) for index in range(int(end / apart) + 1))


def _points(panel: Panel, wave: Wave, base: float) -> str:
    points = [(0.0, wave.starts)]
    level = wave.starts
    for at, target in wave.steps:
        if at > panel.end:
            break
        if not wave.slopes:
            points.append((at, level))
        points.append((at, target))
        level = target
    points.append((panel.end, level))
    return " ".join(f"{_x(panel, at)},{base - _HIGH * high:g}" for at, high in points)


def _span(panel: Panel, span: Span, top: int) -> Iterator[str]:
    y = top + span.row * _ROW + _HIGH + 9
    start, end = _x(panel, span.start), _x(panel, min(span.end, panel.end))
    yield f'<path d="M{start} {y - 3}v6M{start} {y}H{end}M{end} {y - 3}v6" stroke="#000000" fill="none"/>'
    has_room = end < _LEFT + 0.6 * _WIDTH
    yield _text(end + 6 if has_room else end - 6, y - 6, span.text, anchor="start" if has_room else "end")


def _x(panel: Panel, at: float) -> float:
    return round(_LEFT + _WIDTH * at / panel.end, 1)


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", fill: str = "#000000"
) -> str:
    """Return a text with a white rim, so that it can be read across a line."""
    look = f'font-size="{size}" text-anchor="{anchor}" fill="{fill}"'
    return f'<text x="{round(x, 1)}" y="{y}" {look} {_RIM}>{escape(text)}</text>'

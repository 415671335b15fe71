"""``status`` and ``watch``: what the running server says of itself, for a person or as JSON.

Without a server ``watch FILE`` polls the devices itself.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_opcua.app.command.look import printable
from edge_opcua.app.command.modeltext import job_line, model_line, model_notes, print_alarms
from edge_opcua.app.command.outputtext import output_line, output_notes
from edge_opcua.app.command.planned import problem_of
from edge_opcua.app.command.selfwatch import OwnPolling
from edge_opcua.app.command.tell import duration
from edge_opcua.config.loader import load
from edge_opcua.config.report import problems_text, render
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import Reply, ask
from edge_opcua.core.localsocket import connect_unix
from edge_opcua.core.logs import silenced
from edge_opcua.core.statedir import StateDir, state_option
from edge_opcua.core.values import is_good, status_name
from edge_opcua.drivers.linkstate import State
from edge_opcua.errors import ConfigError, ControlError
from edge_opcua.security.trust import TrustList

NOT_RUNNING = 4
WRONG_USE = 2
ANSWER_S = 3.0
REFRESH_S = 0.5
FIRST_S = 2.0
_NO_LINK = (State.OFFLINE.name, State.DEMOTED.name)
_TRYING = (State.CONNECTING.name, State.RECOVERING.name)  # may end either way: nothing is back yet
_CLEAR = "\x1b[H\x1b[J"


def status(state_dir: Path, *, as_json: bool) -> int:
    """Print what the server on this state directory does; exit code 4 if none runs, 1 if it has faults."""
    _look_at(StateDir(state_dir).control_socket)
    reply = asyncio.run(ask_server(state_dir, "status"))
    if reply is None:
        return NOT_RUNNING
    knocks = TrustList(StateDir(state_dir).pki).rejected()
    body = {**reply.body, "knocks": [{"name": k.name, "when": k.when.isoformat()} for k in knocks]}
    text = json.dumps(body) if as_json else status_text(body, state_option(state_dir))
    sys.stdout.write(text + "\n")
    return 1 if body["faults"] else 0


def watch(state_dir: Path, file: Path | None, *, bad: bool, as_json: bool, for_s: float | None) -> int:
    """Show live values until interrupted or for ``for_s`` seconds; off a terminal, one line per change.

    Args:
        state_dir: State directory; the server that runs there is asked.
        file: Configuration whose devices are polled by this command if no server runs.
        bad: Only what is not Good.
        as_json: JSON Lines.
        for_s: How long, seconds; None: until interrupted.

    Returns:
        0; 2 if the file is wrong, 4 if no server runs and no file was named.
    """
    socket = StateDir(state_dir).control_socket
    _look_at(socket)
    shown = Shown(bad, as_json, for_s)
    if server_answers(socket):
        if file is not None:
            sys.stderr.write(f"a server runs on {state_dir}: what it has is shown, {file} is not read\n")
            sys.stderr.flush()
        return asyncio.run(_watch(lambda: _snapshot(state_dir, bad=bad), shown))
    if file is None:
        return asyncio.run(_watch(lambda: _snapshot(state_dir, bad=bad), shown))
    return _watch_file(file, state_dir, shown)


def server_answers(socket: Path) -> bool:
    """Return whether a server listens on a control socket."""
    try:
        connect_unix(socket).close()
    except ControlError:
        return False
    return True


def _watch_file(file: Path, state_dir: Path, shown: Shown) -> int:
    loaded = load(file)
    if loaded.config is None:
        sys.stderr.write(f"{problems_text(loaded)}\n")
        return WRONG_USE
    try:
        polling = OwnPolling(loaded.config, SystemClock(), state_dir)
    except ConfigError as exc:  # what only a driver notices, e.g. two baud rates for one port
        sys.stderr.write(f"{render([problem_of(loaded, exc)])}\n")
        return WRONG_USE
    sys.stderr.write(
        f"no server runs on {state_dir}: {file} is polled from here; nothing is served or written\n"
    )
    sys.stderr.flush()

    async def work() -> int:
        async def take() -> dict[str, Any]:
            return polling.snapshot(bad=shown.bad)

        async with polling.running():
            await polling.first_values(FIRST_S)
            return await _watch(take, shown)

    with silenced():  # what happens to links is shown
        return asyncio.run(work())


def _look_at(place: Path) -> None:
    """Let a directory that is somebody else's be told as that, not as one without a server.

    Raises:
        PermissionError: Only its owner may look there.
    """
    place.exists()


async def ask_server(state_dir: Path, kind: str, body: dict[str, Any] | None = None) -> Reply | None:
    """Ask the server; None, with the reason on stderr, if it does not run or does not answer."""
    place = StateDir(state_dir).control_socket
    reply = await ask(place, "supervisor", kind, body or {}, timeout_s=ANSWER_S)
    if is_good(reply.status):
        return reply
    sys.stderr.write(
        f"no server runs on the state directory {state_dir} ({reply.reason})\n"
        "help: start one with edge-opcua run FILE, or name its directory with --state DIR;"
        " edge-opcua watch FILE polls by itself\n"
    )
    return None


def status_text(body: Mapping[str, Any], option: str = "") -> str:
    """Return the answer to ``status`` as a page for people.

    Args:
        body: The answer.
        option: What a suggested command needs to mean this server.
    """
    endpoints = ", ".join(body["endpoints"]) or "not listening yet"
    lines = [
        f"{body['machine']}  running {duration(body['uptime_s'])}   OPC UA {endpoints}",
        f"certificate  {body['thumbprint'] or 'not known yet'}",
    ]
    lines += [_link_line(link) for link in body["links"]]
    for row in body["pipelines"]:
        lines += [_pipeline_line(row), *filter(None, [model_line(row)])]
    lines += filter(None, [job_line(body.get("last_job"))])
    lines += [output_line(row, option) for row in body["outputs"]]
    records = body["records"]
    if records:
        lines.append(
            f"records  {records.get('written', 0)} written, {records.get('spooled', 0)} waiting, "
            f"{records.get('lost', 0)} lost{_because(records.get('fault'))}"
        )
    lines += filter(None, [_windows_line(body.get("windows"))])
    lines.append("processes  " + "  ".join(_process_text(row) for row in body["processes"]))
    sessions = body["sessions"]
    names = ", ".join(_session_text(session) for session in sessions)
    level = body.get("service_level")
    lines.append(f"clients  {len(sessions)}" + (f": {names}" if names else ""))
    lines += [f"service level  {level}{_because(level_text(level))}"] if level is not None else []
    knocks = body["knocks"]
    if knocks:
        waiting = ", ".join(f"{k['name']} (refused {k['when'][11:19]})" for k in knocks)
        lines.append(f"waiting for trust  {len(knocks)}: {waiting}, see edge-opcua trust{option}")
    lines += [f"attention  {f['source']}: {f['text']} ({f['code']})" for f in body["faults"]]
    return "\n".join(lines)


def level_text(level: int) -> str:
    """Return what is the case at a ServiceLevel, in words."""
    return {
        0: "shutting down",
        1: "no device can be read",
        100: "at least one device cannot be read",
        150: "at least one pipeline does not judge",
        199: "results and audit do not reach the disk",
    }.get(level, "")


def _session_text(session: Mapping[str, Any]) -> str:
    every = f", {session['interval_ms']:g} ms" if session["interval_ms"] else ""
    user = f"{session['user']} with " if session.get("user") else ""
    rights = ", ".join(_granted(session.get("roles", ()))) or "no role"
    policy = session.get("policy") or "no security"
    return (
        f"{user}{session['client']} from {session['address']} "
        f"({rights}; {policy}; {session['items']} items{every})"
    )


def _granted(roles: Iterable[str]) -> list[str]:
    """Return the roles that somebody was given; the other two everybody has."""
    return [role for role in roles if role not in ("Anonymous", "AuthenticatedUser")]


def _windows_line(windows: Mapping[str, Any] | None) -> str:
    """Return how much is kept of what the models judged; empty if nothing is."""
    if not windows or not (windows.get("kept") or windows.get("fault")):
        return ""
    lost = f", {windows['lost']} lost" if windows.get("lost") else ""
    return (
        f"windows  {windows.get('kept', 0)} kept, {windows.get('answered', 0)} answered, "
        f"{(windows.get('bytes') or 0) / 1e6:.0f} MB{lost}{_because(windows.get('fault'))}"
    )


def _because(text: object) -> str:
    return f"   {text}" if text else ""


def _link_line(link: Mapping[str, Any]) -> str:
    rtt = link.get("rtt_ms")
    speed = f"   {rtt:.1f} ms" if isinstance(rtt, float) else ""
    return (
        f"{link['device']}  {link.get('state_text') or 'starting'}   {link['driver']}{speed}   "
        f"{link.get('values_good') or 0} good, {link.get('values_bad') or 0} bad   "
        f"{link.get('reconnects') or 0} reconnects{_because(_trouble(link))}"
    )


def _trouble(link: Mapping[str, Any]) -> str:
    """Return what the device says of itself now; else what is or, behind a link that works, was wrong."""
    notice, error = link.get("notice"), link.get("last_error")
    if notice or not error:
        return str(notice or "")
    return f"last: {error}" if link.get("state_text") == State.ONLINE.name else str(error)


def _pipeline_line(row: Mapping[str, Any]) -> str:
    lane, last, model = row["lane"], row["last"], row["model"]
    text = f"{row['pipeline']}  {model['name']} {model['version']}  {lane.get('state') or 'not running'}"
    if row["verdict"] is not None and last.get("score") is not None:
        text += f"   last verdict {row['age_s']:.1f} s ago: {row['verdict']} {last['score']:.2f}"
    elif row["verdict"] is not None:
        text += f"   last verdict {row['age_s']:.1f} s ago: {row['verdict']}{_because(last.get('reason'))}"
    return (
        f"{text}   {lane.get('processed') or 0} judged, "
        f"{lane.get('missed') or 0} missed, {lane.get('late') or 0} late"
    )


def _process_text(row: Mapping[str, Any]) -> str:
    restarts = f" ({row['restarts']} restarts)" if row["restarts"] else ""
    return f"{row['role']} {row['pid'] or 'restarting'}{restarts}"


@dataclass(frozen=True, slots=True)
class Shown:
    """How ``watch`` shows values.

    Args:
        bad: Only what is not Good.
        as_json: JSON Lines.
        for_s: How long, seconds; None: until interrupted.
    """

    bad: bool
    as_json: bool
    for_s: float | None


async def _watch(take: Callable[[], Awaitable[dict[str, Any] | None]], shown: Shown) -> int:
    clock = SystemClock()
    ends_s = None if shown.for_s is None else clock.monotonic_s() + shown.for_s
    live = sys.stdout.isatty() and not shown.as_json
    seen: dict[str, tuple[object, object]] = {}
    faults: dict[str, str] = {}
    notes: dict[str, str] = {}
    alarms: dict[str, str] = {}
    while ends_s is None or clock.monotonic_s() < ends_s:
        started_s = clock.monotonic_s()
        body = await take()
        if body is None:
            return NOT_RUNNING
        if live:
            size = shutil.get_terminal_size()
            lines = fitting(watch_table(body, body["rows"], size.columns), size.lines - 1)
            sys.stdout.write(_CLEAR + "\n".join(lines) + "\n")
        else:
            _print_faults(body["links"], faults)
            _print_notes(body.get("outputs", ()), notes)
            print_alarms(body.get("models", ()), alarms)
            _print_changes(body["rows"], seen, as_json=shown.as_json)
        sys.stdout.flush()
        # A large plant takes seconds to be read; the server shall have time for others.
        await clock.sleep(max(REFRESH_S, clock.monotonic_s() - started_s))
    return 0


async def _snapshot(state_dir: Path, *, bad: bool) -> dict[str, Any] | None:
    """Return all pages of a snapshot as one; None if the server does not answer."""
    rows: list[dict[str, Any]] = []
    following: int | None = 0
    while True:
        reply = await ask_server(state_dir, "snapshot", {"from": following, "only_bad": bad})
        if reply is None:
            return None
        rows += reply.body["rows"]
        following = reply.body.get("next")
        if following is None:
            return {**reply.body, "rows": rows}


def _print_changes(
    rows: Sequence[Mapping[str, Any]], seen: dict[str, tuple[object, object]], *, as_json: bool
) -> None:
    for row in rows:
        now = (row["value"], row["status"])
        if seen.get(row["id"]) != now:
            seen[row["id"]] = now
            line = json.dumps(row) if as_json else "  ".join(_cells(row))
            sys.stdout.write(line + "\n")


def watch_table(body: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """Return the lines of the live table, cut to the terminal's width; the right-most columns go first."""
    at = datetime.fromtimestamp(body["utc_ns"] / 1e9, UTC).strftime("%H:%M:%S")
    links = "   ".join(f"{link['device']} {link.get('state_text') or 'starting'}" for link in body["links"])
    outputs = body.get("outputs", ())
    states = "".join(f"   output {row['output']} {row.get('state') or 'starting'}" for row in outputs)
    lines = [f"{body['machine']} {at} UTC   {links}{states}"]
    lines += [f"{device}  {fault}" for device, fault in link_faults(body["links"]).items()]
    lines += [f"{output}  {note}" for output, note in output_notes(outputs).items()]
    lines += [f"{pipeline}  {alarm}" for pipeline, alarm in model_notes(body.get("models", ())).items()]
    header = (" ", "TAG", "VALUE", "UNIT", "QUALITY", "AGE", "SOURCE TIME")
    table = [header, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(header))]
    lines += [
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in table
    ]
    return [line[:width] for line in lines]


def fitting(lines: Sequence[str], height: int) -> Sequence[str]:
    """Return as many lines as a screen has, the last one saying how many more there are."""
    if len(lines) <= height:
        return lines
    shown = max(1, height - 1)
    return [*lines[:shown], f"… {len(lines) - shown} more rows; --bad shows only what is not Good"]


def link_faults(links: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return, by device, why there is no link to it; also while another attempt to connect is made."""
    return {
        link["device"]: f"no link: {printable(link.get('last_error') or 'not yet')}"
        for link in links
        if link.get("state_text") in _NO_LINK
        or (link.get("state_text") == State.CONNECTING.name and link.get("last_error"))
    }


def _print_faults(links: Sequence[Mapping[str, Any]], known: dict[str, str]) -> None:
    """Say on stderr which links were lost or came back since the last time."""
    trying = {link["device"] for link in links if link.get("state_text") in _TRYING}
    now = {device: text for device, text in known.items() if device in trying} | link_faults(links)
    for device in {**known, **now}:
        if now.get(device) != known.get(device):
            sys.stderr.write(f"{device}  {now.get(device, 'link is back')}\n")
            sys.stderr.flush()
    known.clear()
    known.update(now)


def _print_notes(outputs: Iterable[Mapping[str, Any]], known: dict[str, str]) -> None:
    """Say on stderr what is to be done about which output, as far as it is new."""
    now = output_notes(outputs)
    for output in {**known, **now}:
        if now.get(output) != known.get(output):
            sys.stderr.write(f"{output}  {now.get(output, 'acts as it should')}\n")
            sys.stderr.flush()
    known.clear()
    known.update(now)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    status = row["status"]
    mark = "x" if status is None or status & 0x80000000 else "?" if status & 0x40000000 else " "
    quality = "no data yet" if status is None else status_name(status)
    source_ns, age_s = row.get("source_ns"), row.get("age_s")
    stamp = datetime.fromtimestamp(source_ns / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3] if source_ns else "-"
    return (
        mark,
        row["id"],
        value_text(row["value"]),
        row.get("unit") or "",
        quality,
        f"{age_s:.1f} s" if age_s is not None else "-",
        stamp,
    )


def value_text(value: object) -> str:
    """Return a value as a person reads it; a dash for none (Bad has no value)."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"[{len(value)}]"
    return str(value)

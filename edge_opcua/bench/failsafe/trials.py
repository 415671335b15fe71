"""One trial for each thing that can fail: break it, see when the PLC falls safe, mend it, acknowledge."""

from __future__ import annotations

import re
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from edge_opcua.bench.failsafe.rig import OUTPUT, Rig, signal_all
from edge_opcua.config.loader import load
from edge_opcua.config.reaction import reactions
from edge_opcua.errors import EdgeError

RATE_PER_S: Final = 2.0
SCAN_S: Final = 0.020
SILENT_S: Final = 0.7
"""How long a process is frozen, and how long an unacknowledged PLC is watched."""

_CAPTURE_S: Final = 0.2
_BEFORE_READY_S: Final = 0.02
_LATE_S: Final = 0.14
_LATE_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault.

    Args:
        name: For people.
        promised: What `check` calls it.
        begin: Breaks it and returns when, monotonic ns.
        mend: Mends it.
        faults: What the output says of it, one of them; empty where it is dead, or nothing is wrong with it.
        in_plc: Whether the fault begins where the PLC sees it, not where it was begun.
    """

    name: str
    promised: str
    begin: Callable[[Rig], Awaitable[int]]
    mend: Callable[[Rig], Awaitable[None]]
    faults: frozenset[str] = frozenset()
    in_plc: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What the PLC saw of a trial.

    Args:
        reaction_ms: From the fault to the scan in which the PLC stopped using the edge.
        silence_ms: How long the PLC had heard no new heartbeat by then.
        late_ms: What the PLC's longest scan took beyond its cycle time: so much later it may react.
        fastest_per_s: Fastest change of Out, until the edge was in use again and had given a result.
        latched: Whether it still waited for an acknowledge long after the fault was gone.
        reason: What the output said.
    """

    reaction_ms: float
    silence_ms: float
    late_ms: float
    fastest_per_s: float
    latched: bool
    reason: str


def promised_ms(rig: Rig) -> dict[str, float]:
    """Return the worst case of each fault as `check` prints it, ms.

    Raises:
        EdgeError: The configuration is not right.
    """
    config = load(rig.config, env=rig.environment).config
    if config is None:
        raise EdgeError(f"{rig.config} is not right")
    output = next(each for each in config.outputs if each.name == OUTPUT)
    return {reaction.fault: reaction.total_ms for reaction in reactions(config, output)}


async def measure(rig: Rig, trial: Trial) -> Seen:
    """Do a trial and bring the line back into use.

    Raises:
        EdgeError: The line does not come into use, does not fall safe, or does not come back.
    """
    await in_use(rig)
    await _settled(rig)
    falls = (await reaction(rig))["falls"]
    await rig.cell.forget_reaction()
    began_ns = await trial.begin(rig)

    async def fell() -> bool:
        return bool((await reaction(rig))["falls"] > falls)

    await rig.until(fell, f"{trial.name}: the PLC falls safe")
    found = await reaction(rig)
    reason = await _reason(rig, trial) if trial.faults else ""
    await trial.mend(rig)
    latched = await _stays_latched(rig, falls + 1)
    await in_use(rig)
    await _settled(rig)
    if trial.in_plc:
        began_ns = found["revoked_ns"]
    return Seen(
        reaction_ms=(found["fell_ns"] - began_ns) / 1e6,
        silence_ms=found["silence_ms"] or 0.0,
        late_ms=max(0.0, found["longest_scan_ms"] - 1000 * SCAN_S),
        fastest_per_s=(await reaction(rig))["fastest_per_s"],
        latched=latched,
        reason=reason,
    )


async def reaction(rig: Rig) -> dict[str, Any]:
    """Return what the PLC's program keeps of its reactions."""
    found: dict[str, Any] = (await rig.cell.truth())["reaction"]
    return found


async def in_use(rig: Rig) -> None:
    """Be the person the line waits for, until the PLC uses the edge."""

    async def used() -> bool:
        if (await rig.cell.truth())["edge_trusted"]:
            return True
        if (await rig.output()).get("state") == "ACK_REQUIRED":
            await rig.write("ack_edge", value=True)
        return False

    await rig.until(used, "the PLC uses the edge")


async def _settled(rig: Rig) -> None:
    """Wait until the ramp is over and a stroke was judged: what is measured is the fault, not the start."""
    await rig.clock.sleep(SILENT_S)


async def _reason(rig: Rig, trial: Trial) -> str:
    """Return what the output says of its fault, which the PLC may have noticed before it."""
    row: dict[str, Any] = {}

    async def said() -> bool:
        row.update(await rig.output())
        return row["fault"] in trial.faults

    await rig.until(said, f"{trial.name}: the output says {' or '.join(sorted(trial.faults))}")
    return f"{row['fault']}: {row['reason']}"


async def _stays_latched(rig: Rig, falls: int) -> bool:
    """Return whether the PLC waits for an acknowledge although the edge is well again, and uses nothing."""

    async def waits() -> bool:
        return (await rig.output()).get("state") == "ACK_REQUIRED"

    await rig.until(waits, "the output waits for an acknowledge")
    await rig.clock.sleep(SILENT_S)
    truth = await rig.cell.truth()
    unused = not truth["edge_trusted"] and truth["ack_required"]
    return bool(unused and truth["reaction"]["falls"] == falls)


# --- what can fail -----------------------------------------------------------------------------------


async def _freeze_all(rig: Rig) -> int:
    pids = [rig.server.pid, *(await rig.pids()).values()]
    began_ns = rig.clock.monotonic_ns()
    signal_all(pids, signal.SIGSTOP)
    rig.frozen = pids
    return began_ns


async def _thaw(rig: Rig) -> None:
    signal_all(rig.frozen, signal.SIGCONT)
    rig.frozen = []


async def _kill_io(rig: Rig) -> int:
    pid = (await rig.pids())["io"]
    began_ns = rig.clock.monotonic_ns()
    signal_all([pid], signal.SIGKILL)
    return began_ns


async def _freeze_lane(rig: Rig) -> int:
    rig.frozen = [pid for role, pid in (await rig.pids()).items() if role.startswith("lane/")]
    began_ns = rig.clock.monotonic_ns()
    signal_all(rig.frozen, signal.SIGSTOP)
    return began_ns


async def _cut(rig: Rig) -> int:
    began_ns = rig.clock.monotonic_ns()
    await rig.cell.link("press", "freeze")
    return began_ns


async def _mend_press(rig: Rig) -> None:
    await rig.cell.link("press", "pass")


async def _be_late(rig: Rig) -> int:
    """Freeze the lane from just before a capture is ready until its result is late, but not for longer."""
    lanes = [pid for role, pid in (await rig.pids()).items() if role.startswith("lane/")]
    for _ in range(_LATE_TRIES):
        stroke = (await rig.cell.truth())["stroke"]
        falls = (await reaction(rig))["falls"]
        while (await rig.cell.truth())["stroke"] == stroke:
            await rig.clock.sleep(0.002)
        await rig.clock.sleep(_CAPTURE_S - _BEFORE_READY_S)
        ready_ns = rig.clock.monotonic_ns() + round(_BEFORE_READY_S * 1e9)
        signal_all(lanes, signal.SIGSTOP)
        await rig.clock.sleep(_BEFORE_READY_S + _LATE_S)
        signal_all(lanes, signal.SIGCONT)
        await rig.clock.sleep(_LATE_S)
        if (await reaction(rig))["falls"] > falls:
            # It is late from the end of its deadline on; what is measured begins when the lane could go on.
            return ready_ns
    raise EdgeError("no result came late")


async def _lose_input(rig: Rig) -> int:
    began_ns = rig.clock.monotonic_ns()
    await rig.cell.link("vib", "freeze")
    return began_ns


async def _mend_input(rig: Rig) -> None:
    await rig.cell.link("vib", "pass")


async def _revoke(rig: Rig) -> int:
    began_ns = rig.clock.monotonic_ns()
    await rig.write("grant_authority", value=False)
    return began_ns


async def _grant(rig: Rig) -> None:
    await rig.write("grant_authority", value=True)


async def _take(rig: Rig) -> int:
    began_ns = rig.clock.monotonic_ns()
    await rig.call("TakeManual", "trial")
    return began_ns


async def _give_back(rig: Rig) -> None:
    await rig.call("ReturnToAutomatic", "trial")


async def _nothing(rig: Rig) -> None:
    """Mend nothing: the supervisor does."""
    del rig


DEAD: Final = "edge or network dead"

TRIALS: Final = (
    Trial("edge frozen", DEAD, _freeze_all, _thaw),
    Trial("edge killed", DEAD, _kill_io, _nothing),
    Trial("lane frozen", "lane frozen", _freeze_lane, _thaw, frozenset({"LANE"})),
    Trial("network cut", DEAD, _cut, _mend_press, frozenset({"LINK", "CONTROL", "WRITES", "ECHO"})),
    Trial("model late", "result late", _be_late, _nothing, frozenset({"RESULT"})),
    Trial("input bad", "input lost", _lose_input, _mend_input, frozenset({"INPUT"})),
    Trial("authority revoked", "authority revoked by the PLC", _revoke, _grant, in_plc=True),
    Trial("operator override", "taken by an operator", _take, _give_back),
)


def printed_ms(text: str) -> dict[str, float]:
    """Return the worst cases out of what `check` printed, ms by fault."""
    cells = re.findall(r"(?:^| {2,})(\S+(?: \S+)*) {2,}(\d+(?:\.\d+)?) ms {2,}", text, re.MULTILINE)
    return {name: float(ms) for name, ms in cells}

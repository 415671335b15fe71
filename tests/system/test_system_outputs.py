"""An operator at a whole plant: told that an output fell safe and what to do; what he did is on record."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.opcua.namespaces import Ids, plant_id
from tests.system.plant import Plant

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

VERDICT = "Press01.Outputs.verdict"


class Screen:
    """The event view of an operator's screen."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def event_notification(self, event: Any) -> None:
        self.events.append(event)

    def states(self) -> list[str]:
        return [event.State for event in self.events]


async def typed(plant: Plant, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Type a command on the server's machine."""
    command = [sys.executable, "-m", "edge_opcua.cli", *arguments, "--state", str(plant.state_dir)]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    return await asyncio.get_running_loop().run_in_executor(None, run)


async def acts(plant: Plant) -> None:
    """Wait until the PLC uses the output; acknowledge as often as that is asked for."""
    for _ in range(400):
        if plant.now("authority").value == "ACTIVE" and (await plant.cell.truth())["edge_trusted"]:
            return
        if plant.now("authority").value == "ACK_REQUIRED":
            await typed(plant, "outputs", "acknowledge", "verdict", "--why", "before the test")
        await plant.clock.sleep(0.05)
    raise AssertionError(f"the output does not act\n{plant.log_tail()}")


async def is_state(plant: Plant, state: str) -> None:
    await plant.until(lambda: plant.now("authority").value == state, f"the output in {state}")


async def test_an_operator_is_told_and_acknowledges_and_the_plc_uses_the_verdicts_again(plant: Plant) -> None:
    await acts(plant)
    screen = Screen()
    panel = await plant.trusted_client("panel")
    client = panel._client
    assert client is not None
    subscription = await client.create_subscription(50, screen)
    await subscription.subscribe_events(client.nodes.server, client.get_node(Ids.OUTPUT_EVENT_TYPE))

    await plant.cell.link("vib", "freeze")  # the sensor unit is silent: nothing can be judged
    try:
        await plant.until(lambda: "FAILSAFE" in screen.states(), "an event that it fell safe")
        listed = await typed(plant, "outputs", "--json")
        (row,) = json.loads(listed.stdout)["outputs"]
        assert (listed.returncode, row["state"]) == (1, "FAILSAFE")
        assert row["reason"]
        assert screen.events[-1].Fault
    finally:
        await plant.cell.link("vib", "pass")
    await plant.until(lambda: "ACK_REQUIRED" in screen.states(), "an event that it waits")
    told = await typed(plant, "outputs")
    assert "verdict waits for an acknowledge: press ACK on the machine, or run edge-opcua" in told.stdout
    assert not (await plant.cell.truth())["edge_trusted"]

    output = client.get_node(plant_id(VERDICT))
    await output.call_method(plant_id(f"{VERDICT}.Acknowledge"), ua.Variant("guard closed"))
    await acts(plant)
    await plant.until(lambda: screen.states()[-1] == "ACTIVE", "an event that it acts")
    states = screen.states()
    assert states.index("FAILSAFE") < states.index("ACK_REQUIRED") < states.index("ACTIVE")
    types = {event.State: event.EventType for event in screen.events}
    assert types["FAILSAFE"] == Ids.OUTPUT_FAIL_SAFE_EVENT_TYPE
    assert types["ACK_REQUIRED"] == Ids.OUTPUT_ACK_REQUIRED_EVENT_TYPE
    await subscription.delete()
    with pytest.raises(ua.UaStatusCodeError, match="InvalidState"):
        await output.call_method(plant_id(f"{VERDICT}.Acknowledge"), ua.Variant("once more"))
    await recorded(plant, "acknowledge verdict", "guard closed")


async def test_whoever_sits_at_the_box_takes_an_output_and_gives_it_back(plant: Plant) -> None:
    await acts(plant)
    refused = await typed(plant, "outputs", "acknowledge", "verdict")
    assert refused.returncode == 1, refused.stdout
    assert "BadInvalidState" in refused.stderr
    assert (await typed(plant, "outputs", "manual", "verdict", "--why", "set-up")).returncode == 0
    await is_state(plant, "MANUAL")
    for _ in range(200):
        if not (await plant.cell.truth())["edge_trusted"]:
            break
        await plant.clock.sleep(0.05)
    else:
        raise AssertionError("the PLC still uses an output that a person has taken")
    assert "give it back" in (await typed(plant, "outputs")).stdout
    assert (await typed(plant, "outputs", "automatic", "verdict")).returncode == 0
    # The PLC has latched when it lost the output: the way back leads through an acknowledge.
    await is_state(plant, "ACK_REQUIRED")
    await acts(plant)
    await recorded(plant, "manual verdict", "set-up")


async def recorded(plant: Plant, what: str, why: str) -> None:
    """Wait until the journal says that somebody did something, and why."""
    for _ in range(100):
        said = await typed(plant, "records", "audit", "--last", "40", "--json")
        rows = [json.loads(line)["body"] for line in said.stdout.splitlines()]
        found = [row for row in rows if row["what"] == what and row.get("why") == why]
        if found:
            assert found[-1]["who"]
            assert found[-1]["outcome"].startswith("Good")
            return
        await plant.clock.sleep(0.1)
    raise AssertionError(f"nobody recorded {what}: {rows[-5:]}")

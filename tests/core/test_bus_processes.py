import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from edge_opcua.core.bus import Bus
from tests.core.bus_peers import STALE_S, block

PEERS = Path(__file__).with_name("bus_peers.py")


def start(role: str, bus: Bus, amount: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PEERS), role, str(bus.fd), str(amount)],
        pass_fds=bus.pass_fds,
        stdout=subprocess.PIPE,
        text=True,
    )


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    text, _ = process.communicate(timeout=15)
    assert process.returncode == 0
    result: dict[str, Any] = json.loads(text)
    return result


def test_no_torn_batch_passes_its_check_and_every_loss_is_counted_under_concurrent_readers() -> None:
    bus = Bus.create([block(depth=8)])
    readers = [start("read", bus, 2.5) for _ in range(3)]
    writer = start("write", bus, 2.0)
    published = outcome(writer)["published"]
    assert published > 1000
    for result in map(outcome, readers):
        assert result["torn"] == 0
        assert result["delivered"] > 0
        assert result["lost"] > 0  # the ring is small on purpose
        assert result["first"] + result["delivered"] + result["lost"] == result["cursor"] == published
    bus.close()


def test_a_writer_killed_in_mid_write_leaves_readers_consistent_and_the_next_one_goes_on() -> None:
    bus = Bus.create([block(depth=8)])
    result = outcome(start("kill", bus, 50))
    assert result["torn"] == 0
    assert result["accounted"] == result["published"]
    assert result["writers"] == 50
    assert result["left_good_after_s"] < STALE_S + 0.15
    bus.close()

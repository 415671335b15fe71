"""Function blocks for tests: facts of any mode, and an exported block that runs scan by scan beside an edge.

``python -m tests.ladder.blocks`` writes examples/press/plc anew.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge_opcua.config.eai import ControlWord, Ctrl, Stat, eai_map
from edge_opcua.config.loader import load
from edge_opcua.config.outputs import InterfaceConfig
from edge_opcua.ladder.codesys import function_block
from edge_opcua.ladder.export import TARGETS, exported
from edge_opcua.ladder.facts import Facts, facts_of
from edge_opcua.sim.softplc.instance import Instance
from edge_opcua.sim.softplc.library import compile_st
from tests.sim.edgetwin import PRESS_INTERFACE, EdgeTwin

EXAMPLE: Final = Path(__file__).parents[2] / "examples/press"
SCAN_MS: Final = 20
FALLBACK: Final = 3.0
ON: Final = {"Enable": True, "Grant": True, "Fallback": FALLBACK}


def facts(driver: str = "s7", output: str = "verdict", **interface: Any) -> Facts:
    """Return what a block is made from; the press's if nothing else is said."""
    config = InterfaceConfig.model_validate(PRESS_INTERFACE.model_dump() | interface)
    return Facts(
        output=output,
        map=eai_map(output, config, driver),
        device="press",
        driver=driver,
        heartbeat_ms=100,
        plc_timeout_ms=500,
        plc_scan_ms=20.0,
        recover_ms=2000.0,
        result_ms=1200,
    )


def press_facts() -> Facts:
    """Return what the blocks of the example are made from."""
    config = load(EXAMPLE / "press.toml", env=os.environ).config
    assert config is not None
    return facts_of(config, config.outputs[0])


def press_files() -> dict[Path, bytes]:
    """Return every file of examples/press/plc."""
    found = press_facts()
    return {
        EXAMPLE / "plc" / target / file.name: file.text.encode()
        for target in TARGETS
        for file in exported(found, target)
    }


class Bench:
    """An exported block in scans, and an edge that writes into its status area.

    Args:
        facts: What the block is made from.
        text: Its source; as exported for CODESYS if not given.
        inputs: Its inputs, on from the first scan.
    """

    def __init__(self, facts: Facts, text: str | None = None, **inputs: object) -> None:
        self.edge = EdgeTwin(facts.map)
        library = compile_st(function_block(facts) if text is None else text)
        self.block: Instance = library.instance(facts.block)
        self.facts = facts
        self.now_ms = 5_000
        self.torn = False
        self.frozen = False
        self.set(**{**ON, **inputs})

    def set(self, **inputs: object) -> None:
        """Set inputs."""
        for name, value in inputs.items():
            self.block.set(name, value)

    def run(self, ms: int, step_ms: int = SCAN_MS) -> None:
        """Scan for a time, with a heartbeat of the edge every 100 ms unless it is frozen."""
        for _ in range(0, ms, step_ms):
            if self.now_ms % self.facts.heartbeat_ms < step_ms and not self.frozen:
                self.edge.beat()
            self.scan()
            self.now_ms += step_ms

    def scan(self) -> None:
        """Scan once."""
        self.block.set("Status", self.edge.words())
        self.block.scan(self.now_ms / 1000)

    def get(self, name: str) -> Any:
        """Return a variable."""
        return self.block.get(name)

    def outputs(self, *names: str) -> tuple[Any, ...]:
        """Return some variables."""
        return tuple(self.get(name) for name in names)

    @property
    def control(self) -> list[int]:
        """What the edge reads."""
        words: list[int] = self.get("Control")
        return words

    @property
    def ctrl(self) -> Ctrl:
        """Bits of control word 0."""
        return Ctrl(self.control[ControlWord.CTRL])

    def say(self, **bits: bool) -> None:
        """Switch bits of the edge on or off, such as ``ack_required=True``."""
        for name, on in bits.items():
            bit = Stat[name.upper()]
            self.edge.stat = self.edge.stat | bit if on else self.edge.stat & ~bit


def in_use(facts: Facts, **inputs: object) -> Bench:
    """Return a block that trusts its edge, before the first result."""
    bench = Bench(facts, None, **inputs)
    bench.run(300)
    assert bench.outputs("CommOk", "InUse", "AckReq") == (True, True, False)
    return bench


def waits_for_ack(facts: Facts, **inputs: object) -> Bench:
    """Return a block that lost trust in its edge, which works again and asks for an acknowledge."""
    bench = in_use(facts, **inputs)
    bench.say(authority_active=False, fail_safe_active=True)
    bench.run(40)
    bench.say(fail_safe_active=False, ack_required=True)
    bench.run(300)
    assert bench.outputs("CommOk", "InUse", "AckReq") == (True, False, True)
    return bench


def write(files: Mapping[Path, bytes]) -> None:
    """Write files."""
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    write(press_files())

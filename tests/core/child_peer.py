"""A child process for test_process.py; ``--do`` says how it behaves."""

import asyncio
import os
import sys
import time

import structlog

from edge_opcua.core.control import Reply
from edge_opcua.core.process import Child, run_child

_log = structlog.get_logger("test")


async def where(child: Child) -> Reply:
    return Reply(
        body={
            "pid": os.getpid(),
            "blocks": list(child.bus.blocks),
            "config": bytes(child.config).decode(),
            "role": child.role,
        }
    )


async def never_end() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            _log.info("test.cancelled")


async def main(child: Child) -> None:
    do = child.arguments[0].removeprefix("--do=")
    if do != "slow start":
        child.handle = lambda _: where(child)
    if do == "fail":
        raise ValueError("what a pity")
    if do == "return":
        return
    _log.info("test.ready")
    if do == "hang the loop":
        time.sleep(60)
    await child.stopping.wait()
    if do == "ignore":
        await never_end()
    if do == "too slow":
        await asyncio.sleep(60)
    (child.state_dir / "released").write_text("released")


if __name__ == "__main__":
    sys.exit(run_child(main))

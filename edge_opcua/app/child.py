"""Entry point of every child process: ``python -m edge_opcua.app.child ROLE …``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module

from edge_opcua.config.handover import unpacked
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.process import Child, run_child
from edge_opcua.errors import ConfigError

Main = Callable[[Child, EdgeConfig], Awaitable[None]]

# Imported only in the process that needs it: a lane holds no OPC UA stack, the records process no driver.
_MODULES = {
    "io": "edge_opcua.app.io",
    "lane": "edge_opcua.app.serving.process",
    "opcua": "edge_opcua.app.opcua",
    "records": "edge_opcua.app.records",
    "telemetry": "edge_opcua.app.telemetry",
}


# With many tags on a small machine they are busy for seconds; they say themselves when that ends.
_SLOW_TO_START = ("io", "opcua")


async def main(child: Child) -> None:
    """Run the role of this process until it is told to stop."""
    kind = child.role.partition("/")[0]
    if kind not in _MODULES:
        raise ConfigError(f"there is no role {child.role}")
    child.starting = kind in _SLOW_TO_START
    config = unpacked(child.config)
    run: Main = import_module(_MODULES[kind]).run
    await run(child, config)


async def until_stopped(child: Child, *components: Callable[[], Awaitable[None]]) -> None:
    """Run components side by side until the process shall stop; one that fails ends them all."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_complete(component), name=getattr(component, "__qualname__", "component"))
            for component in components
        ]
        await child.stopping.wait()
        for task in tasks:
            task.cancel()


async def _complete(component: Callable[[], Awaitable[None]]) -> None:
    await component()


if __name__ == "__main__":
    sys.exit(run_child(main))

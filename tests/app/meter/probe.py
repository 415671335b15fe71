"""Yields what a test has laid down for a URL; notes who asked, and whether it was closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from edge_opcua.drivers.probing import Finding, Target

Script = Callable[[Target], AsyncIterator[Finding]]

scripts: dict[str, Script] = {}
targets: list[Target] = []
closed: list[str] = []


async def probe(target: Target) -> AsyncIterator[Finding]:
    targets.append(target)
    try:
        async for finding in scripts[target.url](target):
            yield finding
    finally:
        closed.append(target.url)


def says(url: str, *findings: Finding) -> None:
    """Let the prober say this of a URL."""

    async def script(target: Target) -> AsyncIterator[Finding]:
        for finding in findings:
            yield finding

    scripts[url] = script

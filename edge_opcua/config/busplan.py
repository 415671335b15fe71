"""What the bus will take of memory: each block keeps its last batches, so rows x depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from edge_opcua.core.bus import memory_bytes
from edge_opcua.core.values import BlockSpec

SHOWN: Final = 5


def bus_rows(blocks: Sequence[BlockSpec]) -> list[list[str]]:
    """Return the sum and the largest blocks, a row of cells each; nothing if no block is known."""
    if not blocks:
        return []
    sizes = sorted(((memory_bytes(block), block) for block in blocks), key=lambda pair: -pair[0])
    total = sum(size for size, _ in sizes)
    rows = [[f"{size_text(total)} of shared memory", f"{len(blocks)} blocks"]]
    rows += [
        [block.name, f"{size_text(size)}   {len(block.tags)} rows x {block.depth} batches"]
        for size, block in sizes[:SHOWN]
    ]
    if len(sizes) > SHOWN:
        others = sum(size for size, _ in sizes[SHOWN:])
        rows.append([f"{len(sizes) - SHOWN} smaller ones", size_text(others)])
    return rows


def bus_json(blocks: Sequence[BlockSpec]) -> dict[str, Any]:
    """Return all of them for programs."""
    sizes = {block.name: memory_bytes(block) for block in blocks}
    return {
        "bytes": sum(sizes.values()),
        "blocks": [
            {"name": block.name, "rows": len(block.tags), "depth": block.depth, "bytes": sizes[block.name]}
            for block in blocks
        ],
    }


def size_text(size_bytes: int) -> str:
    """Return a size for people."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{-(-size_bytes // 1000)} kB"

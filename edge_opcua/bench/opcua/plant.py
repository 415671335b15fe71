"""The machine under test: scalar tags of all types, in blocks of one poll each, as configuration and bus."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.bench.opcua.values import KINDS, column, kind_of
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import BlockWriter, Bus
from edge_opcua.core.values import GOOD, BlockSpec, Policy, Scalar

ROWS: Final = 1000
DEVICE: Final = "plc"
MACHINE: Final = "Bench01"
NAME: Final = "t{:06d}"
# What the ring of a block may take, bytes: the depth is what fits, within these bounds.
_RING_BYTES: Final = 24 * 1024 * 1024
_DEPTHS: Final = (32, 512)
_ROW_BYTES: Final = 24


def configuration(tags: int, *, publish_ms: int, doubles: bool = False) -> EdgeConfig:
    """Return a machine with so many tags, ``ROWS`` to a poll group.

    Args:
        tags: How many.
        publish_ms: Tick of the server.
        doubles: Whether all are Doubles (for embedded times) instead of every type in turn.
    """
    groups = [{"name": group_of(first), "period_ms": 100} for first in range(0, max(tags, 1), ROWS)]
    raw: dict[str, Any] = {
        "version": 1,
        "site": {"name": "bench", "machine": MACHINE},
        "opcua": {
            "listen": "127.0.0.1:0",
            "publish_ms": publish_ms,
            "security": ["None", "Basic256Sha256"],
            "anonymous": True,
            "max_sessions": 200,
        },
        "devices": [
            {
                "name": DEVICE,
                "driver": "s7",
                "url": "s7://127.0.0.1?rack=0&slot=1",
                "tags": [_tag(item, doubles=doubles) for item in range(tags)],
                "groups": groups,
            }
        ],
    }
    return EdgeConfig.model_validate(raw)


def group_of(item: int) -> str:
    """Return the poll group of an item."""
    return f"g{item // ROWS}"


def _tag(item: int, *, doubles: bool) -> dict[str, Any]:
    return {
        "name": NAME.format(item),
        "address": f"DB1.DBD{4 * item}",
        "type": Scalar.DOUBLE if doubles else kind_of(item),
        "group": group_of(item),
        "low": 0.0,
        "high": 1e9,
        "unit": "kN",
    }


def blocks(config: EdgeConfig) -> list[BlockSpec]:
    """Return the blocks of the machine."""
    tags = len(config.device(DEVICE).tags)
    fitting = _RING_BYTES // max(1, min(tags, ROWS) * _ROW_BYTES * -(-tags // ROWS))
    depth = min(max(_DEPTHS[0], fitting), _DEPTHS[1])
    device = config.device(DEVICE)
    members: dict[str, list[Any]] = {}
    for tag in device.tags:
        members.setdefault(tag.group, []).append(tag.spec)
    patient = Policy(writer_lost_s=float("inf"))
    return [BlockSpec(f"{DEVICE}.{group}", tuple(specs), depth, patient) for group, specs in members.items()]


class Writing:
    """The writer of one block: fills every column for a sequence number and publishes it."""

    def __init__(self, bus: Bus, index: int) -> None:
        self._writer: BlockWriter = bus.writer(f"{DEVICE}.g{index}")
        batch = self._writer.batch
        batch.status[:] = GOOD
        self._batch = batch
        numbers = np.arange(index * ROWS, index * ROWS + len(batch.status), dtype=np.uint64)
        kinds = np.array([int(tag.type) for tag in batch.layout.spec.tags])
        self._columns: list[tuple[Scalar, npt.NDArray[np.uint64], Any]] = [
            (kind, numbers[kinds == kind], batch.column(kind)) for kind in KINDS if (kinds == kind).any()
        ]

    def publish(self, sequence: int, now_ns: int) -> None:
        """Publish what every tag shows at a sequence number, read now."""
        for kind, items, out in self._columns:
            column(kind, sequence, items, out)
        self._stamp(now_ns)

    def publish_times(self, monotonic_us: float, now_ns: int) -> None:
        """Publish the time as the value of every Double."""
        self._batch.column(Scalar.DOUBLE)[:] = monotonic_us
        self._stamp(now_ns)

    def _stamp(self, now_ns: int) -> None:
        self._batch.source_ns[:] = now_ns
        self._batch.server_ns[:] = now_ns
        self._writer.publish()

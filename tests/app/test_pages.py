"""What ``watch`` gets of a large plant: pages that together are every row once."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from edge_opcua.app.pages import ELEMENTS, ROWS, RowPages, plain_value
from edge_opcua.config.schema import DeviceConfig, EdgeConfig, GroupConfig, SiteConfig
from edge_opcua.config.tags import TagConfig, TagRows
from edge_opcua.core.bus import Bus
from edge_opcua.core.messages import MAX_FRAME_BYTES
from edge_opcua.core.ticks import EPOCH_TICKS
from edge_opcua.core.values import BAD_SENSOR_FAILURE, GOOD, BlockSpec, Scalar
from edge_opcua.testing import ManualClock

N = 2 * ROWS + 500
CLOCK = ManualClock()


def tag(name: str, group: str, length: int = 0) -> TagConfig:
    return TagConfig(name=name, address="x", type=Scalar.DOUBLE, length=length, unit="kN", group=group)


CONFIG = EdgeConfig(
    version=1,
    site=SiteConfig(name="plant", machine="M1"),
    devices=(
        DeviceConfig(
            name="d",
            driver="fake",
            url="fake://d",
            groups=tuple(GroupConfig(name=name, period_ms=100) for name in ("many", "waves", "none")),
            tags=TagRows.of(
                [
                    *(tag(f"t{row}", "many") for row in range(N)),
                    *(tag(f"w{row}", "waves", 15_000) for row in range(3)),
                ]
            ),
        ),
    ),
)


@pytest.fixture(scope="module")
def bus() -> Iterator[Bus]:
    device = CONFIG.devices[0]
    specs = [BlockSpec(f"d.{group}", device.tags_of(group).specs, 2) for group in ("many", "waves")]
    made = Bus.create(specs, clock=CLOCK)
    yield made
    made.close()


def pages(bus: Bus, *, only_bad: bool = False) -> list[list[dict[str, object]]]:
    made = RowPages(CONFIG, {name: bus.reader(name) for name in bus.blocks}, CLOCK)
    found: list[list[dict[str, object]]] = []
    following: int | None = 0
    while following is not None:
        rows, following = made.page(following, only_bad=only_bad)
        assert len(json.dumps(rows)) < MAX_FRAME_BYTES
        found.append(rows)
    return found


def test_pages_are_every_row_once_and_none_is_too_large(bus: Bus) -> None:
    before = pages(bus)
    assert [len(page) for page in before] == [ROWS, ROWS, 503]
    assert before[0][0] == {"id": "d/t0", "value": None, "unit": "kN", "status": None}
    many, waves = bus.writer("d.many"), bus.writer("d.waves")
    for writer in (many, waves):
        writer.batch.status[:] = GOOD
    for row in range(3):
        waves.batch.set_array(row, [1.0 / 3] * 15_000)
    many.publish()
    waves.publish()
    shown = pages(bus)
    assert [row["id"] for page in shown for row in page] == [row["id"] for page in before for row in page]
    assert [len(page) for page in shown] == [ROWS, ROWS, 501, 1, 1]
    assert ELEMENTS < 2 * 15_000
    assert shown[0][1]["quality"] == "Good"


def test_only_what_is_bad_is_sent_if_only_that_is_wanted(bus: Bus) -> None:
    writer = bus.writer("d.many")
    writer.batch.status[:] = GOOD
    writer.batch.status[N - 1] = BAD_SENSOR_FAILURE
    writer.publish()
    ((row, *others),) = pages(bus, only_bad=True)
    assert (row["id"], row["value"], row["good"]) == (f"d/t{N - 1}", None, False)
    assert [other["id"] for other in others] in ([], ["d/w0", "d/w1", "d/w2"])


def test_a_time_is_shown_as_iso_8601() -> None:
    assert plain_value(EPOCH_TICKS, Scalar.DATETIME) == "1970-01-01T00:00:00Z"
    assert plain_value(np.array([EPOCH_TICKS]), Scalar.DATETIME) == ["1970-01-01T00:00:00Z"]
    assert plain_value(None, Scalar.DATETIME) is None

"""What a change of the configuration stops and starts: as little as possible, and outputs before all else."""

from dataclasses import replace
from typing import Any

from edge_opcua.app.build import plan
from edge_opcua.app.impact import Impact, device_blocks, impact
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.schema import DeviceConfig, EdgeConfig
from edge_opcua.config.tags import TagRows
from edge_opcua.core.bus import Bus

NOTHING = Impact((), (), (), (), (), ())


def press() -> EdgeConfig:
    loaded = load(examples_dir() / "press" / "press.toml", env={})
    assert loaded.config is not None
    return loaded.config


def with_device(config: EdgeConfig, name: str, **change: Any) -> EdgeConfig:
    devices = tuple(each.model_copy(update=change) if each.name == name else each for each in config.devices)
    return config.model_copy(update={"devices": devices})


def with_row(device: DeviceConfig, name: str, **change: Any) -> TagRows:
    return TagRows.of(replace(row, **change) if row.name == name else row for row in device.tags)


def of(old: EdgeConfig, new: EdgeConfig) -> Impact:
    """Return the impact with the blocks where a bus really puts them."""
    bus = Bus.create(plan(old).blocks)
    before = dict(bus.homes)
    segment = bus.extend(plan(new).blocks)
    bus.switch(segment)
    after = dict(bus.homes)
    bus.close()
    return impact(old, new, before, after)


def test_what_clients_only_see_stops_nothing() -> None:
    old = press()
    rows = with_row(old.device("press"), "oil_temp", description="another text", historize=True)
    assert of(old, with_device(old, "press", tags=rows)) == NOTHING


def test_another_unit_of_what_a_model_looks_at_starts_its_lane_anew_and_no_device() -> None:
    old = press()
    rows = with_row(old.device("press"), "tonnage", unit="MN")
    found = of(old, with_device(old, "press", tags=rows))
    assert found.stopped_devices == ()
    assert found.stopped_lanes == found.started_lanes == ("press-anomaly",)
    # A lane that starts has not judged yet: nobody may rule by what it said before.
    assert found.stopped_outputs == found.started_outputs == ("verdict",)


def test_a_device_that_is_added_touches_nobody() -> None:
    old = press()
    more = old.device("vib").model_copy(update={"name": "vib2", "captures": ()})
    found = of(old, old.model_copy(update={"devices": (*old.devices, more)}))
    assert found == Impact((), ("vib2",), (), (), (), ())


def test_a_changed_device_takes_with_it_what_depends_on_it() -> None:
    old = press()
    found = of(old, with_device(old, "press", url="s7://192.168.0.11?rack=0&slot=1"))
    assert found.stopped_devices == found.started_devices == ("press",)
    assert found.stopped_outputs == found.started_outputs == ("verdict",)
    # Its blocks are where they were, so the lane goes on; what it needs turns Good again there.
    assert found.stopped_lanes == ()


def test_a_tag_more_gives_a_group_another_block_and_its_readers_start_anew() -> None:
    old = press()
    device = old.device("press")
    group = device.tags[0].group
    rows = TagRows.of((*device.tags, replace(device.tags[0], name="more", group=group)))
    found = of(old, with_device(old, "press", tags=rows))
    assert found.stopped_devices == ("press",)
    assert found.stopped_lanes == ("press-anomaly",)


def test_a_pipeline_that_goes_takes_its_lane_and_output_and_leaves_the_devices() -> None:
    old = press()
    found = of(old, old.model_copy(update={"pipelines": (), "outputs": ()}))
    assert found.stopped_lanes == ("press-anomaly",)
    assert found.started_lanes == ()
    assert found.stopped_outputs == ("verdict",)
    # Nobody waits for the capture any more: its block has no deadline reader now.
    assert found.stopped_devices == ("vib",)


def test_the_way_back_stops_what_was_started() -> None:
    old = press()
    new = with_device(old, "press", timeout_ms=999)
    there, back = of(old, new), of(new, old)
    assert there.started_devices == back.stopped_devices
    assert there.started_outputs == back.stopped_outputs


def test_the_blocks_of_a_device_are_those_that_the_plan_gives_it() -> None:
    config = press()
    planned = {block.name for device in plan(config).devices for block in device.blocks}
    assert planned == {block for device in config.devices for block in device_blocks(device)}

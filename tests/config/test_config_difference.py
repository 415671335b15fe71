"""What differs between two configurations: carrying it out makes one of them out of the other."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.config.difference import HOT, difference, lines, same_device
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.schema import (
    DeviceConfig,
    EdgeConfig,
    GroupConfig,
    OpcuaConfig,
    PipelineConfig,
    SiteConfig,
)
from edge_opcua.config.tags import TagConfig, TagRows
from edge_opcua.core.values import Scalar

NAMES = ("a", "b", "c", "d")


def tag(name: str, address: str = "hr:0", **more: Any) -> TagConfig:
    return TagConfig(name, address, Scalar.UINT16, group="fast", **more)


def device(name: str, *tags: TagConfig, **more: Any) -> DeviceConfig:
    given: dict[str, Any] = {
        "driver": "modbus",
        "url": "modbus://10.0.0.1/1",
        "groups": (GroupConfig(name="fast", period_ms=100),),
        **more,
    }
    return DeviceConfig(name=name, tags=TagRows.of(tags or (tag("t"),)), **given)


def plant(*devices: DeviceConfig, **more: Any) -> EdgeConfig:
    given: dict[str, Any] = {"site": SiteConfig(name="p", machine="M"), **more}
    return EdgeConfig(version=1, devices=devices or (device("a"),), **given)


def pipeline(name: str, deadline_ms: int = 100) -> PipelineConfig:
    return PipelineConfig(name=name, model="m", version=1, capture="a/stroke", deadline_ms=deadline_ms)


TAGS = st.lists(
    st.builds(
        lambda name, address, unit, line: tag(name, f"hr:{address}", unit=unit, file="t.csv", line=line),
        st.sampled_from(NAMES),
        st.integers(0, 2),
        st.sampled_from(("", "bar")),
        st.just(7),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda row: row.name,
)
DEVICES = st.lists(
    st.builds(
        lambda name, tags, port, timeout_ms: device(
            name, *tags, url=f"modbus://10.0.0.1:{port}/1", timeout_ms=timeout_ms
        ),
        st.sampled_from(NAMES),
        TAGS,
        st.integers(502, 503),
        st.sampled_from((500, 1000)),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda each: each.name,
)
PIPELINES = st.lists(
    st.builds(pipeline, st.sampled_from(NAMES), st.sampled_from((50, 100))),
    max_size=3,
    unique_by=lambda each: each.name,
)
OUTPUTS = st.lists(
    st.builds(
        lambda name, heartbeat_ms: OutputConfig(
            name=name, device="a", pipeline="a", heartbeat_ms=heartbeat_ms
        ),
        st.sampled_from(NAMES),
        st.sampled_from((100, 200)),
    ),
    max_size=2,
    unique_by=lambda each: each.name,
)
CONFIGS = st.builds(
    lambda devices, pipelines, outputs, machine, shutdown_s, listen: plant(
        *devices,
        pipelines=tuple(pipelines),
        outputs=tuple(outputs),
        site=SiteConfig(name="p", machine=machine),
        opcua=OpcuaConfig(shutdown_s=shutdown_s, listen=listen),
    ),
    DEVICES,
    PIPELINES,
    OUTPUTS,
    st.sampled_from(("M", "N")),
    st.sampled_from((1.0, 2.0)),
    st.sampled_from(("127.0.0.1:4840", "127.0.0.1:4841")),
)


@given(CONFIGS, CONFIGS)
def test_carrying_a_difference_out_makes_the_one_configuration_out_of_the_other(
    a: EdgeConfig, b: EdgeConfig
) -> None:
    change = difference(a, b)
    assert change.applied(a) == b
    assert bool(change) == bool(lines(a, change))
    assert not difference(b, b)


@given(CONFIGS, CONFIGS)
def test_the_way_back_of_what_was_added_is_to_remove_it(a: EdgeConfig, b: EdgeConfig) -> None:
    there, back = difference(a, b), difference(b, a)
    for one, other in (
        (there.devices, back.devices),
        (there.pipelines, back.pipelines),
        (there.outputs, back.outputs),
    ):
        assert set(one.added) == set(other.removed)
        assert set(one.changed) == set(other.changed)


def test_a_row_that_moves_to_another_line_or_file_is_no_difference() -> None:
    row = tag("t", file="old.csv", line=2)
    before = plant(device("a", row))
    after = plant(device("a", replace(row, file="new.csv", line=40)))
    assert not difference(before, after)


def test_what_only_clients_see_of_a_tag_is_a_difference_but_none_for_the_driver() -> None:
    before, after = device("a", tag("t")), device("a", tag("t", description="new", unit="bar"))
    change = difference(plant(before), plant(after))
    assert set(change.devices.changed) == {"a"}
    assert same_device(before, after, ignoring=frozenset({"description", "unit"}))


def test_a_difference_reads_like_what_somebody_did() -> None:
    before = plant(
        device("a", *(tag(f"t{i}") for i in range(8)), url="modbus://user:secret@10.0.0.1/1"), device("gone")
    )
    after = plant(
        device("a", tag("t0", "hr:9"), url="modbus://user:secret@10.0.0.2/1", timeout_ms=700),
        device("new", tag("x"), tag("y")),
        opcua=OpcuaConfig(listen="127.0.0.1:4999"),
    )
    told = lines(before, difference(before, after))
    changed = (
        "~ device a: url modbus://10.0.0.1/1 -> modbus://10.0.0.2/1; timeout_ms 1000 -> 700; "
        "tags removed: t1, t2, t3, t4, t5 and 2 more; tags changed: t0"
    )
    assert told == [
        '~ opcua.listen: "0.0.0.0:4840" -> "127.0.0.1:4999"',
        "- device gone",
        "+ device new   modbus modbus://10.0.0.1/1, 2 tags",
        changed,
    ]
    assert "secret" not in "".join(told)


def test_what_was_not_set_is_none_and_not_a_word_of_the_program() -> None:
    alone = pipeline("p")
    before = plant(device("a"), pipelines=(alone,))
    after = plant(device("a"), pipelines=(alone.model_copy(update={"group": "g"}),))
    assert lines(before, difference(before, after)) == ['~ pipeline p: group none -> "g"']


@pytest.mark.parametrize("path", sorted(HOT))
def test_every_setting_that_can_be_changed_at_run_time_is_one(path: str) -> None:
    section, _, name = path.partition(".")
    kind = EdgeConfig.model_fields[section].annotation
    assert not name or name in getattr(kind, "model_fields", {})


def test_what_needs_a_restart_is_named_with_its_reason() -> None:
    change = difference(
        plant(),
        plant(site=SiteConfig(name="p", machine="N"), opcua=OpcuaConfig(listen="0.0.0.0:1", shutdown_s=9)),
    )
    assert {setting.path: setting.reason for setting in change.needs_restart} == {
        "site.machine": "names and name plate are what clients know the machine by",
        "opcua.listen": "clients are connected there",
    }

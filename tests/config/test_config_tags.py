"""Rows of a tag table as columns: whoever asks for one gets it as it was written."""

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_opcua.app.processes import config_memfd
from edge_opcua.config.handover import packed, unpacked
from edge_opcua.config.schema import DeviceConfig, EdgeConfig, SiteConfig
from edge_opcua.config.tags import TagConfig, TagRows
from edge_opcua.core.process import mapped
from edge_opcua.core.values import Scalar

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NUMBER = st.floats(allow_nan=False)
VALUE = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), NUMBER, TEXT)
TAGS = st.builds(
    TagConfig,
    name=st.from_regex(r"[a-z]{1,5}", fullmatch=True),
    address=TEXT,
    type=st.sampled_from([scalar for scalar in Scalar if scalar is not Scalar.STRING]),
    length=st.integers(0, 70_000),
    low=st.none() | NUMBER,
    high=st.none() | NUMBER,
    group=st.sampled_from(["fast", "slow"]),
    scale=NUMBER,
    access=st.sampled_from(["r", "rw"]),
    historize=st.booleans(),
    node_id=st.none() | TEXT,
    substitute=VALUE,
    states=st.lists(st.tuples(st.integers(), TEXT), max_size=2).map(tuple),
    extra=st.dictionaries(TEXT, TEXT, max_size=2),
    line=st.integers(0, 2**40),
)


@given(st.lists(TAGS, max_size=20))
def test_rows_come_back_as_they_were(tags: list[TagConfig]) -> None:
    rows = TagRows.of(tags)
    read = TagRows.from_buffer(memoryview(rows.to_bytes()))
    assert repr(list(rows)) == repr(list(read)) == repr(tags)
    assert repr([read[row] for row in range(len(read))]) == repr(tags)
    assert rows == tuple(tags) == read
    assert rows.column("name") == [tag.name for tag in tags]
    assert [spec.type for spec in rows.specs] == [tag.type for tag in tags]


@given(st.lists(TAGS, max_size=20))
def test_a_selection_keeps_the_order_of_the_table(tags: list[TagConfig]) -> None:
    rows = TagRows.of(tags)
    fast = [tag for tag in tags if tag.group == "fast"]
    chosen = rows.where("group", "fast")
    assert list(chosen) == fast
    assert list(chosen.specs) == [tag.spec for tag in fast]
    assert chosen.writable == tuple(tag for tag in fast if tag.writable)
    assert TagRows.from_buffer(memoryview(chosen.to_bytes())) == chosen
    assert rows[::2] == tuple(tags[::2])
    for row, tag in enumerate(fast):
        assert (chosen.cell(row, "type"), chosen.cell(row, "extra")) == (tag.type, tag.extra)


def machine(**device: Any) -> EdgeConfig:
    """Return a configuration with one device."""
    return EdgeConfig(
        version=1,
        site=SiteConfig(name="plant", machine="M1"),
        devices=(DeviceConfig(name="d", driver="fake", url="fake://d", **device),),
    )


def test_the_configuration_is_mapped_by_every_process_and_changed_by_none() -> None:
    tags = [TagConfig(name=f"t{row}", address=f"r{row}:REAL", type=Scalar.FLOAT) for row in range(3)]
    config = machine(tags=tags, hold_s=float("inf"))
    fd = config_memfd(packed(config))
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        read = unpacked(mapped(fd))
        assert read == config
        assert (read.tag("d/t2")[1], read.tag_count) == (tags[2], 3)
        with pytest.raises(KeyError):
            read.tag("d/t3")
    finally:
        os.close(fd)


def test_settings_take_rows_and_nothing_else() -> None:
    tag = TagConfig(name="a", address="r1:REAL", type=Scalar.FLOAT, extra={"x_owner": "Ada"})
    for given_tags in ([tag], (tag,), TagRows.of([tag]), [{"name": "a", "address": "r1:REAL", "type": 10}]):
        assert [each.name for each in machine(tags=given_tags).devices[0].tags] == ["a"]
    for wrong in ([{"name": "a b", "address": "r1:REAL", "type": 10}], [{"name": "a", "x": 1}], "a.csv"):
        with pytest.raises(ValidationError):
            machine(tags=wrong)
    assert machine().devices[0].tags == ()

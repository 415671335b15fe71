"""Groups of pipelines over a reload: who stops, who starts, and who goes on in another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from edge_opcua.app.build import plan
from edge_opcua.app.impact import Impact, impact
from edge_opcua.app.serving.choices import ModelChoice
from edge_opcua.app.serving.groups import LaneGroups, groups_of, load_s
from edge_opcua.assets import examples_dir
from edge_opcua.config.lanes import InferenceConfig, LaneGroupConfig
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import SystemClock
from tests.app.lanehost import Host, until

PRESS = load(examples_dir() / "press" / "press.toml", env={}).config


def config(*pipelines: tuple[str, str | None], **change: Any) -> EdgeConfig:
    """Return the press with these pipelines and groups instead of its own, and without outputs."""
    found = PRESS
    assert found is not None
    own = found.pipelines[0]
    made = tuple(own.model_copy(update={"name": name, "group": group, **change}) for name, group in pipelines)
    return found.model_copy(update={"pipelines": made, "outputs": ()})


def with_groups(config: EdgeConfig, **settings: Any) -> EdgeConfig:
    return config.model_copy(update={"inference": InferenceConfig(**settings)})


def of(old: EdgeConfig, new: EdgeConfig) -> Impact:
    bus = Bus.create(plan(old).blocks)
    before = dict(bus.homes)
    bus.switch(bus.extend(plan(new).blocks))
    after = dict(bus.homes)
    bus.close()
    return impact(old, new, before, after)


def changed(config: EdgeConfig, name: str, **change: Any) -> EdgeConfig:
    pipelines = (p.model_copy(update=change) if p.name == name else p for p in config.pipelines)
    return config.model_copy(update={"pipelines": tuple(pipelines)})


def test_a_changed_pipeline_takes_a_new_process_for_its_group_and_the_others_are_handed_over() -> None:
    old = config(("a", "g"), ("b", "g"), ("c", None))
    found = of(old, changed(old, "b", deadline_ms=50))
    assert found.stopped_lanes == found.started_lanes == ("b",)
    assert (found.changed_groups, found.handed_over) == (("g",), ("a",))


def test_a_pipeline_that_leaves_its_group_costs_the_group_a_new_process() -> None:
    old = config(("a", "g"), ("b", "g"))
    found = of(old, changed(old, "b", group=None))
    assert found.stopped_lanes == found.started_lanes == ("b",)
    assert (found.changed_groups, found.handed_over) == (("g",), ("a",))


def test_settings_of_a_group_are_applied_by_handing_over() -> None:
    old = config(("a", "g"), ("b", None))
    found = of(old, with_groups(old, groups=(LaneGroupConfig(name="g", workers=2),)))
    assert found.stopped_lanes == ()
    assert (found.changed_groups, found.handed_over) == (("g",), ("a",))
    everybody = of(old, with_groups(old, keep_free_mb=64))
    assert (everybody.changed_groups, everybody.handed_over) == (("g", "b"), ("a", "b"))


def test_a_group_has_the_time_of_all_its_models() -> None:
    found = config(("a", "g"), ("b", "g"), ("c", None), load_s=7.0)
    assert groups_of(found) == {"g": ["a", "b"], "c": ["c"]}
    assert (load_s(found, "g"), load_s(found, "c")) == (14.0, 7.0)


class Chosen:
    """Every pipeline runs the model of its name."""

    def choice(self, pipeline: str) -> ModelChoice:
        return ModelChoice(pipeline, 1, "")


class Many(Host):
    """A supervisor with more than one keeper; all notices go to all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: LaneGroups | None = None

    async def start(self, role: str, *arguments: str) -> Any:
        group = next(word.partition("=")[2] for word in arguments if word.startswith("--group="))
        assert self.groups is not None
        self.keeper = next(k for k in self.groups.keepers if k.group == group)
        return await super().start(role, *arguments)

    def served(self) -> dict[str, list[str]]:
        """Return the pipelines of the active processes by role."""
        assert self.groups is not None
        return {str(row["role"]): sorted(row["pipelines"]) for row in self.groups.rows()}


@pytest.fixture
async def many() -> AsyncIterator[Many]:
    host = Many()
    ended: list[str] = []

    async def end_children(beginning: str) -> None:
        ended.append(beginning)

    async with asyncio.TaskGroup() as tasks:
        host.groups = LaneGroups(
            config(("a", "g"), ("b", "g"), ("c", None)), Chosen(), host, SystemClock(), end_children
        )
        host.groups.start(tasks)
        await until(lambda: len(host.active) == 2)
        yield host
        await host.groups.end()
        host.groups.cancel()


async def test_groups_that_a_reload_does_not_touch_keep_their_process(many: Many) -> None:
    assert many.groups is not None
    assert many.served() == {"lane/g": ["a", "b"], "lane/c": ["c"]}
    old = config(("a", "g"), ("b", "g"), ("c", None))
    new = config(("a", "g"), ("b", "h"), ("c", None))
    before: Mapping[str, Any] = {row["role"]: row for row in many.groups.rows()}
    processes = {lane.role: lane for lane in many.started}
    await many.groups.change(new, of(old, new))
    assert many.retired == [["b"]]
    await until(lambda: many.served() == {"lane/g": ["a"], "lane/c": ["c"], "lane/h": ["b"]})
    await until(lambda: processes["lane/g/1"].ended.done())
    assert not processes["lane/c/1"].ended.done()
    assert before["lane/c"] in list(many.groups.rows())
    assert many.groups.of("b").group == "h"
    assert many.groups.pipeline("b")["model"]["name"] == "b"


async def test_a_group_that_goes_ends_its_process_and_its_faults(many: Many) -> None:
    assert many.groups is not None
    many.report_fault("c", "M512", "no good")
    old = config(("a", "g"), ("b", "g"), ("c", None))
    new = config(("a", "g"), ("b", "g"))
    await many.groups.change(new, of(old, new))
    await until(lambda: many.served() == {"lane/g": ["a", "b"]})
    assert "c" not in many.faults
    with pytest.raises(KeyError):
        many.groups.of("c")


async def test_a_pipeline_that_moves_starts_in_its_new_group_when_the_old_one_has_let_go_of_it(
    many: Many,
) -> None:
    # A block has one writer, ever: the old process may be slow to answer, the new one quick to start.
    assert many.groups is not None
    old = config(("a", "g"), ("b", "g"), ("c", None))
    new = config(("a", "g"), ("b", "c"), ("c", None))
    many.slow_s["lane/g/1"] = 0.3
    changing = asyncio.create_task(many.groups.change(new, of(old, new)))
    await until(lambda: len(many.started) == 3)
    await asyncio.sleep(0.1)
    assert len(many.active) == 2
    await changing
    await until(lambda: many.served() == {"lane/g": ["a"], "lane/c": ["b", "c"]})

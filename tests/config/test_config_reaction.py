"""The worst-case reaction times: what they are made of, and that they keep the order that makes them safe."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.reaction import TICK_MS, Reaction, reactions, times_of
from edge_opcua.config.schema import EdgeConfig


@pytest.fixture(scope="module")
def press() -> EdgeConfig:
    config = load(Path(examples_dir() / "press" / "press.toml"), env={}).config
    assert config is not None
    return config


def _with(config: EdgeConfig, **changes: object) -> EdgeConfig:
    return config.model_copy(update={"outputs": (config.outputs[0].model_copy(update=changes),)})


def _named(config: EdgeConfig) -> dict[str, Reaction]:
    return {reaction.fault: reaction for reaction in reactions(config, config.outputs[0])}


def test_a_total_is_the_sum_of_the_parts_it_is_shown_with() -> None:
    assert Reaction("lane frozen", (("silence", 300.0), ("write", 12.5))).total_ms == 312.5


def test_a_dead_edge_is_noticed_by_the_plc_alone(press: EdgeConfig) -> None:
    output = press.outputs[0]
    dead = _named(press)["edge or network dead"]
    assert dead.total_ms == output.plc_timeout_ms + 2 * output.plc_scan_ms


def test_the_lane_is_given_up_before_the_plc_gives_us_up(press: EdgeConfig) -> None:
    for timeout_ms, heartbeat_ms in ((500, 100), (1000, 100), (2000, 400)):
        changed = _with(press, plc_timeout_ms=timeout_ms, heartbeat_ms=heartbeat_ms)
        times = times_of(changed, changed.outputs[0])
        assert times.lane_ms + TICK_MS < times.plc_timeout_ms


def test_only_what_may_pass_is_ridden_through(press: EdgeConfig) -> None:
    before, after = _named(press), _named(_with(press, hold_s=2.0))
    later = {fault for fault in before if after[fault].total_ms > before[fault].total_ms}
    assert later == {"result late", "input lost"}
    assert all(after[fault].total_ms == before[fault].total_ms + 2000 for fault in later)


def test_what_an_input_may_be_silent_covers_one_answer_that_is_lost(press: EdgeConfig) -> None:
    vib = press.device("vib").model_copy(update={"timeout_ms": 3000})
    slow = press.model_copy(update={"devices": (press.device("press"), vib)})
    assert times_of(slow, slow.outputs[0]).input_ms > 3000 + 2 * 20
    quick = vib.model_copy(update={"timeout_ms": 100})
    fast = press.model_copy(update={"devices": (press.device("press"), quick)})
    assert times_of(fast, fast.outputs[0]).input_ms == fast.outputs[0].plc_timeout_ms


def test_an_output_takes_the_silence_of_a_safety_lane_as_every_other_reader_does(press: EdgeConfig) -> None:
    def lane_ms(lane: str, deadline_ms: int) -> float:
        changed = {"lane": lane, "deadline_ms": deadline_ms}
        pipelines = (press.pipelines[0].model_copy(update=changed),)
        return times_of(press.model_copy(update={"pipelines": pipelines}), press.outputs[0]).lane_ms

    usual = lane_ms("realtime", 60)
    assert lane_ms("safety", 60) == 60 + 50 < usual  # deadline and one tick
    assert lane_ms("safety", 5) == 2 * TICK_MS  # an output looks no more often
    assert lane_ms("safety", 10_000) == usual

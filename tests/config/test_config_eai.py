"""The map of the edge-AI interface: every word has one meaning, and every change of meaning is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.config.eai import (
    CONTROL_WORDS,
    HEAD_WORDS,
    HIGHEST,
    Ctrl,
    EaiMap,
    Stat,
    eai_map,
    following,
)
from edge_opcua.config.outputs import InterfaceConfig, ResultConfig

INTERFACE = InterfaceConfig(control="DB21", status="DB20")


def _named(*names: str) -> InterfaceConfig:
    results = tuple(ResultConfig(name=name, source="score", type="REAL") for name in names)
    return INTERFACE.model_copy(update={"results": results})


def test_results_follow_the_head_without_a_gap_and_the_tail_ends_the_area() -> None:
    words = eai_map("verdict", INTERFACE, "s7")
    assert [field.word for field in words.results] == [HEAD_WORDS, HEAD_WORDS + 2, HEAD_WORDS + 4]
    assert words.tail_word == HEAD_WORDS + 6
    assert words.status_words == words.tail_word + 1
    assert words.control_words == CONTROL_WORDS == 8


@pytest.mark.parametrize("bits", [Ctrl, Stat])
def test_every_bit_is_one_of_sixteen_and_used_once(bits: type[Ctrl] | type[Stat]) -> None:
    values = [bit.value for bit in bits]
    assert len(set(values)) == len(values)
    assert all(value.bit_count() == 1 and value < 1 << 16 for value in values)


def test_an_s7_has_the_high_word_first_and_the_others_the_low_one_unless_it_is_said() -> None:
    assert eai_map("v", INTERFACE, "s7").high_first
    assert not eai_map("v", INTERFACE, "modbus").high_first
    assert not eai_map("v", INTERFACE, "ethernet-ip").high_first
    said = INTERFACE.model_copy(update={"word_order": "high_first"})
    assert eai_map("v", said, "modbus").high_first


def test_the_version_changes_with_everything_that_changes_what_a_word_means() -> None:
    versions = [
        eai_map("v", INTERFACE, "s7").version,
        eai_map("v", INTERFACE, "modbus").version,  # the order of words
        eai_map("v", INTERFACE.model_copy(update={"mode": "triggered"}), "s7").version,
        eai_map("v", _named("A", "B"), "s7").version,
        eai_map("v", _named("B", "A"), "s7").version,
        eai_map("v", _named("A", "B", "C"), "s7").version,
    ]
    assert len(set(versions)) == len(versions)


def test_the_version_does_not_change_with_what_a_plc_cannot_see() -> None:
    elsewhere = InterfaceConfig(control="DB7", status="DB8", poll_ms=50)
    assert eai_map("other", elsewhere, "s7").version == eai_map("v", INTERFACE, "s7").version


@given(st.lists(st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,8}", fullmatch=True), min_size=1, max_size=40))
def test_a_version_is_a_word_that_is_never_0(names: list[str]) -> None:
    assert 1 <= EaiMap("v", _named(*names), high_first=True).version <= HIGHEST


@given(st.integers(0, HIGHEST))
def test_a_counter_runs_through_all_words_but_0(counter: int) -> None:
    after = following(counter)
    assert 1 <= after <= HIGHEST
    assert after == counter + 1 or (counter == HIGHEST and after == 1)

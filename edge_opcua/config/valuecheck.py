"""Checks the single tags that outputs write: that each fits what it gets, has a range, and one owner."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.draft import Draft
from edge_opcua.config.locate import Path
from edge_opcua.config.outputs import OutputConfig, OutputValueConfig
from edge_opcua.config.problem import Problem, Severity, quoted
from edge_opcua.config.references import INTEGERS, is_bool, tag_of
from edge_opcua.config.schema import TagConfig
from edge_opcua.core.values import Scalar

_WITH_DECIMALS: Final = ("score", "confidence")
_BIT_ENDS: Final = (0.0, 1.0)
_SHAPING: Final = ("rate_per_s", "deadband", "min_interval_ms")


@dataclass(frozen=True, slots=True)
class _Value:
    """One tag that an output writes, with all that is known of it."""

    draft: Draft
    path: Path
    output: OutputConfig
    config: OutputValueConfig
    tag: TagConfig

    def report(self, key: str, code: str, message: str, help_text: str = "") -> None:
        self.draft.report((*self.path, key), Problem(code, message, help=help_text))

    def warn(self, key: str, code: str, message: str, help_text: str = "") -> None:
        problem = Problem(code, message, Severity.WARNING, help=help_text)
        self.draft.report((*self.path, key), problem)

    @property
    def low(self) -> float | None:
        """Its lowest value: its own, or else the tag's."""
        if is_bool(self.tag):
            return _BIT_ENDS[0]
        return self.config.low if self.config.low is not None else self.tag.low

    @property
    def high(self) -> float | None:
        """Its highest value."""
        if is_bool(self.tag):
            return _BIT_ENDS[1]
        return self.config.high if self.config.high is not None else self.tag.high


def check_values(draft: Draft, path: Path, output: OutputConfig) -> None:
    """Check the tags of one output by themselves."""
    for index, config in enumerate(output.values):
        at = (*path, "values", index)
        if config.tag.partition("/")[0] != output.device:
            message = f"{quoted(config.tag)} is no tag of {quoted(output.device)}, which the output writes to"
            help_text = "one output, one device: its link and its watchdog say whether it may write"
            draft.report((*at, "tag"), Problem("C168", message, help=help_text))
            continue
        tag = tag_of(draft, (*at, "tag"), config.tag)
        if tag is None:
            continue
        value = _Value(draft, at, output, config, tag)
        if not _is_writable(value):
            continue
        _fit(value)
        if _range(value):
            _safe(value)
        _times(value)
        _shaping(value)
    for index, config in enumerate(output.values):
        _writers(draft, (*path, "values", index), config)


def _is_writable(value: _Value) -> bool:
    tag, name = value.tag, quoted(value.config.tag)
    if tag.length or tag.type in (Scalar.STRING, Scalar.DATETIME):
        value.report("tag", "C168", f"{name} is not a single number or BOOL ({tag.address})")
    elif not tag.writable:
        value.report("tag", "C168", f"{name} is not writable", f"give it access rw in {tag.file}:{tag.line}")
    else:
        return True
    return False


def _fit(value: _Value) -> None:
    config, tag, name = value.config, value.tag, quoted(value.config.tag)
    if is_bool(tag) != (config.kind == "bit"):
        word = "bit" if is_bool(tag) else "setpoint"
        message = f"{name} is {'a BOOL' if is_bool(tag) else 'no BOOL'} ({tag.address})"
        value.report("kind", "C168", message, f'write kind = "{word}"')
    elif config.kind == "bit" and config.source != "verdict":
        value.report(
            "source", "C168", f"{config.source} is a number; {name} is a BOOL", "a BOOL takes verdict"
        )
    elif config.source in _WITH_DECIMALS and tag.type in INTEGERS and not is_bool(tag):
        value.warn(
            "source",
            "C168",
            f"{name} is a whole number ({tag.address}): decimals of {config.source} are lost",
        )
    pipeline = next(
        (each for each in value.draft.pipelines.values() if each.name == value.output.pipeline), None
    )
    if config.source == "part_id" and pipeline is not None and pipeline.part_id is None:
        message = f"pipeline {quoted(pipeline.name)} tells no part_id"
        value.report("source", "C168", message, 'give it one: part_id = "device/tag"')


def _range(value: _Value) -> bool:
    """Check the limits; return whether they are some."""
    config, tag = value.config, value.tag
    for key, own, limit, is_beyond in (
        ("low", config.low, tag.low, operator.lt),
        ("high", config.high, tag.high, operator.gt),
    ):
        if own is not None and limit is not None and is_beyond(own, limit):
            message = f"{own:g} lies outside the tag's own range, whose {key} is {limit:g}"
            value.report(key, "C164", message, "the write would be refused")
    if value.low is not None and value.high is not None and value.low >= value.high:
        message = f"range {value.low:g}..{value.high:g}: low must be below high"
        value.report("high" if config.high is not None else "low", "C164", message)
        return False
    if value.low is not None and value.high is not None and config.deadband >= value.high - value.low:
        message = f"a deadband of {config.deadband:g} is the whole range {value.low:g}..{value.high:g}"
        value.report("deadband", "C164", message, "nothing would ever be written")
    return True


def _safe(value: _Value) -> None:
    """What is written when the output falls safe has to be known, and allowed."""
    config = value.config
    if config.strategy == "preset":
        _preset(value)
    elif config.preset is not None:
        message = f"preset has no effect with strategy {quoted(config.strategy)}"
        value.warn("preset", "C172", message, 'write strategy = "preset", or leave preset out')
    if config.strategy in ("low", "high") and getattr(value, config.strategy) is None:
        message = f"strategy {quoted(config.strategy)} needs a {config.strategy} end of the range"
        help_text = f"write {config.strategy} = … here, or in {value.tag.file}:{value.tag.line}"
        value.report("strategy", "C164", message, help_text)
    if config.strategy == "relinquish" and value.output.grant is None:
        message = "authority is given back to nobody: the PLC is not asked for it"
        help_text = "name the BOOL by which it grants authority (grant), or take another strategy"
        value.report("strategy", "C167", message, help_text)


def _preset(value: _Value) -> None:
    config = value.config
    if config.preset is None:
        message = f"what does {quoted(config.tag)} become when the output falls safe? preset is missing"
        help_text = "write preset = …; or strategy hold_last, low, high or relinquish"
        value.report("strategy", "C164", message, help_text)
        return
    if is_bool(value.tag) and config.preset not in _BIT_ENDS:
        value.report("preset", "C164", f"{config.preset:g} is no BOOL", "0 or 1")
        return
    is_low = value.low is not None and config.preset < value.low
    if is_low or (value.high is not None and config.preset > value.high):
        low = "" if value.low is None else f"{value.low:g}"
        high = "" if value.high is None else f"{value.high:g}"
        message = f"{config.preset:g} is outside the range {low}..{high}"
        value.report("preset", "C164", message, "the fail-safe value would not be written")


def _times(value: _Value) -> None:
    ttl_s = value.config.ttl_s
    if ttl_s is None:
        return
    if value.output.hold_s >= ttl_s:
        message = f"the output holds for {value.output.hold_s:g} s what counts for {ttl_s:g} s only"
        value.report("ttl_s", "C171", message, "make ttl_s longer than hold_s")
    if value.config.min_interval_ms >= 1000 * ttl_s:
        message = f"{value.config.min_interval_ms} ms between two writes is longer than ttl_s = {ttl_s:g} s"
        value.report("min_interval_ms", "C171", message, "every value would be too old to be written")


def _shaping(value: _Value) -> None:
    """A command or a bit is written as it is: nothing between two of them would be right."""
    config = value.config
    if config.kind == "setpoint":
        return
    for key in _SHAPING:
        if getattr(config, key):
            value.warn(key, "C172", f"{key} has no effect on a {config.kind}", "leave it out")


def _writers(draft: Draft, path: Path, config: OutputValueConfig) -> None:
    if len(set(config.writers)) < len(config.writers):
        draft.report((*path, "writers"), Problem("C170", "a writer stands there twice"))
    if "model" not in config.writers:
        message = f"nobody lets the model write {quoted(config.tag)}"
        help_text = 'writers = ["operator", "model"] lets a person take the tag from the model'
        draft.report((*path, "writers"), Problem("C170", message, help=help_text))


def check_writers(draft: Draft) -> None:
    """Check that every tag has one output at most."""
    first: dict[str, tuple[str, str]] = {}
    for path, output, key, reference in _written(draft):
        other = first.setdefault(reference, (output.name, key))
        if other == (output.name, key):
            continue
        who = f"as {other[1]} of output {quoted(other[0])}" if other[0] != output.name else f"as {other[1]}"
        message = f"{quoted(reference)} is written {who} already: one writer only"
        draft.report(path, Problem("C169", message))
    for index, output in draft.outputs.items():
        if output.acknowledge in first:
            owner, _ = first[output.acknowledge]
            message = f"{quoted(output.acknowledge)} is written by output {quoted(owner)}: one writer only"
            help_text = "an acknowledge comes from people or the PLC"
            draft.report(("outputs", index, "acknowledge"), Problem("C169", message, help=help_text))


def _written(draft: Draft) -> Iterator[tuple[Path, OutputConfig, str, str]]:
    """Yield every tag that an output writes: where it says so, and as what."""
    for index, output in draft.outputs.items():
        for number, value in enumerate(output.values):
            path = ("outputs", index, "values", number, "tag")
            yield path, output, f"value {number + 1}", value.tag
        if output.heartbeat is not None:
            yield ("outputs", index, "heartbeat"), output, "heartbeat", output.heartbeat

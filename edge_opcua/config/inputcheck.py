"""Checks what a pipeline is fed with: one capture, or samples of tags with a time at which they are taken."""

from __future__ import annotations

from typing import Final

from edge_opcua.config.draft import Draft
from edge_opcua.config.locate import Path
from edge_opcua.config.problem import Problem, Severity, quoted
from edge_opcua.config.references import capture_of, tag_of
from edge_opcua.config.schema import PipelineConfig, TagConfig
from edge_opcua.config.tags import DEFAULT_GROUP
from edge_opcua.core.values import Scalar

MOST_NUMBERS: Final = 100_000
"""Numbers of one window: samples times tags."""
_DEFAULT_MS: Final = 1000
_OF_INPUTS: Final = ("every_ms", "trigger", "window")


def check_source(draft: Draft, path: Path, pipeline: PipelineConfig) -> None:
    """Add to a draft's problems whatever is wrong with what a pipeline is fed with."""
    if (pipeline.capture is None) == (not pipeline.inputs):
        both = "has both a capture and inputs" if pipeline.inputs else "has neither a capture nor inputs"
        help_text = "a model judges captures of a waveform, or samples of tags; name exactly one"
        problem = Problem("C194", f"pipeline {quoted(pipeline.name)} {both}", help=help_text)
        draft.report((*path, "inputs") if pipeline.inputs else path, problem, at_key=True)
    if pipeline.capture is not None:
        capture_of(draft, (*path, "capture"), pipeline.capture)
        _only_with_inputs(draft, path, pipeline)
    elif pipeline.inputs:
        _inputs(draft, path, pipeline)


def _only_with_inputs(draft: Draft, path: Path, pipeline: PipelineConfig) -> None:
    for key in _OF_INPUTS:
        if key in pipeline.model_fields_set and not pipeline.inputs:
            message = f"{key} belongs to a pipeline on inputs; a capture says itself when it is complete"
            draft.report((*path, key), Problem("C195", message, help="leave it out"), at_key=True)


def _inputs(draft: Draft, path: Path, pipeline: PipelineConfig) -> None:
    if (pipeline.every_ms is None) == (pipeline.trigger is None):
        said = "both every_ms and trigger" if pipeline.trigger else "neither every_ms nor trigger"
        message = f"pipeline {quoted(pipeline.name)} has {said}: when is a sample taken?"
        problem = Problem("C195", message, help="write every_ms = 1000, or trigger with a tag that changes")
        draft.report((*path, "inputs"), problem, at_key=True)
    if pipeline.context:
        message = "context belongs to a capture; a pipeline on tags has them all in inputs"
        draft.report((*path, "context"), Problem("C195", message, help="move them to inputs"), at_key=True)
    numbers = pipeline.window * len(pipeline.inputs)
    if numbers > MOST_NUMBERS:
        message = f"{pipeline.window} samples of {len(pipeline.inputs)} tags are {numbers} numbers"
        problem = Problem("C198", message, help=f"{MOST_NUMBERS} are the most; sample less often")
        draft.report((*path, "window"), problem)
    for name, reference in pipeline.inputs.items():
        place: Path = (*path, "inputs", name)
        tag = tag_of(draft, place, reference)
        if tag is not None:
            _number(draft, place, reference, tag)
            _pace(draft, place, pipeline, reference, tag)
    if pipeline.trigger is not None:
        _trigger(draft, (*path, "trigger"), pipeline.trigger)


def _number(draft: Draft, place: Path, reference: str, tag: TagConfig) -> None:
    if tag.length or tag.type in (Scalar.STRING, Scalar.DATETIME):
        message = f"{quoted(reference)} is not a number; a model cannot take it"
        draft.report(place, Problem("C117", message))


def _trigger(draft: Draft, place: Path, reference: str) -> None:
    tag = tag_of(draft, place, reference)
    if tag is None:
        return
    if tag.length or tag.type in (Scalar.STRING, Scalar.DATETIME):
        message = f"{quoted(reference)} is not a number or a bit, whose change could be seen"
        draft.report(place, Problem("C199", message))
    elif _period_ms(draft, reference, tag) == 0:
        message = f"{quoted(reference)} is read on demand only, so nobody would see it change"
        draft.report(place, Problem("C199", message, help="put it into a group with a period"))


def _pace(draft: Draft, place: Path, pipeline: PipelineConfig, reference: str, tag: TagConfig) -> None:
    """Samples that come faster than a tag is read hold the same value many times, and look like a window."""
    period_ms = _period_ms(draft, reference, tag)
    every_ms = pipeline.every_ms
    if every_ms is None or not period_ms or period_ms <= every_ms or pipeline.window == 1:
        return
    message = f"{quoted(reference)} is read every {period_ms} ms: samples every {every_ms} ms repeat it"
    help_text = "read it more often, or sample less often; the model sees steps otherwise"
    draft.report(place, Problem("C196", message, Severity.WARNING, help=help_text))


def _period_ms(draft: Draft, reference: str, tag: TagConfig) -> int | None:
    """Return how often a tag is read by time, 0 for never; None if that is not known."""
    device = draft.device(reference.partition("/")[0])
    if device is None or device.config is None:
        return None
    periods = {group.name: group.period_ms for group in device.config.groups}
    return periods.get(tag.group, _DEFAULT_MS if tag.group == DEFAULT_GROUP else None)

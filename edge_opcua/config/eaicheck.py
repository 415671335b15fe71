"""Checks an interface block against the rest: its areas, its names, its times, and who triggers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from edge_opcua.config.draft import Draft, SharedArea, tables_of, text_of
from edge_opcua.config.eai import CONTROL_WORDS, HEAD_WORDS, WORDS_PER_RESULT, ControlWord, Ctrl
from edge_opcua.config.locate import Path
from edge_opcua.config.outputs import InterfaceConfig, OutputConfig
from edge_opcua.config.plcnames import identifier, taken_by
from edge_opcua.config.problem import Problem, Severity, alternatives, counted, nearest, quoted
from edge_opcua.config.schema import PipelineConfig, TagConfig
from edge_opcua.errors import AddressError

_POLLS_PER_TIMEOUT: Final = 3
_TAIL_WORDS: Final = 1
_WORD_BITS: Final = 16


def check_interface(draft: Draft, path: Path, output: OutputConfig) -> None:
    """Check one interface block by itself."""
    interface = output.interface
    if interface is None:
        return
    at = (*path, "interface")
    _results(draft, at, interface)
    if interface.low >= interface.high:
        message = f"range {interface.low:g}..{interface.high:g}: low must be below high"
        draft.report((*at, "high"), Problem("C164", message))
    _limits(draft, at, interface)
    _times(draft, at, output, interface)
    pipeline = next((each for each in draft.pipelines.values() if each.name == output.pipeline), None)
    for index, result in enumerate(interface.results):
        if result.source == "part_id" and pipeline is not None and pipeline.part_id is None:
            message = f"pipeline {quoted(pipeline.name)} tells no part_id"
            help_text = 'give it one: part_id = "device/tag"'
            draft.report((*at, "results", index, "source"), Problem("C168", message, help=help_text))
    if interface.mode == "triggered" and pipeline is not None:
        _triggered(draft, at, output, pipeline)


def _limits(draft: Draft, at: Path, interface: InterfaceConfig) -> None:
    """A set-point that nothing limits is what the model says, however wrong it is."""
    open_ends = [key for key in ("low", "high", "rate_per_s") if key not in interface.model_fields_set]
    if interface.mode == "setpoint" and open_ends:
        message = f"the PLC would follow {quoted(interface.value)} without {alternatives(open_ends)}"
        help_text = "set the limits that the machine can bear; they go into the function block"
        draft.report((*at, "mode"), Problem("C164", message, Severity.WARNING, help=help_text))


def _results(draft: Draft, at: Path, interface: InterfaceConfig) -> None:
    first: dict[str, str] = {}
    for index, result in enumerate(interface.results):
        path = (*at, "results", index, "name")
        other, who = first.get(result.name.lower()), taken_by(result.name)
        first.setdefault(result.name.lower(), result.name)
        if other is not None:
            message = f"{quoted(result.name)} and {quoted(other)} are one name to a PLC"
            draft.report(path, Problem("C163", message, help="the case of letters does not count there"))
        elif who:
            message = f"{quoted(result.name)} is a name that {who} has already"
            draft.report(path, Problem("C163", message, help=f"call it e.g. {result.name}Value"))
    names = [result.name for result in interface.results]
    if interface.value not in names:
        suggestion = nearest(interface.value, names)
        help_text = "" if suggestion else f"results: {alternatives(names)}"
        message = f"{quoted(interface.value)} is no result; the function block needs one to give out"
        draft.report((*at, "value"), Problem("C163", message, help=help_text, suggestion=suggestion))
    elif names.index(interface.value) >= _WORD_BITS:
        message = (
            f"the PLC could not see that {quoted(interface.value)} is Bad: QualityMask has {_WORD_BITS} bits"
        )
        help_text = f"name it among the first {_WORD_BITS} results"
        draft.report((*at, "value"), Problem("C163", message, help=help_text))
    verdicts = [
        result for result in interface.results if result.source == "verdict" and result.type == "DINT"
    ]
    if interface.mode == "veto" and not verdicts:
        message = "mode veto restricts by the verdict, and none of the results is one"
        help_text = 'add a result with source = "verdict", type = "DINT"'
        draft.report((*at, "mode"), Problem("C163", message, help=help_text))


def _times(draft: Draft, at: Path, output: OutputConfig, interface: InterfaceConfig) -> None:
    if interface.poll_ms >= output.plc_timeout_ms:
        message = f"{interface.poll_ms} ms is not below plc_timeout_ms = {output.plc_timeout_ms}"
        draft.report((*at, "poll_ms"), Problem("C119", message, help="the PLC would always count as silent"))
    elif _POLLS_PER_TIMEOUT * interface.poll_ms > output.plc_timeout_ms:
        message = f"{interface.poll_ms} ms is more than a third of plc_timeout_ms = {output.plc_timeout_ms}"
        help_text = "one lost poll would look as if the PLC had stopped"
        draft.report((*at, "poll_ms"), Problem("C119", message, Severity.WARNING, help=help_text))
    least_ms = 2 * (interface.poll_ms + output.plc_scan_ms)
    if interface.mode == "triggered" and interface.ack_timeout_ms < least_ms:
        message = f"{interface.ack_timeout_ms} ms is too short: the PLC takes a result within {least_ms:g} ms"
        help_text = "two scans of the PLC and two polls of its words"
        draft.report((*at, "ack_timeout_ms"), Problem("C119", message, help=help_text))


def _triggered(draft: Draft, at: Path, output: OutputConfig, pipeline: PipelineConfig) -> None:
    if pipeline.capture is not None:
        _trigger(draft, at, output, pipeline.capture)
    elif pipeline.inputs:
        message = f"the PLC triggers captures, but pipeline {quoted(pipeline.name)} is fed with tags"
        help_text = 'take mode = "polled"; the pipeline may have a trigger of its own'
        draft.report((*at, "mode"), Problem("C166", message, help=help_text))


def _trigger(draft: Draft, at: Path, output: OutputConfig, reference: str) -> None:
    """In mode triggered the PLC's TriggerSeq is the number of the capture, and its Trigger the start."""
    device, area = draft.device(output.device), _area_of(draft, output, "control")
    if device is None or device.plugin is None or area is None:
        return
    name, _, capture_name = reference.partition("/")
    number = (area.area.words(ControlWord.TRIGGER_SEQ, 0), ControlWord.TRIGGER_SEQ, None)
    bit = Ctrl.TRIGGER.bit_length() - 1
    wanted = {
        "sequence": number,
        "stroke": number,
        "ready": (area.area.bit(ControlWord.CTRL, bit), ControlWord.CTRL, bit),
    }
    said = ", ".join(f'{key} = "{text}"' for key, (text, _, _) in wanted.items())
    if name != output.device:
        message = f"the PLC triggers, but the pipeline's capture {quoted(reference)} lies in another device"
        help_text = f"give {quoted(output.device)} a capture with {said}"
        draft.report((*at, "mode"), Problem("C166", message, help=help_text))
        return
    for place, table in enumerate(tables_of(tables_of(draft.raw, "devices")[device.index], "captures")):
        if text_of(table, "name") != capture_name:
            continue
        for key, (text, word, of_word) in wanted.items():
            given = text_of(table, key)
            if given and _is_other_place(area, given, word, of_word):
                message = f"{quoted(given)} is not what the PLC triggers output {quoted(output.name)} with"
            elif not given:
                message = f"output {quoted(output.name)} is triggered by the PLC; {key} has to be its word"
            else:
                continue
            path = (*device.path, "captures", place, key)
            draft.report(path, Problem("C166", message, help=f'write {key} = "{text}"'))


def _is_other_place(area: SharedArea, text: str, word: int, bit: int | None) -> bool:
    parse = area.device.tables.parse
    try:
        return parse is not None and not area.area.holds(parse(text), word, bit)
    except AddressError:  # said where it stands
        return False


def _area_of(draft: Draft, output: OutputConfig, key: str) -> SharedArea | None:
    device = draft.device(output.device)
    found = device.areas if device is not None else ()
    return next((area for area in found if (area.output, area.key) == (output.name, key)), None)


def check_areas(draft: Draft) -> None:
    """Check the areas of all outputs: that one request takes them, and that nothing else writes there."""
    seen: list[SharedArea] = []
    for path, area in _placed(draft):
        _size(draft, path, area)
        other = next((each for each in seen if area.overlaps(each)), None)
        seen.append(area)
        if other is not None:
            whose = "" if other.output == area.output else f" of output {quoted(other.output)}"
            message = f"{area.words_text} overlaps {other.key}{whose}, {other.words_text}"
            help_text = "each area has one writer; leave room between them"
            draft.report(path, Problem("C161", message, help=help_text))
        _tags(draft, area)
    _same_names(draft)


def _placed(draft: Draft) -> Iterator[tuple[Path, SharedArea]]:
    numbers = {output.name: index for index, output in draft.outputs.items()}
    for device in draft.devices:
        for area in device.areas:
            yield ("outputs", numbers[area.output], "interface", area.key), area


def _size(draft: Draft, path: Path, area: SharedArea) -> None:
    """The status area is written, and the control area read, in one request, or half of it could be old."""
    most = area.area.most_words
    if area.size <= most:
        return
    if area.key == "control":
        message = f"{CONTROL_WORDS} words have to come in one answer; {quoted(area.device.name)} gives {most}"
        draft.report(path, Problem("C162", message, help="raise max_registers in its options"))
        return
    fit = (most - HEAD_WORDS - _TAIL_WORDS) // WORDS_PER_RESULT
    message = (
        f"{area.size} words do not fit into one request of {quoted(area.device.name)}, which takes {most}"
    )
    room = f"{counted(fit, 'result')} would fit" if fit > 0 else "not even one result would fit"
    draft.report(path, Problem("C162", message, help=room))


def _tags(draft: Draft, area: SharedArea) -> None:
    tables, parse = area.device.tables, area.device.tables.parse
    if parse is None:
        return
    if area.tag in tables.names:
        tag = area.device.tag(area.tag)
        message = f"{quoted(area.tag)} is the name of a tag that output {quoted(area.output)} adds"
        _report_tag(draft, area, tag, "name", Problem("T263", message, help="give it another name"))
    for tag in tables.tags:
        if tag.writable and area.touches(parse(tag.address)):
            writer = f"output {quoted(area.output)}" if area.key == "status" else "the PLC"
            message = (
                f"{area.device.name}/{tag.name} is written by {writer} "
                "and also allowed to SCADA users: one writer only"
            )
            help_text = f"give it access r, or leave {area.words_text} to {writer}"
            _report_tag(draft, area, tag, "access", Problem("T221", message, help=help_text))


def _report_tag(draft: Draft, area: SharedArea, tag: TagConfig | None, column: str, problem: Problem) -> None:
    if tag is not None:
        draft.problems.append(area.device.tables.problem_at(tag, column, problem))


def _same_names(draft: Draft) -> None:
    """The function blocks of one PLC are called after their outputs."""
    first: dict[tuple[str, str], str] = {}
    for index, output in _with_interface(draft):
        other = first.setdefault((output.device, identifier(output.name)), output.name)
        if other != output.name:
            message = f"{quoted(output.name)} and {quoted(other)} are one name to the PLC"
            help_text = "their function blocks would be called the same; give one another name"
            draft.report(("outputs", index, "name"), Problem("C163", message, help=help_text))


def _with_interface(draft: Draft) -> Iterable[tuple[int, OutputConfig]]:
    return ((index, output) for index, output in draft.outputs.items() if output.interface is not None)

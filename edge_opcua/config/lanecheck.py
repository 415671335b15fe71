"""Checks what pipelines promise and share: classes of lanes, groups, processors, times, where models run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

from edge_opcua.config.draft import Draft, tables_of, text_of
from edge_opcua.config.lanes import AUTO
from edge_opcua.config.locate import Path
from edge_opcua.config.problem import Problem, Severity, alternatives, nearest, quoted
from edge_opcua.config.schema import PipelineConfig

SAFETY: Final = "safety"
REMOTE: Final = "remote"
# Backends that have one place to run in, and how a pipeline calls it; the others have all but these.
ONLY_PROVIDER: Final = {REMOTE: REMOTE, "tensorrt": "tensorrt"}

LEAST_MB: Final = 128
"""What a lane process takes with the smallest model, ONNX Runtime included; 96 are too few to start."""


def check_lanes(draft: Draft, cores: Iterable[int] = range(os.cpu_count() or 1)) -> None:
    """Add to a draft's problems whatever its lanes cannot do, or cannot do together.

    Args:
        draft: The configuration.
        cores: Numbers of the processors there are.
    """
    for index, pipeline in draft.pipelines.items():
        path: Path = ("pipelines", index)
        if pipeline.lane == SAFETY:
            _safety(draft, path, pipeline)
        _provider(draft, path, pipeline)
        _cheaper(draft, path, pipeline)
        _times(draft, path, pipeline)
        _named_like_a_pipeline(draft, path, pipeline)
    _mixed(draft)
    _memory(draft)
    _groups(draft, frozenset(cores))


def _safety(draft: Draft, path: Path, pipeline: PipelineConfig) -> None:
    """A safety lane is one process with one thread that does one thing: nothing that may wait for others."""
    found: list[tuple[Path, str, str]] = []
    if pipeline.late != "fail_safe":
        found.append((("late",), f"late = {quoted(pipeline.late)}", "what is late falls safe"))
    if REMOTE in (pipeline.backend, pipeline.provider):
        found.append((("provider",), "a model on another computer", "its answer depends on a network"))
    if pipeline.cheaper_version is not None:
        found.append((("cheaper_version",), "a cheaper version", "it runs one model, always the same"))
    if "max_batch" in pipeline.model_fields_set and pipeline.max_batch > 1:
        found.append((("max_batch",), f"max_batch = {pipeline.max_batch}", "each capture is judged alone"))
    threads = pipeline.options.get("threads")
    if isinstance(threads, int) and threads > 1:
        found.append((("options", "threads"), f"{threads} threads", "one thread waits for no other"))
    for key_path, what, why in found:
        _not_for_safety(draft, (*path, *key_path), f"{pipeline.name}: {what}", why)


def _not_for_safety(draft: Draft, path: Path, what: str, why: str) -> None:
    message = f"{what} is not possible in a safety lane: {why}"
    draft.report(path, Problem("C183", message, help='leave it out, or take lane = "realtime"'))


def _provider(draft: Draft, path: Path, pipeline: PipelineConfig) -> None:
    wanted = ONLY_PROVIDER.get(pipeline.backend)
    if wanted is not None and pipeline.provider != wanted:
        message = f"the backend {quoted(pipeline.backend)} does not run on {quoted(pipeline.provider)}"
        draft.report((*path, "provider"), Problem("C189", message, help=f'write provider = "{wanted}"'))
    elif pipeline.provider == REMOTE and pipeline.backend != REMOTE:
        message = f"the backend {quoted(pipeline.backend)} does not run on {quoted(REMOTE)}"
        draft.report((*path, "provider"), Problem("C189", message, help=f'write backend = "{REMOTE}"'))


def _cheaper(draft: Draft, path: Path, pipeline: PipelineConfig) -> None:
    if pipeline.cheaper_version == AUTO and REMOTE in (pipeline.backend, pipeline.provider):
        message = f'cheaper_version = "{AUTO}" goes by what was measured here, {pipeline.name} runs elsewhere'
        help_text = "name the version, or leave it out"
        draft.report((*path, "cheaper_version"), Problem("C200", message, help=help_text))
    if pipeline.cheaper_version == pipeline.version:
        message = f"version {pipeline.version} is the version of the pipeline itself"
        help_text = "name one that needs less time, or leave it out"
        draft.report((*path, "cheaper_version"), Problem("C186", message, help=help_text))


def _times(draft: Draft, path: Path, pipeline: PipelineConfig) -> None:
    period_ms = pipeline.period_ms or pipeline.every_ms
    device, _, name = (pipeline.capture or "").partition("/")
    drafted = draft.device(device)
    capture = drafted.captures.get(name) if drafted else None
    if period_ms is not None and capture is not None and period_ms < capture.poll_ms:
        message = f"{period_ms} ms is shorter than {capture.poll_ms} ms, poll_ms of {quoted(name)}"
        help_text = "captures that come faster are not seen"
        _warn_of_time(draft, (*path, "period_ms"), message, help_text)
    if period_ms is not None and pipeline.lane == SAFETY and pipeline.deadline_ms > period_ms:
        message = f"{pipeline.deadline_ms} ms is longer than the period, {period_ms} ms"
        help_text = "in a safety lane the next capture takes the place of one that waits: it has no verdict"
        _warn_of_time(draft, (*path, "deadline_ms"), message, help_text)
    timeout_ms = pipeline.options.get("timeout_ms")
    if pipeline.backend == REMOTE and isinstance(timeout_ms, int) and timeout_ms > pipeline.deadline_ms:
        message = f"{timeout_ms} ms is longer than the deadline, {pipeline.deadline_ms} ms"
        _warn_of_time(
            draft, (*path, "options", "timeout_ms"), message, "nobody waits for an answer that long"
        )


def _warn_of_time(draft: Draft, path: Path, message: str, help_text: str) -> None:
    draft.report(path, Problem("C188", message, Severity.WARNING, help=help_text))


def _named_like_a_pipeline(draft: Draft, path: Path, pipeline: PipelineConfig) -> None:
    group = pipeline.group
    if group is None or group == pipeline.name:
        return
    other = next((each for each in draft.pipelines.values() if each.name == group), None)
    if other is not None and other.group != group:
        message = f"group {quoted(group)} has the name of a pipeline that is not in it"
        help_text = f"write group = {quoted(group)} there too, or take another name"
        draft.report((*path, "group"), Problem("C184", message, help=help_text))


def _members(draft: Draft) -> dict[str, list[tuple[int, PipelineConfig]]]:
    members: dict[str, list[tuple[int, PipelineConfig]]] = {}
    for index, pipeline in draft.pipelines.items():
        members.setdefault(pipeline.process, []).append((index, pipeline))
    return members


def _memory(draft: Draft) -> None:
    """The limit of a process is the sum of its pipelines; one without any takes it off."""
    for pipelines in _members(draft).values():
        parts = [pipeline.memory_mb for _, pipeline in pipelines]
        total = sum(part or LEAST_MB for part in parts)
        if total < LEAST_MB:
            together = " together" if len(parts) > 1 else ""
            message = f"{total} MB{together} are less than a lane process takes by itself, {LEAST_MB} MB"
            path: Path = ("pipelines", pipelines[0][0], "memory_mb")
            draft.report(path, Problem("C103", message, help="edge-opcua lanes shows what each process uses"))


def _mixed(draft: Draft) -> None:
    """One safety lane in a process makes its priority everybody's; so only safety lanes share one."""
    for group, pipelines in _members(draft).items():
        safe = [pipeline.name for _, pipeline in pipelines if pipeline.lane == SAFETY]
        others = [(index, pipeline) for index, pipeline in pipelines if pipeline.lane != SAFETY]
        if safe and others:
            index, first = others[0]
            message = f"group {quoted(group)}: {first.name} is {first.lane}, but {safe[0]} is safety"
            help_text = "a safety lane shares its process with safety lanes only; give it a group of its own"
            draft.report(("pipelines", index, "group"), Problem("C182", message, help=help_text))


def _groups(draft: Draft, cores: frozenset[int]) -> None:
    inference = draft.raw.get("inference")
    tables = tables_of(inference, "groups") if isinstance(inference, dict) else []
    wanted = {pipeline.process for pipeline in draft.pipelines.values()}
    first: dict[str, int] = {}
    for number, table in enumerate(tables):
        path: Path = ("inference", "groups", number)
        name = text_of(table, "name")
        if first.setdefault(name, number) != number:
            draft.report((*path, "name"), Problem("C111", f"{quoted(name)} is defined twice"))
        elif name and name not in wanted and _all_known(draft):
            message = f"no pipeline is in group {quoted(name)}; nothing will be run for it"
            problem = Problem("C187", message, Severity.WARNING, suggestion=nearest(name, wanted))
            draft.report((*path, "name"), problem)
        _cores(draft, path, table.get("cores"), cores)
        _workers(draft, path, name, table.get("workers"))


def _all_known(draft: Draft) -> bool:
    """Whether every pipeline is right for itself, so that a missing one is really missing."""
    return len(draft.pipelines) == len(tables_of(draft.raw, "pipelines"))


def _cores(draft: Draft, path: Path, wanted: Any, cores: frozenset[int]) -> None:
    for number, core in enumerate(wanted if isinstance(wanted, list) else ()):
        if isinstance(core, int) and core >= 0 and core not in cores:
            message = f"this computer has no processor {core}, only {alternatives(map(str, sorted(cores)))}"
            help_text = "that is right if the server runs on another one"
            problem = Problem("C185", message, Severity.WARNING, help=help_text)
            draft.report((*path, "cores", number), problem)


def _workers(draft: Draft, path: Path, name: str, workers: Any) -> None:
    lanes = {pipeline.lane for pipeline in draft.pipelines.values() if pipeline.process == name}
    if SAFETY in lanes and isinstance(workers, int) and workers > 1:
        why = "each capture is judged at once, by one thread"
        _not_for_safety(draft, (*path, "workers"), f"group {name}: {workers} workers", why)

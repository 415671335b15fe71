"""What ``check`` says of lanes: what each pipeline asks for, what was measured, and what can be promised."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.models.active import ActiveModels
from edge_opcua.app.serving.costs import Row, cost_ns, read_costs
from edge_opcua.config.loader import Loaded
from edge_opcua.config.problem import Problem, Severity, counted
from edge_opcua.config.schema import EdgeConfig, PipelineConfig
from edge_opcua.core.statedir import StateDir
from edge_opcua.inference.schedule.feasibility import Finding, Machine, Report, Task, report
from edge_opcua.inference.schedule.request import LaneClass

MOST_ROWS: Final = 30
NOT_MEASURED: Final = "not measured yet: measured at the first start"
_MS: Final = 1e6
_CLASSES: Final = {
    "safety": LaneClass.SAFETY,
    "realtime": LaneClass.REALTIME,
    "best_effort": LaneClass.BEST_EFFORT,
}


@dataclass(frozen=True, slots=True)
class Promise:
    """One pipeline.

    Args:
        pipeline: Its settings; the version is the one that a start would run.
        cost_ns: What features and run take, 99th percentiles; None if not measured on this computer.
        finding: What can be promised; None if nobody knows.
    """

    pipeline: PipelineConfig
    cost_ns: int | None
    finding: Finding | None


@dataclass(frozen=True, slots=True)
class Promises:
    """All pipelines.

    Args:
        rows: One per pipeline, in the order of the configuration.
        workers: Workers of each group.
        groups: Share of the workers' time that each group asks for, of what was measured.
        total: Share of the processors' time, of what was measured.
        cores: Processors there are.
    """

    rows: tuple[Promise, ...]
    workers: Mapping[str, int]
    groups: Mapping[str, float]
    total: float
    cores: int

    @property
    def broken(self) -> tuple[Promise, ...]:
        """Those whose deadline cannot be promised; best effort is promised nothing."""
        return tuple(
            row
            for row in self.rows
            if row.finding is not None and not row.finding.ok and row.pipeline.lane != "best_effort"
        )


def examine(config: EdgeConfig, state_dir: Path | None, *, cores: int | None = None) -> Promises:
    """Return what can be promised with what a server on this state directory has measured.

    Args:
        config: The configuration.
        state_dir: The state directory; None: nothing was measured.
        cores: Processors for the lanes; those this process may use if None.
    """
    if state_dir is None:
        costs: Mapping[str, Mapping[str, Row]] = {}
        pipelines = config.pipelines
    else:
        state = StateDir(state_dir)
        costs = read_costs(state.model_costs)
        active = ActiveModels(state, config)
        versions = {each.name: active.choice(each.name).version for each in config.pipelines}
        pipelines = tuple(
            each.model_copy(update={"version": versions[each.name]}) for each in config.pipelines
        )
    known = {each.name: cost_ns(costs, each, each.version) for each in pipelines}
    running = config.model_copy(update={"pipelines": pipelines})
    return promises(running, known, cores or len(os.sched_getaffinity(0)))


def promises(config: EdgeConfig, costs: Mapping[str, int | None], cores: int) -> Promises:
    """Return what can be promised; pure.

    Args:
        config: The configuration.
        costs: What features and run of each pipeline take (ns), None if nobody knows.
        cores: Processors for the lanes.
    """
    workers = {pipeline.process: 1 for pipeline in config.pipelines}
    workers |= {group.name: group.workers for group in config.inference.groups if group.name in workers}
    tasks = [_task(pipeline, cost) for pipeline in config.pipelines if (cost := costs.get(pipeline.name))]
    found = report(tasks, workers, Machine(cores)) if tasks else Report((), {}, 0.0)
    findings = {finding.pipeline: finding for finding in found.findings}
    rows = (Promise(each, costs.get(each.name), findings.get(each.name)) for each in config.pipelines)
    return Promises(tuple(rows), workers, found.groups, found.total, cores)


def _task(pipeline: PipelineConfig, cost: int) -> Task:
    return Task(
        pipeline.name,
        pipeline.process,
        _CLASSES[pipeline.lane],
        cost,
        round(_period_ms(pipeline) * _MS),
        round(pipeline.deadline_ms * _MS),
    )


def _period_ms(pipeline: PipelineConfig) -> int:
    return pipeline.period_ms or pipeline.every_ms or pipeline.deadline_ms


def problems(found: Promises, loaded: Loaded) -> list[Problem]:
    """Return a warning for each deadline that cannot be promised."""
    numbers = {row.pipeline.name: number for number, row in enumerate(found.rows)}
    warnings = []
    for row in found.broken:
        finding, name = row.finding, row.pipeline.name
        assert finding is not None, "what is broken was judged"
        path = ("pipelines", numbers[name], "deadline_ms")
        problem = Problem(
            "M590",
            f"{row.pipeline.deadline_ms} ms cannot be promised: {finding.why}",
            Severity.WARNING,
            place=loaded.document.places.value(path),
            where=f"pipelines[{name}].deadline_ms",
            help=f"features and a run of {row.pipeline.model} {row.pipeline.version} take "
            f"{_time(row.cost_ns)} here",
        )
        warnings.append(loaded.document.at(problem))
    return warnings


def rows(found: Promises) -> list[list[str]]:
    """Return the section for people: a line for each pipeline, by group; then what is asked of the computer.

    Of many, those are shown first that cannot be promised.
    """
    shown = found.rows
    if len(shown) > MOST_ROWS:
        shown = tuple(sorted(shown, key=lambda row: row.finding is None or row.finding.ok))[:MOST_ROWS]
    by_group: dict[str, list[Promise]] = {}
    for row in shown:
        by_group.setdefault(row.pipeline.process, []).append(row)
    lines = []
    for group, members in by_group.items():
        head = _head(found, group)
        for row in members:
            lines.append([head, row.pipeline.name, row.pipeline.lane, _asks(row.pipeline), *_answer(row)])
            head = ""
    if len(found.rows) > len(shown):
        lines.append([f"and {len(found.rows) - len(shown)} more, none of which is worse"])
    if found.groups:
        lines.append([f"all of them ask for {found.total:.1%} of {counted(found.cores, 'processor')}"])
    return lines


def _head(found: Promises, group: str) -> str:
    workers = found.workers[group]
    many = f", {workers} workers" if workers > 1 else ""
    used = f" {found.groups[group]:.1%}" if group in found.groups else ""
    return f"{group}{many}{used}"


def _asks(pipeline: PipelineConfig) -> str:
    return f"within {pipeline.deadline_ms} ms, every {_period_ms(pipeline)} ms"


def _answer(row: Promise) -> list[str]:
    if row.cost_ns is None or row.finding is None:
        return [NOT_MEASURED]
    finding = row.finding
    worst = "no bound" if finding.worst_ns is None else f"at worst {_time(finding.worst_ns)}"
    broken = "not always" if row.pipeline.lane == "best_effort" else "CANNOT BE PROMISED (M590)"
    verdict = "kept" if finding.ok else f"{broken}: {finding.why}"
    return [f"takes {_time(row.cost_ns)}", worst, verdict]


def _time(time_ns: int | None) -> str:
    return "?" if time_ns is None else f"{time_ns / _MS:.3g} ms"


def as_json(found: Promises) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "cores": found.cores,
        "utilisation": found.total,
        "groups": [
            {"group": name, "workers": workers, "utilisation": found.groups.get(name)}
            for name, workers in found.workers.items()
        ],
        "pipelines": [_row_json(row) for row in found.rows],
    }


def _row_json(row: Promise) -> dict[str, Any]:
    finding = row.finding
    return {
        "pipeline": row.pipeline.name,
        "group": row.pipeline.process,
        "lane": row.pipeline.lane,
        "model": f"{row.pipeline.model}/{row.pipeline.version}",
        "deadline_ms": row.pipeline.deadline_ms,
        "period_ms": _period_ms(row.pipeline),
        "cost_ms": None if row.cost_ns is None else row.cost_ns / _MS,
        "worst_ms": None if finding is None or finding.worst_ns is None else finding.worst_ns / _MS,
        "ok": None if finding is None else finding.ok,
        "why": "" if finding is None else finding.why,
    }


def with_problems(loaded: Loaded, found: Promises) -> Loaded:
    """Return the configuration with a warning for each deadline that cannot be promised."""
    return replace(loaded, problems=(*loaded.problems, *problems(found, loaded)))

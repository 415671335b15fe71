"""Tries a package of a model as a lane would, without serving anything; a program of its own.

:func:`edge_opcua.inference.apart.ask_apart` runs it: a model may hang, crash or eat memory. It goes the same
way as a lane process: the same blocks of the bus, the same features, the same proof, the same measurement.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.build import plan
from edge_opcua.app.models.active import ActiveModels
from edge_opcua.app.models.promise import promises
from edge_opcua.app.serving.costs import cost_ns, read_costs
from edge_opcua.app.serving.extractors import complete, extractor_of
from edge_opcua.app.serving.judges import judge_of
from edge_opcua.app.serving.wanted import wanted_for
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig, PipelineConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ConfigError, ModelError
from edge_opcua.inference import memory
from edge_opcua.inference.apart import Step, answer_with, tell
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.measure import measure, quantiles_us
from edge_opcua.inference.model import ServedModel, prove, require_match, time_features
from edge_opcua.inference.readiness import Readiness
from edge_opcua.inference.repository import ModelFiles, verify
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.watch.profile import load_profile

MODULE: Final = "edge_opcua.app.models.tryout"
_MOST_BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class Trial:
    """What shall be tried.

    Args:
        folder: Folder with model, manifest and reference samples.
        config: The configuration it is held against; None: none.
        pipelines: Which of its pipelines; each is held against the model.
        provider: Where it runs if there is no pipeline to say it.
        load_s: Longest time to load it.
        state: State directory, for what the other models cost; None: nobody has measured.
    """

    folder: Path
    config: Path | None = None
    pipelines: tuple[str, ...] = ()
    provider: str = "cpu"
    load_s: float = 60.0
    state: Path | None = None

    def as_json(self) -> Step:
        """Return it as the program takes it."""
        return {
            "folder": str(self.folder.absolute()),
            "config": None if self.config is None else str(self.config.absolute()),
            "pipelines": list(self.pipelines),
            "provider": self.provider,
            "load_s": self.load_s,
            "state": None if self.state is None else str(self.state.absolute()),
        }

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> Trial:
        """Return what :meth:`as_json` made."""
        return cls(
            Path(request["folder"]),
            None if request["config"] is None else Path(request["config"]),
            tuple(request["pipelines"]),
            str(request["provider"]),
            float(request["load_s"]),
            None if request["state"] is None else Path(request["state"]),
        )


def try_model(request: Mapping[str, Any], clock: Clock | None = None) -> Step:
    """Try a model; every step is told as it is done.

    Args:
        request: A :class:`Trial`.
        clock: For what runs take.

    Returns:
        ``alone`` or ``pipelines``: what was measured, for each; ``broken``: deadlines that could not be kept
        any more with it beside the others, by pipeline, with the reason.

    Raises:
        ModelError: It cannot be served.
    """
    trial, clock = Trial.of(request), clock or SystemClock()
    files = complete(verify(trial.folder))
    if (profile := files.manifest.profile) is not None:  # a lane would serve it all the same, unwatched
        load_profile(files.folder / profile.file, files.manifest.names, sha256=profile.sha256)
    tell({"step": "files", "text": _contents(files)})
    if trial.config is None or not trial.pipelines:
        return {"alone": _alone(files, trial, clock), "pipelines": [], "broken": {}}
    config = load(trial.config).config
    if config is None:
        raise ModelError(f"{trial.config} cannot be used: edge-opcua check {trial.config}", code="M615")
    chosen = [config.pipeline(name) for name in trial.pipelines]
    rows = _in_pipelines(files, config, chosen, clock)
    return {"alone": None, "pipelines": rows, "broken": _broken(config, chosen, rows, trial)}


def _contents(files: ModelFiles) -> str:
    manifest = files.manifest
    what = f"{len(manifest.features)} features"
    if manifest.source == "tags":
        what = f"{what} of {len(manifest.tags)} tags"
    size = files.model.stat().st_size
    return f"{size} bytes, as its manifest says; {what}; only operators of ONNX and ONNX Runtime"


def _alone(files: ModelFiles, trial: Trial, clock: Clock) -> Step:
    """Load, prove and measure a model that no pipeline asks for."""
    manifest = files.manifest
    extractor = extractor_of(files)
    require_match(manifest, extractor)
    limit = memory.Limit(keep_free_bytes=0)
    before = memory.resident_bytes()
    with limit.loading(files):
        backend = OnnxRuntimeBackend.load(
            files.model,
            provider=trial.provider,
            input_shapes={manifest.input_name: manifest.input_shape},
            load_s=trial.load_s,
        )
        model = ServedModel(manifest, backend, judge=judge_of)
        described = backend.describe()
        tell({"step": "loaded", "text": f"{described['provider']} in {float(described['load_ms']):.3g} ms"})
        samples = prove(model, files.golden, extractor)
        tell({"step": "reference", "text": _agree(files, samples)})
        features_ns = time_features(files.golden, manifest, extractor, clock)
        times_ns = measure(model, clock, _MOST_BATCH, sample=model.bind().row.copy())
    p50_us, p99_us = quantiles_us(times_ns[1])
    return {
        "provider": str(described["provider"]),
        "load_ms": float(described["load_ms"]),
        "p50_us": p50_us,
        "p99_us": p99_us,
        "features_us": features_ns / 1e3,
        "samples": samples,
        "most": backend.most,
        "memory_mb": round(max(0, memory.resident_bytes() - before) / memory.MB, 1),
    }


def _agree(files: ModelFiles, samples: int) -> str:
    golden = files.manifest.golden
    apart = "" if golden.answer_atol is None else f", of answers {golden.answer_atol:g}"
    return (
        f"{samples} samples are answered as where it was trained (rtol {golden.rtol:g}, "
        f"atol {golden.atol:g}{apart})"
    )


def _in_pipelines(
    files: ModelFiles, config: EdgeConfig, chosen: Sequence[PipelineConfig], clock: Clock
) -> list[Step]:
    """Make a model ready for each of some pipelines as their lanes would, and return what was measured."""
    try:
        blocks = plan(config).blocks
    except ConfigError as exc:
        raise ModelError(f"the configuration cannot be used: {exc}", code="M615") from exc
    bus = Bus.create(blocks, clock=clock)
    try:
        limit = memory.Limit(
            keep_free_bytes=config.inference.keep_free_mb * memory.MB, most_bytes=_most_bytes(config, chosen)
        )
        readiness = Readiness(bus, clock, CostTable(), limit=limit)
        return [_in_pipeline(files, config, each, readiness) for each in chosen]
    finally:
        bus.close()


def _in_pipeline(
    files: ModelFiles, config: EdgeConfig, pipeline: PipelineConfig, readiness: Readiness
) -> Step:
    try:
        wanted = wanted_for(config, pipeline, [files])
        facts = readiness.prepare(wanted).facts
    except ConfigError as exc:
        raise ModelError(f"{pipeline.name}: {exc}", code=exc.code or "M520") from exc
    except ModelError as exc:
        raise ModelError(f"{pipeline.name}: {exc}", code=exc.code) from exc
    row = {
        "pipeline": pipeline.name,
        "deadline_ms": float(pipeline.deadline_ms),
        "features_us": facts["features_ns"] / 1e3,
        **{
            name: facts[name]
            for name in ("provider", "load_ms", "p50_us", "p99_us", "samples", "most", "memory_mb")
        },
    }
    taken_ms = (row["features_us"] + row["p99_us"]) / 1e3
    if taken_ms > row["deadline_ms"]:
        raise ModelError(
            f"{pipeline.name}: features and a run take {taken_ms:.3g} ms here (99 of 100), its deadline is "
            f"{pipeline.deadline_ms:g} ms",
            code="M613",
        )
    tell({"step": "pipeline", "text": pipeline.name, "facts": row})
    return row


def _most_bytes(config: EdgeConfig, chosen: Iterable[PipelineConfig]) -> int | None:
    """Return what the tightest of the processes may use; None if none of them is limited."""
    totals = (
        memory.total_mb(each.memory_mb for each in config.pipelines if each.process == process)
        for process in {each.process for each in chosen}
    )
    known = [total for total in totals if total is not None]
    return min(known) * memory.MB if known else None


def _broken(
    config: EdgeConfig, chosen: Sequence[PipelineConfig], rows: Sequence[Step], trial: Trial
) -> dict[str, str]:
    """Return the deadlines that could not be promised with this model beside the others of its group."""
    known: dict[str, int | None] = dict.fromkeys((each.name for each in config.pipelines), None)
    if trial.state is not None:
        state = StateDir(trial.state)
        costs, active = read_costs(state.model_costs), ActiveModels(state, config)
        known = {
            each.name: cost_ns(costs, each, active.choice(each.name).version) for each in config.pipelines
        }
    before = promises(config, known, len(os.sched_getaffinity(0)))
    measured = {str(row["pipeline"]): row for row in rows}
    for each in chosen:
        row = measured[each.name]
        known[each.name] = round(1e3 * (float(row["features_us"]) + float(row["p99_us"])))
    already = {row.pipeline.name for row in before.broken}
    after = promises(config, known, len(os.sched_getaffinity(0)))
    return {
        row.pipeline.name: row.finding.why
        for row in after.broken
        if row.finding is not None and row.pipeline.name not in already
    }


if __name__ == "__main__":
    answer_with(try_model)

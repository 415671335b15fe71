"""Makes the models of a process fit to serve: weighed, loaded, held against the plant, proven, measured."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.supervise import describe
from edge_opcua.errors import EdgeError, ModelError
from edge_opcua.inference.intake import Inputs, sample_capacity
from edge_opcua.inference.judge import MakeJudge, no_judge
from edge_opcua.inference.loaded import CANCELLED
from edge_opcua.inference.measure import measure
from edge_opcua.inference.memory import MB, Limit, resident_bytes
from edge_opcua.inference.model import (
    Extractor,
    LoadBackend,
    ReadyFacts,
    ServedModel,
    judges_apart,
    prove,
    require_match,
    require_same_features,
    time_features,
)
from edge_opcua.inference.repository import ModelFiles
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.spec import LaneSpec

_log = structlog.get_logger(__name__)

REMOTE: Final = "remote"
"""The provider of models that take their memory on another computer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pipeline with the models that shall judge for it.

    Args:
        spec: The pipeline.
        files: Verified files of its model, and after it those of the cheaper ones.
        load_backend: ``load`` of the backend plugin.
        extractor: Makes what computes the features as a model was trained with them.
        provider: Execution provider to run on.
        options: Options of the backend.
        most: Largest batch.
        load_s: Longest time to load a model, seconds.
        judge: Makes what judges as a manifest declares it, for each lane its own.
        spares: Verified files of further cheaper ones, the likeliest first: the first that is fit, and faster
            here, may answer as well; none of them has to be. None: nobody asks for one.
    """

    spec: LaneSpec
    files: tuple[ModelFiles, ...]
    load_backend: LoadBackend
    extractor: Callable[[ModelFiles], Extractor]
    provider: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)
    most: int = 1
    load_s: float | None = None
    judge: MakeJudge = no_judge
    spares: tuple[ModelFiles, ...] | None = None

    @property
    def place(self) -> tuple[object, ...]:
        """What must be equal for two pipelines to share a loaded model."""
        return (self.load_backend, self.provider, repr(sorted(self.options.items())))


@dataclass(frozen=True, slots=True)
class Ready:
    """A pipeline whose models are fit.

    Args:
        spec: The pipeline, its context in the model's order.
        models: Its model, and after it the cheaper ones.
        extractor: Computes the features.
        facts: What is known of it, for the ``ready`` notice.
    """

    spec: LaneSpec
    models: tuple[ServedModel, ...]
    extractor: Extractor
    facts: dict[str, Any]


@contextlib.contextmanager
def _foreign_faults() -> Iterator[None]:
    """Translate what a backend fails with: it may be anybody's, the others of the group need not suffer."""
    try:
        yield
    except EdgeError:
        raise
    except Exception as exc:
        raise ModelError(f"its backend failed: {describe(exc)}", code="M594") from exc


class Readiness:
    """The models of one process; pipelines with the same model on the same provider share it.

    Args:
        bus: The tag bus.
        clock: For what runs take.
        costs: Gets what was measured.
        limit: The memory of this process; None: as much as there is.
        cache: Folder for what a backend keeps; None: nothing.

    Attributes:
        models: All models by key.
        most: Largest batch of each.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        costs: CostTable,
        *,
        limit: Limit | None = None,
        cache: Path | None = None,
    ) -> None:
        self.models: dict[str, ServedModel] = {}
        self.most: dict[str, int] = {}
        self._bus = bus
        self._clock = clock
        self._costs = costs
        self._limit = limit
        self._cache = cache
        self._places: dict[str, tuple[object, ...]] = {}
        self._samples: dict[str, int] = {}
        self._features_ns: dict[str, int] = {}
        self._alone: set[str] = set()
        self._trying: ServedModel | None = None
        self._given_up = threading.Event()

    def prepare(self, wanted: Wanted, loaded: Callable[[], None] = lambda: None) -> Ready:
        """Make the models of a pipeline ready; blocks for some 50 ms or more, so call it in a worker.

        Args:
            wanted: The pipeline.
            loaded: Called once its models are loaded.

        Raises:
            ModelError: A model cannot be served; nothing of it is kept.
        """
        self._given_up.clear()
        with _foreign_faults():
            return self._prepare(wanted, loaded)

    def _prepare(self, wanted: Wanted, loaded: Callable[[], None]) -> Ready:
        before = resident_bytes()
        spec = wanted.spec.ordered_for(wanted.files[0].manifest)
        extractor = wanted.extractor(wanted.files[0])
        for files in wanted.files:
            self._require_fit(wanted, files, extractor)
        Inputs(self._bus, spec.context if spec.part_id is None else (*spec.context, spec.part_id))
        there = [self._load(wanted, files) for files in wanted.files]
        loaded()
        for model, files in zip(there, wanted.files, strict=True):
            self._prove(model, files, extractor, wanted.most)
        for model in there:
            self._keep(model, wanted)
        spare = self._spare(wanted, there[0], extractor)
        there += [] if spare is None else [spare]
        facts = self._facts(there, resident_bytes() - before)
        if wanted.spares is not None:
            facts["cheaper_version"] = 0 if spare is None else spare.manifest.version
        return Ready(spec, tuple(there), extractor, facts)

    def _spare(self, wanted: Wanted, main: ServedModel, extractor: Extractor) -> ServedModel | None:
        """Return a cheaper model that is fit; one that is not is left out, and its pipeline is served."""
        for files in wanted.spares or ():
            if self._given_up.is_set():
                return None
            try:
                with _foreign_faults():
                    return self._faster(wanted, files, main, extractor)
            except ModelError as exc:
                _log.warning(
                    "lane.no_spare",
                    pipeline=wanted.spec.pipeline,
                    model=f"{files.manifest.name}/{files.manifest.version}",
                    code=exc.code,
                    error=str(exc),
                )
        return None

    def _faster(
        self, wanted: Wanted, files: ModelFiles, main: ServedModel, extractor: Extractor
    ) -> ServedModel:
        """Make a model ready that is of use only if a run of it takes less time than one of another model.

        Raises:
            ModelError: It cannot be served, or it is not faster here (M694).
        """
        self._require_fit(wanted, files, extractor)
        model = self._load(wanted, files)
        self._prove(model, files, extractor, wanted.most)
        taken_us, most_us = (self._costs.typical_ns(each.key, 1) / 1e3 for each in (model, main))
        if taken_us >= most_us:
            raise ModelError(
                f"a run takes {taken_us:.3g} µs here, of version {main.manifest.version} {most_us:.3g} µs",
                code="M694",
            )
        self._keep(model, wanted)
        return model

    def _require_fit(self, wanted: Wanted, files: ModelFiles, extractor: Extractor) -> None:
        """Refuse a model that is no model for this plant, or for these features (ModelError)."""
        spec = wanted.spec.ordered_for(files.manifest)
        spec.require_plant(files.manifest, sample_capacity(self._bus, spec.capture_block))
        require_match(files.manifest, extractor)
        require_same_features(wanted.files[0].manifest, files.manifest)

    def give_up(self) -> None:
        """Let a model that is being tried end its run, called from another thread; it is then refused."""
        self._given_up.set()
        if self._trying is not None:
            self._trying.cancel()

    def _load(self, wanted: Wanted, files: ModelFiles) -> ServedModel:
        key = self._key(wanted, files)
        if key in self.models:
            return self.models[key]
        manifest = files.manifest

        elsewhere = wanted.provider == REMOTE
        with contextlib.nullcontext() if self._limit is None or elsewhere else self._limit.loading(files):
            backend = wanted.load_backend(
                files.model,
                provider=wanted.provider,
                input_shapes={manifest.input_name: manifest.input_shape},
                options=wanted.options,
                cache=self._cache,
                load_s=wanted.load_s,
            )
            return ServedModel(manifest, backend, key, wanted.judge)

    def _key(self, wanted: Wanted, files: ModelFiles) -> str:
        """Return the key of a model; the same model on another provider is another one."""
        key = f"{files.manifest.name}/{files.manifest.version}"
        known = self._places.get(key)
        if known in (None, wanted.place) and self._is_same(key, files):
            return key
        return f"{key}@{wanted.spec.pipeline}"

    def _is_same(self, key: str, files: ModelFiles) -> bool:
        return key not in self.models or self.models[key].manifest.sha256 == files.manifest.sha256

    def _prove(self, model: ServedModel, files: ModelFiles, extractor: Extractor, most: int) -> None:
        enough = 1 if model.key in self._alone else min(most, model.most)
        if model.key in self.models and self.most[model.key] >= enough:
            return
        self._trying = model
        if self._given_up.is_set():
            raise ModelError(f"{model.key} came too late to be tried", code="M591")
        try:
            with contextlib.nullcontext() if self._limit is None else self._limit.trying(files):
                self._samples[model.key] = prove(model, files.golden, extractor)
                took_ns = time_features(files.golden, files.manifest, extractor, self._clock)
                self._features_ns[model.key] = took_ns
                sample = model.bind().row.copy()  # the last one it was proven on
                times_ns = measure(model, self._clock, most, sample=sample)
                if not self._judges_apart(model, files, times_ns):
                    times_ns = {1: times_ns[1]}
                for batch, taken_ns in times_ns.items():
                    self._costs.seed(model.key, batch, taken_ns)
        except ModelError as exc:
            if self._given_up.is_set() and exc.code == "M535":
                raise ModelError(f"{model.key} did not end a run while it was tried", code="M591") from exc
            raise
        finally:
            self._trying = None

    def _judges_apart(self, model: ServedModel, files: ModelFiles, sizes: Iterable[int]) -> bool:
        """Return whether the samples of a run know nothing of each other; else each of them runs alone."""
        try:
            mixed = next((size for size in sizes if not judges_apart(model, files.golden, size)), None)
        except ModelError as exc:
            if exc.code == CANCELLED:
                raise
            why = str(exc)
        else:
            if mixed is None:
                return True
            why = f"{mixed} together are judged differently"
        self._alone.add(model.key)
        _log.warning("model.not_batched", model=model.key, error=why)
        return False

    def _keep(self, model: ServedModel, wanted: Wanted) -> None:
        self.models[model.key] = model
        most = 1 if model.key in self._alone else min(wanted.most, model.most)
        self.most[model.key] = max(self.most.get(model.key, 1), most)
        self._places[model.key] = wanted.place

    def _facts(self, models: list[ServedModel], grown_bytes: int) -> dict[str, Any]:
        main = models[0]
        known = self._costs.as_json()
        described = main.backend.describe()
        p50_ns, p99_ns = known[main.key]["1"]
        facts = ReadyFacts(
            float(described["load_ms"]),
            p50_ns / 1e3,
            p99_ns / 1e3,
            self._samples[main.key],
            str(described["provider"]),
        )
        return {
            **facts.notice(),
            "accelerated": float(described.get("accelerated", 1.0)),
            "most": self.most[main.key],
            "features_ns": self._features_ns[main.key],
            "costs": {model.key.partition("@")[0]: known[model.key] for model in models},
            "memory_mb": round(max(0, grown_bytes) / MB, 1),
        }

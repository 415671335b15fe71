"""A model that is fit to serve: loaded, held against what it is fed, warmed, and proven on stored samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import Backend
from edge_opcua.errors import ModelError
from edge_opcua.inference.golden import compare, read_golden, require_verdict
from edge_opcua.inference.judge import Judge, MakeJudge, Output, four_answers, no_judge
from edge_opcua.inference.loaded import Floats, LoadedModel
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.repository import ModelFiles

FEATURE_RUNS: Final = 64
_BY_FEATURE: Final = frozenset({"expected", "contributions", "reconstruction"})
"""Outputs with one value for each feature; those of others are numbered."""
FEATURES_NS: Final = 100_000_000


class Extractor(Protocol):
    """What turns a waveform and context values into the model's input; ``features.stroke`` has one."""

    feature_set: str
    sample_count: int
    sample_rate_hz: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features in order."""
        ...

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the features in order."""
        ...

    def extract(
        self,
        waveform: Floats,
        sample_rate_hz: float,
        context: npt.NDArray[np.float64],
        out: Floats | None = None,
    ) -> Floats:
        """Return the feature vector, in ``out`` if given."""
        ...

    def outside(self) -> str:
        """Say what of the window before the model was never shown; empty if nothing."""
        ...


LoadBackend = Callable[..., Backend]
"""``Backend.load`` of the configured plugin."""


@dataclass(frozen=True, slots=True)
class ReadyFacts:
    """What is known of a model once it is ready.

    Args:
        load_ms: Time to load it.
        p50_us: Median time of a run.
        p99_us: 99th percentile of the time of a run.
        samples: Reference samples it was proven on.
        provider: What runs it.
    """

    load_ms: float
    p50_us: float
    p99_us: float
    samples: int
    provider: str

    def notice(self) -> dict[str, Any]:
        """Return the body of the lane's ``ready`` notice."""
        return {
            "validated": True,
            "load_ms": self.load_ms,
            "p50_us": self.p50_us,
            "p99_us": self.p99_us,
            "samples": self.samples,
            "provider": self.provider,
        }


class ServedModel(LoadedModel):
    """A loaded model that gives verdicts: with the answers of its manifest, and limits of its inputs.

    Args:
        manifest: What it promises.
        backend: What runs it.
        key: ``<name>/<version>``; of the manifest if not given.
        judge: Makes what judges as a manifest declares it.

    Raises:
        ModelError: An answer is missing or has another shape (M505), or the manifest declares what is not
            understood (M620, M621).

    Attributes:
        outputs: What is looked at.
    """

    def __init__(
        self, manifest: Manifest, backend: Backend, key: str = "", judge: MakeJudge = no_judge
    ) -> None:
        k = len(manifest.features)
        super().__init__(key or f"{manifest.name}/{manifest.version}", backend, manifest.input_name, k)
        self.manifest = manifest
        self._low = np.array([feature.low for feature in manifest.features], np.float32)
        self._high = np.array([feature.high for feature in manifest.features], np.float32)
        self._judge = judge
        declared = judge(manifest)
        self.outputs: tuple[Output, ...] = four_answers(k) if declared is None else tuple(declared.outputs)
        one = self.bind()
        for output in self.outputs:
            found = one.answer.get(output.name)
            if found is None:
                known = ", ".join(sorted(one.answer))
                raise ModelError(f'the model has no output "{output.name}"; it has {known}', code="M505")
            if found.size != output.size:
                raise ModelError(
                    f'output "{output.name}" holds {found.size} values, not {output.size}', code="M505"
                )

    def new_judge(self) -> Judge | None:
        """Return what judges its answers, which remembers nothing yet; None if the four answers do."""
        return self._judge(self.manifest)

    def outside(self, row: Floats) -> str:
        """Say which feature of a sample is outside what the model may judge; empty if none is."""
        off = np.flatnonzero((row < self._low) | (row > self._high))
        if not off.size:
            return ""
        feature = self.manifest.features[int(off[0])]
        value = float(row[off[0]])
        return f"{feature.name} {value:.4g} {feature.unit} is outside {feature.low:g}..{feature.high:g}"


def load(
    files: ModelFiles, load_backend: LoadBackend, *, provider: str, judge: MakeJudge = no_judge
) -> ServedModel:
    """Load the verified files of a model.

    Raises:
        ModelError: What the backend raises, or an answer is missing (M505).
    """
    manifest = files.manifest
    shapes = {manifest.input_name: manifest.input_shape}
    backend = load_backend(files.model, provider=provider, input_shapes=shapes)
    return ServedModel(manifest, backend, judge=judge)


def require_match(manifest: Manifest, extractor: Extractor) -> None:
    """Refuse a model that was trained on other features than it would be fed with.

    Raises:
        ModelError: Number, names or order (M504), units or arithmetic (M511) differ.
    """
    wanted, mapped = manifest.names, extractor.names
    if wanted != mapped:
        missing = [name for name in wanted if name not in mapped]
        unknown = [name for name in mapped if name not in wanted]
        difference = "; ".join(
            f"{word}: {', '.join(names)}"
            for word, names in (("missing", missing), ("not wanted", unknown))
            if names
        )
        raise ModelError(
            f'input "{manifest.input_name}" wants float32[1,{len(wanted)}], {len(mapped)} features are '
            f"mapped; {difference or 'their order differs'}",
            code="M504",
        )
    if extractor.feature_set != manifest.feature_set:
        raise ModelError(
            f"the model was trained with the features {manifest.feature_set}, "
            f"this program computes {extractor.feature_set}",
            code="M511",
        )
    for feature, unit in zip(manifest.features, extractor.units, strict=True):
        if feature.unit != unit:
            raise ModelError(
                f"{feature.name} is in {unit}, the model was trained in {feature.unit}", code="M511"
            )
    recorded = (extractor.sample_count, extractor.sample_rate_hz)
    if recorded != (manifest.sample_count, manifest.sample_rate_hz):
        raise ModelError(
            f"a capture has {recorded[0]} samples at {recorded[1]:g} Hz, the model was trained on "
            f"{manifest.sample_count} at {manifest.sample_rate_hz:g} Hz",
            code="M511",
        )


def require_same_features(manifest: Manifest, cheaper: Manifest) -> None:
    """Refuse a cheaper version whose features are made in another way than those it would be given.

    Raises:
        ModelError: Steps, window or the order of the tags differ (M511).
    """
    for what, one, other in (
        ("steps", manifest.steps, cheaper.steps),
        ("window", manifest.window, cheaper.window),
        ("tags", [tag.name for tag in manifest.tags], [tag.name for tag in cheaper.tags]),
    ):
        if one != other:
            raise ModelError(
                f"version {cheaper.version} was trained with other {what} than version {manifest.version}, "
                "whose features it would be given",
                code="M511",
            )


def prove(model: ServedModel, golden: Path, extractor: Extractor) -> int:
    """Hold features, answers and verdicts on this machine against the trainer's.

    Args:
        model: The model.
        golden: Its reference samples.
        extractor: Computes the features.

    Returns:
        The number of samples.

    Raises:
        ModelError: The samples are missing (M507) or unreadable (M513), or features or answers (M512) or a
            verdict (M622) are off.
    """
    manifest = model.manifest
    samples = read_golden(golden, manifest, model.outputs)
    one, judge = model.bind(), model.new_judge()
    for number, wanted in enumerate(samples["features"]):
        found = extractor.extract(
            samples["waveform"][number], manifest.sample_rate_hz, samples["context"][number]
        )
        compare(number, manifest.names, found, wanted, manifest.golden)
        one.judge(wanted)
        for output in model.outputs:
            answer = one.answer[output.name]
            labels = manifest.names if output.role in _BY_FEATURE else ()
            compare(
                number,
                tuple(f"{output.role} {label}" for label in labels) or _numbered(output),
                answer,
                samples[output.role][number].reshape(answer.shape),
                manifest.golden.of_answers,
            )
        if judge is not None and "verdict" in samples:
            require_verdict(number, judge.judge(one.answer, wanted), int(samples["verdict"][number]))
    return len(samples["features"])


def _numbered(output: Output) -> tuple[str, ...]:
    if output.size == 1:
        return (output.role,)
    return tuple(f"{output.role} {number}" for number in range(1, output.size + 1))


def time_features(golden: Path, manifest: Manifest, extractor: Extractor, clock: Clock) -> int:
    """Return what the features of one reference sample take here, ns: the 99th percentile of some runs.

    Raises:
        ModelError: The samples are missing (M507) or unreadable (M513).
    """
    samples = read_golden(golden, manifest)
    taken: list[int] = []
    first_ns = clock.monotonic_ns()
    for number in range(FEATURE_RUNS):
        row = number % len(samples["waveform"])
        started_ns = clock.monotonic_ns()
        extractor.extract(samples["waveform"][row], manifest.sample_rate_hz, samples["context"][row])
        ended_ns = clock.monotonic_ns()
        taken.append(ended_ns - started_ns)
        if ended_ns - first_ns > FEATURES_NS:
            break
    settled = taken[1:] or taken  # the first one finds nothing where it is wanted
    return int(np.percentile(settled, 99))


def judges_apart(model: ServedModel, golden: Path, batch: int) -> bool:
    """Return whether samples that run together are judged as each of them is alone.

    Nothing in the graph tells: one that was quantised dynamically scales all samples of a run by the largest
    value among them, one that was exported while it was being trained takes their mean.

    Args:
        model: A model that was proven.
        golden: The samples it was proven on.
        batch: How many run together.

    Raises:
        ModelError: The run failed (M532) or was cancelled (M535).
    """
    limits = model.manifest.golden  # here nobody rounds otherwise: what differs, differs by the neighbours
    samples = read_golden(golden, model.manifest, model.outputs)
    together = model.bind(batch)
    order = np.arange(batch) % len(samples["features"])
    together.rows[:] = samples["features"][order]
    together.binding.run()
    return all(
        np.isclose(
            together.answers[output.name],
            samples[output.role][order].reshape(together.answers[output.name].shape),
            rtol=limits.rtol,
            atol=limits.atol,
        ).all()
        for output in model.outputs
    )

"""A model that is fit to serve: loaded, held against what it is fed, warmed, and proven on stored samples."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import Backend
from edge_opcua.errors import ModelError
from edge_opcua.inference.loaded import Floats, LoadedModel
from edge_opcua.inference.manifest import Golden, Manifest
from edge_opcua.inference.repository import ModelFiles

ANSWERS: Final = ("score", "confidence", "expected", "contributions")
MAX_GOLDEN_BYTES: Final = 256 * 2**20
FEATURE_RUNS: Final = 64
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
    """A loaded model that gives verdicts: with the four answers of a manifest, and limits of its inputs.

    Args:
        manifest: What it promises.
        backend: What runs it.
        key: ``<name>/<version>``; of the manifest if not given.

    Raises:
        ModelError: An answer is missing or has another shape (M505).
    """

    def __init__(self, manifest: Manifest, backend: Backend, key: str = "") -> None:
        k = len(manifest.features)
        super().__init__(key or f"{manifest.name}/{manifest.version}", backend, manifest.input_name, k)
        self.manifest = manifest
        self._low = np.array([feature.low for feature in manifest.features], np.float32)
        self._high = np.array([feature.high for feature in manifest.features], np.float32)
        one = self.bind()
        for name, size in zip(ANSWERS, (1, 1, k, k), strict=True):
            found = one.answer.get(name)
            if found is None:
                raise ModelError(f'the model has no output "{name}"', code="M505")
            if found.size != size:
                raise ModelError(f'output "{name}" holds {found.size} values, not {size}', code="M505")

    def outside(self, row: Floats) -> str:
        """Say which feature of a sample is outside what the model may judge; empty if none is."""
        off = np.flatnonzero((row < self._low) | (row > self._high))
        if not off.size:
            return ""
        feature = self.manifest.features[int(off[0])]
        value = float(row[off[0]])
        return f"{feature.name} {value:.4g} {feature.unit} is outside {feature.low:g}..{feature.high:g}"


def load(files: ModelFiles, load_backend: LoadBackend, *, provider: str) -> ServedModel:
    """Load the verified files of a model.

    Raises:
        ModelError: What the backend raises, or an answer is missing (M505).
    """
    manifest = files.manifest
    shape = (1, len(manifest.features))
    backend = load_backend(files.model, provider=provider, input_shapes={manifest.input_name: shape})
    return ServedModel(manifest, backend)


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


def prove(model: ServedModel, golden: Path, extractor: Extractor) -> int:
    """Hold features and answers on this machine against the trainer's; return the number of samples.

    Raises:
        ModelError: The samples are missing (M507) or unreadable (M513), or an answer is off (M512).
    """
    manifest = model.manifest
    samples = _read_golden(golden, manifest)
    one = model.bind()
    for number, wanted in enumerate(samples["features"]):
        found = extractor.extract(
            samples["waveform"][number], manifest.sample_rate_hz, samples["context"][number]
        )
        _compare(number, manifest.names, found, wanted, manifest.golden)
        one.judge(wanted)
        for name in ANSWERS:
            labels = manifest.names if name in {"expected", "contributions"} else ("",)
            answer = one.answer[name]
            _compare(
                number,
                tuple(f"{name} {label}".strip() for label in labels),
                answer,
                samples[name][number].reshape(answer.shape),
                manifest.golden,
            )
    return len(samples["features"])


def time_features(golden: Path, manifest: Manifest, extractor: Extractor, clock: Clock) -> int:
    """Return what the features of one reference sample take here, ns: the 99th percentile of some runs.

    Raises:
        ModelError: The samples are missing (M507) or unreadable (M513).
    """
    samples = _read_golden(golden, manifest)
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
    limits = model.manifest.golden
    samples = _read_golden(golden, model.manifest)
    together = model.bind(batch)
    order = np.arange(batch) % len(samples["features"])
    together.rows[:] = samples["features"][order]
    together.binding.run()
    return all(
        np.isclose(
            together.answers[name],
            samples[name][order].reshape(together.answers[name].shape),
            rtol=limits.rtol,
            atol=limits.atol,
        ).all()
        for name in ANSWERS
    )


def _compare(number: int, labels: tuple[str, ...], found: Floats, wanted: Floats, golden: Golden) -> None:
    off = np.flatnonzero(~np.isclose(found, wanted, rtol=golden.rtol, atol=golden.atol))
    if off.size:
        first = int(off[0])
        raise ModelError(
            f"reference sample {number + 1}: {labels[first]} is {found[first]:.6g} here, "
            f"{wanted[first]:.6g} where the model was trained",
            code="M512",
        )


def _read_golden(path: Path, manifest: Manifest) -> dict[str, npt.NDArray[Any]]:
    k, m, n = len(manifest.features), len(manifest.context), manifest.sample_count
    columns = {
        "waveform": (n,),
        "context": (m,),
        "features": (k,),
        "score": (),
        "confidence": (),
        "expected": (k,),
        "contributions": (k,),
    }
    samples: dict[str, npt.NDArray[Any]] = {}
    try:
        if path.stat().st_size > MAX_GOLDEN_BYTES:
            raise ModelError(f"{path.name} is larger than {MAX_GOLDEN_BYTES} bytes", code="M513")
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            for name in columns:
                samples[name] = archive[name]
    except FileNotFoundError:
        raise ModelError(f"{path} is missing", code="M507") from None
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise ModelError(f"{path.name} cannot be read: {exc}", code="M513") from exc
    rows = {len(array) if array.ndim else 0 for array in samples.values()}
    for name, shape in columns.items():
        array = samples[name]
        if array.shape[1:] != shape or not np.issubdtype(array.dtype, np.floating):
            raise ModelError(f"{path.name}: {name} has shape {array.shape}, not {('n', *shape)}", code="M513")
    if len(rows) != 1 or rows == {0}:
        raise ModelError(f"{path.name} holds no complete samples", code="M513")
    return samples

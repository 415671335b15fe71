"""The tags a pipeline is fed with instead of captures: when they are sampled, what of it a model wants."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.schema import EdgeConfig, PipelineConfig
from edge_opcua.core.values import BlockSpec, Policy, Scalar, TagSpec
from edge_opcua.errors import ModelError
from edge_opcua.inference.intake import ContextTag
from edge_opcua.inference.manifest import Manifest

RING: Final = 128
"""Samples that a lane may be behind, as with captures."""
RING_BYTES: Final = 16 * 2**20
LEAST_RING: Final = 8
REASON: Final = 120
"""Characters of the row that tells which tag is not as it should be."""


@dataclass(frozen=True, slots=True)
class Fed:
    """The tags of a pipeline.

    Args:
        tags: Where each of them lies, in the order of the configuration.
        names: What the model calls them.
        window: Samples of each in one window.
        every_ms: Time between two samples; None: one for each change of ``trigger``.
        trigger: The tag whose changes make a sample; None: time does.
    """

    tags: tuple[ContextTag, ...]
    names: tuple[str, ...]
    window: int
    every_ms: float | None
    trigger: ContextTag | None

    @property
    def rate_hz(self) -> float:
        """Samples per second; 0 if they come at no fixed rate."""
        return 0.0 if self.every_ms is None else 1000.0 / self.every_ms

    @property
    def map_number(self) -> int:
        """A checksum of which tag lies where: samples of another map are no samples for this one."""
        said = [f"{name} {tag.reference}" for name, tag in zip(self.names, self.tags, strict=True)]
        return zlib.crc32("\n".join(said).encode())

    def taken_by(self, manifest: Manifest) -> tuple[int, ...] | None:
        """Return which numbers of a window a model wants, in its order; None: all as they are.

        Raises:
            ModelError: It wants other tags (M504), or more or other samples of them (M623).
        """
        wanted = [tag.name for tag in manifest.tags]
        self._require_tags(manifest, wanted)
        self._require_time(manifest)
        columns = [self.names.index(name) for name in wanted]
        width, first = len(self.tags), self.window - manifest.window
        taken = tuple(row * width + column for row in range(first, self.window) for column in columns)
        return None if taken == tuple(range(self.window * width)) else taken

    def require_units(self, manifest: Manifest) -> None:
        """Refuse tags that are in other units than a model was trained with.

        Raises:
            ModelError: One is (M511).
        """
        trained = {tag.name: tag.unit for tag in manifest.tags}
        for name, tag in zip(self.names, self.tags, strict=True):
            if tag.unit and tag.unit != trained[name]:
                raise ModelError(
                    f"{tag.reference} is in {tag.unit}, the model was trained in {trained[name]}", code="M511"
                )

    def _require_tags(self, manifest: Manifest, wanted: list[str]) -> None:
        missing = [name for name in wanted if name not in self.names]
        unknown = [name for name in self.names if name not in wanted]
        if missing or unknown:
            parts = (("missing", missing), ("not wanted", unknown))
            difference = "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names)
            tags = "1 tag" if len(self.names) == 1 else f"{len(self.names)} tags"
            raise ModelError(f"{_wants(manifest)}; the map gives {tags}: {difference}", code="M504")

    def _require_time(self, manifest: Manifest) -> None:
        if manifest.window > self.window:
            raise ModelError(
                f"{_wants(manifest)}, {manifest.window} samples of each tag; the pipeline keeps "
                f"{self.window}: set window = {manifest.window}",
                code="M623",
            )
        if manifest.window > 1 and manifest.period_ms != self.every_ms:
            raise ModelError(
                f"the model was trained on {_times(manifest.period_ms)}, the pipeline takes "
                f"{_times(self.every_ms)}",
                code="M623",
            )


def _wants(manifest: Manifest) -> str:
    shape = (manifest.window, len(manifest.tags)) if manifest.window > 1 else (len(manifest.tags),)
    return f'input "{manifest.input_name}" wants float32[N,{",".join(map(str, shape))}]'


def _times(period_ms: float | None) -> str:
    return "a sample at each change of a trigger" if period_ms is None else f"a sample each {period_ms:g} ms"


def fed_with(config: EdgeConfig, pipeline: PipelineConfig) -> Fed | None:
    """Return the tags that a pipeline is fed with; None if it is fed with captures.

    Raises:
        KeyError: It refers to what is not there (``check`` refuses that).
    """
    if pipeline.capture is not None:
        return None

    def place(reference: str) -> ContextTag:
        device, tag = config.tag(reference)
        return ContextTag(reference, device.block_name(tag.group), tag.name, tag.unit)

    return Fed(
        tuple(place(reference) for reference in pipeline.inputs.values()),
        tuple(pipeline.inputs),
        pipeline.window,
        pipeline.every_ms,
        None if pipeline.trigger is None else place(pipeline.trigger),
    )


def samples_block(pipeline: PipelineConfig) -> BlockSpec:
    """Return the block with the samples of a pipeline's tags; to a lane it is a capture like any other."""
    numbers = pipeline.window * len(pipeline.inputs)
    rows = (
        TagSpec("sequence", Scalar.UINT32),
        TagSpec("ready_ns", Scalar.INT64),
        TagSpec("sample_rate_hz", Scalar.DOUBLE),
        TagSpec("waveform", Scalar.FLOAT, numbers),
        TagSpec("stroke", Scalar.UINT32),
        TagSpec("missed", Scalar.UINT64),
        TagSpec("read_ms", Scalar.DOUBLE),
        TagSpec("map", Scalar.UINT32),
        TagSpec("reason", Scalar.STRING, REASON),
    )
    depth = max(LEAST_RING, min(RING, RING_BYTES // (4 * numbers)))
    return BlockSpec(pipeline.samples_block, rows, depth, Policy(hold_s=0.0), wakes=1)

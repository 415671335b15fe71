"""What a model was trained on and promises: ``manifest.toml`` beside the model file, read and checked."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from edge_opcua.errors import ModelError
from edge_opcua.inference.compressed import Compressed, read_compressed
from edge_opcua.inference.manifestparts import (
    FEATURE_PATTERN,
    FILE_PATTERN,
    MAX_STEPS,
    SHA256_PATTERN,
    STEPS_SET,
    TAGS_SET,
    Age,
    Golden,
    ModelFeature,
    ModelTag,
    Profile,
    read_age,
    read_features,
    read_golden,
    read_input,
    read_profile,
)
from edge_opcua.inference.manifesttable import Table
from edge_opcua.inference.plainfile import open_plain

__all__ = [
    "FEATURE_PATTERN",
    "FILE_PATTERN",
    "FORMAT",
    "MAX_VERSION",
    "NAME_PATTERN",
    "SHA256_PATTERN",
    "STEPS_SET",
    "TAGS_SET",
    "Age",
    "Compressed",
    "Golden",
    "Manifest",
    "ModelFeature",
    "ModelTag",
    "Profile",
    "load_manifest",
    "parse_manifest",
]

FORMAT: Final = 1
NAME_PATTERN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
MAX_VERSION: Final = 1_000_000
MAX_BYTES: Final = 1_000_000
_NOTES: Final = ("provenance", "device", "compression", "variants", "signature")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model as its trainer described it.

    Args:
        name: Name in the repository.
        version: Version in the repository, from 1.
        sha256: SHA-256 of ``model.onnx``, lower-case hexadecimal.
        description: For people.
        input_name: Name of the model's one input, float32 of shape ``input_shape``.
        feature_set: Name of the feature arithmetic it was trained with: ``stroke/1``; ``steps/1``: its own
            ``steps``; ``tags/1``: the features are the tags themselves.
        sample_count: Numbers of one input: samples of a waveform, or ``window`` times the tags.
        sample_rate_hz: Samples per second; 0 if they come at no fixed rate.
        waveform_unit: Unit of a waveform's samples; empty for tags.
        features: Columns of the input, in order; none if only its steps can tell (:meth:`completed`).
        golden: Reference samples.
        external: Further files of the model with their SHA-256.
        limit: Value of ``score`` from which on the verdict is NotOk.
        proof: What the trainer measured, by name, for people.
        source: ``capture``: a waveform and context tags; ``tags``: the last samples of some tags.
        tags: The tags it is fed with, in order; of a capture those its steps use as context.
        window: Samples of each tag of one input.
        period_ms: Time from one sample to the next; None: a sample whenever something changes.
        shape: How a row of features lies in the input tensor; empty: ``(1, features)``.
        steps: What makes the features, table by table (``features.steps`` knows what they mean).
        output: What the outputs are called and mean; None: today's four answers.
        post: What makes a verdict of the answers, table by table.
        profile: How inputs and answers were distributed at the trainer's; None if nobody wrote it down.
        age: How old it may become; None: nobody said when it was trained.
        provenance: Where it comes from, for people.
        device: What it was measured on and with which outcome, for people.
        compression: How it was made smaller and what that cost, for people.
        variants: Other precisions of it, for people.
        signature: Who signed it; not verified.
        compressed: What ``compression`` says where it names the model that this one was made of.
    """

    name: str
    version: int
    sha256: str
    description: str
    input_name: str
    feature_set: str
    sample_count: int
    sample_rate_hz: float
    waveform_unit: str
    features: tuple[ModelFeature, ...]
    golden: Golden
    external: Mapping[str, str]
    limit: float
    proof: Mapping[str, Any]
    source: Literal["capture", "tags"] = "capture"
    tags: tuple[ModelTag, ...] = ()
    window: int = 1
    period_ms: float | None = None
    shape: tuple[int, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    output: Mapping[str, Any] | None = None
    post: tuple[Mapping[str, Any], ...] = ()
    profile: Profile | None = None
    age: Age | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    compression: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Any] = field(default_factory=dict)
    signature: Mapping[str, Any] = field(default_factory=dict)
    compressed: Compressed | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def context(self) -> tuple[ModelFeature, ...]:
        """The context tags of a capture, in order: those among the features, or those its steps use."""
        if self.source == "capture" and self.tags:
            return tuple(
                ModelFeature(tag.name, tag.unit, context=True, low=tag.low, high=tag.high)
                for tag in self.tags
            )
        return tuple(feature for feature in self.features if feature.context)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input tensor for one sample."""
        return self.shape or (1, len(self.features))

    @property
    def files(self) -> Mapping[str, str]:
        """Further files of the version that are held against a SHA-256."""
        profile = {} if self.profile is None else {self.profile.file: self.profile.sha256}
        report = {} if self.compressed is None else self.compressed.files
        return MappingProxyType({**self.external, **profile, **report})

    def completed(self, names: Sequence[str], units: Sequence[str]) -> Manifest:
        """Return the manifest with the features its steps make, if it does not list them itself.

        Args:
            names: What the steps make, in order.
            units: Their units.

        Raises:
            ModelError: They do not fill the input tensor (M505).
        """
        if self.features:
            return self
        if self.shape and math.prod(self.shape) != len(names):
            raise ModelError(
                f"the steps make {len(names)} features, input.shape = {list(self.shape)} holds "
                f"{math.prod(self.shape)}",
                code="M505",
            )
        made = [ModelFeature(name, unit) for name, unit in zip(names, units, strict=True)]
        return replace(self, features=tuple(made))


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        ModelError: The file is missing (M507) or no plain file (M509), or a key is missing, unknown or wrong
            (M506).
    """
    try:
        with os.fdopen(open_plain(path), "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ModelError(f"{path} is larger than {MAX_BYTES} bytes", code="M506")
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise ModelError(f"{path} is missing", code="M507") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ModelError(f"{path} cannot be read: {exc}", code="M506") from exc
    return parse_manifest(text, str(path))


def parse_manifest(text: str, origin: str) -> Manifest:
    """Check the text of a manifest.

    Args:
        text: TOML.
        origin: File name for messages.

    Raises:
        ModelError: A key is missing, unknown or wrong (M506).
    """
    try:
        tree = tomllib.loads(text)
    except (
        ValueError,
        RecursionError,
    ) as exc:  # numbers of thousands of digits, tables in tables without end
        raise ModelError(f"{origin}: {exc}", code="M506") from exc
    return _checked(Table(tree, origin, ""))


def _checked(root: Table) -> Manifest:
    if root.whole("format") != FORMAT:
        raise root.wrong("format", f"is not {FORMAT}; this program reads format {FORMAT}")
    steps = root.raws("steps", most=MAX_STEPS)
    fed = read_input(root, has_steps=bool(steps))
    notes = {name: root.raw(name) for name in _NOTES}
    manifest = Manifest(
        name=root.matching("name", NAME_PATTERN, "a model name (a letter, then letters, digits, _ or -)"),
        version=root.whole("version", high=MAX_VERSION),
        sha256=root.matching("sha256", SHA256_PATTERN, "64 lower-case hexadecimal digits"),
        description=root.text("description", default=""),
        limit=root.number("limit", default=1.0),
        input_name=fed.name,
        feature_set=fed.feature_set,
        sample_count=fed.sample_count,
        sample_rate_hz=fed.sample_rate_hz,
        waveform_unit=fed.waveform_unit,
        features=read_features(root, fed),
        golden=read_golden(root),
        external=_external(root),
        proof=root.raw("proof"),
        source=fed.source,
        tags=fed.tags,
        window=fed.window,
        period_ms=fed.period_ms,
        shape=fed.shape,
        steps=steps,
        output=root.raw("output") if root.has("output") else None,
        post=root.raws("post", most=MAX_STEPS),
        profile=read_profile(root),
        age=read_age(root),
        compressed=read_compressed(root, notes["compression"]),
        **notes,
    )
    root.end()
    _refuse_double_files(root, manifest)
    if manifest.limit <= 0.0:
        raise root.wrong("limit", "is not above 0")
    if manifest.shape and manifest.features and math.prod(manifest.shape) != len(manifest.features):
        raise root.wrong(
            "input.shape", f"{list(manifest.shape)} does not hold the {len(manifest.features)} features"
        )
    return manifest


def _refuse_double_files(root: Table, manifest: Manifest) -> None:
    """Refuse a file in two roles: of two hashes of it only one would be looked at."""
    taken = {"model.onnx": "the model", "manifest.toml": "the manifest"}
    roles = [
        ("golden.file", manifest.golden.file),
        *((f"external.{name}", name) for name in manifest.external),
    ]
    if manifest.profile is not None:
        roles.append(("profile.file", manifest.profile.file))
    if manifest.compressed is not None and manifest.compressed.report:
        roles.append(("compression.report", manifest.compressed.report))
    for key, name in roles:
        if name in taken:
            raise root.wrong(key, f'"{name}" is {taken[name]} already')
        taken[name] = key


def _external(root: Table) -> Mapping[str, str]:
    table = root.raw("external")
    for name, digest in table.items():
        if FILE_PATTERN.fullmatch(name) is None:
            raise root.wrong(f"external.{name}", "is not a plain file name")
        if not isinstance(digest, str) or SHA256_PATTERN.fullmatch(digest) is None:
            raise root.wrong(f"external.{name}", "is not 64 lower-case hexadecimal digits")
    return table

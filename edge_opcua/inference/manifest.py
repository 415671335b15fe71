"""What a model was trained on and promises: ``manifest.toml`` beside the model file, read and checked."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from edge_opcua.errors import ModelError
from edge_opcua.inference.plainfile import open_plain

FORMAT: Final = 1
NAME_PATTERN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
FEATURE_PATTERN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
FILE_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
SHA256_PATTERN: Final = re.compile(r"[0-9a-f]{64}")
MAX_VERSION: Final = 1_000_000
MAX_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ModelFeature:
    """One column of the model's input.

    Args:
        name: Name of the feature; of a context tag its last part, e.g. ``die_temp`` for ``press/die_temp``.
        unit: Unit the model was trained with.
        context: Whether it is a context tag, not computed from the waveform.
        low: Smallest value the model may judge, -inf without limit; below, the verdict is NotDecidable.
        high: Largest value the model may judge, inf without limit.
    """

    name: str
    unit: str
    context: bool = False
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class Golden:
    """Stored samples with the answers the trainer got, and how far the box may be off.

    Args:
        file: Name of the ``.npz`` file in the model's folder.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
    """

    file: str
    rtol: float
    atol: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model as its trainer described it.

    Args:
        name: Name in the repository.
        version: Version in the repository, from 1.
        sha256: SHA-256 of ``model.onnx``, lower-case hexadecimal.
        description: For people.
        input_name: Name of the model's one input, float32 of shape ``(1, len(features))``.
        feature_set: Name of the feature arithmetic it was trained with.
        sample_count: Samples of a waveform.
        sample_rate_hz: Samples per second of a waveform.
        waveform_unit: Unit of the samples.
        features: Columns of the input, in order.
        golden: Reference samples.
        external: Further files of the model with their SHA-256.
        limit: Value of ``score`` from which on the verdict is NotOk.
        proof: What the trainer measured, by name, for people.
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

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def context(self) -> tuple[ModelFeature, ...]:
        """The context tags among the features, in order."""
        return tuple(feature for feature in self.features if feature.context)


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
    root = _Table(tree, origin, "")
    if root.whole("format") != FORMAT:
        raise root.wrong("format", f"is not {FORMAT}; this program reads format {FORMAT}")
    source, golden = root.table("input"), root.table("golden")
    manifest = Manifest(
        name=root.matching("name", NAME_PATTERN, "a model name (a letter, then letters, digits, _ or -)"),
        version=root.whole("version", high=MAX_VERSION),
        sha256=root.matching("sha256", SHA256_PATTERN, "64 lower-case hexadecimal digits"),
        description=root.text("description", default=""),
        limit=root.number("limit", default=1.0),
        input_name=source.text("name"),
        feature_set=source.text("feature_set"),
        sample_count=source.whole("sample_count", high=10_000_000),
        sample_rate_hz=source.number("sample_rate_hz"),
        waveform_unit=source.text("waveform_unit"),
        features=tuple(_feature(table) for table in root.tables("features")),
        golden=Golden(
            golden.matching("file", FILE_PATTERN, "a plain file name"),
            golden.number("rtol"),
            golden.number("atol"),
        ),
        external=_external(root),
        proof=MappingProxyType(root.take("proof", dict, {})),
    )
    source.end()
    golden.end()
    root.end()
    names = manifest.names
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise root.wrong("features", f'has "{twice[0]}" twice')
    if any(
        first.context and not second.context
        for first, second in zip(manifest.features, manifest.features[1:], strict=False)
    ):
        raise root.wrong("features", "has a context tag before a feature of the waveform")
    if manifest.limit <= 0.0 or manifest.sample_rate_hz <= 0.0:
        raise root.wrong("limit" if manifest.limit <= 0.0 else "input.sample_rate_hz", "is not above 0")
    return manifest


def _feature(table: _Table) -> ModelFeature:
    feature = ModelFeature(
        name=table.matching("name", FEATURE_PATTERN, "a feature name"),
        unit=table.text("unit"),
        context=table.take("context", bool, default=False),
        low=table.number("low", default=-math.inf),
        high=table.number("high", default=math.inf),
    )
    table.end()
    if not feature.low < feature.high:
        raise table.wrong("low", f"{feature.low:g} is not below high = {feature.high:g}")
    return feature


def _external(root: _Table) -> Mapping[str, str]:
    table = root.take("external", dict, {})
    for name, digest in table.items():
        if FILE_PATTERN.fullmatch(name) is None:
            raise root.wrong(f"external.{name}", "is not a plain file name")
        if not isinstance(digest, str) or SHA256_PATTERN.fullmatch(digest) is None:
            raise root.wrong(f"external.{name}", "is not 64 lower-case hexadecimal digits")
    return MappingProxyType(table)


class _Table:
    """One table of the manifest; every key is taken once, what is left over is unknown."""

    def __init__(self, values: dict[str, Any], origin: str, path: str) -> None:
        self._values = dict(values)
        self._origin = origin
        self._path = path

    def wrong(self, key: str, sentence: str) -> ModelError:
        return ModelError(f"{self._origin}: {self._path}{key} {sentence}", code="M506")

    def take(self, key: str, kind: type[Any], default: Any = None) -> Any:
        value = self._values.pop(key, default)
        if value is None:
            raise self.wrong(key, "is missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(key, f"is {value!r}, not {_KINDS[kind]}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        text = str(self.take(key, str, default))
        if not text.isprintable():
            raise self.wrong(key, "holds characters that cannot be printed")
        return text

    def matching(self, key: str, pattern: re.Pattern[str], meaning: str) -> str:
        text = self.text(key)
        if pattern.fullmatch(text) is None:
            raise self.wrong(key, f'"{text}" is not {meaning}')
        return text

    def whole(self, key: str, *, high: int = 2**31 - 1) -> int:
        value: int = self.take(key, int)
        if not 1 <= value <= high:
            raise self.wrong(key, f"{value} is out of range 1..{high}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._values.pop(key, default)
        if value is None:
            raise self.wrong(key, "is missing")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, f"is {value!r}, not a number")
        try:
            number = float(value)
        except OverflowError:
            raise self.wrong(key, "is a number of hundreds of digits") from None
        if math.isnan(number):
            raise self.wrong(key, "is nan, not a number")
        return number

    def table(self, key: str) -> _Table:
        return _Table(self.take(key, dict), self._origin, f"{self._path}{key}.")

    def tables(self, key: str) -> list[_Table]:
        entries = self.take(key, list)
        if not entries or not all(isinstance(entry, dict) for entry in entries):
            raise self.wrong(key, "is not a list of tables")
        return [_Table(entry, self._origin, f"{key}[{number}].") for number, entry in enumerate(entries, 1)]

    def end(self) -> None:
        if self._values:
            raise self.wrong(min(self._values), "is an unknown key")


_KINDS: Final[dict[type[Any], str]] = {
    str: "a text in quotes",
    int: "a whole number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}

"""The manifest of a package as text."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Any, Final

from edge_opcua.core.clock import SystemClock
from edge_opcua.features.chain import TAGS_SET
from edge_opcua.features.stroke import Feature
from edge_opcua.inference.manifest import FORMAT, ModelTag
from edge_opcua.training.card import ModelCard
from edge_opcua.training.preparation import Preparation
from edge_opcua.training.tomltext import table_text, value_text
from edge_opcua.training.windows import Capture

MOST_FEATURES: Final = 1_000
"""More features are not listed: the steps say what they are."""

_HEAD: Final = """\
# Written by edge_opcua.training. The steps carry what they have learned; whoever changes the model or a step
# writes a new version."""


def manifest_text(
    card: ModelCard, preparation: Preparation, *, sha256: str, input_name: str, files: Mapping[str, Any]
) -> str:
    """Return the text of a manifest.

    Args:
        card: What is told of the model.
        preparation: What makes its features.
        sha256: Hash of the model file.
        input_name: Name of its input.
        files: The tables ``golden`` and, if there is one, ``profile``.
    """
    scalars = {"format": FORMAT, "name": card.name, "version": card.version, "sha256": sha256}
    scalars |= {"description": card.description, "limit": float(card.limit)}
    head = "\n".join(f"{key} = {value_text(value)}" for key, value in scalars.items())
    parts = [f"{_HEAD}\n{head}", table_text("input", _input(preparation, card, input_name))]
    parts += [table_text("tags", _tag(tag), many=True) for tag in _tags(preparation)]
    parts += [table_text("steps", step, many=True) for step in preparation.steps]
    if card.output is not None:
        parts.append(table_text("output", card.output))
    parts += [table_text("post", step, many=True) for step in card.post]
    parts += [table_text(name, table) for name, table in files.items()]
    parts.append(table_text("age", _age(card)))
    parts += _features(preparation, card)
    notes = {"proof": card.proof, "provenance": card.provenance}
    parts += [table_text(name, table) for name, table in notes.items() if table]
    return "\n\n".join(parts) + "\n"


def _input(preparation: Preparation, card: ModelCard, input_name: str) -> dict[str, Any]:
    source = preparation.source
    table: dict[str, Any] = {"name": input_name}
    if isinstance(source, Capture):
        table["feature_set"] = preparation.chain.feature_set
        table |= {"sample_count": source.sample_count, "sample_rate_hz": float(source.sample_rate_hz)}
        table["waveform_unit"] = source.unit
    else:
        table |= {"source": "tags", "window": source.window}
        if source.period_ms is not None:
            table["period_ms"] = float(source.period_ms)
    if card.shape:
        table["shape"] = list(card.shape)
    return table


def _tags(preparation: Preparation) -> tuple[ModelTag, ...]:
    source = preparation.source
    return tuple(source.context if isinstance(source, Capture) else source.tags)


def _tag(tag: ModelTag) -> dict[str, Any]:
    return {"name": tag.name, "unit": tag.unit, **_limits(tag.low, tag.high)}


def _limits(low: float, high: float) -> dict[str, float]:
    given = {"low": float(low), "high": float(high)}
    return {key: value for key, value in given.items() if math.isfinite(value)}


def _features(preparation: Preparation, card: ModelCard) -> list[str]:
    """List the features; where they are the tags themselves, the tags say it all."""
    chain = preparation.chain
    if chain.feature_set == TAGS_SET or len(chain.names) > MOST_FEATURES:
        return []
    features = [Feature(name, unit) for name, unit in zip(chain.names, chain.units, strict=True)]
    return [
        table_text(
            "features",
            {
                "name": feature.name,
                "unit": feature.unit,
                **_limits(*card.limits.get(feature.name, (-math.inf, math.inf))),
            },
            many=True,
        )
        for feature in features
    ]


def _age(card: ModelCard) -> dict[str, Any]:
    trained = card.trained or dt.datetime.fromtimestamp(SystemClock().utc_ns() // 1_000_000_000, dt.UTC)
    aged = {} if card.max_days is None else {"max_days": float(card.max_days), "then": card.then}
    return {"trained": trained, **aged}

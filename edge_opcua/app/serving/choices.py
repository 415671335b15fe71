"""The models of a group by pipeline, as a lane process is told them on its command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from edge_opcua.errors import ModelError
from edge_opcua.inference.choice import ModelChoice, choices_json

__all__: Final = ["ModelChoice", "choices_of", "choices_text"]


def choices_text(choices: Mapping[str, ModelChoice]) -> str:
    """Return the models of a group by pipeline, as the argument ``--models`` of a lane process."""
    return json.dumps(choices_json(choices))


def choices_of(text: str) -> dict[str, ModelChoice]:
    """Return what :func:`choices_text` wrote.

    Raises:
        ModelError: It is something else (M500): a fault of ours, never of the user.
    """
    try:
        return {str(pipeline): ModelChoice.of(row) for pipeline, row in json.loads(text).items()}
    except (ValueError, AttributeError) as exc:
        raise ModelError(f"these are no models: {text[:200]}", code="M500") from exc

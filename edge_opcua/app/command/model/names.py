"""How somebody names a model on the command line: ``NAME`` or ``NAME/VERSION``, as everything shows it."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import Final

_FORM: Final = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,63})(?:/([1-9][0-9]{0,6}))?")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model, or one version of it.

    Args:
        name: Name of the model.
        version: Version; None: the model as a whole.
    """

    name: str
    version: int | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}/{self.version}"


def parse_model_name(text: str) -> ModelName | None:
    """Return the model that a text names; None if it names none."""
    found = _FORM.fullmatch(text)
    return None if found is None else ModelName(found[1], int(found[2]) if found[2] else None)


def model_name(text: str) -> ModelName:
    """Return ``NAME`` or ``NAME/VERSION``; for argparse."""
    found = parse_model_name(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME or NAME/VERSION, e.g. press-anomaly/2")
    return found


def model_version(text: str) -> ModelName:
    """Return ``NAME/VERSION``; for argparse."""
    found = parse_model_name(text)
    if found is None or found.version is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME/VERSION, e.g. press-anomaly/2")
    return found

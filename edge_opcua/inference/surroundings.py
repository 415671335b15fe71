"""Codes of failures that are not the doing of a model: another version would fail in the same way."""

from __future__ import annotations

from typing import Final

__all__ = ["NOT_THE_MODEL"]

_SERVER: Final = frozenset({"M570", "M571", "M572", "M574", "M577", "M578"})
"""The model server cannot be reached, is silent, is left alone, or cannot be spoken to."""
_DEVICE: Final = frozenset({"M520", "M521", "M522", "M560", "M562", "M564"})
"""The device or its library is not there, or has no memory left."""

NOT_THE_MODEL: Final = _SERVER | _DEVICE

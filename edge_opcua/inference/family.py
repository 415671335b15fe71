"""The versions of a model that were made of the same one: which of them may judge when time is short."""

from __future__ import annotations

from collections.abc import Iterable

from edge_opcua.inference.manifest import Manifest


def original_of(manifest: Manifest) -> str:
    """Return the SHA-256 by which a model and all that was made of it know each other."""
    return manifest.sha256 if manifest.compressed is None else manifest.compressed.of_sha256


def faster_versions(running: Manifest, others: Iterable[Manifest], provider: str) -> list[Manifest]:
    """Return the versions that are proved to be as good and measured to be faster, the fastest first.

    Both are facts of where they were compressed: whoever loads one measures again whether it is faster there.

    Args:
        running: The version that judges.
        others: What there is besides; other models, and this one, pass by.
        provider: Where they shall run: what was measured elsewhere says nothing.
    """
    mine = running.compressed
    if mine is not None and mine.provider != provider:
        return []
    most = 1.0 if mine is None else mine.p50_ratio
    found = [
        (each.compressed.p50_ratio, -each.version, each)
        for each in others
        if each.name == running.name
        and each.version != running.version
        and each.compressed is not None
        and each.compressed.of_sha256 == original_of(running)
        and each.compressed.verdict == "proved"
        and each.compressed.provider == provider
        and each.compressed.p50_high < most
    ]
    return [each for _, _, each in sorted(found, key=lambda one: one[:2])]

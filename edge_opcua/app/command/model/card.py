"""A model in words: what it is, what it is fed with, where it runs and how fast; pure."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.look import printable
from edge_opcua.inference.manifest import Manifest, ModelFeature
from edge_opcua.inference.onnxcard import OnnxCard, Tensor

_LABEL: Final = 12
_MOST_OPERATORS: Final = 8
_MOST_FEATURES: Final = 40
_NS_PER_DAY: Final = 86_400_000_000_000
NOTES: Final = ("provenance", "device", "compression", "variants")


@dataclass(frozen=True, slots=True)
class Found:
    """What was found out about one model.

    Args:
        path: Its file.
        sha256: Hash of the file.
        card: What the file says of itself.
        manifest: What the manifest beside it says; None without one.
        fault: Why it, or its manifest, cannot be used; code and sentence.
        runs: What running it on each provider gave, or why it does not.
    """

    path: Path
    sha256: str
    card: OnnxCard
    manifest: Manifest | None
    fault: tuple[str, str] | None
    runs: tuple[Mapping[str, Any], ...]


def card_text(found: Found, *, width: int = 100) -> str:
    """Return what was found out, for a person."""
    card, lines = found.card, _Lines(width)
    if found.manifest is not None:
        lines.add("model", _title(found.manifest))
    lines.add("file", f"{found.path}, {size_text(card.size_bytes)}, SHA-256 {found.sha256}")
    lines.add("", _made(card))
    lines.add("computes in", _computes(card))
    lines.add("operators", _operators(card))
    for label, tensors in (("input", card.inputs), ("output", card.outputs)):
        for number, tensor in enumerate(tensors):
            lines.add(label if not number else "", f"{tensor.name}  {tensor}")
    if found.manifest is not None:
        _add_manifest(lines, found.manifest)
    for number, row in enumerate(_runs_table(found.runs)):
        lines.plain("runs on" if not number else "", row)
    lines.add("verdict", _verdict(found))
    return "\n".join(lines.lines)


def card_rows(found: Found) -> dict[str, Any]:
    """Return the same for programs."""
    card = found.card
    fault = None if found.fault is None else {"code": found.fault[0], "text": found.fault[1]}
    return {
        "file": str(found.path),
        "sha256": found.sha256,
        "size_bytes": card.size_bytes,
        "ir_version": card.ir_version,
        "opsets": dict(card.opsets),
        "producer": card.producer,
        "precision": card.precision,
        "parameters": card.parameters,
        "nodes": card.nodes,
        "operators": dict(card.operators.most_common()),
        "external": list(card.external),
        "inputs": [_tensor_row(each) for each in card.inputs],
        "outputs": [_tensor_row(each) for each in card.outputs],
        "metadata": dict(card.metadata),
        "manifest": None if found.manifest is None else manifest_rows(found.manifest),
        "fault": fault,
        "runs": [dict(run) for run in found.runs],
    }


def manifest_rows(manifest: Manifest) -> dict[str, Any]:
    """Return what a manifest says, for programs."""
    age = manifest.age
    return {
        "name": manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "source": manifest.source,
        "feature_set": manifest.feature_set,
        "input": manifest.input_name,
        "shape": list(manifest.input_shape),
        "features": [{"name": each.name, "unit": each.unit} for each in manifest.features],
        "tags": [{"name": each.name, "unit": each.unit} for each in manifest.tags],
        "window": manifest.window,
        "period_ms": manifest.period_ms,
        "output": None if manifest.output is None else plain(manifest.output),
        "trained": None if age is None else utc_text(age.trained_ns),
        "max_days": None if age is None or age.max_days == float("inf") else age.max_days,
        "profile": manifest.profile is not None,
        "signed": bool(manifest.signature),
        "signature_verified": False,
        **{name: plain(getattr(manifest, name)) for name in NOTES},
    }


def note_text(name: str, table: Mapping[str, Any]) -> str:
    """Return a table that is for people, in words where we know what it says."""
    if name == "compression" and "of_sha256" in table:
        return _compression(table)
    if name == "variants" and table and all(isinstance(each, Mapping) for each in table.values()):
        return "; ".join(f"{variant}: {_plain(each)}" for variant, each in table.items())
    return _plain(table)


def size_text(size: float) -> str:
    """Return a size in bytes, kB, MB or GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} bytes"


def time_text(taken_us: float) -> str:
    """Return a time in µs, ms or s."""
    if taken_us < 1000:
        return f"{taken_us:.0f} µs" if taken_us >= 10 else f"{taken_us:.2g} µs"
    return f"{taken_us / 1e3:.3g} ms" if taken_us < 1e6 else f"{taken_us / 1e6:.3g} s"


def utc_text(utc_ns: int) -> str:
    """Return a moment as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(utc_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age_days(trained_ns: int, now_ns: int) -> float:
    """Return how many days ago a model was trained."""
    return (now_ns - trained_ns) / _NS_PER_DAY


def plain(value: Any) -> Any:
    """Return what TOML knows as JSON knows it: moments become texts."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


class _Lines:
    """Labelled lines, wrapped."""

    def __init__(self, width: int) -> None:
        self.lines: list[str] = []
        self._width = max(40, width)

    def add(self, label: str, text: str) -> None:
        """Add a text behind its label; nothing for no text."""
        if text:
            wrapped = textwrap.wrap(
                printable(text), self._width - _LABEL - 2, break_long_words=False, break_on_hyphens=False
            )
            for number, line in enumerate(wrapped):
                self.plain(label if not number else "", line)

    def plain(self, label: str, text: str) -> None:
        """Add one line as it is."""
        self.lines.append(f"{label:<{_LABEL}}  {text}".rstrip())


def _title(manifest: Manifest) -> str:
    said = f": {manifest.description}" if manifest.description else ""
    return f"{manifest.name}/{manifest.version}{said}"


def _made(card: OnnxCard) -> str:
    opsets = ", ".join(f"{domain or 'ONNX'} {version}" for domain, version in sorted(card.opsets.items()))
    by = f", written by {card.producer}" if card.producer else ""
    return f"opset {opsets}; format {card.ir_version}{by}"


def _computes(card: OnnxCard) -> str:
    learned = f", {card.parameters} learned numbers" if card.parameters else ""
    beside = f", weights in {', '.join(card.external)}" if card.external else ""
    runs = f"{card.nodes} operators" if card.nodes != 1 else "one operator"
    return f"{card.precision}{learned}, {runs} to run{beside}"


def _operators(card: OnnxCard) -> str:
    common = card.operators.most_common(_MOST_OPERATORS)
    more = len(card.operators) - len(common)
    names = ", ".join(f"{name} {count}" for name, count in common)
    return f"{names}{f' and {more} more kinds' if more > 0 else ''}"


def _add_manifest(lines: _Lines, manifest: Manifest) -> None:
    lines.add("fed with", _fed(manifest))
    lines.add("features", _features(manifest.features))
    if manifest.steps:
        lines.add(
            "made by", " → ".join(str(step.get("kind") or step.get("step", "?")) for step in manifest.steps)
        )
    if manifest.output is not None:
        lines.add("answers", _plain(manifest.output))
    if manifest.post:
        lines.add("then", "; ".join(_plain(each) for each in manifest.post))
    if manifest.age is not None:
        then = f", after {manifest.age.max_days:g} days: {manifest.age.then}"
        known = then if manifest.age.max_days != float("inf") else ""
        lines.add("trained", f"{utc_text(manifest.age.trained_ns)}{known}")
    for name in NOTES:
        lines.add(name, note_text(name, getattr(manifest, name)))
    if manifest.signature:
        lines.add("signature", f"{_plain(manifest.signature)}; not verified")


def _fed(manifest: Manifest) -> str:
    if manifest.source == "tags":
        often = (
            f" every {manifest.period_ms:g} ms"
            if manifest.period_ms is not None
            else " whenever one is triggered"
        )
        window = f"the last {manifest.window} samples of " if manifest.window > 1 else ""
        return f"{window}{len(manifest.tags)} tags{often}"
    context = f" and {len(manifest.context)} context tags" if manifest.context else ""
    return (
        f"captures of {manifest.sample_count} samples at {manifest.sample_rate_hz:g} Hz in "
        f"{manifest.waveform_unit}{context}; {manifest.feature_set}"
    )


def _features(features: Sequence[ModelFeature]) -> str:
    names = [f"{each.name} ({each.unit})" if each.unit else each.name for each in features[:_MOST_FEATURES]]
    more = len(features) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _compression(table: Mapping[str, Any]) -> str:
    """Return what making it smaller came to; the manifest may be anybody's, so each key may be missing."""
    said: dict[str, Any] = defaultdict(lambda: "?", table)
    return (
        f"{said['variant']} of {said['of']}, {said['verdict']}: {said['measure']} {said['original']} → "
        f"{said['now']}, loss {said['loss']} {said['unit']} (95 %: {said['loss_low']} to "
        f"{said['loss_high']}, allowed {said['allowed']}, {said['samples']} samples); takes "
        f"{said['p50_ratio']} of its time ({said['p50_low']} to {said['p50_high']}) on {said['provider']}, "
        f"{said['size_ratio']} of its size; all of it: {said['report']}"
    )


def _plain(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in table.items())


def _runs_table(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [("", "LOAD", "P50", "P99", "EACH OF", "MEMORY")]
    reasons: list[tuple[int, str]] = []
    for run in runs:
        name = str(run["provider"]).removesuffix("ExecutionProvider")
        if "p50_us" not in run:
            rows.append((name, "", "", "", "", ""))
            reasons.append(
                (len(rows) - 1, f"not here: {printable(str(run['why_not']))} ({run.get('code', '')})")
            )
            continue
        rows.append(
            (
                name,
                time_text(1e3 * float(run["load_ms"])),
                time_text(float(run["p50_us"])),
                time_text(float(run["p99_us"])),
                _batch(run),
                f"{run['memory_mb']:.0f} MB",
            )
        )
    if len(rows) == 1:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    for at, reason in reasons:
        lines[at] = f"{rows[at][0].ljust(widths[0])}  {reason}"
    return lines


def _batch(run: Mapping[str, Any]) -> str:
    """Return what a sample takes in the largest batch that was measured."""
    batches = {int(size): float(taken) for size, taken in run["batches"].items()}
    most = max(batches)
    return f"{most}: {time_text(batches[most] / most)}" if most > 1 else "-"


def _verdict(found: Found) -> str:
    if found.fault is not None:
        return f"cannot be served: {found.fault[1]} ({found.fault[0]})"
    served = [run for run in found.runs if run.get("served")]
    if not found.runs:
        return "it was not run"
    if not served:
        worst = found.runs[0]
        return f"cannot be served: {worst['why_not']} ({worst.get('code', '')})"
    if found.manifest is None:
        return (
            f"can be served; a manifest is missing: edge-opcua model map {found.path} --device NAME drafts it"
        )
    return f"can be served: edge-opcua model validate {found.path.parent} proves it"


def _tensor_row(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "kind": tensor.kind, "shape": list(tensor.shape)}

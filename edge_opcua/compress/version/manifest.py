"""The manifest of a variant: that of the original, with what making it smaller came to."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_opcua.compress.report.report import Report, Row
from edge_opcua.errors import ModelError
from edge_opcua.inference.onnxcard import read_card
from edge_opcua.training.tomltext import table_text, value_text

REPORT_FILE: Final = "compression.json"
_HEAD: Final = """\
# Written by edge-opcua compress. [compression] is the report in short; the whole of it lies beside it."""
_OF_THE_ORIGINAL: Final = frozenset({"compression", "device", "external", "proof", "signature", "variants"})
"""Tables that are true of the original alone."""
_MOST_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Identity:
    """Which version a variant becomes.

    Args:
        name: Name of the model.
        version: Its version.
        row: What was found out about it.
        model: Its ONNX file.
    """

    name: str
    version: int
    row: Row
    model: Path

    @property
    def precision(self) -> str:
        """What it computes in."""
        return read_card(self.model).precision


def manifest_of(
    original: str,
    who: Identity,
    report: Report,
    *,
    report_sha256: str,
    golden: Mapping[str, Any],
    profile: Mapping[str, Any] | None,
    siblings: Mapping[str, Mapping[str, Any]],
) -> str:
    """Return the manifest of a variant.

    Args:
        original: Text of the manifest of the original.
        who: The variant.
        report: The search.
        report_sha256: SHA-256 of the report as it lies beside the manifest.
        golden: The table ``[golden]``.
        profile: The table ``[profile]``; None: there is none.
        siblings: The table ``[variants]``.
    """
    tree = {name: part for name, part in tomllib.loads(original).items() if name not in _OF_THE_ORIGINAL}
    tree |= {"version": who.version, "sha256": who.row.sha256, "golden": dict(golden)}
    tree["description"] = _description(str(tree.get("description", "")), who.row)
    if profile is not None:
        tree["profile"] = dict(profile)
    tree["compression"] = compression_table(who, report, report_sha256)
    tree["device"] = _device(who.row, report)
    tree["proof"] = _proof(tree["compression"])
    if siblings:
        tree["variants"] = {name: dict(each) for name, each in siblings.items()}
    tree["provenance"] = {
        **tree.get("provenance", {}),
        "compressed": report.created,
        "compressed_by": f"edge-opcua {report.program}",
        "compressed_seed": report.seed,
        "compressed_data": f"{report.gate.origin} {report.gate.sha256}".strip(),
    }
    return _text(tree)


def compression_table(who: Identity, report: Report, report_sha256: str) -> dict[str, Any]:
    """Return ``[compression]``: what the server goes by first, then what people want to know.

    Raises:
        ModelError: The variant was not compared or not measured (M695).
    """
    compared, timing = who.row.comparison, who.row.timing
    if compared is None or timing is None:
        raise ModelError(f"{who.row.name} was not compared and measured", code="M695")
    table = {
        "of": report.original.name,
        "of_sha256": report.original.sha256,
        "variant": who.row.name,
        "precision": who.precision,
        "verdict": compared.verdict,
        "measure": compared.measure,
        "original": _short(compared.original),
        "now": _short(compared.variant),
        "loss": _short(compared.loss),
        "loss_low": _short(compared.low),
        "loss_high": _short(compared.high),
        "allowed": _short(compared.allowed),
        "unit": compared.unit,
        "test": compared.test,
        "samples": compared.samples,
        "provider": report.device.provider,
        "threads": timing.threads,
        "p50_ratio": _short(timing.ratio),
        "p50_low": _short(timing.ratio_low),
        "p50_high": _short(timing.ratio_high),
        "p99_ratio": _short(timing.p99_ratio),
        "size_ratio": _short(timing.size_bytes / timing.original_size_bytes),
        "report": REPORT_FILE,
        "report_sha256": report_sha256,
    }
    return {name: _one_line(value) if isinstance(value, str) else value for name, value in table.items()}


def _proof(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``[proof]``: what of ``[compression]`` clients see beside the model."""
    kept = ("verdict", "loss", "loss_high", "allowed", "unit", "samples", "p50_ratio", "size_ratio")
    measure = str(table["measure"]).replace(" ", "_")
    quality = {measure: table["now"], f"{measure}_of_the_original": table["original"]}
    return quality | {name: table[name] for name in kept}


def sibling_table(who: Identity) -> dict[str, Any]:
    """Return what the manifest of a relative says of a variant."""
    timing = who.row.timing
    known = {"version": who.version, "precision": who.precision}
    if timing is not None:
        known["p50_ratio"] = _short(timing.ratio)
        known["size_ratio"] = _short(timing.size_bytes / timing.original_size_bytes)
    return known


def _device(row: Row, report: Report) -> dict[str, Any]:
    known: dict[str, Any] = {
        "machine": f"{report.device.machine} {report.device.processor}".strip(),
        "provider": report.device.provider,
        "runtime": report.runtime,
    }
    if row.timing is not None:
        known |= {"p50_us": _short(row.timing.p50_us), "p99_us": _short(row.timing.p99_us)}
    return {name: _one_line(value) if isinstance(value, str) else value for name, value in known.items()}


def _description(original: str, row: Row) -> str:
    return _one_line(f"{original}; compressed: {row.name}" if original else f"compressed: {row.name}")


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:_MOST_TEXT]


def _short(value: float) -> float:
    """Return a number with as many digits as say something."""
    return float(f"{value:.4g}")


def _text(tree: Mapping[str, Any]) -> str:
    """Return a whole manifest, its root keys first."""
    tables = {name: part for name, part in tree.items() if _is_table(part)}
    keys = [f"{name} = {value_text(part)}" for name, part in tree.items() if name not in tables]
    parts = ["\n".join([_HEAD, *keys])]
    for name, part in tables.items():
        if isinstance(part, Mapping):
            parts.append(table_text(name, part))
        else:
            parts += [table_text(name, entry, many=True) for entry in part]
    return "\n\n".join(parts) + "\n"


def _is_table(part: object) -> bool:
    if isinstance(part, list):
        return bool(part) and all(isinstance(entry, Mapping) for entry in part)
    return isinstance(part, Mapping)

"""The findings of an import: what a user should know before he waits for a search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edge_opcua.compress.checks.operators import backends
from edge_opcua.compress.checks.parity import Parity
from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import ask_apart
from edge_opcua.inference.onnxcard import OnnxCard, Tensor, read_card
from edge_opcua.inference.onnxfile import inspect_file, refuse_foreign

Level = Literal["ok", "note", "refused"]
PARITY: Final = "edge_opcua.compress.checks.parity"
TRYOUT: Final = "edge_opcua.inference.tryout"
QUANTISED: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
RANDOM: Final = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
PER_CHANNEL_OPSET: Final = 13
"""From which on DequantizeLinear has an axis."""
LOAD_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was looked at.

    Args:
        what: What, in one or two words.
        level: How it is: fine, worth knowing, or a reason to make nothing of this model.
        text: A sentence.
        code: Code of the page with more; empty if there is none.
    """

    what: str
    level: Level
    text: str
    code: str = ""


def look(
    model: Path, *, provider: str = "cpu", reference: Path | None = None, timeout_s: float = LOAD_S
) -> list[Finding]:
    """Look at a model before anything is made of it.

    Args:
        model: The ONNX file.
        provider: What it is to run on.
        reference: What the framework answered that it comes from; see :func:`parity.answer`.
        timeout_s: Longest time to load it, and to run it on the reference.

    Raises:
        ModelError: It is no ONNX model (M510), or cannot be read (M507, M509).
    """
    card = read_card(model)
    found = [*_files(model, card), *_inputs(card), *_precision(card), *_operators(card, provider)]
    if any(each.level == "refused" for each in found):
        return found
    found.append(_loaded(model, provider, timeout_s))
    if reference is not None and found[-1].level != "refused":
        found.append(_parity(model, reference, timeout_s))
    return found


def require(findings: list[Finding]) -> None:
    """Refuse what cannot be made smaller.

    Raises:
        ModelError: With the code of the first reason.
    """
    for finding in findings:
        if finding.level == "refused":
            raise ModelError(finding.text, code=finding.code)


def _files(model: Path, card: OnnxCard) -> Iterator[Finding]:
    try:
        refuse_foreign(inspect_file(model), model.parent, frozenset(card.external))
    except ModelError as exc:
        yield Finding("files", "refused", str(exc), exc.code)
        return
    if card.external:
        text = f"it keeps weights in {', '.join(card.external)}; save it as one file"
        yield Finding("files", "refused", text, "M696")
    version = card.opsets.get("", card.opsets.get("ai.onnx", 0))
    if version < PER_CHANNEL_OPSET:
        text = (
            f"opset {version}: INT8 with a scale per channel needs {PER_CHANNEL_OPSET}; export it anew for it"
        )
        yield Finding("opset", "note", text)
    else:
        yield Finding("opset", "ok", f"opset {version}")


def _inputs(card: OnnxCard) -> Iterator[Finding]:
    if len(card.inputs) != 1:
        names = ", ".join(each.name for each in card.inputs) or "none"
        yield Finding("input", "refused", f"it has {len(card.inputs)} inputs ({names}); one is fed", "M696")
        return
    (one,) = card.inputs
    if one.kind != "float32":
        text = f'input "{one.name}" is {one}; only float32 is fed, so put a Cast in front of it'
        yield Finding("input", "refused", text, "M696")
        return
    yield Finding("input", "ok", f'"{one.name}" {one}')
    yield from _open_axes(one)
    for each in card.outputs:
        if each.kind != "float32":
            yield Finding("output", "note", f'output "{each.name}" is {each}; only float32 is looked at')
    if not any(each.kind == "float32" for each in card.outputs):
        yield Finding("output", "refused", "none of its outputs is float32", "M696")


def _open_axes(one: Tensor) -> Iterator[Finding]:
    first, rest = one.shape[:1], one.shape[1:]
    if first and isinstance(first[0], int):
        text = f"its first axis is {first[0]}: one sample is run at a time, however many wait"
        yield Finding("batch", "note" if first[0] == 1 else "refused", text, "" if first[0] == 1 else "M696")
    for number, axis in enumerate(rest, 2):
        if not isinstance(axis, int):
            named = f'"{axis}" ' if axis else ""
            text = f"axis {number} {named}of the input is open; it is taken as long as the samples are"
            yield Finding("shape", "note", text)


def _precision(card: OnnxCard) -> Iterator[Finding]:
    if QUANTISED & set(card.operators) or any(name.startswith("QLinear") for name in card.operators):
        text = "it is quantised already: compress the model it was made of"
        yield Finding("precision", "refused", text, "M696")
        return
    yield Finding("precision", "ok", f"{card.precision}, {card.parameters} parameters")


def _operators(card: OnnxCard, provider: str) -> Iterator[Finding]:
    drawing = sorted(RANDOM & set(card.operators))
    if drawing:
        text = f"it draws random numbers ({', '.join(drawing)}): no two answers to a sample are the same"
        yield Finding("operators", "note", text)
    for name, backend in backends().items():
        missing = backend.left_out(card.operators)
        if missing:
            text = f"{backend.title} does not run {', '.join(missing)}: {backend.then}"
            level: Level = "refused" if name == provider else "note"
            yield Finding(name, level, text, "M696" if level == "refused" else "")
        elif name == provider:
            yield Finding(name, "ok", f"{backend.title} runs all of its operators")


def _loaded(model: Path, provider: str, timeout_s: float) -> Finding:
    request = {"path": str(model), "provider": provider, "load_s": timeout_s}
    try:
        found = ask_apart(TRYOUT, request, within_s=2 * timeout_s)
    except ModelError as exc:
        return Finding(provider, "refused", f"it does not run on {provider} here: {exc}", exc.code)
    if not found["served"]:
        return Finding(provider, "note", f"a server cannot serve it as it is: {found['why_not']}")
    return Finding(provider, "ok", f"runs here on {found['provider']}, {found['p50_us']:.0f} µs")


def _parity(model: Path, reference: Path, timeout_s: float) -> Finding:
    request = {"path": str(model.resolve()), "reference": str(reference.resolve())}
    try:
        parity = Parity(**ask_apart(PARITY, request, within_s=timeout_s))
    except ModelError as exc:
        return Finding("parity", "refused", f"{reference.name}: {exc}", exc.code)
    where = f'sample {parity.sample}, output "{parity.output}"'
    if not parity.is_equal:
        text = (
            f"it does not answer what the framework did: {where} is {parity.found:.6g}, was "
            f"{parity.wanted:.6g} ({parity.farthest:.3g} times what is allowed)"
        )
        return Finding("parity", "refused", text, "M697")
    text = (
        f"answers what the framework did on {parity.samples} samples; farthest off by {parity.difference:.2g}"
    )
    return Finding("parity", "ok", f"{text} at {where}")

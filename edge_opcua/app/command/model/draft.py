"""The draft of a manifest: what is known is filled in, what is not is a ``?`` that no server takes; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge_opcua.app.command.model.match import Match, Sureness
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.onnxcard import OnnxCard, Tensor

UNKNOWN: Final = "?"
_FOUR: Final = frozenset({"score", "confidence", "expected", "contributions"})
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_MOST_LABELS: Final = 1000


@dataclass(frozen=True, slots=True)
class CaptureFacts:
    """The capture that a model shall judge.

    Args:
        reference: Its public id.
        sample_count: Samples of one.
        sample_rate_hz: Samples per second.
        unit: Unit of the samples.
    """

    reference: str
    sample_count: int
    sample_rate_hz: float
    unit: str


@dataclass(frozen=True, slots=True)
class Shape:
    """How the input of a model is made of tags.

    Args:
        columns: How many tags.
        window: Samples of each.
        sizes: Shape of the input tensor for one sample.
        by_channel: Whether the samples of a tag stand together, as convolutions of PyTorch want them.
    """

    columns: int
    window: int
    sizes: tuple[int, ...]
    by_channel: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """What is known for a manifest.

    Args:
        name: Name of the model.
        version: Its version.
        sha256: Hash of the file.
        file: Name of the file.
        card: What the file says.
        shape: How its input is made.
        matches: The tags, in order; none for a capture.
        capture: What it judges instead of tags; None: tags.
        period_ms: Time between two samples; None: nobody said.
        measured: What running it here gave; None: it was not run.
        machine: What it was run on.
        today: Date.
    """

    name: str
    version: int
    sha256: str
    file: str
    card: OnnxCard
    shape: Shape
    matches: tuple[Match, ...] = ()
    capture: CaptureFacts | None = None
    period_ms: float | None = None
    measured: Mapping[str, Any] | None = None
    machine: str = ""
    today: str = ""

    @property
    def open_points(self) -> list[str]:
        """What somebody has to fill in."""
        points = [
            f"{match.column or f'column {number}'}: {match.why}"
            for number, match in enumerate(self.matches, 1)
            if match.sureness is Sureness.UNSURE
        ]
        for number, match in enumerate(self.matches, 1):
            known = match.tag is not None and (match.tag.unit or match.unit)
            if match.sureness is not Sureness.UNSURE and not known:
                points.append(f"{column_name(match, number)}: its unit")
        if self.capture is None and self.period_ms is None and self.shape.window > 1:
            points.append("input.period_ms: the time from one sample to the next where it was trained")
        if f'"{UNKNOWN}1"' in manifest_text(self):
            points.append("[output] labels: the classes in the order of the output")
        points.append(
            "[golden]: reference samples of the trainer as golden.npz beside this file; or recorded rows: "
            "model add --golden FILE.csv"
        )
        return points


def shape_of(tensor: Tensor, columns: int, window: int | None) -> Shape | str:
    """Return how an input tensor is made of tags, or why that cannot be told.

    Args:
        tensor: The input.
        columns: How many names its columns have; 0 if nobody named them.
        window: Samples of each tag, if somebody said it.
    """
    if tensor.kind != "float32":
        return f'input "{tensor.name}" is {tensor}; a lane feeds float32: export it with a Cast in front'
    rest = tensor.shape[1:] if len(tensor.shape) > 1 else tensor.shape
    sizes = [size if isinstance(size, int) else 0 for size in rest if size != 1]
    if len(sizes) > 2:
        return f'input "{tensor.name}" is {tensor}: more than samples and tags; such a model needs [[steps]]'
    if len(sizes) == 2:
        return _matrix(tensor, sizes, columns, window)
    width = sizes[0] if sizes and sizes[0] else columns * (window or 1)
    if not width:
        return f'input "{tensor.name}" is {tensor}: how many columns it has is not said; give --columns'
    rows = window or (width // columns if columns and width % columns == 0 else 1)
    if width % rows:
        return f"{width} values are not {rows} samples of each tag"
    return Shape(width // rows, rows, _filled(tensor, width))


def _matrix(tensor: Tensor, sizes: Sequence[int], columns: int, window: int | None) -> Shape | str:
    """Return which of two axes counts samples."""
    first, second = sizes
    if columns and first == columns != second:
        return Shape(first, second or window or 1, (1, first, second or window or 1), by_channel=True)
    if window and second == window != first:
        return Shape(first, second, (1, first, second), by_channel=True)
    rows, width = first or window or 0, second or columns
    if not rows or not width:
        return f'input "{tensor.name}" is {tensor}: give --window, and the columns with --columns'
    return Shape(width, rows, (1, rows, width))


def _filled(tensor: Tensor, width: int) -> tuple[int, ...]:
    """Return the shape for one sample: the first axis 1, and the one axis that is not 1 the width."""
    if len(tensor.shape) < 2:
        return (1, width)
    return (1, *(1 if size == 1 and width != 1 else width for size in tensor.shape[1:]))


def column_name(match: Match, number: int) -> str:
    """Return the name of a tag in the manifest."""
    if match.sureness is Sureness.UNSURE and not match.column:
        return UNKNOWN
    source = match.column or (match.tag.name if match.tag is not None else f"input_{number}")
    name = _NOT_IN_A_NAME.sub("_", source.partition("[")[0].strip()).strip("_.-")
    return name if name[:1].isalpha() else f"x_{name}"[:64]


def manifest_text(draft: Draft) -> str:
    """Return the draft."""
    return "\n".join([*_head(draft), *_input(draft), *_tags(draft), *_output(draft), *_tail(draft)]) + "\n"


def pipeline_text(draft: Draft) -> str:
    """Return the part of the configuration that goes with it."""
    lines = ["[[pipelines]]", f"name = {_quoted(draft.name)}", f"model = {_quoted(draft.name)}"]
    lines.append(f"version = {draft.version}")
    if draft.capture is not None:
        return "\n".join([*lines, f"capture = {_quoted(draft.capture.reference)}"])
    lines.append(
        f"every_ms = {draft.period_ms:g}" if draft.period_ms is not None else f"every_ms = {UNKNOWN}"
    )
    if draft.shape.window > 1:
        lines.append(f"window = {draft.shape.window}")
    pairs = ", ".join(
        f"{_quoted(column_name(match, number))} = {_quoted(_reference(match))}"
        for number, match in enumerate(draft.matches, 1)
    )
    return "\n".join([*lines, f"inputs = {{ {pairs} }}"])


def _reference(match: Match) -> str:
    return match.tag.reference if match.tag is not None and match.sureness is not Sureness.UNSURE else UNKNOWN


def _head(draft: Draft) -> Iterator[str]:
    yield f"# Drafted by edge-opcua model map from {draft.file}. What only the trainer knows is a"
    yield '# "?", and the model is refused until it is filled in; look through the rest.'
    yield "format = 1"
    yield f"name = {_quoted(draft.name)}"
    yield f"version = {draft.version}"
    yield f"sha256 = {_quoted(draft.sha256)}"
    yield f"description = {_quoted((draft.card.description or draft.card.graph)[:200])}"
    yield ""


def _input(draft: Draft) -> Iterator[str]:
    yield "[input]"
    yield f"name = {_quoted(draft.card.inputs[0].name)}"
    if draft.capture is not None:
        yield f"sample_count = {draft.capture.sample_count}"
        yield f"sample_rate_hz = {draft.capture.sample_rate_hz:g}"
        yield f"waveform_unit = {_quoted(draft.capture.unit or UNKNOWN)}"
    else:
        yield 'source = "tags"'
        yield f"window = {draft.shape.window}"
        if draft.period_ms is not None:
            yield f"period_ms = {draft.period_ms:g}"
        elif draft.shape.window > 1:
            yield f"period_ms = {_quoted(UNKNOWN)}"
    if draft.shape.sizes != (1, draft.shape.columns * draft.shape.window):
        yield f"shape = {list(draft.shape.sizes)}"
    yield ""
    if draft.capture is not None or draft.shape.by_channel:
        yield "[[steps]]"
        yield 'step = "flatten"'
        if draft.shape.by_channel:
            yield 'order = "channel"'
        yield ""


def _tags(draft: Draft) -> Iterator[str]:
    for number, match in enumerate(draft.matches, 1):
        tag = match.tag
        meant = f"{tag.reference}: {match.why}" if tag is not None else match.why
        mark = "? " if match.sureness is Sureness.UNSURE else ""
        yield f"[[tags]]  # {mark}{_line(meant)}"
        yield f"name = {_quoted(column_name(match, number))}"
        unsure = match.sureness is Sureness.UNSURE
        unit = UNKNOWN if unsure else match.unit or (tag.unit if tag is not None else "") or UNKNOWN
        yield f"unit = {_quoted(unit)}"
        if tag is not None and tag.low is not None and tag.high is not None:
            yield f"low = {tag.low:g}  # the range of the tag; that of the training data says more"
            yield f"high = {tag.high:g}"
        yield ""


def _output(draft: Draft) -> Iterator[str]:
    outputs = draft.card.outputs
    if {tensor.name for tensor in outputs} >= _FOUR:
        return
    floats = [tensor for tensor in outputs if tensor.kind == "float32"]
    yield "[output]"
    if len(floats) != len(outputs):
        others = ", ".join(f'"{each.name}" {each}' for each in outputs if each.kind != "float32")
        yield f"# ? {_line(others)}: a lane takes float32 only; export without it (skl2onnx: zipmap off)"
    if not floats:
        yield f"kind = {_quoted(UNKNOWN)}"
        yield ""
        return
    yield from _kind(draft, floats[-1])
    yield ""


def _kind(draft: Draft, tensor: Tensor) -> Iterator[str]:
    """Yield what an output probably means."""
    size = 1
    for axis in tensor.shape[1:]:
        size *= axis if isinstance(axis, int) else 1
    if size == 1:
        is_score = re.search(r"score|anomal|outlier|error|prob", tensor.name, re.IGNORECASE) is not None
        kind = "score" if is_score else "value"
        yield f"kind = {_quoted(kind)}  # or {_quoted('value' if is_score else 'score')}"
        yield f"{kind} = {_quoted(tensor.name)}"
    elif tensor.shape[1:] == draft.card.inputs[0].shape[1:]:
        yield 'kind = "reconstruction"'
        yield f"reconstruction = {_quoted(tensor.name)}"
    else:
        labels = _labels(draft.card) or [
            f"{UNKNOWN}{number}" for number in range(1, min(size, _MOST_LABELS) + 1)
        ]
        yield 'kind = "classes"'
        yield f"probabilities = {_quoted(tensor.name)}"
        yield f"labels = {json.dumps(labels, ensure_ascii=False)}  # the first is the good one"
        if not any("Softmax" in name or name.startswith("ai.onnx.ml") for name in draft.card.operators):
            yield 'apply = "softmax"  # it ends without one'


def _labels(card: OnnxCard) -> list[str]:
    for key in ("labels", "classes", "class_names", "names"):
        found = names_in(card.metadata.get(key, ""))
        if found:
            return found
    return []


def names_in(text: str) -> list[str]:
    """Return the names in a note of a model's author: a JSON list, or texts between commas."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = [each.strip() for each in text.split(",")] if text else []
    if isinstance(found, dict):
        found = list(found.values())
    return [str(each) for each in found if str(each)] if isinstance(found, list) else []


def _tail(draft: Draft) -> Iterator[str]:
    yield "[golden]  # windows of the trainer with the answers the trainer got"
    yield 'file = "golden.npz"'
    yield "rtol = 1e-3"
    yield "atol = 1e-4"
    yield ""
    yield "# [age]"
    yield "# trained = 2026-05-17T08:00:00Z"
    yield "# max_days = 180"
    yield '# then = "warn"  # or "degrade", "fail_safe"'
    yield ""
    yield "[provenance]"
    yield f"file = {_quoted(draft.file)}"
    if draft.card.producer:
        yield f"exported_by = {_quoted(draft.card.producer[:200])}"
    yield f"drafted = {_quoted(draft.today)}"
    if draft.measured is not None:
        yield ""
        yield "[device]"
        yield f"machine = {_quoted(draft.machine)}"
        yield f"provider = {_quoted(str(draft.measured['provider']))}"
        yield f"p50_us = {float(draft.measured['p50_us']):.1f}"
        yield f"p99_us = {float(draft.measured['p99_us']):.1f}"
    yield ""
    yield "# This goes into the configuration:"
    yield from (f"# {line}" for line in pipeline_text(draft).splitlines())


def unfilled(manifest: Manifest) -> list[str]:
    """Return where a draft still has a ``?``."""
    units = [(each.name, each.unit) for each in manifest.tags]
    units += [(each.name, each.unit) for each in manifest.features]
    found = [f'unit of "{name}"' for name, unit in units if unit == UNKNOWN]
    if manifest.waveform_unit == UNKNOWN:
        found.append("input.waveform_unit")
    found += [f"output.{key}" for key, value in (manifest.output or {}).items() if _is_open(value)]
    return list(dict.fromkeys(found))


def _is_open(value: object) -> bool:
    if isinstance(value, list):
        return any(_is_open(each) for each in value)
    return isinstance(value, str) and value.startswith(UNKNOWN)


def _quoted(text: str) -> str:
    """Return a text as TOML has it; JSON's escapes are TOML's."""
    return json.dumps(_line(text), ensure_ascii=False)


def _line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)

"""Recorded windows as a file for training: npz, CSV, or Parquet; window by window, however many there are."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from edge_opcua.core.values import Verdict
from edge_opcua.errors import ModelError
from edge_opcua.records.window import Window, WindowSource
from edge_opcua.records.windowlook import Found, Wanted, WindowLook

FORMATS: Final = (".npz", ".csv", ".parquet")
_GROUP: Final = 256
_TEXT: Final = "text"
_CHUNK: Final = 1 << 20

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Args:
        windows: How many windows.
        left_out: Windows that were recorded another way: another number of samples, other tags.
        answered: How many of those that were written somebody has answered.
        source: Where they come from.
        samples: Samples of each.
    """

    windows: int
    left_out: int
    answered: int
    source: WindowSource
    samples: int


def export(
    look: WindowLook, wanted: Wanted, found: Found, out: Path, *, progress: Progress = lambda _: None
) -> Exported:
    """Write windows to a file, which appears as a whole or not at all.

    All of one file were recorded the same way, which is that of the newest.

    Args:
        look: The windows.
        wanted: Which of them.
        found: What there is of those.
        out: The file; its ending says the format.
        progress: Gets how many windows are written.

    Raises:
        ModelError: The format is not known (M664), pyarrow is missing (M664), or the file cannot be written
            (M663).
        OSError: The windows cannot be read.
    """
    write = {".npz": _npz, ".csv": _csv, ".parquet": _parquet}.get(out.suffix.lower())
    if write is None:
        raise ModelError(f"{out.name} ends in none of {', '.join(FORMATS)}", code="M664")
    if write is _parquet and find_spec("pyarrow") is None:
        raise ModelError(
            "Parquet needs pyarrow, which is not installed here: write .npz or .csv", code="M664"
        )
    choice = _Choice(look, wanted, found, progress)
    part = out.with_name(f".{out.name}.part")
    try:
        try:
            write(choice, part)
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    except _WriteError as exc:
        raise ModelError(f"{out} cannot be written: {exc}", code="M663") from exc
    except zipfile.LargeZipFile as exc:
        raise ModelError(f"{out} cannot be written: {exc}", code="M663") from exc
    return Exported(choice.count, choice.left_out, choice.answered, choice.source, choice.samples)


class _WriteError(Exception):
    """The disk to which is written refuses; what is read raises OSError itself."""


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _WriteError(exc.strerror or str(exc)) from exc


class _Choice:
    """The windows of a file: those that were recorded like the newest.

    Attributes:
        source: Where they come from.
        samples: Samples of each.
        count: How many were yielded.
        left_out: How many were not.
        answered: How many of those that were yielded somebody has answered.
    """

    def __init__(self, look: WindowLook, wanted: Wanted, found: Found, progress: Progress) -> None:
        self._look = look
        self._wanted = wanted
        self._found = found
        self._progress = progress
        newest = next(look.between(wanted, found.last_id, found.last_id), None)
        if newest is None:
            raise ModelError("the windows made room for newer ones meanwhile; ask again", code="M660")
        self.source, self.samples = newest.source, newest.samples.size
        self.count = self.left_out = self.answered = 0

    def windows(self) -> Iterator[Window]:
        """Yield them, oldest first."""
        for window in self._look.between(self._wanted, self._found.first_id, self._found.last_id):
            if window.source != self.source or window.samples.size != self.samples:
                self.left_out += 1
                continue
            self.count += 1
            self.answered += window.answer is not None
            self._progress(self.count)
            yield window


_FACTS: Final[dict[str, tuple[str, Callable[[Window], Any]]]] = {
    "result_id": ("<i8", lambda window: window.result_id),
    "stroke": ("<i8", lambda window: window.stroke),
    "captured_ns": ("<i8", lambda window: window.captured_ns),
    "judged_ns": ("<i8", lambda window: window.judged_ns),
    "verdict": (_TEXT, lambda window: Verdict(window.verdict).name),
    "fail_safe": ("|b1", lambda window: window.fail_safe),
    "score": ("<f8", lambda window: window.score),
    "confidence": ("<f8", lambda window: window.confidence),
    "label": (_TEXT, lambda window: window.label),
    "model": (_TEXT, lambda window: f"{window.model}/{window.version}" if window.model else ""),
    "answer": (_TEXT, lambda window: window.answer.value if window.answer else ""),
    "note": (_TEXT, lambda window: window.note),
    "sample_status": ("<u4", lambda window: window.sample_status),
}
"""What is written of each window besides samples and context: its type in a file of arrays, and the value."""


class _Column:
    """One array of a file while its rows come; texts are kept once, and made as wide as the longest at last.

    Args:
        kind: Type of an element; :data:`_TEXT` for texts.
        shape: Shape of one row.
        file: Where its rows gather.
    """

    def __init__(self, kind: str, shape: tuple[int, ...], file: IO[bytes]) -> None:
        self._kind = kind
        self._shape = shape
        self._file = file
        self._texts: dict[str, int] = {}

    def add(self, value: Any) -> None:
        """Take one row."""
        if self._kind == _TEXT:
            value = self._texts.setdefault(value, len(self._texts))
        kind = np.int32 if self._kind == _TEXT else np.dtype(self._kind)
        self._file.write(np.asarray(value, kind).tobytes())

    def write(self, member: IO[bytes], count: int) -> None:
        """Write the array."""
        texts = np.array(list(self._texts)) if self._texts else np.empty(0, "<U1")
        kind = texts.dtype if self._kind == _TEXT else np.dtype(self._kind)
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False}
        np.lib.format.write_array_header_1_0(member, {**header, "shape": (count, *self._shape)})
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            member.write(texts[np.frombuffer(chunk, np.int32)].tobytes() if self._kind == _TEXT else chunk)


def _npz(choice: _Choice, part: Path) -> None:
    """Write arrays: ``samples`` and ``context`` as :func:`edge_opcua.training.load_windows` reads them.

    Their rows gather in files beside it: how many there are is known when all were read, and stands at the
    head of an array.
    """
    tags = (len(choice.source.context),)
    kinds: dict[str, tuple[str, tuple[int, ...]]]
    kinds = {"samples": ("<f4", (choice.samples,)), "context": ("<f8", tags), "context_status": ("<u4", tags)}
    kinds |= {name: (kind, ()) for name, (kind, _) in _FACTS.items()}
    with _writing(), contextlib.ExitStack() as stack:
        columns = {
            name: _Column(kind, shape, stack.enter_context(tempfile.TemporaryFile(dir=part.parent)))
            for name, (kind, shape) in kinds.items()
        }
        for window in _kept(choice):
            for name in ("samples", "context", "context_status"):
                columns[name].add(getattr(window, name))
            for name, (_, value) in _FACTS.items():
                columns[name].add(value(window))
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, column in columns.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    column.write(member, choice.count)
            with archive.open("about.npy", "w") as member:
                np.lib.format.write_array(member, np.array(json.dumps(asdict(choice.source))))


def _kept(choice: _Choice) -> Iterator[Window]:
    """Yield the windows, so that trouble with reading them is not taken for trouble with writing."""
    windows = choice.windows()
    while True:
        try:
            window = next(windows, None)
        except OSError as exc:
            raise ModelError(str(exc), code="M661") from exc
        if window is None:
            return
        yield window


def _csv(choice: _Choice, part: Path) -> None:
    """Write a row for each window: what is known of it, its tags, then its samples."""
    with _writing(), part.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_header(choice))
        for window in _kept(choice):
            facts = [_cell(value(window)) for _, value in _FACTS.values()]
            numbers = [*window.context.tolist(), *window.samples.tolist()]
            writer.writerow([*facts, *(_cell(number) for number in numbers)])


def _header(choice: _Choice) -> list[str]:
    source = choice.source
    names = source.columns
    samples = (
        [f"{name}[{row}]" for row in range(choice.samples // len(names)) for name in names]
        if names
        else [f"samples[{number}]" for number in range(choice.samples)]
    )
    return [*_FACTS, *source.context, *samples]


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else format(np.float64(value), ".9g")
    return value


def _parquet(choice: _Choice, part: Path) -> None:
    """Write a table with the samples as a list; pyarrow is somebody else's, and may be there or not."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    facts = [
        (name, arrow.from_numpy_dtype(np.dtype(kind)) if kind != _TEXT else arrow.string())
        for name, (kind, _) in _FACTS.items()
    ]
    lists = [("context", arrow.list_(arrow.float64())), ("samples", arrow.list_(arrow.float32()))]
    schema = arrow.schema([*facts, *lists], metadata={"edge_opcua": json.dumps(asdict(choice.source))})
    with _writing(), parquet.ParquetWriter(os.fspath(part), schema) as writer:
        rows: list[dict[str, Any]] = []
        for window in _kept(choice):
            row = {name: value(window) for name, (_, value) in _FACTS.items()}
            rows.append({**row, "context": window.context.tolist(), "samples": window.samples.tolist()})
            if len(rows) == _GROUP:
                writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
                rows.clear()
        writer.write_table(arrow.Table.from_pylist(rows, schema=schema))

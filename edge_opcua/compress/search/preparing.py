"""What a run needs before it begins: the checks of the file, the samples and who gets which, the task."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from edge_opcua.app.command.model.inspection import sha256_of
from edge_opcua.compress.checks.look import Finding, look, require
from edge_opcua.compress.dataset import Dataset, Rows
from edge_opcua.compress.makers import TRAINED
from edge_opcua.compress.making import Kitchen
from edge_opcua.compress.measure.device import device
from edge_opcua.compress.options import Options
from edge_opcua.compress.samples.load import Wanted, load, split
from edge_opcua.compress.search.subject import Subject
from edge_opcua.compress.tasks import task_for
from edge_opcua.errors import ModelError
from edge_opcua.inference.repository import MANIFEST_FILE

MOST_SHARED: Final = 0.05
"""Share of the gate's samples that may be among those a variant is made with: equal ones occur by chance."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run begins with.

    Args:
        kitchen: What there is to make variants with.
        gate: The samples that decide.
        findings: What the checks of the file said.
        judged_by: What decides how answers are compared, besides the task's name: the manifest.
    """

    kitchen: Kitchen
    gate: Dataset
    findings: tuple[str, ...]
    judged_by: str


def prepare(subject: Subject, data: Path, options: Options) -> Prepared:
    """Read the samples and look at the model.

    Args:
        subject: The model.
        data: Samples of the gate, and to make variants with if ``options`` names no others.
        options: How.

    Raises:
        ModelError: Nothing can be made of this model, it is not the one that was trained (M697), or the
            samples cannot be read or are none for it (M670, M672 … M674); or those of the gate are among the
            others (M682); or training is asked for, and PyTorch is not there (M690).
    """
    _require_trainer(options)
    gate = _read(data, subject)
    if options.calibration is None:
        calibration, gate = split(gate, options.seed)
    else:
        calibration = _read(options.calibration, subject)
    training = None if options.training is None else _read(options.training, subject)
    others = [training, None if options.calibration is None else calibration]  # what was split shares none
    notes = [note for each in others if each is not None for note in _shared(gate, each)] + _repeated(gate)
    kitchen = Kitchen(
        original=subject.path,
        input_name=subject.input_name,
        calibration=calibration,
        training=training,
        task=task_for(subject.card.outputs, gate, options.task, output=options.output, judge=subject.judge),
        device=device(options.provider),
        seed=options.seed,
    )
    findings = look(subject.path, provider=options.provider, reference=options.reference)
    require(findings)
    told = (*(_told(each) for each in findings if each.level != "ok"), *notes)
    return Prepared(kitchen, gate, told, _judged_by(subject, options))


def _require_trainer(options: Options) -> None:
    """Refuse to leave out in silence what was asked for: without PyTorch nothing is trained.

    Raises:
        ModelError: It is asked for, and PyTorch is not installed (M690).
    """
    is_asked = options.training is not None or bool(TRAINED & options.only)
    if is_asked and TRAINED & frozenset(options.families()) and find_spec("torch") is None:
        raise ModelError(
            'training needs PyTorch, which is not installed: pip install "edge-opcua[cpu,train]", or leave '
            "out --train",
            code="M690",
        )


def _read(path: Path, subject: Subject) -> Dataset:
    shape = subject.card.inputs[0].shape[1:]
    found = load(path, Wanted(subject.input_name, shape), subject.files)
    wanted = subject.sample_shape
    if wanted is None or found.rows.shape[1:] == wanted:
        return found
    return replace(found, rows=found.rows.reshape(len(found), *wanted))


def _shared(gate: Dataset, others: Dataset) -> list[str]:
    """Refuse samples that decide and are made with as well; return what is to be known of a few.

    Raises:
        ModelError: More are shared than occur by chance (M682).
    """
    known = _known(others.rows)
    count = sum(each in known for each in _each(gate.rows))
    if count > MOST_SHARED * len(gate):
        raise ModelError(
            f"{count} of the {len(gate)} samples that decide ({gate.origin}) are among {others.origin} too: "
            "what was made with them says nothing of others",
            code="M682",
        )
    return [f"samples: {count} of the {len(gate)} that decide are among {others.origin} too"] if count else []


def _repeated(gate: Dataset) -> list[str]:
    """Return what is to be known if many samples are equal: each counts, though one would say as much."""
    count = len(gate) - len(_known(gate.rows))
    if count <= MOST_SHARED * len(gate):
        return []
    said = f"samples: {count} of the {len(gate)} that decide are equal to another one"
    return [f"{said}; if they were recorded once and written down again, more is called proved than is"]


def _known(rows: Rows) -> frozenset[bytes]:
    return frozenset(_each(rows))


def _each(rows: Rows) -> list[bytes]:
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def _judged_by(subject: Subject, options: Options) -> str:
    manifest = "" if subject.files is None else sha256_of(subject.files.folder / MANIFEST_FILE)
    return f"{options.task} {options.output or ''} {manifest}".strip()


def _told(finding: Finding) -> str:
    return f"{finding.what}: {finding.text}"

"""Steps of a run that are kept: what they depend on besides model and samples, and how far they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua import __version__
from edge_opcua.app.command.model.inspection import sha256_of
from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.measure.answers import answers_of, read_answers
from edge_opcua.compress.search.journal import Done, Facts, Journal, digest_of
from edge_opcua.compress.search.progress import Pace
from edge_opcua.compress.task import Answers

Work = Callable[[Path], Mapping[str, Any]]
PROGRAMS: Final = ("onnxruntime", "onnx", "numpy")


class Keeper:
    """Does steps through the journal, and asks models what they answer.

    Args:
        journal: Where each step is kept.
        pace: Gets how far it is.
        input_name: The model's one input.
        provider: What runs it.
    """

    def __init__(self, journal: Journal, pace: Pace, *, input_name: str, provider: str) -> None:
        self._journal = journal
        self._pace = pace
        self._input_name = input_name
        self._provider = provider
        self._digests: dict[int, tuple[Dataset, str]] = {}
        self.sha256: Callable[[Path], str] = cache(sha256_of)

    def step(self, kind: str, name: str, facts: Facts, work: Work, *, suffix: str = "") -> Done:
        """Do a step, unless it was done.

        Args:
            kind: Such as ``timing``; what a step takes is estimated by what those of its kind took.
            name: Such as ``int8-minmax/timing``.
            facts: What it depends on, besides the programs.
            work: See :meth:`edge_opcua.compress.search.journal.Journal.step`.
            suffix: Of the file it writes; empty if it writes none.

        Raises:
            ModelError: It was refused, or the folder cannot be written (M681).
        """
        self._pace.begin(kind, name)
        again = True
        try:
            done = self._journal.step(name, {**programs(), **facts}, work, suffix=suffix)
            again = done.again
        finally:
            self._pace.end(again=again)
        return done

    def tell(self, share: float, text: str) -> None:
        """Take note of how far the step is."""
        self._pace.within(share, text)

    def digest(self, data: Dataset) -> str:
        """Return a hash of samples and what is true of them."""
        known = self._digests.get(id(data))
        if known is None:
            known = self._digests[id(data)] = (data, digest_of(data.rows, data.truth))
        return known[1]

    def rows(self, data: Dataset) -> Path:
        """Return the file of the rows, for other processes."""

        def work(target: Path) -> Mapping[str, Any]:
            with target.open("wb") as stream:
                np.save(stream, data.rows, allow_pickle=False)
            return {"samples": len(data)}

        done = self._journal.step("samples/rows", {"samples": self.digest(data)}, work, suffix=".npy")
        assert done.file is not None
        return done.file

    def answers(self, name: str, model: Path, data: Dataset, outputs: Sequence[str]) -> Answers:
        """Return what a model answers.

        Args:
            name: Of the variant.
            model: Its file.
            data: The samples.
            outputs: Those that are looked at.

        Raises:
            ModelError: It cannot be run.
        """
        rows = self.rows(data)
        facts = {
            "model": self.sha256(model),
            "samples": self.digest(data),
            "outputs": list(outputs),
            "provider": self._provider,
        }

        def work(target: Path) -> Mapping[str, Any]:
            answers_of(
                model,
                rows,
                target,
                input_name=self._input_name,
                outputs=outputs,
                provider=self._provider,
                progress=self.tell,
            )
            return {"samples": len(data)}

        done = self.step("answers", f"{name}/answers", facts, work, suffix=".npz")
        assert done.file is not None
        return read_answers(done.file)


@cache
def programs() -> Facts:
    """Return which programs a step was done with: what an older one did is done again."""
    return {"program": [__version__, _own_code()], **{name: version_of(name) for name in PROGRAMS}}


@cache
def version_of(name: str) -> str:
    """Return the version of an installed distribution; empty if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _own_code() -> str:
    digest = sha256()
    folder = Path(__file__).resolve().parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}:".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]

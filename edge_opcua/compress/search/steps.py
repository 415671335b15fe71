"""The steps each variant goes through: made, tasted, timed, held against the original; each is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.makers import TRAINED, maker_of
from edge_opcua.compress.making import Kitchen, Maker, Progress
from edge_opcua.compress.measure.pair import time_pair
from edge_opcua.compress.measure.timing import Timing
from edge_opcua.compress.measure.weigh import Weight, weigh
from edge_opcua.compress.plain import plain, read
from edge_opcua.compress.search.journal import FULL
from edge_opcua.compress.search.keeping import Keeper, version_of
from edge_opcua.compress.task import Answers, Comparison
from edge_opcua.compress.variant import ORIGINAL, Family, Made, Variant
from edge_opcua.errors import ModelError

_TRAINER: Final = "torch"
GLANCE_S: Final = 1.0
"""Time that a variant runs beside the original at first: enough to see which are worth more of it."""


class Steps:
    """What is done with each variant.

    Args:
        keeper: Keeps what was done.
        kitchen: What there is to make variants with.
        gate: The samples that decide.
        threads: Threads of one run.
        timing_s: Time that a variant runs beside the original if it may be chosen, seconds.
        judged_by: What else decides how answers are compared, such as the hash of a manifest.
        makers: Who makes the variants of a family; others than their own in tests.
    """

    def __init__(
        self,
        keeper: Keeper,
        kitchen: Kitchen,
        gate: Dataset,
        *,
        threads: int,
        timing_s: float,
        judged_by: str = "",
        makers: Callable[[Family], Maker] = maker_of,
    ) -> None:
        self._keeper = keeper
        self._kitchen = kitchen
        self._gate = gate
        self._threads = threads
        self._timing_s = timing_s
        self._judged_by = judged_by
        self._makers = makers
        self._known: dict[str, Answers] = {}
        self._weights: dict[str, Weight] = {}
        self.original = Made(Variant(ORIGINAL, ORIGINAL), kitchen.original)

    def sha256(self, made: Made) -> str:
        """Return the hash of a variant's file."""
        return self._keeper.sha256(made.path)

    def make(self, variant: Variant, parent: Made) -> Made:
        """Make a variant.

        Raises:
            ModelError: It cannot be made of this model, and why.
        """

        def work(target: Path) -> Mapping[str, Any]:
            maker = self._makers(variant.family)
            notes = _made(maker, variant, parent.path, target, self._kitchen, self._keeper.tell)
            if not target.is_file():
                raise ModelError("its maker wrote nothing", code="M683")
            return dict(plain(notes))

        facts = self._facts_of_making(variant, parent)
        done = self._keeper.step(variant.family, f"{variant.name}/model", facts, work, suffix=".onnx")
        assert done.file is not None
        return Made(variant, done.file, done.note)

    def taste(self, made: Made) -> float:
        """Return how much a variant seems to have lost on the calibration samples.

        Raises:
            ModelError: It cannot be run.
        """
        task, calibration = self._kitchen.task, self._kitchen.calibration
        original, found = self._of_the_original(calibration), self._answers(made, calibration)
        return float(task.damage(original, found, calibration))

    def time(self, made: Made, *, closely: bool = False) -> Timing:
        """Return what a variant takes beside the original.

        Args:
            made: The variant.
            closely: In all the time there is for it, and not at a glance.

        Raises:
            ModelError: It cannot be run.
        """
        rows = self._keeper.rows(self._kitchen.calibration)
        budget_s = self._timing_s if closely else min(GLANCE_S, self._timing_s)
        kind = "timing" if budget_s <= GLANCE_S else "close timing"

        def work(_: Path) -> Mapping[str, Any]:
            timing = time_pair(
                self.original.path,
                made.path,
                rows,
                budget_s=budget_s,
                weights=(self._weight(self.original, rows), self._weight(made, rows)),
                progress=self._keeper.tell,
                **self._runs(),
            )
            return dict(plain(timing))

        facts = {**self._facts_of_running(made), "timing_s": budget_s}
        name = f"{made.variant.name}/{kind.replace(' ', '-')}"
        return read(Timing, self._keeper.step(kind, name, facts, work).note)

    def compare(self, made: Made, *, allowed: float | None, level: float) -> Comparison:
        """Hold a variant against the original on the samples of the gate.

        Raises:
            ModelError: Their answers cannot be compared (M671), or it cannot be run.
        """
        task, gate = self._kitchen.task, self._gate
        original, found = self._of_the_original(gate), self._answers(made, gate)

        def work(_: Path) -> Mapping[str, Any]:
            return dict(plain(task.compare(original, found, gate, allowed=allowed, level=level)))

        facts = {
            "original": self.sha256(self.original),
            "variant": self.sha256(made),
            "gate": self._keeper.digest(gate),
            "task": self._task(),
            "provider": self._kitchen.device.provider,
            "allowed": allowed,
            "level": level,
            "seed": self._kitchen.seed,
        }
        name = f"{made.variant.name}/comparison"
        return read(Comparison, self._keeper.step("comparison", name, facts, work).note)

    def _answers(self, made: Made, data: Dataset) -> Answers:
        return self._keeper.answers(made.variant.name, made.path, data, self._kitchen.task.outputs)

    def _of_the_original(self, data: Dataset) -> Answers:
        key = self._keeper.digest(data)
        if key not in self._known:
            self._known[key] = self._answers(self.original, data)
        return self._known[key]

    def _weight(self, made: Made, rows: Path) -> Weight:
        key = self.sha256(made)
        if key not in self._weights:
            self._weights[key] = weigh(made.path, rows, **self._runs())
        return self._weights[key]

    def _task(self) -> list[str]:
        task = self._kitchen.task
        return [self._judged_by, task.name, *task.outputs]

    def _runs(self) -> dict[str, Any]:
        return {
            "input_name": self._kitchen.input_name,
            "provider": self._kitchen.device.provider,
            "threads": self._threads,
        }

    def _facts_of_running(self, made: Made) -> dict[str, Any]:
        return {
            "original": self.sha256(self.original),
            "variant": self.sha256(made),
            "rows": self._keeper.digest(self._kitchen.calibration),
            "device": plain(self._kitchen.device),
            "threads": self._threads,
        }

    def _facts_of_making(self, variant: Variant, parent: Made) -> dict[str, Any]:
        kitchen = self._kitchen
        facts = {
            "original": self.sha256(self.original),
            "parent": self.sha256(parent),
            "family": variant.family,
            "recipe": plain(variant.recipe),
            "calibration": self._keeper.digest(kitchen.calibration),
            "task": self._task(),
            "device": plain(kitchen.device),
            "seed": kitchen.seed,
        }
        if variant.family in TRAINED:
            facts["training"] = "" if kitchen.training is None else self._keeper.digest(kitchen.training)
            facts[_TRAINER] = version_of(_TRAINER)
        return facts


def _made(
    maker: Maker, variant: Variant, source: Path, target: Path, kitchen: Kitchen, tell: Progress
) -> Mapping[str, Any]:
    """Let a maker work; what others' code raises ends this variant, and not the search."""
    try:
        return maker(variant, source, target, kitchen, tell)
    except ModelError:
        raise
    except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
        if isinstance(exc, OSError) and exc.errno in FULL:
            raise
        text = str(exc).strip().partition("\n")[0]
        raise ModelError(f"making it failed: {type(exc).__name__}: {text}", code="M683") from exc

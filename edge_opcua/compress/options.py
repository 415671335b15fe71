"""What may be asked of a run: which families, how much loss, on which provider, in which time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from edge_opcua.compress.variant import ORIGINAL, Family
from edge_opcua.errors import ModelError

Wish = Literal["auto", "labels", "score", "value", "reconstruction", "verdict", "agreement"]
FAMILIES: Final[tuple[Family, ...]] = tuple(each for each in get_args(Family) if each != ORIGINAL)
BUDGET_S: Final = 1800.0
TIMING_S: Final = 3.0
LEAST_TIMING_S: Final = 0.05
MOST_TIMING_S: Final = 600.0
MOST_BUDGET_S: Final = 7 * 86400.0
MOST_THREADS: Final = 256


@dataclass(frozen=True, slots=True)
class Options:
    """How a model is made smaller.

    Args:
        calibration: Samples to calibrate, prune and refit with; None takes some of the data.
        training: Samples to train with; None: nothing is trained.
        task: What the model is for; ``auto`` looks at its outputs and the data.
        output: The output that is looked at, where there are several.
        max_loss: Loss that is accepted, in the unit of the task; None takes the task's default.
        provider: Execution provider the variants are to run on.
        threads: Threads one inference may use.
        only: Families to try; none: all.
        skip: Families not to try.
        also: Recipes to try beside those that are worth it, by name, such as ``qoperator-s8``.
        work: Folder of the steps; None: ``<model>.compress`` beside where the command runs.
        seed: Of everything that draws numbers.
        budget_s: Longest time, seconds; what was not tried by then is not.
        timing_s: Time that a variant which may be chosen runs beside the original, seconds.
        reference: Inputs and outputs of the framework the model was exported from, ``.npz`` by name.
    """

    calibration: Path | None = None
    training: Path | None = None
    task: Wish = "auto"
    output: str | None = None
    max_loss: float | None = None
    provider: str = "cpu"
    threads: int = 1
    only: frozenset[Family] = frozenset()
    skip: frozenset[Family] = frozenset()
    also: tuple[str, ...] = ()
    work: Path | None = None
    seed: int = 1
    budget_s: float = BUDGET_S
    timing_s: float = TIMING_S
    reference: Path | None = None

    def families(self) -> tuple[Family, ...]:
        """Return the families to try, in their order."""
        asked = self.only or frozenset(FAMILIES)
        return tuple(family for family in FAMILIES if family in asked and family not in self.skip)

    def require_sound(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ModelError: A number is out of its range, or nothing is left to try (M682).
        """
        for name, value, least, most in (
            ("threads", self.threads, 1, MOST_THREADS),
            ("budget_s", self.budget_s, 1.0, MOST_BUDGET_S),
            ("timing_s", self.timing_s, LEAST_TIMING_S, MOST_TIMING_S),
            ("seed", self.seed, 0, 2**31 - 1),
            ("max_loss", 1e-6 if self.max_loss is None else self.max_loss, 1e-6, 100.0),
        ):
            if not least <= value <= most:
                raise ModelError(f"{name} = {value} is not from {least:g} to {most:g}", code="M682")
        unknown = sorted((self.only | self.skip) - set(FAMILIES))
        if unknown:
            raise ModelError(
                f'there is no family "{unknown[0]}"; there are {", ".join(FAMILIES)}', code="M682"
            )
        if not self.families():
            raise ModelError("only and skip leave nothing to try", code="M682")

"""What is tried, stage by stage: what comes next depends on what came of the stages before.

A plan never sees the labels of the gate: it goes by what a variant seems to lose on the calibration samples.
Only :meth:`Plan.rescue` is asked after the gate refused what came before; what it adds is judged after that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge_opcua.compress.makers import TRAINED, Proposals, also_of, proposals_of
from edge_opcua.compress.making import Kitchen
from edge_opcua.compress.options import Options
from edge_opcua.compress.variant import ORIGINAL, Family, Made, Variant
from edge_opcua.errors import ModelError

HOPELESS: Final = 0.05
"""Damage on the calibration samples from which on a variant is never built upon (``Task.damage``)."""
NOTICEABLE: Final = 0.002
"""Damage of plain INT8 from which on it is looked at which nodes should stay in float."""
MOST_PARENTS: Final = 3
"""Pruned models that are quantised too: those that lost the most weights without being hopeless."""
MOST_RECIPES: Final = 2
"""INT8 recipes that are tried on each of them: those that did the least damage. What was trained gets one."""
_NOT_INSTALLED: Final = "M607"
_NAME: Final = re.compile(r"[A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True)
class Tasted:
    """What came of making a variant.

    Args:
        variant: The variant.
        made: Its file; None if it was not made.
        damage: What it seems to have lost on the calibration samples; see ``Task.damage``.
        refused: Why it was not made, or not tasted; empty if it was.
    """

    variant: Variant
    made: Made | None = None
    damage: float = float("inf")
    refused: str = ""


Stage = Generator[list[Variant], Sequence[Tasted], list[Tasted]]
"""Yields variants, gets what came of them, and returns all of that."""
Stages = Generator[list[Variant], Sequence[Tasted], None]
"""Yields the variants of a stage, and gets what came of them, in the same order."""


class Plan:
    """What is tried for one model.

    Args:
        original: Its file.
        kitchen: What there is to make variants with.
        options: Which families, and what else was asked for.
        hopeless: Damage on the calibration samples from which on a variant is not built upon.
        proposals: Who proposes variants of a family, and who knows those that are only made when named;
            others than the families' own in tests.

    Attributes:
        refused: Families that can propose nothing for this model, and why; the others are tried without them.
    """

    def __init__(
        self,
        original: Path,
        kitchen: Kitchen,
        options: Options,
        *,
        hopeless: float = HOPELESS,
        proposals: Callable[[Family], Proposals] = proposals_of,
        also: Callable[[Family], Proposals] = also_of,
    ) -> None:
        self._original = original
        self._kitchen = kitchen
        self._families = options.families()
        self._also = options.also
        self._hopeless = min(hopeless, HOPELESS)
        self._proposals_of = proposals
        self._also_of = also
        self._names: set[str] = {ORIGINAL}
        self.refused: dict[Family, str] = {}

    def stages(self) -> Stages:
        """Yield what is tried, stage by stage; send what came of it.

        Raises:
            ModelError: Something is to be tried too that nobody knows (M682).
        """
        base = yield from self._clean()
        quantised = yield from self._quantised(base)
        pruned = yield from self._pruned(base)
        trained = yield from self._trained(base, pruned)
        yield from self._both(quantised, pruned, trained)

    def rescue(self, all_int8_refused: bool) -> list[Variant]:  # noqa: FBT001 - the one thing it depends on
        """Return what is tried when the gate has spoken: quantisation-aware training, if no INT8 was proved.

        Its place behind everything else is fixed before anybody knows whether it is needed, so that the gate
        may still judge it on the same samples.
        """
        if not all_int8_refused:
            return []
        return self._proposed("qat", self._original, ORIGINAL)

    def _clean(self) -> Generator[list[Variant], Sequence[Tasted], tuple[Path, str]]:
        """Try the cleaned-up graph, and return what the rest is made of: file and name."""
        cleaned = yield from self._stage(self._proposed("clean", self._original, ORIGINAL))
        best = next((each for each in cleaned if each.damage < NOTICEABLE), None)
        if best is None or best.made is None:
            return self._original, ORIGINAL
        return best.made.path, best.variant.name

    def _quantised(self, base: tuple[Path, str]) -> Stage:
        """Try everything that needs neither training nor pruning; mixed precision if INT8 does damage."""
        families: tuple[Family, ...] = ("int8-static", "int8-dynamic", "fp16")
        found = yield from self._stage(
            [*(each for family in families for each in self._proposed(family, *base)), *self._named(base)]
        )
        static = [each for each in found if each.variant.family == "int8-static"]
        if static and min(each.damage for each in static) >= NOTICEABLE:
            found += yield from self._stage(self._proposed("mixed", *base))
        return found

    def _pruned(self, base: tuple[Path, str]) -> Stage:
        """Prune more and more, until it does too much damage."""
        found: list[Tasted] = []
        for variant in sorted(self._proposed("pruned", *base), key=_share):
            found += yield from self._stage([variant])
            if not self._is_hopeful(found[-1]):
                break
        return found

    def _trained(self, base: tuple[Path, str], pruned: Sequence[Tasted]) -> Stage:
        """Train what was pruned the most: what lost too much by it may learn it again."""
        made = [each for each in pruned if each.made is not None]
        parents = [(each.made.path, each.variant.name) for each in made[-2:] if each.made is not None]
        wanted: list[Variant] = []
        for family in ("tuned", "distilled"):
            for parent in parents or [base]:
                wanted += self._proposed(family, *parent)
        return (yield from self._stage(wanted))

    def _both(
        self, quantised: Sequence[Tasted], pruned: Sequence[Tasted], trained: Sequence[Tasted]
    ) -> Stage:
        """Quantise what has fewer weights, by the recipes that did the least damage to the whole model."""
        recipes = sorted(
            (each for each in quantised if each.variant.family == "int8-static" and self._is_hopeful(each)),
            key=lambda each: (each.damage, each.variant.name),
        )
        parents = [(each, MOST_RECIPES) for each in pruned if self._is_hopeful(each)][-MOST_PARENTS:]
        parents += [(each, 1) for each in trained if self._is_hopeful(each)]
        wanted: list[Variant] = []
        for parent, most in parents:
            wanted += self._accepted([recipe.variant for recipe in recipes[:most]], parent.variant.name)
        return (yield from self._stage(wanted))

    def _is_hopeful(self, tasted: Tasted) -> bool:
        return tasted.made is not None and tasted.damage < self._hopeless

    def _stage(self, variants: list[Variant]) -> Stage:
        if not variants:
            return []
        return list((yield variants))

    def _proposed(self, family: Family, parent: Path, name: str) -> list[Variant]:
        if family not in self._families:
            return []
        try:
            proposed = self._proposals_of(family)(parent, self._kitchen)
        except ModelError as exc:
            if exc.code == _NOT_INSTALLED:
                raise
            self.refused.setdefault(family, f"{exc.code}: {exc}")
            return []
        return self._accepted(proposed, name)

    def _named(self, base: tuple[Path, str]) -> list[Variant]:
        """Return the recipes that somebody named."""
        if not self._also:
            return []
        known = self._nameable(base[0])
        unknown = [name for name in self._also if name not in known and name not in self._names]
        if unknown:
            there = ", ".join(sorted(known)) or "none for this model"
            raise ModelError(f'there is no recipe "{unknown[0]}" to try too; there are {there}', code="M682")
        return self._accepted([known[name] for name in self._also if name in known], base[1])

    def nameable(self) -> tuple[str, ...]:
        """Return the names of recipes that are tried only if somebody names them."""
        return tuple(name for name in self._nameable(self._original) if name not in self._also)

    def _nameable(self, model: Path) -> dict[str, Variant]:
        known: dict[str, Variant] = {}
        for family in self._families:
            if family not in TRAINED:
                known.update({each.name: each for each in self._also_of(family)(model, self._kitchen)})
        return known

    def _accepted(self, variants: Iterable[Variant], parent: str) -> list[Variant]:
        """Give variants their parent and a name that nobody has yet; leave out what is there already."""
        accepted = []
        for variant in variants:
            name = variant.name if parent in (ORIGINAL, "clean") else f"{parent}-{variant.name}"
            if _NAME.fullmatch(name) is None:
                raise ValueError(f"{name!r} is not a name of letters, digits and -")
            if name in self._names:  # named, and proposed as well
                continue
            self._names.add(name)
            accepted.append(replace(variant, name=name, parent=parent))
        return accepted


def imagined(plan: Plan, original: Path) -> list[list[Variant]]:
    """Return the stages of a plan as they come if nothing does damage; nothing is made.

    Args:
        plan: The plan; it is used up.
        original: Stands for every file that would be made.
    """
    found: list[list[Variant]] = []
    stages = plan.stages()
    try:
        wanted = next(stages)
        while True:
            found.append(wanted)
            wanted = stages.send([Tasted(each, Made(each, original), 0.0) for each in wanted])
    except StopIteration:
        return found


def _share(variant: Variant) -> float:
    return float(variant.recipe.get("share", 0.0))

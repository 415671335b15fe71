"""How something is trained: the recipe of a variant, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

from edge_opcua.errors import ModelError

Loss = Literal["labels", "teacher"]

_STEPS: Final = 2_500
_LEAST_EPOCHS, _MOST_EPOCHS = 6, 60
_MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class Lesson:
    """How something is trained.

    Args:
        epochs: How often every sample is seen.
        rate: First step size of Adam; it falls to nought along a half cosine.
        loss: ``labels``: from what is true; ``teacher``: from what the original answers. Distillation with
            ``labels`` learns from both.
        batch: Samples at a time.
        temperature: How soft the teacher's certainties are made, τ.
        features: Weight of the error in what goes into the last layers, beside that of the answers.
    """

    epochs: int
    rate: float
    loss: Loss
    batch: int = 32
    temperature: float = 3.0
    features: float = 1.0

    def as_recipe(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


KEYS: Final = frozenset(each.name for each in fields(Lesson))


def lesson_for(samples: int, *, rate: float, loss: Loss, batch: int = 32) -> Lesson:
    """Return a lesson of about as many steps whatever the number of samples.

    Args:
        samples: How many there are to learn from.
        rate: See :class:`Lesson`.
        loss: See :class:`Lesson`.
        batch: See :class:`Lesson`.
    """
    epochs = round(_STEPS * batch / max(samples, 1))
    return Lesson(min(max(epochs, _LEAST_EPOCHS), _MOST_EPOCHS), rate, loss, batch)


def read_lesson(recipe: Mapping[str, Any], *, besides: frozenset[str] = frozenset()) -> Lesson:
    """Return the lesson in the recipe of a variant.

    Args:
        recipe: What the variant says.
        besides: Keys that somebody else reads.

    Raises:
        ModelError: A key is unknown or missing, or a value out of its range (M692).
    """
    unknown = sorted(set(recipe) - KEYS - besides)
    missing = sorted({"epochs", "rate", "loss"} - set(recipe))
    if unknown or missing:
        what = f'no "{unknown[0]}"' if unknown else f'to have "{missing[0]}"'
        raise ModelError(f"a recipe of training has {what}; it has {', '.join(sorted(KEYS))}", code="M692")
    if recipe["loss"] not in get_args(Loss):
        raise ModelError(f"loss = {recipe['loss']!r} is none of {', '.join(get_args(Loss))}", code="M692")
    numbers = {key: recipe[key] for key in KEYS - {"loss"} if key in recipe}
    for key, value in numbers.items():
        least = 0.0 if key == "features" else 1e-9
        whole = key in ("epochs", "batch")
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise ModelError(f"{key} = {value!r} is no {'whole ' if whole else ''}number", code="M692")
        if not least <= value <= _MOST:
            raise ModelError(f"{key} = {value} is not from {least:g} to {_MOST}", code="M692")
    return Lesson(loss=recipe["loss"], **numbers)

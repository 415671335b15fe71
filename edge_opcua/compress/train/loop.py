"""Trains something, and keeps it as it was when it did best on samples it did not learn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from edge_opcua.compress.making import Progress
from edge_opcua.compress.train.lesson import Lesson
from edge_opcua.errors import ModelError

Tensor = Any
LossOf = Callable[[Tensor], Tensor]
"""Gets numbers of samples, shape ``(k,)``; returns their mean loss."""

_HELD_OUT: Final = 0.15
_LEAST_HELD_OUT: Final = 8
_MOST_NORM: Final = 1.0
_AT_A_TIME: Final = 256


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of training.

    Args:
        before: Loss on the samples held out, before anything was learned.
        after: The same when it was smallest.
        epoch: When that was; 0 if nothing was gained.
        learned_from: Samples that were learned from.
        held_out: Samples that were held out.
    """

    before: float
    after: float
    epoch: int
    learned_from: int
    held_out: int

    def notes(self) -> dict[str, Any]:
        """Return it for the report."""
        return {
            "loss_before": round(self.before, 6),
            "loss_after": round(self.after, 6),
            "best_epoch": self.epoch,
            "learned_from": self.learned_from,
            "held_out": self.held_out,
        }


def learn(
    parameters: Sequence[Any],
    loss_of: LossOf,
    samples: int,
    lesson: Lesson,
    *,
    seed: int,
    progress: Progress,
) -> Learned:
    """Train, and leave the parameters as they were when they did best.

    A seventh of the samples is held out: none is learned from, and they say which epoch was best. If none was
    better than the start, the start stays.

    Args:
        parameters: What is trained.
        loss_of: The loss of some samples.
        samples: How many there are.
        lesson: How it is trained.
        seed: Of the order in which the samples come.
        progress: Told after every epoch.

    Raises:
        ModelError: There are too few samples, or the loss became infinite (M692).
    """
    held = max(round(_HELD_OUT * samples), _LEAST_HELD_OUT)
    if samples < 2 * _LEAST_HELD_OUT:
        raise ModelError(f"{samples} samples are too few to learn from", code="M692")
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(samples, generator=draw)
    exam, lessons = order[:held], order[held:]
    best = before = _mean(loss_of, exam)
    best_epoch, kept = 0, _copy(parameters)
    adam = torch.optim.Adam(parameters, lr=lesson.rate)
    total = lesson.epochs * math.ceil(len(lessons) / lesson.batch)
    falling = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: _half_cosine(step / max(total, 1)))
    for epoch in range(1, lesson.epochs + 1):
        for chosen in _batches(lessons[torch.randperm(len(lessons), generator=draw)], lesson.batch):
            adam.zero_grad()
            loss_of(chosen).backward()
            torch.nn.utils.clip_grad_norm_(parameters, _MOST_NORM)
            adam.step()
            falling.step()
        now = _mean(loss_of, exam)
        if now < best:
            best, best_epoch, kept = now, epoch, _copy(parameters)
        progress(epoch / lesson.epochs, f"epoch {epoch} of {lesson.epochs}, loss {now:.4g}")
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    return Learned(before, best, best_epoch, len(lessons), held)


def _half_cosine(done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


def _batches(order: Tensor, size: int) -> Iterator[Tensor]:
    yield from order.split(size)


def _mean(loss_of: LossOf, chosen: Tensor) -> float:
    with torch.no_grad():
        parts = [(float(loss_of(part)), len(part)) for part in chosen.split(_AT_A_TIME)]
    mean = sum(loss * count for loss, count in parts) / len(chosen)
    if not math.isfinite(mean):
        raise ModelError("training led to no finite loss: a smaller rate may help", code="M692")
    return mean


def _copy(parameters: Sequence[Any]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]

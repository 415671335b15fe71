"""What training makes small: the distance from what is true, and from what the original answers.

Source:
    Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, arXiv:1503.02531, 2015 (softened
    certainties, τ² times their Kullback-Leibler distance); Romero et al., FitNets: hints for thin deep nets,
    arXiv:1412.6550, 2015 (the student's features, mapped by a layer that is thrown away afterwards).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.train.wiring import Head
from edge_opcua.errors import ModelError

Tensor = Any
_LEAST_SPREAD: Final = 1e-12


class Truth:
    """The distance of answers from what is true.

    Args:
        head: Where the model decides.
        task: Name of the task, see :class:`~edge_opcua.compress.task.Task`.
        data: The samples.
        answers: What the model answers to some of them before training, shape ``(n, …)``.

    Raises:
        ModelError: The model cannot be trained with what is known of the samples (M692).
    """

    def __init__(self, head: Head, task: str, data: Dataset, answers: Tensor) -> None:
        self._as_input = task == "reconstruction"
        self._kind = "values"
        width = answers[0].numel()
        if self._as_input:
            if answers.shape[1:] != data.rows.shape[1:]:
                raise ModelError("what is reconstructed has not the shape of the input", code="M692")
            self._aim = torch.from_numpy(np.ascontiguousarray(data.rows)).flatten(1)
        elif data.truth is None:
            raise ModelError("there are no labels or targets to train with", code="M692")
        elif data.kind == "targets":
            self._aim = torch.from_numpy(np.asarray(data.truth, np.float32)).flatten(1)
            if self._aim.shape[1] != width:
                raise ModelError(f"{self._aim.shape[1]} targets, but {width} answers", code="M692")
        else:
            self._aim = _labels(data, head, task, width)
            self._kind = "classes" if width > 1 else "yes"
            if head.kind != "yes" and width == 1 and bool(((answers >= 0.0) & (answers <= 1.0)).all()):
                self._kind = "values"  # a probability that no sigmoid makes: its squared error
                self._aim = self._aim.float()[:, None]
        self._units = _units(self._aim, alone=not self._as_input) if self._kind == "values" else None

    def __call__(self, logits: Tensor, chosen: Tensor) -> Tensor:
        """Return the mean loss of some samples.

        Args:
            logits: What the model answers to them, before a softmax or sigmoid, shape ``(k, …)``.
            chosen: Their numbers, shape ``(k,)``.
        """
        aim, given = self._aim[chosen], logits.flatten(1)
        if self._kind == "classes":
            return functional.cross_entropy(given, aim)
        if self._kind == "yes":
            return functional.binary_cross_entropy_with_logits(given[:, 0], aim.float())
        return ((given - aim).square() / self._units).mean()


class Teacher:
    """The distance of answers from those of the original.

    Args:
        head: Where the original decides.
        logits: What it answers to all samples, before a softmax or sigmoid, shape ``(n, …)``.
        temperature: How soft its certainties are made, τ.
        task: Name of the task: of ``labels`` the largest answer is a decision though no softmax follows.
    """

    def __init__(self, head: Head, logits: Tensor, temperature: float, task: str) -> None:
        self._logits = logits.float().flatten(1)
        wide = self._logits.shape[1] > 1
        self._kind = "classes" if wide and (head.kind == "classes" or task == "labels") else head.kind
        if self._kind == "classes" and not wide:
            self._kind = "values"  # the softmax of one number is 1
        self._tau = temperature
        self._units = _units(self._logits, alone=task != "reconstruction")

    def __call__(self, logits: Tensor, chosen: Tensor) -> Tensor:
        """Return the mean loss of some samples; see :meth:`Truth.__call__`."""
        theirs, given, tau = self._logits[chosen], logits.flatten(1), self._tau
        if self._kind == "classes":
            soft, aim = functional.log_softmax(given / tau, 1), functional.log_softmax(theirs / tau, 1)
            return tau**2 * functional.kl_div(soft, aim, log_target=True, reduction="batchmean")
        if self._kind == "yes":
            aim = torch.sigmoid(theirs / tau)
            cross = functional.binary_cross_entropy_with_logits(given / tau, aim)
            return tau**2 * (cross - functional.binary_cross_entropy(aim, aim).detach())
        return ((given - theirs).square() / self._units).mean()


class Hint(torch.nn.Module):
    """The distance of features from those of the original, through a layer that maps the ones to the others.

    Args:
        theirs: Features of the original, shape ``(n, …)``.
        ours: The same of the student before training, shape ``(n, …)``: equal but for the channels.
        axis: Of the channels.
        some: Numbers of the samples that the first mapping is fitted to.
    """

    def __init__(self, theirs: Tensor, ours: Tensor, axis: int, some: Tensor) -> None:
        super().__init__()
        self._axis = axis
        self._theirs = theirs
        right, left = self._flat(theirs[some]), self._flat(ours)
        self._spread = max(float(right.var(dim=0).mean()), _LEAST_SPREAD)
        ones = torch.ones(len(left), 1)
        solved = torch.linalg.lstsq(torch.cat([left, ones], 1), right, driver="gelsd").solution
        self.weight = torch.nn.Parameter(solved[:-1].contiguous())
        self.bias = torch.nn.Parameter(solved[-1].contiguous())

    def forward(self, ours: Tensor, chosen: Tensor) -> Tensor:
        """Return the mean loss of some samples.

        Args:
            ours: Their features in the student, shape ``(k, …)``.
            chosen: Their numbers, shape ``(k,)``.
        """
        mapped = self._flat(ours) @ self.weight + self.bias
        return functional.mse_loss(mapped, self._flat(self._theirs[chosen])) / self._spread

    def _flat(self, features: Tensor) -> Tensor:
        """Return them with one row per sample and place, one column per channel."""
        return features.movedim(self._axis, -1).flatten(0, -2).float()


def _units(values: Tensor, *, alone: bool) -> Tensor:
    """Return what squared errors are divided by, shape ``(1, k)``: as the gate does.

    Args:
        values: What shall be answered, shape ``(n, k)``.
        alone: Whether each has a unit of its own; else an error counts alike wherever it is.
    """
    variance = values.float().var(dim=0, correction=0, keepdim=True)
    common = variance.mean().clamp(min=_LEAST_SPREAD)
    if not alone:
        return common.expand_as(variance)
    return torch.where(variance > _LEAST_SPREAD, variance, common)


def _labels(data: Dataset, head: Head, task: str, width: int) -> Tensor:
    labels = torch.from_numpy(np.asarray(data.truth, np.int64))
    decides = head.kind != "values" or task == "labels"
    most = 2 if width == 1 else width
    if not decides:
        raise ModelError(f'no label says which number "{head.output}" should be', code="M692")
    if int(labels.min()) < 0 or int(labels.max()) >= most:
        raise ModelError(f"labels from {labels.min()} to {labels.max()}, but {most} classes", code="M692")
    return labels

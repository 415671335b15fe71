"""A result as the watch sees it: read from the bus, so that a lane does nothing for being watched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.batch import BlockLayout, TagBatch
from edge_opcua.core.values import BAD_INTERNAL_ERROR, BAD_NOT_SUPPORTED, BAD_TIMEOUT, Scalar, Verdict, is_bad
from edge_opcua.inference.surroundings import NOT_THE_MODEL

_NOT_A_NUMBER: Final = "M533"
_CANCELLED: Final = ("M535", "M541")
_CODE: Final = re.compile(r"M\d{3}(?=: )")
_NUMBERS: Final = ("score", "confidence", "queue_ms", "infer_ms", "captured_ns", "verdict", "model_version")


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One result.

    Args:
        captured_ns: When its sample was captured, ns UTC.
        model: ``<name>/<version>`` of the model it names.
        verdict: The verdict.
        score: What the model answered; NaN without an answer.
        confidence: How sure it was; NaN if it does not say.
        features: What it was given, shape ``(k,)``; None if that was not usable, or has no room in a result.
        latency_us: From the capture on the bus to the verdict, µs.
        infer_us: Features, run and judgement, µs.
        refused: Whether it was not run, because it would have been late.
        failed: Whether the run failed, which is the doing of the model.
        prevented: Whether there was no run for want of a model server or of a device.
        not_a_number: Whether it failed because the model answered with no number.
        unusable: Why there were no usable inputs; empty if there were.
        reason: Why, for people.
    """

    captured_ns: int
    model: str
    verdict: Verdict
    score: float
    confidence: float
    features: npt.NDArray[np.float64] | None
    latency_us: float
    infer_us: float
    refused: bool
    failed: bool
    prevented: bool
    not_a_number: bool
    unusable: str
    reason: str

    @property
    def is_answered(self) -> bool:
        """Whether a model answered."""
        return self.score == self.score


class ResultRows:
    """Reads results out of batches of a result block.

    Args:
        layout: Layout of that block.
        size: Features of the model.
    """

    def __init__(self, layout: BlockLayout, size: int) -> None:
        rows = layout.rows
        self._stroke = rows["stroke"]
        self._features = rows["features"]
        self._reason = rows["reason"]
        self._name = rows["model_name"]
        self._size = size
        self._places: dict[str, tuple[int, Scalar, int]] = {
            name: (rows[name], *layout.place(rows[name])) for name in _NUMBERS
        }

    def read(self, batch: TagBatch) -> Seen | None:
        """Return a result; None if it is about the loss of its source."""
        if is_bad(int(batch.status[self._stroke])):
            return None
        reason = batch.text(self._reason)
        features, status = self._features_of(batch), int(batch.status[self._places["score"][0]])
        code = _CODE.match(reason)
        prevented = code is not None and status == BAD_INTERNAL_ERROR and code[0] in NOT_THE_MODEL
        failed = (
            code is not None
            and not prevented
            and (status == BAD_INTERNAL_ERROR or (status == BAD_TIMEOUT and code[0] in _CANCELLED))
        )
        infer_ms = self._number(batch, "infer_ms")
        features_status = int(batch.status[self._features])
        known = not is_bad(features_status) or features_status == BAD_NOT_SUPPORTED  # no room for them
        waits = status == BAD_TIMEOUT or failed or prevented
        return Seen(
            captured_ns=int(self._number(batch, "captured_ns")),
            model=f"{batch.text(self._name)}/{int(self._number(batch, 'model_version'))}",
            verdict=Verdict(int(self._number(batch, "verdict"))),
            score=self._known(batch, "score"),
            confidence=self._known(batch, "confidence"),
            features=features,
            latency_us=(self._number(batch, "queue_ms") + infer_ms) * 1e3,
            infer_us=infer_ms * 1e3,
            refused=status == BAD_TIMEOUT and not failed,
            failed=failed,
            prevented=prevented,
            not_a_number=failed and code is not None and code[0] == _NOT_A_NUMBER,
            unusable=reason if is_bad(status) and not known and not waits else "",
            reason=reason,
        )

    def _features_of(self, batch: TagBatch) -> npt.NDArray[np.float64] | None:
        if is_bad(int(batch.status[self._features])):
            return None
        values = batch.array(self._features)
        return values.astype(np.float64) if values.size == self._size else None

    def _number(self, batch: TagBatch, name: str) -> float:
        _, scalar, place = self._places[name]
        return batch.column(scalar)[place].item()  # type: ignore[no-any-return]

    def _known(self, batch: TagBatch, name: str) -> float:
        return float("nan") if is_bad(int(batch.status[self._places[name][0]])) else self._number(batch, name)

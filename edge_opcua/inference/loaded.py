"""A loaded model as the engine runs it: rows in, one run, rows of finite answers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from edge_opcua.core.ports import Backend, Binding
from edge_opcua.errors import ModelError
from edge_opcua.inference.schedule.request import Fate, Request

_log = structlog.get_logger(__name__)

Floats = npt.NDArray[np.float32]

CANCELLED: Final = "M535"
"""Code of a run that was cancelled."""
NOT_A_NUMBER: Final = "the model answered with something that is not a number"
_Check = tuple[Floats, npt.NDArray[np.bool_], bytearray]
"""Values, where to mark which of them are finite, and the same memory to look for one that is not."""


class ModelBinding:
    """Buffers of one model for so many samples, seen as rows; belongs to one thread.

    Args:
        key: Key of the model.
        binding: What runs it.
        input_name: Name of its one input.
        size: Values of one sample.

    Raises:
        ModelError: The buffers are not rows of one sample each (M505).

    Attributes:
        batch: Samples of one run.
        rows: Input, shape ``(batch, size)``.
        row: The first row of it; write into it, then :meth:`judge`.
        answers: Outputs by name, shape ``(batch, …)`` each; valid until the next run.
        answer: The first row of each of them.
    """

    def __init__(self, key: str, binding: Binding, input_name: str, size: int) -> None:
        self.key = key
        self.binding = binding
        self.batch = binding.batch
        self.rows = _as_rows(input_name, binding.inputs[input_name], self.batch)
        if self.rows.shape[1] != size:
            raise ModelError(
                f'input "{input_name}" holds {self.rows.shape[1]} values, not {size}', code="M505"
            )
        self.row: Floats = self.rows[0]
        self.answers: Mapping[str, Floats] = MappingProxyType(
            {name: _as_rows(name, array, self.batch) for name, array in binding.outputs.items()}
        )
        self.answer: dict[str, Floats] = {name: rows[0] for name, rows in self.answers.items()}
        self._run = binding.run
        self._checks = _checks(self.answers)

    def judge(self, row: Floats) -> None:
        """Run one sample; the answers are in ``answer``. Allocates nothing.

        Args:
            row: The sample, shape ``(size,)``; ``self.row`` itself is not copied.

        Raises:
            ModelError: The run failed (M532) or was cancelled (M535), or an answer is not finite (M533).
        """
        if row is not self.row:
            self.row[:] = row
        self._run()
        if not self._are_finite():
            raise ModelError(NOT_A_NUMBER, code="M533")

    def run(self, requests: Sequence[Request]) -> None:
        """Run up to ``batch`` requests at once and hand each its answers; what makes no number fails.

        The other samples of the run do not suffer from it: rows do not know each other.

        Args:
            requests: The requests, at least one.

        Raises:
            ModelError: The run failed (M532) or was cancelled (M535); the requests are as they were.
        """
        count = len(requests)
        rows = self.rows
        for place, request in enumerate(requests):
            rows[place] = request.row
        rows[count:] = rows[count - 1]  # what fills up the run is something the model knows
        self._run()
        good = self._are_finite()
        taken = {name: answers[:count].copy() for name, answers in self.answers.items()}
        for place, request in enumerate(requests):
            request.answers = {name: answers[place] for name, answers in taken.items()}
            if not good and not all(np.isfinite(answer).all() for answer in request.answers.values()):
                request.fate, request.code, request.reason = Fate.FAILED, "M533", NOT_A_NUMBER
                request.answers = {}

    def cancel(self) -> None:
        """Let the run in progress end as soon as the runtime can, called from another thread."""
        try:
            self.binding.cancel()
        except Exception as exc:  # noqa: BLE001 - a backend may be anybody's; who cancels goes on
            _log.warning("run.not_cancelled", model=self.key, error=repr(exc))

    def _are_finite(self) -> bool:
        """Return whether all answers are numbers; takes a quarter of what ``np.isfinite(…).all()`` does."""
        for values, marks, found in self._checks:
            np.isfinite(values, marks)
            if 0 in found:
                return False
        return True


class LoadedModel:
    """One loaded model and its bindings, one for each worker and number of samples.

    Args:
        key: ``<name>/<version>``.
        backend: What runs it.
        input_name: Name of its one input.
        size: Values of one sample.
    """

    def __init__(self, key: str, backend: Backend, input_name: str, size: int) -> None:
        self.key = key
        self.backend = backend
        self.input_name = input_name
        self.size = size
        self.is_remote = str(backend.describe()["provider"]).startswith("remote")
        self._bindings: dict[tuple[int, int], ModelBinding] = {}

    @property
    def most(self) -> int:
        """Largest number of samples of one run."""
        return self.backend.most

    def bind(self, batch: int = 1, *, worker: int = 0) -> ModelBinding:
        """Return the buffers of a worker for so many samples; made once.

        Raises:
            ModelError: The model does not take so many (M536), or its buffers are not rows (M505).
        """
        found = self._bindings.get((worker, batch))
        if found is None:
            found = ModelBinding(self.key, self.backend.bind(batch), self.input_name, self.size)
            self._bindings[worker, batch] = found
        return found

    def cancel(self) -> None:
        """Let every run in progress end as soon as the runtime can, called from another thread."""
        for binding in tuple(self._bindings.values()):
            binding.cancel()

    def prepare(self, sizes: Iterable[int], *, workers: int) -> None:
        """Make the buffers of all workers for these numbers of samples, and let go of all others."""
        wanted = {(worker, size) for worker in range(workers) for size in sizes}
        for worker, size in sorted(wanted):
            self.bind(size, worker=worker)
        for made in self._bindings.keys() - wanted:
            del self._bindings[made]

    def bind_for(self, count: int, *, worker: int = 0) -> ModelBinding:
        """Return the smallest buffers of a worker that hold so many samples and were made before.

        Buffers of a new size can cost a runtime more than a run: they are made beforehand, not in a run.
        """
        exact = self._bindings.get((worker, count))
        if exact is not None:
            return exact
        fitting = [size for holder, size in self._bindings if holder == worker and size > count]
        return self.bind(min(fitting, default=count), worker=worker)


def _as_rows(name: str, array: Floats, batch: int) -> Floats:
    """Return the same memory as one row for each sample."""
    if array.size % batch or not array.size or not array.flags.c_contiguous:
        raise ModelError(f'"{name}" of shape {array.shape} is not one row for each of {batch}', code="M505")
    return array.reshape(batch, -1)


def _checks(answers: Mapping[str, Floats]) -> tuple[_Check, ...]:
    """Return what is looked at after each run: one piece of memory if all outputs lie in one, else each."""
    owners = {id(array.base): array.base for array in answers.values()}
    whole = next(iter(owners.values())) if len(owners) == 1 else None
    pieces = list(answers.values())
    if isinstance(whole, np.ndarray) and whole.dtype == np.float32 and whole.flags.c_contiguous:
        pieces = [whole]
    checks = []
    for piece in pieces:
        found = bytearray(piece.size)
        checks.append((piece.reshape(-1), np.frombuffer(found, np.bool_), found))
    return tuple(checks)

"""Opens any model with one input on exactly the provider that was asked for, and runs it on bound buffers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.dataset import Rows
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.ortoptions import PROVIDERS, OnnxRuntimeOptions
from edge_opcua.inference.backends.ortsession import Wish, load_onnxruntime, open_session
from edge_opcua.inference.probe import CPU, sentence, try_provider

Arrays = dict[str, npt.NDArray[Any]]

_LINE: Final = 64
_FLOATS: Final = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
}


class Session:
    """A loaded model.

    Args:
        path: Its ONNX file.
        provider: What shall run it, as the configuration calls it.
        input_name: Its one input.
        shape: Shape of one sample, without the batch axis.
        threads: Threads of one run.

    Raises:
        ModelError: It cannot be loaded there (M510, M520, M521, M522), or does not take such samples (M504).
    """

    def __init__(
        self, path: Path, *, provider: str, input_name: str, shape: Sequence[int], threads: int = 1
    ) -> None:
        ort = load_onnxruntime()
        self.provider = PROVIDERS.get(provider.lower(), provider)
        self._ort = ort
        self._session = open_session(Wish(ort, path, self.provider, {}, OnnxRuntimeOptions(threads=threads)))
        self._node = _the_input(self._session, path, input_name, shape)
        self._kind = _FLOATS[self._node.type]
        self._shape = tuple(shape)
        first = self._node.shape[0]
        self.batch: int = first if isinstance(first, int) else 1
        self.takes_any = not isinstance(first, int)

    def run(self, rows: Rows, outputs: Sequence[str]) -> Arrays:
        """Return what the model answers to some samples in one run, by output.

        Raises:
            ModelError: The run failed (M532), it lacks an output (M505), or one is no array (M686).
        """
        there = [node.name for node in self._session.get_outputs()]
        missing = [name for name in outputs if name not in there]
        if missing:
            raise ModelError(
                f'the model has no output "{missing[0]}"; it has {", ".join(there)}', code="M505"
            )
        try:
            found = self._session.run(list(outputs), {self._node.name: rows.astype(self._kind, copy=False)})
        except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
            raise ModelError(f"the model failed: {sentence(exc)}", code="M532") from exc
        for name, array in zip(outputs, found, strict=True):
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
                raise ModelError(f'output "{name}" is no array of numbers', code="M686")
        return dict(zip(outputs, found, strict=True))

    def bound(self) -> Bound:
        """Return it bound to buffers for one run; ModelError as :meth:`run`."""
        names = [node.name for node in self._session.get_outputs()]
        sample = _aligned(np.zeros((self.batch, *self._shape), self._kind))
        outputs = {name: _aligned(array) for name, array in self.run(sample, names).items()}
        return Bound(self._ort, self._session, {self._node.name: sample}, outputs, self.provider != CPU)


class Bound:
    """A model on bound buffers, as a lane has it: on the processor a run allocates and copies nothing.

    Args:
        ort: The module ``onnxruntime``.
        session: The session.
        inputs: Buffer of its one input.
        outputs: Arrays as it answers them, used as buffers.
        copies: Whether the provider reads an input when it is bound, not when it runs.
    """

    def __init__(self, ort: Any, session: Any, inputs: Arrays, outputs: Arrays, copies: bool) -> None:  # noqa: FBT001
        self._session = session
        self._binding = session.io_binding()
        ((self._name, self._buffer),) = inputs.items()
        self._value = ort.OrtValue.ortvalue_from_numpy(self._buffer)
        self._binding.bind_ortvalue_input(self._name, self._value)
        self._outputs = outputs  # they stay as long as the runs write into them
        for name, array in outputs.items():
            self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
        self._copies = copies

    def feed(self, sample: npt.NDArray[np.float32]) -> None:
        """Write one sample into the buffer; every place of it where the batch axis is fixed."""
        self._buffer[:] = sample

    def run(self) -> None:
        """Run the model once; an exception of ONNX Runtime if that fails."""
        if self._copies:
            self._binding.bind_ortvalue_input(self._name, self._value)
            self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)


def settle(provider: str) -> None:
    """Let the runtime allocate what it needs whatever the model is, so that it does not count for one."""
    try_provider(load_onnxruntime(), PROVIDERS.get(provider.lower(), provider))


def _aligned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a copy that begins with a cache line, as the buffers of a lane do."""
    piece = np.zeros(array.nbytes + _LINE, np.uint8)
    place = -piece.ctypes.data % _LINE
    found: npt.NDArray[Any] = piece[place : place + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


def _the_input(session: Any, path: Path, name: str, shape: Sequence[int]) -> Any:
    nodes = session.get_inputs()
    if len(nodes) != 1 or nodes[0].name != name:
        there = ", ".join(node.name for node in nodes)
        raise ModelError(f'{path.name} has the inputs {there}; one is fed, "{name}"', code="M504")
    node = nodes[0]
    declared = list(node.shape)
    fits = len(declared) == len(shape) + 1 and all(
        not isinstance(size, int) or size == want for size, want in zip(declared[1:], shape, strict=True)
    )
    if node.type not in _FLOATS or not fits:
        wanted = ", ".join(map(str, shape))
        raise ModelError(
            f'input "{name}" of {path.name} is {node.type} {declared}; the samples are float32 [n, {wanted}]',
            code="M504",
        )
    return node

"""PyTorch, if it is there: only who trains needs it, and it is large."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

from edge_opcua.errors import ModelError

_MANY_WEIGHTS: Final = 500_000
_MANY_VALUES: Final = 50_000


def has_torch() -> bool:
    """Return whether something can be trained here; nothing is imported for it."""
    return find_spec("torch") is not None


def require_torch() -> None:
    """Refuse to train without PyTorch.

    Raises:
        ModelError: It is not installed, or cannot be loaded (M690).
    """
    try:
        import torch  # noqa: F401 - whether it can be
    except ImportError as exc:
        raise ModelError(
            f'PyTorch cannot be loaded ({exc}): pip install "edge-opcua[cpu,train]"', code="M690"
        ) from exc


def is_small(module: Any, rows: Any) -> bool:
    """Return whether one thread is enough to train something.

    Args:
        module: A ``torch.nn.Module``.
        rows: What it is fed with, shape ``(n, …)``.
    """
    weights: int = sum(parameter.numel() for parameter in module.parameters())
    values: int = rows[0].numel()
    return weights < _MANY_WEIGHTS and values < _MANY_VALUES


@contextmanager
def repeatable(seed: int, *, is_small: bool) -> Iterator[None]:
    """Make everything inside come out the same for the same seed, and leave PyTorch as it was.

    Args:
        seed: Of every number that is drawn.
        is_small: Whether one thread is enough. Several that wait for each other at every layer cost a small
            model eight times its time on a box that does something else too (measured, two cores).
    """
    import torch

    threads = torch.get_num_threads()
    was_strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True)
        if is_small:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was_strict)
            torch.set_num_threads(threads)

"""Keeps a component running: the one place that may catch every exception."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Never

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.errors import EdgeError

FIRST_DELAY_S: Final = 0.25
MAX_DELAY_S: Final = 30.0

_log = structlog.get_logger(__name__)


async def supervise(name: str, run: Callable[[], Awaitable[None]], *, clock: Clock) -> Never:
    """Run a component for ever, starting it again after every failure.

    The pause doubles from :data:`FIRST_DELAY_S` to :data:`MAX_DELAY_S`; a run longer than the latter
    starts over with the former. A component that returns is started again too. Cancellation passes.

    Args:
        name: Name of the component, for the log.
        run: Opens the component's resources, works, closes them; called once per attempt.
        clock: Clock for the pauses.
    """
    delay_s = FIRST_DELAY_S
    while True:
        started_s = clock.monotonic_s()
        failure: Exception | None = None
        try:
            await run()
        except Exception as exc:  # noqa: BLE001 - the one place where this is allowed
            failure = exc
        if clock.monotonic_s() - started_s > MAX_DELAY_S:
            delay_s = FIRST_DELAY_S
        if failure is not None:
            log = _log.warning if delay_s == FIRST_DELAY_S else _log.debug  # once per outage
            unforeseen = None if foreseen(failure) else failure
            log("component.failed", component=name, error=describe(failure), exc_info=unforeseen)
        await clock.sleep(delay_s)
        delay_s = min(2 * delay_s, MAX_DELAY_S)


def foreseen(exc: BaseException) -> bool:
    """Return whether an exception, or each one in a group, is one we raise on purpose."""
    if isinstance(exc, BaseExceptionGroup):
        return all(foreseen(part) for part in exc.exceptions)
    return isinstance(exc, EdgeError)


def describe(exc: BaseException) -> str:
    """Return an exception in one line; a group as its parts."""
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(describe(part) for part in exc.exceptions)
    text = str(exc)
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__

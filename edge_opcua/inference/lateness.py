"""What a verdict becomes that is late: the fail-safe verdict, the last one, or itself, never Good."""

from __future__ import annotations

from dataclasses import dataclass

from edge_opcua.config.lanes import LatePolicy
from edge_opcua.core.values import UNCERTAIN_LAST_USABLE, Verdict, is_bad
from edge_opcua.inference.result import Result


@dataclass(frozen=True, slots=True)
class _Last:
    """The last verdict that was there in time."""

    verdict: Verdict
    captured_ns: int
    stroke: int | None
    reason: str


class Lateness:
    """Applies the policy of one pipeline.

    Args:
        policy: What a late verdict becomes.
        fail_safe: The fail-safe verdict.
    """

    def __init__(self, policy: LatePolicy, fail_safe: Verdict) -> None:
        self._policy = policy
        self._fail_safe = fail_safe
        self._last: _Last | None = None

    def apply(self, result: Result, status: int, reason: str, *, judged: bool) -> None:
        """Make a result out of one that is not in time.

        Args:
            result: What there is.
            status: Status of what the model would have answered.
            reason: Why it is not in time.
            judged: Whether the result is complete, only too late.
        """
        if judged and self._policy == "publish_late":
            result.last_usable = True
            if not is_bad(result.status):
                result.status = UNCERTAIN_LAST_USABLE
            result.reason = "; ".join(filter(None, (reason, result.reason)))
        elif self._policy == "hold_last" and self._last is not None:
            last = self._last
            result.verdict, result.last_usable = last.verdict, True
            result.verdict_ns = last.captured_ns
            result.status = status
            held = f"held from stroke {last.stroke}"
            result.reason = "; ".join(filter(None, (reason, held, last.reason)))
        else:
            result.fall_safe(self._fail_safe, status, reason)

    def remember(self, result: Result) -> None:
        """Take note of what was published; what was no verdict of its own is not held later."""
        if result.fail_safe:
            self._last = None
        elif not result.last_usable:
            self._last = _Last(result.verdict, result.captured_ns, result.stroke, result.reason)

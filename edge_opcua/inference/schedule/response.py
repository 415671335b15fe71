"""Longest response times of sporadic tasks, by theorems of the literature; pure, in whole nanoseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MOST_INSTANTS: Final = 5_000
"""Instants that are looked at; a worker so close to its limit that it takes more is promised nothing."""


@dataclass(frozen=True, slots=True)
class Sporadic:
    """Jobs that come at least a period apart.

    Args:
        cost: What one takes (ns), at least 1.
        period: Shortest time between two of them (ns).
        deadline: Time from the arrival in which one must end (ns).
    """

    cost: int
    period: int
    deadline: int


def fixed_point(begin: int, step: Callable[[int], int], limit: int) -> int | None:
    """Return the least solution of ``t = step(t)`` from ``begin`` on; None if it is above a limit."""
    value = begin
    while value <= limit:
        following = step(value)
        if following == value:
            return value
        value = following
    return None


def whatever_the_order(
    task: Sporadic, own: Sequence[Sporadic], others: Sequence[Sporadic], cores: int
) -> int | None:
    """Return a bound of the response time on a thread that serves several tasks, whatever it serves first.

    Work-conserving, so a job is done at the latest when everything else that came has been done: the response
    time of the lowest priority (Joseph and Pandya, "Finding response times in a real-time system", Computer
    Journal, 1986). The thread stands still only while other threads of its class hold all cores.

    Args:
        task: The task.
        own: The others on its thread.
        others: Tasks on other threads of its class that can hold all cores; empty if they are too few.
        cores: Processors.

    Returns:
        ns; None if a job may still be there when the next one comes.
    """

    def step(window: int) -> int:
        return (
            task.cost
            + sum(_jobs(window, each) for each in own)
            + sum(_carried(window, e) for e in others) // cores
        )

    return fixed_point(task.cost, step, task.period)


def earliest_deadline(task: Sporadic, others: Sequence[Sporadic], blocking: int) -> int | None:
    """Return the longest response time on one worker, earliest deadline first, runs not interrupted.

    The job that comes at ``a`` in a busy period waits for one with a later deadline that has begun, and for
    all that come in time with an earlier one (George, Rivierre and Spuri, "Preemptive and non-preemptive
    real-time uniprocessor scheduling", INRIA RR-2966, 1996; exact for sporadic tasks and no other blocking).

    Args:
        task: The task.
        others: All others of the worker.
        blocking: Time that anything outside of them may hold the worker up (ns).

    Returns:
        ns; None if there is no bound, or none within :data:`MOST_INSTANTS`.
    """
    everything = (task, *others)
    longest = blocking + max(each.cost for each in everything)
    if sum(each.cost / each.period for each in everything) >= 1:
        return None

    def busy(length: int) -> int:
        return longest + sum(_jobs(length, each) for each in everything)

    period = fixed_point(longest, busy, MOST_INSTANTS * max(each.period for each in everything))
    if period is None or sum(period // each.period + 1 for each in everything) > MOST_INSTANTS:
        return None
    return max(_from(instant, task, others, blocking) for instant in set(_instants(task, everything, period)))


def several_workers(task: Sporadic, others: Sequence[Sporadic], workers: int, blocking: int) -> int | None:
    """Return a bound of the response time on several workers that run whatever waits, not interrupted.

    A job waits only while others keep all workers busy, so no longer than their work within that time, shared
    (Bertogna and Cirinei, "Response-time analysis for globally scheduled symmetric multiprocessor platforms",
    RTSS 2007, for any work-conserving order; that nothing is left after its deadline, the scheduler sees to).

    Args:
        task: The task.
        others: All others of the workers.
        workers: How many there are.
        blocking: Time that anything outside of them may hold the workers up (ns).

    Returns:
        ns; None if it is not within the deadline, where the bound loses its ground.
    """
    earlier = (task.deadline - 1) // task.period * task.cost  # of its own jobs

    def step(waits: int) -> int:
        return blocking + (earlier + sum(_carried(waits + 1, each) for each in others)) // workers

    waits = fixed_point(0, step, task.deadline - task.cost)
    return None if waits is None else waits + task.cost


def _jobs(window: int, task: Sporadic) -> int:
    """Return the work of jobs that come within a window, the first at its begin."""
    return -(-window // task.period) * task.cost


def _carried(window: int, task: Sporadic) -> int:
    """Return the most work within a window that may begin with a job that came before."""
    room = window + task.deadline - task.cost
    full = max(0, room // task.period)
    return full * task.cost + min(task.cost, max(0, room - full * task.period))


def _instants(task: Sporadic, everything: Sequence[Sporadic], period: int) -> Iterator[int]:
    """Yield the arrivals that can be the worst: those whose deadline meets another's."""
    yield 0
    for each in everything:
        first = each.deadline - task.deadline
        begin = first if first >= 0 else first % each.period
        yield from range(begin, period, each.period)


def _from(instant: int, task: Sporadic, others: Sequence[Sporadic], blocking: int) -> int:
    """Return the response time of the job that comes at an instant of a busy period."""
    due = instant + task.deadline
    before = [each for each in others if each.deadline <= due]
    begun = blocking + max((each.cost - 1 for each in others if each.deadline > due), default=0)
    own = instant // task.period * task.cost

    def step(length: int) -> int:
        jobs = ((min(length, due - each.deadline) // each.period + 1) * each.cost for each in before)
        return begun + own + sum(jobs)

    length = step(0)
    while (following := step(length)) != length:  # ends: the busy period does
        length = following
    return max(task.cost, length + task.cost - instant)

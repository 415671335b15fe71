"""How often somebody may come, and how often he may ask: token buckets, without a socket in sight."""

from __future__ import annotations

import ipaddress
from enum import Enum

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.limits import ServerLimits

_SITE_BITS = 64


class Bucket:
    """Tokens that come back at a fixed rate, up to a number.

    Args:
        per_s: Tokens per second.
        burst: Most tokens, and how many there are at first.
        clock: Tells how many came back.
    """

    __slots__ = ("_burst", "_clock", "_left", "_per_s", "_seen_s")

    def __init__(self, per_s: float, burst: float, clock: Clock) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._left = burst
        self._seen_s = clock.monotonic_s()

    def take(self, cost: float = 1.0) -> bool:
        """Take tokens if there are as many."""
        if self.left() < cost:
            return False
        self._left -= cost
        return True

    def spend(self, cost: float) -> None:
        """Take tokens that are known to be there, or put them back."""
        self._left -= cost

    def left(self) -> float:
        """Return how many there are now."""
        now_s = self._clock.monotonic_s()
        self._left = min(self._left + (now_s - self._seen_s) * self._per_s, self._burst)
        self._seen_s = now_s
        return self._left

    def is_full(self) -> bool:
        """Whether nobody took any for long enough."""
        return self.left() >= self._burst

    def wait_s(self, tokens: float) -> float:
        """Return after how many seconds there will be as many."""
        return max(0.0, min(tokens, self._burst) - self.left()) / self._per_s


class Pace(Enum):
    """What one request deserves."""

    SERVE = "serve"
    REFUSE = "refuse"
    END = "end"


class RequestRate:
    """One connection's requests: refused beyond the rate, then slowed, then the end.

    Args:
        per_s: Requests per second in the long run.
        burst: Requests that may come at once.
        limits: ``busy_batch`` and ``busy_answers``.
        clock: For the rate.
    """

    def __init__(self, per_s: float, burst: int, limits: ServerLimits, clock: Clock) -> None:
        self._limits = limits
        self._burst = burst
        self._bucket = Bucket(per_s, burst, clock)
        self._refused = 0
        self._hammered = 0

    def serves(self) -> bool:
        """Whether one more request is within the rate; if it is, it counts, and else nothing has happened."""
        left = self._bucket.left()
        if left < 1.0:
            return False
        if left >= self._burst / 2:
            self._refused = self._hammered = 0
        self._bucket.spend(1.0)
        return True

    def give_back(self) -> None:
        """Forget that one was served: it is asked for again in another way."""
        self._bucket.spend(-1.0)

    def ask(self, cost: float = 1.0, *, waiting: int = 0) -> Pace:
        """Decide about a request.

        Args:
            cost: What it counts as.
            waiting: Requests that came behind it already: who waits for his answers never has any.
        """
        if self._bucket.left() >= self._burst / 2:
            self._refused = self._hammered = 0
        if self._bucket.take(cost):
            return Pace.SERVE
        self._refused += 1
        self._hammered += waiting > 0
        return Pace.END if self._hammered > self._limits.busy_answers else Pace.REFUSE

    def pause_s(self) -> float:
        """Return for how long nothing should be read now; 0 mostly."""
        batch = self._limits.busy_batch
        if not self._refused or self._refused % batch:
            return 0.0
        return self._bucket.wait_s(batch)


class Arrivals:
    """New connections, by the address they come from.

    Args:
        limits: ``connects_per_s``, ``connect_burst``, ``addresses``.
        clock: For the rates.
    """

    def __init__(self, limits: ServerLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._others = self._bucket()

    def admit(self, site: str) -> bool:
        """Whether one more connection may come from there (see :func:`site_of`)."""
        found = self._buckets.get(site)
        if found is None:
            found = self._enter(site)
        return found.take()

    def _enter(self, site: str) -> Bucket:
        if len(self._buckets) >= self._limits.addresses:
            self._buckets = {known: bucket for known, bucket in self._buckets.items() if not bucket.is_full()}
        if len(self._buckets) >= self._limits.addresses:
            return self._others
        return self._buckets.setdefault(site, self._bucket())

    def _bucket(self) -> Bucket:
        return Bucket(self._limits.connects_per_s, self._limits.connect_burst, self._clock)


def site_of(host: str) -> str:
    """Return what counts as one address: of IPv6 the network of 64 bits, of which one host has all."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _SITE_BITS), strict=False))

"""What is measured, once for every server: each function drives one server and returns what it saw."""

from __future__ import annotations

import random
import statistics
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from asyncua import ua
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from edge_opcua.bench.opcua.answers import Event, head, read, text_of
from edge_opcua.bench.opcua.channel import LoadError
from edge_opcua.bench.opcua.check import Counts, SequenceCheck
from edge_opcua.bench.opcua.client import MESSAGE_FIELD, READ, LoadClient, pump
from edge_opcua.bench.opcua.ladder import Step
from edge_opcua.bench.opcua.target import OURS, Target, folder_of
from edge_opcua.bench.opcua.values import kind_of
from edge_opcua.bench.opcua.wire import Columns, Decoder

INTERVAL_MS: Final = 50.0
QUEUE: Final = 400
AHEAD: Final = 4
DEADBAND: Final = 0.5
_SETTLE_S: Final = 15.0
_QUIET_S: Final = 0.3
_LATE_S: Final = 1.2  # longer than a cycle at 1 Hz
_DRAIN_S: Final = 4.0
_EPOCH_TICKS: Final = 116_444_736_000_000_000


@dataclass(frozen=True, slots=True)
class Demand:
    """What clients subscribe to, and how often it changes.

    Args:
        items: Items of each client.
        hz: Changes of every item per second.
        clients: How many clients.
        parts: Measured seconds; the median of them counts.
        queue: Queue of each item.
        deadband: Whether numbers have an absolute deadband.
        secured: SignAndEncrypt instead of None.
        warm_s: How long before the first part; off the beat of 1, 10 and 100 Hz, so that a part holds whole
            cycles.
    """

    items: int
    hz: float
    clients: int = 1
    parts: int = 3
    warm_s: float = 1.07
    queue: int = QUEUE
    deadband: bool = True
    secured: bool = False

    @property
    def rate(self) -> float:
        """Values per second, all clients together."""
        return self.items * self.hz * self.clients


@dataclass(frozen=True, slots=True)
class Delivery:
    """What arrived.

    Args:
        demand: What was asked for.
        offered: Values that changed, for all clients together.
        offered_rate: The same per second. A peer makes its values itself: there it is what was asked for, and
            making fewer is falling behind.
        rate: Values delivered per second, median of the parts.
        per_cpu_s: Values delivered per second of the server's processor time, median of the parts.
        busy: Share of a core that the server used, median.
        lost: Values that never arrived.
        counts: What the sequence check says, all clients together.
        age_ms: Median and 99th percentile of the age of the values (source time to receipt).
        client_busy: Share of a core that the client used.
    """

    demand: Demand
    offered: int
    offered_rate: float
    rate: float
    per_cpu_s: float
    busy: float
    lost: int
    counts: Counts
    age_ms: tuple[float, float]
    client_busy: float

    @property
    def step(self) -> Step:
        """As a rung of the ladder."""
        wrong = self.counts.missing + self.counts.doubled + self.counts.strangers
        return Step(self.offered_rate, self.rate, max(abs(self.lost), wrong), self.per_cpu_s)


class Subscribers:
    """Clients with a subscription of the same items each."""

    def __init__(self, target: Target, demand: Demand, stack: ExitStack) -> None:
        decoder = Decoder()
        kinds = [kind_of(item) for item in range(demand.items)]
        self.ages: list[float] = []
        self.clients: list[LoadClient] = []
        self.checks: list[SequenceCheck] = []
        nodes = target.nodes(demand.items)
        for _ in range(demand.clients):
            client = target.connect(secured=demand.secured, decoder=decoder)
            stack.callback(client.close)
            check = SequenceCheck(kinds)
            client.on_values = self._taking(check)
            subscription = client.subscribe(INTERVAL_MS).SubscriptionId
            deadband = DEADBAND if demand.deadband else None
            made = client.monitor(subscription, nodes, queue=demand.queue, deadband=deadband, kinds=kinds)
            shortest = min(int(one.RevisedQueueSize) for one in made)
            if shortest < demand.queue:  # a queue of one would not even have an Overflow bit
                raise LoadError(f"queues of {shortest} instead of {demand.queue} were given")
            client.publish()
            self.clients.append(client)
            self.checks.append(check)

    @property
    def values(self) -> int:
        """Values received so far."""
        return sum(check.counts.values for check in self.checks)

    def settle(self, items: int) -> None:
        """Wait for everybody's initial values, then count from zero."""
        wanted = items * len(self.clients)
        pump(self.clients, time.monotonic() + _SETTLE_S, lambda: self.values >= wanted)
        pump(self.clients, time.monotonic() + _QUIET_S)
        if self.values < wanted:
            raise LoadError(f"{self.values} of {wanted} initial values came")
        for check in self.checks:
            check.reset()
        self.ages.clear()

    def _taking(self, check: SequenceCheck) -> Callable[[Columns], None]:
        def take(columns: Columns) -> None:
            check.take(columns)
            if len(columns.source):
                now = time.time_ns() // 100 + _EPOCH_TICKS
                self.ages.append((now - int(columns.source[0])) / 1e4)

        return take


def deliver(target: Target, demand: Demand) -> Delivery:
    """Subscribe, let the variables change, and count what arrives."""
    # All variables to the same sequence number: a Boolean that misses two changes has not changed.
    target.begin(demand.items, 1.0, 0.001)
    finished(target, ())
    with ExitStack() as stack:
        who = Subscribers(target, demand, stack)
        who.settle(demand.items)
        target.begin(demand.items, demand.hz, demand.warm_s + demand.parts + 0.2)
        began_s = time.monotonic()
        pump(who.clients, began_s + demand.warm_s)
        rates, shares, busy = [], [], []
        own_s, own_at_s = time.process_time(), time.monotonic()
        for part in range(1, demand.parts + 1):
            values, cpu_s, at_s = who.values, target.server.cpu_s(), time.monotonic()
            pump(who.clients, began_s + demand.warm_s + part)
            used_s, took_s = target.server.cpu_s() - cpu_s, time.monotonic() - at_s
            rates.append((who.values - values) / took_s)
            shares.append((who.values - values) / used_s if used_s else 0.0)
            busy.append(used_s / took_s)
        client_busy = (time.process_time() - own_s) / (time.monotonic() - own_at_s)
        ages = np.array(who.ages or [0.0])
        done = finished(target, who.clients)
        offered = int(done["cycles"]) * demand.items * demand.clients
        made = offered / done["seconds"] if target.name == OURS else demand.rate
        _drain(who, offered)
        return Delivery(
            demand,
            offered,
            min(made, demand.rate),
            statistics.median(rates),
            statistics.median(shares),
            statistics.median(busy),
            offered - who.values,
            _summed([check.counts for check in who.checks]),
            (float(np.percentile(ages, 50)), float(np.percentile(ages, 99))),
            client_busy,
        )


def finished(target: Target, clients: Sequence[LoadClient]) -> dict[str, Any]:
    """Receive until the producer is done."""
    until_s = time.monotonic() + 60.0
    while time.monotonic() < until_s:
        pump(clients, time.monotonic() + 0.05)
        done = target.finish()
        if done is not None:
            return done
    raise LoadError("the producer does not come to its end")


def _drain(who: Subscribers, offered: int) -> None:
    """Receive what is still on its way."""
    until_s = time.monotonic() + _DRAIN_S
    quiet_s, seen = time.monotonic() + _LATE_S, who.values
    while who.values < offered and time.monotonic() < min(until_s, quiet_s):
        pump(who.clients, time.monotonic() + 0.02)
        if who.values != seen:
            quiet_s, seen = time.monotonic() + _LATE_S, who.values


def _summed(counts: Sequence[Counts]) -> Counts:
    total = Counts()
    for one in counts:
        for name in Counts.__slots__:
            setattr(total, name, getattr(total, name) + getattr(one, name))
    return total


# --- requests and answers ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests one after the other.

    Args:
        count: How many.
        p50_ms: Median time from sending a request to having its answer.
        p99_ms: 99th percentile of that.
        cpu_ms: Processor time of the server per request.
        size: Values, references or calls in each.
    """

    count: int
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    size: int

    @property
    def per_cpu_s(self) -> float:
        """What is answered per second of the server's processor time."""
        return 1000 * self.size / self.cpu_ms if self.cpu_ms else 0.0


def repeat(
    target: Target,
    client: LoadClient,
    make: Callable[[], bytes],
    check: Callable[[bytes], int],
    seconds: float,
) -> Requests:
    """Send requests for a time, after a fifth of it to warm up.

    First one after the other, for the time each takes; then :data:`AHEAD` at a time, for the server's
    processor time: otherwise much of that is falling asleep and waking up between two requests.

    Args:
        target: The server, for its processor time.
        client: A session.
        make: Makes the bytes of the next request.
        check: Checks an answer and returns its size.
        seconds: How long.
    """
    size = 0
    warm_s = time.monotonic() + seconds / 5
    while time.monotonic() < warm_s:
        size = check(client.channel.exchange(make()))
    took: list[float] = []
    until_s = time.monotonic() + seconds / 2
    while time.monotonic() < until_s or len(took) < 3:
        request = make()
        began_ns = time.perf_counter_ns()
        answer = client.channel.exchange(request)
        took.append((time.perf_counter_ns() - began_ns) / 1e6)
        check(answer)
    p50, p99 = np.percentile(took, (50, 99))
    count, used_ms = _ahead(target, client, make, check, seconds / 2)
    return Requests(len(took) + count, float(p50), float(p99), used_ms, size)


def _ahead(
    target: Target,
    client: LoadClient,
    make: Callable[[], bytes],
    check: Callable[[bytes], int],
    seconds: float,
) -> tuple[int, float]:
    """Keep :data:`AHEAD` requests out for a time; returns how many, and the server's time for each, ms."""
    sent, answers = 0, list[bytes]()
    cpu_s, until_s = target.server.cpu_s(), time.monotonic() + seconds
    done = 0
    while done < sent or time.monotonic() < until_s:
        while sent - done < AHEAD and time.monotonic() < until_s:
            client.channel.send(make(), answers.append)
            sent += 1
        client.channel.wait(time.monotonic() + _SETTLE_S)
        done += len(answers)
        for answer in answers:
            check(answer)
        answers.clear()
    return done, (target.server.cpu_s() - cpu_s) * 1000 / max(1, done)


def reads(target: Target, count: int, *, fresh: bool, seconds: float, secured: bool = False) -> Requests:
    """Read the values of ``count`` variables again and again.

    Args:
        target: The server.
        count: How many in one request.
        fresh: Whether each request names others in another order.
        seconds: How long.
        secured: SignAndEncrypt instead of None.
    """
    nodes = target.nodes(target.load.tags if fresh else count)
    encoded = [
        bytes(struct_to_binary(ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value)))
        for node in nodes
    ]
    start = struct.pack("<dIi", 0.0, int(ua.TimestampsToReturn.Both), count)
    body = start + b"".join(encoded[:count])
    decoder, dice = Decoder(), random.Random(4)  # noqa: S311 - an order, not a secret
    client = target.connect(secured=secured)

    def make() -> bytes:
        chosen = start + b"".join(dice.sample(encoded, count)) if fresh else body
        return client.request(READ, chosen)

    def check(answer: bytes) -> int:
        columns = read(answer, decoder)
        if len(columns.status) != count or columns.status.any():
            raise LoadError(f"a Read of {count} was answered by {len(columns.status)}, not all of them Good")
        return count

    try:
        return repeat(target, client, make, check, seconds)
    finally:
        client.close()


def browses(target: Target, *, expected: int, seconds: float) -> Requests:
    """Browse the folder of the variables, to its end, again and again; a request here is all of it."""
    client = target.connect()
    description = ua.BrowseDescription(
        NodeId=folder_of(target),
        BrowseDirection=ua.BrowseDirection.Forward,
        ReferenceTypeId=ua.NodeId(ua.ObjectIds.HierarchicalReferences),
        IncludeSubtypes=True,
        NodeClassMask=ua.UInt32(0),
        ResultMask=ua.UInt32(63),
    )
    parameters = ua.BrowseParameters(
        View=ua.ViewDescription(), RequestedMaxReferencesPerNode=ua.UInt32(0), NodesToBrowse=[description]
    )
    body = bytes(struct_to_binary(parameters))
    try:
        found = _browse(client, body)[1]
        if found < expected:
            raise LoadError(f"Browse found {found} of {expected} variables")
        return _timed(target, lambda: _browse(client, body)[0], seconds, expected)
    finally:
        client.close()


def _browse(client: LoadClient, body: bytes) -> tuple[float, int]:
    """Browse to the end; returns the time spent waiting, ms, and the number of references."""
    waited_ms, found = 0.0, 0
    request = client.request(ua.ObjectIds.BrowseRequest_Encoding_DefaultBinary, body)
    answer_type: Any = ua.BrowseResponse
    while True:
        began_ns = time.perf_counter_ns()
        answer = client.channel.exchange(request)
        waited_ms += (time.perf_counter_ns() - began_ns) / 1e6
        if head(answer).result:
            raise LoadError(f"Browse was answered by {head(answer).result:#010x}")
        decoded = struct_from_binary(answer_type, ua.utils.Buffer(answer))
        (result,) = getattr(decoded, "Parameters", decoded).Results
        found += len(result.References)
        if not result.ContinuationPoint:
            return waited_ms, found
        following = ua.BrowseNextParameters(
            ReleaseContinuationPoints=False, ContinuationPoints=[result.ContinuationPoint]
        )
        request = client.request(
            ua.ObjectIds.BrowseNextRequest_Encoding_DefaultBinary, bytes(struct_to_binary(following))
        )
        answer_type = ua.BrowseNextResponse


def _timed(target: Target, once: Callable[[], float], seconds: float, size: int) -> Requests:
    took: list[float] = []
    cpu_s, until_s = target.server.cpu_s(), time.monotonic() + seconds
    while time.monotonic() < until_s or len(took) < 5:
        took.append(once())
    used_ms = (target.server.cpu_s() - cpu_s) * 1000 / len(took)
    p50, p99 = np.percentile(took, (50, 99))
    return Requests(len(took), float(p50), float(p99), used_ms, size)


def calls(target: Target, seconds: float) -> Requests:
    """Call a method again and again: the peers echo a number, ours answers Server.GetMonitoredItems."""
    client = target.connect()
    subscription = client.subscribe(1000.0).SubscriptionId
    client.monitor(subscription, target.nodes(1), queue=1)
    if target.name == OURS:
        node, method = ua.NodeId(ua.ObjectIds.Server), ua.NodeId(ua.ObjectIds.Server_GetMonitoredItems)
    else:
        node, method = folder_of(target), ua.NodeId.from_string(str(target.ready["method"]))
    one = ua.CallMethodRequest(
        ObjectId=node, MethodId=method, InputArguments=[ua.Variant(subscription, ua.VariantType.UInt32)]
    )
    body = struct.pack("<i", 1) + bytes(struct_to_binary(one))

    def make() -> bytes:
        return client.request(ua.ObjectIds.CallRequest_Encoding_DefaultBinary, body)

    def check(answer: bytes) -> int:
        first = head(answer)
        (count, status) = struct.unpack_from("<iI", answer, first.end)
        if first.result or count != 1 or status:
            raise LoadError(f"Call was answered by {first.result:#010x}, {status:#010x}")
        return 1

    try:
        return repeat(target, client, make, check, seconds)
    finally:
        client.close()


def connects(target: Target, count: int, *, secured: bool) -> Requests:
    """Connect, open a channel and a session, and activate it, again and again."""
    took: list[float] = []
    target.connect(secured=secured).close()
    cpu_s = target.server.cpu_s()
    for _ in range(count):
        began_ns = time.perf_counter_ns()
        client = target.connect(secured=secured)
        took.append((time.perf_counter_ns() - began_ns) / 1e6)
        client.close()
    used_ms = (target.server.cpu_s() - cpu_s) * 1000 / count
    p50, p99 = np.percentile(took, (50, 99))
    return Requests(count, float(p50), float(p99), used_ms, 1)


# --- events and latency --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventDelivery:
    """Events that arrived.

    Args:
        emitted: How many the server emitted.
        rate: Events per second that arrived.
        per_cpu_s: Events that arrived per second of the server's processor time.
        lost: Events that never arrived, or out of sequence.
    """

    emitted: int
    rate: float
    per_cpu_s: float
    lost: int


def events(target: Target, hz: float, seconds: float) -> EventDelivery:
    """Let the server emit events at a rate, and count what arrives."""
    client = target.connect()
    numbers: list[int] = []

    def take(message: bytes, found: Sequence[Event]) -> None:
        texts = (text_of(message, one.fields[MESSAGE_FIELD]) for one in found)
        numbers.extend(
            int(text) for text in texts if text.isdigit()
        )  # another one says that a queue was full

    client.on_events = take
    try:
        subscription = client.subscribe(INTERVAL_MS).SubscriptionId
        client.monitor_events(subscription, ua.NodeId(ua.ObjectIds.Server), queue=10_000)
        client.publish()
        pump([client], time.monotonic() + _QUIET_S)
        numbers.clear()
        cpu_s, began_s = target.server.cpu_s(), time.monotonic()
        target.server.tell({"do": "events", "hz": hz, "seconds": seconds})
        done: dict[str, Any] | None = None
        while done is None and time.monotonic() < began_s + 60:
            pump([client], time.monotonic() + 0.05)
            done = target.server.heard(0.0)
        if done is None:
            raise LoadError("the server does not come to an end of its events")
        emitted = int(done["cycles"])
        pump([client], time.monotonic() + _DRAIN_S, lambda: len(numbers) >= emitted)
        used_s = target.server.cpu_s() - cpu_s
        inorder = len(numbers) - sum(after <= before for before, after in pairwise(numbers))
        return EventDelivery(
            emitted, len(numbers) / done["seconds"], len(numbers) / used_s, emitted - inorder
        )
    finally:
        client.close()


def latency(target: Target, items: int, interval_ms: float, hz: float, seconds: float) -> tuple[float, float]:
    """Return median and 99th percentile, ms, from a change in the producer to its receipt here.

    Args:
        target: A server of Doubles that hold the time at which they were written.
        items: Items that change at once.
        interval_ms: Publishing interval.
        hz: Changes per second.
        seconds: How long.
    """
    client = target.connect()
    found: list[npt.NDArray[np.float64]] = []

    def take(columns: Columns) -> None:
        now_us = time.monotonic_ns() / 1000
        found.append(now_us - columns.bits.view(np.float64))

    try:
        subscription = client.subscribe(interval_ms).SubscriptionId
        client.monitor(subscription, target.nodes(items), queue=10)
        initial: list[int] = []
        client.on_values = lambda columns: initial.append(len(columns.status))
        client.publish()
        pump([client], time.monotonic() + _SETTLE_S, lambda: sum(initial) >= items)
        client.on_values = take
        target.begin(items, hz, seconds, "times")
        finished(target, [client])
        pump([client], time.monotonic() + _QUIET_S)
    finally:
        client.close()
    if not found:
        raise LoadError("no change arrived")
    p50, p99 = np.percentile(np.concatenate(found) / 1000, (50, 99))
    return float(p50), float(p99)

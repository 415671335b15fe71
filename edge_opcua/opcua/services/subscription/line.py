"""The Publish requests of one session that wait for something to say (Part 4 §5.14.5)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from asyncua import ua

from edge_opcua.opcua.services.service import Reply
from edge_opcua.opcua.services.subscription.messages import PUBLISH_RESPONSE, publish_response
from edge_opcua.opcua.services.subscription.subscription import Subscription

_RESULT_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Waiting:
    """A Publish request.

    Args:
        reply: The way back.
        results: What became of its acknowledgements.
    """

    reply: Reply
    results: Sequence[int]

    def room(self) -> int:
        """Return how many bytes of the answer are left beside the results."""
        return self.reply.most_bytes - _RESULT_BYTES * len(self.results)

    def answer(self, number: int, message: bytes, available: Sequence[int], *, more: bool) -> None:
        """Send a message of a subscription."""
        body = publish_response(number, available, message, self.results, more=more)
        self.reply.send_bytes(PUBLISH_RESPONSE, body)


class Line:
    """What a session has to do with publishing.

    Args:
        limit: Most requests that wait; a request of a session with more subscriptions still finds a place.

    Attributes:
        subscriptions: Its subscriptions.
        waiting: Those of them for which the next request is.
    """

    def __init__(self, limit: int) -> None:
        self.subscriptions: dict[int, Subscription] = {}
        self.waiting: dict[Subscription, None] = {}
        self._limit = limit
        self._requests: deque[Waiting] = deque()
        self._until_s = math.inf  # none of them waits shorter
        self._farewells: deque[tuple[int, bytes]] = deque(maxlen=limit)

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def useful(self) -> bool:
        """Whether a Publish request can ever be answered with a message."""
        return bool(self.subscriptions or self._farewells)

    def enter(self, request: Waiting) -> None:
        """Let a request wait; the oldest is sent home if there are too many."""
        if len(self._requests) >= max(self._limit, len(self.subscriptions) + 1):
            self._requests.popleft().reply.fault(ua.StatusCodes.BadTooManyPublishRequests)
        self._requests.append(request)
        self._until_s = min(self._until_s, request.reply.until_s)

    def take(self) -> Waiting:
        """Take the oldest request; there is one."""
        return self._requests.popleft()

    def purge(self, now_s: float) -> None:
        """Answer requests whose TimeoutHint has passed: nobody waits for them."""
        if self._until_s > now_s:
            return
        kept: deque[Waiting] = deque()
        for request in self._requests:
            if request.reply.until_s > now_s:
                kept.append(request)
            else:
                request.reply.fault(ua.StatusCodes.BadTimeout)
        self._requests = kept
        self._until_s = min((request.reply.until_s for request in kept), default=math.inf)

    def cancel(self, handle: int) -> int:
        """Answer the requests with this RequestHandle (Part 4 §5.7.5); returns how many there were."""
        chosen = [request for request in self._requests if request.reply.handle == handle]
        for request in chosen:
            self._requests.remove(request)
            request.reply.fault(ua.StatusCodes.BadRequestCancelledByClient)
        return len(chosen)

    def send_home(self, code: int) -> None:
        """Answer every request with a fault."""
        while self._requests:
            self._requests.popleft().reply.fault(code)

    def forget(self) -> None:
        """Drop requests whose connection is gone."""
        self._requests.clear()

    def say_farewell(self, number: int, message: bytes) -> None:
        """Tell the session the last word of a subscription, now or with its next request."""
        self._farewells.append((number, message))
        self.tell()

    def tell(self) -> None:
        """Send last words as long as there are requests for them."""
        while self._farewells and self._requests:
            number, message = self._farewells.popleft()
            self.take().answer(number, message, [], more=False)

    def next_waiting(self) -> Subscription:
        """Return whose turn it is: the highest priority, among equals who was served longest ago."""
        return min(self.waiting, key=turn)


def turn(subscription: Subscription) -> tuple[int, int]:
    """Return the order in which subscriptions are served (Part 4 §5.14.1.1)."""
    return (-subscription.priority, subscription.served)

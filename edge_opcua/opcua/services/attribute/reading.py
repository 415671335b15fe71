"""Read from the bytes of its request (Part 4 §5.11.2): known lists by their plan, new ones without objects.

No request is decoded as a whole; what is wrong with one that has no list is said by the general way.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import nodeid_to_binary

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.access import Access
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.attribute.fewplan import FEW, FewPlan, few_values
from edge_opcua.opcua.services.attribute.plans import Layout, Plan, ReadOne
from edge_opcua.opcua.services.attribute.planstore import PlanStore
from edge_opcua.opcua.services.attribute.readlist import SLICE, ReadList, read_list, whole_values
from edge_opcua.opcua.services.attribute.rights import Rights
from edge_opcua.opcua.services.service import Caller, Reply
from edge_opcua.opcua.services.slices import Encoded, Rest
from edge_opcua.opcua.tags.table import TagTable

RESPONSE: Final = bytes(nodeid_to_binary(ua.FourByteNodeId(ua.ObjectIds.ReadResponse_Encoding_DefaultBinary)))
AnyPlan = Plan | FewPlan
# MaxAge; TimestampsToReturn and the length of NodesToRead, which are part of what a plan is found by.
_MAX_AGE: Final = struct.Struct("<d")
_HEAD: Final = struct.Struct("<ii")
_FIRST, _LAST = int(ua.TimestampsToReturn.Source), int(ua.TimestampsToReturn.Neither)
# What one element takes if it is decoded as an object, as the guard of requests has it.
_ELEMENT_BYTES: Final = 500


def nothing() -> None:
    """Refresh nothing: what is here is as new as it gets."""


class Reading:
    """Answers Read requests from their bytes.

    Args:
        tags: The tags.
        access: Who may do what.
        limits: Largest list, longest string, largest answer, and how much is kept.
        clock: For stamps.
        read_one: Reads what is no column of a block.

    Attributes:
        refresh: Called before each Read: what is new then is what is read.
        plans: How lists that come again are answered.
    """

    def __init__(
        self, tags: TagTable, access: Access, limits: ServerLimits, clock: Clock, read_one: ReadOne
    ) -> None:
        self._tags = tags
        self._limits = limits
        self._clock = clock
        self._read_one = read_one
        most = limits.operations.read or limits.array_length
        self._most = min(most, limits.array_length, limits.unfolded_bytes // _ELEMENT_BYTES)
        self._rights = Rights(access, tags)
        self._layout = Layout(tags)
        self.refresh: Callable[[], object] = nothing
        self.plans: PlanStore[AnyPlan] = PlanStore(limits.plan_bytes)

    def raw(self, caller: Caller, whole: bytes, at: int, reply: Reply) -> bool | Rest[Any]:
        """Answer, or return what is left to do, or False: the general way says what is wrong.

        Args:
            caller: Who asks.
            whole: The request.
            at: Where its parameters begin.
            reply: The way back.

        Raises:
            ServiceError: The request as a whole is refused.
        """
        self.refresh()
        body = whole[at + _MAX_AGE.size :]
        plan = self.plans.find(body)
        if plan is not None:
            _check(whole, at)
            last = plan.last(caller, self._rights)
            if last is not None:
                reply.send_bytes(RESPONSE, last)
                return True
            work = self._answer(plan, caller)
        elif self._is_fine(body):
            again = self.plans.comes_again(caller, body)
            if not again and (short := self._short_answer(caller, whole, at, body)):
                reply.send_bytes(RESPONSE, short)
                return True
            work = self._first_answer(caller, whole, at, body, keep=again)
        else:
            return False
        try:
            next(work)
        except StopIteration as done:
            reply.send_bytes(RESPONSE, done.value)
            return True
        return Rest(_response(work))

    def forget(self) -> None:
        """Forget what was worked out: the tags are others now, or lie elsewhere."""
        self.plans.clear()
        self._layout = Layout(self._tags)

    def _is_fine(self, body: bytes) -> bool:
        """Whether there is a list, and none that is too long to be decoded."""
        if len(body) <= _HEAD.size:
            return False
        (_, count) = _HEAD.unpack_from(body)
        return bool(0 < count <= self._most and count < len(body))

    def _short_answer(self, caller: Caller, whole: bytes, at: int, body: bytes) -> bytes | None:
        """Answer a new list of few whole values of tags; None: it is another one, or something is wrong."""
        timestamps, count = _HEAD.unpack_from(body)
        if count > FEW or not _FIRST <= timestamps <= _LAST:
            return None
        numbers = whole_values(body, _HEAD.size, count, self._tags)
        if numbers is None:
            return None
        _check(whole, at)
        rows = [(*self._tags.place(number), number) for number in numbers]
        if not all(block.scalars[row] for block, row, _ in rows):
            return None
        return few_values(rows, caller.roles, self._rights, timestamps, self._clock)[0]

    def _first_answer(
        self, caller: Caller, whole: bytes, at: int, body: bytes, *, keep: bool
    ) -> Generator[None, None, bytes]:
        timestamps, count = _HEAD.unpack_from(body)
        longest = self._limits.string_bytes
        wanted = yield from read_list(body, _HEAD.size, count, self._tags, longest)
        _check(whole, at)
        if not _FIRST <= timestamps <= _LAST:
            raise ServiceError(ua.StatusCodes.BadTimestampsToReturnInvalid)
        if count > SLICE:
            yield
        plan = self._plan(wanted, timestamps)
        if keep:
            self.plans.keep(caller, body, plan)
        if count > SLICE:
            yield
        return (yield from self._answer(plan, caller))

    def _plan(self, wanted: ReadList, timestamps: int) -> AnyPlan:
        if len(wanted) <= FEW:
            return FewPlan(wanted, timestamps, self._tags)
        if len(self._layout.row) != self._tags.size:
            self._layout = Layout(self._tags)
        return Plan(wanted, timestamps, self._layout)

    def _answer(self, plan: AnyPlan, caller: Caller) -> Generator[None, None, bytes]:
        most = self._limits.response_bytes
        return plan.answer(caller, self._rights, self._read_one, self._clock, most)


def _check(whole: bytes, at: int) -> None:
    if not _MAX_AGE.unpack_from(whole, at)[0] >= 0:
        raise ServiceError(ua.StatusCodes.BadMaxAgeInvalid)


def _response(work: Generator[None, None, bytes]) -> Generator[None, None, Encoded]:
    body = yield from work
    return Encoded(ua.ReadResponse(), body)

"""Items on tags that somebody makes to do harm, and people who may see less than before."""

from __future__ import annotations

import math
import random
import struct
from itertools import chain
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import struct_to_binary

from edge_opcua.core.values import BAD_USER_ACCESS_DENIED, Scalar
from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.request import decode
from edge_opcua.opcua.services.subscription.dataitems import DataItem
from edge_opcua.opcua.services.subscription.parameters import CreateParameters
from edge_opcua.opcua.services.subscription.tagitems import TagItem
from edge_opcua.opcua.services.subscription.taglist import Wanted, parts
from edge_opcua.security.roles import Role
from tests.opcua.publishing import FakeReply, FakeSession, deadband, item
from tests.opcua.tagplant import TagPlant, config, values_of
from tests.opcua.tagplant import parts as notifications

ADMIN, OBSERVER = frozenset({Role.SECURITY_ADMIN}), frozenset({Role.OBSERVER})


class Keeps(FakeReply):
    """Keeps what is answered."""

    def send(self, response: Any) -> None:
        self.response = response


def kinds(plant: TagPlant, number: int) -> list[type]:
    return [type(each) for each in plant.found(number).items.values()]


def test_items_of_thousands_of_intervals_are_not_as_many_groups() -> None:
    # Part 4 §5.13.1.2 lets every item have a sampling interval of its own: each would be a group of 10 KB.
    plant = TagPlant(config("a"), config("b"), column_groups=8)
    number = plant.subscribe()
    asked = [item(plant.nodes[0], handle=i, sampling_ms=10.0 * i, queue=3) for i in range(1, 11)]
    body = struct.pack("<Iii", number, 2, len(asked)) + b"".join(map(struct_to_binary, asked))
    reply = Keeps()
    assert plant.service.monitoring.create_bytes(plant.session, body, 0, reply) is True
    assert kinds(plant, number) == [TagItem] * 4 + [DataItem] * 6
    results = ua.ua_binary.struct_from_binary(
        ua.CreateMonitoredItemsResponse, ua.utils.Buffer(reply.response.to_binary())
    ).Results
    found = plant.found(number)
    assert [
        (each.MonitoredItemId, each.RevisedSamplingInterval, each.RevisedQueueSize) for each in results
    ] == [(number, each.sampling_ms, each.queue_size) for number, each in found.items.items()]
    assert {each.RevisedQueueSize for each in results} == {3}
    plant.poll([1.0])
    plant.pass_ms(200)
    told = values_of(plant.parcel(number))
    assert sorted(handle for handle, value, _ in told if value == 1.0) == list(range(1, 11))
    # Another client still has room, and so has this one for what belongs into a group that there is.
    other = FakeSession("other")
    theirs = plant.subscribe(other)
    plant.monitor(theirs, *plant.nodes, session=other)
    plant.monitor(number, *plant.nodes)
    assert kinds(plant, theirs) == [TagItem] * 2
    assert kinds(plant, number)[-2:] == [TagItem] * 2
    for each in (number, theirs):
        owner = plant.found(each).owner
        plant.service.delete(owner, ua.DeleteSubscriptionsParameters([each]))
    assert plant.service.monitoring._columns._groups._shares.taken == 0


def test_an_item_that_finds_no_group_to_move_to_goes_on_by_itself() -> None:
    plant = TagPlant(config("a"), column_groups=2)
    number = plant.subscribe()
    made = plant.monitor(number, plant.nodes[0], queue=5)
    plant.poll([1.0])
    result = plant.modify(number, made.MonitoredItemId, sampling_ms=500.0, queue=4, handle=9)
    assert (result.StatusCode.value, result.RevisedSamplingInterval, result.RevisedQueueSize) == (0, 500.0, 4)
    assert kinds(plant, number) == [DataItem]
    assert not plant.found(number).groups
    plant.poll([2.0])
    plant.pass_ms(500)
    assert [(handle, value) for handle, value, _ in values_of(plant.parcel(number))][-2:] == [
        (9, 1.0),
        (9, 2.0),
    ]


def test_whoever_takes_over_a_subscription_with_less_rights_gets_nothing_of_before() -> None:
    # Part 4 §5.14.7: the same user, whose rights shrank after his connection was gone.
    plant = TagPlant(config("open"), config("secret"))
    plant.session.roles = ADMIN
    number = plant.subscribe(lifetime=1000)
    plant.poll([1.0, 1.0])
    plant.monitor(number, *plant.nodes, queue=5)
    reply = plant.next(number)
    assert sorted(reply.values) == [1.0, 1.0]
    plant.poll([2.0, 2.0])
    plant.service.leave(plant.session, delete=False)
    later = FakeSession("later", roles=OBSERVER)
    params = ua.TransferSubscriptionsParameters([number], False)
    (result,) = plant.service.transfer(later, params).Parameters.Results
    assert result.StatusCode.is_good()
    assert result.AvailableSequenceNumbers == []
    plant.poll([3.0, 3.0])
    seen = values_of(plant.parcel(number))
    assert [each for each in seen if each[0] == 2] == [(2, None, BAD_USER_ACCESS_DENIED)]
    assert seen[-1] == (1, 3.0, 0)


def test_whoever_takes_over_a_subscription_with_the_same_rights_gets_all_of_it() -> None:
    plant = TagPlant(config("open"))
    number = plant.subscribe(lifetime=1000)
    plant.poll([1.0])
    plant.monitor(number, plant.nodes[0], queue=5)
    plant.next(number)
    plant.poll([2.0])
    plant.service.leave(plant.session, delete=False)
    params = ua.TransferSubscriptionsParameters([number], False)
    (result,) = plant.service.transfer(FakeSession("later"), params).Parameters.Results
    assert result.AvailableSequenceNumbers == [1]
    assert values_of(plant.parcel(number)) == [(1, 2.0, 0)]


def test_an_item_may_move_to_and_fro_with_all_it_has_queued() -> None:
    # Each move looks through what all have queued: it is not sorted again for each.
    plant = TagPlant(*(config(f"t{i}") for i in range(20)))
    number = plant.subscribe()
    plant.poll([0.0] * 20)
    made = plant.monitor(number, *plant.nodes, queue=5)
    other = plant.monitor(number, plant.nodes[0], sampling_ms=500.0, handle=99, queue=5)
    for i in range(4):
        plant.poll([float(i)] * 20)
    for turn in range(7):
        for index, each in enumerate(made[: 2 + turn], 1):
            plant.modify(number, each.MonitoredItemId, handle=index, sampling_ms=500.0 * (turn % 2), queue=5)
        plant.modify(number, other.MonitoredItemId, handle=99, sampling_ms=500.0 * (turn % 2), queue=5)
    told: dict[int, list[float]] = {}
    for handle, value, _ in values_of(plant.parcel(number)):
        told.setdefault(handle, []).append(value)
    # The last one takes samples: no time has passed for one, but it was told once it was to be told.
    assert told.pop(99)[0] == 0.0
    assert told == {handle: [0.0, 1.0, 2.0, 3.0] for handle in range(1, 21)}


def test_items_that_begin_many_groups_are_made_in_more_slices() -> None:
    plant = TagPlant(config("a"))
    alike = [Wanted(0, 2, i, 0.0, None, 1, True) for i in range(900)]
    assert [len(part) for part in parts(alike, plant.aspace.tags)] == [475, 425]
    different = [Wanted(0, 2, i, 10.0 * i, None, 1, True) for i in range(30)]
    assert [len(part) for part in parts(different, plant.aspace.tags)] == [20, 10]
    assert list(chain.from_iterable(parts(different, plant.aspace.tags))) == different


def test_the_subscription_is_looked_at_before_the_timestamps() -> None:
    # Part 4 §5.13.2: both ways say the same of a request in which everything is wrong.
    plant = TagPlant(config("a"))
    request = item(plant.nodes[0])
    body = struct.pack("<Iii", 99, 7, 1) + struct_to_binary(request)
    with pytest.raises(ServiceError) as from_bytes:
        plant.service.monitoring.create_bytes(plant.session, body, 0, Keeps())
    with pytest.raises(ServiceError) as from_objects:
        plant.service.monitoring.create(plant.session, CreateParameters(99, 7, [request]))
    assert from_bytes.value.code == from_objects.value.code == ua.StatusCodes.BadSubscriptionIdInvalid


# --- both ways, whatever comes ------------------------------------------------------------------------


def twin() -> TagPlant:
    """A plant with one empty subscription, number 7, and little room."""
    tags = [config(kind.name.lower(), kind) for kind in Scalar if kind is not Scalar.STRING]
    ranged = config("ranged", low=0.0, high=10.0)
    plant = TagPlant(*tags, ranged, config("secret"), queued=40, items_per_subscription=30)
    made = plant.service.subscriptions.pop(plant.subscribe())
    made.number = 7
    plant.service.subscriptions[7] = made
    plant.poll([True] + [1] * 9 + [1.0])
    return plant


def some_request(dice: random.Random, plant: TagPlant) -> bytes:
    """A request for columns, mostly a good one."""
    numbers = [0.0, 1.0, -1.0, math.nan, math.inf, 1e308, 100.0, 101.0, 50.0]
    wanted = [
        item(
            dice.choice(plant.nodes),
            handle=dice.choice([i, 0, 2**32 - 1]),
            mode=dice.choice([0, 2, 2, 2]),
            sampling_ms=dice.choice([*numbers, 10.0, 1e9]),
            queue=dice.choice([0, 1, 2, 5, 1000, 2**32 - 1]),
            filter=dice.choice([None, deadband(dice.choice(numbers), dice.randrange(3), dice.randrange(3))]),
            discard_oldest=dice.random() < 0.5,
        )
        for i in range(dice.choice([1, 3, 12]))
    ]
    head = struct.pack(
        "<Iii", dice.choice([7] * 9 + [8]), dice.choice([*range(4)] * 5 + [4, -1]), len(wanted)
    )
    body = bytearray(head + b"".join(map(struct_to_binary, wanted)))
    for _ in range(dice.choice([0, 1, 3])):
        at = dice.randrange(len(body))
        other = [b"\x00", b"\x01", b"\xff", b"\x03", *(struct.pack("<i", i) for i in (-1, -2, 0, 2**31 - 1))]
        body[at : at + dice.choice([1, 1, 1, 4, 0])] = dice.choice(other)
    return bytes(body)


def results_of(response: Any) -> list[Any]:
    whole = response.to_binary() if hasattr(response, "to_binary") else struct_to_binary(response)
    decoded = ua.ua_binary.struct_from_binary(ua.CreateMonitoredItemsResponse, ua.utils.Buffer(whole))
    return list(decoded.Results)


def test_items_made_from_bytes_are_those_made_from_objects_whatever_comes() -> None:
    # Part 4 §5.13.2: StatusCodes, revised parameters, and what they notify, byte for byte.
    dice = random.Random(20261121)
    same = 0
    for _ in range(120):
        fast, slow, reply = twin(), twin(), Keeps()
        body = some_request(dice, fast)
        found: Any
        try:
            if fast.service.monitoring.create_bytes(fast.session, body, 0, reply) is not True:
                continue
            found = results_of(reply.response)
        except ServiceError as exc:
            found = exc.code
        expected: Any
        try:
            params = decode(CreateParameters, StrictBuffer(body, longest=1 << 20), slow.limits)
            expected = results_of(slow.service.monitoring.create(slow.session, params))
        except ServiceError as exc:
            expected = exc.code
        assert found == expected
        told = []
        for plant in (fast, slow):
            plant.poll([False] + [3] * 9 + [3.0])
            plant.pass_ms(100)
            told.append(sorted(notifications(plant.parcel(7))))
        assert told[0] == told[1]
        same += 1
    assert same > 50

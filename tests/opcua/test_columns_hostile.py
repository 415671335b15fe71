"""Items on tags that somebody makes to do harm, and people who may see less than before."""

from __future__ import annotations

import struct
from typing import Any

from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from edge_opcua.core.values import BAD_USER_ACCESS_DENIED
from edge_opcua.opcua.services.subscription.dataitems import DataItem
from edge_opcua.opcua.services.subscription.tagitems import TagItem
from edge_opcua.security.roles import Role
from tests.opcua.publishing import FakeSession, item
from tests.opcua.tagplant import TagPlant, config, values_of

ADMIN, OBSERVER = frozenset({Role.SECURITY_ADMIN}), frozenset({Role.OBSERVER})


class Reply:
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
    reply: Any = Reply()
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

"""Tags of every type, Read requests about them as bytes, and the slow, obvious answer to each."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import struct_to_binary

from edge_opcua.config.schema import TagConfig
from edge_opcua.core.batch import BlockLayout, TagBatch
from edge_opcua.core.values import GOOD, BlockSpec, Scalar, TagSpec
from edge_opcua.opcua.access import Access, AccessRule
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.request import decode
from edge_opcua.opcua.services.attribute.attributes import Attributes
from edge_opcua.opcua.services.attribute.reading import RESPONSE
from edge_opcua.opcua.services.slices import Encoded, Rest
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.testing import ManualClock
from tests.opcua.small_space import IDS, Asker, Space

VALUE = int(ua.AttributeIds.Value)
SCALARS = [scalar for scalar in Scalar if scalar is not Scalar.STRING]
# One more than there are types, so that no two neighbours are of one type and each has a substitute once.
PER_BLOCK = 2 * len(SCALARS) + 2


def block_of(name: str) -> BlockSpec:
    """Two rows of every scalar type, one with a substitute, then a text and an array."""
    rows = [TagSpec(f"{kind.name}0", kind) for kind in SCALARS]
    rows += [TagSpec(f"{kind.name}1", kind, 0, 10) for kind in SCALARS]  # times are whole microseconds
    rows += [TagSpec("text", Scalar.STRING, 20), TagSpec("array", Scalar.INT32, 3)]
    return BlockSpec(name, tuple(rows), 4)


class Tags:
    """Some blocks of tags and some nodes that are objects, asked as clients ask."""

    def __init__(
        self, blocks: int = 2, rules: tuple[AccessRule, ...] = (), limits: ServerLimits | None = None
    ) -> None:
        self.space = Space()
        self.clock = ManualClock()
        self.limits = limits or ServerLimits()
        self.access = Access(rules)
        self.blocks: list[LiveBlock] = []
        self.batches: list[TagBatch] = []
        self.table = self.space.aspace.tags
        for index in range(blocks):
            spec = block_of(f"block{index}")
            block = LiveBlock(spec, self.clock)
            self.blocks.append(block)
            self.batches.append(TagBatch(BlockLayout(spec)))
            self.table.add(
                block,
                [(row, name_of(index, row), config_of(tag)) for row, tag in enumerate(spec.tags)],
            )
        self.access.cover(self.table, self.space.aspace.virtual)
        self.object = self.space.variable("Object", ua.Variant(1.5), IDS.Double)
        self.attributes = Attributes(self.space.aspace, self.access, self.limits, clock=self.clock)
        self.service = self.attributes.services()["Read"]
        self.asker = Asker()

    def fill(self, index: int, value: float = 1.0, status: int = GOOD, **stamps: int) -> None:
        """Give every row of a block the same value, status and stamps, and show it."""
        batch = self.batches[index]
        for row, tag in enumerate(batch.layout.spec.tags):
            if tag.type is Scalar.STRING:
                batch.set_text(row, f"{value}")
            elif tag.length:
                batch.set_array(row, [int(value)] * 2)
            else:
                shown = 10 * value if tag.type is Scalar.DATETIME else value
                batch.set(row, bool(shown) if tag.type is Scalar.BOOLEAN else tag.type.dtype.type(shown))
        batch.status[:] = status
        batch.source_ns[:] = stamps.get("source_ns", 10**18)
        batch.server_ns[:] = stamps.get("server_ns", 10**18 + 5_000)
        self.show(index)

    def show(self, index: int, status: Sequence[int] | None = None) -> None:
        """Show a batch as it is now."""
        batch = self.batches[index]
        effective = batch.status.copy()
        if status is not None:
            effective[:] = status
        self.blocks[index].take(batch, effective)

    def tag(self, number: int) -> ua.NodeId:
        return self.table.node_id(number)

    # --- the two ways ------------------------------------------------------------------------------------

    def answer(self, request: bytes, asker: Any = None) -> bytes | int:
        """Return the answer from the bytes, or the StatusCode of the fault."""
        way = Way()
        assert self.service.raw is not None
        try:
            done = self.service.raw(asker or self.asker, b"head" + request, 4, way)
            if isinstance(done, Rest):
                way.send(run_out(done))
            elif not done:
                return self.general_fault(request)
        except ServiceError as exc:
            return int(exc.code)
        (body,) = way.answers
        return body

    def general_fault(self, request: bytes) -> int:
        """Return the StatusCode with which the general way refuses what is left to it."""
        try:
            self._decoded(request)
        except ServiceError as exc:
            return int(exc.code)
        raise AssertionError("a list that could be decoded was left to the general way")

    def _decoded(self, request: bytes) -> Any:
        buffer = StrictBuffer(request, longest=self.limits.string_bytes)
        assert self.service.params is not None
        params = decode(
            self.service.params, buffer, self.limits, {"NodesToRead": self.limits.operations.read}
        )
        if not params.NodesToRead:
            raise ServiceError(ua.StatusCodes.BadNothingToDo)
        return params

    def obvious(self, request: bytes, asker: Any = None) -> bytes | int:
        """Return what asyncua's codec and one value after the other come to."""
        try:
            params = self._decoded(request)
            run_out(self.service.run(asker or self.asker, params))
        except (ServiceError, ua.UaStatusCodeError) as exc:
            return int(exc.code)
        values = [
            self.attributes.read_for(asker or self.asker, item, params.TimestampsToReturn, 0.0)
            for item in params.NodesToRead
        ]
        body = b"".join([struct.pack("<i", len(values)), *map(obvious_bytes, values), bytes(4)])
        too_large = len(body) > self.limits.response_bytes
        return int(ua.StatusCodes.BadResponseTooLarge) if too_large else body


@dataclass
class Way:
    """A way back that remembers."""

    answers: list[bytes] = field(default_factory=list)
    handle: int = 1
    until_s: float = 1e9
    most_bytes: int = 1 << 30

    def send_bytes(self, type_id: bytes, body: bytes) -> None:
        assert type_id == RESPONSE
        self.answers.append(body)

    def send(self, response: Any) -> None:
        assert isinstance(response, Encoded)
        assert response.to_binary().startswith(RESPONSE)
        self.answers.append(response._body)

    def fault(self, code: int) -> None:
        raise AssertionError(code)


def run_out(outcome: Any) -> Any:
    """Return the result of a work in slices without an event loop."""
    if not isinstance(outcome, Rest):
        return outcome
    try:
        while True:
            next(outcome._work)
    except StopIteration as done:
        return done.value


def obvious_bytes(value: ua.DataValue) -> bytes:
    """Encode as the codec does, but for null values: they are not sent (Part 6 §5.2.2.17)."""
    copy = ua.DataValue(
        value.Value, value.StatusCode, value.SourceTimestamp, value.ServerTimestamp, None, None
    )
    if value.Value.VariantType is ua.VariantType.Null and not value.Value.is_array:
        copy.Value = None
    return bytes(struct_to_binary(copy))


def name_of(block: int, row: int) -> str:
    return f"Press.Line{block}.täg{row:02}"


def config_of(tag: TagSpec) -> TagConfig:
    return TagConfig(name=tag.name, address="1", type=tag.type, length=tag.length)


def item(node: ua.NodeId, attribute: int = VALUE, **more: Any) -> ua.ReadValueId:
    return ua.ReadValueId(node, attribute, **more)


def read(
    items: Iterable[ua.ReadValueId], timestamps: int = ua.TimestampsToReturn.Both, max_age_ms: float = 0.0
) -> bytes:
    """Return the parameters of a Read as bytes."""
    encoded = [struct_to_binary(each) for each in items]
    head = struct.pack("<dii", max_age_ms, int(timestamps), len(encoded))
    return head + b"".join(encoded)

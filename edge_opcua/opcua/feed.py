"""From the bus to OPC UA: every tick each block's newest rows, how old they are, and every result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from asyncua import ua

from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.clock import Clock
from edge_opcua.opcua.blockview import BlockView, FeedCounts, notify_all, refresh
from edge_opcua.opcua.events import Emit
from edge_opcua.opcua.linkfeed import LinkFeed, worst
from edge_opcua.opcua.outputfeed import OutputFeed
from edge_opcua.opcua.plantspace import PlantSpace
from edge_opcua.opcua.resultfeed import FindModel, InferenceFeed
from edge_opcua.opcua.slots import assign_now
from edge_opcua.opcua.tags.feed import TURN_ROWS, TagFeed

# Staleness is a matter of tenths of a second; looking at it at every tick would cost more than the tick.
ASSESS_NS: Final = 50_000_000
# What was taken this recently is new enough to be published.
FRESH_NS: Final = 1_000_000


class Feed:
    """Feeds one address space from one bus.

    Args:
        bus: The tag bus.
        space: Where values go.
        emit: Delivers events.
        find_model: Looks a model up by name and version.
        clock: Clock of the bus.
    """

    def __init__(self, bus: Bus, space: PlantSpace, emit: Emit, find_model: FindModel, clock: Clock) -> None:
        self.counts = FeedCounts()
        self._bus = bus
        self._emit = emit
        self._find_model = find_model
        self._clock = clock
        self._space = space
        self._assess_at_ns = 0
        self._assess_tags_ns = 0
        self._taken_ns = 0
        self._inferences: list[InferenceFeed] = []
        self._links: list[LinkFeed] = []
        self._outputs: list[OutputFeed] = []
        self._blocks: list[BlockView] = []
        self._tags: list[TagFeed] = []
        self._readers: list[BlockReader] = []
        self._look()

    def _look(self, there: Mapping[str, BlockView | TagFeed] = MappingProxyType({})) -> None:
        """Make what feeds each block that is shown, unless it is there already."""
        bus, clock, space = self._bus, self._clock, self._space
        views = {}
        for name, bindings in space.bindings.items():
            found = there.get(name)
            if not isinstance(found, BlockView) or not found.shows(bindings):
                found = BlockView(bus.reader(name), bindings, clock)
            views[name] = found
        inferences = {each.view: each for each in self._inferences}
        self._inferences = [
            inferences.get(view)
            or InferenceFeed(nodes, view, space, self._emit, self._find_model, clock, self.counts)
            for nodes in space.inferences.values()
            if (view := views.pop(f"{nodes.pipeline}.result", None)) is not None
        ]
        links = {each.view: each for each in self._links}
        self._links = [
            links.get(view) or LinkFeed(nodes, view, self._emit, clock, self.counts)
            for nodes in space.devices.values()
            if (view := views.pop(f"{nodes.device}.link", None)) is not None
        ]
        outputs = {each.view: each for each in self._outputs}
        self._outputs = []
        for of_output in space.outputs.values():
            if (view := views.pop(of_output.block, None)) is not None:
                feed = outputs.get(view) or OutputFeed(of_output, view, self._emit, clock, self.counts)
                feed.nodes = of_output
                self._outputs.append(feed)
        self._blocks = list(views.values())
        self._tags = []
        for block in space.tags.blocks:
            feeds = there.get(block.spec.name)
            if isinstance(feeds, TagFeed):
                self._tags.append(feeds)
            elif block.spec.name in bus.blocks:  # and not that of the tags that are gone
                self._tags.append(TagFeed(bus.reader(block.spec.name), block, clock))
        self._readers = [
            *(tags.reader for tags in self._tags),
            *(view.reader for view in self._blocks),
            *(each.view.reader for each in self._inferences),
            *(each.view.reader for each in self._links),
            *(each.view.reader for each in self._outputs),
        ]

    def follow(self, has_moved: Callable[[str], bool]) -> None:
        """Feed what the address space shows now; what has not moved goes on as if nothing had happened.

        Args:
            has_moved: Whether a block came, went, or is another one of the same name.
        """
        before = tuple(self._every())
        stays = [each for each in before if not has_moved(each.reader.spec.name)]
        goes = [each for each in self._tags if has_moved(each.reader.spec.name)]
        self.counts.notified += sum(each.handed for each in goes)
        self._look({each.reader.spec.name: each for each in stays})
        known = set(map(id, before))
        self._start({each.reader.spec.name for each in self._every() if id(each) not in known})

    def _every(self) -> Iterator[BlockView | TagFeed]:
        yield from self._tags
        yield from self._blocks
        yield from (each.view for each in self._inferences)
        yield from (each.view for each in self._links)
        yield from (each.view for each in self._outputs)

    @property
    def notified(self) -> int:
        """Values handed to subscriptions since start."""
        return self.counts.notified + sum(block.handed for block in self._space.tags.blocks)

    @property
    def is_watched(self) -> bool:
        """Whether anybody follows values one by one: only a tick brings those."""
        return (
            any(block.is_watched for block in self._space.tags.blocks)
            or any(view.is_watched for view in self._blocks)
            or any(inference.view.is_watched for inference in self._inferences)
            or any(link.view.is_watched for link in self._links)
            or any(output.view.is_watched for output in self._outputs)
        )

    def start(self) -> None:
        """Show what the bus holds now; results from before are shown, but are no events."""
        self._start({each.reader.spec.name for each in self._every()})

    def _start(self, blocks: Collection[str]) -> None:
        for each in self._every():
            if each.reader.spec.name not in blocks:
                continue
            if isinstance(each, TagFeed):
                each.start()
                continue
            latest = each.reader.latest()
            if latest is not None:
                each.reader.cursor = latest.sequence
                changed = each.take(latest)
                notify_all(each, changed, self.counts)
        for inference in self._inferences:
            if inference.view.reader.spec.name in blocks:
                inference.start()
        self._follow_links(assess=True)
        self._show_health()

    async def tick(self) -> None:
        """Take over what is new; every :data:`ASSESS_NS`, look at the age of what is not."""
        now_ns = self._clock.monotonic_ns()
        assess = now_ns >= self._assess_at_ns
        if assess:
            self._assess_at_ns = now_ns + ASSESS_NS
        elif not any(reader.behind for reader in self._readers):
            return
        await self._take_tags(assess=assess)
        self._take_others(assess=assess)

    def tick_along(self) -> bool:
        """Do what a tick does, if no more than a turn of tags is new; returns whether it did.

        Otherwise what fits in a turn was taken, and the rest is for a tick.
        """
        if not self.take_tags():
            return False
        self._assess_at_ns = self._clock.monotonic_ns() + ASSESS_NS
        self._take_others(assess=True)
        return True

    def _take_others(self, *, assess: bool) -> None:
        """Take over what is new of all that are no tags."""
        for view in self._blocks:
            refresh(view, self.counts, assess=assess)
        for inference in self._inferences:
            inference.tick(assess=assess)
        for output in self._outputs:
            output.tick(assess=assess)
        self._follow_links(assess=assess)

    def take_tags(self) -> bool:
        """Take over what is new of the tags, right before it is published or read: it waits for no tick.

        Returns:
            Whether that was all; what is more than a turn, or has just been taken, is left to the next time.
        """
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._taken_ns < FRESH_NS:
            return False
        self._taken_ns = now_ns
        assess = now_ns >= self._assess_tags_ns
        if assess:
            self._assess_tags_ns = now_ns + ASSESS_NS
        rows = 0
        for tags in self._tags:
            if assess or tags.behind:
                rows += tags.tick(assess=assess)
                if rows >= TURN_ROWS:
                    return False
        return True

    async def _take_tags(self, *, assess: bool) -> None:
        """Take over what is on the bus now; others have their turn meanwhile, above all publishing."""
        rows = 0
        for tags in self._tags:
            upto, taken = tags.newest, tags.tick(assess=assess)
            rows += taken
            while taken and tags.cursor < upto:
                await asyncio.sleep(0)
                rows = taken = tags.tick(assess=False)
            if rows >= TURN_ROWS:
                await asyncio.sleep(0)
                rows = 0

    def _follow_links(self, *, assess: bool) -> None:
        changed = [link.tick(assess=assess) for link in self._links]
        if any(changed):
            self._show_health()

    def _show_health(self) -> None:
        healths = [link.health for link in self._links]
        if healths:
            assign_now(self._space.machine_health, worst(healths), ua.VariantType.Int32, self._clock)

"""An output whose pipeline is fed with tags: its source is the samples, its inputs are several devices."""

from __future__ import annotations

from dataclasses import dataclass

from edge_opcua.app.outputs import Sources
from edge_opcua.config.reaction import reactions
from edge_opcua.core.bus import Bus
from edge_opcua.core.values import GOOD, Link
from edge_opcua.inference.fed import samples_block
from edge_opcua.testing import ManualClock
from edge_opcua.writeback.judged import cycle_of
from tests.writeback.line import configuration


@dataclass
class Polled:
    refreshed_ns: int


def test_several_devices_are_as_fresh_as_the_last_of_them() -> None:
    assert Sources([Polled(5), Polled(3), Polled(9)]).refreshed_ns == 3


def test_an_output_on_tags_takes_their_samples_for_its_source() -> None:
    config = configuration()
    fed = {"capture": None, "inputs": {"speed": "press/speed"}, "every_ms": 100}
    pipeline = config.pipelines[0].model_copy(update=fed)
    config = config.model_copy(update={"pipelines": (pipeline,)})
    bus = Bus.create((samples_block(pipeline),), clock=ManualClock())

    assert config.source_block(pipeline) == "wear.samples"
    assert [device.name for device in config.source_devices(pipeline)] == ["press"]
    lost = next(each for each in reactions(config, config.outputs[0]) if each.fault == "input lost")
    assert lost.parts[0] == ("silence", 1000 + 100 + 3 * 100)  # of a group that is read every 100 ms
    writer = bus.writer(config.source_block(pipeline))
    writer.batch.status[:] = GOOD
    writer.batch.set(writer.batch.row("stroke"), 7)
    writer.publish(link=Link.UP)
    samples = bus.reader("wear.samples").latest()
    assert samples is not None
    assert cycle_of(samples) == 7  # what the PLC hears as the cycle of a result
    bus.close()

"""The areas in which an output and a PLC meet: read once, and made tags, so that they are polled like any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from edge_opcua.config.draft import DeviceDraft, Draft, SharedArea, tables_of, text_of
from edge_opcua.config.eai import CONTROL_WORDS, eai_map
from edge_opcua.config.locate import Path
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.problem import Problem, quoted
from edge_opcua.config.schema import DeviceConfig, GroupConfig, TagConfig
from edge_opcua.config.tags import TagRows
from edge_opcua.core.ports import Area, AreaPlugin, DriverPlugin
from edge_opcua.errors import AddressError, ConfigError


def read_areas(draft: Draft) -> None:
    """Find the areas of all outputs; what cannot be read is reported and left out."""
    for index, output in draft.outputs.items():
        device = draft.device(output.device)
        if output.interface is not None and device is not None and device.plugin is not None:
            device.areas += _areas(draft, ("outputs", index, "interface"), output, device)


def _areas(draft: Draft, path: Path, output: OutputConfig, device: DeviceDraft) -> Iterator[SharedArea]:
    assert output.interface is not None
    assert device.plugin is not None
    if not isinstance(device.plugin, AreaPlugin):
        message = f"device {quoted(device.name)} has single values only, no words side by side"
        help_text = "write single tags instead: [[outputs.values]]"
        draft.report((*path, "control"), Problem("T262", message, help=help_text))
        return
    table = tables_of(draft.raw, "devices")[device.index]
    status_words = eai_map(output.name, output.interface, text_of(table, "driver")).status_words
    for key, size, tag in (
        ("control", CONTROL_WORDS, output.control_tag),
        ("status", status_words, output.status_tag),
    ):
        text: str = getattr(output.interface, key)
        area = _area(draft, (*path, key), text, size, device, device.plugin)
        if area is not None and key == "status" and not area.writable:
            message = f"{quoted(text)} can only be read: the edge writes its words there"
            help_text = (
                "name a holding register, e.g. hr:200; only control may lie where the PLC alone writes"
            )
            draft.report((*path, key), Problem("T260", message, help=help_text))
        elif area is not None:
            yield SharedArea(output.name, key, device, area, size, tag)


def _area(
    draft: Draft, path: Path, text: str, size: int, device: DeviceDraft, plugin: type[DriverPlugin]
) -> Area | None:
    assert isinstance(plugin, AreaPlugin)
    url = text_of(tables_of(draft.raw, "devices")[device.index], "url")
    try:
        area = plugin.parse_area(text, url, device.options)
        plugin.parse_address(area.words(0, size))  # its last word, too, has to be somewhere
    except AddressError as exc:
        message = str(exc) if text in str(exc) else f"{quoted(text)}: {exc}"
        draft.report(path, Problem(exc.code, message, help=exc.hint))
    except ConfigError:  # the URL is wrong, which is said there
        pass
    else:
        return area
    return None


def with_areas(device: DeviceConfig, draft: DeviceDraft, outputs: Iterable[OutputConfig]) -> DeviceConfig:
    """Return a device that also reads the areas which outputs share with it.

    The control words are polled, each output's in a group of its own, so that nothing else delays them. The
    status words are read back on request only: when the link comes up, and after a write without an answer.
    """
    if not draft.areas:
        return device
    polls = {each.control_tag: each.interface.poll_ms for each in outputs if each.interface is not None}
    groups = tuple(
        GroupConfig(name=each.tag, period_ms=polls[each.tag])
        if each.tag in polls
        else GroupConfig(name=each.tag, on_request=True)
        for each in draft.areas
    )
    tags = TagRows.of((*device.tags, *map(_tag_of, draft.areas)))
    return device.model_copy(update={"groups": device.groups + groups, "tags": tags})


def _tag_of(shared: SharedArea) -> TagConfig:
    """Return the tag in which an area is read."""
    parse = shared.device.tables.parse
    assert parse is not None
    address = parse(shared.address)
    who = "the PLC" if shared.key == "control" else "the edge"
    return replace(
        TagConfig(shared.tag, address.canonical, address.scalar, address.length),
        description=f"Interface block of output {shared.output}: what {who} writes",
        group=shared.tag,
    )

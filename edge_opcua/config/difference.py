"""What differs between two configurations: pure data, for people and for who has to carry it out.

A row of a tag table that only moved to another line is no difference, and neither is the order of the devices
alone: nothing has to be done for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.problem import counted
from edge_opcua.config.schema import DeviceConfig, EdgeConfig, PipelineConfig, public_url
from edge_opcua.config.tags import TagConfig, TagRows

_PLACES: Final = frozenset({"file", "line"})
# What no driver reads: clients see it, and the connection to the device need not end for it.
SHOWN_ONLY: Final = frozenset(
    {"description", "unit", "node_id", "historize", "true_name", "false_name", "states"}
)
_FIELDS: Final = tuple(each.name for each in fields_of(TagConfig) if each.name not in _PLACES)
# What can be changed without a restart, apart from devices, pipelines and outputs.
HOT: Final = frozenset(
    {
        "opcua.shutdown_s",
        "models.folder",
        "models.windows_mb",
        "inference.groups",
        "inference.keep_free_mb",
        "inference.warm_celsius",
        "renames",
        "include",
        "templates",
        "machines",
    }
)
# What is compared in its own way, and where the file lies.
_APART: Final = frozenset({"devices", "pipelines", "outputs", "file"})
_WHY: Final = (
    ("site.", "names and name plate are what clients know the machine by"),
    ("opcua.listen", "clients are connected there"),
    ("opcua.advertised_urls", "clients are connected there"),
    ("opcua.security", "the clients that are connected were admitted by it"),
    ("opcua.revocation", "the clients that are connected were admitted by it"),
    ("opcua.anonymous", "the clients that are connected were admitted by it"),
    ("opcua.access", "the clients that are connected have been told what they may do"),
    ("", "it is read once, at the start"),
)
NAMES_SHOWN: Final = 5

_Item = TypeVar("_Item", DeviceConfig, PipelineConfig, OutputConfig)


@dataclass(frozen=True, slots=True)
class Items(Generic[_Item]):
    """What becomes of the devices, or pipelines, or outputs.

    Args:
        order: The names there will be, in their order.
        added: Those that come, by name.
        changed: Those that stay and are to be something else, by name.
        removed: Names of those that go.
    """

    order: tuple[str, ...]
    added: Mapping[str, _Item]
    changed: Mapping[str, _Item]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def applied(self, before: Iterable[_Item]) -> tuple[_Item, ...]:
        """Return what becomes of what there was."""
        there = {**{each.name: each for each in before}, **self.added, **self.changed}
        return tuple(there[name] for name in self.order)


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that is no device, pipeline or output.

    Args:
        path: E.g. ``opcua.listen``.
        old: Its value.
        new: What it shall be.
    """

    path: str
    old: Any
    new: Any

    @property
    def is_hot(self) -> bool:
        """Whether it can be changed while the server runs."""
        return self.path in HOT

    @property
    def reason(self) -> str:
        """Why it cannot be changed while the server runs."""
        return next(reason for prefix, reason in _WHY if self.path.startswith(prefix))


@dataclass(frozen=True, slots=True)
class Difference:
    """What has to be done to a configuration to get another one.

    Args:
        settings: Settings that change.
        devices: What becomes of the devices.
        pipelines: What becomes of the pipelines.
        outputs: What becomes of the outputs.
    """

    settings: tuple[Setting, ...]
    devices: Items[DeviceConfig]
    pipelines: Items[PipelineConfig]
    outputs: Items[OutputConfig]

    def __bool__(self) -> bool:
        return bool(self.settings or self.devices or self.pipelines or self.outputs)

    @property
    def needs_restart(self) -> tuple[Setting, ...]:
        """Settings that cannot be changed while the server runs."""
        return tuple(each for each in self.settings if not each.is_hot)

    def applied(self, before: EdgeConfig) -> EdgeConfig:
        """Return what becomes of a configuration."""
        found = before.model_copy(
            update={
                "devices": self.devices.applied(before.devices),
                "pipelines": self.pipelines.applied(before.pipelines),
                "outputs": self.outputs.applied(before.outputs),
            }
        )
        for setting in self.settings:
            section, _, name = setting.path.partition(".")
            value = setting.new
            if name:
                value = getattr(found, section).model_copy(update={name: setting.new})
            found = found.model_copy(update={section: value})
        return found


def difference(old: EdgeConfig, new: EdgeConfig) -> Difference:
    """Return what has to be done to one configuration to get the other; pure."""
    return Difference(
        tuple(_settings(old, new)),
        _items(old.devices, new.devices),
        _items(old.pipelines, new.pipelines),
        _items(old.outputs, new.outputs),
    )


def same_device(old: DeviceConfig, new: DeviceConfig, *, ignoring: frozenset[str] = frozenset()) -> bool:
    """Whether two devices are the same, wherever in their files their rows stand.

    Args:
        old: One of them.
        new: The other one.
        ignoring: Columns of the tag tables that do not count.
    """
    return not _changed_fields(old, new) and same_tags(old.tags, new.tags, ignoring=ignoring)


def same_tags(old: TagRows, new: TagRows, *, ignoring: frozenset[str] = frozenset()) -> bool:
    """Whether two tag tables have the same rows in the same order."""
    if len(old) != len(new):
        return False
    return all(old.column(name) == new.column(name) for name in _FIELDS if name not in ignoring)


def _settings(old: EdgeConfig, new: EdgeConfig) -> Iterator[Setting]:
    for section in EdgeConfig.model_fields:
        if section in _APART:
            continue
        before, after = getattr(old, section), getattr(new, section)
        if before == after:
            continue
        if not isinstance(before, BaseModel):
            yield Setting(section, before, after)
            continue
        for name in type(before).model_fields:
            if getattr(before, name) != getattr(after, name):
                yield Setting(f"{section}.{name}", getattr(before, name), getattr(after, name))


def _items(old: Sequence[_Item], new: Sequence[_Item]) -> Items[_Item]:
    before = {each.name: each for each in old}
    after = {each.name: each for each in new}
    return Items(
        tuple(after),
        {name: each for name, each in after.items() if name not in before},
        {name: each for name, each in after.items() if name in before and not _same(before[name], each)},
        tuple(name for name in before if name not in after),
    )


def _same(old: BaseModel, new: BaseModel) -> bool:
    if isinstance(old, DeviceConfig) and isinstance(new, DeviceConfig):
        return same_device(old, new)
    return old == new


def _changed_fields(old: BaseModel, new: BaseModel) -> list[str]:
    """Return the names of the settings that differ, the tags apart."""
    return [
        name for name in type(old).model_fields if name != "tags" and getattr(old, name) != getattr(new, name)
    ]


# --- for people --------------------------------------------------------------------------------------


def lines(old: EdgeConfig, change: Difference) -> list[str]:
    """Return a difference for people: a line for each thing that comes, goes or changes."""
    found = [f"~ {each.path}: {_shown(each.old)} -> {_shown(each.new)}" for each in change.settings]
    for kind, items, before in (
        ("device", change.devices, old.devices),
        ("pipeline", change.pipelines, old.pipelines),
        ("output", change.outputs, old.outputs),
    ):
        there = {each.name: each for each in before}
        found += [f"- {kind} {name}" for name in items.removed]
        found += [f"+ {kind} {name}{_size(each)}" for name, each in items.added.items()]
        for name, each in items.changed.items():
            found.append(f"~ {kind} {name}: {'; '.join(_details(there[name], each))}")
    return found


def _size(item: BaseModel) -> str:
    if not isinstance(item, DeviceConfig):
        return ""
    return f"   {item.driver} {public_url(item.url)}, {counted(len(item.tags), 'tag')}"


def _details(old: BaseModel, new: BaseModel) -> Iterator[str]:
    for name in _changed_fields(old, new):
        before, after = getattr(old, name), getattr(new, name)
        if name == "options":
            changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
            yield f"options {', '.join(sorted(changed))}"
        elif name == "url":
            yield f"url {public_url(before)} -> {public_url(after)}"
        elif name in ("groups", "captures"):
            yield from _named(name, {each.name: each for each in before}, {each.name: each for each in after})
        else:
            yield f"{name} {_shown(before)} -> {_shown(after)}"
    if not isinstance(old, DeviceConfig) or not isinstance(new, DeviceConfig):
        return
    if not same_tags(old.tags, new.tags):
        yield from _named("tags", _rows(old.tags), _rows(new.tags))


def _rows(tags: TagRows) -> dict[str, tuple[Any, ...]]:
    columns = [tags.column(name) for name in _FIELDS]
    return dict(zip(tags.column("name"), zip(*columns, strict=True), strict=True))


def _named(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for word, names in (
        ("removed", [name for name in old if name not in new]),
        ("added", [name for name in new if name not in old]),
        ("changed", [name for name in new if name in old and old[name] != new[name]]),
    ):
        if names:
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            yield f"{what} {word}: {', '.join(names[:NAMES_SHOWN])}{more}"
    if list(old) != list(new) and set(old) == set(new):
        yield f"{what} in another order"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        simple = all(isinstance(each, str) for each in value)
        return f"[{', '.join(value)}]" if simple else f"{len(value)} entries"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()  # as it stands in the file
    return f'"{value}"' if isinstance(value, str) else str(value)

"""Drivers and backends by name: entry points are listed, only the configured one is imported."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Protocol

from edge_opcua.errors import ConfigError

DRIVERS: Final = "edge_opcua.drivers"
BACKENDS: Final = "edge_opcua.backends"

_SIMILAR: Final = 0.6


class PluginNotFoundError(ConfigError):
    """No installed package offers a plugin of this name.

    Args:
        group: Entry-point group that was searched.
        name: Name that was asked for.
        known: Names the group has.
    """

    def __init__(self, group: str, name: str, known: tuple[str, ...]) -> None:
        close = difflib.get_close_matches(name, known, n=1, cutoff=_SIMILAR)
        hint = f'; did you mean "{close[0]}"?' if close else f"; there are: {', '.join(known) or 'none'}"
        super().__init__(f'no {_word(group)} is called "{name}"{hint}')
        self.group = group
        self.name = name
        self.known = known


class PluginBrokenError(ConfigError):
    """A plugin is installed, but importing it failed.

    Args:
        group: Entry-point group of the plugin.
        name: Its name.
        reason: What the import said, in one line.
    """

    def __init__(self, group: str, name: str, reason: str) -> None:
        super().__init__(f'the {_word(group)} "{name}" is installed but cannot be imported: {reason}')
        self.group = group
        self.name = name
        self.reason = reason


class Plugins(Protocol):
    """Where plugins are looked up; the tests pass their own."""

    def names(self, group: str) -> tuple[str, ...]:
        """Return the names a group offers, sorted, importing none."""
        ...

    def load(self, group: str, name: str) -> Any:
        """Import one plugin and return what its entry point names."""
        ...


class InstalledPlugins:
    """The plugins of every installed distribution."""

    def names(self, group: str) -> tuple[str, ...]:
        """Return the names a group offers, sorted, importing none."""
        return tuple(sorted({entry.name for entry in _installed(group)}))

    def load(self, group: str, name: str) -> Any:
        """Import one plugin and return what its entry point names.

        Args:
            group: Entry-point group, e.g. :data:`DRIVERS`.
            name: Name in the configuration.

        Raises:
            PluginNotFoundError: No installed package offers the name.
            PluginBrokenError: The import failed, whatever it raised.
        """
        found = next((entry for entry in _installed(group) if entry.name == name), None)
        if found is None:
            raise PluginNotFoundError(group, name, self.names(group))
        return _import(found)


@cache
def _installed(group: str) -> tuple[EntryPoint, ...]:
    """Return the plugins of a group: a look-up reads the files of every distribution, so it is done once."""
    return tuple(entry_points(group=group))


def _import(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as exc:  # foreign code runs at import and may raise anything
        reason = " ".join(str(exc).split()) or type(exc).__name__
        raise PluginBrokenError(entry.group, entry.name, reason) from exc


def _word(group: str) -> str:
    return group.rpartition(".")[2].removesuffix("s")

"""What is found out about an unknown device, step by step, without ever writing to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from edge_opcua.drivers.reasons import parts_of
from edge_opcua.errors import ConfigError
from edge_opcua.plugins import DRIVERS, InstalledPlugins, PluginNotFoundError, Plugins

NO_TIME: Final = "no valid time"  # what dates and times may hold; nothing else is decoded to None


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be probed.

    Args:
        url: URL of the device, as ``devices[].url`` has it.
        reads: Addresses to be read, in the driver's grammar; for Modbus also ``hr:100x2`` without a type.
        timeout_s: Deadline of one step, seconds.
        options: Driver settings, as ``devices[].options``.
        units: Unit numbers to look for behind a gateway (``--units 1-32``); empty: the prober's own few.
        state_dir: State directory, whose certificate a device may want to see; None: the usual one.
    """

    url: str
    reads: Sequence[str] = ()
    timeout_s: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    units: Sequence[int] = ()
    state_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to read some bytes.

    Args:
        address: The address that reads it so, e.g. ``1/hr:100:REAL;order=CDAB``.
        order: Byte order, or "" where the protocol has only one.
        values: The value by IEC type, e.g. ``{"REAL": 23.41, "DINT": 1102792622}``.
        plausible: Why it is the likely one ("small, few digits"); "" if it is not.
    """

    address: str
    order: str
    values: Mapping[str, Any]
    plausible: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one step.

    Args:
        step: ``connect``, ``protocol``, ``identity``, ``units``, ``browse`` or ``read``, in this order.
        text: A few words for people that stand beside the others: ``tcp 502 open``, ``Modbus answers in
            3 ms``, ``ACME VIB-4 2.1``, ``units 1 (2..8 silent)``; of a read the address and its raw bytes,
            ``hr:100 = 40101   47AE 41BB``; of a failed step one sentence.
        code: Stable code (D3xx) if the step failed; "" if it went well. After a failed ``connect`` or
            ``protocol`` nothing follows; after a failed read the others do.
        help: Next physical step if it failed.
        facts: The same for programs; ``init`` uses ``vendor``, ``model``, ``serial``, ``units`` and ``tags``
            (list of name, address, unit, description); ``requests`` is how many were sent until now.
        candidates: Readings of one address, if the step was a read.
    """

    step: str
    text: str
    code: str = ""
    help: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    candidates: Sequence[Candidate] = ()


Prober: TypeAlias = Callable[[Target], AsyncIterator[Finding]]
"""What a driver's package offers as ``probe.probe``: an async generator that connects once, looks, closes.

It yields each finding as soon as it is known, never writes, and closes also when its caller has seen enough.
An address to be read that does not follow the grammar is an AddressError before it connects.
"""

_Options = TypeVar("_Options", bound=BaseModel)


def options_of(kind: type[_Options], target: Target) -> _Options:
    """Return what a target says of a driver's settings; ConfigError if one of them is unusable."""
    try:
        return kind.model_validate(dict(target.options))
    except ValidationError as exc:
        raise ConfigError(f"options: {exc.errors()[0]['msg']}") from exc


def failed(step: str, told: str, facts: Mapping[str, Any]) -> Finding:
    """Return a step that went wrong, from the text of an error: its code and the next step stand apart."""
    code, text, remedy = parts_of(told)
    return Finding(step, text, code, remedy, facts)


# Where the scheme of a URL is not the name of its driver.
_DRIVER_OF_SCHEME: Final = {"eip": "ethernet-ip", "opc.tcp": "opcua"}


def driver_of(url: str, plugins: Plugins | None = None) -> str:
    """Return the name of the driver that a URL's scheme belongs to; ``modbus+rtu://`` is ``modbus``.

    Raises:
        ConfigError: The text is no URL, or no driver has this scheme (D380).
    """
    scheme, mark, _ = url.partition("://")
    name = scheme.lower().partition("+")[0]
    if not mark:
        raise ConfigError(f'"{url}" is not a URL; write e.g. modbus://192.168.0.20/1', code="D380")
    name = _DRIVER_OF_SCHEME.get(name, name)
    known = (plugins or InstalledPlugins()).names(DRIVERS)
    if name not in known:
        raise ConfigError(f'"{url}": no driver has URLs of {scheme}://; {_schemes(known)}', code="D380")
    return name


def prober_of(name: str, plugins: Plugins | None = None) -> Prober:
    """Return what looks at devices of a driver: ``probe`` of the module ``probe`` in the driver's package.

    Raises:
        ConfigError: There is no such driver (D380), or it cannot look at a device (D381).
    """
    try:
        driver = (plugins or InstalledPlugins()).load(DRIVERS, name)
    except PluginNotFoundError as exc:
        raise ConfigError(str(exc), code="D380") from exc
    module = f"{driver.__module__}.probe"
    if not _exists(module):
        raise ConfigError(f"the driver {name} cannot look at a device by itself", code="D381")
    found: Prober = import_module(module).probe
    return found


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the driver is no package
        return False


def _schemes(drivers: Sequence[str]) -> str:
    """Return the schemes there are, as a user writes them."""
    written = {driver: scheme for scheme, driver in _DRIVER_OF_SCHEME.items()}
    return "there are " + ", ".join(f"{written.get(name, name)}://" for name in drivers)

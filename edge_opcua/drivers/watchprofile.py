"""How the watchdog of a kind of device is armed, as data: what is written where, and what it shows."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.values import Scalar
from edge_opcua.drivers.planner import Place
from edge_opcua.drivers.wire import Driver
from edge_opcua.errors import AddressError, ConfigError

_FOLDER: Final = Path(__file__).with_name("watchdogs")
_STRICT: Final = ConfigDict(frozen=True, extra="forbid")

_Texts = Annotated[tuple[str, ...], Field(min_length=1)]
_Number = Annotated[int, Field(ge=0, le=65_535)]


class TimeRegister(BaseModel):
    """Where the time of the watchdog stands."""

    model_config = _STRICT

    address: str


class StatusRegister(BaseModel):
    """Where the device tells how its watchdog is.

    Args:
        address: Where.
        running: Value while it runs; None if the device does not tell.
        tripped: Value after its time was over.
    """

    model_config = _STRICT

    address: str
    running: _Number | None = None
    tripped: _Number


class TriggerRegister(BaseModel):
    """What keeps the watchdog from tripping.

    Args:
        address: What is written.
        values: Written in turn; the time itself if there are none.
    """

    model_config = _STRICT

    address: str
    values: tuple[_Number, ...] = ()


class Step(BaseModel):
    """One write of a sequence."""

    model_config = _STRICT

    address: str
    value: _Number


class Profile(BaseModel):
    """The watchdog of a kind of device.

    Args:
        title: Which devices.
        drivers: Protocols by which it is armed.
        safe: What the outputs do when it trips.
        unit_ms: What one digit of its time is, ms.
        least_ms: Shortest time.
        most_ms: Longest time.
        source: Where this comes from.
        unverified: What was not tried with hardware.
        time: Where its time is set; None if that is done in the device only.
        status: Where it tells how it is; None if it does not.
        trigger: What keeps it from tripping; None if any request does.
        stop: What stops it, so that its time can be set, and clears a trip.
        arm: What is written behind the time, before the first trigger.
        restart: What clears a trip where nothing stops it.
    """

    model_config = _STRICT

    title: str
    drivers: _Texts
    safe: str
    unit_ms: Annotated[int, Field(ge=1)]
    least_ms: Annotated[int, Field(ge=1)]
    most_ms: Annotated[int, Field(ge=1)]
    source: _Texts
    unverified: tuple[str, ...]
    time: TimeRegister | None = None
    status: StatusRegister | None = None
    trigger: TriggerRegister | None = None
    stop: tuple[Step, ...] = ()
    arm: tuple[Step, ...] = ()
    restart: tuple[Step, ...] = ()

    @property
    def addresses(self) -> Iterator[str]:
        """Every address it names."""
        for register in (self.time, self.status, self.trigger):
            if register is not None:
                yield register.address
        for step in (*self.stop, *self.arm, *self.restart):
            yield step.address


@dataclass(frozen=True, slots=True)
class Fitted:
    """A profile for one device.

    Args:
        profile: The profile.
        timeout_ms: Time after which the device falls safe.
        places: Where each of its addresses lies in this device.
    """

    profile: Profile
    timeout_ms: int
    places: dict[str, Place]

    @property
    def digits(self) -> int:
        """The time as the device has it."""
        return self.timeout_ms // self.profile.unit_ms


def profiles() -> tuple[str, ...]:
    """Return the names of all profiles."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.toml")))


@cache
def profile(name: str) -> Profile:
    """Return a profile.

    Raises:
        ConfigError: There is none of that name, or its file is wrong (C174).
    """
    if name not in profiles():
        raise ConfigError(f'there is no watchdog "{name}"; there are {", ".join(profiles())}', code="C174")
    text = (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    try:
        return Profile.model_validate(tomllib.loads(text))
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ConfigError(f"{name}.toml: {where}: {first['msg']}", code="C174") from exc


def fitted(cfg: DeviceConfig, driver: type[Driver]) -> Fitted | None:
    """Return the watchdog of a device, or None if it has none, or is simulated.

    Raises:
        ConfigError: The profile is not for this device, or the time is none it can have (C174).
    """
    wanted = cfg.watchdog
    if wanted is None:
        return None
    found = profile(wanted.profile)
    if cfg.driver not in found.drivers:
        text = f"{cfg.name}: the watchdog {wanted.profile} is armed by {' or '.join(found.drivers)}"
        raise ConfigError(f"{text}, not by {cfg.driver}", code="C174")
    timeout_ms = wanted.timeout_ms
    if not found.least_ms <= timeout_ms <= found.most_ms or timeout_ms % found.unit_ms:
        steps = f" in steps of {found.unit_ms}" if found.unit_ms > 1 else ""
        text = f"{cfg.name}: {timeout_ms} ms is no time of the watchdog {wanted.profile}"
        raise ConfigError(f"{text}: {found.least_ms}..{found.most_ms} ms{steps}", code="C174")
    if cfg.simulate:
        return None
    places = {address: _place(address, cfg, driver) for address in found.addresses}
    return Fitted(found, timeout_ms, places)


def _place(address: str, cfg: DeviceConfig, driver: type[Driver]) -> Place:
    try:
        place = driver.place(address, cfg)
    except AddressError as exc:
        raise ConfigError(f"{cfg.name}: watchdog: {exc}", code="C174") from exc
    if place.length or place.scalar not in (Scalar.UINT16, Scalar.BOOLEAN):
        raise ConfigError(f"{cfg.name}: watchdog: {address} is no register and no coil", code="C174")
    return place

"""For authors of plugins and for our own tests: a clock moved by hand and contracts that plugins keep."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_opcua.core.clock import Timer
from edge_opcua.core.ports import Address, Backend, Binding
from edge_opcua.core.values import Scalar
from edge_opcua.errors import AddressError, ConfigError, ModelError

__all__ = ["DriverClass", "ManualClock", "check_backend", "check_driver"]

_MUTANTS_PER_ADDRESS = 200
_ALPHABET = "0123456789.:/[]-+ ,;_=#%$XDBWhricoSTRINGREALBOOL\x00é€"


class DriverClass(Protocol):
    """A class that implements :class:`edge_opcua.core.ports.DriverPlugin`, whatever its own Config is."""

    @property
    def Config(self) -> object:  # noqa: N802 - the name of the plugin's class
        """The pydantic model of the plugin's own section."""
        ...

    def parse_address(self, text: str) -> Address:
        """Read one address."""
        ...

    def check_url(self, url: str) -> None:
        """Refuse what is no URL of this driver."""
        ...


def check_driver(
    driver: DriverClass,
    *,
    addresses: Mapping[str, tuple[Scalar, int]],
    not_addresses: Sequence[str],
    urls: Sequence[str],
    not_urls: Sequence[str],
) -> None:
    """Check that a driver keeps the contract of :class:`edge_opcua.core.ports.DriverPlugin`.

    Args:
        driver: The plugin class.
        addresses: Addresses it can read, with the type and the length they declare.
        not_addresses: Texts that are no address of this driver.
        urls: URLs by which a device can be reached.
        not_urls: URLs by which none can be reached.

    Raises:
        AssertionError: It does not; the message says where.
    """
    refuses_unknown = getattr(driver.Config, "model_config", {}).get("extra") == "forbid"
    _demand(refuses_unknown, "its Config takes options it does not know")
    for text, (scalar, length) in addresses.items():
        address = driver.parse_address(text)
        found = (address.scalar, address.length)
        _demand(found == (scalar, length), f"{text}: type and length are {found}, not {(scalar, length)}")
        _demand(isinstance(address.writable, bool), f"{text}: writable is no bool")
        again = driver.parse_address(address.canonical)
        _demand(again.canonical == address.canonical, f"{text}: {address.canonical} is not canonical")
        _demand((again.scalar, again.length) == found, f"{text}: {address.canonical} is another address")
    for text in not_addresses:
        _demand(not _is_address(driver, text), f"{text!r} was taken for an address")
    for text in _mutants(list(addresses)):
        _is_address(driver, text)  # whatever it is: an address or an AddressError
    for url in urls:
        driver.check_url(url)
    for url in not_urls:
        try:
            driver.check_url(url)
        except ConfigError as exc:
            _demand(bool(str(exc)), f"{url!r} is refused without a reason")
        else:
            raise AssertionError(f"{url!r} was taken for a URL of this driver")


def check_backend(
    backend: type[Backend],
    path: Path,
    *,
    provider: str,
    input_shapes: Mapping[str, Sequence[int]],
    options: Mapping[str, object] | None = None,
) -> None:
    """Check that a backend keeps the contract of :class:`edge_opcua.core.ports.Backend`.

    Args:
        backend: The plugin class.
        path: A model whose outputs depend on its inputs.
        provider: A provider that this machine has.
        input_shapes: Its inputs.
        options: Options of the backend, where it cannot do without.

    Raises:
        AssertionError: It does not; the message says where.
    """
    loaded = backend.load(path, provider=provider, input_shapes=input_shapes, options=options)
    _check_binding(loaded.bind(), input_shapes)
    _check_batches(loaded)
    facts = dict(loaded.describe())
    json.dumps(facts)
    _demand(
        {"provider", "runtime", "load_ms", "accelerated"} <= facts.keys(),
        f"describe tells {list(facts)} only",
    )
    for wrong in ("no-such-provider", ""):
        try:
            backend.load(path, provider=wrong, input_shapes=input_shapes, options=options)
        except ModelError as exc:
            _demand(bool(exc.code), "a ModelError has no code")
        else:
            raise AssertionError(f"provider {wrong!r} was silently replaced by another one")
    try:
        backend.load(
            path.with_name("no-such-model.onnx"),
            provider=provider,
            input_shapes=input_shapes,
            options=options,
        )
    except ModelError:
        return
    raise AssertionError("a missing file was loaded")


def _check_binding(binding: Binding, input_shapes: Mapping[str, Sequence[int]]) -> None:
    """Check the buffers for one sample: that runs use them, and that cancelling is harmless."""
    shapes = {name: list(array.shape) for name, array in binding.inputs.items()}
    _demand(shapes == {name: list(shape) for name, shape in input_shapes.items()}, f"inputs are {shapes}")
    for name, array in (*binding.inputs.items(), *binding.outputs.items()):
        _demand(array.dtype == np.float32, f"{name} is {array.dtype}, not float32")
    _demand(bool(binding.outputs), "the model has no outputs")
    first, repeated = _run_on(binding, 1), _run_on(binding, 1)
    binding.cancel()  # no run is in progress: the next one is not touched
    other = _run_on(binding, 2)
    for name, array in first.items():
        _demand(np.array_equal(array, repeated[name]), f"{name} differs between two runs on the same inputs")
    changed = any(not np.array_equal(array, other[name]) for name, array in first.items())
    _demand(changed, "the outputs do not follow the inputs: are the bound buffers used?")


def _check_batches(backend: Backend) -> None:
    """Check that samples judged together are judged as each alone, and bindings do not disturb others."""
    for wrong in (0, backend.most + 1):
        try:
            backend.bind(wrong)
        except ModelError as exc:
            _demand(exc.code == "M536", f"{wrong} samples are refused with {exc.code}, not M536")
        else:
            raise AssertionError(f"a batch of {wrong} samples was bound; most is {backend.most}")
    many, one = backend.bind(min(backend.most, 3)), backend.bind()
    _demand(
        (many.batch, one.batch) == (min(backend.most, 3), 1), "a binding tells another batch than asked for"
    )
    together = _run_on(many, 3)
    for row in range(many.batch):
        for name, array in one.inputs.items():
            array[...] = many.inputs[name][row : row + 1] if backend.most > 1 else many.inputs[name]
        one.run()
        for name, array in one.outputs.items():
            found = together[name][row : row + 1] if backend.most > 1 else together[name]
            _demand(
                array.shape == found.shape, f"{name} has shape {found.shape} for one of {many.batch} samples"
            )
            _demand(
                np.allclose(array, found, rtol=1e-3, atol=1e-4),
                f"{name} of a sample depends on the samples beside it",
            )
    for name, array in many.outputs.items():
        _demand(
            np.array_equal(array, together[name]), f"{name} of one binding was changed by a run of another"
        )


def _run_on(binding: Binding, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Run on random inputs; the outputs must arrive in the buffers that were given out before."""
    generator = np.random.default_rng(seed)
    buffers = dict(binding.outputs)
    for array in binding.inputs.values():
        array[...] = generator.random(array.shape, np.float32)
    for array in buffers.values():
        array[...] = np.nan
    binding.run()
    for name, array in buffers.items():
        _demand(array is binding.outputs[name], f"{name} is another buffer after a run")
        _demand(bool(np.isfinite(array).all()), f"{name} was not written by a run")
    return {name: array.copy() for name, array in buffers.items()}


def _is_address(driver: DriverClass, text: str) -> bool:
    try:
        driver.parse_address(text)
    except AddressError as exc:
        _demand(bool(str(exc)), f"{text!r} is refused without a reason")
        return False
    return True


def _mutants(texts: Sequence[str]) -> list[str]:
    """Return spoilt addresses, the same ones in each run."""
    dice = random.Random(7)  # noqa: S311 - repeatable, not secret
    mutants = []
    for text in itertools.chain.from_iterable(itertools.repeat(texts, _MUTANTS_PER_ADDRESS)):
        letters = list(text)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(letters) + 1)
            letters[at : at + dice.randint(0, 2)] = dice.choices(_ALPHABET, k=dice.randint(0, 3))
        mutants.append("".join(letters))
    return mutants


def _demand(kept: bool, otherwise: str) -> None:  # noqa: FBT001 - reads like assert, which python -O removes
    if not kept:
        raise AssertionError(otherwise)


class _ManualTimer:
    """What :meth:`ManualClock.call_later` calls, until it is cancelled."""

    def __init__(self, future: asyncio.Future[None], call: Callable[[], None]) -> None:
        self._future = future
        self._call: Callable[[], None] | None = call

    def expire(self, _: asyncio.Future[None]) -> None:
        if self._call is not None:
            self._call()

    def cancel(self) -> None:
        self._call = None
        self._future.cancel()


class ManualClock:
    """A clock that stands still until :meth:`advance`; passes wherever a ``Clock`` is asked for.

    Args:
        monotonic_s: First monotonic reading, seconds.
        utc_ns: First UTC reading, ns since 1970-01-01.
    """

    def __init__(self, *, monotonic_s: float = 1_000.0, utc_ns: int = 1_700_000_000_000_000_000) -> None:
        self._monotonic_ns = round(monotonic_s * 1e9)
        self._utc_ns = utc_ns
        self._suspended_ns = 0
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def monotonic_ns(self) -> int:
        """See :class:`edge_opcua.core.clock.Clock`."""
        return self._monotonic_ns

    def monotonic_s(self) -> float:
        """See :class:`edge_opcua.core.clock.Clock`."""
        return self._monotonic_ns / 1e9

    def boottime_ns(self) -> int:
        """See :class:`edge_opcua.core.clock.Clock`."""
        return self._monotonic_ns + self._suspended_ns

    def utc_ns(self) -> int:
        """See :class:`edge_opcua.core.clock.Clock`."""
        return self._utc_ns

    @property
    def sleepers(self) -> int:
        """Tasks that wait in :meth:`sleep` now."""
        return sum(not future.done() for _, _, future in self._sleepers)

    def set_utc_ns(self, utc_ns: int) -> None:
        """Set the wall clock, as an operator or NTP would; monotonic time does not move."""
        self._utc_ns = utc_ns

    def suspend(self, duration_s: float) -> None:
        """Let the machine sleep: only monotonic time stands still."""
        asleep_ns = round(duration_s * 1e9)
        self._suspended_ns += asleep_ns
        self._utc_ns += asleep_ns

    async def sleep(self, delay_s: float) -> None:
        """Wait until :meth:`advance` has moved the clock by ``delay_s`` seconds; 0 only yields."""
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        await self._sleeper(delay_s)

    def _sleeper(self, delay_s: float) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        until_ns = self._monotonic_ns + round(delay_s * 1e9)
        heapq.heappush(self._sleepers, (until_ns, next(self._order), future))
        return future

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call something once :meth:`advance` has moved the clock by ``delay_s`` seconds."""
        future = self._sleeper(max(0.0, delay_s))
        timer = _ManualTimer(future, call)
        future.add_done_callback(timer.expire)
        return timer

    async def wait(self, event: asyncio.Event, delay_s: float) -> bool:
        """Wait until an event is set or :meth:`advance` has moved the clock by ``delay_s`` seconds."""
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(event.wait()), tasks.create_task(self.sleep(delay_s))]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for each in waits:
                each.cancel()
        return event.is_set()

    def step(self, delay_s: float) -> None:
        """Move both clocks without waking anybody (for code that is not async)."""
        delay_ns = round(delay_s * 1e9)
        self._monotonic_ns += delay_ns
        self._utc_ns += delay_ns

    async def advance(self, delay_s: float) -> None:
        """Move both clocks, stopping at each sleeper on the way so that it sees its own time.

        A task woken on the way gets to run, and may sleep again within the same advance.
        """
        await self._settle()
        end_ns = self._monotonic_ns + round(delay_s * 1e9)
        while self._sleepers and self._sleepers[0][0] <= end_ns:
            until_ns, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self.step((until_ns - self._monotonic_ns) / 1e9)
            future.set_result(None)
            await self._settle()
        self.step((end_ns - self._monotonic_ns) / 1e9)
        await self._settle()

    @staticmethod
    async def _settle() -> None:
        """Let every task that is ready run, and those which they wake."""
        for _ in range(20):
            await asyncio.sleep(0)

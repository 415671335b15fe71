"""The seams plugins fill: what a driver and an inference backend must offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import GOOD, Scalar

if TYPE_CHECKING:
    from pydantic import BaseModel


class Address(Protocol):
    """Where a tag lies in its device, as a driver read it from the tag table."""

    @property
    def scalar(self) -> Scalar:
        """Type of the value, or of one element."""
        ...

    @property
    def length(self) -> int:
        """0 for a scalar; elements of an array, bytes of a string."""
        ...

    @property
    def writable(self) -> bool:
        """Whether the area can be written at all."""
        ...

    @property
    def canonical(self) -> str:
        """The address in its one canonical spelling, as ``check`` prints it."""
        ...


class DriverPlugin(Protocol):
    """Entry point of group ``edge_opcua.drivers``: the class that config and io look up by name."""

    Config: ClassVar[type[BaseModel]]

    @classmethod
    def parse_address(cls, text: str) -> Address:
        """Read one address; AddressError with a hint if it does not follow the grammar."""
        ...

    @classmethod
    def check_url(cls, url: str) -> None:
        """ConfigError if no device of this driver can be reached by the URL."""
        ...


class Area(Protocol):
    """Where a run of 16-bit words begins that a device shares with us."""

    @property
    def canonical(self) -> str:
        """The area in its one spelling, which a device's ``write_bytes`` takes."""
        ...

    @property
    def most_words(self) -> int:
        """How many words one request can write."""
        ...

    @property
    def writable(self) -> bool:
        """Whether its words can be written; the words of the PLC are only read."""
        ...

    def words(self, first: int, count: int) -> str:
        """Return the address of some of its words, as an array of unsigned integers; 0: of one alone."""
        ...

    def bit(self, word: int, bit: int) -> str:
        """Return the address of one bit of one of its words; bit 0 is the least significant."""
        ...

    def touches(self, words: int, address: Address) -> bool:
        """Return whether any part of an address of the same device lies in so many words."""
        ...

    def holds(self, address: Address, word: int, bit: int | None = None) -> bool:
        """Return whether an address of the same device is exactly this word, or this bit of it."""
        ...


@runtime_checkable
class AreaPlugin(Protocol):
    """A driver whose devices have areas of words."""

    def parse_area(self, text: str, url: str, options: Mapping[str, Any]) -> Area:
        """Read where an area begins, e.g. ``DB21`` or ``hr:200``; AddressError if that is nowhere.

        Args:
            text: As it stands in the configuration.
            url: URL of the device, for what the text leaves open.
            options: Options of the device.
        """
        ...


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """What a device really did with a write.

    Args:
        status: OPC UA StatusCode (architecture §4): Good only after the value was read back.
        reason: One sentence for people; empty when Good.
        old: Value that the device was seen to hold before, for the record; None: not known.
    """

    status: int = GOOD
    reason: str = ""
    old: Any = field(default=None, compare=False)


class Binding(Protocol):
    """Buffers of one loaded model for one number of samples, and the runs on them; belongs to one thread."""

    @property
    def batch(self) -> int:
        """Samples of one run: the first axis of every buffer."""
        ...

    @property
    def inputs(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Bound input buffers by name; write into them, then :meth:`run`."""
        ...

    @property
    def outputs(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Bound output buffers by name; valid until the next :meth:`run`."""
        ...

    def run(self) -> None:
        """Run the model once; ModelError M532 if it fails, M535 if it was cancelled."""
        ...

    def cancel(self) -> None:
        """Let the run in progress end as soon as the runtime can, called from another thread.

        Nothing happens if none is in progress, or if the runtime cannot: then the run ends by itself.
        """
        ...


class Backend(Protocol):
    """Entry point of group ``edge_opcua.backends``: one loaded model, from which bindings are made."""

    Options: ClassVar[type[BaseModel]]
    """What ``options`` of a pipeline may hold; the configuration is checked against it."""

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        provider: str,
        input_shapes: Mapping[str, Sequence[int]],
        options: Mapping[str, Any] | None = None,
        cache: Path | None = None,
        load_s: float | None = None,
    ) -> Backend:
        """Load a model file by path; ModelError if it cannot run on exactly this provider.

        Args:
            path: The ONNX file.
            provider: Where it shall run.
            input_shapes: Shape of each input for one sample, float32; the first axis is 1.
            options: Options of the backend from the configuration.
            cache: Folder for what takes long to make again (engines); None keeps nothing.
            load_s: Longest time to load it (s), as far as the runtime can be stopped meanwhile; then it is
                refused (M561). None: as long as it takes.
        """
        ...

    @property
    def most(self) -> int:
        """Largest number of samples of one run; 1 where the first axis of the model is fixed."""
        ...

    def bind(self, batch: int = 1) -> Binding:
        """Return new buffers for so many samples; ModelError M536 if the model does not take them."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Return for ``status``: ``provider``, ``runtime``, ``load_ms`` and ``accelerated``.

        ``accelerated`` is the share of the model's nodes, 0..1, that run on what was asked for.
        """
        ...

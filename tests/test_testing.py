"""The public contract tests: our own plugins keep them, and a plugin that does not is found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from edge_opcua.core.values import Scalar
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.s7 import S7Driver
from edge_opcua.errors import AddressError, ModelError
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.testing import check_backend, check_driver
from tests.inference.models import DELIVERED

FEATURES = {"features": (1, 13)}


def test_the_modbus_driver_keeps_the_contract() -> None:
    check_driver(
        ModbusDriver,
        addresses={
            "1/hr:100:REAL": (Scalar.FLOAT, 0),
            "hr:0:WORD": (Scalar.UINT16, 0),
            "3/hr:20.4": (Scalar.BOOLEAN, 0),
            "1/hr:100:INT[2000]": (Scalar.INT16, 2000),
            "1/hr:200:STRING[20];order=LH": (Scalar.STRING, 40),
        },
        not_addresses=["", "hr", "xx:7", "hr:70000:REAL", "DB1.DBD0:REAL"],
        urls=["modbus://10.0.0.1", "modbus://host:1502/7"],
        not_urls=["", "s7://10.0.0.1", "modbus://"],
    )


def test_the_s7_driver_keeps_the_contract() -> None:
    check_driver(
        S7Driver,
        addresses={
            "DB10.DBD16:REAL": (Scalar.FLOAT, 0),
            "db10.dbx10.3": (Scalar.BOOLEAN, 0),
            "DB10:38:STRING[16]": (Scalar.STRING, 32),
            "DB1.DBD0:REAL[8]": (Scalar.FLOAT, 8),
        },
        not_addresses=["", "DB10", "DB10.DBD16", "hr:0:INT"],
        urls=["s7://10.0.0.1?rack=0&slot=1"],
        not_urls=["", "modbus://10.0.0.1", "s7://"],
    )


def test_the_onnx_runtime_backend_keeps_the_contract() -> None:
    check_backend(OnnxRuntimeBackend, DELIVERED / "model.onnx", provider="cpu", input_shapes=FEATURES)


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LooseOptions(BaseModel):
    pass


class Place:
    writable = True

    def __init__(self, text: str, scalar: Scalar = Scalar.INT16) -> None:
        self.canonical = text
        self.scalar = scalar
        self.length = 0


class Sound:
    Config: Any = Options

    @classmethod
    def parse_address(cls, text: str) -> Any:
        if not text.isdecimal():
            raise AddressError(f"{text} is no number")
        return Place(str(int(text)))

    @classmethod
    def check_url(cls, url: str) -> None:
        if not url.startswith("x://"):
            raise AddressError("not x")


class TakesAnyOption(Sound):
    Config = LooseOptions


class Careless(Sound):
    @classmethod
    def parse_address(cls, text: str) -> Any:
        return Place(str(int(text)))  # ValueError instead of AddressError


class Trusting(Sound):
    @classmethod
    def parse_address(cls, text: str) -> Any:
        return Place(text)


class Fickle(Sound):
    @classmethod
    def parse_address(cls, text: str) -> Any:
        place = super().parse_address(text)
        place.canonical = str(int(text) + 1)
        return place


class Mute(Sound):
    @classmethod
    def check_url(cls, url: str) -> None:
        if not url.startswith("x://"):
            raise AddressError("")


class TakesAnyUrl(Sound):
    @classmethod
    def check_url(cls, url: str) -> None:
        pass


def check(driver: Any) -> None:
    check_driver(
        driver,
        addresses={"7": (Scalar.INT16, 0), "007": (Scalar.INT16, 0)},
        not_addresses=["seven"],
        urls=["x://a"],
        not_urls=["y://a"],
    )


def test_a_sound_driver_passes() -> None:
    check(Sound)


@pytest.mark.parametrize(
    ("driver", "error"),
    [
        (TakesAnyOption, "options it does not know"),
        (Trusting, "taken for an address"),
        (Fickle, "not canonical"),
        (Mute, "without a reason"),
        (TakesAnyUrl, "taken for a URL"),
    ],
)
def test_a_driver_that_breaks_the_contract_is_found_out(driver: Any, error: str) -> None:
    with pytest.raises(AssertionError, match=error):
        check(driver)


def test_a_driver_that_lets_other_exceptions_through_is_found_out() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        check(Careless)


class Doubling:
    """Buffers of a :class:`Doubler` and the runs on them."""

    def __init__(self, made_by: type[Doubler], shapes: Mapping[str, Sequence[int]], batch: int) -> None:
        self.kind = made_by
        self.batch = batch
        self.inputs = {name: np.zeros((batch, *shape[1:]), np.float32) for name, shape in shapes.items()}
        self.outputs = {"y": np.zeros((batch, 13), np.float32)}
        self.cancelled = False

    def run(self) -> None:
        if self.cancelled and self.kind.stuck:
            raise ModelError("the run was cancelled", code="M535")
        if self.kind.fresh:
            self.outputs = {"y": np.zeros((self.batch, 13), np.float32)}
        x = self.inputs["features"]
        y = np.ones_like(x) if self.kind.deaf else 2 * x
        self.outputs["y"][...] = y - y.mean(axis=0) + y[0] if self.kind.mixing else y

    def cancel(self) -> None:
        self.cancelled = True


class Doubler:
    """A backend in numpy: y = 2 x."""

    Options: ClassVar[type[BaseModel]] = Options

    fresh = False
    deaf = False
    lenient = False
    stuck = False
    mixing = False
    boundless = False
    most = 4

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self.shapes = shapes

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
    ) -> Doubler:
        if provider != "cpu" and not cls.lenient:
            raise ModelError("no such provider", code="M521")
        if not path.exists():
            raise ModelError("no such file", code="M510")
        return cls(input_shapes)

    def bind(self, batch: int = 1) -> Doubling:
        if not 1 <= batch <= self.most and not self.boundless:
            raise ModelError("too many", code="M536")
        return Doubling(type(self), self.shapes, batch)

    def describe(self) -> dict[str, Any]:
        return {"provider": "cpu", "runtime": "numpy", "load_ms": 0.0, "accelerated": 1.0}


class NewBuffers(Doubler):
    fresh = True


class Deaf(Doubler):
    deaf = True


class Lenient(Doubler):
    lenient = True


class StaysCancelled(Doubler):
    stuck = True


class Mixing(Doubler):
    mixing = True


class Boundless(Doubler):
    boundless = True


class Silent(Doubler):
    def describe(self) -> dict[str, Any]:
        return {"provider": "cpu"}


@pytest.mark.parametrize(
    ("backend", "error"),
    [
        (NewBuffers, "another buffer"),
        (Deaf, "do not follow"),
        (Lenient, "silently replaced"),
        (Mixing, "depends on the samples beside it"),
        (Boundless, "a batch of 0 samples was bound"),
        (Silent, "describe tells"),
    ],
)
def test_a_backend_that_breaks_the_contract_is_found_out(backend: Any, error: str) -> None:
    check_backend(Doubler, DELIVERED, provider="cpu", input_shapes=FEATURES)
    with pytest.raises(AssertionError, match=error):
        check_backend(backend, DELIVERED, provider="cpu", input_shapes=FEATURES)


def test_a_backend_whose_next_run_is_cancelled_instead_of_none_is_found_out() -> None:
    with pytest.raises(ModelError, match="cancelled"):
        check_backend(StaysCancelled, DELIVERED, provider="cpu", input_shapes=FEATURES)

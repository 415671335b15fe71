"""Which versions of a model may judge when time is short, and what happens when the likeliest is not fit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.core.clock import SystemClock
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.compressed import Compressed
from edge_opcua.inference.family import faster_versions, original_of
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.readiness import Readiness, Wanted
from edge_opcua.inference.repository import ModelFiles
from edge_opcua.inference.schedule.costs import CostTable
from tests.inference.line import Line, delivered

FIRST = delivered(1).manifest


def version(number: int, ratio: float, **changed: Any) -> Manifest:
    """Return the manifest of a variant that takes this share of what version 1 takes."""
    known = Compressed(FIRST.sha256, "proved", "cpu", ratio, ratio * 1.1)
    made = replace(FIRST, version=number, sha256=f"{number:064}", compressed=known)
    own = {name: changed.pop(name) for name in ("name",) if name in changed}
    return replace(made, compressed=replace(known, **changed), **own)


def chosen(running: Manifest, *others: Manifest, provider: str = "cpu") -> list[int]:
    return [each.version for each in faster_versions(running, others, provider)]


def test_the_fastest_version_that_was_made_of_the_same_model_comes_first() -> None:
    assert chosen(FIRST, FIRST, version(2, 0.5), version(3, 0.3), version(4, 0.8)) == [3, 2, 4]


@pytest.mark.parametrize(
    "other",
    [
        version(2, 0.5, verdict="not proved"),
        version(2, 0.5, verdict="failed"),
        version(2, 0.5, of_sha256="f" * 64),
        version(2, 0.5, provider="cuda"),
        version(2, 0.95),  # the interval reaches beyond 1: perhaps it is not faster
        version(2, 0.5, name="another"),
        replace(FIRST, version=2),
    ],
)
def test_what_is_not_proved_not_faster_or_no_relative_is_not_taken(other: Manifest) -> None:
    assert chosen(FIRST, other) == []


def test_a_variant_that_runs_is_replaced_by_faster_ones_of_its_family_only() -> None:
    family = (FIRST, version(2, 0.5), version(3, 0.3), version(4, 0.48), version(5, 0.8))
    assert chosen(version(2, 0.5), *family) == [3]
    assert chosen(version(3, 0.3), *family) == []
    assert original_of(version(3, 0.3)) == original_of(FIRST)


def test_what_was_measured_elsewhere_says_nothing_about_the_version_that_runs() -> None:
    assert chosen(version(2, 0.5), version(3, 0.3, provider="cuda"), provider="cuda") == []


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line(SystemClock())
    yield made
    made.close()


@pytest.fixture
def readiness(line: Line) -> Readiness:
    return Readiness(line.bus, SystemClock(), CostTable())


class Slow:
    """A backend each of whose runs takes longer."""

    def __init__(self, real: OnnxRuntimeBackend, most_s: float) -> None:
        self._real = real
        self._most_s = most_s
        self.most = real.most

    def bind(self, batch: int = 1) -> Any:
        return SlowBinding(self._real.bind(batch), self._most_s)

    def describe(self) -> Mapping[str, Any]:
        return self._real.describe()


class SlowBinding:
    def __init__(self, real: Any, most_s: float) -> None:
        self._real = real
        self._most_s = most_s
        self.batch, self.inputs, self.outputs = real.batch, real.inputs, real.outputs

    def run(self) -> None:
        time.sleep(self._most_s)
        self._real.run()

    def cancel(self) -> None:
        self._real.cancel()


def slow(*folders: Path) -> Any:
    def load(path: Path, **given: Any) -> Any:
        real = OnnxRuntimeBackend.load(path, **given)
        return Slow(real, 0.002) if path.parent in folders else real

    return load


def wanted(line: Line, *spares: ModelFiles, slowed: tuple[ModelFiles, ...] = ()) -> Wanted:
    made = line.lane(delivered(1)).wanted
    return replace(made, spares=spares, load_backend=slow(*(each.folder for each in slowed)))


def test_a_spare_that_is_faster_here_answers_as_well(line: Line, readiness: Readiness) -> None:
    main, spare = delivered(1), delivered(2)
    ready = readiness.prepare(wanted(line, spare, slowed=(main,)))
    assert [model.manifest.version for model in ready.models] == [1, 2]
    assert ready.facts["cheaper_version"] == 2
    assert list(ready.facts["costs"]) == ["press-anomaly/1", "press-anomaly/2"]


def test_a_spare_that_is_not_faster_here_is_left_out_and_the_pipeline_is_served(
    line: Line, readiness: Readiness, capsys: pytest.CaptureFixture[str]
) -> None:
    spare = delivered(2)
    ready = readiness.prepare(wanted(line, spare, slowed=(spare,)))
    assert [model.manifest.version for model in ready.models] == [1]
    assert ready.facts["cheaper_version"] == 0
    assert list(readiness.models) == ["press-anomaly/1"]
    assert "M694" in capsys.readouterr().out


def test_a_spare_that_cannot_be_served_makes_room_for_the_next_one(
    line: Line, readiness: Readiness, tmp_path: Path
) -> None:
    broken = replace(delivered(2), folder=tmp_path)  # nothing is there
    ready = readiness.prepare(wanted(line, broken, delivered(2), slowed=(delivered(1),)))
    assert [model.manifest.version for model in ready.models] == [1, 2]


def test_a_pipeline_says_that_it_has_no_spare_only_if_it_asked_for_one(
    line: Line, readiness: Readiness
) -> None:
    assert readiness.prepare(wanted(line)).facts["cheaper_version"] == 0
    assert "cheaper_version" not in readiness.prepare(replace(wanted(line), spares=None)).facts

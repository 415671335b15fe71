"""A remote model in the engine of a lane, beside one that runs here; and proven as any other model is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from edge_opcua.core.clock import SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.features.stroke import Feature, StrokeFeatures
from edge_opcua.inference.backends.remote import RemoteBackend
from edge_opcua.inference.loaded import LoadedModel
from edge_opcua.inference.measure import measure
from edge_opcua.inference.model import ServedModel, prove
from edge_opcua.inference.repository import verify
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Fate
from tests.inference import enginemodels
from tests.inference.models import DELIVERED
from tests.inference.remote.server import V2Server
from tests.inference.test_engine_workers import request, running, wait_for

CLOCK = SystemClock()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[V2Server]:
    folder = tmp_path / "far" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(enginemodels.graph_of([helper.make_node("Add", ["x", "x"], ["y"])]))
    models = {
        ("far", "1"): folder / "model.onnx",
        ("press-anomaly", "1"): DELIVERED / "model.onnx",
        ("press-anomaly", "2"): DELIVERED.with_name("2") / "model.onnx",
    }
    with V2Server(models).running() as made:
        yield made


def far(server: V2Server, **options: Any) -> LoadedModel:
    backend = RemoteBackend.load(
        server.models["far", "1"],
        provider="remote",
        input_shapes={"x": (1, enginemodels.SIZE)},
        options={"url": server.url, "timeout_ms": 300, **options},
    )
    return LoadedModel("far/1", backend, "x", enginemodels.SIZE)


def test_requests_are_answered_in_batches_from_the_server(server: V2Server) -> None:
    model, costs = far(server), CostTable()
    assert model.is_remote
    for batch, times_ns in measure(model, CLOCK, 8).items():
        costs.seed(model.key, batch, times_ns)
    with running(model, costs=costs) as engine:
        asked = [request(model.key, [n] * 4) for n in range(40)]
        for each in asked:
            assert engine.submit(each)
        wait_for(engine, len(asked))
    for n, each in enumerate(asked):
        assert (each.fate, each.ran) == (Fate.DONE, "far/1")
        assert each.answers["y"].tolist() == [2.0 * n] * 4


def test_a_silent_server_fails_its_own_requests_by_their_deadline_and_nobody_elses(
    server: V2Server, tmp_path: Path
) -> None:
    model, near = (
        far(server, timeout_ms=10_000, fail_after=2, retry_first_s=60),
        enginemodels.doubling(tmp_path),
    )
    with running(model, near, workers=2) as engine:
        assert engine.submit(request(model.key))
        assert wait_for(engine, 1)[0].fate is Fate.DONE
        server.say.spoil = lambda whole: [30.0]
        for _ in range(2):
            lost = request(model.key, within_s=0.25)
            beside = [request(near.key, [n] * 4) for n in range(20)]
            for each in (lost, *beside):
                assert engine.submit(each)
            wait_for(engine, 21)
            assert all(each.fate is Fate.DONE for each in beside)
            assert lost.fate is Fate.FAILED
            assert lost.ended_ns - lost.arrived_ns < 1_500_000_000  # not the ten seconds of the time-out
        # The engine ended both runs, not our own time-out; the server is left alone all the same.
        refused = request(model.key, within_s=0.25)
        assert engine.submit(refused)
        wait_for(engine, 1)
        assert (refused.fate, refused.code) == (Fate.FAILED, "M572")


def test_the_servers_model_is_proven_on_the_reference_samples_that_lie_here(server: V2Server) -> None:
    files = verify(DELIVERED)
    manifest = files.manifest
    extractor = StrokeFeatures(
        sample_count=manifest.sample_count,
        sample_rate_hz=manifest.sample_rate_hz,
        unit=manifest.waveform_unit,
        context=[Feature(feature.name, feature.unit) for feature in manifest.context],
    )
    load = partial(
        RemoteBackend.load,
        files.model,
        provider="remote",
        input_shapes={manifest.input_name: (1, len(manifest.features))},
    )
    url = {"url": server.url, "timeout_ms": 2000}
    assert prove(ServedModel(manifest, load(options=url), "press-anomaly/1"), files.golden, extractor) > 0
    # Another model of the same shape under the wanted name would pass every other check.
    another = ServedModel(manifest, load(options={**url, "version": "2"}), "press-anomaly/1")
    with pytest.raises(ModelError) as caught:
        prove(another, files.golden, extractor)
    assert caught.value.code == "M512"

"""Every way to run a model on a GPU against the processor: opt in by ``-m hardware``; see README.md."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from edge_opcua.bench.inference.models import INPUT, BenchModel
from edge_opcua.core.ports import Backend
from edge_opcua.testing import check_backend
from tests.gpu.models import TOLERANCE, built, difference
from tests.gpu.places import PLACES, PROCESSOR, Place, why_not
from tests.inference.models import DELIVERED

pytestmark = [pytest.mark.hardware, pytest.mark.timeout(900)]

KEYS = ("mlp", "autoencoder", "vibration", "half", "int8")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BenchModel]:
    return built(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=PLACES, ids=str)
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.param
    if reason := why_not(found):
        pytest.skip(f"{found}: {reason}")
    return found


def answers(backend: Backend, model: BenchModel, batch: int) -> dict[str, np.ndarray]:
    """Run the same samples everywhere."""
    binding = backend.bind(min(batch, backend.most))
    for row in range(binding.batch):
        binding.inputs[INPUT][row] = model.sample(row).reshape(model.shape)
    binding.run()
    return {name: array.copy() for name, array in binding.outputs.items()}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("batch", [1, 5, 32])
def test_the_answers_are_those_of_the_processor(
    place: Place, models: dict[str, BenchModel], cache: Path, key: str, batch: int
) -> None:
    model = models[key]
    shapes = {INPUT: (1, *model.shape)}
    backend = place.load(model.path, shapes, cache)
    wanted = answers(PROCESSOR.load(model.path, shapes), model, batch)
    assert difference(answers(backend, model, batch), wanted) < TOLERANCE.get(key, 1e-3)
    assert backend.describe()["accelerated"] == 1.0


def test_the_contract_of_backends_is_kept(place: Place, models: dict[str, BenchModel]) -> None:
    model = models["mlp"]
    check_backend(place.kind(), model.path, provider=place.provider, input_shapes={INPUT: (1, *model.shape)})


def test_the_golden_samples_of_the_example_come_out(place: Place, cache: Path) -> None:
    golden = np.load(DELIVERED / "golden.npz")
    binding = place.load(DELIVERED / "model.onnx", {"features": (1, 13)}, cache).bind()
    for row, score in zip(golden["features"], golden["score"], strict=True):
        binding.inputs["features"][:] = row
        binding.run()
        np.testing.assert_allclose(binding.outputs["score"].ravel(), score, rtol=1e-3, atol=1e-4)


def test_a_second_load_takes_what_the_first_one_has_kept(
    place: Place, models: dict[str, BenchModel], tmp_path: Path
) -> None:
    model = models["vibration"]
    shapes = {INPUT: (1, *model.shape)}
    first = answers(place.load(model.path, shapes, tmp_path), model, 8)
    kept = {path: path.stat().st_size for path in tmp_path.rglob("*.engine")}
    second = answers(place.load(model.path, shapes, tmp_path), model, 8)
    assert difference(second, first) < 1e-5
    assert {path: path.stat().st_size for path in tmp_path.rglob("*.engine")} == kept
    assert kept or place.provider != "tensorrt"


def test_two_bindings_run_in_two_threads_and_each_gets_its_own_answers(
    place: Place, models: dict[str, BenchModel], cache: Path
) -> None:
    model = models["autoencoder"]
    shapes = {INPUT: (1, *model.shape)}
    backend, processor = place.load(model.path, shapes, cache), PROCESSOR.load(model.path, shapes).bind()
    wrong: list[float] = []

    def work(seed: int) -> None:
        binding = backend.bind()
        for number in range(100):
            binding.inputs[INPUT][0] = model.sample(seed + number)
            binding.run()
            with lock:
                processor.inputs[INPUT][0] = model.sample(seed + number)
                processor.run()
                wrong.append(difference(dict(binding.outputs), dict(processor.outputs)))

    lock = threading.Lock()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 200
    assert max(wrong) < 1e-3


def test_bindings_give_back_the_memory_of_the_gpu(models: dict[str, BenchModel], cache: Path) -> None:
    native = Place("tensorrt", "tensorrt")
    if reason := why_not(native):
        pytest.skip(reason)
    from cuda.bindings import runtime

    model = models["vibration"]
    backend = native.load(model.path, {INPUT: (1, *model.shape)}, cache)
    free = []
    for _ in range(50):
        backend.bind(32).run()
        free.append(runtime.cudaMemGetInfo()[1])
    assert free[5] - free[-1] < 8 << 20


def test_a_run_recorded_as_a_graph_answers_as_one_that_is_not(
    models: dict[str, BenchModel], cache: Path
) -> None:
    native = Place("tensorrt", "tensorrt")
    if reason := why_not(native):
        pytest.skip(reason)
    model = models["vibration"]
    found = []
    for recorded in (True, False):
        backend = native.kind().load(
            model.path,
            provider="tensorrt",
            input_shapes={INPUT: (1, *model.shape)},
            options={"cuda_graph": recorded},
            cache=cache,
        )
        assert backend.bind().is_recorded is recorded  # type: ignore[attr-defined]
        found.append(answers(backend, model, 4))
    assert difference(found[0], found[1]) == 0.0


def test_the_interpreter_is_free_while_the_gpu_works(
    place: Place, models: dict[str, BenchModel], cache: Path
) -> None:
    """Another thread counts; were the interpreter held, it would stand still for the whole of every run."""
    model = models["vibration"]
    binding = place.load(model.path, {INPUT: (1, *model.shape)}, cache).bind(32)
    counted, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    for _ in range(200):
        binding.run()
    stop.set()
    thread.join()
    assert counted[0] > 10_000

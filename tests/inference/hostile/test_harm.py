"""Models that do harm, run by the real ONNX Runtime beside one that does not: whose results do not change."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge_opcua.core import realtime
from edge_opcua.core.clock import SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.loaded import LoadedModel
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Fate, LaneClass, Request
from tests.inference.hostile.models import (
    Attack,
    alone,
    chain,
    endless,
    folding_bomb,
    greedy,
    hostile_image,
    hostile_version,
    lying_output,
    lying_weights,
    not_a_number,
    peaceful,
    stuck,
    wide_output,
)
from tests.inference.models import DELIVERED

MS = 1_000_000
GOOD, BAD = "good/1", "bad/1"
ROW = np.arange(13, dtype=np.float32)


def loaded(folder: Path, key: str, image: bytes) -> LoadedModel:
    path = folder / f"{key.replace('/', '-')}.onnx"
    path.write_bytes(image)
    backend = OnnxRuntimeBackend.load(path, provider="cpu", input_shapes={"features": (1, 13)})
    return LoadedModel(key, backend, "features", 13)


@contextmanager
def engine(folder: Path, attack: Attack, *, workers: int) -> Iterator[Engine]:
    """Run a good and a bad model; both were measured at 0.1 ms, before one of them turned bad."""
    costs = CostTable()
    models = {GOOD: loaded(folder, GOOD, peaceful()), BAD: loaded(folder, BAD, alone(attack))}
    for key in models:
        costs.seed(key, 1, [100_000] * 8)
    running = Engine(models, costs, SystemClock(), workers=workers)
    running.start()
    try:
        yield running
    finally:
        running.close()


def request(key: str, *, within_ms: int = 5000) -> Request:
    now_ns = time.monotonic_ns()
    return Request(key, LaneClass.REALTIME, now_ns, now_ns + within_ms * MS, ROW)


def ended(running: Engine, wanted: Request, *, within_s: float = 10.0) -> None:
    """Turn the engine until a request has ended."""
    ends = time.monotonic() + within_s
    while not any(one is wanted for one in running.turn()):
        assert time.monotonic() < ends, f"{wanted.model} is {wanted.fate}"
        time.sleep(0.001)


def test_a_model_that_never_ends_is_cancelled_and_the_other_answers_meanwhile(tmp_path: Path) -> None:
    with engine(tmp_path, endless, workers=2) as running:
        bad = request(BAD)
        assert running.submit(bad)
        for _ in range(20):  # the bad one holds one worker for a quarter of a second
            good = request(GOOD)
            assert running.submit(good)
            ended_good = time.monotonic() + 5
            done: list[Request] = []
            while good not in done and time.monotonic() < ended_good:
                done += running.turn()
            assert good.fate is Fate.DONE
            assert float(good.answers["score"][0]) == 78.0
        if bad.fate is Fate.WAITING:
            ended(running, bad)
        assert (bad.fate, bad.code) == (Fate.FAILED, "M541")
        assert "it may not take so long" in bad.reason


@pytest.mark.parametrize("attack", [not_a_number, greedy(2**19)], ids=["not a number", "half a terabyte"])
def test_a_model_that_fails_leaves_the_other_in_the_same_process_alone(
    tmp_path: Path, attack: Attack
) -> None:
    with engine(tmp_path, attack, workers=0) as running:
        for _ in range(3):
            bad, good = request(BAD), request(GOOD)
            assert running.submit(bad)
            assert running.submit(good)
            both = [*running.turn(), *running.turn()]
            assert set(map(id, both)) == {id(bad), id(good)}
            assert bad.fate is Fate.FAILED
            assert bad.code == ("M533" if attack is not_a_number else "M532")
            assert (good.fate, float(good.answers["score"][0])) == (Fate.DONE, 78.0)


def test_a_safety_lane_that_is_asked_directly_gets_a_failure_and_goes_on(tmp_path: Path) -> None:
    with engine(tmp_path, endless, workers=0) as running:
        bad = request(BAD)
        running.judge(bad)  # the watching thread ends it
        assert (bad.fate, bad.code) == (Fate.FAILED, "M541")
        good = request(GOOD)
        running.judge(good)
        assert (good.fate, float(good.answers["score"][0])) == (Fate.DONE, 78.0)


def in_child(code: str, folder: Path) -> list[str]:
    """Run in a process of its own: a limit cannot be tried on the process that runs the tests."""
    head = (
        "import sys, time\nfrom pathlib import Path\nimport numpy as np\n"
        "from edge_opcua.errors import ModelError\n"
        "from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend\n"
        "from edge_opcua.inference.memory import MB, Limit, resident_bytes\n"
        "def load(name):\n"
        "    return OnnxRuntimeBackend.load(Path(sys.argv[1]) / name, provider='cpu',\n"
        "                                   input_shapes={'features': (1, 13)})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + code, str(folder)],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_run_beyond_the_limit_fails_the_process_lives_and_its_other_model_answers_as_before(
    tmp_path: Path,
) -> None:
    (tmp_path / "bad.onnx").write_bytes(alone(greedy(512)))
    (tmp_path / "good.onnx").write_bytes(peaceful())
    code = """
good, bad = load("good.onnx").bind(), load("bad.onnx").bind()
good.inputs["features"][:] = bad.inputs["features"][:] = 1.0
good.run()
limit = Limit(keep_free_bytes=0, most_bytes=resident_bytes() + 128 * MB)
limit.renew()
for _ in range(3):
    try:
        bad.run()
    except ModelError as exc:
        print(exc.code)
    good.run()
    print(float(good.outputs["score"].reshape(-1)[0]))
    limit.renew()
print(resident_bytes() < 300 * MB)
"""
    assert in_child(code, tmp_path) == ["M532", "13.0"] * 3 + ["True"]


def test_a_small_file_that_fills_the_memory_while_it_is_loaded_does_not_get_it(tmp_path: Path) -> None:
    image = folding_bomb(512)
    assert len(image) < 300
    (tmp_path / "bomb.onnx").write_bytes(image)
    (tmp_path / "good.onnx").write_bytes(peaceful())
    code = """
good = load("good.onnx").bind()
Limit(keep_free_bytes=0, most_bytes=resident_bytes() + 128 * MB).renew()
try:
    load("bomb.onnx").bind().run()
except ModelError as exc:
    print(exc.code)
good.run()
print(resident_bytes() < 300 * MB)
"""
    assert in_child(code, tmp_path) in (["M510", "True"], ["M532", "True"])


def test_an_output_of_gigabytes_and_samples_of_gigabytes_are_refused_with_what_the_process_may_take(
    tmp_path: Path,
) -> None:
    folder = hostile_version(tmp_path, "wide", wide_output(2**30))
    np.savez_compressed(folder / "golden.npz", score=np.zeros(2**26, np.float32))
    code = """
from edge_opcua.inference.memory import Limit
from edge_opcua.inference.repository import verify
files = verify(Path(sys.argv[1]))
limit = Limit(keep_free_bytes=0, most_bytes=resident_bytes() + 128 * MB)
for attempt in (lambda: load("model.onnx").bind(), lambda: np.load(files.golden)["score"]):
    try:
        with limit.loading(files):
            attempt()
    except ModelError as exc:
        print(exc.code)
print(resident_bytes() < 300 * MB)
"""
    assert in_child(code, folder) == ["M581", "M581", "True"]


def test_weights_that_are_declared_larger_than_they_are_are_refused_by_the_runtime(tmp_path: Path) -> None:
    for dims in ([1000, 4], [2**40, 4], [2**62, 4]):
        with pytest.raises(ModelError) as caught:
            loaded(tmp_path, BAD, lying_weights(dims, bytes(16)))
        assert caught.value.code == "M510"


def test_a_model_that_answers_with_another_shape_than_it_declares_fails_and_breaks_nothing(
    tmp_path: Path,
) -> None:
    binding = loaded(tmp_path, BAD, lying_output()).bind()
    for _ in range(3):
        with pytest.raises(ModelError) as caught:
            binding.judge(ROW)
        assert caught.value.code == "M532"


@pytest.mark.parametrize("image", [lambda: hostile_image(endless), lambda: chain(500)], ids=["calm", "long"])
def test_what_looks_odd_and_does_no_harm_is_served(tmp_path: Path, image: Callable[[], bytes]) -> None:
    binding = loaded(tmp_path, GOOD, image()).bind()
    binding.judge(np.load(DELIVERED / "golden.npz")["features"][0])
    assert np.isfinite(binding.answer["score"]).all()


@pytest.mark.skipif(not realtime._has_capability(23), reason="takes CAP_SYS_NICE")
@pytest.mark.parametrize(
    ("attack", "told"), [(endless, "FAILED M541"), (stuck, "hung")], ids=["loop", "stuck"]
)
def test_a_real_time_lane_that_hangs_on_its_only_processor_is_still_watched(
    tmp_path: Path, attack: Attack, told: str
) -> None:
    # The watching thread goes before it: SCHED_FIFO has no turns, it would never see that processor again.
    (tmp_path / "bad.onnx").write_bytes(alone(attack))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("one_processor.py")), str(tmp_path / "bad.onnx")],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == [told], (done.returncode, done.stderr)

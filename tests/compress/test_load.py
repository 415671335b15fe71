"""Samples out of the files people have: which are taken, which are refused, and how they are split."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua import training
from edge_opcua.app.serving.extractors import complete
from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.samples import archive as samples
from edge_opcua.compress.samples.load import Wanted, load, split
from edge_opcua.compress.tasks.verdict import judge_for
from edge_opcua.errors import ModelError
from edge_opcua.inference.memory import Memory
from edge_opcua.inference.repository import ModelFiles, verify
from tests.training.graphs import classifier, probabilities

WANTED = Wanted("input", (1, 4, 4))
RNG = np.random.default_rng(31)
ROWS = RNG.normal(size=(30, 16)).astype(np.float32)
LABELS = np.arange(30) % 3


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path / "data.npz", **arrays)
    return path / "data.npz"


def text(path: Path, *lines: str) -> Path:
    file = path / "data.csv"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


@pytest.mark.parametrize("name", ["input", "x"])
@pytest.mark.parametrize("shape", [(30, 16), (30, 4, 4), (30, 1, 4, 4)])
def test_an_array_named_like_the_input_or_the_only_one_is_taken_in_the_shape_of_the_input(
    tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    found = load(npz(tmp_path, **{name: ROWS.reshape(shape).astype(np.float64)}, labels=LABELS), WANTED)
    assert found.rows.dtype == np.float32
    np.testing.assert_array_equal(found.rows, ROWS.reshape(30, 1, 4, 4))
    np.testing.assert_array_equal(found.truth, LABELS)
    assert (found.kind, found.origin) == ("labels", "30 samples of data.npz")


def test_targets_have_a_column_each_and_nothing_known_is_none(tmp_path: Path) -> None:
    found = load(npz(tmp_path, x=ROWS, targets=np.arange(30.0)), WANTED)
    assert (found.kind, found.truth.shape) == ("targets", (30, 1))  # type: ignore[union-attr]
    assert load(npz(tmp_path, x=ROWS), WANTED).kind == "none"


def test_labels_may_be_written_as_floats_or_truth_values(tmp_path: Path) -> None:
    for labels in (LABELS.astype(np.float32), LABELS > 0, LABELS[:, None]):
        found = load(npz(tmp_path, x=ROWS, labels=labels), WANTED)
        np.testing.assert_array_equal(found.truth, labels.reshape(-1).astype(np.int64))


def test_one_array_in_a_file_of_its_own_is_taken_too(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    assert load(tmp_path / "rows.npy", WANTED).rows.shape == (30, 1, 4, 4)


def test_an_axis_that_the_model_leaves_open_takes_any_length(tmp_path: Path) -> None:
    for axis in ("time", 0, ""):
        assert load(npz(tmp_path, x=ROWS), Wanted("input", (axis,))).rows.shape == (30, 16)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": ROWS, "b": ROWS}, "which array is the input input. There is a .float32., b .float32."),
        ({"labels": LABELS}, "which array is the input input"),
        ({"x": np.array(["a", "b"])}, "which array is the input input"),
        ({"x": ROWS[:, :15]}, "a sample has 15 values, the input input wants 1 x 4 x 4"),
        ({"x": ROWS[:0]}, "holds no samples"),
        ({"x": np.float32(3)}, "holds no samples"),
        (
            {"x": np.where(np.arange(30)[:, None] % 7 == 3, np.nan, ROWS)},
            "4 of 30 samples .* first: 3, 10, 17, 24",
        ),
        ({"x": np.full((30, 16), 1e300)}, "30 of 30 samples .* what float32 cannot hold"),
        ({"x": ROWS, "labels": LABELS[:-1]}, "labels has to be 30 numbers"),
        ({"x": ROWS, "labels": LABELS + 0.5}, "labels has to be one whole number for each sample"),
        ({"x": ROWS, "labels": LABELS.astype(str)}, "labels has to be 30 numbers"),
        ({"x": ROWS, "labels": np.float64(1)}, "labels has to be 30 numbers"),
        ({"x": ROWS, "targets": np.full(30, np.nan)}, "30 of 30 samples of targets hold NaN"),
        ({"x": ROWS, "labels": LABELS, "targets": LABELS}, "holds both labels and targets"),
    ],
)
def test_samples_that_are_none_for_the_model_are_refused_by_name(
    tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        load(npz(tmp_path, **arrays), WANTED)
    assert caught.value.code == "M673"


def test_a_table_has_a_column_for_each_number_and_perhaps_one_of_labels(tmp_path: Path) -> None:
    found = load(text(tmp_path, "\ufeffa, b,label", "1,2.5,0", "", "-3,4e1,1"), Wanted("input", (2,)))
    np.testing.assert_array_equal(found.rows, [[1, 2.5], [-3, 40]])
    np.testing.assert_array_equal(found.truth, [0, 1])
    found = load(text(tmp_path, "a,target_x,b,target_y", "1,2,3,4", "5,6,7,8"), Wanted("input", (2,)))
    np.testing.assert_array_equal(found.rows, [[1, 3], [5, 7]])
    np.testing.assert_array_equal(found.truth, [[2, 4], [6, 8]])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["a,b", "1,2", "3,x"], 'line 3, b: "x" is no number'),
        (["a,b", "1,2,3"], "line 2: 3 values, not 2"),
        (["a,a", "1,2"], "two columns of one name"),
        (["a,b"], "no rows"),
        ([], "no rows"),
    ],
)
def test_a_table_that_is_none_is_refused_by_line_and_column(
    tmp_path: Path, lines: list[str], said: str
) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        load(text(tmp_path, *lines), Wanted("input", (2,)))
    assert caught.value.code == "M670"


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no zip")
    np.savez(tmp_path / "objects.npz", x=np.array([{}, None], object))
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("text.npz", "objects.npz", "bytes.csv", "missing.npz", "missing.csv"):
        with pytest.raises(ModelError) as caught:
            load(tmp_path / name, WANTED)
        assert caught.value.code == "M670", name


@pytest.mark.parametrize(("count", "taken"), [(10, 2), (100, 20), (2500, 500), (20_000, 500)])
def test_a_fifth_is_for_making_but_five_hundred_at_most(count: int, taken: int) -> None:
    data = Dataset(np.arange(count, dtype=np.float32)[:, None], origin="data")
    calibration, gate = split(data, 7)
    assert (len(calibration), len(gate)) == (taken, count - taken)
    together = np.concatenate([calibration.rows[:, 0], gate.rows[:, 0]])
    np.testing.assert_array_equal(np.sort(together), data.rows[:, 0])
    assert (np.diff(gate.rows[:, 0]) > 0).all(), "not in the order of the file"
    np.testing.assert_array_equal(split(data, 7)[0].rows, calibration.rows)
    assert not np.array_equal(split(data, 8)[0].rows, calibration.rows)


def test_each_class_goes_to_both_sides_in_its_share() -> None:
    labels = np.repeat([0, 1, 2, 3], [600, 300, 99, 1])
    calibration, gate = split(Dataset(np.zeros((1000, 1), np.float32), labels, "data"), 1)
    assert np.bincount(calibration.truth, minlength=4).tolist() == [120, 60, 19, 0]  # type: ignore[arg-type]
    assert np.bincount(gate.truth).tolist() == [480, 240, 80, 1]  # type: ignore[arg-type]
    assert gate.origin == "801 of data, for the gate"


def test_a_handful_is_not_split() -> None:
    with pytest.raises(ModelError) as caught:
        split(Dataset(np.zeros((9, 1), np.float32)), 1)
    assert caught.value.code == "M674"


# --- recorded windows of a package ----------------------------------------------------------------------

PRESS = training.Capture(200, 2_000, "m/s²", [training.Tag("die_temp", "°C", low=0, high=100)])
WINDOWS = training.Windows(RNG.normal(size=(40, 200)), RNG.uniform(20, 60, (40, 1)))
STEPS: list[dict[str, Any]] = [{"step": "statistics", "measures": ["rms", "kurtosis"]}, {"step": "context"}]
WEIGHTS = RNG.normal(size=(3, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    card = training.ModelCard(
        "press-wear",
        output={"kind": "classes", "labels": ["ok", "worn"]},
        post=[{"step": "min_confidence", "least": 0.1}, {"step": "k_of_n", "k": 2, "n": 3}],
        limits={"rms": (0.0, 1.5)},
    )
    done = training.export(
        tmp_path_factory.mktemp("package"),
        training.fit(PRESS, STEPS, WINDOWS),
        classifier(WEIGHTS),
        card,
        golden=WINDOWS[:8],
        answers=lambda features: {"probabilities": probabilities(features, WEIGHTS)},
    )
    return complete(verify(done.folder))


def recorded(path: Path, answers: list[str] | None = None, **changed: Any) -> Path:
    about = {
        "unit": "m/s²",
        "sample_rate_hz": 2_000.0,
        "context": ["press/strokes", "press/die_temp"],
        "context_units": ["1/min", "°C"],
    }
    context = np.column_stack([RNG.uniform(size=40), WINDOWS.context[:, 0]])
    arrays = {"samples": WINDOWS.samples, "context": context, "about": json.dumps(about), **changed}
    if answers is not None:
        arrays["answer"] = np.array(answers)
    return npz(path, **arrays)


def test_recorded_windows_become_the_features_that_the_server_makes(
    tmp_path: Path, package: ModelFiles
) -> None:
    found = load(recorded(tmp_path), Wanted("features", (3,)), package)
    expected = training.fit(PRESS, STEPS, WINDOWS).features(WINDOWS)
    np.testing.assert_allclose(found.rows, expected, rtol=1e-6)
    assert (found.kind, found.origin) == ("none", "40 windows of data.npz")


def test_what_people_answered_is_the_truth_and_nothing_else_is_taken(
    tmp_path: Path, package: ModelFiles
) -> None:
    answers = ["", "real", "normal", "sensor_fault", "unknown"] * 8
    found = load(recorded(tmp_path, answers), Wanted("features", (3,)), package)
    assert found.truth is not None
    assert found.truth.tolist() == [1, 0] * 8
    assert found.origin == "16 answered windows of data.npz, which has 40"


def test_windows_that_a_lane_would_not_have_judged_are_left_out(tmp_path: Path, package: ModelFiles) -> None:
    samples = WINDOWS.samples.copy()
    samples[3] *= 10.0  # outside of what the manifest allows
    samples[4, 7] = np.nan
    status = np.zeros(40, np.uint32)
    status[5] = 0x80310000
    path = recorded(tmp_path, samples=samples, sample_status=status)
    assert len(load(path, Wanted("features", (3,)), package)) == 37

    with pytest.raises(ModelError, match="none of 40 windows") as caught:
        load(recorded(tmp_path, samples=10 * samples), Wanted("features", (3,)), package)
    assert caught.value.code == "M673"


def test_recorded_windows_need_the_manifest_that_says_what_they_become(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="only the manifest of a package") as caught:
        load(recorded(tmp_path), Wanted("features", (3,)))
    assert caught.value.code == "M673"


def test_features_of_a_package_may_be_given_as_they_are(tmp_path: Path, package: ModelFiles) -> None:
    found = load(npz(tmp_path, features=ROWS[:, :3]), Wanted("features", (3,)), package)
    np.testing.assert_array_equal(found.rows, ROWS[:, :3])


def test_a_verdict_is_made_of_each_sample_for_itself(package: ModelFiles) -> None:
    # The manifest asks for two of three: one worn stroke among good ones would never be NotOk.
    judge, row = judge_for(package.manifest), np.zeros(3, np.float32)
    answers = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
    said = [judge.judge({"probabilities": answer}, row).verdict.name for answer in answers]
    assert said == ["OK", "NOT_OK"]


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path / "data.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path / "data.npz"


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def of_zeros(shape: tuple[int, ...]) -> bytes:
    return header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"any bytes", "is no .npz file of arrays"),
        (header("(" * 9000), "is no .npz file of arrays"),
        (header("{'descr': __import__('os'), 'fortran_order': ((((\n"), "is no .npz file of arrays"),
        (of_zeros((2**60, 4)), "is no .npz file of arrays"),
        (of_zeros((2**38, 4)), "more than fits into memory"),
    ],
)
def test_a_member_that_is_no_array_or_lies_about_its_size_is_refused(
    tmp_path: Path, content: bytes, said: str
) -> None:
    with pytest.raises(ModelError, match=said) as refused:
        load(archive(tmp_path, x=content), WANTED)
    assert refused.value.code == "M670"


def test_samples_that_unpack_to_more_than_the_free_memory_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = npz(tmp_path, x=ROWS)
    monkeypatch.setattr(samples, "free_memory", lambda: Memory(2 * ROWS.nbytes, 2 * ROWS.nbytes))
    with pytest.raises(ModelError, match="take fewer samples"):
        load(path, WANTED)


def test_python_objects_in_a_file_are_never_made(tmp_path: Path) -> None:
    made = tmp_path / "made"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (made,)

    content = io.BytesIO()
    np.save(content, np.array([Hostile()], object), allow_pickle=True)
    with pytest.raises(ModelError, match="holds objects"):
        load(archive(tmp_path, labels=content.getvalue()), WANTED)
    assert not made.exists()


def test_a_table_parted_by_semicolons_is_told_how_it_has_to_be(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="parted by commas"):
        load(text(tmp_path, "a;b;label", "1,5;2,5;0"), WANTED)


def test_a_column_called_label_in_capitals_is_not_fed_to_the_model(tmp_path: Path) -> None:
    found = load(text(tmp_path, "a,b,Label", "1,2,1", "3,4,0"), Wanted("x", ("n",)))
    assert (found.rows.shape, found.kind) == ((2, 2), "labels")


def test_labels_that_occur_once_each_leave_samples_to_make_variants_with() -> None:
    calibration, gate = split(Dataset(ROWS, np.arange(30)), 1)
    assert (len(calibration), len(gate)) == (6, 24)


def test_targets_without_a_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="targets holds nothing"):
        load(npz(tmp_path, x=ROWS, targets=np.zeros((30, 0))), WANTED)

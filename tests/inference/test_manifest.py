"""A manifest says what goes into a model, what proves it and how old it may get; what is wrong is named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edge_opcua.errors import ModelError
from edge_opcua.inference.compressed import Compressed
from edge_opcua.inference.manifest import Manifest, ModelFeature, load_manifest, parse_manifest
from tests.inference.models import copy_of_delivered, unwatched

HEAD = f"""format = 1
name = "tank"
version = 3
sha256 = "{"0" * 64}"
"""
GOLDEN = """[golden]
file = "golden.npz"
rtol = 1e-3
atol = 1e-4
"""
TAGS = """[input]
name = "x"
source = "tags"
window = 3
period_ms = 50
[[tags]]
name = "level"
unit = "mm"
low = 0
high = 2000
[[tags]]
name = "flow"
unit = "l/min"
"""
CAPTURE = """[input]
name = "x"
sample_count = 2000
sample_rate_hz = 10000
waveform_unit = "m/s²"
"""
STEP = """[[steps]]
step = "statistics"
"""


def read(*parts: str) -> Manifest:
    return parse_manifest(HEAD + "".join(parts) + GOLDEN, "manifest.toml")


def refusal(*parts: str) -> str:
    with pytest.raises(ModelError) as caught:
        read(*parts)
    assert caught.value.code == "M506"
    return str(caught.value)


def test_the_manifests_of_yesterday_read_as_before(tmp_path: Path) -> None:
    # format 1 has grown by sections that may be left out; none of them is there.
    manifest = load_manifest(unwatched(copy_of_delivered(tmp_path / "1")) / "manifest.toml")
    assert (manifest.source, manifest.feature_set, manifest.window) == ("capture", "stroke/1", 1)
    assert (manifest.steps, manifest.post, manifest.output) == ((), (), None)
    assert manifest.input_shape == (1, 13)
    assert [feature.name for feature in manifest.context] == ["tonnage", "die_temp", "strokes_per_min"]
    assert (manifest.age, manifest.profile, dict(manifest.files)) == (None, None, {})


def test_tags_without_steps_are_the_features_themselves_with_their_limits() -> None:
    manifest = read(TAGS.replace("window = 3\n", ""))
    assert manifest.features == (
        ModelFeature("level", "mm", low=0.0, high=2000.0),
        ModelFeature("flow", "l/min"),
    )
    assert (manifest.feature_set, manifest.sample_count, manifest.sample_rate_hz) == ("tags/1", 2, 20.0)


def test_more_features_than_any_model_has_are_refused_before_they_are_made() -> None:
    # Each would get a name and limits: of millions of them whoever lists the repository ran out of memory.
    with pytest.raises(ModelError, match="features are more than 100000"):
        read(TAGS.replace("window = 3\n", "window = 5000000\n"))


def test_a_window_of_tags_lies_row_after_row_the_oldest_first() -> None:
    manifest = read(TAGS)
    assert manifest.names == ("level.t-2", "flow.t-2", "level.t-1", "flow.t-1", "level.t-0", "flow.t-0")
    assert (manifest.sample_count, manifest.window, manifest.period_ms) == (6, 3, 50.0)
    assert manifest.features[4].high == 2000.0


def test_samples_at_no_fixed_rate_have_none() -> None:
    manifest = read(TAGS.replace("period_ms = 50\n", ""))
    assert (manifest.period_ms, manifest.sample_rate_hz) == (None, 0.0)


def test_a_row_of_features_may_lie_in_a_tensor_of_any_shape_that_holds_it() -> None:
    assert read(TAGS.replace("window = 3", "window = 3\nshape = [1, 3, 2]")).input_shape == (1, 3, 2)
    assert "does not hold the 6 features" in refusal(TAGS.replace("window = 3", "window = 3\nshape = [1, 7]"))
    for shape in ("[2, 3]", "[1]", "[1, 0]", '[1, "N"]', "[1, true]", "[1,1,1,1,1,1,1,1,6]"):
        assert "input.shape is" in refusal(TAGS.replace("window = 3", f"window = 3\nshape = {shape}"))


def test_what_steps_make_is_known_when_they_are_bound() -> None:
    manifest = read(CAPTURE, STEP)
    assert (manifest.feature_set, manifest.names) == ("steps/1", ())
    complete = manifest.completed(["rms", "peak"], ["m/s²", "m/s²"])
    assert (complete.names, complete.input_shape) == (("rms", "peak"), (1, 2))
    assert complete.completed(["other"], [""]) is complete  # what a manifest lists itself, counts
    shaped = read(CAPTURE.replace("sample_count", "shape = [1, 1, 3]\nsample_count"), STEP)
    with pytest.raises(ModelError, match="make 2 features"):
        shaped.completed(["rms", "peak"], ["", ""])


def test_the_tags_of_a_capture_with_steps_are_its_context() -> None:
    tags = TAGS[TAGS.index("[[tags]]") :]
    manifest = read(CAPTURE, tags, STEP)
    assert manifest.context == (
        ModelFeature("level", "mm", context=True, low=0.0, high=2000.0),
        ModelFeature("flow", "l/min", context=True),
    )


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ((CAPTURE, TAGS[TAGS.index("[[tags]]") :]), "tags belong to input.source"),
        ((TAGS[: TAGS.index("[[tags]]")],), "tags is missing"),
        ((TAGS.replace('"flow"', '"level"'),), 'tags has "level" twice'),
        ((TAGS.replace("high = 2000", "high = -1"),), "tags[1].low 0 is not below high = -1"),
        ((TAGS.replace("period_ms = 50", "period_ms = 0"),), "input.period_ms is not above 0"),
        ((TAGS.replace("period_ms = 50", "period_ms = inf"),), "input.period_ms is not above 0"),
        ((TAGS.replace("window = 3", "window = 0"),), "input.window 0 is out of range"),
        ((TAGS.replace("window = 3", "window = 9000000"),), "samples of 2 tags are more than"),
        ((TAGS.replace('"tags"', '"plc"'),), 'input.source "plc" is none of capture, tags'),
        ((TAGS.replace("window = 3", 'feature_set = "stroke/1"'),), "makes the features tags/1"),
        ((CAPTURE,), "input.feature_set is missing"),
        ((CAPTURE.replace('name = "x"', 'name = "x"\nfeature_set = "steps/1"'),), "without the [[steps]]"),
        ((TAGS, '[[features]]\nname = "level"\nunit = "mm"\n'), "2 tags of 3 samples make 6"),
        ((TAGS, STEP, '[[features]]\nname = "a"\nunit = ""\ncontext = true\n'), "there is no context"),
        ((TAGS, "[[post]]\n" * 101), "post are 101, more than 100"),
        ((TAGS, "[age]\nmax_days = 3\n"), "age.trained is missing"),
        ((TAGS, '[age]\ntrained = "yesterday"\n'), 'age.trained is "yesterday", not a moment'),
        ((TAGS, "[age]\ntrained = 2026-05-17T08:00:00\n"), "not a moment"),  # of which time zone?
        ((TAGS, "[age]\ntrained = 2026-05-17T08:00:00Z\nmax_days = 0\n"), "age.max_days is not above 0"),
        ((TAGS, '[age]\ntrained = 2026-05-17T08:00:00Z\nthen = "stop"\n'), 'age.then "stop" is none of warn'),
        ((TAGS, '[profile]\nfile = "p.npz"\n'), "profile.sha256 is missing"),
        ((TAGS, "[profile]\nage = 3\n"), "profile.file is missing"),
        ((TAGS, "[surprise]\n"), "surprise is an unknown key"),
        ((TAGS.replace("window", "windows"),), "input.windows is an unknown key"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(parts: tuple[str, ...], says: str) -> None:
    assert says in refusal(*parts)


def test_a_file_has_one_role_and_so_one_hash() -> None:
    profile = f'[profile]\nfile = "golden.npz"\nsha256 = "{"1" * 64}"\n'
    assert 'profile.file "golden.npz" is golden.file already' in refusal(TAGS, profile)
    external = f'[external]\n"model.onnx" = "{"1" * 64}"\n'
    assert '"model.onnx" is the model already' in refusal(TAGS, external)


@pytest.mark.parametrize("moment", ["2026-05-17T10:00:00+02:00", '"2026-05-17T08:00:00Z"'])
def test_when_it_was_trained_is_a_moment_in_utc(moment: str) -> None:
    manifest = read(TAGS, f'[age]\ntrained = {moment}\nmax_days = 180\nthen = "degrade"\n')
    assert manifest.age is not None
    assert manifest.age.trained_ns == 1_779_004_800_000_000_000
    assert (manifest.age.max_days, manifest.age.then) == (180.0, "degrade")


def test_a_model_that_only_says_when_it_was_trained_does_not_age() -> None:
    manifest = read(TAGS, "[age]\ntrained = 2026-05-17T08:00:00Z\n")
    assert manifest.age is not None
    assert (manifest.age.max_days, manifest.age.then) == (math.inf, "warn")


def test_what_is_for_people_is_kept_as_it_stands() -> None:
    notes = """[provenance]
by = "anna"
commit = "4f2c"
[device]
p99_us = 40.5
[compression]
precision = "int8"
[signature]
algorithm = "ed25519"
[output]
kind = "value"
[[post]]
step = "limits"
high = 3
"""
    manifest = read(TAGS, notes)
    assert manifest.provenance == {"by": "anna", "commit": "4f2c"}
    assert (manifest.device["p99_us"], manifest.compression["precision"]) == (40.5, "int8")
    assert manifest.signature["algorithm"] == "ed25519"
    assert manifest.output == {"kind": "value"}
    assert manifest.post == ({"step": "limits", "high": 3},)


SMALLER = f"""[compression]
of = "tank/2"
of_sha256 = "{"2" * 64}"
verdict = "proved"
provider = "cpu"
p50_ratio = 0.4
p50_high = 0.5
report = "compression.json"
report_sha256 = "{"3" * 64}"
"""


def test_a_model_that_was_made_smaller_names_the_original_and_its_report_is_one_of_its_files() -> None:
    manifest = read(TAGS, SMALLER)
    assert manifest.compressed == Compressed(
        "2" * 64, "proved", "cpu", 0.4, 0.5, "compression.json", "3" * 64
    )
    assert manifest.files == {"compression.json": "3" * 64}
    assert manifest.compression["of"] == "tank/2"


def test_a_note_on_compression_that_names_no_original_is_only_for_people() -> None:
    assert read(TAGS, '[compression]\nverdict = "splendid"\n').compressed is None


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"proved"', '"splendid"', 'compression.verdict "splendid" is none of proved, not proved, failed'),
        ("p50_ratio = 0.4\n", "", "compression.p50_ratio is missing"),
        ("p50_ratio = 0.4", "p50_ratio = 0", "compression.p50_ratio is 0, not above 0"),
        ("p50_high = 0.5", "p50_high = 0.3", "compression.p50_ratio is 0.4, not above 0"),
        ('"compression.json"', '"../secret"', 'compression.report "../secret" is not a plain file name'),
        ('"compression.json"', '"golden.npz"', 'compression.report "golden.npz" is golden.file already'),
        ("report_sha256", "report_hash", "compression.report_sha256 is missing"),
        ("2" * 64, "abc", "compression.of_sha256"),
    ],
)
def test_what_a_scheduler_goes_by_is_right_or_refused(old: str, new: str, says: str) -> None:
    assert old in SMALLER
    assert says in refusal(TAGS, SMALLER.replace(old, new))


def test_answers_may_have_a_tolerance_of_their_own() -> None:
    manifest = parse_manifest(f"{HEAD}{TAGS}{GOLDEN}answer_atol = 0.25\n", "manifest.toml")
    assert (manifest.golden.atol, manifest.golden.of_answers.atol) == (1e-4, 0.25)
    assert manifest.golden.of_answers.rtol == manifest.golden.rtol
    assert read(TAGS).golden.of_answers == read(TAGS).golden
    with pytest.raises(ModelError, match="answer_atol is inf"):
        parse_manifest(f"{HEAD}{TAGS}{GOLDEN}answer_atol = inf\n", "manifest.toml")


def test_the_example_of_the_reference_page_is_a_manifest() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "manifest.md").read_text()
    example = page.partition("```toml\n")[2].partition("```")[0]
    manifest = parse_manifest(example, "manifest.md")
    assert (manifest.name, manifest.window, manifest.input_shape) == ("tank-leak", 20, (1, 20, 2))
    assert {"[input]", "[output]", "[golden]", "[profile]", "[age]", "[external]"} <= {
        line.removeprefix("## ") for line in page.splitlines() if line.startswith("## [")
    }

"""What watching says of the delivered models: nothing of a healthy press, and soon what has changed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from edge_opcua.core.values import Verdict
from edge_opcua.features.stroke import Feature, StrokeFeatures
from edge_opcua.inference.watch.age import age_of
from edge_opcua.inference.watch.modelwatch import ModelWatch
from edge_opcua.inference.watch.profile import load_profile
from edge_opcua.inference.watch.seen import Seen
from edge_opcua.inference.watch.terms import terms_of
from edge_opcua.sim.physics import RATED_STROKES_PER_MIN, SAMPLE_COUNT, SAMPLE_RATE_HZ, PressPhysics
from tests.inference.line import PIPELINE, delivered

pytestmark = pytest.mark.timeout(
    60
)  # thousands of simulated strokes, on a computer that does other things too

VERSIONS = (1, 2)
GAP_NS = round(60e9 / RATED_STROKES_PER_MIN / 4.0)  # four times as fast as a press: the speed of the demo
TEN_MINUTES = 600 * 10**9 // GAP_NS
WARM = 1_500
USUAL = 200  # strokes before something changes: the watch knows by then how often they come
BEGIN_NS = 1_800_000_000 * 10**9

Floats = npt.NDArray[np.float32]


@lru_cache(maxsize=16)
def strokes(seed: int, start: int, wear: float, count: int) -> Floats:
    """Return the features of strokes one after the other, shape ``(n, k)``."""
    manifest, physics = delivered().manifest, PressPhysics(seed)
    context = tuple(Feature(name, "") for name in manifest.names[-3:])
    extractor = StrokeFeatures(sample_count=SAMPLE_COUNT, sample_rate_hz=SAMPLE_RATE_HZ, context=context)
    rows = []
    for index in range(start, start + count):
        stroke = physics.stroke(index, wear=wear)
        tags = np.array((stroke.tonnage, stroke.die_temp, stroke.strokes_per_min))
        rows.append(extractor.extract(stroke.waveform, SAMPLE_RATE_HZ, tags))
    return np.array(rows, np.float32)


def watched(version: int, features: Floats) -> tuple[dict[str, int], list[int]]:
    """Let a version judge strokes; returns when each kind of alarm first came, and what was NotOk."""
    files = delivered(version)
    manifest = files.manifest
    assert manifest.profile is not None
    path = files.folder / manifest.profile.file
    profile = load_profile(path, manifest.names, sha256=manifest.profile.sha256)
    watch = ModelWatch(terms_of(PIPELINE, manifest), profile)
    session = ort.InferenceSession(files.folder / "model.onnx", providers=["CPUExecutionProvider"])
    first: dict[str, int] = {}
    not_ok = []
    for number, row in enumerate(features):
        at_ns = BEGIN_NS + number * GAP_NS
        score, confidence = (
            float(answer[0]) for answer in session.run(["score", "confidence"], {"features": row[None]})
        )
        if score >= manifest.limit:
            not_ok.append(number)
        watch.take(
            Seen(
                captured_ns=at_ns,
                model=f"{manifest.name}/{version}",
                verdict=Verdict.OK if score < manifest.limit else Verdict.NOT_OK,
                score=score,
                confidence=confidence,
                features=row.astype(np.float64),
                latency_us=2_000.0,
                infer_us=500.0,
                refused=False,
                failed=False,
                prevented=False,
                not_a_number=False,
                unusable="",
                reason="",
            )
        )
        for finding in watch.report(at_ns).findings:
            first.setdefault(finding.kind, number)
    return first, not_ok


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("start", [0, WARM], ids=["cold", "warm"])
@pytest.mark.parametrize(("seed", "wear"), [(7, 0.05), (21, 0.0)])
def test_ten_minutes_of_a_healthy_press_at_the_speed_of_the_demo_raise_no_alarm(
    version: int, start: int, seed: int, wear: float
) -> None:
    alarms, not_ok = watched(version, strokes(seed, start, wear, TEN_MINUTES))
    assert alarms == {}
    assert not_ok == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("what", "times"), [("band_|rms|peak", 1.25), ("tonnage", 1.05)])
def test_a_sensor_that_reads_otherwise_is_called_drift_within_a_hundred_strokes(
    version: int, what: str, times: float
) -> None:
    features = strokes(7, 0, 0.05, TEN_MINUTES)[: USUAL + 100].copy()
    names = delivered(version).manifest.names
    columns = [at for at, name in enumerate(names) if name.startswith(tuple(what.split("|")))]
    features[USUAL:, columns] *= np.float32(times)
    alarms, _ = watched(version, features)
    assert alarms["drift"] >= USUAL


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("wear", [0.3, 0.9])
def test_a_worn_die_is_not_ok_before_it_is_anything_else(version: int, wear: float) -> None:
    usual = strokes(7, 0, 0.05, TEN_MINUTES)[:USUAL]
    alarms, not_ok = watched(version, np.concatenate((usual, strokes(31, WARM, wear, 100))))
    # That the press has changed is true as well, and said later.
    assert USUAL <= not_ok[0] < USUAL + 3
    assert alarms["drift"] > not_ok[0]
    assert min(alarms.values()) > not_ok[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_die_that_is_worn_further_than_the_profile_knows_is_drift_and_not_yet_a_bad_part(
    version: int,
) -> None:
    alarms, not_ok = watched(version, strokes(11, 0, 0.1, TEN_MINUTES))
    assert alarms["drift"] > USUAL
    assert not_ok == []


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_known_how_old_they_are(version: int) -> None:
    terms = terms_of(PIPELINE, delivered(version).manifest)
    age = age_of(terms.age, BEGIN_NS)
    assert (age.state, terms.age.then) == ("fresh", "warn")
    assert 0 < age.days < terms.age.max_days

"""Recorded windows, judged again by real models in a process apart, answered, and written for training."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua.app.command.model import data as modeldata
from edge_opcua.app.command.model.replaytext import COLUMNS, side_of, then_of, time_line
from edge_opcua.app.windows.judged import recorded, replayed
from edge_opcua.assets import examples_dir
from edge_opcua.cli import main
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import BAD_SENSOR_FAILURE, Verdict
from edge_opcua.inference.repository import ModelRepository
from edge_opcua.records.window import Answer, Window, WindowSource
from edge_opcua.records.windowfile import WindowFile
from edge_opcua.records.windowlook import Wanted, WindowLook
from edge_opcua.training import Capture, Tag, load_windows
from tests.inference.hostile.models import Attack, endless, hostile_image, hostile_version, not_a_number
from tests.inference.models import DELIVERED, replaced

P = "press-anomaly"
MODELS = examples_dir() / "press" / "models"
NS = 1_000_000_000
BEGIN = 1_790_000_000 * NS
SOURCE = WindowSource(
    P,
    "vib/stroke",
    unit="m/s²",
    sample_rate_hz=10_000.0,
    context=("press/tonnage", "press/die_temp", "press/strokes_per_min"),
    context_units=("kN", "°C", "1/min"),
)
CASES = 7


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray[Any, Any]]:
    with np.load(DELIVERED / "golden.npz") as archive:
        return {name: archive[name] for name in archive.files}


def recorded_windows(golden: dict[str, np.ndarray[Any, Any]], count: int = 140) -> list[Window]:
    """What version 1 judged in two hours and more: its own reference samples, over and over."""
    found = []
    for number in range(count):
        case = number % CASES
        score = float(golden["score"][case])
        found.append(
            Window(
                source=SOURCE,
                result_id=1000 + number,
                stroke=number,
                captured_ns=BEGIN + number * 60 * NS,
                judged_ns=BEGIN + number * 60 * NS,
                verdict=int(Verdict.NOT_OK if score >= 1.0 else Verdict.OK),
                score=score,
                confidence=0.9,
                model=P,
                version=1,
                total_ms=1.0,
                features=golden["features"][case],
                context=golden["context"][case],
                context_status=np.zeros(3, np.uint32),
                samples=golden["waveform"][case],
            )
        )
    return found


@pytest.fixture
def state(tmp_path: Path, golden: dict[str, np.ndarray[Any, Any]]) -> Path:
    place = StateDir(tmp_path)
    place.create()
    ModelRepository(place.models).install_all(MODELS)
    store = WindowFile(place.windows, 100_000_000)
    windows = recorded_windows(golden)
    # One while the die was cold, one while a sensor was broken.
    cold, broken = windows[-1], windows[-2]
    windows[-1] = replace(
        cold,
        context=np.array([800.0, 12.5, 20.0]),
        features=np.append(cold.features[:10], np.array([800.0, 12.5, 20.0], np.float32)),
        verdict=int(Verdict.NOT_DECIDABLE),
        score=float("nan"),
        reason="not learned: die_temp 12.5 °C is outside 15..70",
    )
    windows[-2] = replace(
        broken,
        context=np.array([np.nan, 40.0, 20.0]),
        context_status=np.array([BAD_SENSOR_FAILURE, 0, 0], np.uint32),
        features=np.empty(0, np.float32),
        verdict=int(Verdict.NOT_DECIDABLE),
        fail_safe=True,
        score=float("nan"),
    )
    store.write(windows)
    for number, answer in ((4, Answer.NORMAL), (5, Answer.REAL), (6, Answer.SENSOR_FAULT), (11, Answer.REAL)):
        assert store.answer(P, 1000 + number, answer, note="", who="anna", utc_ns=BEGIN)
    store.close()
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], state: Path, *words: str) -> tuple[int, str, str]:
    code = main(["model", *words, "--state", str(state)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_model_that_judges_again_what_it_judged_then_agrees_in_all(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, state, "try", f"{P}/1", "--pipeline", P, "--json")
    found = json.loads(out)
    assert code == 0
    compared = found["compared"]
    assert (compared["compared"], compared["agreed"], compared["undecided"]) == (138, 138, 2)
    assert compared["score_difference_p99"] < 1e-4
    after = found["after"]
    # What the lane had is what is computed now, so what is replayed is what was judged.
    assert (after["same_features"], after["comparable"]) == (139, 139)
    assert (after["false_alarms"], after["answered_false"]) == (2, 2)
    assert (after["found"], after["answered_real"]) == (1 + 1, 2)
    assert after["outside_training"] == [
        {
            "feature": "die_temp",
            "unit": "°C",
            "low": 15.0,
            "high": 70.0,
            "windows": 1,
            "least": 12.5,
            "most": 12.5,
        }
    ]
    assert after["took_us"]["p99"] > 0


def test_what_a_model_makes_of_the_past_is_a_picture(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, state, "try", f"{P}/2", "--pipeline", P)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"{P}: 140 windows, 2026-09-21 14:13:20 to 2026-09-21 16:32:20 UTC"
    assert lines[1] == f"  judged then by {P}/1 (140); 4 answered"
    then, now = lines[3:5]
    assert (
        then.partition("then ")[2].strip() == now.partition("now  ")[2].strip()
    )  # both find the same strokes
    assert set(then.partition("then  ")[2].strip()) == {".", "+", "#"}
    assert lines[5].split() == ["differ"]
    assert "14:13" in lines[6]
    text = "\n".join(lines)
    assert "agreement         100.00% of 138 (95 %: 97.3% to 100.0%); 0 new alarms, 0 lost" in text
    assert "now was never shown die_temp 12.5 °C (1 window); it knows 15 to 70" in text
    assert "false alarms      2 of 2" in text
    assert "features that the lane had" not in text  # another model: nobody can know


def test_two_models_judge_the_same_windows(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blunt = shutil.copytree(MODELS / P / "1", state / "blunt")
    replaced(replaced(blunt, "version = 1", "version = 3"), "limit = 1.0", "limit = 1.5")
    code, out, _ = run(capsys, state, "compare", f"{P}/1", str(blunt), "--pipeline", P, "--json")
    found = json.loads(out)
    assert code == 0
    assert [found["before"]["model"], found["after"]["model"]] == [f"{P}/1", f"{P}/3"]
    compared = found["compared"]
    assert (compared["new_alarms"], compared["lost_alarms"]) == (0, 20)  # one case in seven scores 1.1
    assert found["before"]["false_alarms"] == 2
    assert found["after"]["false_alarms"] == 1  # that is what the blunt one is good for
    code, out, err = run(
        capsys, state, "compare", f"{P}/1", str(blunt), "--pipeline", P, "--agreement", "0.98"
    )
    assert code == 1
    assert "they agree on 85.51%, 98.00% are asked for" in err
    assert "the last          result 1137" in out
    assert set(out.splitlines()[5].split()[1]) == {"^"}  # in each column one case of seven


def test_the_same_model_beside_itself_has_two_names(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, state, "compare", f"{P}/1", f"{P}/1", "--pipeline", P, "--most", "7")
    assert code == 0
    assert "  before  " in out
    assert "  after   " in out


def test_only_the_time_that_is_asked_for_is_looked_at(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--from", "2026-09-21T14:20", "--to", "2026-09-21T16:30:00+02:00", "--json")
    code, out, _ = run(capsys, state, "try", f"{P}/1", "--pipeline", P, *words)
    found = json.loads(out)
    assert (code, found["windows"]) == (0, 10)  # to 14:30 UTC
    code, _, err = run(capsys, state, "try", f"{P}/1", "--pipeline", P, "--last", "1h")
    assert code == 2
    assert "was judged in that time; there are 140 of other times (M660)" in err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("try", f"{P}/9", "--pipeline", P), 2, "M5"),
        (
            ("try", f"{P}/1", "--pipeline", "tank"),
            2,
            "there are no windows of tank; there are windows of press",
        ),
        (("compare", f"{P}/1", "nowhere", "--pipeline", P), 2, "nowhere"),
    ],
)
def test_what_is_not_there_is_said_to_be_so(
    state: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, text: str
) -> None:
    found, _, err = run(capsys, state, *words)
    assert (found, text in err) == (code, True), err


def test_without_windows_there_is_nothing_to_try(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, tmp_path, "try", f"{P}/1", "--pipeline", P, "--json")
    assert code == 2
    assert json.loads(out)["refused"]["code"] == "M660"


def test_a_model_for_other_tags_is_refused_as_a_lane_would(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(MODELS / P / "1", state / "other")
    replaced(other, 'name = "die_temp"', 'name = "oil_temp"')
    code, _, err = run(capsys, state, "try", str(other), "--pipeline", P)
    assert code == 1
    assert "oil_temp" in err
    assert "(M5" in err


def hostile(state: Path, attack: Attack) -> str:
    return str(hostile_version(state / "hostile", "bad", hostile_image(attack)))


def test_a_model_that_hangs_is_ended_and_harms_nothing(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("try", hostile(state, endless), "--pipeline", P, "--timeout", "3")
    code, _, err = run(capsys, state, *words)
    assert code == 1
    assert "it was not done in the time it was given and was ended (M611)" in err
    assert len(list(WindowLook(StateDir(state).windows).windows(Wanted(P)))) == 140


def test_a_model_that_answers_no_number_decides_nothing_there(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, state, "try", hostile(state, not_a_number), "--pipeline", P, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["after"]["not_ok"] == 0  # where version 1 found something, this one answered nothing
    assert found["compared"]["undecided"] > 40


def test_windows_that_go_meanwhile_are_not_seen(state: Path) -> None:
    windows = StateDir(state).windows
    past = recorded(WindowLook(windows), Wanted(P, with_samples=False))
    assert past is not None
    store = WindowFile(windows, 600_000)
    while store.write([]).is_full:
        pass
    store.close()
    again = replayed(past, MODELS / P / "1", windows, silent_s=30)
    assert 0 < again.seen.sum() < 140
    assert again.seen[-1]
    line = time_line(past, [then_of(past), side_of(again, "now")])
    assert line[1].startswith("  now     ")  # nothing was seen of the oldest


def test_a_short_past_fits_the_picture_too(state: Path) -> None:
    past = recorded(WindowLook(StateDir(state).windows), Wanted(P, most=1, with_samples=False))
    assert past is not None
    (line, times, _) = time_line(past, [then_of(past)])
    assert len(line) <= COLUMNS + 8
    assert line.split() == ["then", "?"]
    assert times.strip()


# --- export -----------------------------------------------------------------------------------------


def test_windows_are_exported_as_training_reads_them(
    state: Path, capsys: pytest.CaptureFixture[str], golden: dict[str, np.ndarray[Any, Any]]
) -> None:
    out = state / "windows.npz"
    code, said, _ = run(capsys, state, "export-windows", "--pipeline", P, "--out", str(out))
    assert code == 0
    assert said == f"{out}: 140 windows of 2000 numbers (vib/stroke), 4 of them answered\n"
    windows = load_windows(out)
    np.testing.assert_array_equal(windows.samples[3], golden["waveform"][3])
    np.testing.assert_array_equal(windows.context[3], golden["context"][3])
    facts = windows.facts
    assert facts["answer"][:8].tolist() == ["", "", "", "", "normal", "real", "sensor_fault", ""]
    assert facts["result_id"].tolist() == list(range(1000, 1140))
    assert facts["verdict"][5] == "NOT_OK"
    assert facts["model"][0] == f"{P}/1"
    assert np.isnan(facts["score"][-1])
    with np.load(out) as archive:
        assert json.loads(str(archive["about"]))["context"] == list(SOURCE.context)
    tags = [Tag("die_temp", "°C"), Tag("tonnage", "kN"), Tag("strokes_per_min", "1/min")]
    press = Capture(sample_count=2000, sample_rate_hz=10_000, unit="m/s²", context=tags)
    ordered = load_windows(out, press)  # as the model wants them, whatever the line's order
    np.testing.assert_array_equal(ordered.context[3], golden["context"][3][[1, 0, 2]])
    assert not list(state.glob(".windows*"))
    code, _, err = run(capsys, state, "export-windows", "--pipeline", P, "--out", str(out))
    assert (code, "--force" in err) == (2, True)


def test_only_what_was_answered_is_exported_as_a_table(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = state / "windows.csv"
    words = ("export-windows", "--pipeline", P, "--answered", "--out", str(out), "--json")
    code, said, _ = run(capsys, state, *words)
    assert (code, json.loads(said)["windows"]) == (0, 4)
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["answer"] for row in rows] == ["normal", "real", "sensor_fault", "real"]
    assert set(SOURCE.context) <= rows[0].keys()
    assert float(rows[0]["samples[1999]"]) == pytest.approx(0.0, abs=100.0)


def test_where_nothing_was_answered_it_says_so_and_how_to(
    tmp_path: Path, golden: dict[str, np.ndarray[Any, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    place = StateDir(tmp_path)
    place.create()
    store = WindowFile(place.windows, 100_000_000)
    store.write(recorded_windows(golden, 3))
    store.close()
    words = ("export-windows", "--pipeline", P, "--answered", "--out", str(tmp_path / "windows.npz"))
    code, _, err = run(capsys, tmp_path, *words)
    assert code == 2
    assert f"no window of {P} is answered; edge-opcua model answer {P} lists what may be" in err


def test_windows_that_were_recorded_another_way_are_left_out_and_said_so(
    state: Path, capsys: pytest.CaptureFixture[str], golden: dict[str, np.ndarray[Any, Any]]
) -> None:
    store = WindowFile(StateDir(state).windows, 100_000_000)
    tags = WindowSource(P, P, columns=("level", "flow"), column_tags=("tank/level", "tank/flow"))
    newest = replace(recorded_windows(golden)[0], result_id=9000, judged_ns=BEGIN + 10**15, source=tags)
    store.write([replace(newest, samples=np.arange(6, dtype=np.float32), context=np.empty(0))])
    store.close()
    out = state / "windows.csv"
    code, said, _ = run(capsys, state, "export-windows", "--pipeline", P, "--out", str(out))
    assert code == 0
    assert "1 window of 6 numbers (2 tags)" in said
    assert "left out: 140 that were recorded another way" in said
    header = out.read_text(encoding="utf-8").splitlines()[0].split(",")
    assert header[-6:] == ["level[0]", "flow[0]", "level[1]", "flow[1]", "level[2]", "flow[2]"]


@pytest.mark.parametrize(
    ("out", "code", "text"),
    [("windows.xlsx", 2, "M664"), ("nowhere/windows.npz", 1, "M663")],
)
def test_a_file_that_cannot_be_written_is_said_to_be_so(
    state: Path, capsys: pytest.CaptureFixture[str], out: str, code: int, text: str
) -> None:
    found, _, err = run(capsys, state, "export-windows", "--pipeline", P, "--out", str(state / out))
    assert (found, text in err) == (code, True), err


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is not None, reason="pyarrow is installed here")
def test_parquet_is_refused_where_pyarrow_is_missing(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = state / "windows.parquet"
    code, _, err = run(capsys, state, "export-windows", "--pipeline", P, "--out", str(out))
    assert (code, "pyarrow" in err, out.exists()) == (2, True, False)


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed here")
def test_parquet_holds_the_same(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = state / "windows.parquet"
    code, _, _ = run(capsys, state, "export-windows", "--pipeline", P, "--out", str(out))
    assert code == 0
    parquet = importlib.import_module("pyarrow.parquet")
    table = parquet.read_table(out)
    assert table.num_rows == 140
    assert len(table["samples"][0]) == 2000


# --- answers ----------------------------------------------------------------------------------------


def test_what_may_be_answered_is_listed(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, state, "answer", P, "--last", "3")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["1132", "1137", "1139"]
    assert lines[-1].split()[:5] == ["1139", "2026-09-21T16:32:20Z", "stroke", "139", "-"]
    assert lines[-1].endswith("not learned: die_temp 12.5 °C is outside 15..70")
    code, out, _ = run(capsys, state, "answer", P, "--json", "--last", "200")
    found = {row["result_id"]: row["answer"] for row in json.loads(out)["verdicts"]}
    assert {key: answer for key, answer in found.items() if answer} == {
        1004: "normal",
        1005: "real",
        1006: "sensor_fault",
        1011: "real",
    }


def test_an_answer_needs_the_server_and_to_say_what(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, state, "answer", P, "1005", "real")
    assert (code, "no server runs" in err) == (4, True)
    code, _, err = run(capsys, state, "answer", P, "1005")
    assert (code, "real, normal, sensor_fault or unknown" in err) == (2, True)
    code, _, err = run(capsys, state, "answer", "tank")
    assert (code, "M660" in err) == (2, True)


def test_the_words_of_the_command_are_those_of_the_store() -> None:
    assert tuple(Answer) == modeldata.ANSWERS


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30min", 1800), ("8h", 28_800), ("2d", 172_800)])
def test_a_time_span_is_what_people_write(text: str, seconds: float) -> None:
    assert modeldata.span(text) == seconds


@pytest.mark.parametrize(
    "words", [("--last", "8"), ("--last", "0h"), ("--from", "yesterday"), ("--most", "0")]
)
def test_a_time_that_is_none_is_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["model", "try", f"{P}/1", "--pipeline", P, *words])
    assert "is not a" in capsys.readouterr().err


def test_a_span_begins_now(state: Path) -> None:
    store = WindowFile(StateDir(state).windows, 100_000_000)
    now = SystemClock().utc_ns()
    (newest,) = WindowLook(StateDir(state).windows).windows(Wanted(P, most=1))
    store.write([replace(newest, result_id=9001, judged_ns=now - NS)])
    store.close()
    assert main(["model", "try", f"{P}/1", "--pipeline", P, "--last", "1h", "--state", str(state)]) == 1

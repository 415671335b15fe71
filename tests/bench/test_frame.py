"""The frame around benchmarks: figures beside their peers, for people and for machines."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from edge_opcua import bench
from edge_opcua.bench import Benchmark, Figure
from edge_opcua.bench.figure import number

SAMPLE = """
from edge_opcua.bench import Figure

def run():
    yield Figure("publish 500 rows", 3.7, "µs", "dict of dataclasses", 370.0, note="1 reader")
    yield Figure("values", 730_000.0, "1/s", "plain asyncua", 16_000.0, better="higher")
    yield Figure("torn batches", 0.0, "")
"""


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Benchmark]:
    (tmp_path / "bench_sample_module.py").write_text(SAMPLE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bench_sample_module", raising=False)
    return {"sample": Benchmark("bench_sample_module", "a sample")}


def test_ratio_says_how_many_times_better_in_both_directions() -> None:
    assert Figure("time", 2.0, "ms", "peer", 8.0).ratio == 4.0
    assert Figure("rate", 8.0, "1/s", "peer", 2.0, better="higher").ratio == 4.0
    assert Figure("time", 2.0, "ms").ratio is None
    assert Figure("errors", 0.0, "", "peer", 3.0).ratio is None


def test_a_peer_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="a peer has a name and a value"):
        Figure("time", 2.0, "ms", "peer")


def test_people_get_a_table(sample: dict[str, Benchmark], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main("sample", benchmarks=sample) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[1].split()) == "publish 500 rows 3.7 µs 370 dict of dataclasses 100 [1]"
    assert " ".join(lines[2].split()) == "values 730 000 1/s 16 000 plain asyncua 45.6"
    assert lines[-1] == "[1] 1 reader"


def test_machines_get_a_line_per_figure_with_the_surroundings(
    sample: dict[str, Benchmark], tmp_path: Path
) -> None:
    file = tmp_path / "figures.jsonl"
    assert bench.main("sample", file, benchmarks=sample) == 0
    first, second, third = (json.loads(line) for line in file.read_text().splitlines())
    assert (first["schema"], first["bench"], first["name"]) == (
        "edge-opcua.bench/1",
        "sample",
        "publish 500 rows",
    )
    assert (first["peer"], first["peer_value"], first["ratio"]) == ("dict of dataclasses", 370.0, 100.0)
    assert second["cores"] >= 1
    assert third["peer_value"] is None


def test_a_dash_writes_the_lines_to_standard_output(
    sample: dict[str, Benchmark], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main("sample", Path("-"), benchmarks=sample) == 0
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 3


def test_what_cannot_be_measured_ends_with_1_and_its_reason(
    sample: dict[str, Benchmark], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing = (
        "from edge_opcua.errors import EdgeError",
        "def run():",
        "    raise EdgeError('install train')",
    )
    (tmp_path / "bench_sample_module.py").write_text("\n".join(refusing))
    assert bench.main("sample", tmp_path / "figures.jsonl", benchmarks=sample) == 1
    assert "bench sample: install train" in capsys.readouterr().err
    assert not (tmp_path / "figures.jsonl").exists()


def test_listing_imports_no_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    missing = {"later": Benchmark("edge_opcua.bench.no_such_module", "comes later")}
    assert bench.main(None, benchmarks=missing) == 0
    assert capsys.readouterr().out == "later  comes later\n"


def test_a_wrong_name_ends_with_2_and_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main("buss") == 2
    assert "did you mean bus?" in capsys.readouterr().err


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_every_listed_benchmark_is_there(name: str) -> None:
    assert importlib.util.find_spec(bench.BENCHMARKS[name].module) is not None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.0012345, "0.00123"), (3.14159, "3.14"), (1234.5, "1 234"), (2e12, "2.00e+12")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text

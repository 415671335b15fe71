"""What ``edge-opcua bench compress`` says of a report, and what it needs to measure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from docs.bench_figures import table
from edge_opcua.assets import examples_dir
from edge_opcua.bench.compress import suite
from edge_opcua.bench.compress.rows import figures
from edge_opcua.bench.compress.subjects import OURS, SUBJECTS, Kiln, Script, Subject, python_of
from edge_opcua.bench.figure import Figure
from edge_opcua.compress.report.report import Row
from edge_opcua.errors import EdgeError
from tests.compress.reports import report, row

SLOW = row("qoperator-s8", ratio=5.0)
AROUND = {"utc_ns": 0, "processor": "a processor", "cores": 2, "python": "3.11", "load": 0.5}


def claims(subject: str, rows: Sequence[Row], *, chosen: str | None = None) -> list[Figure]:
    return list(suite.claims({subject: report(*rows, chosen=chosen)}))


def test_a_network_has_to_be_sixty_percent_smaller_by_what_is_proved_and_not_slower() -> None:
    smaller, damaging = claims("digits-cnn", [row("int8-minmax", size=30_000), SLOW])
    assert smaller.value == pytest.approx(70.0)
    assert "int8-minmax; holds" in smaller.note
    assert (damaging.value, damaging.note) == (0, "qoperator-s8 5 times as long; holds")


@pytest.mark.parametrize(
    "only",
    [
        row("int8-minmax", size=50_000),  # too large
        row("int8-minmax", size=30_000, loss=0.4),  # not proved
        row("int8-minmax", size=30_000, ratio=1.2),  # slower
        row("pruned-60", family="pruned", size=30_000),  # not in INT8
    ],
)
def test_what_does_not_hold_is_said_aloud(only: Row) -> None:
    smaller, damaging = claims("digits-cnn", [only])
    assert smaller.note.endswith("DOES NOT HOLD")
    assert damaging.note.endswith("DOES NOT HOLD")  # nothing damaging was measured


def test_a_damaging_variant_that_might_be_chosen_does_not_hold() -> None:
    _, damaging = claims("digits-cnn", [row("int8-dynamic-convolutions", family="int8-dynamic", ratio=0.9)])
    assert (damaging.value, damaging.note.endswith("DOES NOT HOLD")) == (1, True)


def test_only_what_is_both_pruned_and_in_int8_counts_for_the_wide_one() -> None:
    rows = [row("int8-minmax", size=20_000), row("pruned-60-int8-minmax", size=10_000)]
    assert [figure.value for figure in claims("digits-wide", rows)] == [pytest.approx(90.0)]
    assert claims("digits-wide", rows[:1])[0].note.endswith("DOES NOT HOLD")


def test_too_few_samples_have_to_prove_nothing() -> None:
    (refused,) = claims("cancer", [row("int8-minmax", loss=0.4)])
    assert "about 5000 samples would be needed; holds" in refused.note
    (proved,) = claims("cancer", [row("int8-minmax")], chosen="int8-minmax")
    assert proved.note.endswith("DOES NOT HOLD")


def test_the_page_has_a_table_for_each_model_with_all_that_was_measured() -> None:
    rows = (
        row("int8-minmax", is_chosen=True),
        row("pruned-80", loss=0.8, place=2),
        row("entropy", place=0),
        row("mixed", failure="it cannot be made"),
    )
    said = figures("digits-cnn", "a network", report(*rows, chosen="int8-minmax"))
    text = table([json.loads(json.dumps({**asdict(figure), **AROUND})) for figure in said])
    assert "### digits-cnn" in text
    assert "| original | 97.00 % |  |  | 100 µs |  | 100 kB |  |" in text
    assert (
        "| int8-minmax | 96.90 % | +0.10 pp (-0.20 … +0.40) | proved | 0.50 (0.49 … 0.51) "
        "| 0.50 (0.45 … 0.55) | 30 kB, -70 % | **chosen** |"
    ) in text
    assert "| pruned-80 | 96.20 % | +0.80 pp (+0.50 … +1.10) |" in text
    assert "| entropy | 96.90 % | +0.10 pp (-0.20 … +0.40) | not entered |" in text
    assert "mixed" not in text


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_scripts_and_models_of_every_subject_are_there(subject: Subject, tmp_path: Path) -> None:
    assert all((examples_dir() / "compress" / script.name).is_file() for script in subject.scripts)
    assert subject.model_in(tmp_path).exists() or subject.model.startswith("{data}")


def test_a_script_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broken = replace(SUBJECTS[0], scripts=(Script(OURS, "strokes.py", ("{data}/file/beneath",)),))
    with pytest.raises(EdgeError, match=r"strokes.py failed: (?s:.*)NotADirectoryError"):
        Kiln(tmp_path).prepare(broken)


def test_an_environment_that_is_not_there_says_what_brings_it() -> None:
    with pytest.raises(EdgeError, match="tests/peers/install-notebooks nobody"):
        python_of("notebook-nobody")

"""A report survives being written and read, whole, and one that is damaged says where."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from edge_opcua.compress.report.report import Report, read_report
from edge_opcua.errors import ModelError
from tests.compress.reports import report, row


def write(folder: Path, text: str) -> Path:
    path = folder / "report.json"
    path.write_text(text, "utf-8")
    return path


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    given = report(
        row("int8", loss=0.1),
        row("broken", failure="the model failed"),
        chosen="int8",
    )
    assert read_report(write(tmp_path, given.text())) == given


def test_numbers_of_arrays_and_what_is_no_number_are_kept(tmp_path: Path) -> None:
    notes = {"scale": np.float32(0.5), "left": np.arange(3), "worst": math.inf, "none": None}
    given = report(row("int8", loss=math.inf, notes=notes), chosen=None)
    found = read_report(write(tmp_path, given.text()))
    assert found.rows[0].comparison is not None
    assert found.rows[0].comparison.loss == math.inf
    assert found.rows[0].notes == {"scale": 0.5, "left": [0, 1, 2], "worst": "inf", "none": None}
    assert "Infinity" not in given.text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": [{"variant": {"name": "a"}}]}, "rows[0].variant.family is missing"),
        ({"threads": "one"}, "threads is 'one', not int"),
        ({"took_s": "long"}, "took_s is 'long', not a number"),
        ({"rows": 3}, "rows is 3, not a list"),
        ({"format": 2}, "format 2"),
    ],
)
def test_a_damaged_report_says_where(tmp_path: Path, change: dict[str, object], said: str) -> None:
    found = json.loads(report(row("int8"), chosen=None).text()) | change
    with pytest.raises(ModelError) as caught:
        read_report(write(tmp_path, json.dumps(found)))
    assert caught.value.code == "M685"
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_another_file_is_no_report(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_report(write(tmp_path, text))
    assert caught.value.code == "M685"


def test_the_chosen_row_is_found_by_its_name() -> None:
    found: Report = report(row("a"), row("b"), chosen="b")
    assert found.chosen_row is found.rows[1]
    assert report(row("a"), chosen=None).chosen_row is None

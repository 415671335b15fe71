"""The pages of figures are what the committed runs say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_figures", DOCS / "bench_figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", load().PAGES)
def test_the_table_of_figures_is_of_the_committed_run(name: str) -> None:
    figures = load()
    page = DOCS / "reference" / f"{name}.md"
    assert figures.table(figures.lines_of(page.with_suffix(".jsonl"))) in page.read_text()

"""The page of PLC figures is what the committed run says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plc_figures", DOCS / "plc_figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_figures_is_of_the_committed_run() -> None:
    figures = load()
    assert figures.table(figures.lines_of(figures.FIGURES)) in figures.PAGE.read_text()

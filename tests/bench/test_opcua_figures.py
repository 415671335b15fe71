"""The pages of OPC UA figures are what the committed runs say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("opcua_figures", DOCS / "opcua_figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


FIGURES = load()


def lines(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (DOCS / "reference" / name).read_text().splitlines()]


def test_plot_and_table_of_growth_are_of_the_committed_run() -> None:
    run = lines("opcua-growth.jsonl")
    assert (DOCS / "reference" / "opcua-growth.md").read_text() == FIGURES.page(run)
    drawn = (DOCS / "reference" / "opcua-growth.svg").read_text()
    assert drawn == FIGURES.drawing(FIGURES.points(run))
    assert ElementTree.fromstring(drawn).tag.endswith("svg")


def test_the_table_of_figures_is_of_the_committed_run() -> None:
    page = (DOCS / "reference" / "opcua-performance.md").read_text()
    assert FIGURES.comparison(lines("opcua-performance.jsonl")) in page

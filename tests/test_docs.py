"""The documents are true: generated pages are fresh, links lead somewhere, the README's examples work."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [
    *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "certs/README.md", "examples/README.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
_LINK = re.compile(r"(?<!\!)\[[^\]\n]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = load_generator()


@pytest.mark.parametrize("name", GENERATE.PAGES)
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    committed = DOCS / "reference" / name
    fresh = GENERATE.page(name)
    assert committed.is_file(), "run: python docs/generate.py"
    assert committed.read_text() == fresh, "run: python docs/generate.py"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as MyST and the forges make them."""
    text = _FENCE.sub("", page.read_text())
    titles = re.findall(r"^#{1,6} +(.+?) *$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        found = target.exists() and target.is_relative_to(ROOT)
        if found and anchor and target.suffix == ".md":
            found = anchor in anchors(target)
        if not found:
            broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_index() -> None:
    globbed = {"howto", "reference", "explanation", "adr"}
    for page in DOCS.rglob("*.md"):
        place = page.relative_to(DOCS)
        if place.parts[0] in globbed or place.name == "index.md" or "_build" in place.parts:
            continue
        assert f"\n{place.with_suffix('')}\n" in (DOCS / "index.md").read_text(), place


def test_every_decision_is_in_the_list_of_decisions() -> None:
    listed = (DOCS / "adr" / "index.md").read_text()
    assert [
        page.name for page in sorted((DOCS / "adr").glob("0*.md")) if f"({page.name})" not in listed
    ] == []


def readme_blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )


def test_the_readme_has_exactly_two_set_up_commands() -> None:
    (block,) = readme_blocks("sh")
    commands = [line for line in block.splitlines() if not line.startswith("#")]
    assert len(commands) == 2
    assert commands[0].endswith(".venv/bin/edge-opcua demo")
    assert commands[1].endswith(".venv/bin/pytest")
    assert all("-c tests/constraints.txt" in command for command in commands)


def test_the_configuration_in_the_readme_is_accepted(tmp_path: Path) -> None:
    from edge_opcua.config.loader import load
    from edge_opcua.config.report import problems_text

    (block,) = readme_blocks("toml")
    assert len(block.splitlines()) <= 20
    shutil.copytree(ROOT / "examples" / "press", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "readme.toml"
    file.write_text(block)
    loaded = load(file)
    assert loaded.ok, problems_text(loaded)


def test_every_error_is_in_the_tree_that_its_docstring_draws() -> None:
    from edge_opcua import errors

    drawn = errors.__doc__ or ""
    names = [
        name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)
    ]
    assert [name for name in names if name not in drawn] == []


@pytest.mark.slow
def test_sphinx_builds_the_documents_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the dev extra brings Sphinx")
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(DOCS), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

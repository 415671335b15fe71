"""Every code that the program can say has its page, and every page is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import edge_opcua
from edge_opcua.config.codes import FAMILIES, codes, explain
from edge_opcua.config.reference import configuration_page, error_codes_page
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.config.tagtable import COLUMNS

PACKAGE = Path(edge_opcua.__file__).parent
_SAID = re.compile(r"""["'\[]([CTDSMHR][1-7]\d\d)["'\]]""")


def said() -> dict[str, str]:
    """Return every code in the package's source, and where it stands first."""
    return {
        code: file.name
        for file in sorted(PACKAGE.rglob("*.py"))
        for code in _SAID.findall(file.read_text(encoding="utf-8"))
    }


def test_every_code_that_is_said_has_a_page() -> None:
    assert {code: file for code, file in said().items() if code not in codes()} == {}


@pytest.mark.parametrize("code", codes())
def test_a_page_is_complete(code: str) -> None:
    page = codes()[code]
    assert re.fullmatch(r"[CTDSMHR][1-7][0-9]{2}", code)
    assert page.title
    assert page.text.endswith((".", "?"))
    assert page.remedy.endswith((".", "?")) or page.remedy[-1].isalnum()
    text = explain(f" [{code.lower()}] ")
    assert text is not None
    assert text.startswith(f"{code}: {page.title}")
    assert max(map(len, text.split("\n"))) <= 100


def test_the_families_are_in_order() -> None:
    families = [code[0] for code in codes()]
    assert list(dict.fromkeys(families)) == list(FAMILIES)


@pytest.mark.parametrize("text", ["", "C", "C999", "X101", "../etc/passwd"])
def test_what_is_no_code_has_no_page(text: str) -> None:
    assert explain(text) is None


def test_the_pages_of_the_reference_name_every_code_key_and_column() -> None:
    errors, configuration = error_codes_page(), configuration_page()
    assert [code for code in codes() if f"### {code}\n" not in errors] == []
    models = EdgeConfig.model_json_schema()["$defs"]
    keys = [
        (name, key)
        for name, model in models.items()
        if name != "TagConfig"
        for key, field in model.get("properties", {}).items()
        if not field.get("resolved")
    ]
    assert [pair for pair in keys if f"| `{pair[1]}` |" not in configuration] == []
    assert [column for column in COLUMNS if f"| `{column}` |" not in configuration] == []
    assert "sample_count" not in configuration


def test_every_setting_has_a_description() -> None:
    models = EdgeConfig.model_json_schema()["$defs"]
    bare = [
        f"{name}.{key}"
        for name, model in models.items()
        if name not in {"TagConfig", "Scalar"}
        for key, field in model["properties"].items()
        if not field.get("description")
    ]
    assert bare == []

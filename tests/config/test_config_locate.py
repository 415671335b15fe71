"""Where the keys and values of a TOML text stand."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.config.locate import Places, locate
from edge_opcua.config.problem import Place

TEXT = """\
version = 1                 # comment with key = "value"
[site]
name = "plant \\" # no comment"
  'quoted key' = { a = 1, "b" = [2, {c = 3}] }
[[devices]]
name = "one"
options.order = "CDAB"
many = [
  1,   # first = 9
  [2, 3],
  '''
x = 1
''',
]
  [[devices.groups]]
  name = "fast"
[[devices]]
[devices.options]
order = "ABCD"
[[devices.groups]]
name = "slow"
"""


def shown(places: Places, *path: str | int) -> tuple[str, str]:
    """Return what stands at the place of a key and of its value."""
    lines = TEXT.split("\n")

    def cut(place: Place) -> str:
        return lines[place.line - 1][place.column - 1 : place.column - 1 + place.width]

    return cut(places.key(path)), cut(places.value(path))


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("version",), "version", "1"),
        (("site",), "site", "site"),
        (("site", "name"), "name", '"plant \\" # no comment"'),
        (("site", "quoted key"), "'quoted key'", '{ a = 1, "b" = [2, {c = 3}] }'),
        (("site", "quoted key", "b", 1, "c"), "c", "3"),
        (("devices", 0, "name"), "name", '"one"'),
        (("devices", 0, "options", "order"), "order", '"CDAB"'),
        (("devices", 0, "many", 0), "1", "1"),
        (("devices", 0, "many", 1, 1), "3", "3"),
        (("devices", 0, "many", 2), "'''", "'''"),
        (("devices", 0, "groups", 0, "name"), "name", '"fast"'),
        (("devices", 1), "devices", "devices"),
        (("devices", 1, "options", "order"), "order", '"ABCD"'),
        (("devices", 1, "groups", 0, "name"), "name", '"slow"'),
    ],
)
def test_a_place_is_where_the_setting_stands(path: tuple[str | int, ...], key: str, value: str) -> None:
    assert shown(locate(TEXT), *path) == (key, value)


def test_the_place_of_a_missing_key_is_the_header_of_its_table() -> None:
    places = locate(TEXT)
    assert places.value(("devices", 1, "url")).line == TEXT.split("\n").index("[[devices]]", 6) + 1
    assert places.key(("nowhere", "at", "all")) == Place(1, 1)


def test_columns_count_characters_and_lines_survive_dos_line_ends() -> None:
    places = locate('a = "é🔧"\r\nb = { "ü" = 1 }\r\n')
    assert places.value(("b", "ü")) == Place(2, 13, 1)


def test_what_stands_twice_is_known() -> None:
    again = locate("a = 1\n[t]\nb = 1\nb = 2\n[t]\n").again
    assert [(name, first.line, second.line) for name, first, second in again] == [("b", 3, 4), ("t", 2, 5)]


scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
)
keys = st.text("abc_-", min_size=1, max_size=4) | st.text("a .#=\"'é", min_size=1, max_size=4)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write(value: Any, draw: st.DataObject) -> str:
    """Write a value as TOML, with drawn white space, quotes and comments."""
    space = draw.draw(st.sampled_from(["", " ", "  "]))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        literal = "'" not in value and draw.draw(st.booleans())
        return f"'{value}'" if literal else quote(value)
    if isinstance(value, list):
        between = draw.draw(st.sampled_from([", ", ",\n  ", ", # [x] = 1\n"]))
        return f"[{space}{between.join(write(item, draw) for item in value)}{space}]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{quote(key)}{space}={space}{write(item, draw)}" for key, item in value.items())
        return f"{{{space}{pairs}{space}}}"
    return repr(value)


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [pair for key, child in items for pair in [((*path, key), child), *paths_of(child, (*path, key))]]


@given(
    st.data(), st.dictionaries(keys, values, max_size=4), st.lists(st.dictionaries(keys, values, max_size=3))
)
def test_every_key_of_any_text_is_found_where_it_stands(
    data: st.DataObject, top: dict[str, Any], tables: list[dict[str, Any]]
) -> None:
    text = "".join(f"{quote(key)} = {write(value, data)}\n" for key, value in top.items())
    for table in tables:
        text += "[[table.list]] # a = 1\n"
        text += "".join(f"  {quote(key)}= {write(value, data)}\n" for key, value in table.items())
    parsed = tomllib.loads(text)
    places = locate(text)
    lines = text.split("\n")
    for path, value in paths_of(parsed):
        assert path in places
        found = places.key(path)
        start = lines[found.line - 1][found.column - 1 :]
        if isinstance(path[-1], str) and path not in {("table",), ("table", "list")}:
            assert start.startswith(quote(path[-1]))
        if not isinstance(value, list | dict):
            at = places.value(path)
            literal = lines[at.line - 1][at.column - 1 : at.column - 1 + at.width]
            assert tomllib.loads(f"x = {literal}")["x"] == value


@given(st.text("[]{}=\"'.,#\n\\ ax1", max_size=60))
def test_garbage_is_located_without_an_exception(text: str) -> None:
    locate(text)

"""Out to another product and back: no name, address, type or unit is lost, whatever the tags are."""

from __future__ import annotations

import csv
import io
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.config.exchange.formats import read_list, write_list
from edge_opcua.config.exchange.listing import ListedTag, Target
from edge_opcua.config.tags import Access
from tests.config.exchange.lists import LOGIX, MODBUS, PARSERS, S7, taken

Strategy = st.SearchStrategy[str]

first = st.sampled_from(string.ascii_letters + "_")
rest = st.text(string.ascii_letters + string.digits + "_-", max_size=8)
part = st.builds(str.__add__, first, rest)
names = st.lists(part, min_size=1, max_size=3).map(".".join)
units = st.sampled_from(["", "kN", "°C", "m/s²", "%", "1/min"])
descriptions = st.text(string.ascii_letters + "äöü ,;\"'$#", max_size=20).map(
    lambda text: " ".join(text.split())
)
scales = st.sampled_from([(1.0, 0.0), (0.1, 0.0), (2.5, 0.0), (-0.5, 0.0)])
register = st.integers(0, 60_000)
byte = st.integers(0, 4_000)


def pattern(form: str, *parts: st.SearchStrategy[object]) -> Strategy:
    return st.tuples(*parts).map(lambda values: form.format(*values))


registers = st.one_of(
    pattern(
        "hr:{}:{};base=0",
        register,
        st.sampled_from(["INT", "UINT", "DINT", "UDINT", "LINT", "ULINT", "REAL", "LREAL"]),
    ),
    pattern("ir:{}:{};base=0", register, st.sampled_from(["INT", "REAL"])),
    pattern("hr:{}.{}:BOOL;base=0", register, st.integers(0, 15)),
    pattern("{}:{}:BOOL;base=0", st.sampled_from(["co", "di"]), register),
    pattern("hr:{}:STRING[{}];base=0", register, st.integers(1, 120)),
)
arrays = pattern("hr:{}:REAL[{}]", st.integers(0, 9_000), st.integers(1, 50))
units_of_the_line = pattern("{}/hr:{}:INT;base=0", st.integers(2, 200), register)
orders = pattern(
    "hr:{}:{};order={};base=0", register, st.sampled_from(["REAL", "DINT"]), st.sampled_from(["CDAB", "DCBA"])
)
blocks = st.one_of(
    pattern("DB{}.DBW{}:INT", st.integers(1, 99), byte),
    pattern("DB{}.DBD{}:{}", st.integers(1, 99), byte, st.sampled_from(["REAL", "DINT", "UDINT"])),
    pattern("DB{}.DBX{}.{}:BOOL", st.integers(1, 99), byte, st.integers(0, 7)),
    pattern("DB{}.DBB{}:STRING[{}]", st.integers(1, 99), byte, st.integers(1, 100)),
)
block_arrays = pattern("DB{}.DBW{}:INT[{}]", st.integers(1, 99), byte, st.integers(1, 50))
plain_markers = pattern("{}W{}:{}", st.sampled_from("IQM"), byte, st.sampled_from(["INT", "UINT", "WORD"]))
markers = st.one_of(
    pattern("{}{}.{}:BOOL", st.sampled_from("IQM"), byte, st.integers(0, 7)),
    pattern("{}W{}:{}", st.sampled_from("IQM"), byte, st.sampled_from(["INT", "UINT", "WORD"])),
    pattern("MD{}:{}", byte, st.sampled_from(["REAL", "DINT", "UDINT", "DWORD", "TIME"])),
    pattern("MB{}:{}", byte, st.sampled_from(["BYTE", "SINT", "USINT", "LREAL", "LINT"])),
)
plain_names = pattern(
    "Tag{}:{}", st.integers(0, 999), st.sampled_from(["BOOL", "SINT", "INT", "DINT", "LINT", "REAL"])
)
logix = st.one_of(
    plain_names,
    pattern("Program:Main.Pump[{}].Speed:REAL", st.integers(0, 9)),
    pattern("Flags.{}:BOOL", st.integers(0, 31)),
    pattern("Text{}:STRING", st.integers(0, 9)),
)
logix_arrays = pattern("Tag{}:DINT[{}]", st.integers(0, 9), st.integers(1, 50))

CASES: list[tuple[str, Target, Strategy]] = [
    ("kepware", MODBUS, st.one_of(registers, arrays)),
    ("kepware", S7, st.one_of(blocks, block_arrays)),
    ("kepware", LOGIX, st.one_of(logix, logix_arrays)),
    ("ignition", MODBUS, st.one_of(registers, units_of_the_line)),
    ("ignition", S7, st.one_of(blocks, block_arrays)),
    ("ignition", LOGIX, logix),
    ("tia", S7, markers),
    ("rockwell", LOGIX, st.one_of(logix, logix_arrays)),
    ("neuron", MODBUS, st.one_of(registers, units_of_the_line, orders)),
    ("neuron", S7, st.one_of(blocks, plain_markers)),
    ("neuron", LOGIX, logix),
]


@st.composite
def tags(draw: st.DrawFn, addresses: Strategy, target: Target) -> list[ListedTag]:
    found = []
    # Ignition's tree has folders: a name cannot be a tag and a folder, so every name has its own first part.
    for number, address in enumerate(draw(st.lists(addresses, min_size=1, max_size=6))):
        parsed = PARSERS[target.driver](address)
        is_number = ":BOOL" not in address and ":STRING" not in address
        access: Access = draw(st.sampled_from(["r", "rw"])) if parsed.writable else "r"
        scale, offset = draw(scales) if is_number else (1.0, 0.0)
        name = f"n{number}{draw(names)}"
        found.append(
            ListedTag(
                name,
                address,
                number + 1,
                draw(units),
                draw(descriptions),
                scale=scale,
                offset=offset,
                access=access,
            )
        )
    return found


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(
    ("product", "target", "addresses"), CASES, ids=[f"{p}-{t.driver}" for p, t, _ in CASES]
)
def test_nothing_is_lost_on_the_way_out_and_back(product: str, target: Target, addresses: Strategy) -> None:
    @settings(max_examples=40, deadline=None)
    @given(tags(addresses, target))
    def there_and_back(given_tags: list[ListedTag]) -> None:
        text, written = write_list(product, given_tags, target)
        assert [problem for problem in written.problems if problem.code != "T251"] == []
        listing = read_list(text.encode(), "back", target, product=product)
        accepted = taken(listing, target)
        assert [problem for problem in listing.problems if problem.code != "T244"] == []
        found = rows(accepted.text)
        parse = PARSERS[target.driver]
        for before, after in zip(given_tags, found, strict=True):
            one, other = parse(before.address), parse(after["address"])
            assert after["name"] == before.name
            assert (other.scalar, other.length) == (one.scalar, one.length)
            assert place_of(other.canonical) == place_of(one.canonical)
            assert after["unit"] == before.unit
            assert after.get("access", "") == ("rw" if before.access == "rw" else "")
            assert after["description"] == before.description
            if product in ("kepware", "ignition"):
                assert float(after.get("scale") or 1) == pytest.approx(before.scale)

    there_and_back()


def place_of(canonical: str) -> str:
    """Return the place of an address; WORD and UINT are one type under two names."""
    return canonical.replace(":WORD", ":UINT").replace(":DWORD", ":UDINT").replace(":BYTE", ":USINT")


def test_a_name_that_had_to_change_comes_back_as_it_was() -> None:
    text = "Tag Name,Address,Data Type\nÖl (1),400001,Float\n"
    accepted = taken(read_list(text.encode(), "k", MODBUS), MODBUS)
    (row,) = rows(accepted.text)
    assert (row["name"], row["x_name"]) == ("Oel_1", "Öl (1)")


@pytest.mark.parametrize(
    ("product", "target", "address", "part"),
    [
        ("kepware", MODBUS, "3/hr:1:INT", "unit 3"),
        ("kepware", MODBUS, "hr:1:REAL;order=CDAB", "order=CDAB"),
        ("kepware", MODBUS, "hr:1:USINT", "single bytes"),
        ("kepware", S7, "DB1.DBB8:LREAL", "LREAL"),
        ("ignition", MODBUS, "hr:1:INT[4]", "INT[4]"),
        ("ignition", LOGIX, "A:USINT", "USINT"),
        ("tia", S7, "DB1.DBW0:INT", "no data blocks"),
        ("rockwell", LOGIX, "T:STRING[20]", "82 characters"),
        ("neuron", MODBUS, "hr:1:INT[4]", "no arrays"),
        ("neuron", S7, "DB1.DBW0:INT[4]", "arrays"),
    ],
)
def test_what_the_other_product_cannot_have_is_said_and_left_out(
    product: str, target: Target, address: str, part: str
) -> None:
    text, listing = write_list(product, [ListedTag("force", address, 7)], target)
    (problem,) = listing.problems
    assert (problem.code, problem.place.line) == ("T250", 7)
    assert problem.message.startswith("force: ")
    assert part in problem.message
    assert "force" not in text
    assert not listing.tags

"""The tag table when the tags are replaced: a number never comes to mean another tag."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.config.tags import TagConfig, TagRows
from edge_opcua.core.values import BAD_NODE_ID_UNKNOWN, BlockSpec, Scalar
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.opcua.tags.table import Part, TagTable
from edge_opcua.testing import ManualClock

NAMES = "abcdef"
CLOCK = ManualClock()


def config(name: str, access: str = "r") -> TagConfig:
    return TagConfig(name, f"hr:{ord(name)}", Scalar.UINT16, unit=f"unit of {name}", access=access)  # type: ignore[arg-type]


def part(names: str, device: str = "d") -> Part:
    rows = TagRows.of([config(name, "rw" if name in "ace" else "r") for name in names])
    block = LiveBlock(BlockSpec(f"{device}.{names}", rows.specs, 2), CLOCK)
    return Part(block, range(len(names)), [f"M.{name}" for name in names], rows, device)


def gone() -> LiveBlock:
    return part("x").block


# Tags in an order, cut into blocks.
TAGS = st.permutations(NAMES).flatmap(
    lambda order: st.tuples(st.integers(0, len(order)), st.integers(0, len(order))).map(
        lambda cut: ["".join(order[: min(cut)]), "".join(order[min(cut) : max(cut)])]
    )
)


@given(st.lists(TAGS, min_size=1, max_size=5))
def test_whatever_is_replaced_numbers_stay_and_everything_is_found(changes: list[list[str]]) -> None:
    table = TagTable()
    first = part("abc")
    table.extend(first.block, first.rows, first.names, first.configs, device="d")
    known = {name: table.find(f"M.{name}".encode()) for name in "abc"}
    for blocks in changes:
        parts = [part(names, f"d{index}") for index, names in enumerate(blocks) if names]
        nowhere = gone()
        table.replace(parts, nowhere)
        names = "".join(blocks)
        assert [table.name(number) for number in table.order] == [f"M.{name}" for name in names]
        assert len(table) == len(names)
        for name in NAMES:
            number = table.find(f"M.{name}".encode())
            assert (number is not None) == (name in names)
            if number is None:
                continue
            assert known.setdefault(name, number) == number
            assert table.configs[number] == config(name, "rw" if name in "ace" else "r")
            assert table.configs.cell(number, "unit") == f"unit of {name}"
            assert table.writable[number] == (name in "ace")
            block, row = table.place(number)
            assert block.spec.tags[row].name == name
            assert block.spec.name.startswith(f"{table.device(number)}.")
            assert not table.is_gone(number)
        assert [*table.configs.fields(("name", "unit"), table.order)] == [(n, f"unit of {n}") for n in names]
        for name, lost in known.items():
            assert lost is not None
            if name not in names:
                assert table.is_gone(lost)
                assert table.place(lost) == (nowhere, 0)
                assert table.configs[lost].name == name
                assert not table.writable[lost]
        assert table.size == len(known)


def test_two_tags_of_one_node_id_leave_everything_as_it_was() -> None:
    table = TagTable()
    table.replace([part("abc")], gone())
    with pytest.raises(IdentityError, match=r"M\.a"):
        table.replace([part("ab", "d0"), part("ca", "d1")], gone())
    assert [table.name(number) for number in table.order] == ["M.a", "M.b", "M.c"]
    assert table.changes == 1


def test_what_lies_where_there_is_nothing_says_that_it_is_unknown() -> None:
    block = gone()
    block.status[:] = BAD_NODE_ID_UNKNOWN
    assert int.from_bytes(block.record(0)[10:14], "little") == BAD_NODE_ID_UNKNOWN

"""What is installed to run carries no copyleft into a plant, apart from asyncua, which is only imported."""

from __future__ import annotations

import pytest

from tests.licences import licence_of, runtime_closure, verdict


def test_the_runtime_is_free_of_copyleft() -> None:
    names = sorted(runtime_closure("edge-opcua", ["cpu", "compress"]))
    assert {"edge-opcua", "asyncua", "onnx", "onnxruntime", "pymodbus"} <= set(names)
    assert [why for name in names if (why := verdict(name, licence_of(name)))] == []


@pytest.mark.parametrize(
    ("name", "licence", "refused"),
    [
        ("cpppo", "GPL-3.0-or-later", True),
        ("cpppo", "MIT", True),
        ("somelib", "AGPL-3.0-only", True),
        ("somelib", "GNU Lesser General Public License v3 or later", True),
        ("somelib", "License :: OSI Approved :: GNU General Public License v2 (GPLv2)", True),
        ("somelib", "", True),
        ("asyncua", "GNU Lesser General Public License v3 or later", False),
        ("asyncua", "GPL-3.0-only", True),
        ("somelib", "MIT OR GPL-2.0-only", False),
        ("somelib", "BSD-3-Clause", False),
    ],
)
def test_the_check_tells_licences_apart(name: str, licence: str, refused: bool) -> None:
    assert bool(verdict(name, licence)) is refused

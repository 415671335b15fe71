"""What a device is called, and whether whole numbers are fast on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_opcua.compress.measure.device import device


def box(root: Path, cpuinfo: str, board: str = "") -> Path:
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(cpuinfo)
    if board:
        (root / "proc/device-tree/model").write_text(board + "\0")
    return root


@pytest.mark.parametrize(
    ("flags", "has_vnni"),
    [("fpu avx2 avx512_vnni", True), ("fpu avx2 avx_vnni", True), ("fpu avx2", False)],
)
def test_an_x86_processor_tells_its_name(tmp_path: Path, flags: str, has_vnni: bool) -> None:
    text = f"processor\t: 0\nmodel name\t: Intel(R) Atom(TM) x6425E\nflags\t\t: {flags}\n"
    found = device("cpu", root=box(tmp_path, text), machine="x86_64")
    assert (found.provider, found.machine) == ("cpu", "x86_64")
    assert found.processor == "Intel(R) Atom(TM) x6425E"
    assert found.has_vnni is has_vnni


@pytest.mark.parametrize(("features", "has_vnni"), [("fp asimd asimddp", True), ("fp asimd", False)])
def test_an_arm_box_is_called_as_its_board(tmp_path: Path, features: str, has_vnni: bool) -> None:
    text = f"processor\t: 0\nFeatures\t: {features}\nCPU part\t: 0xd0b\n"
    found = device("cpu", root=box(tmp_path, text, "Raspberry Pi 5 Model B Rev 1.0"), machine="aarch64")
    assert found.processor == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.has_vnni is has_vnni


def test_a_box_that_tells_nothing_has_a_name_all_the_same(tmp_path: Path) -> None:
    found = device("cpu", root=tmp_path, machine="riscv64")
    assert (found.processor, found.has_vnni) == ("unknown processor", False)

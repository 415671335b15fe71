"""Which device a variant is to run on, and what decides there whether whole numbers are fast."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

from edge_opcua.compress.making import Device
from edge_opcua.inference.nvml import Nvml

_ROOT: Final = Path("/")
_ON_A_CARD: Final = frozenset({"cuda", "tensorrt", "tensorrt_rtx"})
_WHOLE_NUMBERS: Final = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})
"""Flags of processors that multiply and add four INT8 into an INT32 at once: VNNI, and SDOT of Arm."""


def device(provider: str, *, root: Path = _ROOT, machine: str | None = None) -> Device:
    """Return what runs models here with this provider; nothing is tried, a measurement refuses by itself.

    Args:
        provider: Execution provider as the configuration calls it.
        root: Where ``proc`` is.
        machine: Architecture; None asks the system.

    Source:
        Linux, arch/x86/include/asm/cpufeatures.h (``avx512_vnni``, ``avx_vnni``) and
        Documentation/arch/arm64/elf_hwcaps.rst (``asimddp``).
    """
    facts = _facts(root)
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return Device(
        provider=provider,
        processor=(_card() if provider in _ON_A_CARD else "") or _processor(facts, root),
        machine=machine or platform.machine(),
        has_vnni=not _WHOLE_NUMBERS.isdisjoint(flags),
    )


def _facts(root: Path) -> dict[str, str]:
    """Return what ``/proc/cpuinfo`` says of the first processor."""
    try:
        lines = (root / "proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    facts: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            facts.setdefault(name.strip(), value.strip())
    return facts


def _processor(facts: dict[str, str], root: Path) -> str:
    """Return its name; a box with an Arm processor has one, the processor has not."""
    try:
        board = (root / "proc/device-tree/model").read_text().strip("\0 \n")
    except OSError:
        board = ""
    return facts.get("model name") or board or facts.get("Model") or "unknown processor"


def _card() -> str:
    nvml = Nvml.open()
    uses = nvml.uses() if nvml is not None else []
    return uses[0].name if uses else ""

"""Keeps files that take long to make again, under a name made from everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

MOST_KEPT: Final = 8
"""Files of one kind that stay; the one not used for longest goes first."""
_CPUINFO: Final = Path("/proc/cpuinfo")


def kept(folder: Path, kind: str, facts: Mapping[str, object], suffix: str) -> Path:
    """Return where a file that depends on these facts is, or will be, and only that one.

    Args:
        folder: The cache.
        kind: What it is, in one word; begins its name.
        facts: Whatever, if it were otherwise, would make another file.
        suffix: End of its name.
    """
    text = json.dumps({name: str(value) for name, value in facts.items()}, sort_keys=True)
    return folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}{suffix}"


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def processor() -> str:
    """Return what decides which code for this processor is fast: its architecture and its features."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    wanted = ("flags", "Features", "model name", "CPU part")
    found = [next((line for line in lines if line.startswith(word)), "") for word in wanted]
    return " ".join([platform.machine(), *found])


def nvidia(root: Path = Path("/")) -> str:
    """Return what the system tells of NVIDIA's driver and devices, where an engine depends on them."""
    places = (
        *sorted(root.glob("proc/driver/nvidia/gpus/*/information")),
        root / "proc/driver/nvidia/version",
    )
    texts = []
    for place in (*places, root / "etc/nv_tegra_release"):
        try:
            texts.append(place.read_text())
        except OSError:
            continue
    return "\n".join(texts)


def keep(path: Path, image: bytes | memoryview) -> None:
    """Write a file so that it is there whole or not at all, with its check sum before it.

    Raises:
        OSError: There is no room, or no right.
    """
    part = begin(path)
    part.write_bytes(hashlib.sha256(image).digest() + bytes(image))
    finish(part, path)


def recall(path: Path) -> bytes | None:
    """Return what :func:`keep` wrote; None if it is not there, or not as it was written."""
    try:
        image = path.read_bytes()
    except OSError:
        return None
    size = hashlib.sha256().digest_size
    if hashlib.sha256(image[size:]).digest() != image[:size]:
        path.unlink(missing_ok=True)
        return None
    os.utime(path)
    return image[size:]


def begin(path: Path) -> Path:
    """Return the name under which a file is written before it gets its own; the folder exists afterwards.

    Raises:
        OSError: The folder cannot be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")


def finish(part: Path, path: Path) -> None:
    """Give a file that is written whole its name, and let go what of its kind has not been used for longest.

    Raises:
        OSError: It is not there.
    """
    part.chmod(0o600)
    part.replace(path)
    _let_go(path)


def make_folder(path: Path) -> None:
    """Make a kept folder, or mark it as used, and let go those that have not been used for longest."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.utime(path)
    _let_go(path)


def _let_go(path: Path) -> None:
    kind = path.name.partition("-")[0]
    others = sorted(path.parent.glob(f"{kind}-*{path.suffix}"), key=_used, reverse=True)
    for old in others[MOST_KEPT:]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process has just let it go
        return 0.0

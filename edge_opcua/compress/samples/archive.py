"""Reads arrays out of ``.npz`` files that anybody may have made: nothing in them is ever run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.errors import ModelError
from edge_opcua.inference.memory import MB, free_memory

Arrays = Mapping[str, npt.NDArray[Any]]
COPIES: Final = 3
"""How often samples are in memory while they are read: in their own type, as float32, and a part of them."""
_ARRAY: Final = b"\x93NUMPY"
_ZIP: Final = b"PK"


def read_arrays(path: Path, *, code: str) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a file by name; of an ``.npy`` file its one array, named like the file.

    Args:
        path: The file.
        code: Code of the refusal.

    Raises:
        ModelError: It is not there, holds something else than arrays of plain values, is damaged, or does
            not fit into memory.
    """
    try:
        with path.open("rb") as stream:
            return dict(_arrays(path, stream))
    except FileNotFoundError as exc:
        raise ModelError(f"{path} is not there", code=code) from exc
    except MemoryError as exc:
        raise ModelError(f"{path} holds more than fits into memory; take fewer samples", code=code) from exc
    except Exception as exc:  # third-party boundary: a damaged file ends in errors of many kinds
        said = str(exc).partition("\n")[0] or type(exc).__name__
        raise ModelError(f"{path} is no .npz file of arrays: {said}", code=code) from exc


def _arrays(path: Path, stream: IO[bytes]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    begin = stream.read(len(_ARRAY))
    stream.seek(0)
    if begin == _ARRAY:
        yield path.stem, _array(path.stem, stream)
    elif begin.startswith(_ZIP):
        with zipfile.ZipFile(stream) as archive:
            _require_room(archive)
            for name in archive.namelist():
                with archive.open(name) as member:
                    yield name.removesuffix(".npy"), _array(name, member)
    else:
        raise ValueError("save one with numpy.savez(FILE, x=samples, labels=labels)")


def _require_room(archive: zipfile.ZipFile) -> None:
    """Refuse what would take all memory: zeros take a thousandth of their place in a file."""
    wanted, free = sum(each.file_size for each in archive.infolist()), free_memory().free_bytes
    if COPIES * wanted > free:
        raise ValueError(
            f"it holds {wanted // MB} MB and {free // MB} MB of memory are free, of which it takes "
            f"{COPIES} times as much; take fewer samples"
        )


def _array(name: str, stream: IO[bytes]) -> npt.NDArray[Any]:
    try:
        return np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as exc:
        if "allow_pickle" not in str(exc):
            raise
        raise ValueError(f"{name} holds objects, which are not read; save plain numbers") from exc

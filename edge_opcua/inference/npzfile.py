"""Arrays out of a ``.npz`` file that somebody delivered: no more of them than there may be, and never code.

A file of a megabyte may unfold to gigabytes, and what its headers say may have nothing to do with what is in
it; so the sizes are looked at before anything is unpacked.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from typing import IO, Any, Final

import numpy as np
import numpy.lib.format
import numpy.typing as npt

_PACKED: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED: Final = 1
_SUFFIX: Final = ".npy"
_UNREADABLE: Final = (
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What a header or a packed file that was made to do harm ends in."""

Arrays = dict[str, npt.NDArray[Any]]


def read_arrays(
    stream: IO[bytes], names: Iterable[str], *, most_bytes: int, optional: Iterable[str] = ()
) -> Arrays:
    """Return arrays of a ``.npz`` file by name.

    Args:
        stream: The file.
        names: Arrays that have to be there.
        most_bytes: Bytes that they may take together, unpacked.
        optional: Arrays that may be missing.

    Raises:
        ValueError: One is missing, they are too large, or they cannot be read.
        OSError: The file cannot be read.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            there = {each.filename: each for each in archive.infolist()}
            wanted = [*names, *(name for name in optional if name + _SUFFIX in there)]
            _require_fit(there, wanted, most_bytes)
            return {name: _array(archive, there[name + _SUFFIX]) for name in wanted}
    except _UNREADABLE as exc:
        raise ValueError(str(exc) or type(exc).__name__) from exc


def _require_fit(there: Mapping[str, zipfile.ZipInfo], wanted: Iterable[str], most_bytes: int) -> None:
    total = 0
    for name in wanted:
        if (info := there.get(name + _SUFFIX)) is None:
            raise ValueError(f"{name} is missing")
        if info.compress_type not in _PACKED or info.flag_bits & _ENCRYPTED:
            raise ValueError(f"{name} is packed in another way than .npz files are")
        total += info.file_size
    if total > most_bytes:
        raise ValueError(f"unpacked it takes {total} bytes, more than {most_bytes}")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(info) as member:
        array: npt.NDArray[Any] = numpy.lib.format.read_array(member, allow_pickle=False)
    if array.nbytes > info.file_size:
        raise ValueError(f"{info.filename} holds less than it says")
    if np.issubdtype(array.dtype, np.complexfloating):
        raise ValueError(f"{info.filename} holds complex numbers")
    return array

"""Reference samples and profiles that were made to do harm are refused in a sentence, before they unfold."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_opcua.errors import ModelError
from edge_opcua.inference.golden import read_golden
from edge_opcua.inference.watch.profile import load_profile, make_profile
from tests.inference.line import delivered

Members = dict[str, bytes]


def npy(array: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array))
    return stream.getvalue()


def header(text: str) -> bytes:
    head = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head


def shaped(shape: str) -> bytes:
    return header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}")


def packed(members: Members, how: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def with_byte(content: bytes, place: int, value: int) -> bytes:
    """Return a zip file with a byte of all its headers changed."""
    changed = bytearray(content)
    for magic, offset in ((rb"PK\x03\x04", 0), (rb"PK\x01\x02", 2)):
        for found in re.finditer(magic, content):
            changed[found.start() + place + offset] = value
    return bytes(changed)


def other(**changes: bytes) -> Callable[[Members], bytes]:
    return lambda members: packed({**members, **{f"{name}.npy": each for name, each in changes.items()}})


def raw(members: Members) -> bytes:
    changed = {name: each for name, each in members.items() if name != "mean.npy"}
    return packed({**changed, "mean": b"hello"})


HARM: dict[str, Callable[[Members], bytes]] = {
    "a member that is no array": raw,
    "packed in an odd way": lambda members: packed(members, zipfile.ZIP_LZMA),
    "packed in no way we know": lambda members: with_byte(packed(members), 8, 99),
    "encrypted": lambda members: with_byte(packed(members), 6, 1),
    "petabytes": other(mean=shaped("(1000000000000000,)")),
    "more than there are numbers": other(mean=shaped("(10000000000000000000000000,)")),
    "less than nothing": other(mean=shaped("(-1,)")),
    "brackets": other(mean=header("(" * 9000)),
    "code": other(mean=header("__import__('os').abort()")),
    "a bomb": other(mean=npy(np.zeros(40_000_000))),
    "infinitely many": other(count=npy(np.inf)),
    "a mean that is no number": other(mean=npy([0.0, 0.0, np.nan])),
    "a spread below nothing": other(std=npy([1.0, 1.0, -1.0])),
    "shares that are no numbers": other(shares=npy([np.nan] * 105)),
    "imaginary": other(mean=npy([1j, 1.0, 1.0])),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_profile_that_was_made_to_do_harm_is_refused(tmp_path: Path, harm: str) -> None:
    file = tmp_path / "profile.npz"
    values = np.arange(40.0)
    made = make_profile(values[:, None], names=["a"], units=[""], scores=values)
    made.save(file)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    file.write_bytes(HARM[harm](members))
    with pytest.raises(ModelError, match=r"^profile\.npz is not a reference profile: \S") as refused:
        load_profile(file, ["a"])
    assert refused.value.code == "M659"


@pytest.mark.parametrize("content", [b"hello", shaped("(1000000000000000,)"), npy(np.zeros(80_000_000))])
def test_reference_samples_that_were_made_to_do_harm_are_refused(tmp_path: Path, content: bytes) -> None:
    files = delivered()
    with zipfile.ZipFile(files.golden) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    file = tmp_path / "golden.npz"
    file.write_bytes(packed({**members, "waveform.npy": content}))
    with pytest.raises(ModelError, match=r"^golden\.npz cannot be read: \S") as refused:
        read_golden(file, files.manifest)
    assert refused.value.code == "M513"

"""The work folder of a run: each step that was done is kept, so that a run that was killed goes on.

A step is known by a hash of everything it depends on. Its files are written beside their places and renamed,
and the note that names them is written last: a step is done when its note is there, and never half. Note and
file carry hashes: what was damaged or changed since is done again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.errors import ModelError
from edge_opcua.security.pki import write_atomic

Facts = Mapping[str, Any]
"""What a step depends on, as JSON."""
NO_ROOM: Final = "M681"
MOMENTARY: Final = frozenset({"M581", "M610", "M611", "M683", NO_ROOM})
"""Refusals that another moment may not repeat: too little memory, ended, too slow, something unforeseen."""
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors of the disk and not of what is done."""
_DIGITS: Final = 20
_LOCK: Final = "lock"
_DRAFT: Final = ".draft-"
_BEGUN: Final = ".begun-"
MOST_ENDS: Final = 2
"""How often a step may end the whole program, by a crash of a library or because somebody kills it."""
_MODE: Final = 0o644
_SEAL: Final = "seal"
_HASH: Final = "file_sha256"


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was done.

    Args:
        note: What came of it, as JSON.
        file: The file it wrote; None if it writes none.
        again: Whether it was done before, by this run or a former one.
    """

    note: Mapping[str, Any]
    file: Path | None
    again: bool


class Journal:
    """The steps in one work folder.

    Args:
        folder: The work folder; :func:`opened` makes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: set[Path] = set()
        self.failed: ModelError | None = None
        """Why a step could not be kept: nothing that was found then is an answer."""

    def step(
        self, name: str, facts: Facts, work: Callable[[Path], Mapping[str, Any]], *, suffix: str = ""
    ) -> Done:
        """Do a step, unless it was done.

        Args:
            name: Such as ``int8-minmax/model``; for people who look into the folder.
            facts: Everything the step depends on, as JSON.
            work: Does it: gets the path of the file to write, and returns a note as JSON.
            suffix: Of the file, such as ``.onnx``; empty if it writes none.

        Raises:
            ModelError: It was refused, now or by a former run; or the folder cannot be written (M681).
        """
        place = self.folder / f"{name}-{key_of(facts)}"
        file = place.with_name(place.name + suffix) if suffix else None
        known = _read(_note_of(place))
        if known is not None and ("refused" in known or self._is_whole(file, known)):
            return _told(known, file, again=True)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            note = self._work(place, file, work)
            kept = json.loads(json.dumps({"facts": facts, **note}))  # as it will be read again
            content = json.dumps({**kept, _SEAL: key_of(kept)}, indent=1, ensure_ascii=False)
            write_atomic(_note_of(place), content.encode(), mode=_MODE)
        except OSError as exc:
            self.failed = _no_room(place, exc)
            raise self.failed from exc
        except ModelError as exc:
            self.failed = exc if exc.code == NO_ROOM else self.failed
            raise
        return _told(note, file, again=False)

    def is_done(self, name: str, facts: Facts) -> bool:
        """Return whether a step needs not be done."""
        return _read(_note_of(self.folder / f"{name}-{key_of(facts)}")) is not None

    def _is_whole(self, file: Path | None, known: Mapping[str, Any]) -> bool:
        """Return whether the file of a step is the one that it wrote; looked at once in a run."""
        if file is None:
            return True
        if not file.is_file() or (file not in self._seen and known.get(_HASH) != _hash(file)):
            return False
        self._seen.add(file)
        return True

    def _work(
        self, place: Path, file: Path | None, work: Callable[[Path], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        draft = place.with_name(f"{_DRAFT}{place.name}{file.suffix if file else ''}")
        try:
            with _begun(place.with_name(_BEGUN + place.name)):
                note = {"note": dict(work(draft))}
        except ModelError as exc:
            draft.unlink(missing_ok=True)
            if exc.code == NO_ROOM:
                draft.with_name(f".{draft.name}.part").unlink(missing_ok=True)
            if exc.code in MOMENTARY:
                raise
            return {"refused": str(exc), "code": exc.code}
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        if file is None:
            return note
        _flush(draft)
        draft.replace(file)
        self._seen.add(file)
        return {**note, _HASH: _hash(file)}


@contextmanager
def _begun(mark: Path) -> Iterator[None]:
    """Leave a mark for as long as a step takes: whoever ends the program in it leaves it there.

    Raises:
        ModelError: The program has ended in this step too often (M683).
    """
    ended = mark.stat().st_size if mark.exists() else 0
    if ended >= MOST_ENDS:
        raise ModelError(f"the program has ended {ended} times in the middle of it", code="M683")
    with mark.open("ab") as stream:
        stream.write(b".")
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


@contextmanager
def opened(folder: Path) -> Iterator[Journal]:
    """Make the work folder and hold it, so that no two runs write into it.

    Raises:
        ModelError: Another run holds it, or it cannot be written, now or in the middle of the run (M681).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    except OSError as exc:
        raise ModelError(f"{folder} cannot be written: {exc.strerror}", code="M681") from exc
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ModelError(f"another run works in {folder}; --work names another", code="M681") from None
        for pattern in (
            f"*/{_DRAFT}*",
            f"*/.{_DRAFT}*",
        ):  # of a run that was killed, and of who worked for it
            for left in folder.glob(pattern):
                left.unlink(missing_ok=True)
        journal = Journal(folder)
        try:
            yield journal
        except OSError as exc:
            if exc.errno not in FULL:
                raise
            raise _no_room(folder, exc) from exc
        if journal.failed is not None:
            raise journal.failed
    finally:
        os.close(fd)


def _no_room(place: Path, exc: OSError) -> ModelError:
    return ModelError(
        f"{place} cannot be written: {exc.strerror or exc}; make room, and run the same again to go on",
        code=NO_ROOM,
    )


def key_of(facts: Facts) -> str:
    """Return by what a step is known: the same facts, the same key."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def digest_of(*arrays: np.ndarray[Any, Any] | None) -> str:
    """Return a hash of arrays: their types, shapes and numbers."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is None:
            digest.update(b"none;")
            continue
        digest.update(f"{array.dtype.str}{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _note_of(place: Path) -> Path:
    return place.with_name(place.name + ".json")


def _read(path: Path) -> Mapping[str, Any] | None:
    """Return a note; None if there is none, or nobody can read it: then the step is done again."""
    try:
        note = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(note, dict) or not (isinstance(note.get("note"), dict) or "refused" in note):
        return None
    is_ours = note.pop(_SEAL, None) == key_of(note)
    return note if is_ours else None


def _told(note: Mapping[str, Any], file: Path | None, *, again: bool) -> Done:
    if "refused" in note:
        raise ModelError(str(note["refused"]), code=str(note.get("code", "M681")))
    return Done(note["note"], file, again)


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

"""Who may read and change what lies in the state directory: more than needed is a finding."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["FileMode", "file_modes"]

# What nobody but the server may read; everything else only nobody but the server may write.
_SECRET_NAMES: Final = frozenset(
    {
        "key.pem",
        "users.json",
        "journal.sqlite",
        "journal.sqlite-wal",
        "journal.sqlite-shm",
        "control.sock",
        "identity.lock",
    }
)
# Keys that wait for their certificate, keys of former certificates, and a replacement that was cut short.
_SECRET_FOLDERS: Final = ("pki/own/",)
_PUBLIC_NAMES: Final = frozenset({"chain.pem"})
_PUBLIC_SUFFIXES: Final = frozenset({".der", ".crt", ".cer", ".crl"})
_PRIVATE: Final = 0o077
_WRITABLE: Final = 0o022
MAX_FILES: Final = 20_000


@dataclass(frozen=True, slots=True)
class FileMode:
    """One file or directory.

    Args:
        path: Where it is.
        mode: Its permission bits.
        uid: Its owner.
        secret: Whether only the server may read it.
        too_open: Bits that others should not have; 0 if all is well.
        foreign: Whether it belongs to another user than the state directory.
    """

    path: Path
    mode: int
    uid: int
    secret: bool
    too_open: int
    foreign: bool

    @property
    def fix(self) -> str:
        """Command that mends it; empty if all is well."""
        name = shlex.quote(str(self.path))
        if self.foreign:
            return f"chown --reference={shlex.quote(str(self.path.parent))} {name}"
        return f"chmod {self.mode & ~self.too_open:o} {name}" if self.too_open else ""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "path": str(self.path),
            "mode": f"{self.mode:04o}",
            "secret": self.secret,
            "too_open": bool(self.too_open),
            "foreign": self.foreign,
        }


def file_modes(root: Path) -> list[FileMode]:
    """Return what matters below a state directory: directories, secrets, and whatever is too open.

    Reads nothing but names and modes; links are not followed.
    """
    if not root.is_dir():
        return []
    owner = root.lstat().st_uid
    found = []
    for path in _walk(root):
        one = _look(path, root, owner)
        if one is not None and (one.secret or one.too_open or one.foreign):
            found.append(one)
    return found


def _walk(root: Path) -> Iterator[Path]:
    yield root
    count = 0
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in (*folders, *sorted(files)):
            count += 1
            if count > MAX_FILES:
                return
            yield Path(folder) / name


def _look(path: Path, root: Path, owner: int) -> FileMode | None:
    try:
        info = path.lstat()
    except OSError:  # it went away just now
        return None
    if stat.S_ISLNK(info.st_mode):
        return None
    secret = _is_secret(path, root, directory=stat.S_ISDIR(info.st_mode))
    mode = stat.S_IMODE(info.st_mode)
    too_open = mode & (_PRIVATE if secret else _WRITABLE)
    return FileMode(path, mode, info.st_uid, secret, too_open, info.st_uid != owner)


def _is_secret(path: Path, root: Path, *, directory: bool) -> bool:
    if directory:
        return path == root  # what is closed here is closed to everything below
    if path.name in _SECRET_NAMES:
        return True
    if path.name in _PUBLIC_NAMES or path.suffix.lower() in _PUBLIC_SUFFIXES:
        return False
    return path.relative_to(root).as_posix().startswith(_SECRET_FOLDERS)

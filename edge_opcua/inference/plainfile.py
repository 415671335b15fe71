"""Opens files of a model only if they are plain files: a pipe would make us wait, a device would not end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge_opcua.errors import ModelError


def open_plain(path: Path) -> int:
    """Return a descriptor of a plain file, open for reading.

    Raises:
        ModelError: It is a link, a folder, a pipe, a socket or a device (M509).
        OSError: It is not there, or may not be read.
    """
    if path.is_symlink():
        raise _not_plain(path)
    # Without O_NONBLOCK the open of a pipe waits for somebody who writes; a plain file knows no difference.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_plain(path)
    return fd


def _not_plain(path: Path) -> ModelError:
    return ModelError(f'"{path.name}" is not a plain file in the folder of the model', code="M509")

"""What SIGHUP means to a running server: read the configuration again, or the terminal has gone.

A service manager and an operator send it for the former. The kernel and the shell send it when the terminal
is closed from which a server was started by hand; that one ends, as it always did. Started by ``nohup`` a
server ignores it.
"""

from __future__ import annotations

import os
import signal
from typing import Final

_TERMINAL: Final = "/dev/tty"


def has_terminal() -> bool:
    """Whether this process has a controlling terminal that is still there."""
    try:
        fd = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # ENXIO: there is none, or none any more (tty(4))
        return False
    os.close(fd)
    return True


def is_ignored() -> bool:
    """Whether whoever started this process wants it to survive a hang-up: ``nohup``."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

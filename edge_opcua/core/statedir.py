"""The state directory: everything a running server keeps, and the lock that lets only one use it."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_opcua.errors import ConfigError


def default_state_dir() -> Path:
    """Return where a server keeps everything it needs: systemd's state directory, or the XDG one."""
    service = os.environ.get("STATE_DIRECTORY")
    if service:
        return Path(service.split(":")[0])
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "edge-opcua"


def state_option(root: Path) -> str:
    """Return what a suggested command needs to mean this directory: `` --state DIR``, or nothing."""
    return "" if root == default_state_dir() else f" --state {shlex.quote(str(root))}"


def owner_help(root: Path) -> str:
    """Return what somebody does who may not look into a state directory."""
    try:
        owner = pwd.getpwuid(root.stat().st_uid).pw_name
    except (OSError, KeyError):
        owner = "USER"
    return f"help: only its owner may use the state directory {root}: sudo -u {owner} edge-opcua …"


@dataclass(frozen=True, slots=True)
class StateDir:
    """Names of what lies in the state directory; back it up whole.

    Args:
        root: The directory itself.
    """

    root: Path

    @property
    def pki(self) -> Path:
        """Own key and certificate, and who is trusted."""
        return self.root / "pki"

    @property
    def users(self) -> Path:
        """Users, their roles and the hashes of their passwords, mode 0600."""
        return self.root / "users.json"

    @property
    def models(self) -> Path:
        """The model repository, ``<name>/<version>/``."""
        return self.root / "models"

    @property
    def model_costs(self) -> Path:
        """What runs of the models cost on this machine, measured whenever they are loaded."""
        return self.models / "costs.json"

    @property
    def model_cache(self) -> Path:
        """What backends keep of the models because it takes long to make: optimised graphs, engines."""
        return self.root / "cache" / "models"

    @property
    def active_models(self) -> Path:
        """Which version of each pipeline's model a restart goes on with; taken over by the ledger."""
        return self.root / "active-models.json"

    @property
    def model_ledger(self) -> Path:
        """Every step of every change of a model, and so which version each pipeline runs."""
        return self.root / "model-ledger.jsonl"

    @property
    def model_loads(self) -> Path:
        """Which versions are being loaded, and how often that did not end well."""
        return self.root / "model-loads.json"

    @property
    def journal(self) -> Path:
        """Numbered results, audit and job records (SQLite)."""
        return self.root / "journal.sqlite"

    @property
    def windows(self) -> Path:
        """What the models judged, with their verdicts and people's answers (SQLite)."""
        return self.root / "windows.sqlite"

    @property
    def identity_lock(self) -> Path:
        """Namespace order and NodeIds promised to clients."""
        return self.root / "identity.lock"

    @property
    def control_socket(self) -> Path:
        """Local socket of ``status`` and ``watch``, mode 0600."""
        return self.root / "run" / "control.sock"

    def create(self) -> None:
        """Make the directories, readable by the owner only.

        Raises:
            ConfigError: The place cannot be written.
        """
        try:
            for place in (self.root, self.root / "run", self.models):
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"state directory {self.root} cannot be used: {exc.strerror}") from exc

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for one server; the lock goes with the process, however it ends.

        Raises:
            ConfigError: Another server holds it.
        """
        fd = os.open(self.root / "run" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                raise ConfigError(f"another server already runs on the state directory {self.root}") from exc
            yield
        finally:
            os.close(fd)

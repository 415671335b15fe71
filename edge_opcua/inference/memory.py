"""How much memory a model may take: what is free, what it will need, and a limit that holds while it runs.

A box without room does not fail at once, it swaps, and then every deadline of every process on it is missed.
So a model is weighed before it is loaded, and the process that runs it has a limit: an allocation beyond it
fails inside the model's run (M532), and nobody else on the machine notices.
"""

from __future__ import annotations

import contextlib
import re
import resource
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_opcua.errors import ModelError
from edge_opcua.inference.repository import ModelFiles

MB: Final = 2**20

# Measured with ONNX Runtime 1.31 (docs/explanation/hostile-models.md): the worst growth of a process that
# loads 120 MB of weights is 3.1 times the weights inside the file (copied out of it, then laid out once more
# for the processor's convolutions), and 2.1 times those in a file of their own, which are not copied first.
INSIDE_FACTOR: Final = 3.1
EXTERNAL_FACTOR: Final = 2.1
SESSION_BYTES: Final = 32 * MB
# What a process at its limit keeps for itself, so that Python can still say what happened.
HEADROOM_BYTES: Final = 16 * MB
ENOUGH: Final = 1.1
"""Memory is short until this many times of what must stay free is free again."""

_ROOT: Final = Path("/")
_OUT_OF_MEMORY: Final = re.compile(r"bad_alloc|failed to allocate|out of memory", re.IGNORECASE)
_PAGE: Final = resource.getpagesize()
_HALF_AN_ADDRESS_SPACE: Final = 2**62  # what cgroup v1 writes for "no limit" is close to 2**63


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process could still take without making the machine swap.

    Args:
        free_bytes: How much that is; may be negative in a control group above its limit.
        total_bytes: Of how much.
        place: ``on this machine``, or in which control group that is tighter.
    """

    free_bytes: int
    total_bytes: int
    place: str = "on this machine"


@dataclass(frozen=True, slots=True)
class Room:
    """What a lane process uses, and may use.

    Args:
        rss_bytes: What it has in memory.
        free_bytes: What the machine (or its control group) has free.
        limit_bytes: Up to where it may grow.
        short: Whether less is free than must stay free.
    """

    rss_bytes: int
    free_bytes: int
    limit_bytes: int
    short: bool


def free_memory(root: Path = _ROOT) -> Memory:
    """Return the smaller of what the kernel can give without swapping and what the control groups leave.

    Args:
        root: Where ``proc`` and ``sys`` are.

    Raises:
        OSError: There is no ``proc/meminfo``.

    Source:
        proc(5) ``MemAvailable``; kernel documentation, Control Group v2 (``memory.max``), and v1.
    """
    return _free(root, control_groups(root))


def _free(root: Path, groups: Iterable[ControlGroup]) -> Memory:
    text = (root / "proc/meminfo").read_text()
    left = (memory for group in groups if (memory := group.left()) is not None)
    machine = Memory(_kilobytes(text, "MemAvailable"), _kilobytes(text, "MemTotal"))
    return min((machine, *left), key=lambda memory: memory.free_bytes)


def _kilobytes(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def need_bytes(files: ModelFiles) -> int:
    """Return how much a process grows, at worst, by loading this model and running it once.

    Args:
        files: Its verified files.

    Raises:
        OSError: A file is not there any more.
    """
    inside = files.model.stat().st_size
    external = sum((files.folder / name).stat().st_size for name in files.manifest.external)
    return SESSION_BYTES + int(inside * INSIDE_FACTOR + external * EXTERNAL_FACTOR)


def resident_bytes(root: Path = _ROOT, pid: int | str = "self") -> int:
    """Return what a process has in memory; 0 if there is no such process.

    Source:
        proc(5), ``statm``, second field.
    """
    return _sizes(root, pid)[0]


def _sizes(root: Path, pid: int | str = "self") -> tuple[int, int]:
    """Return what is in memory, and what counts against ``RLIMIT_DATA`` (with the stack, which does not)."""
    try:
        fields = (root / "proc" / str(pid) / "statm").read_text().split()
    except OSError:
        return 0, 0
    return int(fields[1]) * _PAGE, int(fields[5]) * _PAGE


def offer_as_victim(rank: int, root: Path = _ROOT) -> bool:
    """Ask the kernel to end this process before others if memory runs out in spite of everything.

    Args:
        rank: 0 (like everybody else) to 1000 (first); a process may raise its own without any right.
        root: Where ``proc`` is.

    Returns:
        Whether the kernel took it.

    Source:
        proc(5), ``oom_score_adj``.
    """
    try:
        (root / "proc/self/oom_score_adj").write_text(str(rank))
    except OSError:
        return False
    return True


class Limit:
    """The memory of this process: weighed before a model is loaded, limited from then on.

    The limit is on private, writable memory (``RLIMIT_DATA``), not on addresses: allocators and graphics
    drivers reserve far more addresses than they ever use. It is the soft limit, renewed with what the machine
    can spare at the moment, so two greedy processes cannot both take the same free memory for long.

    Args:
        keep_free_bytes: What must stay free on the machine.
        most_bytes: Most that this process may use; None: what the machine can spare.
        root: Where ``proc`` and ``sys`` are.
    """

    def __init__(self, *, keep_free_bytes: int, most_bytes: int | None = None, root: Path = _ROOT) -> None:
        self._keep_free = keep_free_bytes
        self._most = most_bytes
        self._root = root
        self._groups = control_groups(root)
        self._short = False

    def admit(self, files: ModelFiles) -> int:
        """Return what a model needs at worst, in bytes.

        Raises:
            ModelError: That much is not free (M580).
        """
        memory = _free(self._root, self._groups)
        try:
            need = need_bytes(files)
        except OSError as exc:
            raise ModelError(f"a file of the model cannot be read: {exc.strerror}", code="M507") from exc
        if need > memory.free_bytes - self._keep_free:
            manifest = files.manifest
            raise ModelError(
                f"{manifest.name} {manifest.version} needs up to {_mb(need)} MB; {_mb(memory.free_bytes)} of "
                f"{_mb(memory.total_bytes)} MB are free {memory.place}, "
                f"{_mb(self._keep_free)} of them must stay free",
                code="M580",
            )
        return need

    @contextlib.contextmanager
    def loading(self, files: ModelFiles) -> Iterator[None]:
        """Load a model inside: weighed before, and within the limit of this process.

        Raises:
            ModelError: There is no room for it (M580), or it takes more than it may (M581).
        """
        self.admit(files)
        with self.trying(files):
            yield

    @contextlib.contextmanager
    def trying(self, files: ModelFiles) -> Iterator[None]:
        """Try a model inside, within the limit of this process.

        Raises:
            ModelError: It takes more than it may (M581).
        """
        room = self.renew()
        name = f"{files.manifest.name} {files.manifest.version}"
        try:
            yield
        except MemoryError:
            raise self._too_big(name, room) from None
        except ModelError as exc:
            if _OUT_OF_MEMORY.search(str(exc)) is None:
                raise
            raise self._too_big(name, room) from exc
        if self._most is not None and (used := resident_bytes(self._root)) > self._most:
            raise ModelError(
                f"with {name} this process uses {_mb(used)} MB; its memory_mb is {_mb(self._most)}",
                code="M581",
            )

    def renew(self) -> Room:
        """Limit this process to what it has and what can be spared now, and tell the figures; 0.1 ms."""
        memory = _free(self._root, self._groups)
        rss, data = _sizes(self._root)
        spare = memory.free_bytes - self._keep_free
        if self._most is not None:
            spare = min(spare, self._most - rss)
        spare = max(spare, HEADROOM_BYTES)
        _limit_data(data + spare)
        self._short = memory.free_bytes < self._keep_free * (ENOUGH if self._short else 1.0)
        return Room(rss, memory.free_bytes, rss + spare, self._short)

    def describe(self, room: Room) -> str:
        """Return how little is free, for people."""
        return (
            f"{_mb(room.free_bytes)} MB of memory are free, {_mb(self._keep_free)} must stay free; "
            "best effort is shed"
        )

    def _too_big(self, name: str, room: Room) -> ModelError:
        whose = "its memory_mb" if self._most is not None else "what the machine can spare"
        return ModelError(
            f"{name} does not fit into {_mb(room.limit_bytes)} MB, {whose}; "
            f"{_mb(room.rss_bytes)} MB of them were in use before",
            code="M581",
        )


def lift() -> None:
    """Take the limit of this process off again."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def total_mb(parts: Iterable[int | None]) -> int | None:
    """Return the limit of a process whose pipelines have these; None as soon as one of them has none."""
    known = list(parts)
    return None if None in known else sum(part for part in known if part is not None)


def _limit_data(size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (size, hard))


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """A control group around this process that limits its memory.

    Args:
        folder: Where its files are.
        name: For people.
        limit: Name of the file with the limit.
        usage: Name of the file with what is used.
        cache: Field of ``memory.stat`` with what the kernel drops before it refuses anything.
    """

    folder: Path
    name: str
    limit: str
    usage: str
    cache: str

    def left(self) -> Memory | None:
        """Return what it leaves; None if it sets no limit."""
        try:
            limit = int((self.folder / self.limit).read_text())
            if limit >= _HALF_AN_ADDRESS_SPACE:
                return None
            usage = int((self.folder / self.usage).read_text())
            statistics = (self.folder / "memory.stat").read_text()
        except (OSError, ValueError):  # there is no such file, or it says "max"
            return None
        cache = re.search(rf"^{self.cache} (\d+)$", statistics, re.MULTILINE)
        return Memory(limit - usage + (int(cache[1]) if cache else 0), limit, self.name)


def control_groups(root: Path = _ROOT) -> tuple[ControlGroup, ...]:
    """Return the control groups around this process that limit its memory now, the innermost first."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ()
    return tuple(group for line in lines for group in _around(root, line) if group.left() is not None)


def _around(root: Path, line: str) -> Iterator[ControlGroup]:
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    mount, files = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
    if "memory" in controllers.split(","):
        mount = mount / "memory"
        files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    elif controllers:
        return
    folder = mount / path.lstrip("/")
    # Inside a container the mount point is the own group, under whatever name the host has for it.
    for one in (folder, *folder.parents):
        if one.is_relative_to(mount):
            name = str(one.relative_to(mount)).removeprefix(".")
            yield ControlGroup(one, f"in the control group /{name}", *files)


def _mb(size: int) -> int:
    return round(size / MB)

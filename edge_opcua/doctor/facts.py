"""Gathers what ``doctor`` judges: plain facts about this machine and this installation, no opinions."""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import os
import platform
import resource
import shutil
import socket
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge_opcua import __version__
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.realtime import PRIORITY
from edge_opcua.core.statedir import StateDir
from edge_opcua.inference.backends.trtprobe import Native
from edge_opcua.inference.backends.trtprobe import probe_in_child as try_tensorrt
from edge_opcua.inference.memory import Memory, free_memory
from edge_opcua.inference.nvml import Nvml
from edge_opcua.inference.probe import Runtime, probe_in_child
from edge_opcua.inference.thermal import Heat, Thermometer
from edge_opcua.security.inspection import CertificateState, own_certificate_state

_RUNTIME_FOLDER: Final = "onnxruntime"
_TIMEX_ERROR: Final = 5  # TIME_ERROR of adjtimex(2): the clock is not synchronised
_STA_UNSYNC: Final = 0x0040
_CAP_IPC_LOCK: Final = 14  # capabilities(7)


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed Python distribution.

    Args:
        name: Its name on the package index.
        version: Its version.
    """

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Port:
    """A TCP port that the server wants to listen on.

    Args:
        number: The port.
        problem: Why it cannot be bound (the system's words); empty when it is free.
        ours: Whether a server of ours on this state directory is running, and so explains it.
    """

    number: int
    problem: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Disk:
    """Where the state directory is or would be.

    Args:
        state_dir: The directory.
        free_bytes: Free space there for us.
        writable: Whether this user may create or change it.
        owner_only: Whether nobody else may look inside; None when it does not exist yet.
    """

    state_dir: str
    free_bytes: int
    writable: bool = True
    owner_only: bool | None = None


@dataclass(frozen=True, slots=True)
class Clock:
    """How well the wall clock is disciplined.

    Args:
        synchronised: What the kernel says; None when it may not be asked here.
        error_us: The kernel's estimate of the largest error in microseconds.
    """

    synchronised: bool | None
    error_us: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """Everything the checks look at.

    Args:
        package_version: Version of edge-opcua.
        python: Version of Python.
        system: Operating system, e.g. ``Linux``.
        machine: Processor architecture, e.g. ``x86_64``.
        cores: Processors this process may run on.
        missing_calls: System calls of the tag bus that do not work here (memfd, eventfd).
        real_time_problem: Why a thread cannot have SCHED_FIFO; empty when it can.
        clock: State of the wall clock.
        runtimes: Distributions that install a folder ``onnxruntime``.
        runtime: The ONNX Runtime that is imported, its providers tried; None when not tried.
        memory_lock_problem: Why a process cannot keep its memory from being paged out; empty when it can.
        memory: What processes could take without making the machine swap.
        heat: How hot the machine is.
        tensorrt: Installed TensorRT distributions.
        native: TensorRT itself, tried; None when it is not installed.
        nvidia_gpus: NVIDIA GPUs that the driver shows here.
        ports: Ports the server wants.
        disk: The state directory.
        certificate: The server's own; None before the first start.
        utc_ns: Now, ns UTC.
    """

    package_version: str = __version__
    python: str = platform.python_version()
    system: str = "Linux"
    machine: str = "x86_64"
    cores: int = 4
    missing_calls: tuple[str, ...] = ()
    real_time_problem: str = ""
    clock: Clock = Clock(synchronised=True)
    runtimes: tuple[Distribution, ...] = ()
    runtime: Runtime | None = None
    memory_lock_problem: str = ""
    memory: Memory = field(default_factory=lambda: Memory(8 << 30, 16 << 30))
    heat: Heat = field(default_factory=Heat)
    tensorrt: tuple[Distribution, ...] = ()
    native: Native | None = None
    nvidia_gpus: int = 0
    ports: tuple[Port, ...] = ()
    disk: Disk = field(default_factory=lambda: Disk("/var/lib/edge-opcua", 1 << 40))
    certificate: CertificateState | None = None
    utc_ns: int = 0


def gather(state_dir: Path, *, ports: tuple[int, ...]) -> Context:
    """Look at this machine; takes about half a second, most of it for loading ONNX Runtime."""
    running = _server_runs(state_dir)
    runtimes = installed(provides=_RUNTIME_FOLDER)
    tensorrt = tuple(one for one in installed() if one.name.lower() in ("tensorrt", "tensorrt-rtx"))
    return Context(
        python=platform.python_version(),
        system=platform.system(),
        machine=platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        missing_calls=tuple(missing_calls()),
        real_time_problem=real_time_problem(),
        memory_lock_problem=memory_lock_problem(),
        memory=free_memory(),
        heat=Thermometer(accelerators=() if (cards := Nvml.open()) is None else (cards,)).read(),
        clock=read_clock_state(),
        runtimes=runtimes,
        runtime=probe_in_child() if len(runtimes) == 1 else None,
        tensorrt=tensorrt,
        native=try_tensorrt() if any(one.name.lower() == "tensorrt" for one in tensorrt) else None,
        nvidia_gpus=count_nvidia_gpus(),
        ports=tuple(Port(number, port_problem(number), ours=running) for number in ports),
        disk=look_at_disk(state_dir),
        certificate=own_certificate_state(StateDir(state_dir).pki),
        utc_ns=SystemClock().utc_ns(),
    )


def installed(*, provides: str | None = None) -> tuple[Distribution, ...]:
    """Return the installed distributions by name, or only those that install a top folder of this name."""
    found = {}
    for distribution in importlib.metadata.distributions(path=sys.path):
        if provides is None or _installs(distribution, provides):
            found[distribution.name.lower()] = Distribution(distribution.name, distribution.version)
    return tuple(found[name] for name in sorted(found))


def _installs(distribution: importlib.metadata.Distribution, folder: str) -> bool:
    # A plugin provider (onnxruntime-ep-…) has a folder of its own; RECORD tells it from those that overwrite.
    if not distribution.name.lower().startswith(folder):
        return False
    # Not distribution.files: from Python 3.12 on it leaves out what another uninstallation took along.
    record = (distribution.read_text("RECORD") or "").splitlines()
    return any(line.startswith(f"{folder}/") for line in record)


def count_nvidia_gpus(devices: Path = Path("/dev")) -> int:
    """Return how many GPUs NVIDIA's driver shows to this machine or container (``/dev/nvidia0`` and on)."""
    return sum(1 for _ in devices.glob("nvidia[0-9]*"))


def missing_calls() -> list[str]:
    """Return which system calls of the tag bus fail here, each with the system's reason."""
    failed = []
    for name, try_it in (
        ("memfd_create", _try_memfd),
        ("eventfd", _try_eventfd),
    ):
        try:
            os.close(try_it())
        except (OSError, AttributeError) as exc:
            failed.append(f"{name}: {exc}")
    return failed


def _try_memfd() -> int:
    return os.memfd_create("edge-opcua-doctor", os.MFD_CLOEXEC)


def _try_eventfd() -> int:
    return os.eventfd(0, os.EFD_CLOEXEC)


def real_time_problem() -> str:
    """Return why a thread of this process cannot get SCHED_FIFO, or an empty string when it can."""
    answer: list[str] = []

    def ask() -> None:
        # sched_setscheduler(0) is for the calling thread alone, and this one ends at once.
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        except OSError as exc:
            allowed = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
            answer.append(f"{exc.strerror}, RLIMIT_RTPRIO is {allowed}")

    thread = threading.Thread(target=ask, name="doctor-real-time")
    thread.start()
    thread.join()
    return answer[0] if answer else ""


def memory_lock_problem(status: Path = Path("/proc/self/status")) -> str:
    """Return why a safety lane could not lock its memory, or an empty string when it can."""
    lines = status.read_text().splitlines()
    effective = int(next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0"), 16)
    allowed = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    if effective >> _CAP_IPC_LOCK & 1 or allowed == resource.RLIM_INFINITY:
        return ""
    return f"no CAP_IPC_LOCK, RLIMIT_MEMLOCK is {allowed >> 10} kB"


class _Timex(ctypes.Structure):
    """``struct timex`` of adjtimex(2) up to what we read, and room for the rest (208 bytes)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def read_clock_state() -> Clock:
    """Ask the kernel whether NTP or PTP disciplines the wall clock (adjtimex with nothing to adjust)."""
    timex = _Timex()
    adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    state = adjtimex(ctypes.byref(timex))
    if state < 0:  # a container's seccomp filter may refuse even to read
        return Clock(synchronised=None)
    return Clock(
        synchronised=state != _TIMEX_ERROR and not timex.status & _STA_UNSYNC, error_us=timex.maxerror
    )


def port_problem(number: int) -> str:
    """Return why nobody could listen on this TCP port now, or an empty string."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", number))  # noqa: S104 - closed at once; the server listens here too
        except OSError as exc:
            return "taken by another program" if exc.errno == errno.EADDRINUSE else exc.strerror or repr(exc)
    return ""


def look_at_disk(state_dir: Path) -> Disk:
    """Return the room and the rights at the state directory, or at the folder it would be made in."""
    state_dir = state_dir.absolute()
    place = next(folder for folder in (state_dir, *state_dir.parents) if folder.exists())
    owner_only = state_dir.stat().st_mode & 0o077 == 0 if place == state_dir else None
    return Disk(
        str(state_dir),
        shutil.disk_usage(place).free,
        writable=os.access(place, os.W_OK | os.X_OK),
        owner_only=owner_only,
    )


def _server_runs(state_dir: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(StateDir(state_dir).control_socket))
        except OSError:
            return False
    return True

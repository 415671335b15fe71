"""Judges the facts: each check is a row with a code, its causes and a pure function from facts to words."""

from __future__ import annotations

import enum
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from edge_opcua.doctor.facts import Context
from edge_opcua.inference.probe import CPU, Provider

MIN_PYTHON: Final = (3, 11)
ENOUGH_BYTES: Final = 1 << 30
LEAST_BYTES: Final = 100 << 20
LEAST_FREE_BYTES: Final = 256 << 20
"""A lane process takes some 90 MB beside its model, and 128 MB stay free unless something else is set."""
CLOCK_ERROR_US: Final = 1_000_000
DAY_NS: Final = 86_400_000_000_000
END_NEAR_DAYS: Final = 30


class Severity(enum.StrEnum):
    """How a check ended; the words are what the screen shows."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check says about the facts.

    Args:
        severity: How it ended.
        text: One sentence; ``{name}`` stands for an argument.
        args: The arguments, for people and machines alike.
        fix: What to do; empty when there is nothing to do.
    """

    severity: Severity
    text: str
    args: Mapping[str, str | int] = field(default_factory=dict)
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that ``doctor`` looks at.

    Args:
        code: Stable code of the H6xx family.
        title: What is checked, in a few words.
        judge: Pure function: facts in, outcomes out (none when it does not apply).
        depends_on: Codes of the causes: while one of them fails, this check is not shown.
    """

    code: str
    title: str
    judge: Callable[[Context], Sequence[Outcome]]
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Args:
        code: Code of the check.
        title: Title of the check.
        severity: How it ended.
        text: The sentence, arguments filled in.
        args: The arguments by name.
        fix: What to do; may be empty.
    """

    code: str
    title: str
    severity: Severity
    text: str
    args: Mapping[str, str | int]
    fix: str


def run_checks(context: Context) -> list[Finding]:
    """Return what every check says, in the order of :data:`CHECKS`, without the consequences of a failure."""
    findings: list[Finding] = []
    standing: set[str] = set()
    for check in CHECKS:
        if standing.intersection(check.depends_on):
            standing.add(check.code)  # a consequence of a consequence is hidden too
            continue
        for outcome in check.judge(context):
            if outcome.severity is Severity.FAIL:
                standing.add(check.code)
            text = _fill(outcome.text, outcome.args)
            fix = _fill(outcome.fix, outcome.args)
            findings.append(Finding(check.code, check.title, outcome.severity, text, dict(outcome.args), fix))
    return findings


def _fill(text: str, args: Mapping[str, str | int]) -> str:
    return string.Formatter().vformat(text, (), args)


def _versions(context: Context) -> list[Outcome]:
    args = {"version": context.package_version, "python": context.python, "machine": context.machine}
    found = tuple(int(part) for part in context.python.split(".")[:2])
    if found < MIN_PYTHON:
        return [
            Outcome(
                Severity.FAIL,
                "edge-opcua {version} on Python {python}: 3.11 or newer is needed",
                args,
                "install Python 3.11, then make the virtual environment again with it",
            )
        ]
    return [Outcome(Severity.OK, "edge-opcua {version}, Python {python}, {machine}", args)]


def _kernel(context: Context) -> list[Outcome]:
    if context.system != "Linux":
        return [
            Outcome(
                Severity.FAIL,
                "{system}: the tag bus needs Linux (memfd and eventfd)",
                {"system": context.system},
                "run it on Linux, in WSL 2 or in a Linux container",
            )
        ]
    if context.missing_calls:
        return [
            Outcome(
                Severity.FAIL,
                "the kernel refuses what the tag bus is made of: {calls}",
                {"calls": "; ".join(context.missing_calls)},
                "allow memfd_create and eventfd2 in the container's seccomp profile; Linux 3.17 or newer",
            )
        ]
    return [Outcome(Severity.OK, "shared memory for the tag bus works (memfd, eventfd)")]


def _cores(context: Context) -> list[Outcome]:
    if context.cores >= 2:
        return [Outcome(Severity.OK, "{cores} processor cores", {"cores": context.cores})]
    return [
        Outcome(
            Severity.WARN,
            "one processor core: models, drivers and clients wait for each other",
            {"cores": context.cores},
            "give the machine or container two cores or more",
        )
    ]


def _clock(context: Context) -> list[Outcome]:
    clock = context.clock
    if clock.synchronised is None:
        return [Outcome(Severity.SKIP, "clock: the kernel may not be asked from inside this container")]
    if not clock.synchronised:
        return [
            Outcome(
                Severity.WARN,
                "clock is not synchronised: time stamps may be wrong",
                {},
                "timedatectl set-ntp true, or name the plant's time server in chrony.conf",
            )
        ]
    args = {"error_ms": round(clock.error_us / 1000)}
    if clock.error_us > CLOCK_ERROR_US:
        return [
            Outcome(
                Severity.WARN,
                "clock may be {error_ms} ms off: the time server has not been heard for long",
                args,
                "chronyc tracking shows the source; name a reachable time server in chrony.conf",
            )
        ]
    return [Outcome(Severity.OK, "clock is synchronised, at most {error_ms} ms off", args)]


def _real_time(context: Context) -> list[Outcome]:
    if context.real_time_problem:
        return [
            Outcome(
                Severity.WARN,
                "no real-time priority ({problem}): a safety lane may be late when this machine is busy",
                {"problem": context.real_time_problem},
                "LimitRTPRIO=51 in the systemd unit; for a container --cap-add SYS_NICE --ulimit rtprio=51",
            )
        ]
    return [Outcome(Severity.OK, "real-time priority (SCHED_FIFO) can be had")]


def _memory_lock(context: Context) -> list[Outcome]:
    if context.memory_lock_problem:
        return [
            Outcome(
                Severity.WARN,
                "memory cannot be locked ({problem}): a safety lane may wait for the disk",
                {"problem": context.memory_lock_problem},
                "LimitMEMLOCK=infinity in the systemd unit; for a container --cap-add IPC_LOCK",
            )
        ]
    return [Outcome(Severity.OK, "memory can be locked")]


def _memory(context: Context) -> list[Outcome]:
    memory = context.memory
    args: dict[str, str | int] = {
        "free_mb": memory.free_bytes >> 20,
        "total_mb": memory.total_bytes >> 20,
        "place": memory.place,
    }
    text = "{free_mb} of {total_mb} MB of memory are free {place}"
    if memory.free_bytes < LEAST_FREE_BYTES:
        fix = "end what else runs, or take smaller models: one that would make the machine swap is refused"
        return [Outcome(Severity.WARN, text, args, fix)]
    return [Outcome(Severity.OK, text, args)]


def _heat(context: Context) -> list[Outcome]:
    heat = context.heat
    if not heat.where:
        return [
            Outcome(Severity.OK, "this machine tells no temperature: heat shows in the runs of models only")
        ]
    if heat.warm:
        fix = "look at fan, filter and the temperature in the cabinet; best effort is shed until it is over"
        return [Outcome(Severity.WARN, "the machine is hot: {where}", {"where": heat.where}, fix)]
    return [Outcome(Severity.OK, "{where}", {"where": heat.where})]


def _runtime_distributions(context: Context) -> list[Outcome]:
    names = [f"{one.name} {one.version}" for one in context.runtimes]
    if len(names) > 1:
        return [
            Outcome(
                Severity.FAIL,
                "{count} distributions write the same folder onnxruntime, the last one wins: {names}",
                {"count": len(names), "names": ", ".join(names)},
                "pip uninstall -y "
                + " ".join(one.name for one in context.runtimes)
                + ", then install one extra: "
                "pip install 'edge-opcua[cpu]' (or cuda, openvino)",
            )
        ]
    if not names:
        return [
            Outcome(
                Severity.FAIL,
                "no ONNX Runtime is installed: values are served, models cannot run",
                {},
                "pip install 'edge-opcua[cpu]' (or cuda, openvino)",
            )
        ]
    runtime = context.runtime
    if runtime is None or not runtime.version:
        return [
            Outcome(
                Severity.FAIL,
                "{name} cannot be loaded: {reason}",
                {"name": names[0], "reason": runtime.reason if runtime else "it was not tried"},
                "pip install --force-reinstall " + context.runtimes[0].name,
            )
        ]
    usable = [_short(one.name) for one in runtime.providers if one.usable]
    return [
        Outcome(
            Severity.OK,
            "ONNX Runtime {version} runs models on: {usable}",
            {"version": runtime.version, "usable": ", ".join(usable) or "nothing"},
        )
    ]


def _cpu_provider(context: Context) -> list[Outcome]:
    for one in _providers(context):
        if one.name == CPU and not one.usable:
            return [
                Outcome(
                    Severity.FAIL,
                    "ONNX Runtime does not even run on the processor: {reason}",
                    {"reason": one.reason},
                    "pip install --force-reinstall onnxruntime; an old processor may need an older version",
                )
            ]
    return []


def _tensorrt_mismatch(context: Context) -> list[Outcome]:
    """ONNX Runtime is linked against one major version of TensorRT; pip installs the newest."""
    outcomes = []
    for one in _providers(context):
        wanted = next((name for name in one.needs if name.startswith("libnvinfer.so.")), "")
        if not wanted or wanted not in one.missing:
            continue
        major = wanted.rpartition(".")[2]
        have = [f"{found.name} {found.version}" for found in context.tensorrt]
        if have and all(found.version.split(".")[0] != major for found in context.tensorrt):
            args = {"wanted": wanted, "have": ", ".join(have)}
            text = "TensorRT: {wanted} is needed, installed is {have}"
            fix = f"pip install 'tensorrt=={major}.*'"
            if context.native is not None and not context.native.reason:
                text = "TensorRT: ONNX Runtime wants {wanted}, installed is {have}"
                fix = f'write backend = "tensorrt", which runs on it; or {fix}'
                outcomes.append(Outcome(Severity.WARN, text, args, fix))
            else:
                outcomes.append(Outcome(Severity.FAIL, text, args, fix))
    return outcomes


def _native_tensorrt(context: Context) -> list[Outcome]:
    found = context.native
    if found is None:
        return []
    args = {"version": found.version, "gpu": found.gpu, "reason": found.reason}
    if not found.reason:
        return [Outcome(Severity.OK, "TensorRT {version} runs models on {gpu}", args)]
    fix = "pip install 'edge-opcua[tensorrt]', and an NVIDIA driver; start a container with --gpus all"
    return [Outcome(Severity.WARN, "the backend tensorrt cannot be used: {reason}", args, fix)]


def _accelerators(context: Context) -> list[Outcome]:
    mismatched = bool(_tensorrt_mismatch(context))
    outcomes = _idle_gpus(context)
    for one in _providers(context):
        if one.name == CPU or one.usable or (mismatched and one.name.startswith("Tensorrt")):
            continue
        args = {"name": _short(one.name), "reason": one.reason}
        if one.missing:
            args["missing"] = ", ".join(one.missing)
            fix = _LIBRARIES_FIX.get(one.name, "install the vendor's libraries of exactly these versions")
            if one.missing == (_DRIVER,):
                fix = "install the NVIDIA driver; start a container with its GPUs (--gpus all)"
            outcomes.append(
                Outcome(
                    Severity.WARN, "{name} is listed but cannot run: not found here: {missing}", args, fix
                )
            )
        else:
            outcomes.append(
                Outcome(
                    Severity.WARN,
                    "{name} is listed but cannot run: {reason}",
                    args,
                    "check that the device and its driver are there (nvidia-smi, clinfo); "
                    "models that ask for it are refused, not moved to the processor",
                )
            )
    return outcomes


def _idle_gpus(context: Context) -> list[Outcome]:
    served = any(word in one.name.lower() for one in _providers(context) for word in ("cuda", "tensorrt"))
    served = served or (context.native is not None and not context.native.reason)
    if not context.nvidia_gpus or served:
        return []
    args: dict[str, str | int] = {"count": context.nvidia_gpus, "runtime": context.runtimes[0].name}
    return [
        Outcome(
            Severity.WARN,
            "NVIDIA GPUs here: {count}, but {runtime} cannot use them: models run on the processor",
            args,
            "nothing if that is wanted; otherwise pip uninstall -y {runtime}, "
            "then pip install 'edge-opcua[cuda]'",
        )
    ]


_DRIVER: Final = "libcuda.so.1"
_LIBRARIES_FIX: Final = {
    "CUDAExecutionProvider": "pip install 'edge-opcua[cuda]' (brings CUDA and cuDNN), and an NVIDIA driver",
    "NvTensorRTRTXExecutionProvider": "an NVIDIA driver for a GPU from Ampere on, and its CUDA libraries",
    "TensorrtExecutionProvider": "pip install 'edge-opcua[cuda,tensorrt]' if a model asks for TensorRT",
}


def _ports(context: Context) -> list[Outcome]:
    outcomes = []
    for port in context.ports:
        args: dict[str, str | int] = {"port": port.number, "problem": port.problem}
        if not port.problem:
            outcomes.append(Outcome(Severity.OK, "port {port} is free", args))
        elif port.ours:
            outcomes.append(Outcome(Severity.OK, "port {port} is held while a server of ours runs", args))
        else:
            outcomes.append(
                Outcome(
                    Severity.FAIL,
                    "port {port}: {problem}",
                    args,
                    "ss -ltnp 'sport = :{port}' names the holder; stop it, or change listen in [opcua]",
                )
            )
    return outcomes


def _disk(context: Context) -> list[Outcome]:
    disk = context.disk
    free = disk.free_bytes
    size = f"{free / (1 << 30):.0f} GB" if free >= 10 << 30 else f"{free / (1 << 20):.0f} MB"
    args: dict[str, str | int] = {"state": disk.state_dir, "free": size, "free_bytes": free}
    if not disk.writable:
        return [
            Outcome(
                Severity.FAIL,
                "state directory {state} cannot be written by this user",
                args,
                "--state DIR names another one; for the service: chown it to the service's user",
            )
        ]
    if disk.owner_only is False:
        return [
            Outcome(
                Severity.WARN,
                "state directory {state} is open to other users; private keys lie in it",
                args,
                "chmod 700 {state}",
            )
        ]
    if free >= ENOUGH_BYTES:
        return [Outcome(Severity.OK, "state directory {state}, {free} free", args)]
    return [
        Outcome(
            Severity.FAIL if free < LEAST_BYTES else Severity.WARN,
            "state directory {state}: only {free} free; journal and models need room",
            args,
            "make room on that file system, or move the state with --state DIR",
        )
    ]


def _certificate(context: Context) -> list[Outcome]:
    one = context.certificate
    if one is None:
        return [Outcome(Severity.SKIP, "certificate: made at the first start of the server")]
    args: dict[str, str | int] = {"file": one.file, "names": ", ".join(one.names)}
    renew = "edge-opcua recert (or certs csr): every client has to trust the new one"
    if one.problem:
        args["problem"] = one.problem
        restore = "restore it, or move it and its key away and start again"
        return [Outcome(Severity.FAIL, "certificate {file} cannot be used: {problem}", args, restore)]
    days = (one.ends_ns - context.utc_ns) // DAY_NS
    args["days"] = days
    if one.begins_ns > context.utc_ns:
        return [
            Outcome(
                Severity.FAIL,
                "certificate begins in the future: the clock of this machine was set back",
                args,
                "set the clock; clients refuse the certificate until then",
            )
        ]
    if days < 0:
        return [Outcome(Severity.FAIL, "certificate has ended; clients refuse it", args, renew)]
    outcomes = []
    if days < END_NEAR_DAYS:
        outcomes.append(Outcome(Severity.WARN, "certificate ends in {days} days", args, renew))
    if one.missing:
        args = {**args, "missing": ", ".join(one.missing)}
        outcomes.append(
            Outcome(
                Severity.WARN,
                "certificate lacks {missing}: clients that use such a name will complain",
                args,
                f"connect by one of: {args['names']}; or {renew}",
            )
        )
    return outcomes or [Outcome(Severity.OK, "certificate is good for {days} days; names {names}", args)]


def _providers(context: Context) -> tuple[Provider, ...]:
    return context.runtime.providers if context.runtime else ()


def _short(provider: str) -> str:
    return {"Tensorrt": "TensorRT"}.get(short := provider.removesuffix("ExecutionProvider"), short)


CHECKS: Final[tuple[Check, ...]] = (
    Check("H601", "versions", _versions),
    Check("H602", "kernel", _kernel),
    Check("H603", "processor cores", _cores),
    Check("H604", "clock", _clock),
    Check("H611", "real-time priority", _real_time),
    Check("H612", "locked memory", _memory_lock),
    Check("H613", "free memory", _memory),
    Check("H614", "temperature", _heat),
    Check("H620", "ONNX Runtime", _runtime_distributions, depends_on=("H601",)),
    Check("H622", "processor as provider", _cpu_provider, depends_on=("H620",)),
    Check("H621", "TensorRT version", _tensorrt_mismatch, depends_on=("H620", "H622")),
    Check("H623", "accelerators", _accelerators, depends_on=("H620", "H622")),
    Check("H624", "TensorRT itself", _native_tensorrt, depends_on=("H601",)),
    Check("H631", "ports", _ports),
    Check("H632", "state directory", _disk),
    Check("H641", "certificate", _certificate, depends_on=("H632",)),
)

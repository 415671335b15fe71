"""Facts in, findings out: every check on machines that are not this one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edge_opcua import doctor
from edge_opcua.config.codes import explain
from edge_opcua.doctor import Context, Finding, Severity, run_checks
from edge_opcua.doctor.facts import Clock, Disk, Distribution, Port
from edge_opcua.inference.backends.trtprobe import Native
from edge_opcua.inference.memory import Memory
from edge_opcua.inference.probe import Provider, Runtime
from edge_opcua.inference.thermal import Heat
from edge_opcua.security.inspection import CertificateState

CPU = Provider("CPUExecutionProvider", usable=True)
ORT = Distribution("onnxruntime", "1.31.1")
NOW_NS = 1_800_000_000_000_000_000
DAY_NS = 86_400_000_000_000
CERTIFICATE = CertificateState(
    "/state/pki/own/cert.der", ("press-edge",), begins_ns=NOW_NS - DAY_NS, ends_ns=NOW_NS + 900 * DAY_NS
)
HEALTHY = Context(
    runtimes=(ORT,),
    runtime=Runtime("1.31.1", (CPU,)),
    ports=(Port(4840),),
    certificate=CERTIFICATE,
    utc_ns=NOW_NS,
)

TENSORRT = Provider(
    "TensorrtExecutionProvider",
    usable=False,
    reason="Please install TensorRT libraries",
    needs=("libcudart.so.13", "libnvinfer.so.10"),
    missing=("libnvinfer.so.10",),
)
CUDA = Provider("CUDAExecutionProvider", usable=True, needs=("libcudart.so.13",))
GPU = Distribution("onnxruntime-gpu", "1.31.1")


def not_ok(context: Context) -> list[Finding]:
    return [one for one in run_checks(context) if one.severity is not Severity.OK]


def only(context: Context) -> Finding:
    findings = not_ok(context)
    assert len(findings) == 1, findings
    return findings[0]


def test_a_healthy_machine_has_nothing_to_say_but_ok() -> None:
    assert not_ok(HEALTHY) == []
    assert doctor.render(run_checks(HEALTHY)).endswith("Nothing stands in the way.  Next: edge-opcua demo\n")


def test_two_onnx_runtimes_are_one_failure_and_hide_what_follows_from_it() -> None:
    clash = replace(HEALTHY, runtimes=(ORT, GPU), runtime=Runtime("1.31.1", (CPU, TENSORRT)))
    finding = only(clash)
    assert (finding.code, finding.severity) == ("H620", Severity.FAIL)
    assert "onnxruntime 1.31.1, onnxruntime-gpu 1.31.1" in finding.text
    assert finding.fix.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")


def test_tensorrt_11_beside_a_runtime_built_for_10_names_both_and_the_pin() -> None:
    mismatch = replace(
        HEALTHY,
        runtimes=(GPU,),
        runtime=Runtime("1.31.1", (CPU, TENSORRT, CUDA)),
        tensorrt=(Distribution("tensorrt", "11.4.0.106"),),
    )
    finding = only(mismatch)
    assert (finding.code, finding.severity) == ("H621", Severity.FAIL)
    assert finding.text == "TensorRT: libnvinfer.so.10 is needed, installed is tensorrt 11.4.0.106"
    assert finding.fix == "pip install 'tensorrt==10.*'"


def test_tensorrt_11_that_runs_models_itself_is_no_fault_of_the_machine() -> None:
    context = replace(
        HEALTHY,
        runtimes=(GPU,),
        runtime=Runtime("1.31.1", (CPU, TENSORRT, CUDA)),
        tensorrt=(Distribution("tensorrt", "11.4.0.106"),),
        native=Native("11.4.0.106", "NVIDIA L4 SM 8.9"),
    )
    (finding,) = not_ok(context)
    assert (finding.code, finding.severity) == ("H621", Severity.WARN)
    assert finding.fix.startswith('write backend = "tensorrt"')
    assert any(
        one.text == "TensorRT 11.4.0.106 runs models on NVIDIA L4 SM 8.9" for one in run_checks(context)
    )


def test_tensorrt_that_is_not_installed_is_a_warning_with_the_missing_library() -> None:
    finding = only(replace(HEALTHY, runtimes=(GPU,), runtime=Runtime("1.31.1", (CPU, TENSORRT))))
    assert (finding.code, finding.severity) == ("H623", Severity.WARN)
    assert finding.args["missing"] == "libnvinfer.so.10"


def test_cuda_libraries_of_another_major_version_are_named() -> None:
    cuda = replace(CUDA, usable=False, reason="fallback to CPU", missing=("libcudart.so.13",))
    finding = only(replace(HEALTHY, runtimes=(GPU,), runtime=Runtime("1.31.1", (CPU, cuda))))
    assert "libcudart.so.13" in finding.text
    assert "edge-opcua[cuda]" in finding.fix


def test_a_driver_that_is_missing_is_told_from_libraries_that_pip_brings() -> None:
    cuda = replace(CUDA, usable=False, reason="fallback to CPU", missing=("libcuda.so.1",))
    finding = only(replace(HEALTHY, runtimes=(GPU,), runtime=Runtime("1.31.1", (CPU, cuda))))
    assert finding.text == "CUDA is listed but cannot run: not found here: libcuda.so.1"
    assert finding.fix.startswith("install the NVIDIA driver")


def test_a_gpu_beside_a_runtime_for_the_processor_is_a_warning() -> None:
    finding = only(replace(HEALTHY, nvidia_gpus=1))
    assert (finding.code, finding.severity) == ("H623", Severity.WARN)
    assert finding.text == (
        "NVIDIA GPUs here: 1, but onnxruntime cannot use them: models run on the processor"
    )
    assert "pip uninstall -y onnxruntime, then" in finding.fix


def test_a_gpu_that_is_used_has_nothing_to_say() -> None:
    used = replace(HEALTHY, nvidia_gpus=1, runtimes=(GPU,), runtime=Runtime("1.31.1", (CPU, CUDA)))
    assert not_ok(used) == []


def test_a_provider_that_gives_way_to_another_is_not_called_usable() -> None:
    openvino = Provider(
        "OpenVINOExecutionProvider", usable=False, reason="CPUExecutionProvider took its place"
    )
    finding = only(replace(HEALTHY, runtime=Runtime("1.31.1", (CPU, openvino))))
    assert finding.severity is Severity.WARN
    assert "CPUExecutionProvider took its place" in finding.text


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        (Runtime("", reason="loading it ended the process (code -11)"), "code -11"),
        (Runtime("", reason="the onnxruntime folder is incomplete"), "incomplete"),
        (None, "not tried"),
    ],
)
def test_a_runtime_that_cannot_be_loaded_is_a_failure(runtime: Runtime | None, words: str) -> None:
    finding = only(replace(HEALTHY, runtime=runtime))
    assert (finding.code, finding.severity) == ("H620", Severity.FAIL)
    assert words in finding.text


def test_without_any_runtime_the_extra_is_named() -> None:
    finding = only(replace(HEALTHY, runtimes=(), runtime=None))
    assert "edge-opcua[cpu]" in finding.fix


def test_a_processor_that_cannot_run_a_model_hides_the_accelerators() -> None:
    broken = replace(CPU, usable=False, reason="illegal instruction")
    finding = only(replace(HEALTHY, runtime=Runtime("1.31.1", (broken, TENSORRT))))
    assert finding.code == "H622"


@pytest.mark.parametrize(
    ("context", "code", "severity"),
    [
        (replace(HEALTHY, python="3.10.4"), "H601", Severity.FAIL),
        (replace(HEALTHY, system="Darwin"), "H602", Severity.FAIL),
        (replace(HEALTHY, missing_calls=("memfd_create: denied",)), "H602", Severity.FAIL),
        (replace(HEALTHY, cores=1), "H603", Severity.WARN),
        (replace(HEALTHY, clock=Clock(synchronised=False)), "H604", Severity.WARN),
        (replace(HEALTHY, clock=Clock(synchronised=True, error_us=16_000_000)), "H604", Severity.WARN),
        (replace(HEALTHY, clock=Clock(synchronised=None)), "H604", Severity.SKIP),
        (replace(HEALTHY, real_time_problem="denied"), "H611", Severity.WARN),
        (replace(HEALTHY, memory_lock_problem="no CAP_IPC_LOCK"), "H612", Severity.WARN),
        (replace(HEALTHY, memory=Memory(200 << 20, 1 << 30)), "H613", Severity.WARN),
        (replace(HEALTHY, heat=Heat(91.0, warm=True, where="cpu-thermal 91 °C")), "H614", Severity.WARN),
        (replace(HEALTHY, native=Native("11.4.0.106", reason="no NVIDIA GPU")), "H624", Severity.WARN),
        (replace(HEALTHY, ports=(Port(4840, "taken by another program"),)), "H631", Severity.FAIL),
        (replace(HEALTHY, disk=Disk("/state", 1 << 40, writable=False)), "H632", Severity.FAIL),
        (replace(HEALTHY, disk=Disk("/state", 1 << 40, owner_only=False)), "H632", Severity.WARN),
        (replace(HEALTHY, disk=Disk("/state", 500 << 20)), "H632", Severity.WARN),
        (replace(HEALTHY, disk=Disk("/state", 50 << 20)), "H632", Severity.FAIL),
        (replace(HEALTHY, certificate=None), "H641", Severity.SKIP),
        (replace(HEALTHY, certificate=replace(CERTIFICATE, problem="no DER")), "H641", Severity.FAIL),
        (replace(HEALTHY, utc_ns=NOW_NS - 2 * DAY_NS), "H641", Severity.FAIL),
        (replace(HEALTHY, utc_ns=NOW_NS + 901 * DAY_NS), "H641", Severity.FAIL),
        (replace(HEALTHY, utc_ns=NOW_NS + 880 * DAY_NS), "H641", Severity.WARN),
        (replace(HEALTHY, certificate=replace(CERTIFICATE, missing=("10.0.0.5",))), "H641", Severity.WARN),
    ],
)
def test_each_fault_is_found_with_its_code(context: Context, code: str, severity: Severity) -> None:
    finding = only(context)
    assert (finding.code, finding.severity) == (code, severity)
    assert finding.fix or severity is Severity.SKIP, "a finding without a way out helps nobody"


def test_a_port_held_by_our_own_running_server_is_fine() -> None:
    assert not_ok(replace(HEALTHY, ports=(Port(4840, "taken by another program", ours=True),))) == []


def test_codes_are_unique_stable_and_causes_come_first() -> None:
    codes = [check.code for check in doctor.CHECKS]
    assert len(set(codes)) == len(codes)
    for at, check in enumerate(doctor.CHECKS):
        assert check.code.startswith("H6")
        assert set(check.depends_on) <= set(codes[:at])


def test_the_report_fits_80_columns_and_puts_the_fix_below_the_finding() -> None:
    context = replace(
        HEALTHY,
        runtimes=(GPU,),
        runtime=Runtime("1.31.1", (CPU, TENSORRT)),
        real_time_problem="Operation not permitted, RLIMIT_RTPRIO is 0",
        ports=(Port(4840, "taken by another program"),),
    )
    lines = doctor.render(run_checks(context), width=80).splitlines()
    assert max(map(len, lines)) <= 80
    failed = next(line for line in lines if line.startswith("FAIL"))
    assert failed.split() == ["FAIL", "port", "4840:", "taken", "by", "another", "program", "H631"]
    assert lines[lines.index(failed) + 1].startswith("      fix: ss -ltnp 'sport = :4840'")
    assert lines[-1] == "1 failure, 2 warnings.  More: edge-opcua explain H631"


def test_the_machine_report_carries_the_arguments() -> None:
    report = json.loads(doctor.to_json(run_checks(replace(HEALTHY, cores=1))))
    assert (report["schema"], report["failures"], report["warnings"]) == ("edge-opcua.doctor/1", 0, 1)
    (warning,) = [one for one in report["findings"] if one["severity"] == "warn"]
    assert (warning["code"], warning["args"]) == ("H603", {"cores": 1})


@pytest.mark.parametrize(
    ("context", "code", "start"),
    [
        (HEALTHY, 0, "EDGE-OPCUA OK - "),
        (replace(HEALTHY, cores=1), 1, "EDGE-OPCUA WARNING - H603 one processor core"),
        (replace(HEALTHY, cores=1, system="Darwin"), 2, "EDGE-OPCUA CRITICAL - H602 Darwin"),
    ],
)
def test_the_nagios_line_and_code_are_those_of_the_worst(context: Context, code: int, start: str) -> None:
    found, line = doctor.nagios_line(run_checks(context))
    assert found == code
    assert line.startswith(start)
    assert "\n" not in line


@pytest.mark.parametrize("code", [check.code for check in doctor.CHECKS])
def test_each_code_can_be_explained(code: str) -> None:
    assert explain(code) is not None

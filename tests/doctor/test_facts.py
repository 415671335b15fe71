"""The facts are those of the machine: real sockets, real folders, real distributions."""

from __future__ import annotations

import importlib.util
import os
import resource
import socket
import sys
from pathlib import Path

import pytest

from edge_opcua import doctor
from edge_opcua.doctor import facts
from edge_opcua.inference.backends import trtprobe


def install(site: Path, name: str, version: str, *folders: str) -> None:
    """Write what pip leaves behind of a distribution."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{folder}/__init__.py,,\n" for folder in folders))


def test_distributions_that_overwrite_each_other_are_found_and_plugins_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "onnxruntime", "1.31.1", "onnxruntime")
    install(tmp_path, "onnxruntime-gpu", "1.31.1", "onnxruntime")
    install(tmp_path, "onnxruntime-ep-openvino", "1.8.1", "onnxruntime_ep_openvino")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    found = [one.name for one in facts.installed(provides="onnxruntime")]
    assert found == ["onnxruntime", "onnxruntime-gpu"]


def test_a_runtime_whose_files_went_with_another_is_still_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pip uninstall of one of two takes the common folder along; the other one's RECORD still names it.
    install(tmp_path, "onnxruntime", "1.31.1", "onnxruntime")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not (tmp_path / "onnxruntime").exists()
    assert facts.installed(provides="onnxruntime") == (facts.Distribution("onnxruntime", "1.31.1"),)


def test_the_gpus_of_the_driver_are_counted_without_its_control_devices(tmp_path: Path) -> None:
    assert facts.count_nvidia_gpus(tmp_path) == 0
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "null"):
        (tmp_path / name).touch()
    assert facts.count_nvidia_gpus(tmp_path) == 2


def test_a_taken_port_is_told_from_a_free_one() -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert facts.port_problem(port) == "taken by another program"
    assert facts.port_problem(port) == ""


def test_the_state_directory_to_be_made_is_judged_by_the_folder_above(tmp_path: Path) -> None:
    disk = facts.look_at_disk(tmp_path / "not" / "yet")
    assert disk.writable
    assert disk.owner_only is None
    assert disk.free_bytes > 0


def test_an_open_state_directory_is_noticed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert facts.look_at_disk(tmp_path).owner_only is False
    tmp_path.chmod(0o700)
    assert facts.look_at_disk(tmp_path).owner_only is True


def test_asking_for_real_time_priority_does_not_keep_it() -> None:
    facts.real_time_problem()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_memory_can_be_locked_by_capability_or_without_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65536, 8 << 20))
    status.write_text("Name:\tx\nCapEff:\t0000000000000000\n")
    assert facts.memory_lock_problem(status) == "no CAP_IPC_LOCK, RLIMIT_MEMLOCK is 8192 kB"
    status.write_text("Name:\tx\nCapEff:\t0000000000004000\n")
    assert facts.memory_lock_problem(status) == ""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65536, resource.RLIM_INFINITY))
    status.write_text("CapEff:\t0000000000000000\n")
    assert facts.memory_lock_problem(status) == ""


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_tensorrt_that_is_not_there_is_told_by_the_process_that_tried() -> None:
    found = trtprobe.probe_in_child()
    assert found.version == ""
    assert "install the extra tensorrt" in found.reason


def test_the_clock_state_is_plausible() -> None:
    clock = facts.read_clock_state()
    assert clock.synchronised in (True, False, None)
    assert 0 <= clock.error_us <= 3_600_000_000


def test_the_whole_report_of_this_machine_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        code = doctor.main(state_dir=tmp_path / "state", port=holder.getsockname()[1])
    text = capsys.readouterr().out
    assert code == 1, text
    assert "taken by another program" in text
    assert "ONNX Runtime" in text

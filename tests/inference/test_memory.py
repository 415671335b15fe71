"""What a model may take of the memory: read from the kernel, refused with figures, limited for real."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from edge_opcua.errors import ModelError
from edge_opcua.inference.memory import MB, Limit, free_memory, lift, need_bytes, resident_bytes, total_mb
from edge_opcua.inference.repository import ModelFiles, verify
from tests.inference.models import copy_of_delivered

KB = 1024


def machine(root: Path, *, available_mb: int, total_mb: int = 1024, groups: str = "0::/") -> Path:
    """Write what the kernel shows of a machine, and of the groups a process is in."""
    tree = {
        "proc/meminfo": f"MemTotal: {total_mb * KB} kB\nMemFree: 1 kB\n"
        f"MemAvailable: {available_mb * KB} kB\n",
        "proc/self/statm": "50000 10000 2000 500 0 20000 0\n",
        "proc/self/cgroup": groups + "\n",
    }
    write(root, tree)
    return root


def write(root: Path, tree: Mapping[str, str]) -> None:
    for name, content in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def group(root: Path, folder: str, *, limit: str, used_mb: int, cache_mb: int = 0) -> None:
    write(
        root,
        {
            f"{folder}/memory.max": limit + "\n",
            f"{folder}/memory.current": f"{used_mb * MB}\n",
            f"{folder}/memory.stat": f"anon 1\ninactive_file {cache_mb * MB}\nactive_file 7\n",
        },
    )


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return verify(copy_of_delivered(tmp_path / "model"))


def test_what_is_free_is_what_the_kernel_gives_without_swapping(tmp_path: Path) -> None:
    found = free_memory(machine(tmp_path, available_mb=300))
    assert (found.free_bytes, found.total_bytes) == (300 * MB, 1024 * MB)
    assert found.place == "on this machine"


def test_the_tightest_control_group_around_the_process_decides(tmp_path: Path) -> None:
    # MemoryMax= of a systemd slice limits the services in it, even if they have no limit of their own.
    machine(tmp_path, available_mb=900, groups="0::/edge.slice/edge-opcua.service")
    group(tmp_path, "sys/fs/cgroup/edge.slice", limit=str(512 * MB), used_mb=400, cache_mb=60)
    group(tmp_path, "sys/fs/cgroup/edge.slice/edge-opcua.service", limit="max", used_mb=390)
    found = free_memory(tmp_path)
    assert found.free_bytes == (512 - 400 + 60) * MB  # the cache goes before anything is refused
    assert found.place == "in the control group /edge.slice"


def test_a_container_finds_its_own_group_at_the_mount_point(tmp_path: Path) -> None:
    machine(tmp_path, available_mb=900, groups="0::/docker/4711")
    group(tmp_path, "sys/fs/cgroup", limit=str(256 * MB), used_mb=56)
    assert free_memory(tmp_path).free_bytes == 200 * MB


def test_the_old_control_groups_count_too_and_their_word_for_no_limit_is_known(tmp_path: Path) -> None:
    machine(tmp_path, available_mb=900, groups="5:devices:/\n4:cpu,memory:/box\n0::/")
    folder = "sys/fs/cgroup/memory/box/memory"
    write(
        tmp_path,
        {
            f"{folder}.limit_in_bytes": str(300 * MB),
            f"{folder}.usage_in_bytes": str(100 * MB),
            f"{folder}.stat": "inactive_file 5\ntotal_inactive_file 0\n",
        },
    )
    assert free_memory(tmp_path).free_bytes == 200 * MB
    (tmp_path / f"{folder}.limit_in_bytes").write_text("9223372036854771712\n")
    assert free_memory(tmp_path).place == "on this machine"


def test_a_model_needs_more_than_its_file(files: ModelFiles) -> None:
    size = files.model.stat().st_size
    assert need_bytes(files) >= 3 * size + 32 * MB


def test_a_model_that_would_use_what_must_stay_free_is_refused_with_the_figures(
    tmp_path: Path, files: ModelFiles
) -> None:
    machine(tmp_path, available_mb=150)
    Limit(keep_free_bytes=100 * MB, root=tmp_path).admit(files)
    with pytest.raises(ModelError) as caught:
        Limit(keep_free_bytes=128 * MB, root=tmp_path).admit(files)
    assert caught.value.code == "M580"
    assert str(caught.value) == (
        "press-anomaly 1 needs up to 32 MB; 150 of 1024 MB are free on this machine, "
        "128 of them must stay free"
    )


def test_the_size_of_a_process_is_read_and_nobody_has_none(tmp_path: Path) -> None:
    machine(tmp_path, available_mb=150)
    assert resident_bytes(tmp_path) > 0
    assert resident_bytes(tmp_path, 4711) == 0
    assert resident_bytes() > 10 * MB  # this process


def test_pipelines_of_one_process_share_the_sum_and_one_without_a_limit_takes_it_off() -> None:
    assert total_mb([100, 50]) == 150
    assert total_mb([100, None]) is None


def in_child(code: str, *arguments: str) -> list[str]:
    """Run in a process of its own: a limit cannot be tried on the process that runs the tests."""
    head = "import sys\nfrom edge_opcua.inference.memory import *\n"
    done = subprocess.run(
        [sys.executable, "-c", head + code, *arguments],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_process_gets_no_more_than_it_may_and_goes_on(tmp_path: Path) -> None:
    machine(tmp_path, available_mb=10_000)
    code = """
limit = Limit(keep_free_bytes=0, most_bytes=resident_bytes() + 64 * MB)
room = limit.renew()
kept = [bytearray(MB) for _ in range(32)]  # within
try:
    bytearray(100 * MB)
except MemoryError:
    print("refused")
before = limit.renew().limit_bytes
print(before - room.limit_bytes < MB, len(kept))
lift()
print(len(bytearray(100 * MB)) == 100 * MB)
"""
    assert in_child(code) == ["refused", "True 32", "True"]


def test_a_process_on_a_machine_that_is_short_of_memory_keeps_what_it_needs_to_say_so(tmp_path: Path) -> None:
    machine(tmp_path, available_mb=60)
    code = """
limit = Limit(keep_free_bytes=128 * MB, root=Path(sys.argv[1]))
room = limit.renew()
print(room.short, room.limit_bytes - room.rss_bytes == HEADROOM_BYTES, limit.describe(room))
for free_mb in (135, 150, 135):  # no flutter around the limit
    (Path(sys.argv[1]) / "proc/meminfo").write_text(f"MemAvailable: {free_mb * 1024} kB\\n")
    print(limit.renew().short)
"""
    told = "True True 60 MB of memory are free, 128 must stay free; best effort is shed"
    assert in_child(code, str(tmp_path)) == [told, "True", "False", "False"]


def test_a_process_may_offer_itself_to_the_kernel(tmp_path: Path) -> None:
    code = """
print(offer_as_victim(700), Path("/proc/self/oom_score_adj").read_text().strip())
print(offer_as_victim(700, Path(sys.argv[1])))
"""
    assert in_child(code, str(tmp_path)) == ["True 700", "False"]


def test_running_out_of_memory_while_loading_is_told_as_what_it_is(tmp_path: Path, files: ModelFiles) -> None:
    limit = Limit(keep_free_bytes=0, most_bytes=resident_bytes() + 512 * MB)
    for failure in (
        MemoryError(),
        ModelError("model.onnx cannot be loaded: std::bad_alloc", code="M510"),
        ModelError("cannot be loaded: Failed to allocate memory for requested buffer", code="M510"),
    ):
        with pytest.raises(
            ModelError, match=r"press-anomaly 1 does not fit into \d+ MB, its memory_mb"
        ) as caught:
            with_failure(limit, files, failure)
        assert caught.value.code == "M581"
    with pytest.raises(ModelError) as caught:
        with_failure(limit, files, ModelError("no such input", code="M504"))
    assert caught.value.code == "M504"


def with_failure(limit: Limit, files: ModelFiles, failure: Exception) -> None:
    try:
        with limit.loading(files):
            raise failure
    finally:
        lift()


def test_a_model_that_fills_its_process_beyond_memory_mb_is_refused(files: ModelFiles) -> None:
    limit = Limit(keep_free_bytes=0, most_bytes=MB)
    with pytest.raises(ModelError, match="its memory_mb is 1") as caught:
        with_nothing(limit, files)
    assert caught.value.code == "M581"


def with_nothing(limit: Limit, files: ModelFiles) -> None:
    try:
        with limit.loading(files):
            pass
    finally:
        lift()

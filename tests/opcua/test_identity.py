"""Promises to clients: what was once served under an id stays there, or the start is refused."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.core.values import Scalar
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.identity import compare, guard_identity, identity_of, read_record
from edge_opcua.opcua.namespaces import TYPE_URIS
from edge_opcua.testing import ManualClock
from tests.opcua.plant import TAGS, configuration, tag


def devices(tags: list[dict[str, Any]], *, name: str = "press", url: str = "s7://10.0.0.1") -> dict[str, Any]:
    groups = [{"name": "fast", "period_ms": 100}]
    device = {"name": name, "driver": "s7", "url": url, "tags": tags, "groups": groups}
    return {"devices": [device], "pipelines": [], "outputs": []}


A = tag("a", Scalar.FLOAT, "DB1.DBD0:REAL")
B = tag("b", Scalar.FLOAT, "DB1.DBD4:REAL")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "identity.lock"


def test_the_first_start_writes_the_promise_and_the_next_ones_keep_it(lock: Path) -> None:
    guard_identity(lock, configuration())
    written = lock.read_text()
    kept = json.loads(written)
    assert kept["namespaces"] == [*TYPE_URIS, "urn:plant-1:plant"]
    assert kept["nodes"]["tag s7://192.168.0.10?rack=0&slot=1 DB10.DBD24:REAL"] == [
        "Press01.Process.die_temp"
    ]
    assert "secret" not in written
    assert lock.stat().st_mode & 0o777 == 0o600
    guard_identity(lock, configuration())
    assert lock.read_text() == written


def test_a_renamed_tag_is_refused_with_old_and_new(lock: Path) -> None:
    guard_identity(lock, configuration(**devices([A, B])))
    with pytest.raises(IdentityError, match=r"\n.*Press01\.Process\.a -> Press01\.Process\.aa"):
        guard_identity(lock, configuration(**devices([{**A, "name": "aa"}, B])))


def test_a_renamed_tag_that_keeps_its_node_id_is_no_change(lock: Path) -> None:
    guard_identity(lock, configuration(**devices([A])))
    kept = {**A, "name": "aa", "node_id": "ns=7;s=Press01.Process.a"}
    guard_identity(lock, configuration(**devices([kept])))


def test_two_tags_that_swap_addresses_are_refused(lock: Path) -> None:
    guard_identity(lock, configuration(**devices([A, B])))
    swapped = [{**A, "address": B["address"]}, {**B, "address": A["address"]}]
    with pytest.raises(IdentityError, match="under another id"):
        guard_identity(lock, configuration(**devices(swapped)))


def test_adding_removing_and_replacing_a_plc_are_no_change(lock: Path) -> None:
    guard_identity(lock, configuration(**devices([A])))
    guard_identity(lock, configuration(**devices([B, A])))
    guard_identity(lock, configuration(**devices([B])))
    guard_identity(lock, configuration(**devices([B], url="s7://10.0.0.2")))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"site": {"name": "plant-2", "machine": "Press01"}},
            "namespace 7: urn:plant-1:plant -> urn:plant-2",
        ),
        ({"site": {"name": "plant-1", "machine": "Press02"}}, "Press01 -> Press02"),
    ],
)
def test_a_renamed_site_or_machine_is_refused(lock: Path, changed: dict[str, Any], said: str) -> None:
    guard_identity(lock, configuration())
    with pytest.raises(IdentityError, match=said):
        guard_identity(lock, configuration(**changed))


def test_a_renamed_device_or_pipeline_is_refused(lock: Path) -> None:
    guard_identity(lock, configuration())
    pipelines = [{"name": "other", "model": "press-anomaly", "capture": "vib/stroke"}]
    with pytest.raises(
        IdentityError, match=r"Press01\.Inference\.press-anomaly -> Press01\.Inference\.other"
    ):
        guard_identity(lock, configuration(pipelines=pipelines, outputs=[]))
    lock.unlink()
    guard_identity(lock, configuration(**devices([A])))
    with pytest.raises(IdentityError, match=r"Devices\.press -> Devices\.stamper"):
        guard_identity(lock, configuration(**devices([A], name="stamper")))


def test_namespaces_that_another_version_ordered_otherwise_are_refused(lock: Path) -> None:
    guard_identity(lock, configuration())
    kept = json.loads(lock.read_text())
    kept["namespaces"][0], kept["namespaces"][1] = kept["namespaces"][1], kept["namespaces"][0]
    lock.write_text(json.dumps(kept))
    with pytest.raises(IdentityError, match="namespace 2"):
        guard_identity(lock, configuration())


def test_an_operator_can_accept_the_change(lock: Path) -> None:
    guard_identity(lock, configuration(**devices([A])))
    renamed = configuration(**devices([{**A, "name": "aa"}]))
    guard_identity(lock, renamed, accept=True)
    guard_identity(lock, renamed)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 2}', '{"format": 3}', '{"format": 1, "namespaces": 3, "nodes": {}}']
)
def test_a_damaged_promise_is_refused_and_left_alone(lock: Path, content: str) -> None:
    lock.write_text(content)
    with pytest.raises(IdentityError, match=re.escape(str(lock))) as caught:
        guard_identity(lock, configuration())
    assert caught.value.code == "C192"
    assert lock.read_text() == content


def test_two_tags_of_one_name_need_a_node_id() -> None:
    first, second = devices([A])["devices"][0], devices([A], name="oven", url="s7://10.0.0.9")["devices"][0]
    with pytest.raises(IdentityError, match="node_id") as caught:
        identity_of(configuration(devices=[first, second], pipelines=[], outputs=[]))
    assert caught.value.code == "C193"
    second["tags"] = [{**A, "node_id": "Press01.Process.oven_a"}]
    identity_of(configuration(devices=[first, second], pipelines=[], outputs=[]))


def test_a_node_id_of_another_namespace_is_refused() -> None:
    with pytest.raises(IdentityError, match="not a string id of this plant"):
        identity_of(configuration(**devices([{**A, "node_id": "ns=3;i=12"}])))


def test_the_test_plant_promises_each_of_its_tags() -> None:
    names = [name for found in identity_of(configuration()).nodes.values() for name in found]
    assert {f"Press01.Process.{each['name']}" for each in TAGS} <= set(names)


def renamed(**changes: Any) -> dict[str, Any]:
    """The plant with its tag ``a`` called ``aa``."""
    return devices([{**A, "name": "aa", "file": "press.csv", "line": 2}, B]) | changes


def test_the_table_of_renames_accepts_what_it_names_and_nothing_else(lock: Path) -> None:
    guard_identity(lock, configuration(**devices([A, B])))
    table = [{"old": "ns=7;s=Press01.Process.a", "new": "Press01.Process.aa"}]
    agreed = configuration(**renamed(renames=table))
    other = configuration(**devices([{**A, "name": "aa"}, {**B, "name": "bb"}]), renames=table)
    with pytest.raises(IdentityError, match=r"Process\.b -> ") as caught:
        guard_identity(lock, other)
    assert "Process.aa" not in str(caught.value)
    found = guard_identity(lock, agreed, clock=ManualClock())
    assert found.notes() == [
        "renamed as the table says: Press01.Process.a -> Press01.Process.aa (tag s7://10.0.0.1 DB1.DBD0:REAL)"
    ]
    assert not guard_identity(lock, agreed).notes()


def test_a_line_of_the_table_covers_what_lies_below_and_a_namespace(lock: Path) -> None:
    guard_identity(lock, configuration(**devices([A, B])))
    table = [
        {"old": "Press01", "new": "Press02"},
        {"old": "urn:plant-1:plant", "new": "urn:plant-2:plant"},
    ]
    site = {"name": "plant-2", "machine": "Press02"}
    found = guard_identity(lock, configuration(**devices([A, B]), site=site, renames=table))
    assert {move.new for move in found.accepted} == {
        "urn:plant-2:plant",
        "Press02",
        "Press02.Process.a",
        "Press02.Process.b",
    }


def test_what_was_accepted_is_history_with_its_time_and_whose_yes(lock: Path) -> None:
    clock = ManualClock()
    guard_identity(lock, configuration(**devices([A, B])), clock=clock)
    guard_identity(lock, configuration(**renamed()), accept=True, clock=clock)
    moved = devices([{**A, "name": "aa"}, {**B, "address": "DB1.DBD8:REAL"}])
    guard_identity(lock, configuration(**moved), clock=clock)
    record = read_record(lock)
    assert record is not None
    first, second = record.history
    assert (first.old, first.new, first.by) == ("Press01.Process.a", "Press01.Process.aa", "accept")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first.when)
    assert (second.what, second.new, second.by) == (
        "Press01.Process.b",
        "tag s7://10.0.0.1 DB1.DBD8:REAL",
        "address",
    )
    assert record.retired == {"Press01.Process.a": "tag s7://10.0.0.1 DB1.DBD0:REAL"}


def test_a_removed_tags_node_id_is_not_silently_given_to_another_address(lock: Path) -> None:
    guard_identity(lock, configuration(**devices([A, B])))
    assert guard_identity(lock, configuration(**devices([B]))).notes() == [
        "no longer served: Press01.Process.a"
    ]
    taken = {**A, "address": "DB1.DBD96:REAL", "file": "press.csv", "line": 7}
    with pytest.raises(IdentityError, match=r"Process\.a: tag .*DB1\.DBD0:REAL -> tag .*DB1\.DBD96"):
        guard_identity(lock, configuration(**devices([B, taken])))
    (move,) = compare(lock, configuration(**devices([B, taken]))).refused
    assert move.place == "press.csv:7"
    guard_identity(lock, configuration(**devices([B, A])))  # the same thing may come back
    record = read_record(lock)
    assert record is not None
    assert not record.retired


def test_an_old_name_is_not_silently_given_to_another_tag_after_a_rename(lock: Path) -> None:
    guard_identity(lock, configuration(**devices([A])))
    guard_identity(lock, configuration(**devices([{**A, "name": "aa"}])), accept=True)
    late = {**B, "name": "a"}
    with pytest.raises(IdentityError, match=r"Process\.a: "):
        guard_identity(lock, configuration(**devices([{**A, "name": "aa"}, late])))


def test_another_address_under_the_same_name_is_told_and_a_moved_plc_is_one_line(lock: Path) -> None:
    guard_identity(lock, configuration(**devices([A, B])))
    moved = configuration(**devices([{**A, "address": "DB2.DBD0:REAL"}, B]))
    (note,) = guard_identity(lock, moved).notes()
    place = "tag s7://10.0.0.1"
    assert note == f"Press01.Process.a keeps its NodeId: {place} DB1.DBD0:REAL -> {place} DB2.DBD0:REAL"
    other_place = configuration(**devices([{**A, "address": "DB2.DBD0:REAL"}, B], url="s7://10.0.0.9"))
    assert guard_identity(lock, other_place).notes() == [
        "a device with 3 nodes keeps its NodeId: s7://10.0.0.1 -> s7://10.0.0.9"
    ]


def test_a_lock_that_is_somebody_elses_is_not_called_damaged(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_allowed(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", str(lock))

    monkeypatch.setattr(Path, "read_text", not_allowed)
    with pytest.raises(PermissionError):
        read_record(lock)


def test_a_lock_of_the_first_format_is_read_and_kept_on(lock: Path) -> None:
    guard_identity(lock, configuration(**devices([A])))
    raw = json.loads(lock.read_text())
    first = {"format": 1, "namespaces": raw["namespaces"], "nodes": raw["nodes"]}
    lock.write_text(json.dumps(first))
    with pytest.raises(IdentityError, match=r"Process\.aa"):
        guard_identity(lock, configuration(**devices([{**A, "name": "aa"}])))
    guard_identity(lock, configuration(**devices([A, B])))
    assert json.loads(lock.read_text())["format"] == 2


_ACCEPTING = """
import sys
from pathlib import Path
from edge_opcua.core.values import Scalar
from edge_opcua.opcua.identity import guard_identity
from tests.opcua.test_identity import A, B, configuration, devices
both = [configuration(**devices([{**A, "name": name}, B])) for name in ("a", "aa")]
print("ready", flush=True)
while True:
    for each in both:
        guard_identity(Path(sys.argv[1]), each, accept=True)
"""


def test_a_kill_in_the_middle_of_writing_leaves_the_old_promise_or_the_new_one(lock: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _ACCEPTING, str(lock)], stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGKILL)
    record = read_record(lock)
    assert record is not None
    assert record.identity.nodes["tag s7://10.0.0.1 DB1.DBD0:REAL"] in (
        ("Press01.Process.a",),
        ("Press01.Process.aa",),
    )

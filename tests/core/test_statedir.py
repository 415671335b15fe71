import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ConfigError


def test_what_a_server_keeps_lies_in_one_private_directory(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "deep" / "state")
    state.create()
    state.create()
    assert stat.S_IMODE(state.root.stat().st_mode) == 0o700
    places = (
        state.pki,
        state.models,
        state.active_models,
        state.model_ledger,
        state.model_loads,
        state.journal,
        state.identity_lock,
        state.control_socket,
    )
    assert all(place.is_relative_to(state.root) for place in places)
    assert len(set(places)) == len(places)
    assert state.control_socket.parent.is_dir()


def test_a_place_that_cannot_be_used_is_the_operators_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be used"):
        StateDir(tmp_path / "file" / "state").create()


def test_only_one_server_uses_a_state_directory_and_its_end_frees_it(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.create()
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from edge_opcua.core.statedir import StateDir\n"
        "with StateDir(Path(sys.argv[1])).locked():\n"
        "    print('locked', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError, match="another server"), state.locked():
            raise AssertionError
        other.kill()
    with state.locked():
        pass
    with state.locked():
        pass


def test_a_lock_that_cannot_be_taken_for_another_reason_is_not_blamed_on_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(fd: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    state = StateDir(tmp_path)
    state.create()
    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(OSError, match="No locks"), state.locked():
        raise AssertionError

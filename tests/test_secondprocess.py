"""Nothing that the second process of a whole run says, or does not come to say, is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import secondprocess, unsteady

CONFTEST = "from tests import secondprocess\npytest_configure = secondprocess.register\n"
SETTINGS = '[tool.pytest.ini_options]\ntestpaths = ["tests"]\naddopts = "--import-mode=importlib"\n'
BESIDE = "import pytest\ndef test_beside(): pass\ndef test_left_out(): pytest.skip('no reason')\n"
ONCE = """
import pathlib
def test_it():
    seen = pathlib.Path("seen")
    first = not seen.exists()
    seen.touch()
    assert not first, "beside others"
"""
FIXTURE = """
import pathlib, pytest
@pytest.fixture
def opened():
    seen = pathlib.Path("seen")
    first = not seen.exists()
    seen.touch()
    yield
    assert not first, "beside others"
def test_it(opened): pass
"""
LEFT_OUT = """
import pathlib, pytest
def test_it():
    if pathlib.Path("seen").exists():
        pytest.skip("alone")
    pathlib.Path("seen").touch()
    assert 6 * 9 == 42
"""
MANY = """
import pathlib, pytest
@pytest.mark.parametrize("number", range(4))
def test_it(number):
    seen = pathlib.Path(f"seen-{number}")
    first = not seen.exists()
    seen.touch()
    assert not first
"""
ENDS = {
    "failed": ("def test_it(): assert 6 * 9 == 42", "1 failed, 2 passed, 1 skipped"),
    "not collected": ("import nobody_has_this", "No module named 'nobody_has_this'"),
    "left early": ("import os\ndef test_it(): os._exit(0)", "exit code 0"),
    "skipped the second time": (LEFT_OUT, "1 failed, 2 passed, 1 skipped"),
    "many the first time": (MANY, "4 failed, 2 passed, 1 skipped"),
}
UNSTEADY = {
    "test": (ONCE, "UNSTEADY tests/system/test_system.py::test_it (call)", "2 passed, 1 skipped, 1 unsteady"),
    "fixture": (
        FIXTURE,
        "UNSTEADY tests/system/test_system.py::test_it (teardown)",
        "3 passed, 1 skipped, 1 unsteady",
    ),
}


def started(root: Path, last: str) -> subprocess.Popen[str]:
    for folder, text in zip(
        ("core", *secondprocess.WAITING), ("def test_here(): pass", BESIDE, last), strict=True
    ):
        place = root / "tests" / Path(folder).name
        place.mkdir(parents=True)
        (place / f"test_{place.name}.py").write_text(text)
    (root / "pyproject.toml").write_text(SETTINGS)
    (root / "tests" / "conftest.py").write_text(CONFTEST)
    for module in (secondprocess, unsteady):
        shutil.copy(str(module.__file__), root / "tests")
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they need longer to start than all of this
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: there is no second process")
@pytest.mark.timeout(120)
def test_a_second_process_that_fails_or_does_not_come_to_its_end_fails_the_run(tmp_path: Path) -> None:
    runs = {how: started(tmp_path / how, last) for how, (last, _) in ENDS.items()}
    for how, run in runs.items():
        said = run.communicate()[0]
        assert run.returncode == pytest.ExitCode.TESTS_FAILED, f"{how}:\n{said}"
        assert ENDS[how][1] in said
        assert "tests/core/test_core.py ." in said


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: there is no second process")
@pytest.mark.timeout(120)
def test_what_fails_once_and_passes_alone_is_told_and_does_not_fail_the_run(tmp_path: Path) -> None:
    runs = {what: started(tmp_path / what, last) for what, (last, *_) in UNSTEADY.items()}
    for what, run in runs.items():
        said = run.communicate()[0]
        assert run.returncode == pytest.ExitCode.OK, f"{what}:\n{said}"
        assert "AssertionError: beside others" in said
        for words in UNSTEADY[what][1:]:
            assert words in said

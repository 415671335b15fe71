"""Nothing that the second process of a whole run says, or does not come to say, is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import secondprocess

CONFTEST = "from tests import secondprocess\npytest_configure = secondprocess.register\n"
SETTINGS = '[tool.pytest.ini_options]\ntestpaths = ["tests"]\naddopts = "--import-mode=importlib"\n'
BESIDE = "import pytest\ndef test_beside(): pass\ndef test_left_out(): pytest.skip('no reason')\n"
ENDS = {
    "failed": ("def test_it(): assert 6 * 9 == 42", "1 failed, 2 passed, 1 skipped"),
    "not collected": ("import nobody_has_this", "No module named 'nobody_has_this'"),
    "left early": ("import os\ndef test_it(): os._exit(0)", "exit code 0"),
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
    shutil.copy(secondprocess.__file__, root / "tests")
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
@pytest.mark.timeout(60)
def test_a_second_process_that_fails_or_does_not_come_to_its_end_fails_the_run(tmp_path: Path) -> None:
    runs = {how: started(tmp_path / how, last) for how, (last, _) in ENDS.items()}
    for how, run in runs.items():
        said = run.communicate()[0]
        assert run.returncode == pytest.ExitCode.TESTS_FAILED, f"{how}:\n{said}"
        assert ENDS[how][1] in said
        assert "tests/core/test_core.py ." in said

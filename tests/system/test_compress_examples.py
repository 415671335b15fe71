"""Models of PyTorch and scikit-learn made smaller by the commands of the how-to, up to a line that runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edge_opcua.compress.report.report import Report, read_report
from edge_opcua.core.values import Verdict
from tests.system.desk import PEERS, type_in
from tests.system.plant import Plant

pytestmark = [pytest.mark.interop, pytest.mark.system, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
SKLEARN, TORCH = "notebook-sklearn", "notebook-torch"
PAGE = ROOT / "docs" / "howto" / "compress.md"
TRAINED = ROOT / "examples" / "compress" / "models" / "digits-cnn.onnx"
LINE = ROOT / "examples" / "compress" / "press.toml"
COMMAND_S = 300.0
PYTORCH, SCIKIT, PACKAGE, REFUSED = "From PyTorch", "From scikit-learn", "A package", "When the answer is no"
SHORT = ("--budget 1m", "--budget 8s --timing 0.1")
"""Who reads the page has more patience: the first variants of a run are what these tests are about."""
_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(section: str) -> list[str]:
    """Return what a section of the page has typed, in its order."""
    text = next(text for title, text in _SECTION.findall(PAGE.read_text()) if title.startswith(section))
    lines = [line for block in _BLOCK.findall(text) for line in block.splitlines()]
    return [line.partition("   #")[0].replace(*SHORT) for line in lines]


def is_there(peer: str) -> bool:
    return (PEERS / peer / "bin" / "edge-opcua").exists()


def require(peer: str) -> None:
    if not is_there(peer):
        name = peer.removeprefix("notebook-")
        pytest.skip(f"no {name}: tests/peers/install-notebooks {name}")


async def typed_in(
    desk: Path, command: str, *, ends_with: tuple[int, ...] = (0,), state: Path | None = None
) -> str:
    """Type a command in the environment that has what it needs, and return what it prints."""
    peer = TORCH if "digits_cnn" in command else SKLEARN
    return await type_in(
        desk, command, peer=peer, state=state or desk / "state", within_s=COMMAND_S, ends_with=ends_with
    )


async def compressed(desk: Path, command: str, *, ends_with: tuple[int, ...] = (0,)) -> Report:
    """Run a compression, and return its report; what was typed first did all the work."""
    await typed_in(desk, command, ends_with=ends_with)
    again = await typed_in(desk, f"{command} --json", ends_with=ends_with)
    file = desk / "report.json"
    file.write_text(again)
    return read_report(file)


@pytest.fixture(autouse=True)
def no_blocking_call_in_the_loop() -> None:
    """Watch nothing here: what runs are processes of their own."""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Where the commands are typed: beside the examples."""
    found = tmp_path / "desk"
    found.mkdir()
    (found / "examples").symlink_to(ROOT / "examples")
    return found


async def test_a_network_of_pytorch_becomes_an_int8_model_that_is_proved_and_60_percent_smaller(
    desk: Path,
) -> None:
    require(SKLEARN)
    digits, train, compress = commands(PYTORCH)
    await typed_in(desk, digits)
    if is_there(TORCH):
        await typed_in(desk, train)
    else:  # the network that is delivered came out of this command
        (desk / "digits-cnn.onnx").write_bytes(TRAINED.read_bytes())
        compress = re.sub(r" --reference \S+", "", compress)
    report = await compressed(desk, compress)
    chosen = report.chosen_row
    assert chosen is not None, report.reasons
    assert chosen.is_usable
    assert chosen.saved >= 0.6
    assert "<svg" in (desk / "digits.html").read_text()


@pytest.mark.slow  # simulates 4 000 strokes first
async def test_of_a_classifier_of_scikit_learn_only_what_is_proved_and_not_slower_is_chosen(
    desk: Path,
) -> None:
    require(SKLEARN)
    *before, compress = commands(SCIKIT)
    for command in before:
        await typed_in(desk, command)
    report = await compressed(desk, compress, ends_with=(0, 1))  # so small a model may have nothing to gain
    assert {row.comparison.measure for row in report.rows if row.comparison} == {"accuracy"}
    usable = {row.name for row in report.rows if row.is_usable and row.place}
    assert (report.chosen in usable) or (report.chosen is None and report.reasons)


async def test_too_few_samples_prove_nothing_and_the_original_stays(desk: Path) -> None:
    require(SKLEARN)
    *before, compress = commands(REFUSED)
    for command in before:
        await typed_in(desk, command)
    report = await compressed(desk, compress, ends_with=(1,))
    assert report.chosen is None
    needed = [row.comparison.needed for row in report.rows if row.comparison and row.comparison.needed]
    assert min(needed) > report.gate.count


@pytest.mark.slow  # tests/system/test_system_compress.py does the same without the page
async def test_the_line_runs_on_what_was_made_of_its_package(desk: Path, tmp_path: Path) -> None:
    require(SKLEARN)
    for command in commands(SCIKIT)[:1]:  # the strokes
        await typed_in(desk, command)
    compress, listed, activate = commands(PACKAGE)
    async with Plant(tmp_path, config=LINE) as plant:
        await plant.until(lambda: plant.results(0, Verdict.OK), "a first stroke")
        await typed_in(desk, compress, state=plant.state_dir)
        assert "press-autoencoder/2" in await typed_in(desk, listed, state=plant.state_dir)
        mark = plant.mark()
        await typed_in(desk, activate, state=plant.state_dir)

        def judged(verdict: Verdict) -> bool:
            return any(row["ModelVersion"] == 2 for row in plant.results(mark, verdict))

        await plant.until(lambda: judged(Verdict.OK), "a healthy stroke judged by the smaller model")
        await plant.cell.wear(0.9)
        await plant.until(lambda: judged(Verdict.NOT_OK), "a worn stroke it found")
    folder = plant.state_dir / "models" / "press-autoencoder" / "2"
    assert json.loads((folder / "compression.json").read_text())["chosen"]
    original = ROOT / "examples" / "compress" / "models" / "press-autoencoder" / "1" / "model.onnx"
    assert (folder / "model.onnx").stat().st_size < 0.5 * original.stat().st_size

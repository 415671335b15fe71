"""A line whose model runs on a server of somebody else: judged there, and safe while it is silent."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest

from edge_opcua.core.values import Verdict
from tests.inference.models import DELIVERED
from tests.inference.remote.server import V2Server
from tests.system.plant import EXAMPLE, Plant

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server() -> Iterator[V2Server]:
    with V2Server({("press-anomaly", "1"): DELIVERED / "model.onnx"}).running() as made:
        yield made


@pytest.fixture(scope="module")
async def plant(server: V2Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    home = tmp_path_factory.mktemp("remote")
    shutil.copytree(EXAMPLE.parent, home / "press")
    file = home / "press" / "press.toml"
    text = file.read_text()
    options = f'{{ url = "{server.url}", timeout_ms = 200, retry_first_s = 1, retry_most_s = 1 }}'
    assert "deadline_ms = 100\n" in text
    wanted = f'deadline_ms = 250\nbackend = "remote"\nprovider = "remote"\noptions = {options}\n'
    file.write_text(text.replace("deadline_ms = 100\n", wanted, 1))
    async with Plant(home, config=file) as running:
        yield running


async def test_a_silent_server_makes_the_line_safe_with_the_reason_until_it_answers_again(
    plant: Plant, server: V2Server
) -> None:
    since = plant.mark()
    await plant.until(lambda: plant.results(since, Verdict.OK), "a stroke judged OK by the server")
    assert len(server.asked("infer")) > 2
    (row,) = (await plant.status())["pipelines"]
    assert row["lane"]["provider"] == f"remote {server.url}"
    assert row["last"]["source"] == f"remote {server.url}"

    server.say.spoil = lambda whole: [60.0]
    since = plant.mark()
    await plant.until(
        lambda: any("M572" in each["Reason"] for each in plant.results(since)), "a stroke without an answer"
    )
    silent = [each for each in plant.results(since, Verdict.NOT_DECIDABLE) if each["FailSafeActive"]]
    assert {each["Reason"][:4] for each in silent} <= {"M571", "M572", "M541"}
    assert silent

    server.say.spoil = None
    since = plant.mark()
    await plant.until(lambda: plant.results(since, Verdict.OK), "a stroke judged OK again")

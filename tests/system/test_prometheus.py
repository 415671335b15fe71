"""Prometheus reads a running server, draws every curve of the dashboard, and alarms when it should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.core.clock import SystemClock
from edge_opcua.core.worker import Worker
from edge_opcua.telemetry.dashboard import dashboard
from edge_opcua.telemetry.provision import write
from edge_opcua.telemetry.rules import RULES
from tests.interop.modbus_stacks import free_port
from tests.system.plant import EXAMPLE, Plant
from tests.telemetry.plant import read

PROGRAMS = Path(__file__).parents[1] / "peers" / ".installed" / "prometheus" / "usr" / "bin"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        not (PROGRAMS / "promtool").exists(), reason="prometheus is not here: run tests/peers/install"
    ),
]
# What nobody can see in a plant that is well, on a computer without cards, before models change.
ONLY_IN_NEED = re.compile(
    r"edge_(gpu|rollback|swap|hours_to_limit|shadow|faults|drift_psi|confidence_mean|thermal|score|model_age)"
)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAMS / "promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_its_own_checker_finds_nothing_wrong_with_the_files(tmp_path: Path) -> None:
    write(tmp_path, "127.0.0.1:9464")
    found = promtool("check", "config", str(tmp_path / "prometheus" / "prometheus.yml"))
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"{len(RULES)} rules found" in found.stdout


class Prometheus:
    """A Prometheus of the test's own.

    Args:
        folder: Where it keeps everything.
        target: What it reads.
    """

    def __init__(self, folder: Path, target: str) -> None:
        write(folder, target)
        config = folder / "prometheus" / "prometheus.yml"
        text = config.read_text().replace('"5s"', '"1s"').replace('"15s"', '"1s"')
        config.write_text(text)
        self._url = f"http://127.0.0.1:{free_port()}"
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [
                str(PROGRAMS / "prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self._url.removeprefix('http://')}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        self._worker = Worker("prometheus")

    async def ask(self, path: str, **parameters: str) -> Any:
        """Return what its HTTP API answers; None while it does not."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            text = await self._worker.call(read, url, timeout_s=10.0)
        except OSError:
            return None
        return json.loads(text)["data"]

    async def samples(self, expression: str) -> list[dict[str, Any]]:
        found = await self.ask("query", query=expression)
        return [] if found is None else list(found["result"])

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self._log.close()


@pytest.fixture(scope="module")
def target() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prometheus")


@pytest.fixture(scope="module")
def config(home: Path, target: str) -> Path:
    shutil.copytree(EXAMPLE.parent, home / "press")
    file = home / "press" / "press.toml"
    file.write_text(f'{file.read_text()}\n[telemetry]\nprometheus = "{target}"\n')
    return file


@pytest.fixture(scope="module")
def prometheus(home: Path, target: str) -> Iterator[Prometheus]:
    running = Prometheus(home / "prometheus", target)
    yield running
    running.end()


@pytest.fixture(scope="module")
async def plant(home: Path, config: Path) -> AsyncIterator[Plant]:
    async with Plant(home, config=config) as running:
        yield running


async def test_a_real_prometheus_sees_the_plant_and_its_loss(plant: Plant, prometheus: Prometheus) -> None:
    clock = SystemClock()

    async def until(expression: str, within_s: float = 40.0) -> list[dict[str, Any]]:
        ends_s = clock.monotonic_s() + within_s
        while not (found := await prometheus.samples(expression)):
            assert clock.monotonic_s() < ends_s, expression
            await clock.sleep(0.3)
        return found

    await until('rate(edge_verdicts_total{verdict="ok"}[10s]) > 0')
    (p99,) = await until("histogram_quantile(0.99, sum by (le) (edge_inference_duration_seconds_bucket)) < 1")
    assert 50e-6 <= float(p99["value"][1]) < 1.0
    roles = {row["metric"]["role"] for row in await until("edge_process_resident_bytes > 1e6")}
    assert {"supervisor", "io", "records", "opcua", "telemetry", "lane/press-anomaly"} <= roles
    # Every curve of the dashboard can be drawn, and all but a few have something to show.
    for panel in dashboard()["panels"]:
        for curve in panel.get("targets", ()):
            expression = curve["expr"].replace("$__rate_interval", "10s").replace("$pipeline", ".*")
            found = await prometheus.ask("query", query=expression)
            assert found is not None, expression
            assert found["result"] or ONLY_IN_NEED.search(expression), expression
    await plant.cell.link("vib", "cut")
    await until('edge_link_up{device="vib"} == 0')
    await until("edge_failsafe_active == 1")
    pending = await until('ALERTS{alertname="EdgeDeviceDown", device="vib"}')
    assert pending[0]["metric"]["severity"] == "critical"

"""What a person sees, word for word: examples of every kind of mistake, with the installed drivers.

``EDGE_OPCUA_WRITE_GOLDEN=1 pytest tests/config`` writes the files anew; read the difference.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_opcua.assets import examples_dir
from edge_opcua.config.busplan import bus_json
from edge_opcua.config.loader import load
from edge_opcua.config.pollplan import PollPlan, Reads
from edge_opcua.config.report import check_json, check_text, problems_text
from edge_opcua.core.bus import Bus
from edge_opcua.core.values import BlockSpec, Scalar, TagSpec

GOLDEN = Path(__file__).with_name("golden")
PLANS = Path(__file__).with_name("plans")
CASES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())


def compare(name: str, text: str) -> None:
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("EDGE_OPCUA_WRITE_GOLDEN"):
        file.write_text(text + "\n")
    assert file.read_text() == text + "\n"


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_about_a_wrong_configuration(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN / case)
    loaded = load(Path("press.toml"), env={})
    assert not loaded.ok
    assert check_text(loaded, ()) == problems_text(loaded)
    compare(case, problems_text(loaded))


def reads(requests: int, extra_requests: int = 0) -> Reads:
    return SimpleNamespace(requests=requests, extra_requests=extra_requests)


def plans() -> list[PollPlan]:
    own = {"verdict.control": reads(1), "verdict.status": reads(1)}
    press = SimpleNamespace(reads={"fast": reads(1), "settings": reads(1), **own})
    vib = SimpleNamespace(reads={"slow": reads(2), "stroke": reads(6, 17)})
    return [press, vib]


def blocks() -> list[BlockSpec]:
    """Return more blocks than are shown."""
    tags = [TagSpec(f"t{row}", Scalar.DOUBLE) for row in range(500)]
    large = BlockSpec("press.fast", tags, 101)
    return [large, *(BlockSpec(f"vib.{number}", tags[:number], 8) for number in range(1, 10))]


def test_the_plan_of_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples_dir() / "press")
    loaded = load(Path("press.toml"), env={})
    assert loaded.problems == ()
    compare("example_plan", check_text(loaded, plans(), blocks()))


def test_the_plan_as_json_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples_dir() / "press")
    loaded = load(Path("press.toml"), env={})
    found = check_json(loaded, plans(), blocks())
    assert (found["schema"], found["ok"], found["errors"], found["warnings"]) == (
        "edge-opcua.check/1",
        True,
        0,
        1,
    )
    assert [one["code"] for one in found["problems"]] == ["C125"]
    assert found["plan"]["reads"][1] == {
        "device": "vib",
        "driver": "modbus",
        "tags": 4,
        "groups": {"slow": 500},
        "captures": {"stroke": 2000},
        "simulated": False,
        "watchdog": None,
        "requests_per_poll": {"slow": 2, "stroke": 6},
        "requests_when_ready": {"stroke": 17},
        "requests_per_s": 304.0,
        "max_requests_per_s": 200.0,
    }
    assert found["plan"]["writes"][0]["fail_safe"] == "NotDecidable"
    assert "press/ack_edge" in found["plan"]["writable"]
    assert len(found["plan"]["bus"]["blocks"]) == 10
    first = found["plan"]["bus"]["blocks"][0]
    assert {**first, "bytes": 0} == {"name": "press.fast", "rows": 500, "depth": 101, "bytes": 0}
    assert found["plan"]["bus"]["bytes"] > first["bytes"] >= 500 * 28 * 102
    assert found["plan"]["models"] == ["press-anomaly 1"]


def test_the_plan_of_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PLANS / "outputs")
    loaded = load(Path("press.toml"), env={})
    compare("outputs_plan", check_text(loaded, ()))


def test_the_plan_of_outputs_as_json_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PLANS / "outputs")
    found = check_json(load(Path("press.toml"), env={}), ())
    verdict, limit, lamps, unwatched = found["plan"]["writes"]
    assert {**verdict["interface"], "version": 0} == {
        "mode": "triggered",
        "control": "DB21",
        "control_words": 8,
        "poll_ms": 10,
        "status": "DB20",
        "status_words": 19,
        "version": 0,
        "results": {"Verdict": 12, "Score": 14, "Cycle": 16},
    }
    assert (limit["interface"], [value["tag"] for value in limit["values"]]) == (
        None,
        ["plc/speed", "plc/stop"],
    )
    assert limit["values"][0]["falls_safe_to"] == "its low end, 0"
    late = next(each for each in verdict["reactions"] if each["fault"] == "result late")
    assert late["total_ms"] == sum(part["ms"] for part in late["parts"])
    assert {"part": "hold", "ms": 500.0} in late["parts"]
    assert verdict["process_limit_ms"] == 2500
    dead = [next(iter(each["reactions"])) for each in (lamps, unwatched)]
    assert [each["total_ms"] for each in dead] == [800, None]  # None: nobody would ever notice
    assert [(one["code"], one["where"]) for one in found["problems"]] == [
        ("C175", "outputs[unwatched].device")
    ]


def test_every_error_names_file_line_column_code_and_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for case in CASES:
        monkeypatch.chdir(GOLDEN / case)
        for problem in load(Path("press.toml"), env={}).problems:
            assert re.fullmatch(r"[CTS]\d{3}", problem.code)
            assert Path(problem.file).is_file()
            assert problem.place.line > 0
            assert problem.place.column > 0
            assert problem.excerpt


def test_what_check_says_of_the_bus_is_what_it_takes() -> None:
    bus = Bus.create(blocks())
    stated = bus_json(blocks())["bytes"]
    assert stated <= os.fstat(bus.fd).st_size < stated + 100_000
    bus.close()

"""What lanes cannot do, or cannot do together: each mistake is one problem at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_opcua.config.problem import Severity
from tests.config.fakedriver import CONFIG, load_texts

SECOND = """
[[pipelines]]
name = "trend"
model = "trend"
capture = "press/stroke"
"""
NOT_SAFE = "is not possible in a safety lane"
WEAR = 'name = "wear"\nmodel = "wear"\n'


def found(folder: Path, config: str, **env: str) -> list[tuple[str, str, str]]:
    loaded = load_texts(folder, config, **env)
    return [(one.code, one.where, one.message) for one in loaded.problems]


def with_lines(wear: str = "", trend: str = "", before: str = "") -> str:
    """Return two pipelines with further lines, and lines in front of the devices."""
    text = CONFIG.replace(WEAR, f"{WEAR}{wear}\n").replace(
        "[[outputs]]", f"{SECOND}{trend}\n\n[[outputs]]", 1
    )
    return text.replace("[[devices]]", f"{before}\n\n[[devices]]", 1)


GROUP = '[[inference.groups]]\nname = "g"\n'


@pytest.mark.parametrize(
    ("wear", "trend", "before"),
    [
        ("", "", ""),
        ('lane = "safety"', "", ""),
        ('lane = "safety"\ngroup = "g"', 'lane = "safety"\ngroup = "g"', GROUP),
        ('lane = "realtime"\ngroup = "g"', 'lane = "best_effort"\ngroup = "g"', f"{GROUP}workers = 2"),
        ('group = "wear"', 'group = "wear"', ""),
        ('cheaper_version = 2\nlate = "hold_last"', "", ""),
        ('cheaper_version = "auto"\nlane = "best_effort"', "", ""),
        ('backend = "remote"\nprovider = "remote"', "", ""),
        ('lane = "safety"\nmax_batch = 1\nperiod_ms = 200', "", ""),
    ],
)
def test_what_goes_together_is_taken(tmp_path: Path, wear: str, trend: str, before: str) -> None:
    assert found(tmp_path, with_lines(wear, trend, before)) == []


@pytest.mark.parametrize(
    ("wear", "trend", "before", "expected"),
    [
        (
            'lane = "safety"\ngroup = "g"',
            'group = "g"',
            "",
            ("C182", "pipelines[trend].group", 'group "g": trend is realtime, but wear is safety'),
        ),
        (
            'lane = "safety"\nlate = "hold_last"',
            "",
            "",
            (
                "C183",
                "pipelines[wear].late",
                'wear: late = "hold_last" is not possible in a safety lane: what is late falls safe',
            ),
        ),
        (
            'lane = "safety"\nlate = "publish_late"',
            "",
            "",
            (
                "C183",
                "pipelines[wear].late",
                'wear: late = "publish_late" is not possible in a safety lane: what is late falls safe',
            ),
        ),
        (
            'lane = "safety"\nbackend = "remote"\nprovider = "remote"',
            "",
            "",
            (
                "C183",
                "pipelines[wear].provider",
                f"wear: a model on another computer {NOT_SAFE}: its answer depends on a network",
            ),
        ),
        (
            'lane = "safety"\ncheaper_version = 2',
            "",
            "",
            (
                "C183",
                "pipelines[wear].cheaper_version",
                f"wear: a cheaper version {NOT_SAFE}: it runs one model, always the same",
            ),
        ),
        (
            'lane = "safety"\nmax_batch = 8',
            "",
            "",
            (
                "C183",
                "pipelines[wear].max_batch",
                "wear: max_batch = 8 is not possible in a safety lane: each capture is judged alone",
            ),
        ),
        (
            'lane = "safety"\noptions = { threads = 2 }',
            "",
            "",
            (
                "C183",
                "pipelines[wear].options.threads",
                "wear: 2 threads is not possible in a safety lane: one thread waits for no other",
            ),
        ),
        (
            'lane = "safety"\ngroup = "g"',
            "",
            f"{GROUP}workers = 2",
            (
                "C183",
                "inference.groups[g].workers",
                f"group g: 2 workers {NOT_SAFE}: each capture is judged at once, by one thread",
            ),
        ),
        (
            "",
            'group = "wear"',
            "",
            ("C184", "pipelines[trend].group", 'group "wear" has the name of a pipeline that is not in it'),
        ),
        *(
            (
                f"cheaper_version = {word}",
                "",
                "",
                (
                    "C104",
                    "pipelines[wear].cheaper_version",
                    f'{word} is neither a version from 1 to 1000000 nor "auto"',
                ),
            )
            for word in ('"fast"', "0", "true")
        ),
        (
            'cheaper_version = "auto"\nlane = "safety"',
            "",
            "",
            (
                "C183",
                "pipelines[wear].cheaper_version",
                f"wear: a cheaper version {NOT_SAFE}: it runs one model, always the same",
            ),
        ),
        (
            'cheaper_version = "auto"\nbackend = "remote"\nprovider = "remote"',
            "",
            "",
            (
                "C200",
                "pipelines[wear].cheaper_version",
                'cheaper_version = "auto" goes by what was measured here, wear runs elsewhere',
            ),
        ),
        (
            "version = 3\ncheaper_version = 3",
            "",
            "",
            ("C186", "pipelines[wear].cheaper_version", "version 3 is the version of the pipeline itself"),
        ),
        (
            'backend = "remote"',
            "",
            "",
            ("C189", "pipelines[wear].provider", 'the backend "remote" does not run on "cpu"'),
        ),
        (
            'provider = "remote"',
            "",
            "",
            ("C189", "pipelines[wear].provider", 'the backend "onnxruntime" does not run on "remote"'),
        ),
        (
            'backend = "broken"',
            "",
            "",
            (
                "C113",
                "pipelines[wear].backend",
                "the backend \"broken\" cannot be imported: No module named 'libplc'",
            ),
        ),
        (
            "options = { treads = 2 }",
            "",
            "",
            ("C102", "pipelines[wear].options.treads", 'unknown key "treads"'),
        ),
        (
            "options = { threads = 99 }",
            "",
            "",
            ("C103", "pipelines[wear].options.threads", "99 is out of range 1..8"),
        ),
        (
            'group = "g"',
            "",
            f"{GROUP}{GROUP}",
            ("C111", "inference.groups[g].name", '"g" is defined twice'),
        ),
        (
            'lane = "fast"',
            "",
            "",
            ("C104", "pipelines[wear].lane", '"fast" is not one of safety, realtime, best_effort'),
        ),
    ],
)
def test_one_mistake_is_one_error(
    tmp_path: Path, wear: str, trend: str, before: str, expected: tuple[str, str, str]
) -> None:
    loaded = load_texts(tmp_path, with_lines(wear, trend, before))
    assert [(one.code, one.where, one.message) for one in loaded.problems] == [expected]
    assert not loaded.ok


@pytest.mark.parametrize(
    ("wear", "trend", "said"),
    [
        ("memory_mb = 96", "", "96 MB are less than a lane process takes by itself, 128 MB"),
        (
            'group = "g"\nmemory_mb = 60',
            'group = "g"\nmemory_mb = 60',
            "120 MB together are less than a lane process takes by itself, 128 MB",
        ),
        ("memory_mb = 128", "", None),
        ('group = "g"\nmemory_mb = 64', 'group = "g"\nmemory_mb = 64', None),
        ('group = "g"\nmemory_mb = 60', 'group = "g"', None),  # no limit
    ],
)
def test_a_process_gets_the_memory_that_it_cannot_start_without(
    tmp_path: Path, wear: str, trend: str, said: str | None
) -> None:
    problems = load_texts(tmp_path, with_lines(wear, trend)).problems
    wanted = [] if said is None else [("C103", "pipelines[wear].memory_mb", said)]
    assert [(one.code, one.where, one.message) for one in problems] == wanted


@pytest.mark.parametrize("line", ["workers = 2", "cores = [1]"])
def test_what_belongs_to_a_group_is_not_searched_for_at_its_pipelines(tmp_path: Path, line: str) -> None:
    (problem,) = load_texts(tmp_path, with_lines(line, "", "")).problems
    assert (problem.code, problem.suggestion) == ("C102", "")
    assert "is a key of [[inference.groups]]" in problem.help


@pytest.mark.parametrize(
    ("wear", "before", "expected"),
    [
        (
            "",
            f"{GROUP}",
            ("C187", "inference.groups[g].name", 'no pipeline is in group "g"; nothing will be run for it'),
        ),
        (
            "period_ms = 10",
            "",
            ("C188", "pipelines[wear].period_ms", '10 ms is shorter than 20 ms, poll_ms of "stroke"'),
        ),
        (
            'lane = "safety"\nperiod_ms = 50\ndeadline_ms = 80',
            "",
            ("C188", "pipelines[wear].deadline_ms", "80 ms is longer than the period, 50 ms"),
        ),
        (
            'backend = "remote"\nprovider = "remote"\noptions = { timeout_ms = 500 }',
            "",
            ("C188", "pipelines[wear].options.timeout_ms", "500 ms is longer than the deadline, 100 ms"),
        ),
    ],
)
def test_what_may_be_meant_is_warned_of(
    tmp_path: Path, wear: str, before: str, expected: tuple[str, str, str]
) -> None:
    loaded = load_texts(tmp_path, with_lines(wear, "", before))
    assert [(one.code, one.where, one.message) for one in loaded.problems] == [expected]
    assert [one.severity for one in loaded.problems] == [Severity.WARNING]
    assert loaded.ok


def test_processors_that_are_not_there_are_warned_of_each(tmp_path: Path) -> None:
    loaded = load_texts(tmp_path, with_lines('group = "g"', "", f"{GROUP}cores = [0, 4094, 4095]"))
    assert [(one.code, one.where) for one in loaded.problems] == [
        ("C185", "inference.groups[g].cores[2]"),
        ("C185", "inference.groups[g].cores[3]"),
    ]
    assert loaded.ok


def test_options_of_a_backend_may_come_from_the_environment_and_keep_only_what_was_given(
    tmp_path: Path,
) -> None:
    text = with_lines('options = { threads = "${THREADS}" }')
    loaded = load_texts(tmp_path, text, THREADS="3")
    assert loaded.problems == ()
    assert loaded.config is not None
    assert loaded.config.pipelines[0].options == {"threads": 3}
    assert loaded.config.pipelines[1].options == {}


def test_a_cheaper_version_that_is_not_delivered_is_told(tmp_path: Path) -> None:
    for model in ("wear/1", "trend/1"):
        (tmp_path / "models" / model).mkdir(parents=True)
        (tmp_path / "models" / model / "model.onnx").touch()
    assert found(tmp_path, with_lines("cheaper_version = 2")) == [
        (
            "M501",
            "pipelines[wear].cheaper_version",
            "wear 2 is not delivered with this file, only version 1",
        )
    ]


MACHINES = """
[[templates]]
name = "press"
  [[templates.devices]]
  name = "${name}"
  driver = "fake"
  url = "fake://${host}"
    [[templates.devices.captures]]
    name = "stroke"
    sequence = "r0:UINT"
    samples = "r100:INT[2000]"
    sample_rate_hz = 10000
  [[templates.pipelines]]
  name = "${name}-safe"
  model = "wear"
  capture = "${name}/stroke"
  lane = "safety"
  group = "${name}-guard"
  deadline_ms = "${deadline}"
  [[templates.pipelines]]
  name = "${name}-trend"
  model = "trend"
  capture = "${name}/stroke"
  lane = "best_effort"
  group = "%s"

[[machines]]
template = "press"
table = "machines.csv"
"""


def test_lanes_of_machines_from_a_template_share_groups_across_machines(tmp_path: Path) -> None:
    head = CONFIG[: CONFIG.index("[[devices]]")]
    (tmp_path / "machines.csv").write_text("name,host,deadline\np1,one,20\np2,two,30\n")
    loaded = load_texts(tmp_path, head + MACHINES % "office")
    assert [one.code for one in loaded.problems] == []
    assert loaded.config is not None
    assert [(p.name, p.lane, p.process, p.deadline_ms) for p in loaded.config.pipelines] == [
        ("p1-safe", "safety", "p1-guard", 20),
        ("p1-trend", "best_effort", "office", 100),
        ("p2-safe", "safety", "p2-guard", 30),
        ("p2-trend", "best_effort", "office", 100),
    ]
    wrong = load_texts(tmp_path, head + MACHINES % "${name}-guard")
    assert [(one.code, one.where, Path(one.origin).name) for one in wrong.problems] == [
        ("C182", "pipelines[p1-trend].group", "machines.csv:2 (p1)"),
        ("C182", "pipelines[p2-trend].group", "machines.csv:3 (p2)"),
    ]

"""What a pipeline is fed with: a capture or tags, when samples are taken, what `check` says of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_opcua.config.problem import Severity
from edge_opcua.config.reaction import times_of
from tests.config.fakedriver import CONFIG, load_texts

CAPTURE = 'capture = "press/stroke"\n'
TAGS = 'inputs = ["press/speed", "press/force"]\nevery_ms = 100\n'


def problems(folder: Path, lines: str) -> list[tuple[str, str, str]]:
    loaded = load_texts(folder, fed(lines))
    return [(one.code, one.where, one.message) for one in loaded.problems]


def fed(lines: str) -> str:
    """Return the configuration with a second pipeline that is fed in this way."""
    second = f'[[pipelines]]\nname = "trend"\nmodel = "trend"\n{lines}\n'
    return CONFIG.replace("[[outputs]]", f"{second}\n[[outputs]]", 1)


@pytest.mark.parametrize(
    "lines",
    [
        CAPTURE,
        TAGS,
        'inputs = { speed = "press/speed", push = "press/force" }\ntrigger = "press/speed"\nwindow = 20\n',
        'inputs = ["press/speed", "press/ack"]\nevery_ms = 1000\nwindow = 5\n',
    ],
)
def test_what_is_right_is_taken(tmp_path: Path, lines: str) -> None:
    assert problems(tmp_path, lines) == []


def test_a_list_names_each_input_after_its_tag_in_order(tmp_path: Path) -> None:
    config = load_texts(tmp_path, fed(TAGS)).config
    assert config is not None
    trend = config.pipeline("trend")

    assert list(trend.inputs.items()) == [("speed", "press/speed"), ("force", "press/force")]
    assert trend.samples_block == config.source_block(trend) == "trend.samples"
    assert [device.name for device in config.source_devices(trend)] == ["press"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            CAPTURE + TAGS,
            ("C194", "pipelines[trend].inputs", 'pipeline "trend" has both a capture and inputs'),
        ),
        ("", ("C194", "pipelines[trend]", 'pipeline "trend" has neither a capture nor inputs')),
        (
            'inputs = ["press/speed"]',
            (
                "C195",
                "pipelines[trend].inputs",
                'pipeline "trend" has neither every_ms nor trigger: when is a sample taken?',
            ),
        ),
        (
            f'{TAGS}trigger = "press/speed"',
            (
                "C195",
                "pipelines[trend].inputs",
                'pipeline "trend" has both every_ms and trigger: when is a sample taken?',
            ),
        ),
        (
            f"{CAPTURE}window = 3",
            (
                "C195",
                "pipelines[trend].window",
                "window belongs to a pipeline on inputs; a capture says itself when it is complete",
            ),
        ),
        (
            f'{TAGS}context = ["press/speed"]',
            (
                "C195",
                "pipelines[trend].context",
                "context belongs to a capture; a pipeline on tags has them all in inputs",
            ),
        ),
        (
            'inputs = ["press/speed", "other/speed"]\nevery_ms = 100',
            ("C197", "pipelines[trend].inputs", "press/speed and other/speed would both be called speed"),
        ),
        (
            f"{TAGS}window = 60000",
            ("C198", "pipelines[trend].window", "60000 samples of 2 tags are 120000 numbers"),
        ),
        (
            'inputs = ["press/sped"]\nevery_ms = 100',
            ("C112", "pipelines[trend].inputs.sped", 'device "press" has no tag "sped"'),
        ),
        (
            'inputs = { a = "speed" }\nevery_ms = 100',
            ("C110", "pipelines[trend].inputs.a", '"speed" is not of the form "device/name"'),
        ),
        (
            'inputs = ["press/speed"]\ntrigger = "press/strokes"',
            ("C112", "pipelines[trend].trigger", 'device "press" has no tag "strokes"'),
        ),
    ],
)
def test_what_cannot_be_is_one_problem_at_its_place(
    tmp_path: Path, lines: str, expected: tuple[str, str, str]
) -> None:
    assert expected in problems(tmp_path, lines)


TABLE = """\
name,address,unit,low,high,access,group
force,r1:REAL,kN,0,100,,slow
ack,r2:BOOL,,,,rw,fast
speed,r3:REAL,1/min,0,50,rw,fast
recipe,r4:STRING,,,,,fast
curve,r20:REAL[8],,,,,fast
asked,r40:REAL,,,,,asked
"""
GROUPS = (
    '[[devices.groups]]\n  name = "slow"\n  period_ms = 1000\n'
    '  [[devices.groups]]\n  name = "asked"\n  on_request = true\n  [[devices.captures]]'
)


@pytest.mark.parametrize(
    ("lines", "code", "where", "message"),
    [
        (
            'inputs = ["press/recipe"]\nevery_ms = 100',
            "C117",
            "inputs.recipe",
            '"press/recipe" is not a number; a model cannot take it',
        ),
        (
            'inputs = ["press/curve"]\nevery_ms = 100',
            "C117",
            "inputs.curve",
            '"press/curve" is not a number; a model cannot take it',
        ),
        (
            'inputs = ["press/speed"]\ntrigger = "press/recipe"',
            "C199",
            "trigger",
            '"press/recipe" is not a number or a bit, whose change could be seen',
        ),
        (
            'inputs = ["press/speed"]\ntrigger = "press/asked"',
            "C199",
            "trigger",
            '"press/asked" is read on demand only, so nobody would see it change',
        ),
        (
            'inputs = ["press/force", "press/speed"]\nevery_ms = 100\nwindow = 10',
            "C196",
            "inputs.force",
            '"press/force" is read every 1000 ms: samples every 100 ms repeat it',
        ),
    ],
)
def test_tags_have_to_be_such_as_can_be_sampled(
    tmp_path: Path, lines: str, code: str, where: str, message: str
) -> None:
    text = fed(lines).replace("[[devices.captures]]", GROUPS, 1)
    loaded = load_texts(tmp_path, text, TABLE)

    (found,) = (one for one in loaded.problems if one.where.startswith("pipelines[trend]"))
    assert (found.code, found.where, found.message) == (code, f"pipelines[trend].{where}", message)
    assert (found.severity is Severity.WARNING) == (code == "C196")


def test_a_plc_cannot_trigger_a_pipeline_on_tags_by_its_mailbox(tmp_path: Path) -> None:
    interface = """\
  [outputs.interface]
  mode = "triggered"
  control = "DB21"
  status = "DB20"
"""
    text = CONFIG.replace(
        'capture = "press/stroke"\ncontext = ["press/force"]', 'inputs = ["press/force"]\nevery_ms = 100'
    )
    head, _, _ = text.partition("  [[outputs.values]]")
    found = load_texts(
        tmp_path, head.replace('acknowledge = "press/ack"\n', "heartbeat_ms = 100\n") + interface
    )

    assert any(
        one.code == "C166" and 'pipeline "wear" is fed with tags' in one.message for one in found.problems
    ), found.problems


def test_an_output_waits_for_the_slowest_of_the_tags_before_it_calls_them_lost(tmp_path: Path) -> None:
    fast = CONFIG.replace(
        'capture = "press/stroke"\ncontext = ["press/force"]', 'inputs = ["press/speed"]\nevery_ms = 100'
    )
    slow = fast.replace('inputs = ["press/speed"]', 'inputs = ["press/speed", "press/force"]')

    def input_ms(text: str) -> float:
        config = load_texts(tmp_path, text.replace("[[devices.captures]]", GROUPS, 1), TABLE).config
        assert config is not None
        return times_of(config, config.outputs[0]).input_ms

    timeout_ms, again_ms = 1000, 100  # of the device; a question that got no answer is asked again
    assert input_ms(fast) == timeout_ms + again_ms + 3 * 100
    assert input_ms(slow) == timeout_ms + again_ms + 3 * 1000

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog

from edge_opcua.core import logs
from edge_opcua.core.logs import LineSink, configure_logging


class Page:
    """A stream that keeps what is written to it, and can be made to stand still or to fail."""

    def __init__(self) -> None:
        self.text = ""
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def write(self, text: str, /) -> int:
        self.gate.wait(10)
        if self.broken:
            raise BrokenPipeError
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


@pytest.fixture
def page() -> Iterator[Page]:
    """Set logging back to what the other tests expect."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Page()
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_every_line_is_one_json_object_whoever_logs_it(page: Page) -> None:
    sink = configure_logging(json=True, stream=page, role="io")
    structlog.get_logger().info("driver.connected", device="press", latency_ms=3.1)
    structlog.get_logger().debug("driver.polled")
    logging.getLogger("asyncua").warning("odd %s", "thing")
    logging.getLogger("asyncua").info("chatter")
    try:
        int("no")
    except ValueError:
        structlog.get_logger().exception("driver.failed", odd=object)
    assert sink.drain(5)
    lines = [json.loads(line) for line in page.text.splitlines()]
    assert [line["event"] for line in lines] == ["driver.connected", "odd thing", "driver.failed"]
    assert all(line["role"] == "io" and line["timestamp"].endswith("Z") for line in lines)
    assert lines[0]["latency_ms"] == 3.1
    assert lines[1]["logger"] == "asyncua"
    assert "ValueError: invalid literal" in lines[2]["exception"]


def test_a_terminal_gets_lines_for_people(page: Page) -> None:
    sink = configure_logging(json=False, stream=page)
    structlog.get_logger().info("driver.connected", device="press")
    assert sink.drain(5)
    assert "driver.connected" in page.text
    assert not page.text.startswith("{")


def test_a_reader_that_stands_still_never_stops_the_program(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_MAX_LINES", 100)
    sink = LineSink(page)
    page.gate.clear()
    for n in range(1000):
        sink.write(f"{n}\n")
    sink.flush()
    assert not sink.drain(0.05)
    page.gate.set()
    assert sink.drain(5)
    lines = page.text.splitlines()
    assert lines[-1] == "999"
    (said,) = (json.loads(line) for line in lines if line.startswith("{"))
    assert said["event"] == "log.dropped"
    assert said["lines"] + len(lines) - 1 == 1000


def test_a_stream_that_broke_is_no_reason_to_stop(page: Page) -> None:
    sink = LineSink(page)
    page.broken = True
    sink.write("a\n")
    assert sink.drain(5)
    page.broken = False
    sink.write("b\n")
    assert sink.drain(5)
    assert page.text == "b\n"


def test_a_process_writes_json_to_a_pipe_and_its_last_words_too() -> None:
    code = (
        "from edge_opcua.core.logs import configure_logging\n"
        "import structlog\n"
        "configure_logging(role='x')\n"
        "structlog.get_logger().info('process.ended')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=10, check=True
    )
    assert json.loads(done.stderr)["event"] == "process.ended"


def test_a_command_that_says_everything_itself_logs_nothing_meanwhile() -> None:
    before = structlog.get_config()
    with structlog.testing.capture_logs() as events, logs.silenced():
        structlog.get_logger("x").warning("driver.lost")
        assert not logging.getLogger("foreign").isEnabledFor(logging.ERROR)
    assert events == []
    assert logging.getLogger("foreign").isEnabledFor(logging.ERROR)
    assert structlog.get_config() == before

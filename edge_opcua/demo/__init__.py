"""The demo: a press cell on real protocols, a server, and an OPC UA client that says what it sees."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import tempfile
from pathlib import Path

from edge_opcua.core.clock import SystemClock
from edge_opcua.core.logs import configure_logging
from edge_opcua.demo.screen import PlainScreen, Screen, TerminalScreen
from edge_opcua.demo.story import Story, tell
from edge_opcua.errors import EdgeError

LIMIT_S = 60.0


def main(*, keep: bool, state_dir: Path | None, plain: bool) -> int:
    """Run the demo.

    Args:
        keep: Run on after the story, and say how to connect.
        state_dir: Where the server keeps its keys and models; a temporary directory if None.
        plain: Plain lines even on a terminal.

    Returns:
        0 only if the client saw everything the story promises, else 1.
    """
    configure_logging(level=logging.ERROR)
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)  # refusals are part of the story
    live = sys.stdout.isatty() and not plain
    screen: Screen = TerminalScreen(sys.stdout) if live else PlainScreen(sys.stdout)
    clock = SystemClock()
    with contextlib.ExitStack() as stack:
        if state_dir is None:
            state_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-opcua-demo-")))
        story = Story(screen, clock, state_dir, keep=keep, limit_s=LIMIT_S)
        try:
            asyncio.run(_tell_until_signal(story))
        except* asyncio.CancelledError:
            if story.told:  # it ran on until somebody had seen enough
                story.say("ended")
            else:
                story.fail("interrupted")
        except* EdgeError as group:
            for exc in group.exceptions:
                story.fail(str(exc))
        except* TimeoutError:
            story.fail(f"not over after {LIMIT_S:g} s")
        screen.close()
        return story.verdict()


async def _tell_until_signal(story: Story) -> None:
    """Tell the story; SIGINT and SIGTERM end it with everything it started."""
    telling = asyncio.current_task()
    assert telling is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, telling.cancel)
    await tell(story)

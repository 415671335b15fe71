"""A Modbus device and a server's control socket on threads of their own, as a command meets them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_opcua.core.control import Hub, Reply, Request
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import BAD_NOT_SUPPORTED, GOOD
from tests.drivers.peers import ModbusPeer

TABLE = """\
name,address,unit,low,high,scale
rms_x,hr:100:REAL,mm/s,0,50,
rms_y,hr:102:REAL;order=CDAB,mm/s,0,50,
tenth,hr:104:DINT,mm,0,50,0.01
temp_2,hr:340:INT,°C,,,
temp_3,hr:341:INT,°C,,,
count,hr:10:UINT,,,,
none,hr:106:REAL,,,,
"""


@contextmanager
def on_a_thread(serve: Callable[[Callable[[], None], asyncio.Event], Awaitable[None]]) -> Iterator[None]:
    """Run ``serve(started, stop)`` in an event loop of another thread until the body is over."""
    started, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()

    async def work() -> None:
        await serve(started.set, stop)

    thread = threading.Thread(target=lambda: loop.run_until_complete(work()))
    thread.start()
    try:
        assert started.wait(15.0)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5.0)
        loop.close()


@contextmanager
def meter() -> Iterator[ModbusPeer]:
    """A meter whose numbers have the low word first; 340 and 341 do not exist."""
    peer = ModbusPeer()
    peer.put(100, "HH", 0x47AE, 0x41BB)  # 23.41
    peer.put(102, "HH", 0x47AE, 0x41BB)
    peer.put(104, "HH", 2341, 0)
    peer.put(106, "HH", 0x7FC0, 0x41BB)  # NaN as it stands
    peer.put(10, "H", 7)
    peer.holes = {340, 341}

    async def serve(started: Callable[[], None], stop: asyncio.Event) -> None:
        async with peer.serving():
            started()
            await stop.wait()

    with on_a_thread(serve):
        yield peer


def configuration(folder: Path, *urls: str, table: str = TABLE) -> Path:
    (folder / "tags").mkdir()
    lines = ["version = 1", '[site]\nname = "plant"\nmachine = "Meter"']
    for number, url in enumerate(urls):
        (folder / "tags" / f"d{number}.csv").write_text(table)
        lines.append(
            f'[[devices]]\nname = "d{number}"\ndriver = "modbus"\nurl = "{url}"\n'
            f'tags = "tags/d{number}.csv"\ntimeout_ms = 300\noptions = {{ max_gap = 8 }}'
        )
    file = folder / "meter.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


@contextmanager
def server(
    state_dir: Path, rows: Sequence[Mapping[str, Any]], link: Mapping[str, str]
) -> Iterator[list[str]]:
    """Answer ``snapshot`` as a running server does, three rows a page; yields what was asked."""
    StateDir(state_dir).create()
    asked: list[str] = []

    async def handle(request: Request) -> Reply:
        asked.append(request.kind)
        if request.kind != "snapshot":
            return Reply(BAD_NOT_SUPPORTED, "", {})
        first = int(request.body["from"])
        following = first + 3 if first + 3 < len(rows) else None
        body = {"machine": "Meter", "utc_ns": 10**18, "rows": rows[first : first + 3], "next": following}
        return Reply(GOOD, "", {**body, "links": [link]})

    async def serve(started: Callable[[], None], stop: asyncio.Event) -> None:
        hub = Hub(handle)
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(hub.run()),
                tasks.create_task(hub.serve_unix(StateDir(state_dir).control_socket)),
            ]
            while not StateDir(state_dir).control_socket.exists():
                await asyncio.sleep(0.005)
            started()
            await stop.wait()
            for task in work:
                task.cancel()

    with on_a_thread(serve):
        yield asked

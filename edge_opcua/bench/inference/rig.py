"""The lanes of a line without the rest: real lane processes on a real bus, started as by the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from edge_opcua.app.build import plan
from edge_opcua.app.models.active import install_delivered
from edge_opcua.app.processes import ChildProcess, Inheritance, config_memfd, exit_text
from edge_opcua.app.serving.choices import ModelChoice, choices_text
from edge_opcua.assets import examples_dir
from edge_opcua.config.handover import packed
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.control import Peer, Reply, Request
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import is_good
from edge_opcua.errors import EdgeError

READY_S: Final = 30.0
ANSWER_S: Final = 5.0
END_S: Final = 2.0
_LAST_WORDS: Final = 2_000


def configuration(home: Path, pipelines: str, *, models: Path | None = None) -> EdgeConfig:
    """Return the press of the demo with other pipelines and without an output.

    Args:
        home: Where the files go.
        pipelines: Tables ``[[pipelines]]`` in TOML.
        models: Folder with models to deliver; those of the demo if None.

    Raises:
        EdgeError: The configuration is not right.
    """
    folder = home / "press"
    shutil.copytree(examples_dir() / "press", folder, dirs_exist_ok=True)
    if models is not None:
        shutil.copytree(models, folder / "models", dirs_exist_ok=True)
    file = folder / "press.toml"
    file.write_text(file.read_text().partition("[[pipelines]]")[0] + pipelines)
    loaded = load(file, env={})
    if loaded.config is None:
        raise EdgeError("; ".join(map(str, loaded.problems)))
    return loaded.config


class Rig:
    """A bus and the lane processes of a configuration; ``async with`` starts and ends them.

    Args:
        home: Directory for the state.
        config: Pipelines to run, each in the process of its group.

    Attributes:
        bus: The bus; the benchmark writes the captures.
        ready: What each group said when it was ready.
        notices: What the groups said since, oldest first: role, kind, body.
    """

    def __init__(self, home: Path, config: EdgeConfig) -> None:
        self.clock: Clock = SystemClock()
        self.bus = Bus.create(plan(config).blocks, clock=self.clock)
        self.ready: dict[str, dict[str, Any]] = {}
        self.notices: list[tuple[str, str, Mapping[str, Any]]] = []
        self._config = config
        self._state = StateDir(home / "state")
        self._log = home / "lanes.log"
        self._lanes: dict[str, ChildProcess] = {}
        self._ended: dict[str, int] = {}
        self._peers: dict[str, Peer] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start every group, wait until its models are proven, and activate it."""
        try:
            self._state.root.mkdir(parents=True, exist_ok=True)
            self._state.models.mkdir(exist_ok=True)
            self._keep_log()
            self._install()
            self._config_fd = config_memfd(packed(self._config))
            self._stack.callback(self.bus.close)
            self._stack.callback(os.close, self._config_fd)
            self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
            self._stack.push_async_callback(self._end)
            groups = dict.fromkeys(pipeline.process for pipeline in self._config.pipelines)
            for group in groups:
                await self._start(group)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the lanes."""
        del kind, exc, trace
        await self._stack.aclose()

    def pid(self, group: str) -> int:
        """Return the process id of a group."""
        return self._lanes[group].pid

    def has_ended(self, group: str) -> bool:
        """Return whether the process of a group is known to have ended."""
        return group in self._ended

    def _keep_log(self) -> None:
        """Let what the lanes log go into a file, not between the figures; the last of it is in errors."""
        before = os.dup(2)
        with self._log.open("wb") as log:
            os.dup2(log.fileno(), 2)

        def restore() -> None:
            os.dup2(before, 2)
            os.close(before)

        self._stack.callback(restore)

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-_LAST_WORDS:]

    def _install(self) -> None:
        refused = install_delivered(self._config, self._state)
        if refused:
            raise EdgeError("; ".join(refused))

    def how_it_ended(self, group: str) -> str:
        """Return how the process of a group ended; it has."""
        return exit_text(self._ended[group])

    async def _wait(self, group: str) -> None:
        self._ended[group] = await self._lanes[group].wait()

    async def _start(self, group: str) -> None:
        pipelines = [each for each in self._config.pipelines if each.process == group]
        choices = {each.name: ModelChoice(each.model, each.version, "") for each in pipelines}
        role = f"lane/{group}/1"
        inheritance = Inheritance(self.bus, self._config_fd, str(self._state.root))
        lane = await ChildProcess.start(role, inheritance, *_arguments(group, choices))
        self._lanes[group] = lane
        self._tasks.create_task(self._wait(group), name=f"bench.{group}.end")
        said = asyncio.Event()

        async def handle(request: Request) -> Reply:
            self.notices.append((group, request.kind, request.body))
            if request.kind in ("ready", "refused"):
                said.set()
            return Reply()

        peer = Peer(lane.control, handle, role)
        self._peers[group] = peer
        self._tasks.create_task(peer.run(), name=f"bench.{role}")
        try:
            async with asyncio.timeout(READY_S):
                await said.wait()
        except TimeoutError:
            raise EdgeError(f"{group} was not ready in {READY_S:g} s:\n{self._last_words()}") from None
        kind, body = next((k, b) for g, k, b in self.notices if g == group and k in ("ready", "refused"))
        if kind == "refused" or body.get("refused"):
            raise EdgeError(f"{group} is refused: {dict(body)}")
        self.ready[group] = dict(body)
        cursors = {"cursors": dict.fromkeys(choices), "cursor": None}
        reply = await peer.request(role, "activate", cursors, timeout_s=ANSWER_S)
        if not is_good(reply.status):
            raise EdgeError(f"{group} does not become active: {reply.reason}")

    async def _end(self) -> None:
        for lane in self._lanes.values():
            if not lane.has_ended:
                await lane.end(grace_s=END_S)


def _arguments(group: str, choices: Mapping[str, ModelChoice]) -> Sequence[str]:
    return (f"--group={group}", f"--models={choices_text(choices)}")

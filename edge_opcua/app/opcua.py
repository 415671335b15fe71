"""The OPC UA process: one secure server over the bus, with the control channel behind its methods."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from edge_opcua.app.changes import Change, Changes
from edge_opcua.app.child import until_stopped
from edge_opcua.app.command.warnings import certificate_warnings
from edge_opcua.app.models.versions import ModelView
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.collector import settle
from edge_opcua.core.control import SUPERVISOR, Reply, Request
from edge_opcua.core.process import Child
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import BAD_NOT_SUPPORTED
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ConfigError, ControlError
from edge_opcua.inference.watch.latency import BOUNDS_US
from edge_opcua.opcua.modelmethods import ModelRequest
from edge_opcua.opcua.models import Job, ModelInfo
from edge_opcua.opcua.nodesets import read_nodesets
from edge_opcua.opcua.outputmethods import OutputAct
from edge_opcua.opcua.seam import ServerSecurity
from edge_opcua.opcua.server import PlantServer
from edge_opcua.opcua.writes import ClientWrite
from edge_opcua.security.pki import Pki, open_pki, own_certificate
from edge_opcua.security.trust import TrustList
from edge_opcua.security.trustfiles import TrustFiles
from edge_opcua.security.users import UserStore

POLL_S = 4.0  # a slow device has to be asked only once
WRITE_S = 3.0
ACT_S = 3.0
LOAD_S = 2.0
KEEP_S = 4.0  # an answer is on disk when it is confirmed
FILES_S = 30.0
RECORDS = "records"
TELL_S = 1.0

_log = structlog.get_logger(__name__)


async def run(child: Child, config: EdgeConfig) -> None:
    """Serve until the process shall stop.

    Raises:
        ConfigError: The server cannot listen, or its certificate cannot be used; the supervisor shows why.
    """
    listen = _arguments(child.arguments)
    config = _listening_on(config, listen)
    state = StateDir(child.state_dir)
    files = Worker("opcua.files")
    try:
        pki = await files.call(_identity, state, config, timeout_s=FILES_S)
        await _Service(child, config, pki, files, listen).run()
    except* ConfigError as group:
        exc = _first(group)
        body = {"source": "opcua", "code": exc.code, "text": str(exc)}
        await child.control.request(SUPERVISOR, "fault", body, timeout_s=TELL_S)
        raise


def _first(group: BaseExceptionGroup[ConfigError]) -> ConfigError:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _arguments(arguments: Sequence[str]) -> str | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--listen", default=None)
    listen: str | None = parser.parse_args(arguments).listen
    return listen


def _listening_on(config: EdgeConfig, listen: str | None) -> EdgeConfig:
    """Return the configuration with the address of a former run, where the file leaves the port open."""
    if listen is None:
        return config
    return config.model_copy(update={"opcua": config.opcua.model_copy(update={"listen": listen})})


def _identity(state: StateDir, config: EdgeConfig) -> Pki:
    pki = open_pki(state.pki, names=config.opcua.certificate_names)
    TrustFiles(state.pki).finish()
    return pki


class _Service:
    """The server with its connections to the other processes."""

    def __init__(self, child: Child, config: EdgeConfig, pki: Pki, files: Worker, listen: str | None) -> None:
        self._child = child
        self._config = config
        self._pki = pki
        self._files = files
        self._listen = listen
        self._state = StateDir(child.state_dir)
        self._view = ModelView(self._state)
        self._server: PlantServer | None = None
        self._one_notice_at_a_time = asyncio.Lock()
        self._notices = {
            "job": self._show_job,
            "last_job": self._show_last_job,
            "watch": self._show_alarm,
            "standby": self._show_standby,
        }
        self._shadow: frozenset[tuple[str, int]] = frozenset()
        self._standby: frozenset[tuple[str, int]] = frozenset()

    async def run(self) -> None:
        """Serve until the process shall stop."""
        models = await self._models(self._config)
        security = ServerSecurity(
            pki=self._pki,
            trust=TrustList(self._pki.root, revocation_required=self._config.opcua.revocation == "required"),
            policies=self._config.opcua.secure_policies,
            allow_none="None" in self._config.opcua.security,
            names=self._config.opcua.certificate_names,
            users=UserStore(self._state.root, clock=self._child.clock),
            anonymous=self._config.opcua.anonymous,
        )
        self._server = PlantServer(
            self._config,
            self._child.bus,
            security=security,
            nodesets=await self._files.call(read_nodesets, self._official(), timeout_s=FILES_S),
            write=self._write,
            act=self._act,
            writer_gone=self._writer_gone,
            change_model=self._change_model,
            bounds_us=BOUNDS_US,
            poll=self._poll,
            models=models,
            journal=self._record,
            clock=self._child.clock,
        )
        self._child.handle = self._handle
        self._child.change = Changes(self._child, self._config, self._change).handle
        await until_stopped(self._child, self._serve, self._announce)

    def _official(self) -> Path | None:
        """Return the folder of full official nodesets an operator dropped in, if there is one."""
        folder = self._state.root / "nodesets"
        return folder if folder.is_dir() else None

    async def _change(self, change: Change) -> None:
        assert self._server is not None
        config = _listening_on(change.new, self._listen)
        await self._server.change(config, change.has_moved)
        self._config = config
        models = await self._models(config)
        await self._server.on_models(models)

    async def _serve(self) -> None:
        assert self._server is not None
        await self._server.run(self._child.stopping)

    async def _announce(self) -> None:
        """Tell the supervisor where clients connect, once they can, and with which certificate."""
        assert self._server is not None
        await self._server.ready.wait()
        # The address space stays. Going through its million objects again and again would take a third of
        # the time of publishing 1 000 tags at 10 Hz (measured).
        settle()
        self._child.starting = False
        while True:
            names, now_ns = self._config.opcua.certificate_names, self._child.clock.utc_ns()
            warnings = await self._files.call(
                certificate_warnings, self._pki.root, names, now_ns, timeout_s=FILES_S
            )
            body = {
                "endpoints": list(self._server.urls),
                "local": self._server.url,
                "thumbprint": self._pki.thumbprint,
                "certificate": str(own_certificate(self._pki.root)),
                "warnings": warnings,
            }
            self._child.control.notify(SUPERVISOR, "listening", body)
            self._pki = await self._server.certificate_changed()

    async def _write(self, write: ClientWrite) -> Reply:
        return await self._child.control.request("io", "write", asdict(write), timeout_s=WRITE_S)

    async def _act(self, act: OutputAct) -> Reply:
        return await self._child.control.request("io", "output", asdict(act), timeout_s=ACT_S)

    def _writer_gone(self, output: str, user: str, why: str) -> None:
        """Tell that a program's claim has ended; if nobody hears it, there is no claim any more."""
        body = asdict(OutputAct(output, "writer_gone", user, why))
        try:
            self._child.control.notify("io", "output", body)
        except ControlError as exc:  # a client that calls itself by a megabyte; ttl_s ends its claim
            _log.error("writer.gone_not_told", output=output, error=str(exc))

    async def _change_model(self, request: ModelRequest) -> Reply:
        to, timeout_s = (RECORDS, KEEP_S) if request.kind == "answer_verdict" else (SUPERVISOR, LOAD_S)
        return await self._child.control.request(to, request.kind, dict(request.body), timeout_s=timeout_s)

    async def _poll(self, device: str, group: str, user: str) -> Reply:
        body = {"device": device, "group": group, "user": user}
        return await self._child.control.request("io", "poll", body, timeout_s=POLL_S)

    def _record(self, record: Mapping[str, Any]) -> None:
        """Hand a record of the audit to the records process; waits there if that starts again."""
        self._child.control.notify(RECORDS, "audit", record)

    async def _handle(self, request: Request) -> Reply:
        assert self._server is not None
        if request.kind == "closing":
            body = request.body
            await self._server.announce_shutdown(str(body["reason"]), float(body["within_s"]))
            return Reply()
        if request.kind == "sessions":
            return Reply(body=self._server.sessions())
        if request.kind in self._notices:
            async with self._one_notice_at_a_time:  # in the order they came
                await self._notices[request.kind](self._server, request.body)
            return Reply()
        return Reply(BAD_NOT_SUPPORTED, f"the OPC UA process does not know {request.kind}")

    async def _models(self, config: EdgeConfig) -> list[ModelInfo]:
        shown = partial(self._view.shown, shadow=self._shadow, standby=self._standby)
        return await self._files.call(shown, config, timeout_s=FILES_S)

    async def _show_job(self, server: PlantServer, body: dict[str, Any]) -> None:
        job = Job.from_body(body)
        shadow = frozenset({(job.name, job.version)} if job.state == "Shadow" else ())
        # The repository may hold new versions, and what ended may have changed which of them judges.
        if job.state == "Loading" or job.ended or shadow != self._shadow:
            self._shadow = shadow
            await server.on_models(await self._models(self._config))
        await server.on_job(body)

    async def _show_last_job(self, server: PlantServer, body: dict[str, Any]) -> None:
        await server.on_last_job(body)

    async def _show_alarm(self, server: PlantServer, body: dict[str, Any]) -> None:
        await server.on_alarm(body)

    async def _show_standby(self, server: PlantServer, body: dict[str, Any]) -> None:
        """Show which versions were relieved and are still loaded: ``models`` [[name, version], …]."""
        self._standby = frozenset((str(name), int(version)) for name, version in body.get("models", ()))
        await server.on_models(await self._models(self._config))

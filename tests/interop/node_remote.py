"""node-opcua as a remote-controlled process: a client that is not asyncua, step by step from a test."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
INSTALLED = HERE.parent / "peers" / ".installed" / "node_modules" / "node-opcua"
STEP_S = 20.0
# The largest answer: everything a big browse or read says.
LINE_BYTES = 32 * 1024 * 1024


def require_node() -> str:
    """Return Node.js; skip the test if it or node-opcua is not here."""
    found = shutil.which("node")
    if found is None or not INSTALLED.is_dir():
        pytest.skip("no node-opcua: run tests/peers/install")
    return found


class RemoteError(Exception):
    """What node-opcua threw; ``status`` is the StatusCode of the ServiceFault behind it, if there was one."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class Remote:
    """The process; see ``remote.js`` for what can be asked of it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._noise: list[str] = []

    async def ask(self, **request: Any) -> Any:
        """Send one request and return its result."""
        number = next(self._ids)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = done
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, **request}).encode() + b"\n")
        try:
            async with asyncio.timeout(STEP_S):
                return await done
        except TimeoutError:
            raise AssertionError(f"no answer to {request}\n{self.noise}") from None
        finally:
            self._waiting.pop(number, None)

    async def make(self, what: str, *args: Any, name: str | None = None, new: bool = False) -> Any:
        """Call a function (or constructor) of node-opcua."""
        return await self.ask(do="make", what=what, args=args, new=new, **({"as": name} if name else {}))

    async def call(
        self, on: str, what: str, *args: Any, name: str | None = None, collect: str | None = None
    ) -> Any:
        """Call a method of something made before; what the result emits is collected as ``<name>.seen``."""
        more = {"as": name} if name else {}
        return await self.ask(do="call", on=on, what=what, args=args, collect=collect, **more)

    async def get(self, on: str, what: str) -> Any:
        """Return a member of something made before."""
        return await self.ask(do="get", on=on, what=what)

    async def collect(self, on: str, what: str, name: str) -> None:
        """Begin to remember what an emitter says."""
        await self.ask(do="collect", on=on, what=what, **{"as": name})

    async def taken(self, name: str) -> list[Any]:
        """Return what was collected since the last time."""
        found: list[Any] = await self.ask(do="taken", on=name)
        return found

    async def send(self, on: str, what: str, fields: dict[str, Any], *, aside: bool = False) -> Any:
        """Send a raw request of a session and return its response."""
        return await self.ask(do="send", on=on, what=what, args=[fields], aside=aside)

    async def gather(self, name: str, count: int, *, within_s: float = 30.0) -> list[Any]:
        """Return at least ``count`` things that an emitter said."""
        found = await self.taken(name)
        try:
            async with asyncio.timeout(within_s):
                while len(found) < count:
                    await asyncio.sleep(0.03)
                    found += await self.taken(name)
        except TimeoutError:
            raise AssertionError(f"{len(found)} of {count}: {found}\n{self.noise}") from None
        return found

    @property
    def noise(self) -> str:
        """What node-opcua wrote for people, the end of it."""
        return "\n".join(self._noise[-40:])

    async def read_answers(self) -> None:
        """Give every answer to who waits for it, until the process ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if not line.startswith(b"@"):
                self._noise.append(line.decode(errors="replace").rstrip())
                continue
            answer = json.loads(line[1:])
            done = self._waiting.get(answer["id"])
            if done is None or done.done():
                continue
            if "error" in answer:
                done.set_exception(RemoteError(answer["error"], answer["status"]))
            else:
                done.set_result(answer["result"])

    async def connect(
        self,
        endpoint: str,
        identity: dict[str, str],
        *,
        policy: str = "Basic256Sha256",
        user: dict[str, Any] | None = None,
        name: str = "",
        **options: Any,
    ) -> str:
        """Connect a client and open a session; returns the session's name (``client…`` is the client's)."""
        client, session = f"client{name}", f"session{name}"
        if "pki" not in self.__dict__:
            self.pki = identity["pki"]
            manager = {"rootFolder": self.pki, "automaticallyAcceptUnknownCertificate": True}
            await self.make("OPCUACertificateManager", manager, name="manager", new=True)
            await self.call("manager", "initialize")
        mode = "None" if policy == "None" else "SignAndEncrypt"
        settings = {
            "applicationName": f"node-opcua{name}",
            "applicationUri": identity["uri"],
            "certificateFile": identity["certificate"],
            "privateKeyFile": identity["key"],
            "clientCertificateManager": {"$on": "manager"},
            "securityMode": {"$enum": f"MessageSecurityMode.{mode}"},
            "securityPolicy": {"$enum": f"SecurityPolicy.{policy}"},
            "connectionStrategy": {"maxRetry": 0, "initialDelay": 50, "maxDelay": 100},
            "endpointMustExist": False,
            "keepSessionAlive": True,
            **options,
        }
        await self.make("OPCUAClient.create", settings, name=client)
        await self.call(client, "connect", endpoint)
        await self.call(client, "createSession", *([user] if user else []), name=session)
        return session

    async def leave(self, name: str = "") -> None:
        """Close a session and its client."""
        await self.call(f"session{name}", "close")
        await self.call(f"client{name}", "disconnect")

    async def read(self, session: str, node: str) -> Any:
        """Return the DataValue of a node."""
        return await self.call(session, "read", {"nodeId": node, "attributeId": 13})

    async def monitor(self, node: str, name: str, *, attribute: int = 13, **parameters: Any) -> int:
        """Monitor and begin to collect; returns the id of the item."""
        settings = {"samplingInterval": 0, "queueSize": 100, "discardOldest": True, **parameters}
        item = {"nodeId": node, "attributeId": attribute}
        both = {"$enum": "TimestampsToReturn.Both"}
        await self.call("subscription", "monitor", item, settings, both, name=name, collect="changed")
        return int(await self.get(name, "monitoredItemId"))

    async def monitor_events(self, notifier: str, name: str, fields: list[str]) -> None:
        """Monitor every event of a notifier, as event viewers do, and begin to collect."""
        await self.make("ofType", "BaseEventType", name="of-type")
        await self.make("constructEventFilter", fields, {"$on": "of-type"}, name="filter")
        await self.monitor(notifier, name, attribute=12, queueSize=1000, filter={"$on": "filter"})


@asynccontextmanager
async def subscribed(peer: Remote, session: str, **options: Any) -> AsyncIterator[int]:
    """Have a subscription, ``subscription``; returns its id."""
    settings = {
        "requestedPublishingInterval": 30,
        "requestedLifetimeCount": 600,
        "requestedMaxKeepAliveCount": 20,
        "maxNotificationsPerPublish": 0,
        "publishingEnabled": True,
        "priority": 0,
        **options,
    }
    await peer.call(session, "createSubscription2", settings, name="subscription")
    yield int(await peer.get("subscription", "subscriptionId"))
    await peer.call("subscription", "terminate")


@asynccontextmanager
async def remote(node: str) -> AsyncIterator[Remote]:
    """Run node-opcua; its process ends with the block."""
    process = await asyncio.create_subprocess_exec(
        node,
        str(HERE / "remote.js"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LINE_BYTES,
    )
    peer = Remote(process)
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(peer.read_answers(), name="node-opcua")
        try:
            yield peer
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
            reading.cancel()

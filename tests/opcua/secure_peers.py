"""A running secure server and the clients that visit it, honest and otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncua import Client, Node, ua
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import CertProperties
from cryptography import x509

from edge_opcua.opcua.access import Access, AccessRule, Kind
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam import SecureServer, ServerSecurity, Session
from edge_opcua.opcua.seam.protocol import Protocol
from edge_opcua.opcua.services.service import caller
from edge_opcua.security.pki import Pki, open_pki
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import Knock, TrustList
from edge_opcua.security.users import UserStore
from tests.security.certificates import Identity, make

OPERATES = frozenset({Role.OBSERVER, Role.OPERATOR, Role.ENGINEER})
BASIC256SHA256 = security_policies.SecurityPolicyBasic256Sha256
GOOD = make("good client")
OTHER = make("other client")
STRANGER = make("stranger")


@dataclass
class Plant:
    """The server under test and what its write handler and methods saw."""

    server: SecureServer
    pki: Pki
    trust: TrustList
    machine: Node
    plain: Node
    array: Node
    slow: Node
    held: Node
    readonly: Node
    methods: dict[str, Node]
    knocks: list[Knock]
    written: list[tuple[str, Any]] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    cancelled: int = 0

    def client(
        self,
        identity: Identity | None = GOOD,
        *,
        policy: Any = BASIC256SHA256,
        uri: str | None = None,
        mode: ua.MessageSecurityMode = ua.MessageSecurityMode.SignAndEncrypt,
    ) -> Client:
        """Return an asyncua client that is not connected yet; ``identity=None``: without security."""
        made = client_of(self.server.url, self.pki.certificate, identity, policy=policy, mode=mode)
        made.application_uri = uri or made.application_uri
        return made

    def connections(self) -> list[Protocol]:
        """Return the server's ends of the connections, the oldest first."""
        return list(self.server.bserver.clients) if self.server.bserver is not None else []

    async def read_by_a_good_client(self) -> float:
        """What every hostile test ends with: the honest one is still served."""
        async with self.client() as client:
            return float(await client.get_node(self.plain.nodeid).read_value())


def client_of(
    url: str,
    server: x509.Certificate,
    identity: Identity | None,
    *,
    policy: Any = BASIC256SHA256,
    mode: ua.MessageSecurityMode = ua.MessageSecurityMode.SignAndEncrypt,
) -> Client:
    """Return an asyncua client of any server, not connected yet; ``identity=None``: without security."""
    client = Client(url, timeout=5, watchdog_intervall=5)  # server and client share a loop
    if identity is None:
        client.application_uri = "urn:test:nobody"
        return client
    name = identity.certificate.subject.rfc4514_string().removeprefix("CN=")
    client.application_uri = f"urn:test:{name}"
    client.name = name
    client.security_policy = client.uaclient.security_policy = policy(
        server, identity.certificate, identity.key, mode
    )
    return client


async def _write_handler(
    plant: Plant, session: Session, node: ua.NodeId, value: ua.DataValue
) -> ua.StatusCode:
    assert caller() is session
    name = str(node.Identifier)
    plant.written.append((f"{name} begins", value.Value.Value))
    try:
        if name == "held":
            await plant.gates["held"].wait()
        else:
            await asyncio.sleep(value.Value.Value)
    except asyncio.CancelledError:
        plant.cancelled += 1
        raise
    plant.written.append((f"{name} ends", value.Value.Value))
    return ua.StatusCode(ua.StatusCodes.GoodClamped)


@asynccontextmanager
async def running_plant(  # noqa: C901 - one small machine, told in one place
    state: Path,
    *,
    allow_none: bool = False,
    limits: ServerLimits | None = None,
    policies: tuple[str, ...] = ("Basic256Sha256",),
    advertised_urls: tuple[str, ...] = (),
    users: UserStore | None = None,
    anonymous: bool = True,
    rules: Sequence[AccessRule] = (),
) -> AsyncIterator[Plant]:
    """Run a server with a small machine; two clients are trusted."""
    pki = await asyncio.to_thread(_open_pki, state)
    trust = TrustList(pki.root)
    for identity in (GOOD, OTHER):
        await asyncio.to_thread(trust.add, identity.der, roles=OPERATES)
    knocks: list[Knock] = []
    server = SecureServer(
        ServerSecurity(
            pki,
            trust,
            policies,
            allow_none=allow_none,
            on_refused=knocks.append,
            users=users,
            anonymous=anonymous,
        ),
        listen="127.0.0.1:0",
        limits=limits,
        advertised_urls=advertised_urls,
        access=Access(rules),
    )
    await server.init()
    index = await server.register_namespace("urn:test:plant")

    def node_id(name: str) -> ua.NodeId:
        return ua.NodeId(name, index)

    machine = await server.nodes.objects.add_object(node_id("machine"), f"{index}:Machine")
    variables: dict[str, Node] = {}
    for name, value in (("plain", 1.5), ("slow", 0.0), ("held", 0.0), ("readonly", 2.5)):
        variables[name] = await machine.add_variable(node_id(name), f"{index}:{name}", value)
    variables["array"] = await machine.add_variable(node_id("array"), f"{index}:array", [1.0, 2.0, 3.0, 4.0])
    for name in ("plain", "slow", "held", "array"):
        await variables[name].set_writable()

    async def echo(parent: ua.NodeId, text: ua.Variant) -> list[ua.Variant]:
        return [ua.Variant(f"{caller().client.application_uri} {text.Value}")]

    async def wait(parent: ua.NodeId, seconds: ua.Variant) -> list[ua.Variant]:
        await asyncio.sleep(seconds.Value)
        return []

    async def fail(parent: ua.NodeId, code: ua.Variant) -> ua.StatusCode:
        if not code.Value:
            raise ValueError("a bug in a method")
        if code.Value == ua.StatusCodes.BadTimeout:
            raise TimeoutError
        if code.Value == ua.StatusCodes.GoodClamped:
            return ua.StatusCode(code.Value)
        raise ua.UaStatusCodeError(code.Value)

    methods = {}
    for name, func, kind, out in (
        ("echo", echo, ua.VariantType.String, [ua.VariantType.String]),
        ("wait", wait, ua.VariantType.Double, []),
        ("fail", fail, ua.VariantType.UInt32, []),
    ):
        methods[name] = await machine.add_method(node_id(name), f"{index}:{name}", func, [kind], out)
    await make_notifier(server, machine)
    server.access.mark(Kind.SETPOINT, [variables[name].nodeid for name in ("plain", "slow", "held", "array")])
    server.access.mark(Kind.MODEL, [method.nodeid for method in methods.values()])
    plant = Plant(server, pki, trust, machine, **variables, methods=methods, knocks=knocks)
    server.set_write_handler(
        lambda session, node, _attribute, value: _write_handler(plant, session, node, value),
        [variables["slow"].nodeid, variables["held"].nodeid],
    )
    async with server:
        yield plant


async def make_notifier(server: SecureServer, node: Node) -> None:
    """Let clients subscribe to events of an object; its events reach Server as well (Part 3 §7.16)."""
    above = server.get_node(ua.NodeId(ua.ObjectIds.Server))
    for each in (node, above):
        flags = await each.read_event_notifier()
        await each.set_event_notifier(flags | {ua.EventNotifier.SubscribeToEvents})
    await above.add_reference(node, ua.ObjectIds.HasNotifier, forward=True, bidirectional=True)


def _open_pki(state: Path) -> Pki:
    return open_pki(state / "pki", key_bits=2048)


@asynccontextmanager
async def channel(client: Client) -> AsyncIterator[Client]:
    """Open a secure channel without a session."""
    await client.connect_socket()
    try:
        await client.send_hello()
        await client.open_secure_channel()
        yield client
    finally:
        client.disconnect_socket()
        await asyncio.sleep(0)


async def request(client: Client, message: Any, **parameters: Any) -> Any:
    """Send one request as it is; a service fault raises its status."""
    target = message.Parameters if hasattr(message, "Parameters") else message
    for name, value in parameters.items():
        setattr(target, name, value)
    return await client.uaclient.protocol.send_request(message)


def write_held(client: Client, plant: Plant, value: float = 1.0) -> asyncio.Future[Any]:
    """Start a write that takes until ``plant.gates["held"]`` is set."""
    item = ua.WriteValue(NodeId=plant.held.nodeid, AttributeId=ua.AttributeIds.Value)
    item.Value = ua.DataValue(ua.Variant(value))
    return asyncio.ensure_future(request(client, ua.WriteRequest(), NodesToWrite=[item]))


async def status_of(action: Awaitable[Any]) -> int:
    """Return the status with which an awaitable fails, 0 if it does not."""
    try:
        await action
    except ua.UaStatusCodeError as exc:
        return int(exc.code)
    return 0


async def until(condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
    """Wait for something that happens by itself."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


def certificate_properties(identity: Identity) -> tuple[CertProperties, CertProperties]:
    """Return certificate and key as ``Client.set_security`` takes them."""
    return CertProperties(identity.der, "der"), CertProperties(identity.key_pem, "pem")

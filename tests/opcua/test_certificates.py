"""The eye on certificates, without a server: what lies on the disk, and what is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam import SecureServer, ServerSecurity
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.standard.certificates import CertificateWatch
from edge_opcua.security.pki import Pki, locked, read_own, replace_own
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import TrustList
from edge_opcua.testing import ManualClock
from tests.security.certificates import Identity, make, revoke

URI = "urn:press:edge-opcua"
SERVES = (ExtendedKeyUsageOID.SERVER_AUTH,)
FIRST, SECOND = make("first", uri=URI, purposes=SERVES), make("second", uri=URI, purposes=SERVES)
OTHER = make("other", uri="urn:other", purposes=SERVES)


class Server:
    """What the watch needs of a server."""

    def __init__(self, pki: Pki) -> None:
        self.security = ServerSecurity(pki, TrustList(pki.root), names=("press.plant.example",))
        self.acts: list[Act] = []
        self.iserver = SimpleNamespace(limits=ServerLimits(recheck_s=10.0), audit=self.acts.append)

    def use(self, pki: Pki) -> None:
        self.security = ServerSecurity(pki, self.security.trust, names=self.security.names)


def put(root: Path, identity: Identity) -> None:
    with locked(root):
        replace_own(Pki(root, identity.certificate, identity.key))


@pytest.fixture
def server(tmp_path: Path) -> Server:
    for part in ("own", "trusted", "issuers", "rejected"):
        (tmp_path / part).mkdir()
    put(tmp_path, FIRST)
    return Server(read_own(tmp_path))


@asynccontextmanager
async def watching(server: Server, clock: ManualClock) -> AsyncIterator[CertificateWatch]:
    watch = CertificateWatch(cast(SecureServer, server), clock)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch.run())
        await looked(clock)
        yield watch
        task.cancel()


async def looked(clock: ManualClock) -> None:
    """Wait until the watch sleeps again."""
    async with asyncio.timeout(10):
        while not clock.sleepers:
            await asyncio.sleep(0.002)


async def pass_time(clock: ManualClock, seconds: float) -> None:
    await clock.advance(seconds)
    await looked(clock)


def now_ns() -> int:
    return int(FIRST.certificate.not_valid_before_utc.timestamp() + 86_400) * 10**9


async def test_a_changed_certificate_is_taken_within_seconds_and_once(server: Server) -> None:
    clock = ManualClock(utc_ns=now_ns())
    root = server.security.pki.root
    async with watching(server, clock) as watch:
        assert server.acts == []
        await asyncio.to_thread(put, root, SECOND)
        await pass_time(clock, 10.0)
        assert server.security.pki.certificate == SECOND.certificate
        assert (await watch.changed()).thumbprint == SECOND.print
        (act,) = server.acts
        assert (act.kind, act.facts) == (
            "certificate.updated",
            {"thumbprint": SECOND.print, "before": FIRST.print},
        )
        await asyncio.to_thread(put, root, SECOND)  # written again, the same
        await pass_time(clock, 10.0)
        assert len(server.acts) == 1


async def test_who_is_trusted_anew_or_otherwise_is_told_to_the_audit(server: Server) -> None:
    clock = ManualClock(utc_ns=now_ns())
    trust, root = server.security.trust, server.security.pki.root
    await asyncio.to_thread(trust.add, SECOND.der)
    ca = make("Plant CA", uri=None, authority=True, purposes=None)
    async with watching(server, clock):
        await pass_time(clock, 10.0)
        assert server.acts == []  # whom it finds at the start is nothing new
        await asyncio.to_thread(trust.add, OTHER.der, roles=frozenset({Role.OPERATOR}))
        await pass_time(clock, 10.0)
        await asyncio.to_thread(trust.set_roles, OTHER.print, frozenset({Role.ENGINEER}))
        await pass_time(clock, 10.0)
        await asyncio.to_thread(trust.distrust, SECOND.print)
        (root / "issuers" / "ca.der").write_bytes(ca.der)
        (root / "issuers" / "ca.crl").write_bytes(revoke(ca))
        await pass_time(clock, 10.0)
    nothing: dict[str, Any] = {"added": [], "removed": [], "roles": {}, "lists": 0}
    assert [act.facts for act in server.acts] == [
        {**nothing, "added": [OTHER.print]},
        {**nothing, "roles": {OTHER.print: ["Engineer"]}},
        {**nothing, "added": [ca.print], "removed": [SECOND.print], "lists": 1},
    ]
    assert {(act.kind, act.who) for act in server.acts} == {("trust.changed", "somebody on this machine")}


async def test_a_trust_list_that_cannot_be_read_for_a_moment_is_no_change(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise OSError(5, "Input/output error")

    clock = ManualClock(utc_ns=now_ns())
    async with watching(server, clock):
        monkeypatch.setattr(server.security.trust, "version", broken)
        with structlog.testing.capture_logs() as logs:
            await pass_time(clock, 10.0)
        monkeypatch.undo()
        await pass_time(clock, 10.0)
    assert [entry["event"] for entry in logs] == ["trust.not_readable"]
    assert server.acts == []


@pytest.mark.parametrize("spoil", ["other application", "damaged", "gone"])
async def test_what_cannot_be_used_leaves_the_one_in_use(server: Server, spoil: str) -> None:
    clock = ManualClock(utc_ns=now_ns())
    own = server.security.pki.root / "own"
    async with watching(server, clock):
        with structlog.testing.capture_logs() as logs:
            if spoil == "other application":
                await asyncio.to_thread(put, own.parent, OTHER)
            elif spoil == "damaged":
                (own / "cert.der").write_bytes(b"garbage")
            else:
                (own / "cert.der").unlink()
            await pass_time(clock, 10.0)
        await pass_time(clock, 86_400.0)  # the look of the next day does not stumble over it either
        assert server.security.pki.certificate == FIRST.certificate
        (event,) = {entry["event"] for entry in logs}
        assert event in ("certificate.other_application", "certificate.not_readable")


async def test_what_ends_soon_and_names_that_are_missing_are_said_once_a_day(server: Server) -> None:
    clock = ManualClock(utc_ns=now_ns())
    await asyncio.to_thread(server.security.trust.add, make("old panel", days=20).der)
    with structlog.testing.capture_logs() as logs:
        async with watching(server, clock) as watch:
            await pass_time(clock, 10.0)
            await pass_time(clock, 10.0)
            said = [entry for entry in logs if entry["event"] == "certificate.expires"]
            assert [(entry["name"], entry["code"]) for entry in said] == [("old panel", "S431")]
            assert [one.name for one in watch.expiring] == ["old panel"]
            assert "press.plant.example" in watch.names_missing
            assert [act.facts["name"] for act in server.acts] == ["old panel"]
            await pass_time(clock, 86_400.0)
            assert len([entry for entry in logs if entry["event"] == "certificate.expires"]) == 2
            assert len([entry for entry in logs if entry["event"] == "certificate.names_missing"]) == 2


async def test_a_trust_list_that_cannot_be_read_today_is_looked_at_tomorrow(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("edge_opcua.opcua.standard.certificates.expiries", broken)
    clock = ManualClock(utc_ns=now_ns())
    with structlog.testing.capture_logs() as logs:
        async with watching(server, clock) as watch:
            assert watch.expiring == ()
    assert "certificate.not_readable" in [entry["event"] for entry in logs]


async def test_a_certificate_of_full_validity_and_names_is_no_news(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_opcua.opcua.standard.certificates.local_names", lambda _: ("localhost",))
    clock = ManualClock(utc_ns=now_ns())
    with structlog.testing.capture_logs() as logs:
        async with watching(server, clock) as watch:
            assert (watch.expiring, watch.names_missing) == ((), ())
    assert logs == []

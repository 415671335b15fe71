"""Certificates managed over OPC UA (Part 12 §7.10), by a client that may, and by those that may not."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from asyncua import Client, ua
from asyncua.common.utils import Buffer, ServiceError
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_opcua.core.clock import SystemClock
from edge_opcua.opcua.access import Kind
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.services.service import Caller, set_caller
from edge_opcua.opcua.standard import push as push_module
from edge_opcua.opcua.standard.certificates import ON_THIS_MACHINE, CertificateWatch
from edge_opcua.opcua.standard.push import PushManagement
from edge_opcua.opcua.standard.variables import Variables
from edge_opcua.security.pki import Pki, read_own
from edge_opcua.security.renewal import Renewal
from edge_opcua.security.roles import Role
from tests.opcua.secure_peers import GOOD, STRANGER, Plant, running_plant, status_of, until
from tests.security.certificates import Identity, make, revoke, rsa_key

IDS, CODES = ua.ObjectIds, ua.StatusCodes
CONFIGURATION = ua.NodeId(IDS.ServerConfiguration)
GROUP = ua.NodeId(IDS.ServerConfiguration_CertificateGroups_DefaultApplicationGroup)
TRUST_LIST = ua.NodeId(IDS.ServerConfiguration_CertificateGroups_DefaultApplicationGroup_TrustList)
ADMIN, SECOND = make("certificate manager"), make("second manager")
NEW_KEY = rsa_key("new key of the server")
NONCE = b"n" * 32


@dataclass
class Managed:
    """A server with push management, and what it told its audit."""

    plant: Plant
    push: PushManagement
    renewal: Renewal
    acts: list[Act]

    @property
    def root(self) -> Path:
        return self.plant.pki.root

    @property
    def now(self) -> Pki:
        """The certificate in use."""
        return self.plant.server.security.pki

    def client(self, identity: Identity = ADMIN) -> Client:
        """Return a client that knows the certificate in use."""
        self.plant.pki = self.now
        return self.plant.client(identity)

    def kinds(self) -> list[str]:
        return [act.kind for act in self.told("certificate.updated", "trust.changed")]

    def told(self, *kinds: str) -> list[Act]:
        """Return what clients did."""
        return [act for act in self.acts if act.kind in kinds and act.who != ON_THIS_MACHINE]


@pytest.fixture(scope="module")
def ca() -> Identity:
    return make("Plant CA", uri=None, authority=True, purposes=None)


@pytest.fixture(scope="module")
async def managed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Managed]:
    limits = ServerLimits(recheck_s=0.05, trust_list_bytes=64 * 1024)
    async with running_plant(tmp_path_factory.mktemp("state"), limits=limits) as plant:
        admin = frozenset({Role.SECURITY_ADMIN})
        for identity in (ADMIN, SECOND):
            await asyncio.to_thread(plant.trust.add, identity.der, roles=admin)
        clock = SystemClock()
        watch = CertificateWatch(plant.server, clock)
        renewal = Renewal(plant.pki.root, clock=clock, key_bits=2048)
        variables = Variables(plant.server.iserver.aspace, set(), clock)
        push = PushManagement(plant.server, watch, variables, clock, renewal)
        await push.install()
        acts: list[Act] = []
        plant.server.iserver.audit = acts.append
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch.run())
            yield Managed(plant, push, renewal, acts)
            watching.cancel()


@pytest.fixture
async def admin(managed: Managed) -> AsyncIterator[Client]:
    managed.acts.clear()
    async with managed.client() as client:
        yield client


async def call(client: Client, name: str, *arguments: Any) -> Any:
    """Call a method of ServerConfiguration or, with a leading dot, of its trust list."""
    place = "ServerConfiguration_"
    owner = CONFIGURATION
    if name.startswith("."):
        place += "CertificateGroups_DefaultApplicationGroup_TrustList_"
        owner = TRUST_LIST
    method = ua.NodeId(getattr(IDS, place + name.removeprefix(".")))
    return await client.get_node(owner).call_method(method, *arguments)


def u32(number: int) -> ua.Variant:
    return ua.Variant(number, ua.VariantType.UInt32)


def data(content: bytes | None) -> ua.Variant:
    return ua.Variant(content, ua.VariantType.ByteString)


def text(content: str | None) -> ua.Variant:
    return ua.Variant(content, ua.VariantType.String)


async def update(
    client: Client,
    certificate: bytes,
    *issuers: bytes,
    key: bytes | None = None,
    key_format: str | None = None,
    group: ua.NodeId = GROUP,
    kind: int = IDS.RsaSha256ApplicationCertificateType,
) -> Any:
    return await call(
        client,
        "UpdateCertificate",
        group,
        ua.NodeId(kind),
        data(certificate),
        ua.Variant(list(issuers), ua.VariantType.ByteString, is_array=True),
        text(key_format),
        data(key),
    )


async def request(client: Client, *, subject: str = "", new_key: bool = False, nonce: bytes = b"") -> Any:
    return await call(
        client, "CreateSigningRequest", ua.NodeId(), ua.NodeId(), text(subject), new_key, data(nonce)
    )


def answer(request_der: bytes, ca: Identity, **spoiled: Any) -> bytes:
    """What an authority makes of a request; each argument spoils one thing."""
    asked = x509.load_der_x509_csr(request_der)
    names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    sound = {"uri": uri, "purposes": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)}
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    signed = make("signed", issuer=ca, **{**sound, "key": _PublicOnly(asked), "start": start, **spoiled})
    return signed.der


class _PublicOnly:
    """Stands where `make` wants a key and only its public half is known."""

    def __init__(self, asked: x509.CertificateSigningRequest) -> None:
        self._asked = asked

    def public_key(self) -> Any:
        return self._asked.public_key()


async def read_list(client: Client, masks: int = 15) -> ua.TrustListDataType:
    handle = await call(client, ".OpenWithMasks", u32(masks))
    content = b""
    while part := await call(client, ".Read", u32(handle), ua.Variant(700, ua.VariantType.Int32)):
        content += part
    await call(client, ".Close", u32(handle))
    found = struct_from_binary(ua.TrustListDataType, Buffer(content))
    assert isinstance(found, ua.TrustListDataType)
    return found


async def write_list(client: Client, lists: ua.TrustListDataType | bytes) -> Any:
    content = lists if isinstance(lists, bytes) else struct_to_binary(lists)
    handle = await call(client, ".Open", ua.Variant(6, ua.VariantType.Byte))
    for at in range(0, len(content), 5000):
        await call(client, ".Write", u32(handle), data(content[at : at + 5000]))
    return await call(client, ".CloseAndUpdate", u32(handle))


# --- who may -------------------------------------------------------------------------------------------


async def test_only_a_security_admin_sees_and_calls_it(managed: Managed) -> None:
    # Part 12 §7.2: SecurityAdmin only
    async with managed.client(GOOD) as client:
        for name, arguments in (
            ("GetRejectedList", ()),
            ("ApplyChanges", ()),
            (".Open", (ua.Variant(1, ua.VariantType.Byte),)),
        ):
            assert await status_of(call(client, name, *arguments)) == CODES.BadUserAccessDenied
        assert await status_of(client.get_node(CONFIGURATION).read_browse_name()) != 0
        by_type = ua.NodeId(IDS.ServerConfigurationType_GetRejectedList)
        calling = client.get_node(CONFIGURATION).call_method(by_type)
        assert await status_of(calling) == CODES.BadUserAccessDenied
    assert managed.kinds() == []


async def test_what_it_can_do_is_told(admin: Client, managed: Managed) -> None:
    # Part 12 §7.10.3
    prefix = "ServerConfiguration_"
    for name, value in (
        ("SupportedPrivateKeyFormats", ["PEM", "PFX"]),
        ("MaxTrustListSize", 64 * 1024),
        ("MulticastDnsEnabled", False),
        ("SupportsTransactions", True),
        ("ApplicationUri", managed.now.application_uri),
        ("CertificateGroups_DefaultApplicationGroup_CertificateTypes", [ua.NodeId(12560)]),
    ):
        assert await admin.get_node(ua.NodeId(getattr(IDS, prefix + name))).read_value() == value
    groups = await admin.get_node(ua.NodeId(IDS.ServerConfiguration_CertificateGroups)).get_children()
    assert [group.nodeid for group in groups] == [GROUP]
    access = managed.plant.server.access
    assert access.kind(TRUST_LIST) is Kind.SECURITY
    assert access.kind(ua.NodeId(IDS.ServerConfiguration_UpdateCertificate_InputArguments)) is Kind.SECURITY


async def test_a_client_that_sends_its_issuers_along_is_let_in_by_the_root(
    managed: Managed, ca: Identity
) -> None:
    # Part 6 §6.2.6, Part 4 §6.1.3: asyncua answered a chain with BadInternalError and did not use it
    line = make("Line CA", uri=None, authority=True, issuer=ca, purposes=None)
    member = make("member of the line", issuer=line)
    await asyncio.to_thread(managed.plant.trust.add, ca.der, roles=frozenset({Role.OPERATOR}))
    client = managed.client(member)
    client.security_policy.host_certificate_chain = [line.der]
    async with client:
        assert await client.get_node(managed.plant.plain.nodeid).read_value() == 1.5
        session = next(one for one in managed.plant.server.iserver.sessions() if one.owner is not None)
        assert Role.OPERATOR in session.roles
    alone = managed.client(member)  # nobody here knows the authority between
    with pytest.raises((ConnectionError, ua.UaError, TimeoutError)):
        await alone.connect()
    assert managed.plant.knocks[-1].code == "S401"
    await asyncio.to_thread(managed.plant.trust.distrust, ca.print)


# --- the server's own certificate ------------------------------------------------------------------------


async def test_a_rotation_interrupts_nobody_and_new_channels_see_the_new_certificate(
    admin: Client, managed: Managed, ca: Identity
) -> None:
    # Part 12 §7.10.5, §7.10.9, §7.10.10
    before = managed.now
    async with managed.client(GOOD) as client:
        asked = await request(admin, subject="CN=Press 1, O=Plant", new_key=True, nonce=NONCE)
        signing = x509.load_der_x509_csr(asked)
        assert signing.subject.rfc4514_string() == "O=Plant,CN=Press 1"
        assert signing.public_key() != before.private_key.public_key()
        new = answer(asked, ca)
        assert await update(admin, new, ca.der) is True
        # A crash here leaves the old one: nothing was written.
        assert (await asyncio.to_thread(read_own, managed.root)).certificate == before.certificate
        assert (await admin.get_endpoints())[0].ServerCertificate == before.certificate_der
        await call(admin, "ApplyChanges")
        assert managed.now.certificate_der == new
        (endpoint,) = await client.get_endpoints()
        assert endpoint.ServerCertificate == new
        assert await client.get_node(managed.plant.plain.nodeid).read_value() == 1.5
        await client.open_secure_channel(renew=True)  # with the certificate that this channel began with
        assert await client.get_node(managed.plant.plain.nodeid).read_value() == 1.5
    async with managed.client(GOOD) as client:
        assert client.uaclient.security_policy.peer_certificate == new
        assert await client.get_node(managed.plant.plain.nodeid).read_value() == 1.5
    types, certificates = await call(admin, "GetCertificates", GROUP)
    assert (types, certificates) == ([ua.NodeId(12560)], [new])
    (act,) = [act for act in managed.acts if act.kind == "certificate.updated"]
    assert act.facts == {"thumbprint": managed.now.thumbprint, "before": before.thumbprint}
    assert "certificate manager" in act.who
    end = ua.NodeId(IDS.ServerConfiguration_TransactionDiagnostics_AffectedCertificateGroups)
    assert await admin.get_node(end).read_value() == [GROUP]


async def test_a_certificate_that_was_replaced_on_the_machine_is_taken_and_the_former_one_refused(
    managed: Managed,
) -> None:
    managed.acts.clear()
    old = managed.client(GOOD)  # knows what is in use now
    renewed = await asyncio.to_thread(managed.renewal.renew, ["127.0.0.1"])
    await until(lambda: managed.now.certificate == renewed.certificate)
    managed.plant.knocks.clear()
    with pytest.raises((ConnectionError, ua.UaError, TimeoutError)):
        await old.connect()
    assert managed.plant.knocks[-1].code == "S412"
    (act,) = [act for act in managed.acts if act.kind == "certificate.updated"]
    assert act.who == ON_THIS_MACHINE


async def test_a_certificate_may_come_with_its_key_as_pem_or_pfx(
    admin: Client, managed: Managed, ca: Identity
) -> None:
    uri = managed.now.application_uri
    brought = make("brought", uri=uri, issuer=ca, key=NEW_KEY, purposes=None)
    pfx = pkcs12.serialize_key_and_certificates(
        b"it", NEW_KEY, brought.certificate, None, serialization.NoEncryption()
    )
    for key_format, key in (("PEM", brought.key_pem), ("PFX", pfx)):
        assert await update(admin, brought.der, key=key, key_format=key_format) is True
    await call(admin, "ApplyChanges")
    assert managed.now.private_key.private_numbers() == NEW_KEY.private_numbers()


Spoil = Callable[[Managed, Identity], dict[str, Any]]


@pytest.mark.parametrize(
    ("spoiled", "code"),
    [
        ({"certificate": b"garbage"}, CODES.BadCertificateInvalid),
        ({"certificate": b""}, CODES.BadCertificateInvalid),
        ({"key": rsa_key("other")}, CODES.BadSecurityChecksFailed),
        ({"days": -1.0}, CODES.BadCertificateTimeInvalid),
        ({"uri": "urn:somebody:else"}, CODES.BadCertificateUriInvalid),
        ({"purposes": (ExtendedKeyUsageOID.CLIENT_AUTH,)}, CODES.BadCertificateUseNotAllowed),
        ({"bits": 1024}, CODES.BadCertificatePolicyCheckFailed),
        ({"issuers": [make("other CA", uri=None, authority=True).der]}, CODES.BadSecurityChecksFailed),
        ({"key_format": "JKS"}, CODES.BadNotSupported),
        ({"private": b"garbage", "key_format": "PEM"}, CODES.BadNotSupported),
        ({"group": TRUST_LIST}, CODES.BadInvalidArgument),
        ({"kind": IDS.HttpsCertificateType}, CODES.BadInvalidArgument),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_certificate_that_is_not_for_this_server_is_refused_and_changes_nothing(
    admin: Client, managed: Managed, ca: Identity, spoiled: dict[str, Any], code: int
) -> None:
    before = managed.now
    wanted: dict[str, Any] = {"uri": before.application_uri, "key": before.private_key, "purposes": None}
    passed = {"certificate", "issuers", "key_format", "private", "group", "kind"}
    wanted |= {name: value for name, value in spoiled.items() if name not in passed | {"days", "bits"}}
    if "days" in spoiled:
        wanted |= {"start": dt.datetime.now(dt.UTC) - dt.timedelta(days=9), "days": 1}
    if "bits" in spoiled:
        wanted["key"] = rsa_key("weak", 1024)
        spoiled = {**spoiled, "private": make("weak", key=wanted["key"]).key_pem}
    certificate = spoiled.get("certificate", make("new", issuer=ca, **wanted).der)
    named = {name: spoiled[name] for name in ("key_format", "group", "kind") if name in spoiled}
    sent = update(admin, certificate, *spoiled.get("issuers", ()), key=spoiled.get("private"), **named)
    assert await status_of(sent) == code
    assert await status_of(call(admin, "ApplyChanges")) == CODES.BadNothingToDo
    assert managed.now == before


async def test_a_request_wants_a_readable_subject_and_entropy_for_a_new_key(
    admin: Client, managed: Managed
) -> None:
    # Part 12 §7.10.10
    assert await status_of(request(admin, subject="Press 1")) == CODES.BadInvalidArgument
    assert await status_of(request(admin, new_key=True, nonce=b"short")) == CODES.BadInvalidArgument
    same = x509.load_der_x509_csr(await request(admin))
    assert same.public_key() == managed.now.private_key.public_key()
    assert isinstance(same.public_key(), rsa.RSAPublicKey)


# --- transactions ----------------------------------------------------------------------------------------


async def test_one_session_at_a_time_has_a_transaction_and_it_ends_with_the_session(
    admin: Client, managed: Managed, ca: Identity
) -> None:
    # Part 12 §7.10.2
    new = make("never", uri=managed.now.application_uri, key=managed.now.private_key, purposes=None).der
    before = managed.now
    async with managed.client(SECOND) as second:
        assert await update(second, new) is True
        for refused in (
            update(admin, new),
            call(admin, "ApplyChanges"),
            call(admin, "CancelChanges"),
            call(admin, ".Open", ua.Variant(6, ua.VariantType.Byte)),
            call(admin, ".AddCertificate", data(STRANGER.der), True),
            call(admin, ".RemoveCertificate", text(GOOD.print), True),
        ):
            assert await status_of(refused) == CODES.BadTransactionPending
        assert len((await read_list(admin)).TrustedCertificates) == 4  # reading is no change
    assert await status_of(call(admin, "ApplyChanges")) == CODES.BadNothingToDo
    assert await update(admin, new) is True
    await call(admin, "CancelChanges")
    assert await status_of(call(admin, "CancelChanges")) == CODES.BadNothingToDo
    assert managed.now == before
    assert managed.kinds() == []


# --- the trust list ----------------------------------------------------------------------------------------


async def test_a_trust_list_that_is_written_counts_from_apply_changes_on(
    admin: Client, managed: Managed, ca: Identity
) -> None:
    # Part 12 §7.8.2.5
    member = make("member", issuer=ca)
    lists = await read_list(admin)
    former = list(lists.TrustedCertificates)
    assert {GOOD.der, ADMIN.der} <= {*former}
    lists.TrustedCertificates = [*former, ca.der]
    lists.TrustedCrls = [revoke(ca)]
    lists.SpecifiedLists = ua.UInt32(3)
    assert await write_list(admin, lists) is True
    assert (await read_list(admin)).TrustedCertificates == former
    assert not (await asyncio.to_thread(managed.plant.trust.decide, member.der)).trusted
    # Somebody at the machine trusts a client meanwhile; the lists that were not written keep it.
    await call(admin, "ApplyChanges")
    decision = await asyncio.to_thread(managed.plant.trust.decide, member.der)
    assert decision.trusted
    assert decision.roles == {Role.OBSERVER}
    kept = await asyncio.to_thread(managed.plant.trust.decide, ADMIN.der)
    assert kept.roles == {Role.SECURITY_ADMIN}
    client = managed.client(member)
    await client.connect()
    protocol = client.uaclient.protocol
    assert await client.get_node(managed.plant.plain.nodeid).read_value() == 1.5
    assert (await read_list(admin, masks=2)).TrustedCrls == [revoke(ca)]
    assert (await read_list(admin, masks=2)).TrustedCertificates == []
    revoked = ua.TrustListDataType(SpecifiedLists=ua.UInt32(2), TrustedCrls=[revoke(ca, member)])
    assert await write_list(admin, revoked) is True
    await call(admin, "ApplyChanges")
    await until(lambda: protocol.transport is None)  # the channel of who was revoked ends soon
    await client.disconnect()
    (first, second) = managed.told("trust.changed")
    assert first.facts == {"added": [ca.print], "removed": [], "roles": {}, "lists": 1}
    assert second.facts == {"added": [], "removed": [], "roles": {}, "lists": 1}
    await call(admin, ".RemoveCertificate", text(ca.print), True)
    assert (await read_list(admin)).TrustedCrls == []


@pytest.mark.parametrize(
    ("lists", "code"),
    [
        (b"garbage", CODES.BadDecodingError),
        (struct_to_binary(ua.TrustListDataType(SpecifiedLists=ua.UInt32(16))), CODES.BadDecodingError),
        (struct_to_binary(ua.TrustListDataType()) + b"more", CODES.BadDecodingError),
        (
            ua.TrustListDataType(SpecifiedLists=ua.UInt32(1), TrustedCertificates=[b"garbage"]),
            CODES.BadCertificateInvalid,
        ),
        (
            ua.TrustListDataType(SpecifiedLists=ua.UInt32(1), TrustedCertificates=[None]),
            CODES.BadCertificateInvalid,
        ),
        (
            ua.TrustListDataType(SpecifiedLists=ua.UInt32(8), IssuerCrls=[revoke(GOOD)]),
            CODES.BadCertificateInvalid,
        ),
        (
            ua.TrustListDataType(
                SpecifiedLists=ua.UInt32(4), IssuerCertificates=[make("weak", key=rsa_key("weak", 1024)).der]
            ),
            CODES.BadCertificatePolicyCheckFailed,
        ),
        (b"\0" * 70_000, CODES.BadEncodingLimitsExceeded),
    ],
    ids=["garbage", "masks", "tail", "certificate", "null", "stranger's list", "weak", "too large"],
)
async def test_a_trust_list_that_cannot_be_used_is_refused_whole(
    managed: Managed, lists: Any, code: int
) -> None:
    async with managed.client() as admin:
        before = await read_list(admin)
        assert await status_of(write_list(admin, lists)) == code
    async with managed.client() as admin:  # what the first left open is closed with it
        assert await status_of(call(admin, "ApplyChanges")) == CODES.BadNothingToDo
        assert await read_list(admin) == before


async def test_single_certificates_are_added_and_removed_at_once(
    admin: Client, managed: Managed, ca: Identity
) -> None:
    # Part 12 §7.8.2.6, §7.8.2.7
    for certificate, trusted in ((ca.der, True), (STRANGER.der, False), (b"garbage", True)):
        refused = call(admin, ".AddCertificate", data(certificate), trusted)
        assert await status_of(refused) == CODES.BadCertificateInvalid
    await call(admin, ".AddCertificate", data(STRANGER.der), True)
    assert (await asyncio.to_thread(managed.plant.trust.decide, STRANGER.der)).trusted
    handle = await call(admin, ".Open", ua.Variant(1, ua.VariantType.Byte))
    removing = call(admin, ".RemoveCertificate", text(STRANGER.print), True)
    assert await status_of(removing) == CODES.BadInvalidState  # while the list is open
    await call(admin, ".Close", u32(handle))
    await call(admin, ".RemoveCertificate", text(STRANGER.print.lower()), True)
    assert not (await asyncio.to_thread(managed.plant.trust.decide, STRANGER.der)).trusted
    for print_, trusted in ((STRANGER.print, True), (GOOD.print, False), ("", True)):
        removing = call(admin, ".RemoveCertificate", text(print_), trusted)
        assert await status_of(removing) == CODES.BadInvalidArgument
    assert managed.kinds() == ["trust.changed", "trust.changed"]


async def test_an_authority_that_somebody_needs_is_not_removed(
    admin: Client, managed: Managed, ca: Identity
) -> None:
    line = make("Line CA", uri=None, authority=True, issuer=ca, purposes=None)
    both = ua.TrustListDataType(SpecifiedLists=ua.UInt32(4), IssuerCertificates=[ca.der, line.der])
    await write_list(admin, both)
    await call(admin, "ApplyChanges")
    removing = call(admin, ".RemoveCertificate", text(ca.print), False)
    assert await status_of(removing) == CODES.BadCertificateChainIncomplete
    for one in (line, ca):
        await call(admin, ".RemoveCertificate", text(one.print), False)


async def test_a_trust_list_is_a_file_with_one_writer(admin: Client, managed: Managed) -> None:
    # Part 12 §7.8.2.2, Part 20 §4.2
    for mode in (0, 2, 3, 10):
        opened = call(admin, ".Open", ua.Variant(mode, ua.VariantType.Byte))
        assert await status_of(opened) == CODES.BadNotSupported
    assert await status_of(call(admin, ".OpenWithMasks", u32(16))) == CODES.BadInvalidArgument
    writing = await call(admin, ".Open", ua.Variant(6, ua.VariantType.Byte))
    opened = call(admin, ".Open", ua.Variant(1, ua.VariantType.Byte))
    assert await status_of(opened) == CODES.BadInvalidState
    reading = call(admin, ".Read", u32(writing), ua.Variant(1, ua.VariantType.Int32))
    assert await status_of(reading) == CODES.BadInvalidState
    await call(admin, ".Write", u32(writing), data(b"abc"))
    assert await call(admin, ".GetPosition", u32(writing)) == 3
    async with managed.client(SECOND) as second:
        assert await status_of(call(second, ".Close", u32(writing))) == CODES.BadInvalidArgument
    count = "ServerConfiguration_CertificateGroups_DefaultApplicationGroup_TrustList_OpenCount"
    assert await admin.get_node(ua.NodeId(getattr(IDS, count))).read_value() == 1
    other = make("x", uri=managed.now.application_uri, key=managed.now.private_key, purposes=None)
    await update(admin, other.der)
    assert await status_of(call(admin, "ApplyChanges")) == CODES.BadInvalidState  # open for writing
    await call(admin, ".Close", u32(writing))  # and nothing was changed
    await call(admin, "CancelChanges")
    first = await call(admin, ".Open", ua.Variant(1, ua.VariantType.Byte))
    opened = call(admin, ".Open", ua.Variant(6, ua.VariantType.Byte))
    assert await status_of(opened) == CODES.BadInvalidState
    assert await status_of(call(admin, ".Write", u32(first), data(b"x"))) == CODES.BadInvalidState
    assert await status_of(call(admin, ".CloseAndUpdate", u32(first))) == CODES.BadInvalidState
    backwards = call(admin, ".Read", u32(first), ua.Variant(-1, ua.VariantType.Int32))
    assert await status_of(backwards) == CODES.BadInvalidArgument
    start = await call(admin, ".Read", u32(first), ua.Variant(4, ua.VariantType.Int32))
    assert start == b"\x0f\0\0\0"
    await call(admin, ".SetPosition", u32(first), ua.Variant(0, ua.VariantType.UInt64))
    assert await call(admin, ".Read", u32(first), ua.Variant(4, ua.VariantType.Int32)) == start
    await call(admin, ".SetPosition", u32(first), ua.Variant(10**12, ua.VariantType.UInt64))
    assert await call(admin, ".Read", u32(first), ua.Variant(4, ua.VariantType.Int32)) == b""
    for _ in range(9):
        await call(admin, ".Open", ua.Variant(1, ua.VariantType.Byte))
    opened = call(admin, ".Open", ua.Variant(1, ua.VariantType.Byte))
    assert await status_of(opened) == CODES.BadTooManyOperations


async def test_who_was_refused_is_listed_the_newest_first(
    admin: Client, managed: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Part 12 §7.10.11
    trust = managed.plant.trust
    one, two = make("first"), make("second")

    def knock() -> None:
        for identity in (one, two):
            trust.record(trust.decide(identity.der), "192.0.2.1:4")

    await asyncio.to_thread(knock)
    assert (await call(admin, "GetRejectedList"))[:2] == [two.der, one.der]
    monkeypatch.setattr(push_module, "MAX_REJECTED_BYTES", len(two.der))
    assert await call(admin, "GetRejectedList") == [two.der]


async def test_a_list_that_grows_too_large_is_refused(
    admin: Client, managed: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Part 12 §7.10.3: MaxTrustListSize is that of the whole list, not of one update
    monkeypatch.setattr(managed.push, "_most_bytes", 2000)
    adding = call(admin, ".AddCertificate", data(STRANGER.der), True)
    assert await status_of(adding) == CODES.BadEncodingLimitsExceeded
    more = ua.TrustListDataType(SpecifiedLists=ua.UInt32(4), IssuerCertificates=[STRANGER.der])
    assert await status_of(write_list(admin, more)) == CODES.BadEncodingLimitsExceeded
    assert managed.kinds() == []


async def test_without_an_encrypted_channel_there_is_nothing_to_call_whatever_the_roles(
    managed: Managed,
) -> None:
    # Part 12 §7.10.4: Bad_SecurityModeInsufficient; roles are asked before, this is the second lock
    method = managed.plant.server.iserver.aspace[ua.NodeId(IDS.ServerConfiguration_ApplyChanges)].call

    set_caller(cast(Caller, SimpleNamespace(secured=False)))
    with pytest.raises(ServiceError) as caught:
        await method(CONFIGURATION)
    assert caught.value.code == CODES.BadSecurityModeInsufficient


async def test_a_disk_that_fails_leaves_what_was(
    admin: Client, managed: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    before = managed.now
    new = make("x", uri=before.application_uri, key=before.private_key, purposes=None).der
    await update(admin, new)
    monkeypatch.setattr(managed.renewal, "install", full)
    assert await status_of(call(admin, "ApplyChanges")) == CODES.BadResourceUnavailable
    result = ua.NodeId(IDS.ServerConfiguration_TransactionDiagnostics_Result)
    assert int((await admin.get_node(result).read_value()).value) == CODES.BadTransactionFailed
    assert managed.now == before

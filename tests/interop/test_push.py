"""A certificate manager that is not asyncua: node-opcua rotates the certificate, goes on, and comes back."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pytest
from asyncua import ua
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_opcua.security.pki import read_own
from tests.interop.node_remote import Remote
from tests.opcua.plant import Ground, Plant
from tests.security.certificates import Identity, make

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

CONFIGURATION = "i=12637"
GROUP = {"dataType": "NodeId", "value": {"$on": "group"}}
RSA = {"dataType": "NodeId", "value": {"$on": "rsa"}}
ADMIN = {
    "type": {"$enum": "UserTokenType.UserName"},
    "userName": "security-admin",
    "password": "security-admin has a password",
}
BYTES, TEXT, BOOLEAN = "ByteString", "String", "Boolean"


async def call(peer: Remote, session: str, method: str, *arguments: dict[str, Any]) -> list[Any]:
    request = {"objectId": CONFIGURATION, "methodId": method, "inputArguments": list(arguments)}
    answer = await peer.call(session, "call", request)
    assert answer["statusCode"] == 0, hex(answer["statusCode"])
    return [each["value"] for each in answer["outputArguments"] or ()]


def signed(asked: bytes, ca: Identity) -> bytes:
    """What an authority makes of a request."""
    request = x509.load_der_x509_csr(asked)
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    purposes = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    return make("press", uri=uri, issuer=ca, key=request, purposes=purposes, start=start).der  # type: ignore[arg-type]


async def test_a_rotation_interrupts_no_session_and_the_next_one_gets_the_chain(
    served: Plant, grounds: Ground, peer: Remote, identity: dict[str, str]
) -> None:
    # Part 12 §7.10.5, §7.10.9, §7.10.10; Part 6 §6.7.2.3: SenderCertificate with its issuers
    ca = make("Plant CA", uri=None, authority=True, purposes=None)
    await peer.make("resolveNodeId", "i=14156", name="group")
    await peer.make("resolveNodeId", "i=12560", name="rsa")
    session = await peer.connect(served.server.url, identity, user=ADMIN)
    nothing = {"dataType": BYTES, "value": {"$hex": ""}}
    subject = {"dataType": TEXT, "value": "CN=Press 1/O=Plant"}
    same_key = {"dataType": BOOLEAN, "value": False}
    (asked,) = await call(peer, session, "i=12737", GROUP, RSA, subject, same_key, nothing)
    new = signed(bytes.fromhex(asked["hex"]), ca)
    (required,) = await call(
        peer,
        session,
        "i=13737",
        GROUP,
        RSA,
        {"dataType": BYTES, "value": {"$hex": new.hex()}},
        {
            "dataType": BYTES,
            "arrayType": {"$enum": "VariantArrayType.Array"},
            "value": [{"$hex": ca.der.hex()}],
        },
        {"dataType": TEXT, "value": ""},
        nothing,
    )
    assert required is True
    await call(peer, session, "i=12740")
    own = await asyncio.to_thread(read_own, grounds.pki.root)
    assert own.certificate_der == new
    answer = await peer.call(session, "read", {"nodeId": "i=2255", "attributeId": 13})
    assert answer["value"]["value"][7] == "urn:plant-1:plant"
    await peer.leave()
    session = await peer.connect(served.server.url, identity, user=ADMIN)
    kinds, certificates = await call(peer, session, "i=32333", GROUP)
    assert (kinds, certificates) == (["ns=0;i=12560"], [{"hex": new.hex()}])
    answer = await peer.call(session, "read", {"nodeId": "i=2255", "attributeId": 13})
    assert answer["statusCode"] == ua.StatusCodes.Good
    await peer.leave()

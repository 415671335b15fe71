"""Fails when asyncua moves what the seam stands on.

The seam subclasses asyncua and leans on private names and on what they do. Each entry below is a function
that we override, call, or whose inner order we rely on, with a hash of its source. A failure here is no bug
by itself: read what changed upstream, adapt the seam, run the hostile tests, then enter the new hash.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import tomllib
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.opcua.seam import buffer, channel, core, processor, protocol, server, session
from edge_opcua.opcua.services import methods
from edge_opcua.opcua.services.attribute import attributes

OURS = {
    "Channel": channel.Channel,
    "StrictBuffer": buffer.StrictBuffer,
    "Core": core.Core,
    "SecureServer": server.SecureServer,
    "Processor": processor.Processor,
    "Protocol": protocol.Protocol,
    "Listener": protocol.Listener,
    "Session": session.Session,
    "Attributes": attributes.Attributes,
    "Methods": methods.Methods,
}

UPSTREAM: dict[str, str] = {
    "server.uaprocessor.UaProcessor.__init__": "c6499feb",
    "server.uaprocessor.UaProcessor.set_policies": "5bd3151e",
    "server.uaprocessor.UaProcessor.send_response": "1acbe876",
    "server.uaprocessor.UaProcessor.open_secure_channel": "87101047",
    "server.uaprocessor.UaProcessor.process": "70af297c",
    "server.uaprocessor.UaProcessor.process_message": "303c6a0c",
    "server.uaprocessor.UaProcessor._process_message": "029ff357",
    "server.uaprocessor.UaProcessor.close": "de93bcf8",
    "server.uaprocessor.UaProcessor._should_close_session_on_transport_loss": "61228323",
    "server.binary_server_asyncio.OPCUAProtocol.__init__": "a204fe22",
    "server.binary_server_asyncio.OPCUAProtocol.connection_made": "67ce5af6",
    "server.binary_server_asyncio.OPCUAProtocol.connection_lost": "f5e28785",
    "server.binary_server_asyncio.OPCUAProtocol.data_received": "bacb98f0",
    "server.binary_server_asyncio.OPCUAProtocol._activation_watchdog": "16d7c49f",
    "server.binary_server_asyncio.OPCUAProtocol._process_received_message_loop": "ab007a8d",
    "server.binary_server_asyncio.OPCUAProtocol._process_one_msg": "c2162392",
    "server.binary_server_asyncio.BinaryServer.__init__": "f58a8d12",
    "server.binary_server_asyncio.BinaryServer.set_policies": "2a4be074",
    "server.binary_server_asyncio.BinaryServer._make_protocol": "5c0c260f",
    "server.binary_server_asyncio.BinaryServer.start": "b994db5d",
    "server.binary_server_asyncio.BinaryServer.stop": "ecc53780",
    "common.utils.Buffer.__init__": "d2b07968",
    "common.utils.Buffer.read": "749855a7",
    "common.utils.Buffer.copy": "2188db9a",
    "common.utils.Buffer.skip": "51581b87",
    "common.connection.SecureConnection.__init__": "0674abc2",
    "common.connection.SecureConnection.open": "a5e9ac74",
    "common.connection.SecureConnection.is_open": "cc6ece72",
    "common.connection.SecureConnection.select_policy": "516345b8",
    "common.connection.SecureConnection.revolve_tokens": "eeabe1e8",
    "common.connection.SecureConnection.message_to_binary": "dca1c22c",
    "common.connection.SecureConnection._check_sym_header": "a8c245d2",
    "common.connection.SecureConnection._check_incoming_chunk": "f6c953e6",
    "common.connection.SecureConnection.receive_from_header_and_body": "d4468ec7",
    "common.connection.SecureConnection._receive": "e24031f2",
    "common.connection.TransportLimits.create_acknowledge_and_set_limits": "3961625b",
    "common.connection.MessageChunk.from_header_and_body": "2566aade",
    "common.connection.MessageChunk.to_binary": "1da52c69",
    "common.connection.MessageChunk.max_body_size": "8e7531ae",
    "common.connection.MessageChunk.message_to_chunks": "a59c3486",
    "server.internal_server.InternalServer.__init__": "9a151b9f",
    "server.internal_server.InternalServer.start": "46457dca",
    "server.internal_server.InternalServer.stop": "1f47ced4",
    "server.internal_server.InternalServer.create_session": "20ddcc7f",
    "server.internal_server.InternalServer.lookup_external_session": "93f4ee60",
    "server.internal_server.InternalServer.register_external_session": "c78e1de5",
    "server.internal_server.InternalServer.unregister_external_session": "b57afce9",
    "server.internal_server.InternalServer.get_endpoints": "d59ebe6f",
    "server.internal_server.InternalServer.find_servers": "6c06d171",
    "server.internal_server.InternalServer._mangle_endpoint_url": "030d8e23",
    "server.internal_server.InternalServer.register_server": "bcdc4a4c",
    "server.internal_server.InternalServer.register_server2": "9888833f",
    "server.internal_session.InternalSession.__init__": "9d9ae9d7",
    "server.internal_session.InternalSession.create_session": "b588ef2c",
    "server.internal_session.InternalSession.activate_session": "cfe664a2",
    "server.internal_session.InternalSession.close_session": "e49eeda6",
    "server.internal_session.InternalSession.touch": "52dc58f1",
    "server.internal_session.InternalSession.read": "79d97574",
    "server.internal_session.InternalSession.write": "ed283372",
    "server.internal_session.InternalSession.call": "f6bf9e5f",
    "server.address_space.AttributeService.__init__": "5fea1c04",
    "server.address_space.AttributeService.write": "5a602872",
    "server.address_space.MethodService.__init__": "f1b20b94",
    "server.address_space.MethodService.stop": "a2a9964f",
    "server.address_space.MethodService.call": "caea17f7",
    "server.address_space.MethodService._call": "54a98545",
    "server.address_space.MethodService._run_method": "f230eeac",
    "server.address_space.AddressSpace.read_attribute_value": "836c43c0",
    "common.events.Event.__init__": "484330d6",
    "common.events.Event.add_property": "00490d99",
    "common.events.Event.browse_path_to_attribute_name": "7bf77c82",
    "crypto.security_policies.Cryptography.verify": "74dad8e2",
    "crypto.security_policies.Cryptography.decrypt": "62ded18a",
    "crypto.security_policies.Cryptography.padding": "68ccdf81",
    "crypto.security_policies.Cryptography.plain_block_size": "7d4ee46b",
    "crypto.security_policies.SignerHMac256.__init__": "9e74dca1",
    "crypto.security_policies.VerifierHMac256.__init__": "9e74dca1",
    "crypto.security_policies.EncryptorAesCbc.__init__": "9c309aa0",
    "crypto.security_policies.EncryptorAesCbc.plain_block_size": "fed29536",
    "crypto.security_policies.DecryptorAesCbc.__init__": "9c309aa0",
    "crypto.security_policies.SecurityPolicyBasic256Sha256.make_local_symmetric_key": "25e6e75e",
    "crypto.security_policies.SecurityPolicyBasic256Sha256.make_remote_symmetric_key": "61ca8b62",
    "crypto.security_policies.SecurityPolicyFactory.__init__": "3c14aba1",
    "crypto.security_policies.SecurityPolicyFactory.matches": "ea8426c9",
    "crypto.security_policies.SecurityPolicyFactory.create": "e107f3f5",
    "crypto.security_policies.SecurityPolicyBasic256Sha256.__init__": "47d82c10",
    "crypto.security_policies.SecurityPolicyNone.__init__": "49437032",
    "server.server.Server.__init__": "9b02f17c",
    "server.server.Server.init": "62a8c90e",
    "server.server.Server.start": "0e7d0b97",
    "server.server.Server.stop": "9a80c8b0",
    "server.server.Server._setup_server_nodes": "826966d7",
    "server.server.Server._set_endpoints": "0b382705",
    "server.server.Server._get_bind_socket_info": "b32e3e18",
    "server.server.Server.set_build_info": "b4125d4a",
}


def found(name: str) -> Any:
    module, class_name, function = name.rsplit(".", 2)
    return getattr(getattr(importlib.import_module(f"asyncua.{module}"), class_name), function)


def test_asyncua_is_the_version_the_seam_was_written_for() -> None:
    pins = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "dependencies"
    ]
    assert "asyncua==2.1.0" in pins
    assert importlib.metadata.version("asyncua") == "2.1.0"


@pytest.mark.parametrize("name", sorted(UPSTREAM))
def test_upstream_does_what_it_did(name: str) -> None:
    source = inspect.getsource(found(name))
    assert hashlib.sha256(source.encode()).hexdigest()[:8] == UPSTREAM[name]


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_we_override_exists_upstream_with_our_parameters(name: str) -> None:
    ours = OURS[name]
    overridden = 0
    for own_name, own in vars(ours).items():
        base = getattr(ours.__mro__[1], own_name, None)
        if not inspect.isfunction(own) or not inspect.isfunction(base) or own_name == "__init__":
            continue
        overridden += 1
        assert list(inspect.signature(own).parameters) == list(inspect.signature(base).parameters), own_name
        assert inspect.iscoroutinefunction(own) == inspect.iscoroutinefunction(base), own_name
    assert overridden or name in {"Attributes", "Methods"}  # which only add


def test_every_override_of_a_private_name_is_watched() -> None:
    watched = {name.rsplit(".", 1)[1] for name in UPSTREAM}
    for ours in OURS.values():
        upstream = ours.__mro__[1]
        private = {name for name in vars(ours) if name.startswith("_") and not name.startswith("__")}
        assert {name for name in private if inspect.isfunction(getattr(upstream, name, None))} <= watched

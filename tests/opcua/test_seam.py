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

from edge_opcua.opcua.seam import channel, events, processor, protocol, server, services, session

OURS = {
    "Channel": channel.Channel,
    "Core": server.Core,
    "SecureServer": server.SecureServer,
    "Processor": processor.Processor,
    "Protocol": protocol.Protocol,
    "Listener": protocol.Listener,
    "Session": session.Session,
    "Attributes": services.Attributes,
    "Methods": services.Methods,
    "Subscriptions": events.Subscriptions,
    "Items": events.Items,
    "Where": events.Where,
}

UPSTREAM: dict[str, str] = {
    "asyncua.server.uaprocessor.UaProcessor.__init__": "c6499feb2c",
    "asyncua.server.uaprocessor.UaProcessor.set_policies": "5bd3151e7d",
    "asyncua.server.uaprocessor.UaProcessor.send_response": "1acbe87691",
    "asyncua.server.uaprocessor.UaProcessor.open_secure_channel": "87101047ad",
    "asyncua.server.uaprocessor.UaProcessor.get_publish_request": "0a49bf1a7a",
    "asyncua.server.uaprocessor.UaProcessor.forward_publish_response": "9e380500dd",
    "asyncua.server.uaprocessor.UaProcessor.process": "70af297c7a",
    "asyncua.server.uaprocessor.UaProcessor.process_message": "303c6a0c8e",
    "asyncua.server.uaprocessor.UaProcessor._process_message": "029ff357dd",
    "asyncua.server.uaprocessor.UaProcessor.close": "de93bcf8a4",
    "asyncua.server.uaprocessor.UaProcessor._should_close_session_on_transport_loss": "612283235d",
    "asyncua.server.binary_server_asyncio.OPCUAProtocol.__init__": "a204fe2224",
    "asyncua.server.binary_server_asyncio.OPCUAProtocol.connection_made": "67ce5af612",
    "asyncua.server.binary_server_asyncio.OPCUAProtocol.connection_lost": "f5e287852b",
    "asyncua.server.binary_server_asyncio.OPCUAProtocol.data_received": "bacb98f07f",
    "asyncua.server.binary_server_asyncio.OPCUAProtocol._activation_watchdog": "16d7c49f45",
    "asyncua.server.binary_server_asyncio.OPCUAProtocol._process_received_message_loop": "ab007a8dff",
    "asyncua.server.binary_server_asyncio.OPCUAProtocol._process_one_msg": "c2162392f0",
    "asyncua.server.binary_server_asyncio.BinaryServer.__init__": "f58a8d12cf",
    "asyncua.server.binary_server_asyncio.BinaryServer.set_policies": "2a4be07419",
    "asyncua.server.binary_server_asyncio.BinaryServer._make_protocol": "5c0c260fe6",
    "asyncua.server.binary_server_asyncio.BinaryServer.start": "b994db5df7",
    "asyncua.server.binary_server_asyncio.BinaryServer.stop": "ecc53780c5",
    "asyncua.common.connection.SecureConnection.__init__": "0674abc2a5",
    "asyncua.common.connection.SecureConnection.open": "a5e9ac742d",
    "asyncua.common.connection.SecureConnection.is_open": "cc6ece7287",
    "asyncua.common.connection.SecureConnection.select_policy": "516345b8a0",
    "asyncua.common.connection.SecureConnection.revolve_tokens": "eeabe1e8d8",
    "asyncua.common.connection.SecureConnection.message_to_binary": "dca1c22c70",
    "asyncua.common.connection.SecureConnection._check_sym_header": "a8c245d21f",
    "asyncua.common.connection.SecureConnection._check_incoming_chunk": "f6c953e6be",
    "asyncua.common.connection.SecureConnection.receive_from_header_and_body": "d4468ec7bf",
    "asyncua.common.connection.SecureConnection._receive": "e24031f2ed",
    "asyncua.common.connection.TransportLimits.create_acknowledge_and_set_limits": "3961625b1a",
    "asyncua.common.connection.MessageChunk.from_header_and_body": "2566aadee6",
    "asyncua.server.internal_server.InternalServer.__init__": "9a151b9f9c",
    "asyncua.server.internal_server.InternalServer.start": "46457dca49",
    "asyncua.server.internal_server.InternalServer.stop": "1f47ced4d3",
    "asyncua.server.internal_server.InternalServer.create_session": "20ddcc7f3b",
    "asyncua.server.internal_server.InternalServer.lookup_external_session": "93f4ee60c9",
    "asyncua.server.internal_server.InternalServer.register_external_session": "c78e1de596",
    "asyncua.server.internal_server.InternalServer.unregister_external_session": "b57afce91b",
    "asyncua.server.internal_server.InternalServer.get_endpoints": "d59ebe6fc0",
    "asyncua.server.internal_server.InternalServer.find_servers": "6c06d17102",
    "asyncua.server.internal_server.InternalServer._mangle_endpoint_url": "030d8e2339",
    "asyncua.server.internal_server.InternalServer.register_server": "bcdc4a4c8c",
    "asyncua.server.internal_server.InternalServer.register_server2": "9888833fac",
    "asyncua.server.internal_session.InternalSession.__init__": "9d9ae9d765",
    "asyncua.server.internal_session.InternalSession.create_session": "b588ef2ca1",
    "asyncua.server.internal_session.InternalSession.activate_session": "cfe664a2bb",
    "asyncua.server.internal_session.InternalSession.close_session": "e49eeda62b",
    "asyncua.server.internal_session.InternalSession.touch": "52dc58f107",
    "asyncua.server.internal_session.InternalSession.read": "79d9757428",
    "asyncua.server.internal_session.InternalSession.write": "ed28337296",
    "asyncua.server.internal_session.InternalSession.call": "f6bf9e5fb2",
    "asyncua.server.internal_session.InternalSession.create_subscription": "3cc1876d55",
    "asyncua.server.internal_session.InternalSession.create_monitored_items": "65301bafcb",
    "asyncua.server.internal_session.InternalSession.modify_monitored_items": "0c2f3304cc",
    "asyncua.server.internal_session.InternalSession.delete_monitored_items": "c468c2ac4c",
    "asyncua.server.internal_session.InternalSession.set_monitoring_mode": "f8837d1d40",
    "asyncua.server.internal_session.InternalSession.set_publishing_mode": "f3acfdc7b4",
    "asyncua.server.internal_session.InternalSession.delete_subscriptions": "10d6506b7b",
    "asyncua.server.internal_session.InternalSession.republish": "c2c0edb42d",
    "asyncua.server.internal_session.InternalSession.publish": "8d24b7d52f",
    "asyncua.server.internal_session.InternalSession.modify_subscription": "a2a4c029a2",
    "asyncua.server.internal_session.InternalSession.transfer_subscriptions": "92127c625a",
    "asyncua.server.subscription_service.SubscriptionService.__init__": "4a6bf40754",
    "asyncua.server.subscription_service.SubscriptionService.create_subscription": "284f2d4590",
    "asyncua.server.subscription_service.SubscriptionService._clamp_lifetime_count": "7957ecfb00",
    "asyncua.server.subscription_service.SubscriptionService._clamp_keep_alive_count": "0ac20dfcb0",
    "asyncua.server.subscription_service.SubscriptionService.delete_subscriptions": "8dc2496e07",
    "asyncua.server.subscription_service.SubscriptionService.trigger_event": "3778f0774f",
    "asyncua.server.internal_subscription.InternalSubscription.__init__": "7167eafec5",
    "asyncua.server.internal_subscription.InternalSubscription.publish_results": "61ce721eff",
    "asyncua.server.internal_subscription.InternalSubscription.enqueue_event": "f195121391",
    "asyncua.server.monitored_item_service.MonitoredItemService.__init__": "6179ce8fbf",
    "asyncua.server.monitored_item_service.MonitoredItemService._create_events_monitored_item": "0484abac1e",
    "asyncua.server.monitored_item_service.MonitoredItemService._modify_monitored_item": "6502d26e77",
    "asyncua.server.monitored_item_service.MonitoredItemService._revise_queue_size": "59288a8a22",
    "asyncua.server.monitored_item_service.MonitoredItemService.trigger_event": "a8e2125882",
    "asyncua.server.monitored_item_service.MonitoredItemService._trigger_event": "aa8e40f382",
    "asyncua.server.monitored_item_service.WhereClauseEvaluator.__init__": "df7d261fef",
    "asyncua.server.monitored_item_service.WhereClauseEvaluator.eval": "a69374f045",
    "asyncua.server.monitored_item_service.WhereClauseEvaluator._eval_el": "e87aee4a10",
    "asyncua.server.monitored_item_service.WhereClauseEvaluator._eval_op": "08df7ae98a",
    "asyncua.server.monitored_item_service.WhereClauseEvaluator._like_operator": "3e49cbe270",
    "asyncua.server.address_space.AttributeService.__init__": "5fea1c0464",
    "asyncua.server.address_space.AttributeService.write": "5a6028729a",
    "asyncua.server.address_space.MethodService.__init__": "f1b20b94be",
    "asyncua.server.address_space.MethodService.stop": "a2a9964f95",
    "asyncua.server.address_space.MethodService.call": "caea17f731",
    "asyncua.server.address_space.MethodService._call": "54a9854595",
    "asyncua.server.address_space.MethodService._run_method": "f230eeacbe",
    "asyncua.server.address_space.AddressSpace.read_attribute_value": "836c43c0cc",
    "asyncua.common.events.Event.__init__": "484330d6d0",
    "asyncua.common.events.Event.add_property": "00490d99c3",
    "asyncua.common.events.Event.browse_path_to_attribute_name": "7bf77c82e0",
    "asyncua.crypto.security_policies.Cryptography.verify": "74dad8e2de",
    "asyncua.crypto.security_policies.Cryptography.decrypt": "62ded18a82",
    "asyncua.crypto.security_policies.SecurityPolicyFactory.__init__": "3c14aba172",
    "asyncua.crypto.security_policies.SecurityPolicyFactory.matches": "ea8426c9e8",
    "asyncua.crypto.security_policies.SecurityPolicyFactory.create": "e107f3f597",
    "asyncua.crypto.security_policies.SecurityPolicyBasic256Sha256.__init__": "47d82c1077",
    "asyncua.crypto.security_policies.SecurityPolicyNone.__init__": "494370323f",
    "asyncua.server.server.Server.__init__": "9b02f17cb5",
    "asyncua.server.server.Server.init": "62a8c90e82",
    "asyncua.server.server.Server.start": "0e7d0b97d1",
    "asyncua.server.server.Server.stop": "9a80c8b0dc",
    "asyncua.server.server.Server._setup_server_nodes": "826966d73e",
    "asyncua.server.server.Server._set_endpoints": "0b38270531",
    "asyncua.server.server.Server._get_bind_socket_info": "b32e3e184e",
    "asyncua.server.server.Server.set_build_info": "b4125d4af6",
}


def found(name: str) -> Any:
    module, class_name, function = name.rsplit(".", 2)
    return getattr(getattr(importlib.import_module(module), class_name), function)


def test_asyncua_is_the_version_the_seam_was_written_for() -> None:
    pins = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "dependencies"
    ]
    assert "asyncua==2.1.0" in pins
    assert importlib.metadata.version("asyncua") == "2.1.0"


@pytest.mark.parametrize("name", sorted(UPSTREAM))
def test_upstream_does_what_it_did(name: str) -> None:
    source = inspect.getsource(found(name))
    assert hashlib.sha256(source.encode()).hexdigest()[:10] == UPSTREAM[name]


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
    assert overridden or name == "Attributes"  # which only adds


def test_every_override_of_a_private_name_is_watched() -> None:
    watched = {name.rsplit(".", 1)[1] for name in UPSTREAM}
    for ours in OURS.values():
        upstream = ours.__mro__[1]
        private = {name for name in vars(ours) if name.startswith("_") and not name.startswith("__")}
        assert {name for name in private if inspect.isfunction(getattr(upstream, name, None))} <= watched

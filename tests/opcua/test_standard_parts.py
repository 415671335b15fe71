"""Capabilities, service level, folding and audit records without a server: pure rules and their tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import Primitives, nodeid_from_binary
from structlog.testing import capture_logs

from edge_opcua.app.command.console import level_text
from edge_opcua.core.values import BAD_USER_ACCESS_DENIED
from edge_opcua.errors import ControlError
from edge_opcua.opcua.events import PlantEvent
from edge_opcua.opcua.limits import OperationLimits, ServerLimits
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.services.counts import ServerCounts, SessionCounts
from edge_opcua.opcua.standard.audit import (
    FOLD_S,
    MAX_EQUAL,
    MAX_KINDS,
    MAX_WAITING,
    TYPES,
    AuditTrail,
    Folding,
    audit_event,
    journal_record,
)
from edge_opcua.opcua.standard.capabilities import PROFILES, operation_limits, profiles
from edge_opcua.opcua.standard.diagnostics import security_of
from edge_opcua.opcua.standard.health import (
    ALL_GOOD,
    LANE_DOWN,
    LINK_LOST,
    MAINTENANCE,
    NO_DATA,
    NOT_RECORDED,
    Health,
    service_level,
)
from edge_opcua.opcua.standard.status import ServerState
from edge_opcua.testing import ManualClock

DOCS = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize(
    ("health", "level"),
    [
        (Health(links=2), 255),
        (Health(links=0), 255),
        (Health(links=2, recorded=False), 199),
        (Health(links=2, lanes_down=1, recorded=False), 150),
        (Health(links=2, links_lost=1, lanes_down=1), 100),
        (Health(links=2, links_lost=2), 1),
        (Health(links=2, maintenance=True), 0),
    ],
)
def test_the_worst_thing_that_is_the_case_makes_the_service_level(health: Health, level: int) -> None:
    # Part 4 §6.6.2.4.2: 0 maintenance, 1 no data, 2-199 degraded, 200-255 healthy.
    assert service_level(health) == level


def test_only_services_that_exist_have_an_operation_limit_and_none_is_zero() -> None:
    # Part 5 §6.3.11.
    limits = operation_limits(OperationLimits(), ["Read", "Write", "Browse", "CreateMonitoredItems"])
    assert limits == {
        "MaxNodesPerRead": 10_000,
        "MaxNodesPerWrite": 1000,
        "MaxNodesPerBrowse": 1000,
        "MaxMonitoredItemsPerCall": 10_000,
    }
    assert ServerLimits().min_sampling_ms > 0


def test_a_profile_is_claimed_only_with_what_it_needs() -> None:
    # Part 7 (1.04) §6.6.3, §6.6.69: a security policy and sign-in by password are part of it.
    embedded = PROFILES[0]
    assert embedded in profiles(["Basic256Sha256"], ["Anonymous", "Server/UserNamePassword"])
    assert embedded not in profiles(["Basic256Sha256"], ["Anonymous"])
    without = profiles(["Aes256_Sha256_RsaPss", "None"], ["Server/UserNamePassword"])
    assert embedded not in without
    assert "http://opcfoundation.org/UA/SecurityPolicy#None" in without
    assert not any("StandardUA2017" in profile for profile in PROFILES)


async def test_seconds_till_shutdown_count_down_and_are_zero_before() -> None:
    # Part 5 §12.10.
    clock = ManualClock()
    state = ServerState("urn:p", "maker", "product", clock)
    assert (state.seconds_till_shutdown(), state.structure().State) == (0, ua.ServerState.Running)
    state.announce_shutdown("told to", 2.5)
    assert (state.seconds_till_shutdown(), state.structure().State) == (3, ua.ServerState.Shutdown)
    await clock.advance(2.0)
    assert state.seconds_till_shutdown() == 1
    await clock.advance(5.0)
    assert state.seconds_till_shutdown() == 0
    assert state.structure().ShutdownReason.Text == "told to"


def test_refusals_are_counted_by_what_was_asked_and_why() -> None:
    # Part 5 §12.9.
    counts = ServerCounts()
    counts.refused(ua.StatusCodes.BadCertificateInvalid, session_wanted=True)
    counts.refused(ua.StatusCodes.BadTooManySessions, session_wanted=True)
    counts.refused(ua.StatusCodes.BadSessionIdInvalid, session_wanted=False)
    counts.refused(ua.StatusCodes.BadNothingToDo, session_wanted=False)
    assert (counts.rejected_session_count, counts.security_rejected_session_count) == (2, 1)
    assert (counts.rejected_requests_count, counts.security_rejected_requests_count) == (2, 1)


def test_a_session_counts_its_requests_by_service() -> None:
    # Part 5 §12.11.
    counts = SessionCounts()
    counts.asked("Read")
    counts.asked("Read")
    counts.refused("Read", ua.StatusCodes.BadNothingToDo)
    assert (counts.services["Read"].total_count, counts.services["Read"].error_count) == (2, 1)
    assert (counts.all.total_count, counts.all.error_count, counts.unauthorized_request_count) == (2, 1, 0)


def test_the_reference_names_every_profile_member_level_and_act() -> None:
    pages = {
        name: (DOCS / f"{name}.md").read_text("utf-8") for name in ("opcua-profiles", "diagnostics", "audit")
    }
    for uri in PROFILES:
        assert uri.removeprefix("http://opcfoundation.org/UA-Profile/") in pages["opcua-profiles"]
    for part in dataclasses.fields(ua.ServerDiagnosticsSummaryDataType):
        assert f"`{part.name}`" in pages["diagnostics"]
    for level in (ALL_GOOD, NOT_RECORDED, LANE_DOWN, LINK_LOST, NO_DATA, MAINTENANCE):
        assert f"| {level} |" in pages["diagnostics"]
        assert level == ALL_GOOD or level_text(level)
    for kind in TYPES:
        assert f"`{kind}`" in pages["audit"]


# --- audit -------------------------------------------------------------------------------------------


def refused(port: int, who: str = "urn:stranger", **facts: Any) -> Act:
    return Act(
        "channel.refused", ua.StatusCodes.BadSecurityChecksFailed, f"{who} (10.0.0.7:{port})", facts=facts
    )


async def test_a_flood_of_strangers_is_one_record_and_a_count() -> None:
    clock = ManualClock()
    folding = Folding(clock)
    told = [folding.take(refused(port, code="S401")) for port in range(40_000, 40_500)]
    assert told.count(True) == 1
    assert folding.due() == []
    await clock.advance(FOLD_S)
    (rest,) = folding.due()
    assert rest.facts == {"code": "S401", "more_in_a_minute": 499}
    assert folding.due() == []
    assert folding.take(refused(1, code="S401"))


async def test_a_stranger_who_changes_his_name_is_folded_too() -> None:
    clock = ManualClock()
    folding = Folding(clock)
    told = [folding.take(refused(1, who=f"urn:stranger:{number}")) for number in range(1000)]
    assert told.count(True) == MAX_KINDS
    await clock.advance(FOLD_S)
    (rest,) = folding.due()
    assert (rest.kind, rest.facts["more_in_a_minute"]) == ("refusals.more", 1000 - MAX_KINDS)


def test_each_name_that_somebody_tries_is_told() -> None:
    folding = Folding(ManualClock())
    told = [folding.take(refused(port, code="S450", user=user)) for port in (1, 2) for user in ("a", "b")]
    assert told == [True, True, False, False]


def test_what_was_done_is_never_folded() -> None:
    folding = Folding(ManualClock())
    assert all(folding.take(Act("value.written", who="a")) for _ in range(1000))


def test_a_client_that_connects_all_the_time_is_counted_beyond_a_number() -> None:
    folding = Folding(ManualClock())
    told = [folding.take(Act("session.created", who=f"a (10.0.0.7:{port})")) for port in range(1000, 1100)]
    assert told.count(True) == MAX_EQUAL
    (rest,) = folding.rest()
    assert rest.facts["more_in_a_minute"] == 100 - MAX_EQUAL


def test_a_client_that_calls_itself_otherwise_each_time_is_one_client() -> None:
    folding = Folding(ManualClock())
    told = [folding.take(Act("session.created", who=f"a{n} (10.0.0.7:{n})")) for n in range(1000, 1100)]
    assert told.count(True) == MAX_EQUAL
    assert folding.take(Act("session.created", who="a (10.0.0.8:1)"))
    assert folding.take(Act("session.activated", who="anna, a (10.0.0.7:1)", facts={"user": "anna"}))


def test_a_journal_record_says_who_what_and_how_it_ended_and_holds_no_control_characters() -> None:
    act = Act(
        "value.written",
        BAD_USER_ACCESS_DENIED,
        "eve\n(10.0.0.7:1)",
        node=ua.NodeId("Press01.x", 7),
        facts={"reason": "no right", "roles": ("Observer",), "index_range": "", "given": {"AB": ["x\n"]}},
        event={"NewValue": ua.Variant(1.5)},
    )
    assert journal_record(act) == {
        "what": "value.written",
        "who": "eve?(10.0.0.7:1)",
        "outcome": "BadUserAccessDenied: no right",
        "node": "ns=7;s=Press01.x",
        "new": "1.5",
        "reason": "no right",
        "roles": ["Observer"],
        "index_range": "",
        "given": {"AB": ["x?"]},
    }


@pytest.mark.parametrize(
    ("act", "event_type", "source"),
    [
        (refused(1, code="S401"), "AuditCertificateUntrustedEventType", "Security/Certificate"),
        (refused(1, code="S402"), "AuditCertificateExpiredEventType", "Security/Certificate"),
        (refused(1, code="S408"), "AuditCertificateRevokedEventType", "Security/Certificate"),
        (refused(1, code="S421"), "AuditCertificateDataMismatchEventType", "Security/Certificate"),
        (refused(1, code="S415"), "AuditOpenSecureChannelEventType", "SecureChannel/OpenSecureChannel"),
        (Act("session.created"), "AuditCreateSessionEventType", "Session/CreateSession"),
        (Act("session.activated"), "AuditActivateSessionEventType", "Session/ActivateSession"),
        (Act("session.closed"), "AuditSessionEventType", "Session/CloseSession"),
        (Act("request.cancelled"), "AuditCancelEventType", "Session/Cancel"),
        (Act("value.written"), "AuditWriteUpdateEventType", "Attribute/Write"),
        (Act("method.called"), "AuditUpdateMethodEventType", "Attribute/Call"),
        (Act("url.mismatched"), "AuditUrlMismatchEventType", "Session/CreateSession"),
        (Act("trust.changed"), "TrustListUpdatedAuditEventType", "Method/TrustList"),
        (Act("certificate.updated"), "CertificateUpdatedAuditEventType", "Method/UpdateCertificate"),
        (Act("user.locked"), "AuditSecurityEventType", "Server"),
    ],
)
def test_each_act_is_an_event_of_its_standard_type(act: Act, event_type: str, source: str) -> None:
    # Part 5 §6.5.3 to §6.5.28, with the SourceName each of them prescribes.
    event = audit_event(act, "urn:server", None)
    assert event.EventType == ua.NodeId(getattr(ua.ObjectIds, event_type))
    assert event.SourceName == source
    assert event.Status is (act.status == 0)
    assert event.ServerId == "urn:server"


class Listener:
    """What the trail told."""

    def __init__(self) -> None:
        self.records: list[Mapping[str, Any]] = []
        self.events: list[PlantEvent] = []
        self.broken = False

    def journal(self, record: Mapping[str, Any]) -> None:
        if self.broken:
            raise ControlError("a message of 2000000 bytes is over the limit")
        self.records.append(record)

    async def emit(self, event: PlantEvent, notifiers: Iterable[ua.NodeId]) -> None:
        if self.broken:
            raise ValueError("a bug in delivery")
        self.events.append(event)

    def trail(self, **changes: Any) -> AuditTrail:
        settings: dict[str, Any] = {
            "server_uri": "urn:s",
            "clock": ManualClock(),
            "journaled_elsewhere": lambda act: act.kind == "value.written",
            "harmless": lambda act: act.kind == "method.called",
        }
        return AuditTrail(self.emit, self.journal, **{**settings, **changes})


def test_a_refusal_of_the_channel_is_recorded_by_its_name() -> None:
    # Status names of the whole specification, not only those that the tag bus knows.
    record = journal_record(Act("channel.refused", ua.StatusCodes.BadSecurityChecksFailed))
    assert record["outcome"] == "BadSecurityChecksFailed"


def test_what_somebody_may_not_do_is_logged_once_with_the_reason() -> None:
    trail = Listener().trail(harmless=lambda _: False, journaled_elsewhere=lambda _: False)
    refused_write = Act(
        "value.written",
        BAD_USER_ACCESS_DENIED,
        "scada (10.0.0.7:1)",
        node=ua.NodeId("Press01.x", 7),
        facts={"reason": "not for Anonymous, Observer"},
    )
    with capture_logs() as logs:
        trail.tell(refused_write)
        trail.tell(refused_write)
        trail.tell(Act("value.written"))
        trail.tell(Act("value.written", ua.StatusCodes.BadOutOfRange))
    assert logs == [
        {
            "event": "access.refused",
            "log_level": "info",
            "act": "value.written",
            "node": "ns=7;s=Press01.x",
            "user": "scada (10.0.0.7:1)",
            "status": "BadUserAccessDenied",
            "reason": "not for Anonymous, Observer",
        }
    ]


def test_what_another_process_records_is_not_recorded_twice() -> None:
    listener = Listener()
    trail = listener.trail()
    trail.tell(Act("value.written"))
    trail.tell(Act("session.created"))
    assert [record["what"] for record in listener.records] == ["session.created"]


def test_what_changes_nothing_is_no_record_and_what_no_client_did_no_event() -> None:
    listener = Listener()
    trail = listener.trail()
    for kind in ("request.cancelled", "certificate.expires", "method.called"):
        trail.tell(Act(kind))
    assert [record["what"] for record in listener.records] == ["certificate.expires"]


def test_telling_never_fails_and_never_holds_more_than_its_bound() -> None:
    listener = Listener()
    trail = listener.trail()
    for _ in range(MAX_WAITING + 5):
        trail.tell(Act("trust.changed"))
    assert trail.dropped == 5
    assert len(listener.records) == MAX_WAITING + 5
    listener.broken = True
    trail.tell(Act("session.created"))

    def bug(_: Act) -> bool:
        raise ValueError("a bug")

    listener.trail(journaled_elsewhere=bug).tell(Act("session.created"))


def test_the_security_diagnostics_name_their_encoding_as_text() -> None:
    # Part 5 §12.12: Encoding is a String; asyncua writes one byte there.
    class Client:
        policy_uri = "urn:policy"
        certificate = b"der"

    class Somebody:
        session_id = ua.NodeId(5, 1)
        user_name = "anna"
        user_history = ("", "anna")
        mechanism = "UserName"
        secured = True
        client = Client()

    body = Buffer(security_of(Somebody()).Body)  # type: ignore[arg-type]
    assert nodeid_from_binary(body) == ua.NodeId(5, 1)
    text = Primitives.String.unpack
    assert text(body) == "anna"
    assert Primitives.Int32.unpack(body) == 2
    assert [text(body), text(body)] == ["", "anna"]
    assert [text(body), text(body), text(body)] == ["UserName", "UA Binary", "opc.tcp"]
    assert Primitives.Int32.unpack(body) == ua.MessageSecurityMode.SignAndEncrypt
    assert text(body) == "urn:policy"
    assert Primitives.Bytes.unpack(body) == b"der"
    assert len(body) == 0


@pytest.mark.parametrize(("length", "is_source"), [(1024, True), (1025, False)])
def test_the_source_of_an_audit_event_is_no_node_that_somebody_made_up_of_a_megabyte(
    length: int, *, is_source: bool
) -> None:
    node = ua.NodeId("x" * length, 7)
    event = audit_event(Act("value.written", ua.StatusCodes.BadNodeIdUnknown, node=node), "urn:server", None)
    assert event.SourceNode == (node if is_source else ua.NodeId(ua.ObjectIds.Server))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (ua.Variant([1.0] * 65_536), True),
        (ua.Variant([1.0] * 65_537), False),
        (ua.Variant("x" * 65_537), False),
        (ua.Variant(["x" * 60_000, "y" * 6000]), False),
        (ua.Variant(b"x" * 65_536), True),
    ],
)
def test_values_of_megabytes_are_not_in_audit_events_and_that_is_said(
    value: ua.Variant, *, told: bool
) -> None:
    # What a client writes would wait in the queue of whoever subscribed to audit events, a thousand times.
    act = Act(
        "value.written", node=ua.NodeId("array", 7), event={"OldValue": ua.Variant(1), "NewValue": value}
    )
    event = audit_event(act, "urn:server", None)
    assert event.OldValue == 1
    assert hasattr(event, "NewValue") is told
    assert ("values too large to tell" in event.Message.Text) is not told


def test_a_record_has_the_beginning_of_what_was_long() -> None:
    long = Act(
        "value.written", node=ua.NodeId("x" * 10_000, 7), event={"NewValue": ua.Variant(list(range(100_000)))}
    )
    record = journal_record(long)
    assert len(record["node"]) == 500
    assert record["new"].startswith("[0, 1, 2")
    assert "49" in record["new"]
    assert "50" not in record["new"]

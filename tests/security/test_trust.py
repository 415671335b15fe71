from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_opcua.errors import SecurityError
from edge_opcua.security import trust as trust_module
from edge_opcua.security.chain import leaf_of, split_chain
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import (
    REASONS,
    Decision,
    Knock,
    TrustList,
    describe,
    refusal,
    revocations_in,
)
from edge_opcua.testing import ManualClock
from tests.security.certificates import NOW, Identity, make, revoke

PEER = "192.0.2.9:50123"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(utc_ns=round(NOW.timestamp()) * 10**9)


@pytest.fixture
def pki_dir(tmp_path: Path) -> Path:
    for part in ("trusted", "issuers", "rejected"):
        (tmp_path / part).mkdir()
    return tmp_path


@pytest.fixture
def listed(pki_dir: Path, clock: ManualClock) -> TrustList:
    return TrustList(pki_dir, clock=clock)


def admit(listed: TrustList, sent: bytes, address: str) -> tuple[Decision, Knock | None]:
    """What the server does for each channel: decide, and keep what is refused."""
    decision = listed.decide(sent)
    return decision, None if decision.trusted else listed.record(decision, address)


def client(name: str = "UaExpert@LAPTOP-7", **spoiled: object) -> Identity:
    return make(name, start=NOW - dt.timedelta(days=1), **spoiled)  # type: ignore[arg-type]


# --- deciding ------------------------------------------------------------------------------------------


def test_a_stranger_is_refused_and_kept_with_what_the_operator_needs(
    listed: TrustList, pki_dir: Path, clock: ManualClock
) -> None:
    stranger = client()
    decision, knock = admit(listed, stranger.der, PEER)
    assert not decision.trusted
    assert (decision.code, decision.reason) == ("S401", "not trusted")
    assert knock is not None
    assert [knock] == listed.rejected()
    assert (knock.number, knock.name, knock.address) == (1, "UaExpert@LAPTOP-7", PEER)
    assert knock.application_uri == "urn:test:UaExpert@LAPTOP-7"
    assert knock.thumbprint == stranger.print
    assert knock.when == NOW
    assert knock.file is not None
    assert knock.file.parent == pki_dir / "rejected"
    assert knock.file.read_bytes() == stranger.der


def test_trust_takes_effect_at_the_next_decision(listed: TrustList, pki_dir: Path) -> None:
    stranger = client()
    admit(listed, stranger.der, PEER)
    item = listed.trust(1)
    assert (item.name, item.thumbprint, item.authority) == ("UaExpert@LAPTOP-7", stranger.print, False)
    decision, knock = admit(listed, stranger.der, PEER)
    assert decision.trusted
    assert decision.leaf == stranger.der
    assert knock is None
    assert listed.rejected() == []
    assert list((pki_dir / "rejected").glob("*.json")) == []
    assert listed.trusted() == [item]


# --- roles (Part 18 §4.4.2: an application has roles) ----------------------------------------------------


def test_a_trusted_client_may_read_and_no_more_unless_it_was_given_a_role(listed: TrustList) -> None:
    reader, operator = client("reader"), client("operator")
    for stranger in (reader, operator):
        admit(listed, stranger.der, PEER)
    assert listed.trust(1).roles == {Role.OBSERVER}
    assert listed.trust(2, frozenset({Role.OPERATOR, Role.ENGINEER})).roles == {Role.OPERATOR, Role.ENGINEER}
    assert listed.decide(reader.der).roles == {Role.OBSERVER}
    assert listed.decide(operator.der).roles == {Role.OPERATOR, Role.ENGINEER}
    assert listed.decide(client("nobody").der).roles == frozenset()
    assert {item.name: item.roles for item in listed.trusted()}["operator"] == {Role.OPERATOR, Role.ENGINEER}


def test_every_role_says_what_it_may_do() -> None:
    assert len({role.may for role in Role}) == len(Role)


def test_roles_change_without_a_restart_and_go_with_the_trust(listed: TrustList, pki_dir: Path) -> None:
    one = client("one")
    listed.add(one.der, roles=frozenset({Role.ENGINEER}))
    before = listed.version()
    assert listed.set_roles("one", frozenset({Role.OPERATOR})).roles == {Role.OPERATOR}
    assert listed.version() != before
    assert listed.decide(one.der).roles == {Role.OPERATOR}
    listed.distrust(one.print)
    assert list((pki_dir / "trusted").iterdir()) == []
    listed.trust(1)
    assert listed.decide(one.der).roles == {Role.OBSERVER}
    with pytest.raises(SecurityError, match="no trusted client"):
        listed.set_roles("two", frozenset({Role.OPERATOR}))


def test_who_is_trusted_through_an_authority_has_the_authoritys_roles(listed: TrustList) -> None:
    plant_ca = make("plant CA", uri=None, authority=True, start=NOW - dt.timedelta(days=1), purposes=None)
    listed.add(plant_ca.der, roles=frozenset({Role.OPERATOR}))
    member = client("member", issuer=plant_ca)
    assert listed.decide(member.der).roles == {Role.OPERATOR}
    listed.add(member.der)  # an entry of its own says more than the authority's
    assert listed.decide(member.der).roles == {Role.OBSERVER}


@pytest.mark.parametrize(
    "note",
    [
        "",
        "[]",
        "{ torn",
        '{"roles": ["SecurityAdmin"]}',
        '{"thumbprint": "IT", "roles": ["Anonymous"]}',
        '{"thumbprint": "IT", "roles": 7}',
        '{"thumbprint": "IT", "roles": [7]}',
        '{"thumbprint": "another certificate", "roles": ["SecurityAdmin"]}',
    ],
)
def test_a_note_that_is_not_about_this_certificate_gives_it_the_least(
    listed: TrustList, pki_dir: Path, note: str
) -> None:
    one = client("one")
    (pki_dir / "trusted" / "one.der").write_bytes(one.der)
    (pki_dir / "trusted" / "one.json").write_text(note.replace("IT", one.print))
    assert listed.decide(one.der).roles == {Role.OBSERVER}


def test_a_certificate_copied_there_by_hand_is_trusted_der_or_pem(listed: TrustList, pki_dir: Path) -> None:
    one, two = client("one"), client("two")
    (pki_dir / "trusted" / "whatever.crt").write_bytes(one.der)
    (pki_dir / "trusted" / "two.pem").write_bytes(two.pem)
    assert listed.decide(one.der).trusted
    assert listed.decide(two.der).trusted


def test_a_change_of_the_lists_is_seen_from_their_version(listed: TrustList, pki_dir: Path) -> None:
    seen = [listed.version()]
    one = client("one")
    listed.add(one.der)
    seen.append(listed.version())
    listed.distrust(one.print)
    seen.append(listed.version())
    (pki_dir / "issuers" / "ca.der").write_bytes(one.der)
    seen.append(listed.version())
    assert len(set(seen)) == 4
    assert TrustList(pki_dir / "none").version() == ()


def test_only_the_very_certificate_is_trusted_not_its_name(listed: TrustList) -> None:
    listed.add(client("twin", serial=1).der)
    assert listed.decide(client("twin", serial=2).der).code == "S401"


@pytest.mark.parametrize(
    ("spoiled", "code"),
    [
        ({"start": NOW - dt.timedelta(days=20), "days": 10}, "S402"),
        ({"start": NOW + dt.timedelta(days=1)}, "S403"),
        ({"bits": 1024}, "S404"),
        ({"key": ec.generate_private_key(ec.SECP256R1())}, "S404"),
        ({"signing": False}, "S409"),
        ({"purposes": (ExtendedKeyUsageOID.CODE_SIGNING,)}, "S409"),
        ({"uri": None}, "S410"),
    ],
)
def test_a_certificate_with_one_fault_is_refused_even_if_it_is_in_the_list(
    listed: TrustList, pki_dir: Path, spoiled: dict[str, object], code: str
) -> None:
    identity = make(f"spoiled-{code}", **{"start": NOW - dt.timedelta(days=1), **spoiled})  # type: ignore[arg-type]
    (pki_dir / "trusted" / "it.der").write_bytes(identity.der)
    decision = listed.decide(identity.der)
    assert not decision.trusted
    assert decision.code == code
    assert decision.reason.startswith(REASONS[code][0])


def test_a_weak_hash_is_refused_in_a_certificate_and_in_its_issuer(listed: TrustList, pki_dir: Path) -> None:
    old = client("old")
    (pki_dir / "trusted" / "old.der").write_bytes(old.as_sha1())
    assert listed.decide(old.as_sha1()).reason == "signed with a weak hash (sha1)"
    start = NOW - dt.timedelta(days=1)
    issuer = make("old CA", uri=None, authority=True, start=start, purposes=None)
    (pki_dir / "trusted" / "ca.der").write_bytes(issuer.as_sha1())
    assert listed.decide(client("new", issuer=issuer).der).code == "S405"


@pytest.mark.parametrize(
    "kind",
    [{"plain": True}, {"purposes": None}, {"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)}],
)
def test_certificates_of_older_clients_are_taken(listed: TrustList, kind: dict[str, object]) -> None:
    identity = client("older", **kind)
    listed.add(identity.der)
    assert listed.decide(identity.der).trusted


def test_nothing_and_garbage_have_their_own_reasons(listed: TrustList, pki_dir: Path) -> None:
    for sent, code in (
        (b"", "S411"),
        (b"garbage", "S406"),
        (b"\x30\x82\xff\xff\x00", "S406"),
        (b"\x30\x80\x00\x00", "S406"),
        (b"\x30\x03abc", "S406"),
        (b"\x00" * 40_000, "S406"),
        (client().der[:-1], "S406"),
        (client().der * 7, "S406"),
    ):
        decision, knock = admit(listed, sent, PEER)
        assert decision.code == code
        assert knock is not None
        assert knock.number == 0
        assert knock.file is None
    assert list((pki_dir / "rejected").iterdir()) == []
    assert leaf_of(b"garbage") == b""
    with pytest.raises(ValueError, match="no certificate"):
        split_chain(b"")


def test_a_field_that_is_only_found_broken_when_read_refuses(listed: TrustList, pki_dir: Path) -> None:
    # An IPAddress of 28 bytes among the names: the certificate loads, its names do not.
    identity = make("odd", uri="urn:odd:aaaaaaaaaaaaaaaaaaaa", start=NOW - dt.timedelta(days=1))
    at = identity.der.index(b"\x86\x1curn:odd")
    broken = identity.der[:at] + b"\x87" + identity.der[at + 1 :]
    (pki_dir / "trusted" / "odd.der").write_bytes(broken)
    decision, knock = admit(listed, broken, PEER)
    assert decision.code == "S406"
    assert knock is not None
    assert listed.rejected()[0].application_uri == ""
    assert listed.trusted()[0].name == "odd"


# --- authorities ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plant() -> dict[str, Identity]:
    start = NOW - dt.timedelta(days=30)
    root = make("Plant root", uri=None, authority=True, start=start, purposes=None)
    line = make("Line CA", uri=None, authority=True, path_length=0, issuer=root, start=start, purposes=None)
    return {
        "root": root,
        "line": line,
        "leaf": make("SCADA", issuer=line, start=start),
        "direct": make("MES", issuer=root, start=start),
    }


def test_an_authority_in_the_list_vouches_for_its_certificates(
    listed: TrustList, pki_dir: Path, plant: dict[str, Identity]
) -> None:
    assert listed.decide(plant["direct"].der).code == "S401"
    item = listed.add(plant["root"].der)
    assert item.authority
    assert listed.decide(plant["direct"].der).trusted
    # The intermediate is missing, so nothing leads from the leaf to the root.
    assert listed.decide(plant["leaf"].der).code == "S401"
    assert listed.decide(plant["leaf"].der + plant["line"].der).trusted
    (pki_dir / "issuers" / "line.der").write_bytes(plant["line"].der)
    assert listed.decide(plant["leaf"].der).trusted


def test_an_issuer_outside_the_trust_list_vouches_for_nobody(
    listed: TrustList, pki_dir: Path, plant: dict[str, Identity]
) -> None:
    (pki_dir / "issuers" / "root.der").write_bytes(plant["root"].der)
    (pki_dir / "issuers" / "line.der").write_bytes(plant["line"].der)
    assert listed.decide(plant["leaf"].der).code == "S401"
    assert listed.decide(plant["leaf"].der + plant["line"].der + plant["root"].der).code == "S401"


def test_a_trusted_intermediate_needs_its_root(
    listed: TrustList, pki_dir: Path, plant: dict[str, Identity]
) -> None:
    listed.add(plant["line"].der)
    decision = listed.decide(plant["leaf"].der)
    assert decision.code == "S407"
    assert "Plant root" in decision.reason
    (pki_dir / "issuers" / "root.der").write_bytes(plant["root"].der)
    assert listed.decide(plant["leaf"].der).trusted


def test_a_revoked_certificate_is_refused(
    listed: TrustList, pki_dir: Path, plant: dict[str, Identity]
) -> None:
    listed.add(plant["root"].der)
    (pki_dir / "issuers" / "root.crl").write_bytes(revoke(plant["root"]))
    (pki_dir / "issuers" / "line.crl").write_bytes(revoke(plant["line"], plant["leaf"]))
    (pki_dir / "issuers" / "broken.crl").write_bytes(b"garbage")
    assert listed.decide(plant["direct"].der).trusted
    assert listed.decide(plant["leaf"].der + plant["line"].der).code == "S408"


def test_a_revocation_list_may_be_pem(listed: TrustList, pki_dir: Path, plant: dict[str, Identity]) -> None:
    listed.add(plant["root"].der)
    revocations = x509.load_der_x509_crl(revoke(plant["root"], plant["direct"]))
    (pki_dir / "issuers" / "root.crl").write_bytes(revocations.public_bytes(serialization.Encoding.PEM))
    assert listed.decide(plant["direct"].der).code == "S408"


def test_a_revocation_list_by_somebody_else_revokes_nothing(
    listed: TrustList, pki_dir: Path, plant: dict[str, Identity]
) -> None:
    liar = make("Plant root", uri=None, authority=True, purposes=None, key=make("liar").key)
    listed.add(plant["root"].der)
    (pki_dir / "trusted" / "liar.crl").write_bytes(revoke(liar, plant["direct"]))
    assert listed.decide(plant["direct"].der).trusted


def test_a_revocation_counts_for_a_certificate_that_is_trusted_itself(
    listed: TrustList, pki_dir: Path, plant: dict[str, Identity]
) -> None:
    # Part 4 §6.1.3: the revocation check is not left out because the leaf lies in the trust list.
    listed.add(plant["direct"].der)
    assert listed.decide(plant["direct"].der).trusted
    (pki_dir / "issuers" / "root.der").write_bytes(plant["root"].der)
    assert listed.decide(plant["direct"].der).trusted
    (pki_dir / "issuers" / "root.crl").write_bytes(revoke(plant["root"], plant["direct"]))
    assert listed.decide(plant["direct"].der).code == "S408"


def test_a_revocation_holds_after_its_list_has_expired(
    listed: TrustList, pki_dir: Path, plant: dict[str, Identity]
) -> None:
    listed.add(plant["root"].der)
    old = revoke(plant["root"], plant["direct"], start=NOW - dt.timedelta(days=20), days=10)
    (pki_dir / "issuers" / "root.crl").write_bytes(old)
    assert listed.decide(plant["direct"].der).code == "S408"
    other = make("HMI", issuer=plant["root"], start=NOW - dt.timedelta(days=1))
    assert listed.decide(other.der).trusted


@pytest.fixture
def strict(pki_dir: Path, clock: ManualClock) -> TrustList:
    return TrustList(pki_dir, clock=clock, revocation_required=True)


@pytest.mark.parametrize(
    ("spoiled", "reason"),
    [
        (None, "has no list here"),
        ({"start": NOW - dt.timedelta(days=20), "days": 10}, "has only expired lists here"),
        ({"start": NOW + dt.timedelta(days=1)}, "has only expired lists here"),
        ({"partial": True}, "has only expired lists here"),
    ],
)
def test_where_revocation_is_required_an_issuer_without_a_list_in_force_vouches_for_nobody(
    strict: TrustList,
    pki_dir: Path,
    plant: dict[str, Identity],
    spoiled: dict[str, Any] | None,
    reason: str,
) -> None:
    # Part 4 §6.1.3: BadCertificateRevocationUnknown may be suppressed by the administrator, here it is not.
    strict.add(plant["root"].der)
    crl = pki_dir / "trusted" / "root.crl"
    if spoiled is not None:
        crl.write_bytes(revoke(plant["root"], **spoiled))
    decision = strict.decide(plant["direct"].der)
    assert decision.code == "S416"
    assert reason in decision.reason
    crl.write_bytes(revoke(plant["root"]))
    assert strict.decide(plant["direct"].der).trusted
    assert strict.decide(plant["leaf"].der + plant["line"].der).code == "S416"  # of the intermediate, too
    (pki_dir / "issuers" / "line.crl").write_bytes(revoke(plant["line"]))
    assert strict.decide(plant["leaf"].der + plant["line"].der).trusted


def test_where_revocation_is_required_the_issuer_of_a_trusted_certificate_has_to_be_known(
    strict: TrustList, pki_dir: Path, plant: dict[str, Identity]
) -> None:
    strict.add(plant["direct"].der)
    assert strict.decide(plant["direct"].der).code == "S407"
    (pki_dir / "issuers" / "root.der").write_bytes(plant["root"].der)
    assert strict.decide(plant["direct"].der).code == "S416"
    (pki_dir / "issuers" / "root.crl").write_bytes(revoke(plant["root"]))
    assert strict.decide(plant["direct"].der).trusted
    alone = client("alone")
    strict.add(alone.der)  # signed by itself: there is nobody who could revoke it
    assert strict.decide(alone.der).trusted


def test_a_revocation_list_with_a_weak_hash_is_none(
    strict: TrustList, pki_dir: Path, plant: dict[str, Identity]
) -> None:
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    strict.add(plant["root"].der)
    (pki_dir / "trusted" / "root.crl").write_bytes(revoke(plant["root"]).replace(sha256, sha1))
    assert strict.decide(plant["direct"].der).code == "S416"


def test_who_knocks_after_the_clock_was_set_back_is_entered_anew(
    listed: TrustList, pki_dir: Path, clock: ManualClock
) -> None:
    stranger = client()
    ahead = TrustList(pki_dir, clock=ManualClock(utc_ns=clock.utc_ns() + 86_400 * 10**9))
    admit(ahead, stranger.der, "192.0.2.1:1")
    admit(listed, stranger.der, "192.0.2.2:2")
    (knock,) = listed.rejected()
    assert (knock.address, knock.when) == ("192.0.2.2:2", NOW)


def test_what_is_no_file_or_may_not_be_read_is_in_nobodys_way(
    listed: TrustList, pki_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A directory, a pipe that nobody writes into, what an administrator copied there for himself only.
    identity = client("client of the plant")
    listed.add(identity.der)
    (pki_dir / "trusted" / "folder.der").mkdir()
    os.mkfifo(pki_dir / "trusted" / "pipe.der")
    secret = pki_dir / "trusted" / "secret.der"
    secret.write_bytes(client("secret").der)
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.stem == "secret":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert listed.decide(identity.der).trusted
    # A revocation list that may not be read may revoke anybody: nobody comes in.
    secret.with_suffix(".crl").write_bytes(b"")
    with pytest.raises(PermissionError):
        list(revocations_in(pki_dir / "trusted"))


def test_a_note_that_is_damaged_leaves_the_least_role(listed: TrustList, pki_dir: Path) -> None:
    identity = client("client of the plant")
    listed.add(identity.der, roles=frozenset({Role.SECURITY_ADMIN}))
    (note,) = (pki_dir / "trusted").glob("client*.json")
    for content in (b"[" * 100_000, b"\xff", b"null", b""):
        note.write_bytes(content)
        assert listed.decide(identity.der).roles == {Role.OBSERVER}


def test_what_is_broken_in_the_lists_is_in_nobodys_way(
    strict: TrustList, pki_dir: Path, plant: dict[str, Identity]
) -> None:
    sha256, unknown = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d01017f")
    # The same name and key as the root, and an IPAddress of 28 bytes among its names.
    odd = make(
        "Plant root",
        uri="urn:odd:aaaaaaaaaaaaaaaaaaaa",
        authority=True,
        start=NOW - dt.timedelta(days=30),
        purposes=None,
    ).der
    (pki_dir / "trusted" / "a.der").write_bytes(odd.replace(b"\x86\x1curn:odd", b"\x87\x1curn:odd"))
    (pki_dir / "trusted" / "a.crl").write_bytes(
        revoke(plant["root"]).replace(b"\x02\x01\x01", b"\x02\x01\x06")
    )
    (pki_dir / "trusted" / "b.crl").write_bytes(revoke(plant["root"]).replace(sha256, unknown))
    (pki_dir / "trusted" / "c.der").write_bytes(plant["root"].der)
    assert strict.decide(plant["direct"].der).code == "S416"
    (pki_dir / "trusted" / "c.crl").write_bytes(revoke(plant["root"]))
    assert strict.decide(plant["direct"].der).trusted
    exotic = plant["direct"].der.replace(sha256, unknown)
    decision = strict.decide(exotic)
    assert (decision.code, "unknown algorithm" in decision.reason) == ("S405", True)


def test_an_authority_that_was_renewed_under_its_key_is_taken_in_the_form_that_is_valid(
    listed: TrustList, pki_dir: Path
) -> None:
    old = make("CA", uri=None, authority=True, purposes=None, start=NOW - dt.timedelta(days=20), days=10)
    new = make("CA", uri=None, authority=True, purposes=None, start=NOW - dt.timedelta(days=5), key=old.key)
    (pki_dir / "trusted" / "1.der").write_bytes(old.der)
    (pki_dir / "trusted" / "2.der").write_bytes(new.der)
    assert listed.decide(client("below", issuer=new).der).trusted


@pytest.mark.parametrize(
    ("spoiled", "code"),
    [
        ({"authority": False}, "S401"),
        ({"plain": True}, "S401"),
        ({"start": NOW - dt.timedelta(days=20), "days": 10}, "S402"),
        ({"bits": 1024}, "S404"),
    ],
)
def test_an_unsound_authority_vouches_for_nobody(
    listed: TrustList, pki_dir: Path, spoiled: dict[str, object], code: str
) -> None:
    kind: dict[str, object] = {"authority": True, "start": NOW - dt.timedelta(days=1), "purposes": None}
    issuer = make(f"CA {code} {len(spoiled)}", uri=None, **{**kind, **spoiled})  # type: ignore[arg-type]
    (pki_dir / "trusted" / "ca.der").write_bytes(issuer.der)
    assert listed.decide(client(f"below {code}", issuer=issuer).der).code == code


def test_an_authority_that_may_not_sign_certificates_vouches_for_nobody(
    listed: TrustList, pki_dir: Path
) -> None:
    # BasicConstraints say CA, KeyUsage says no: both have to agree (RFC 5280 §4.2.1.3).
    key = make("half").key
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "half")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    for usage in (True, False):
        made = builder
        if usage:
            made = builder.add_extension(
                x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True
            )
        half = Identity(made.sign(key, hashes.SHA256()), key)
        (pki_dir / "trusted" / "half.der").write_bytes(half.der)
        below = client("under half", issuer=half)
        assert listed.decide(below.der).trusted is not usage
    # Without a KeyUsage nothing is forbidden, revocation lists neither.
    (pki_dir / "trusted" / "half.crl").write_bytes(revoke(half, below))
    assert listed.decide(below.der).code == "S408"


def test_a_chain_longer_than_allowed_is_refused(listed: TrustList, pki_dir: Path) -> None:
    issuer = make("CA 0", uri=None, authority=True, purposes=None, start=NOW - dt.timedelta(days=1))
    (pki_dir / "trusted" / "0.der").write_bytes(issuer.der)
    for level in range(1, 8):
        issuer = make(
            f"CA {level}",
            uri=None,
            authority=True,
            issuer=issuer,
            purposes=None,
            start=NOW - dt.timedelta(days=1),
        )
        (pki_dir / "issuers" / f"{level}.der").write_bytes(issuer.der)
    decision = listed.decide(client("deep", issuer=issuer).der)
    assert (decision.code, decision.reason) == ("S407", f"{REASONS['S407'][0]} (more than 6 issuers)")


# --- the operator --------------------------------------------------------------------------------------


def test_a_number_never_means_a_second_certificate(listed: TrustList) -> None:
    # Between `trust` that lists and `trust N` that trusts, anybody may knock.
    admit(listed, client("first").der, PEER)
    admit(listed, client("second").der, PEER)
    listed.trust("2")
    admit(listed, client("third").der, PEER)
    assert [(knock.number, knock.name) for knock in listed.rejected()] == [(1, "first"), (3, "third")]
    with pytest.raises(SecurityError, match="no refused client"):
        listed.trust("2")


def test_a_thumbprint_selects_with_eight_digits_and_any_spelling(listed: TrustList) -> None:
    one = client("one")
    admit(listed, one.der, PEER)
    for bad in ("", "x", one.print[:7], "99", "F" * 40):
        with pytest.raises(SecurityError):
            listed.trust(bad)
    spelled = ":".join(one.print[i : i + 2] for i in range(0, 10, 2)).lower()
    assert listed.trust(spelled).thumbprint == one.print


def test_an_ambiguous_selection_is_refused(listed: TrustList) -> None:
    listed.add(client("same", serial=1).der)
    listed.add(client("same", serial=2).der)
    with pytest.raises(SecurityError, match="more digits"):
        listed.distrust("same")


def test_distrust_shows_the_client_among_the_refused(listed: TrustList) -> None:
    one = client("one")
    listed.add(one.der)
    assert listed.distrust(one.print[:12]).thumbprint == one.print
    assert not listed.decide(one.der).trusted
    assert [(knock.name, knock.reason) for knock in listed.rejected()] == [
        ("one", "not trusted (trust was withdrawn)")
    ]
    with pytest.raises(SecurityError, match="no trusted client"):
        listed.distrust("one")
    listed.trust(1)
    assert listed.distrust("one").thumbprint == one.print


def test_only_a_certificate_can_be_trusted(listed: TrustList) -> None:
    with pytest.raises(SecurityError, match=r"no X\.509 certificate"):
        listed.add(b"garbage")


def test_trying_again_keeps_the_number_and_spares_the_disk(listed: TrustList, clock: ManualClock) -> None:
    one = client("one")
    first = admit(listed, one.der, PEER)[1]
    clock.step(1.0)
    assert admit(listed, one.der, PEER)[1] == first
    clock.step(60.0)
    later = admit(listed, one.der, "192.0.2.9:50999")[1]
    assert first is not None
    assert later is not None
    assert (later.number, later.address) == (first.number, "192.0.2.9:50999")
    assert later.when - first.when == dt.timedelta(seconds=61)


def test_a_flood_from_one_address_pushes_out_its_own_entries_only(
    listed: TrustList, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    monkeypatch.setattr(trust_module, "MAX_REJECTED", 5)
    admit(listed, client("the awaited one").der, "192.0.2.1:1")
    for i in range(12):
        clock.step(1.0)
        admit(listed, client(f"flood {i}", key=client("flood").key).der, f"198.51.100.7:{i}")
    assert [knock.name for knock in listed.rejected()] == [
        "the awaited one",
        "flood 8",
        "flood 9",
        "flood 10",
        "flood 11",
    ]


def test_names_of_strangers_cannot_write_to_the_terminal(listed: TrustList, pki_dir: Path) -> None:
    evil = client("../../etc/x\x1b[2J" + "y" * 20)
    knock = admit(listed, evil.der, PEER)[1]
    assert knock is not None
    assert "\x1b" not in knock.name
    assert knock.file is not None
    assert knock.file.parent == pki_dir / "rejected"
    nameless = admit(listed, client("\u0007").der, PEER)[1]
    assert nameless is not None
    assert nameless.file is not None
    assert nameless.file.name.startswith("unnamed [")


def test_a_certificate_without_a_note_is_listed(listed: TrustList, pki_dir: Path) -> None:
    (pki_dir / "rejected" / "by hand.der").write_bytes(client("by hand").der)
    (pki_dir / "rejected" / "note.der").write_bytes(client("noted").der)
    (pki_dir / "rejected" / "note.json").write_bytes(b"[1]")
    assert [(knock.number, knock.name) for knock in listed.rejected()] in (
        [(0, "by hand"), (0, "noted")],
        [(0, "noted"), (0, "by hand")],
    )


def test_files_that_are_no_certificates_are_passed_over(listed: TrustList, pki_dir: Path) -> None:
    trusted = pki_dir / "trusted"
    (trusted / "README.txt").write_text("hello")
    (trusted / ".hidden.der").write_bytes(client("hidden").der)
    (trusted / "empty.der").write_bytes(b"")
    (trusted / "huge.der").write_bytes(b"x" * 70_000)
    (trusted / "dangling.der").symlink_to(trusted / "gone")
    assert listed.trusted() == []
    assert listed.decide(client("hidden").der).code == "S401"


def test_without_directories_nobody_is_trusted(tmp_path: Path) -> None:
    empty = TrustList(tmp_path / "none")
    assert empty.trusted() == []
    assert empty.rejected() == []
    decision, knock = admit(empty, client().der, PEER)
    assert decision.code == "S401"
    # The refusal stands although it could not be kept.
    assert knock is not None
    assert knock.number == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_list_that_cannot_be_read_is_an_error_not_trust(listed: TrustList, pki_dir: Path) -> None:
    (pki_dir / "trusted").chmod(0)
    with pytest.raises(PermissionError):
        listed.decide(client().der)


def test_a_refusal_found_elsewhere_keeps_the_name_it_is_about(listed: TrustList) -> None:
    one = client("one")
    listed.add(one.der)
    decision = refusal("S420", of=listed.decide(one.der))
    assert (decision.trusted, decision.code, decision.name) == (False, "S420", "one")
    assert describe(one.der).name == "one"
    assert not describe(one.der).trusted
    assert describe(b"garbage").code == "S406"
    assert refusal("S413", "odd").reason == "security policy not offered (odd)"


def test_the_operator_finds_a_remedy_for_every_reason() -> None:
    assert all(code.startswith("S4") and what and remedy for code, (what, remedy) in REASONS.items())

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from edge_opcua.errors import CertificateError
from edge_opcua.security import trustfiles
from edge_opcua.security.inspection import expiries
from edge_opcua.security.pki import write_atomic
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import TrustList
from edge_opcua.security.trustfiles import (
    MAX_ENTRIES,
    TrustContent,
    TrustFiles,
    dependents,
    usable_certificate,
    without,
)
from tests.security.certificates import NOW, Identity, make, revoke

START = NOW - dt.timedelta(days=30)
DAY_NS = 86_400 * 10**9
NOW_NS = round(NOW.timestamp()) * 10**9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part in ("own", "trusted", "issuers", "rejected"):
        (tmp_path / part).mkdir()
    return tmp_path


@pytest.fixture
def files(root: Path) -> TrustFiles:
    return TrustFiles(root)


@pytest.fixture(scope="module")
def ca() -> Identity:
    return make("Plant root", uri=None, authority=True, start=START, purposes=None)


@pytest.fixture(scope="module")
def line(ca: Identity) -> Identity:
    return make("Line CA", uri=None, authority=True, issuer=ca, start=START, purposes=None)


def test_lists_are_replaced_whole_and_who_stays_keeps_his_roles(
    files: TrustFiles, root: Path, ca: Identity, line: Identity
) -> None:
    # Part 12 §7.8.2.5
    listed = TrustList(root)
    operator, goes, comes = make("operator"), make("goes"), make("comes")
    listed.add(operator.der, roles=frozenset({Role.OPERATOR}))
    listed.add(goes.der)
    (root / "issuers" / "old.der").write_bytes(make("old CA", uri=None, authority=True).der)
    (root / "issuers" / "old.crl").write_bytes(revoke(line))
    crl = revoke(ca, goes)
    wanted = TrustContent((operator.der, comes.der, ca.der), (crl,), (line.der,), (revoke(line),))
    files.examine(wanted)
    files.replace(wanted)
    found = files.content()
    assert {*found.trusted} == {*wanted.trusted}
    assert replace(found, trusted=wanted.trusted) == wanted
    assert listed.decide(operator.der).roles == {Role.OPERATOR}
    assert listed.decide(comes.der).roles == {Role.OBSERVER}
    assert not listed.decide(goes.der).trusted
    assert not list(root.glob("trusted/goes*"))
    files.replace(found)  # the same once more changes nothing
    assert files.content() == found
    files.replace(TrustContent())
    assert files.content() == TrustContent()
    assert [*(root / "trusted").iterdir(), *(root / "issuers").iterdir()] == []


def test_a_power_cut_in_a_replacement_leaves_the_new_lists_at_the_next_start(
    files: TrustFiles, root: Path, ca: Identity, line: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def dies(path: Path, content: bytes, *, mode: int) -> None:
        written.append(path)
        if len(written) > 2:
            raise KeyboardInterrupt
        write_atomic(path, content, mode=mode)

    wanted = TrustContent((ca.der,), (revoke(ca),), (line.der,), ())
    monkeypatch.setattr(trustfiles, "write_atomic", dies)
    with pytest.raises(KeyboardInterrupt):
        files.replace(wanted)
    monkeypatch.undo()
    assert files.content() != wanted
    files.finish()
    assert files.content() == wanted
    files.finish()


@pytest.mark.parametrize("content", [b'{"trusted": 7}', b"[" * 100_000])
def test_a_damaged_draft_changes_nothing(files: TrustFiles, root: Path, ca: Identity, content: bytes) -> None:
    TrustList(root).add(ca.der)
    (root / "next-trust.json").write_bytes(content)
    with structlog.testing.capture_logs() as logs:
        files.finish()
    assert [entry["event"] for entry in logs] == ["trust.draft_unreadable"]
    assert files.content().trusted == (ca.der,)


def test_lists_with_one_entry_that_cannot_be_used_are_refused(
    files: TrustFiles, root: Path, ca: Identity, line: Identity
) -> None:
    # Part 12 §7.8.2.5: every certificate of the new list has to be valid.
    weak = make("weak", bits=1024)
    for wanted, code in (
        (TrustContent(trusted=(b"garbage",)), "S406"),
        (TrustContent(issuers=(weak.der,)), "S404"),
        (TrustContent(trusted=(ca.der,), trusted_lists=(b"garbage",)), "S406"),
        (TrustContent(trusted=(ca.der,), trusted_lists=(revoke(line),)), "S435"),
        (TrustContent(trusted=(ca.der,) * (MAX_ENTRIES + 1)), "S436"),
    ):
        with pytest.raises(CertificateError) as caught:
            files.examine(wanted)
        assert caught.value.code == code
    odd = make("odd", uri="urn:odd:aaaaaaaaaaaaaaaaaaaa").der
    broken = odd.replace(b"\x86\x1curn:odd", b"\x87\x1curn:odd")
    assert broken != odd
    with pytest.raises(CertificateError, match="no X"):
        files.examine(TrustContent(trusted=(broken,)))
    (root / "trusted" / "weak.der").write_bytes(weak.der)
    files.examine(TrustContent(trusted=(weak.der, ca.der)))  # what is here already is not in the way


def test_a_field_that_is_only_found_broken_when_read_refuses(
    files: TrustFiles, ca: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ValueError("error parsing asn1 value")

    monkeypatch.setattr(trustfiles, "weakness", broken)
    with pytest.raises(CertificateError) as caught:
        files.examine(TrustContent(trusted=(ca.der,)))
    assert caught.value.code == "S406"


def test_a_revocation_list_goes_beside_its_issuer_and_replaces_the_older_one(
    files: TrustFiles, root: Path, ca: Identity, line: Identity
) -> None:
    TrustList(root).add(ca.der)
    (root / "issuers" / "line.der").write_bytes(line.der)
    (root / "trusted" / "by-hand.crl").write_bytes(revoke(ca, start=NOW - dt.timedelta(days=2)))
    assert files.add_revocations(revoke(ca)) == "Plant root"
    assert files.add_revocations(revoke(line)) == "Line CA"
    assert len(list(root.glob("trusted/*.crl"))) == 1
    assert [(one.issuer, one.revoked) for one in files.summaries()] == [
        ("CN=Plant root", 0),
        ("CN=Line CA", 0),
    ]
    newest = revoke(ca, start=NOW + dt.timedelta(hours=1))
    files.add_revocations(newest)
    assert files.content().trusted_lists == (newest,)
    for content, code in (
        (revoke(ca), "S437"),
        (revoke(make("stranger CA", uri=None, authority=True)), "S435"),
        (b"garbage", "S406"),
    ):
        with pytest.raises(CertificateError) as caught:
            files.add_revocations(content)
        assert caught.value.code == code


def test_an_authority_goes_with_its_lists_and_is_missed_by_whom_it_vouches_for(
    ca: Identity, line: Identity
) -> None:
    # Part 12 §7.8.2.7
    content = TrustContent((ca.der,), (revoke(ca),), (line.der,), (revoke(line),))
    assert dependents(ca.certificate, content)
    assert not dependents(line.certificate, content)
    assert without(line.certificate, content, trusted=False) == TrustContent((ca.der,), (revoke(ca),), (), ())
    rest = without(usable_certificate(ca.der), content, trusted=True)
    assert rest == TrustContent((), (), (line.der,), (revoke(line),))


def endless(ca: Identity) -> bytes:
    """A revocation list without NextUpdate, which our library reads and does not write."""
    whole = revoke(ca)
    at = whole.index(b"\x17\x0d", whole.index(b"\x17\x0d") + 1)  # the second UTCTime, 15 bytes
    size = (int.from_bytes(whole[2:4], "big") - 15).to_bytes(2, "big")
    return b"\x30\x82" + size + bytes([0x30, whole[5] - 15]) + whole[6:at] + whole[at + 15 :]


def test_what_ends_soon_is_named_the_most_urgent_first(files: TrustFiles, root: Path, ca: Identity) -> None:
    assert expiries(root, NOW_NS) == []
    listed = TrustList(root)
    listed.add(ca.der)
    listed.add(make("ended", start=START, days=20).der)
    listed.add(make("soon", start=START, days=50).der)
    (root / "own" / "cert.der").write_bytes(make("we", start=START, days=45).der)
    (root / "issuers" / "i.der").write_bytes(make("issuer", start=START, days=40).der)
    (root / "users" / "trusted").mkdir(parents=True)
    TrustList(root / "users").add(make("Ada", start=START, days=42).der)
    files.add_revocations(revoke(ca, start=NOW - dt.timedelta(days=9), days=8))
    (root / "trusted" / "endless.crl").write_bytes(endless(ca))
    found = expiries(root, NOW_NS)
    assert [(one.kind, round(one.days)) for one in found] == [
        ("trusted", -10),
        ("revocations", -1),
        ("issuer", 10),
        ("user", 12),
        ("own", 15),
        ("trusted", 20),
    ]
    assert found[0].text == "the certificate of ended ended on 2026-11-10"
    assert found[1].text.startswith("the revocation list of CN=Plant root ended on")
    assert found[2].text == "the certificate of the authority issuer ends on 2026-11-30, in 10 days"
    assert found[3].text.startswith("the certificate of the user Ada ends on")
    assert found[4].text.startswith("the certificate of this server ends on")
    assert [one.kind for one in expiries(root, NOW_NS - 19 * DAY_NS)] == ["trusted", "issuer"]
    (root / "own" / "cert.der").write_bytes(b"garbage")
    assert "own" not in {one.kind for one in expiries(root, NOW_NS)}

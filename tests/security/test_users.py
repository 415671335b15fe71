"""The user store: what is kept, what is refused, and what a running server notices of it."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import SecurityError
from edge_opcua.security import pki
from edge_opcua.security.roles import Role
from edge_opcua.security.users import (
    MAX_FILE_BYTES,
    REASONS,
    Cost,
    User,
    UserStore,
    Verdict,
    users_table,
)
from tests.security.certificates import Identity, make

CHEAP = Cost(n=2**10, r=8, p=1)
OPERATOR = frozenset({Role.OPERATOR})
PASSWORD = "correct horse"
ANNA = make("anna", uri=None, purposes=None)
BOB = make("bob", uri=None)


@pytest.fixture
def store(tmp_path: Path) -> UserStore:
    return UserStore(tmp_path, cost=CHEAP)


def file_of(store: UserStore, tmp_path: Path) -> Path:
    assert StateDir(tmp_path).users.is_file()
    return StateDir(tmp_path).users


def test_nobody_is_there_by_default(store: UserStore, tmp_path: Path) -> None:
    assert store.users() == ()
    assert store.check_password("admin", b"admin").code == "S450"
    assert users_table(tmp_path) == []


def test_a_password_is_checked_and_never_kept(store: UserStore, tmp_path: Path) -> None:
    store.add("anna", OPERATOR, password=PASSWORD)
    assert store.check_password("anna", PASSWORD.encode()).user == store.find("anna")
    for wrong in (b"Correct horse", b"", None):
        assert store.check_password("anna", wrong) == Verdict(None, "S451", "anna")
    content = file_of(store, tmp_path).read_text()
    assert PASSWORD not in content
    assert file_of(store, tmp_path).stat().st_mode & 0o777 == 0o600


def test_two_users_with_one_password_have_two_hashes(store: UserStore) -> None:
    one = store.add("anna", OPERATOR, password=PASSWORD)
    two = store.add("bob", OPERATOR, password=PASSWORD)
    assert one.password is not None
    assert two.password is not None
    assert one.password.digest != two.password.digest
    assert "digest" not in repr(one)


def test_an_unknown_user_costs_as_much_as_a_known_one(tmp_path: Path) -> None:
    hashed: list[bytes] = []

    class Counting(Cost):
        def digest(self, password: bytes, salt: bytes) -> bytes:
            hashed.append(password)
            return super().digest(password, salt)

    store = UserStore(tmp_path, cost=Counting(2**10, 8, 1))
    assert store.check_password("nobody", b"guess").code == "S450"
    assert store.check_password("nobody", None).code == "S450"
    assert hashed == [b"guess", b""]


def test_the_default_cost_is_what_is_recommended() -> None:
    # OWASP's password storage cheat sheet: 2^15, 8, 3.
    assert (Cost().n, Cost().r, Cost().p) == (2**15, 8, 3)
    assert Cost().is_sane()


@pytest.mark.parametrize("cost", [Cost(2**9), Cost(2**19), Cost(2**15 - 1), Cost(0), Cost(r=0), Cost(p=17)])
def test_a_cost_that_is_no_cost_or_the_end_of_the_machine_is_not_sane(cost: Cost) -> None:
    assert not cost.is_sane()


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("seven77", "7 characters; 8 are the least"),
        ("aaaaaaaaaa", "too easy"),
        ("Anna.Smith", "too easy"),
        ("x1" * 300, "longer than 512 bytes"),
    ],
)
def test_a_password_that_is_no_password_is_refused(store: UserStore, password: str, message: str) -> None:
    with pytest.raises(SecurityError, match=message):
        store.add("anna.smith", OPERATOR, password=password)
    assert store.users() == ()


@pytest.mark.parametrize("name", ["", " anna", "an\nna", "x" * 65, "\x1b[31m"])
def test_a_name_that_could_fool_a_terminal_is_refused(store: UserStore, name: str) -> None:
    with pytest.raises(SecurityError, match="cannot be a user name") as caught:
        store.add(name, OPERATOR, password=PASSWORD)
    assert str(caught.value).isprintable()


def test_a_name_is_taken_whatever_its_case(store: UserStore) -> None:
    store.add("Anna", OPERATOR, password=PASSWORD)
    with pytest.raises(SecurityError, match="already"):
        store.add("anna", OPERATOR, password=PASSWORD)
    assert store.check_password("anna", PASSWORD.encode()).code == "S450"  # but it is not the same name


def test_a_user_needs_a_way_to_sign_in(store: UserStore) -> None:
    with pytest.raises(SecurityError, match="needs a password or a certificate"):
        store.add("anna", OPERATOR)
    with pytest.raises(SecurityError, match=r"no X\.509"):
        store.add("anna", OPERATOR, certificate=b"nonsense")


def test_what_is_changed_is_seen_by_a_running_server(store: UserStore, tmp_path: Path) -> None:
    server = UserStore(tmp_path, cost=CHEAP)
    versions = [server.version()]
    store.add("anna", OPERATOR, password=PASSWORD)
    anna = server.check_password("anna", PASSWORD.encode()).user
    assert anna is not None
    assert server.is_still(anna) == anna
    versions.append(server.version())

    store.set_roles("anna", frozenset({Role.ENGINEER}))
    now = server.is_still(anna)
    assert now is not None
    assert now.roles == {Role.ENGINEER}
    versions.append(server.version())

    store.set_password("anna", "another horse")
    assert server.is_still(anna) is None  # whoever knew only the old one has to go
    assert server.check_password("anna", PASSWORD.encode()).code == "S451"
    versions.append(server.version())

    store.set_disabled("anna", disabled=True)
    assert server.check_password("anna", b"another horse").code == "S452"
    assert server.check_password("anna", b"wrong").code == "S451"  # who does not know it learns nothing
    store.set_disabled("anna", disabled=False)
    assert server.check_password("anna", b"another horse").user is not None
    store.remove("anna")
    assert server.users() == ()
    assert server.is_still(anna) is None
    versions.append(server.version())
    assert len(set(versions)) == len(versions)


@pytest.mark.parametrize("action", ["set_password", "set_roles", "remove"])
def test_who_is_not_there_cannot_be_changed(store: UserStore, action: str) -> None:
    needed: dict[str, list[object]] = {"set_password": [PASSWORD], "set_roles": [OPERATOR]}
    arguments = needed.get(action, [])
    with pytest.raises(SecurityError, match='there is no user "zed"'):
        getattr(store, action)("zed", *arguments)


def test_there_can_be_too_many(store: UserStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_opcua.security.users.MAX_USERS", 1)
    store.add("anna", OPERATOR, password=PASSWORD)
    with pytest.raises(SecurityError, match="users already"):
        store.add("bob", OPERATOR, password=PASSWORD)


def test_two_commands_at_once_lose_nothing(tmp_path: Path) -> None:
    def add(name: str) -> None:
        UserStore(tmp_path, cost=CHEAP).add(name, OPERATOR, password=PASSWORD)

    threads = [threading.Thread(target=add, args=(f"user{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [user.name for user in UserStore(tmp_path).users()] == [f"user{number}" for number in range(8)]


# --- user certificates (Part 4 §7.40.5) ------------------------------------------------------------------


def test_a_user_certificate_needs_no_application_uri(store: UserStore, tmp_path: Path) -> None:
    store.add("anna", OPERATOR, certificate=ANNA.pem)
    verdict = store.check_certificate(ANNA.der)
    assert verdict.user is not None
    assert (verdict.user.name, verdict.user.thumbprint) == ("anna", ANNA.print)
    assert store.check_password("anna", b"").code == "S451"
    (row,) = users_table(tmp_path)
    assert (row.name, row.roles, row.signs_in_with) == ("anna", ("Operator",), ("certificate",))
    assert row.until == ANNA.certificate.not_valid_after_utc


@pytest.mark.parametrize(
    ("spoilt", "code"),
    [
        (make("late", uri=None, start=dt.datetime(2020, 1, 1, tzinfo=dt.UTC), days=1), "S402"),
        (make("weak", uri=None, bits=1024), "S404"),
        (make("encrypts only", uri=None, signing=False), "S409"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_spoilt_user_certificate_is_refused_even_if_it_was_entered(
    store: UserStore, spoilt: Identity, code: str
) -> None:
    store.add("anna", OPERATOR, certificate=spoilt.der)
    verdict = store.check_certificate(spoilt.der)
    assert (verdict.user, verdict.code) == (None, code)
    assert spoilt.print in verdict.reason


def test_a_certificate_is_somebodys_or_nobodys(store: UserStore) -> None:
    assert store.check_certificate(BOB.der).code == "S401"
    assert store.check_certificate(b"").code == "S411"
    anna = store.add("anna", OPERATOR, certificate=ANNA.der)
    with pytest.raises(SecurityError, match="another user"):
        store.add("bob", OPERATOR, certificate=ANNA.der)
    assert store.is_still(anna, by_certificate=True) == anna
    store.set_disabled("anna", disabled=True)
    assert store.check_certificate(ANNA.der).code == "S452"
    store.set_disabled("anna", disabled=False)
    store.remove("anna")
    assert store.check_certificate(ANNA.der).code == "S401"


def test_a_certificate_that_an_authority_vouches_for_is_not_yet_a_user(
    store: UserStore, tmp_path: Path
) -> None:
    plant_ca = make("people CA", uri=None, authority=True, purposes=None)
    store.add("bob", OPERATOR, certificate=BOB.der)  # makes the directory
    (tmp_path / "pki" / "users" / "trusted" / "ca.der").write_bytes(plant_ca.der)
    member = make("member", uri=None, issuer=plant_ca)
    assert store.check_certificate(member.der).code == "S457"


def test_taking_the_certificate_away_ends_the_sign_in(store: UserStore, tmp_path: Path) -> None:
    anna = store.add("anna", OPERATOR, certificate=ANNA.der)
    for file in (tmp_path / "pki" / "users" / "trusted").iterdir():
        file.unlink()
    assert store.is_still(anna, by_certificate=True) is None
    assert store.is_still(anna) == anna  # with a password he could stay
    assert users_table(tmp_path)[0].until is None


# --- the file ----------------------------------------------------------------------------------------------


def test_a_command_that_was_stopped_with_the_lock_stops_no_other_for_ever(
    store: UserStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pki, "LOCK_TRIES", 2)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(SecurityError, match="another process holds the lock"):
        store.add("anna", OPERATOR, password=PASSWORD)
    os.close(fd)
    assert store.add("anna", OPERATOR, password=PASSWORD).name == "anna"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"{ torn",
        lambda _: b"[]",
        lambda content: json.dumps({**content, "version": 2}).encode(),
        lambda content: json.dumps({**content, "users": [{"name": "x"}]}).encode(),
        lambda content: json.dumps(_with(content, roles=["Anonymous"])).encode(),
        lambda content: json.dumps(_with(content, roles=["Emperor"])).encode(),
        lambda content: json.dumps(_with_password(content, n=2**30)).encode(),
        lambda content: json.dumps(_with_password(content, kdf="md5")).encode(),
        lambda content: json.dumps(_with_password(content, hash="00")).encode(),
        lambda content: json.dumps(_with_password(content, salt="no hex")).encode(),
        lambda content: json.dumps(_with_password(content, n=1e300)).replace("1e+300", "1e999").encode(),
        lambda _: b" " * (MAX_FILE_BYTES + 1),
        lambda _: b"[" * 100_000,
    ],
)
def test_a_damaged_file_lets_nobody_in_and_is_not_overwritten(
    store: UserStore, tmp_path: Path, spoil: object
) -> None:
    store.add("anna", OPERATOR, password=PASSWORD)
    file = file_of(store, tmp_path)
    assert callable(spoil)
    content = spoil(json.loads(file.read_bytes()))
    file.write_bytes(content)
    with pytest.raises(SecurityError, match=r"damaged|too large"):
        UserStore(tmp_path).check_password("anna", PASSWORD.encode())
    with pytest.raises(SecurityError, match=r"damaged|too large"):
        store.add("bob", OPERATOR, password=PASSWORD)
    assert file.read_bytes() == content


def _with(content: dict[str, list[dict[str, object]]], **changes: object) -> dict[str, object]:
    return {**content, "users": [{**content["users"][0], **changes}]}


def _with_password(content: dict[str, list[dict[str, dict[str, object]]]], **changes: object) -> object:
    return _with(content, password={**content["users"][0]["password"], **changes})  # type: ignore[arg-type]


def test_disabled_is_anything_but_a_clear_no(store: UserStore, tmp_path: Path) -> None:
    store.add("anna", OPERATOR, password=PASSWORD)
    file = file_of(store, tmp_path)
    file.write_text(json.dumps(_with(json.loads(file.read_bytes()), disabled="false")))
    assert store.check_password("anna", PASSWORD.encode()).code == "S452"


def test_a_file_that_others_could_read_is_closed_and_told(store: UserStore, tmp_path: Path) -> None:
    store.add("anna", OPERATOR, password=PASSWORD)
    file = file_of(store, tmp_path)
    file.chmod(0o644)
    with capture_logs() as logs:
        UserStore(tmp_path).users()
    assert [log["event"] for log in logs] == ["users.file_was_readable_by_others"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SecurityError, match="cannot be used"):
        UserStore(tmp_path / "file", cost=CHEAP).add("anna", OPERATOR, password=PASSWORD)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_opcua.security.users.write_atomic", full)
    with pytest.raises(SecurityError, match="cannot be changed: No space"):
        UserStore(tmp_path, cost=CHEAP).add("anna", OPERATOR, password=PASSWORD)


@pytest.mark.parametrize("euid", [0, 1000])
def test_what_root_writes_belongs_to_the_owner_of_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, euid: int
) -> None:
    given: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    monkeypatch.setattr(os, "chown", lambda path, *_: given.append(Path(path).name))
    store = UserStore(tmp_path, cost=CHEAP)
    store.add("anna", OPERATOR, certificate=ANNA.der)
    assert given == (["users", "trusted", f"{ANNA.print}.der", "users.json"] if euid == 0 else [])


def test_every_reason_has_a_sentence() -> None:
    assert Verdict(User("anna", OPERATOR)).reason == ""
    assert Verdict(None, "S450").reason == REASONS["S450"]
    assert Verdict(None, "S451", "anna").reason == "wrong password (anna)"
    assert Verdict(None, "S402", "expired").reason == "expired"

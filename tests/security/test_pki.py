from __future__ import annotations

import datetime as dt
import os
import socket
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_opcua.errors import ConfigError
from edge_opcua.security import pki
from edge_opcua.security.pki import Pki, local_names, names_in, names_missing, open_pki, own_certificate
from edge_opcua.testing import ManualClock
from tests.security.certificates import make

BITS = 2048


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return open_pki(
        tmp_path_factory.mktemp("state") / "pki", names=["press-1.plant.example", "192.0.2.77"], key_bits=BITS
    )


def test_the_certificate_carries_every_name_a_client_may_use(made: Pki) -> None:
    names = names_in(made.certificate)
    assert {"press-1.plant.example", "192.0.2.77", "localhost", "127.0.0.1", "::1"} <= names
    assert socket.gethostname().lower() in names
    assert not {"0.0.0.0", "::"} & names
    assert names_missing(made.certificate, local_names(["Press-1.Plant.Example."])) == ()


def test_the_application_uri_is_the_uri_in_the_certificate_and_unique(made: Pki, tmp_path: Path) -> None:
    # Part 6 §6.2.2; two boxes cloned from one image must not share it.
    san = made.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.UniformResourceIdentifier) == [made.application_uri]
    assert open_pki(tmp_path, key_bits=BITS).application_uri != made.application_uri


def test_the_certificate_has_what_part_6_demands(made: Pki) -> None:
    certificate = made.certificate
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert usage.content_commitment
    assert usage.key_encipherment
    assert usage.data_encipherment
    assert usage.key_cert_sign
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.signature_hash_algorithm is not None
    assert certificate.signature_hash_algorithm.name == "sha256"
    assert pki.KEY_BITS >= 2048


def test_the_certificate_lives_for_twenty_years_from_yesterday(tmp_path: Path) -> None:
    clock = ManualClock()
    certificate = open_pki(tmp_path, key_bits=BITS, clock=clock).certificate
    now = pki.utc(clock.utc_ns())
    assert certificate.not_valid_before_utc == now - dt.timedelta(days=1)
    assert abs(certificate.not_valid_after_utc - now - dt.timedelta(days=20 * 365.25)) < dt.timedelta(days=2)


def test_key_and_directories_are_for_the_owner_only(made: Pki) -> None:
    assert (made.root / "own" / "key.pem").stat().st_mode & 0o777 == 0o600
    assert own_certificate(made.root).stat().st_mode & 0o777 == 0o644
    for part in ("", "own", "trusted", "issuers", "rejected"):
        assert (made.root / part).stat().st_mode & 0o777 == 0o700
    assert sorted(file.name for file in (made.root / "own").iterdir()) == ["cert.der", "key.pem"]


def test_a_state_directory_that_a_command_makes_is_for_the_owner_only(tmp_path: Path) -> None:
    open_pki(tmp_path / "state" / "pki", key_bits=BITS)  # as probe does, where no server was started yet
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_second_start_finds_the_same_identity(made: Pki) -> None:
    again = open_pki(made.root, names=["another.name.example"])
    assert again.thumbprint == made.thumbprint
    assert again.private_key.public_key() == made.certificate.public_key()
    assert again.certificate_der == own_certificate(made.root).read_bytes()


def test_names_that_came_later_are_reported(made: Pki) -> None:
    wanted = ["press-1.plant.example", "new.plant.example", "192.0.2.78", "::1", "not a name" * 20]
    assert names_missing(made.certificate, wanted) == ("new.plant.example", "192.0.2.78")


def test_a_key_that_others_could_read_is_closed(made: Pki) -> None:
    key_file = made.root / "own" / "key.pem"
    key_file.chmod(0o644)
    open_pki(made.root)
    assert key_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("key.pem", None, "is missing while its other half exists"),
        ("cert.der", None, "is missing while its other half exists"),
        ("key.pem", b"garbage", "cannot be read"),
        ("cert.der", b"garbage", "cannot be read"),
        ("key.pem", make("other").key_pem, "does not belong to"),
    ],
)
def test_a_damaged_identity_is_never_overwritten(
    tmp_path: Path, file: str, content: bytes | None, words: str
) -> None:
    own = open_pki(tmp_path, key_bits=BITS).root / "own"
    if content is None:
        (own / file).unlink()
    else:
        (own / file).write_bytes(content)
    before = {part.name: part.read_bytes() for part in own.iterdir()}
    with pytest.raises(ConfigError, match=words):
        open_pki(tmp_path)
    assert {part.name: part.read_bytes() for part in own.iterdir()} == before


def test_a_foreign_certificate_must_name_its_application(tmp_path: Path) -> None:
    identity = make("foreign", uri=None)
    assert names_in(identity.certificate) == frozenset()
    own = tmp_path / "own"
    own.mkdir()
    (own / "cert.der").write_bytes(identity.der)
    (own / "key.pem").write_bytes(identity.key_pem)
    with pytest.raises(ConfigError, match="no ApplicationUri"):
        open_pki(tmp_path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    own = open_pki(tmp_path, key_bits=BITS).root / "own"
    (own / "key.pem").write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(ConfigError, match="not an RSA key"):
        open_pki(tmp_path)


def test_a_certificate_out_of_its_time_is_used_and_reported(made: Pki) -> None:
    # Clients will refuse it themselves; a server that does not start helps nobody.
    clock = ManualClock(utc_ns=4_000_000_000_000_000_000)
    assert open_pki(made.root, clock=clock).thumbprint == made.thumbprint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_the_operators_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot be used"):
        open_pki(tmp_path / "pki")


def test_a_file_where_the_directory_should_be_is_the_operators_error(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        open_pki(tmp_path / "pki")


def test_a_process_that_stopped_with_the_lock_stops_nobody_for_ever(
    made: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pki, "LOCK_TRIES", 3)
    with pki.locked(made.root), pytest.raises(ConfigError, match="another process holds the lock"):
        open_pki(made.root)
    assert open_pki(made.root).thumbprint == made.thumbprint


@pytest.mark.parametrize("user", [0, 1000])
def test_what_root_makes_belongs_to_the_owner_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    # `sudo edge-opcua trust 1` must not leave files that the server, an unprivileged user, cannot read.
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
    pki.write_atomic(tmp_path / "note", b"x", mode=0o600)
    pki.make_private(tmp_path / "inner")
    owner = tmp_path.stat()
    assert given == ([(owner.st_uid, owner.st_gid)] * 2 if user == 0 else [])


def test_an_atomic_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()  # a directory cannot be replaced by a file
    with pytest.raises(OSError, match="directory"):
        pki.write_atomic(target, b"x", mode=0o600)
    assert list(tmp_path.iterdir()) == [target]


def test_a_resolver_that_does_not_answer_costs_a_name_not_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    stuck = threading.Event()
    monkeypatch.setattr(socket, "getfqdn", lambda: stuck.wait(10) and "never")
    monkeypatch.setattr(pki, "FQDN_LIMIT_S", 0.01)
    monkeypatch.setattr(pki, "_lines", lambda path: [])
    names = local_names()
    stuck.set()
    assert {"localhost", "127.0.0.1", "::1"} <= set(names)
    assert "never" not in names


def test_a_kernel_without_an_address_table_gives_fewer_names(tmp_path: Path) -> None:
    assert pki._lines(tmp_path / "absent") == []

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_opcua.errors import CertificateError, ConfigError, SecurityError
from edge_opcua.security import pki as pki_module
from edge_opcua.security import renewal as renewal_module
from edge_opcua.security.chain import pem_of
from edge_opcua.security.making import parse_subject
from edge_opcua.security.pki import Pki, locked, names_in, open_pki, read_own, replace_own
from edge_opcua.security.renewal import Renewal, Replacement, request_pem, split_pem
from edge_opcua.testing import ManualClock
from tests.security.certificates import NOW, Identity, make, rsa_key

START = NOW - dt.timedelta(days=1)
NAMES = ("press-1.plant.example", "192.0.2.77")
SERVES = (ExtendedKeyUsageOID.SERVER_AUTH,)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(utc_ns=round(NOW.timestamp()) * 10**9)


@pytest.fixture(scope="module")
def ca() -> Identity:
    return make("Plant CA", uri=None, authority=True, purposes=None, start=START)


@pytest.fixture
def own(tmp_path: Path) -> Pki:
    """A server's identity; its key is made once."""
    server = make("server", purposes=SERVES, start=START)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "cert.der").write_bytes(server.der)
    (tmp_path / "own" / "key.pem").write_bytes(server.key_pem)
    (tmp_path / "own" / "key.pem").chmod(0o600)
    return read_own(tmp_path)


@pytest.fixture
def renewal(own: Pki, clock: ManualClock) -> Renewal:
    return Renewal(own.root, clock=clock, key_bits=2048)


def issued(own: Pki, ca: Identity | None, **spoiled: object) -> bytes:
    """What an authority sends back for the key of this server; each argument spoils one thing."""
    sound = {"uri": own.application_uri, "key": own.private_key, "purposes": SERVES, "start": START}
    return make("press 1", issuer=ca, **{**sound, **spoiled}).der  # type: ignore[arg-type]


def test_a_request_names_the_application_and_where_clients_reach_it(own: Pki, renewal: Renewal) -> None:
    # Part 12 §7.10.4: subject and names of the present certificate unless something else is asked for.
    request = x509.load_der_x509_csr(renewal.request(names=NAMES))
    assert request.is_signature_valid
    assert request.subject == own.certificate.subject
    assert request.public_key() == own.private_key.public_key()
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [own.application_uri]
    assert names.get_values_for_type(x509.DNSName) == [NAMES[0]]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == [NAMES[1]]
    usage = request.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)


def test_the_answer_to_a_request_takes_the_place_and_the_old_one_is_kept(
    own: Pki, renewal: Renewal, ca: Identity
) -> None:
    found = renewal.examine(issued(own, ca), issuers=[make("noise").der, ca.der])
    assert found.chain == (ca.certificate,)
    now = renewal.install(found)
    assert now.certificate == found.certificate
    assert now.chain == (ca.certificate,)
    assert now.private_key.private_numbers() == own.private_key.private_numbers()
    (kept,) = (own.root / "own" / "previous").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert x509.load_pem_x509_certificate(kept.read_bytes()) == own.certificate
    assert open_pki(own.root).certificate == found.certificate


def test_a_clock_that_was_set_back_does_not_make_the_newest_the_oldest(
    own: Pki, renewal: Renewal, ca: Identity, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal_module, "MAX_PENDING", 1)
    ahead = Renewal(own.root, clock=ManualClock(utc_ns=clock.utc_ns() + 10**18), key_bits=2048)
    ahead.request(names=NAMES, new_key=True)
    asked = x509.load_der_x509_csr(renewal.request(names=NAMES, new_key=True))
    (file,) = (own.root / "own" / "pending").iterdir()
    last = serialization.load_pem_private_key(file.read_bytes(), password=None)
    assert last.public_key() == asked.public_key()


def test_a_new_key_waits_for_its_certificate_and_the_old_one_serves_meanwhile(
    own: Pki, renewal: Renewal, ca: Identity, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal_module, "MAX_PENDING", 2)
    for _ in range(3):
        clock.step(1.0)
        request = x509.load_der_x509_csr(renewal.request(names=NAMES, new_key=True))
    assert request.public_key() != own.private_key.public_key()
    pending = own.root / "own" / "pending"
    files = sorted(pending.iterdir())
    assert len(files) == 2
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert read_own(own.root).certificate == own.certificate
    files[0].write_bytes(b"damaged")
    (pending / "another.pem").write_bytes(make("another").key_pem)
    last = serialization.load_pem_private_key(files[-1].read_bytes(), password=None)
    assert isinstance(last, rsa.RSAPrivateKey)
    now = renewal.install(renewal.examine(issued(own, ca, key=last)))
    assert now.private_key.private_numbers() == last.private_numbers()
    assert now.chain == ()
    assert [file.name for file in sorted(pending.iterdir())] == [files[0].name, "another.pem"]


def as_pem(key: object, password: bytes | None = None) -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )


def test_a_key_may_come_with_its_certificate_as_pem_or_pfx(
    own: Pki, renewal: Renewal, ca: Identity, clock: ManualClock
) -> None:
    other = make("brought", uri=own.application_uri, issuer=ca, purposes=SERVES, start=START)
    pfx = pkcs12.serialize_key_and_certificates(
        b"it", other.key, other.certificate, None, serialization.NoEncryption()
    )
    for key in (other.key_pem, pfx):
        clock.step(1.0)
        assert renewal.install(renewal.examine(other.pem, key=key)).certificate == other.certificate


@pytest.mark.parametrize(
    "key",
    [
        b"garbage",
        b"-----BEGIN " + b"PRIVATE KEY-----\n",
        b"x" * 70_000,
        as_pem(rsa_key("brought"), b"secret"),
        as_pem(ec.generate_private_key(ec.SECP256R1())),
    ],
    ids=["garbage", "torn", "endless", "with a password", "not RSA"],
)
def test_a_key_that_cannot_be_used_is_refused(own: Pki, renewal: Renewal, ca: Identity, key: bytes) -> None:
    with pytest.raises(CertificateError) as caught:
        renewal.examine(issued(own, ca), key=key)
    assert caught.value.code == "S434"


Spoil = Callable[[Pki, Identity], bytes]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda own, ca: b"garbage", "S406"),
        (lambda own, ca: issued(own, ca, key=make("other").key), "S432"),
        (lambda own, ca: make("p", uri=own.application_uri, key=own.private_key).as_sha1(), "S405"),
        (lambda own, ca: issued(own, ca, start=NOW - dt.timedelta(days=9), days=1), "S402"),
        (lambda own, ca: issued(own, ca, start=NOW + dt.timedelta(days=1)), "S403"),
        (lambda own, ca: issued(own, ca, purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,)), "S409"),
        (lambda own, ca: issued(own, ca, signing=False), "S409"),
        (lambda own, ca: issued(own, ca, uri="urn:somebody:else"), "S433"),
        (lambda own, ca: issued(own, ca, uri=None), "S433"),
    ],
    ids=["garbage", "key", "hash", "expired", "early", "client only", "no signing", "uri", "no uri"],
)
def test_a_certificate_that_is_not_for_this_server_changes_nothing(
    own: Pki, renewal: Renewal, ca: Identity, spoil: Spoil, code: str
) -> None:
    with pytest.raises(CertificateError) as caught:
        renewal.examine(spoil(own, ca))
    assert caught.value.code == code
    assert read_own(own.root).certificate == own.certificate


def test_a_weak_key_is_refused_even_if_it_is_ours(own: Pki, renewal: Renewal) -> None:
    weak = make("weak", uri=own.application_uri, bits=1024, purposes=SERVES, start=START)
    with pytest.raises(CertificateError) as caught:
        renewal.examine(weak.der, key=weak.key_pem)
    assert caught.value.code == "S404"
    with pytest.raises(CertificateError) as caught:
        renewal.examine(weak.der, key=make("other").key_pem)
    assert (caught.value.code, "came with it" in str(caught.value)) == ("S432", True)


def test_without_an_extended_key_usage_nothing_is_forbidden(own: Pki, renewal: Renewal, ca: Identity) -> None:
    assert renewal.examine(issued(own, ca, purposes=None)).chain == ()


def test_issuers_that_did_not_sign_it_or_cannot_be_used_are_refused(
    own: Pki, renewal: Renewal, ca: Identity
) -> None:
    late = make(
        "late CA", uri=None, authority=True, purposes=None, start=NOW - dt.timedelta(days=20), days=10
    )
    for leaf, issuers, code in (
        (issued(own, ca), [make("other CA", uri=None, authority=True).der], "S407"),
        (issued(own, ca), [ca.der] * 6, "S407"),
        (issued(own, ca), [b"garbage"], "S406"),
        (issued(own, late), [late.der], "S402"),
    ):
        with pytest.raises(CertificateError) as caught:
            renewal.examine(leaf, issuers=issuers)
        assert caught.value.code == code


def test_a_chain_is_put_in_its_order_up_to_the_root(own: Pki, renewal: Renewal, ca: Identity) -> None:
    line = make("Line CA", uri=None, authority=True, purposes=None, issuer=ca, start=START)
    found = renewal.examine(issued(own, line), issuers=[ca.der, line.pem])
    assert found.chain == (line.certificate, ca.certificate)
    assert split_pem(line.pem + ca.pem) == [line.der, ca.der]
    assert split_pem(line.der) == [line.der]
    with pytest.raises(CertificateError, match="no X"):
        split_pem(b"-----BEGIN CERTIFICATE-----\n")


def test_a_renewed_certificate_is_for_the_same_application_with_todays_names(
    own: Pki, renewal: Renewal, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal_module, "MAX_KEPT", 1)
    for _ in range(2):
        clock.step(1.0)
        now = renewal.renew(NAMES)
    assert now.application_uri == own.application_uri
    assert now.certificate.subject == own.certificate.subject
    assert names_in(now.certificate) == set(NAMES)
    assert now.private_key.private_numbers() != own.private_key.private_numbers()
    assert len(list((own.root / "own" / "previous").iterdir())) == 1


@pytest.mark.parametrize("after", ["key.pem", "chain.pem", "cert.der"])
def test_a_power_cut_in_a_replacement_leaves_the_new_one_at_the_next_start(
    own: Pki, renewal: Renewal, ca: Identity, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    other = make("brought", uri=own.application_uri, issuer=ca, purposes=SERVES, start=START)
    found = renewal.examine(other.der, key=other.key_pem)
    written = pki_module.write_atomic

    def dies(path: Path, content: bytes, *, mode: int) -> None:
        if path.name == after:
            raise KeyboardInterrupt
        written(path, content, mode=mode)

    monkeypatch.setattr(pki_module, "write_atomic", dies)
    with pytest.raises(KeyboardInterrupt), locked(own.root):
        replace_own(Pki(own.root, found.certificate, found.key))
    monkeypatch.undo()
    assert open_pki(own.root).certificate == other.certificate
    assert not (own.root / "own" / "next.pem").exists()


def test_a_damaged_draft_is_the_operators_error(own: Pki) -> None:
    (own.root / "own" / "next.pem").write_bytes(b"garbage")
    with pytest.raises(ConfigError, match="cannot be read"):
        open_pki(own.root)


def test_a_replacement_of_other_bytes_is_what_is_read_back(own: Pki, renewal: Renewal, ca: Identity) -> None:
    certificate = x509.load_der_x509_certificate(issued(own, ca))
    now = renewal.install(Replacement(certificate, own.private_key, (ca.certificate,)))
    again = read_own(own.root)
    assert (again.certificate, again.chain) == (now.certificate, now.chain)
    assert again.private_key.private_numbers() == own.private_key.private_numbers()


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("CN=Press 1, O=Plant", "O=Plant,CN=Press 1"),
        ('/CN="Press, one"/O=Plant/C=DE', "C=DE,O=Plant,CN=Press\\, one"),
        ("cn=x,st=Bayern,dc=plant", "DC=plant,ST=Bayern,CN=x"),
    ],
)
def test_a_subject_is_read_as_clients_write_it(text: str, subject: str) -> None:
    assert parse_subject(text).rfc4514_string() == subject


@pytest.mark.parametrize(
    "text", ["Press 1", "XX=1,CN=2", "O=Plant", "C=Germany,CN=x", "CN=", "CN=" + "x" * 600, 'CN="x"y']
)
def test_what_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(SecurityError, match="subject"):
        parse_subject(text)


def test_the_hash_of_a_request_is_strong(renewal: Renewal) -> None:
    request = x509.load_der_x509_csr(renewal.request(names=NAMES, subject=parse_subject("CN=Press 1")))
    assert isinstance(request.signature_hash_algorithm, hashes.SHA256)
    assert request.subject.rfc4514_string() == "CN=Press 1"


def test_a_field_that_is_only_found_broken_when_read_refuses(
    own: Pki, renewal: Renewal, ca: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("error parsing asn1 value")

    monkeypatch.setattr(renewal_module, "_objection", broken)
    with pytest.raises(CertificateError) as caught:
        renewal.examine(issued(own, ca))
    assert caught.value.code == "S406"


def test_people_get_certificates_and_requests_as_pem(own: Pki, renewal: Renewal) -> None:
    assert x509.load_pem_x509_certificate(pem_of(own.certificate)) == own.certificate
    request = renewal.request(names=NAMES)
    assert x509.load_pem_x509_csr(request_pem(request)) == x509.load_der_x509_csr(request)

from __future__ import annotations

import datetime as dt
import io
import json
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_opcua.cli import main
from edge_opcua.core.statedir import StateDir
from edge_opcua.security.pki import Pki, names_in, read_own
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import TrustList
from tests.security.certificates import Identity, make, revoke

SERVES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory whose server has a certificate; its key is one of the test run's."""
    StateDir(tmp_path).create()
    pki = StateDir(tmp_path).pki
    for part in ("own", "trusted", "issuers", "rejected"):
        (pki / part).mkdir(parents=True, exist_ok=True)
    server = make("server", uri="urn:press:edge-opcua", purposes=SERVES)
    (pki / "own" / "cert.der").write_bytes(server.der)
    (pki / "own" / "key.pem").write_bytes(server.key_pem)
    (pki / "own" / "key.pem").chmod(0o600)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ca() -> Identity:
    return make("Plant CA", uri=None, authority=True, purposes=None)


def own(state: Path) -> Pki:
    return read_own(StateDir(state).pki)


def run(state: Path, *arguments: str) -> int:
    return main([*arguments, "--state", str(state)])


def test_certs_shows_what_a_security_officer_asks_for(
    state: Path, ca: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    trust = TrustList(StateDir(state).pki)
    trust.add(ca.der, roles=frozenset({Role.OPERATOR}))
    trust.add(make("old panel", days=10).der)
    (state / "ca.crl").write_bytes(revoke(ca, make("gone")))
    assert run(state, "certs", "crl", str(state / "ca.crl")) == 0
    assert "revocation list of Plant CA is in force" in capsys.readouterr().out
    assert run(state, "certs", "crl", str(state / "ca.crl"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "edge-opcua.certs/1"
    assert run(state, "certs") == 0
    shown = capsys.readouterr().out
    for part in (
        "urn:press:edge-opcua",
        own(state).thumbprint,
        "days left; RSA 2048, signed by itself",
        "names localhost",
        "it lacks",
        "edge-opcua recert",
        "trusted 2",
        "revocations of CN=Plant CA",
        "1 revoked",
        "warn[S431] the certificate of old panel ends on",
    ):
        assert part in shown
    (StateDir(state).pki / "trusted" / "torn.der").write_bytes(b"torn")
    assert run(state, "certs", "--json") == 0
    said = capsys.readouterr()
    assert "trust.file_unreadable" in said.err
    found = json.loads(said.out)
    assert (found["schema"], found["trusted"], found["issuer"]) == ("edge-opcua.certs/1", 2, "")
    assert [row["revoked"] for row in found["revocations"]] == [1]


def test_a_request_is_answered_by_the_plants_authority(
    state: Path, ca: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(state, "certs", "csr", "--name", "press.plant.example", "--subject", "CN=Press 1") == 0
    asked = x509.load_pem_x509_csr(capsys.readouterr().out.encode())
    assert asked.subject.rfc4514_string() == "CN=Press 1"
    names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "press.plant.example" in names.get_values_for_type(x509.DNSName)
    answer = make("Press 1", uri=own(state).application_uri, issuer=ca, key=own(state).private_key)
    (state / "answer.pem").write_bytes(answer.pem)
    (state / "ca.pem").write_bytes(ca.pem)
    # `make` writes clientAuth alone unless told otherwise: refused with its own exit code.
    assert run(state, "certs", "import", str(state / "answer.pem")) == 3
    assert "error[S409]" in capsys.readouterr().err
    answer = make(
        "Press 1", uri=own(state).application_uri, issuer=ca, key=own(state).private_key, purposes=SERVES
    )
    (state / "answer.pem").write_bytes(answer.pem)
    assert run(state, "certs", "import", str(state / "answer.pem"), "--chain", str(state / "ca.pem")) == 0
    said = capsys.readouterr()
    assert answer.print in said.out
    assert "it does not name" in said.err
    assert run(state, "certs", "import", str(state / "answer.pem"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["thumbprint"] == answer.print
    assert run(state, "certs", "import", str(state / "answer.pem"), "--chain", str(state / "ca.pem")) == 0
    assert (own(state).certificate, own(state).chain) == (answer.certificate, (ca.certificate,))
    assert run(state, "certs") == 0
    assert "signed by CN=Plant CA" in capsys.readouterr().out
    assert run(state, "recert") == 1
    assert "certs csr asks that authority" in capsys.readouterr().err


def test_a_request_with_a_new_key_waits_for_its_answer(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = state / "request.pem"
    assert run(state, "certs", "csr", "--new-key", "--out", str(out)) == 0
    assert f"written: {out}" in capsys.readouterr().out
    assert x509.load_pem_x509_csr(out.read_bytes()).public_key() != own(state).private_key.public_key()
    assert run(state, "certs") == 0
    assert "1 signing request(s) not answered yet" in capsys.readouterr().out


def test_a_certificate_may_be_brought_with_its_key(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    brought = make("brought", uri=own(state).application_uri, purposes=SERVES)
    (state / "it.der").write_bytes(brought.der)
    (state / "it.key").write_bytes(brought.key_pem)
    assert run(state, "certs", "import", str(state / "it.der"), "--key", str(state / "it.key")) == 0
    assert own(state).certificate == brought.certificate
    assert run(state, "certs", "export", "--out", str(state / "mine.der")) == 0
    assert (state / "mine.der").read_bytes() == brought.der
    capsys.readouterr()
    assert run(state, "certs", "export") == 0
    assert x509.load_pem_x509_certificate(capsys.readouterr().out.encode()) == brought.certificate


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_recert_asks_first_and_names_what_this_box_is_called_today(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = own(state)
    assert run(state, "recert") == 1
    assert "say --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", Terminal("no\n"))
    assert run(state, "certs", "recert") == 1
    assert own(state).certificate == before.certificate
    (state / "edge-opcua.toml").write_text('[opcua]\nadvertised_urls = ["opc.tcp://unreadable:4840"]')
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    assert run(state, "recert", "--name", "press.plant.example") == 0
    assert "clients that connect anew see it" in capsys.readouterr().out
    assert own(state).application_uri == before.application_uri
    assert {"press.plant.example", "localhost", "127.0.0.1"} <= names_in(own(state).certificate)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(state, "recert") == 1
    assert "no longer named: press.plant.example" in capsys.readouterr().err


def test_names_of_the_configuration_count(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(Path(__file__).parents[2] / "examples" / "press", state / "press")
    file = state / "press" / "press.toml"
    line = 'advertised_urls = ["opc.tcp://press.plant.example:4840"]\n'
    file.write_text(file.read_text(encoding="utf-8").replace("[opcua]\n", "[opcua]\n" + line, 1))
    assert run(state, "certs", "-c", str(file)) == 0
    assert "press.plant.example" in capsys.readouterr().out


def test_what_cannot_be_done_is_said_with_an_exit_code(
    state: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path_factory.mktemp("nowhere")
    (state / "garbage").write_bytes(b"garbage")
    for arguments, code, words in (
        (("certs", "import"), 2, "needs a FILE"),
        (("certs", "crl"), 2, "needs a FILE"),
        (("certs", "import", str(state / "garbage")), 3, "error[S406]"),
        (("certs", "crl", str(state / "garbage")), 3, "error[S406]"),
        (("certs", "import", str(state / "missing")), 1, "No such file"),
        (("certs", "csr", "--subject", "Press 1"), 1, "no subject like"),
    ):
        assert run(state, *arguments) == code
        assert words in capsys.readouterr().err
    assert run(nowhere, "certs") == 1
    assert "no server has kept keys" in capsys.readouterr().err
    (StateDir(state).pki / "own" / "key.pem").unlink()
    assert run(state, "certs") == 1
    assert "key.pem is missing" in capsys.readouterr().err


def test_check_offers_the_command_when_the_certificate_is_not_what_it_should_be(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TrustList(StateDir(state).pki).add(make("old panel", days=10).der)
    file = str(Path(__file__).parents[2] / "examples" / "press" / "press.toml")
    assert run(state, "check", file) == 0
    shown = capsys.readouterr().out
    assert "warn[S431] the certificate does not name" in shown
    assert ": edge-opcua recert" in shown
    assert "warn[S431] the certificate of old panel ends on" in shown
    (StateDir(state).pki / "own" / "key.pem").write_bytes(b"garbage")
    assert run(state, "check", file) == 0
    assert "warn[S431] the certificate cannot be looked at" in capsys.readouterr().out

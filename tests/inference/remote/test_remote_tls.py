"""The remote backend over TLS: who issued the server's certificate, for which name, and who we are."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from onnx import helper

from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.remote import RemoteBackend
from tests.inference.models import DELIVERED, graph, model
from tests.inference.remote.server import V2Server
from tests.inference.remote.test_remote_grpc import Service
from tests.security.certificates import Identity, make

MODELS = {("press-anomaly", "1"): DELIVERED / "model.onnx"}
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


@dataclass(frozen=True)
class Pki:
    """Files of an authority, a server for the name localhost, a client, and somebody else."""

    folder: Path
    ca: Identity

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, name: str, identity: Identity) -> None:
        (self.folder / f"{name}.pem").write_bytes(identity.pem)
        key = self.folder / f"{name}.key"
        key.write_bytes(identity.key_pem)
        key.chmod(0o600)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"), make("authority", uri=None, authority=True, purposes=None))
    made.write("ca", made.ca)
    made.write("server", make("localhost", issuer=made.ca, purposes=SERVER))
    made.write("client", make("edge", issuer=made.ca))
    made.write("other", make("somebody", uri=None, authority=True, purposes=None))
    return made


@pytest.fixture(scope="module")
def server(pki: Pki) -> Iterator[V2Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.file("server.pem"), pki.file("server.key"))
    with V2Server(MODELS, tls=context).running() as made:
        yield made


def load(url: str, **options: Any) -> RemoteBackend:
    given = {"url": url, "timeout_ms": 2000, **options}
    return RemoteBackend.load(
        DELIVERED / "model.onnx",
        provider="remote",
        input_shapes={"features": (1, 13)},
        options=given,
        load_s=5,
    )


def refused(url: str, **options: Any) -> tuple[str, str]:
    with pytest.raises(ModelError) as caught:
        load(url, **options)
    return caught.value.code, str(caught.value)


def test_a_server_of_the_right_issuer_and_name_is_asked(server: V2Server, pki: Pki) -> None:
    backend = load(server.url, ca=pki.file("ca.pem"), server_name="localhost")
    binding = backend.bind()
    for _ in range(3):
        binding.run()
    assert backend.describe()["wire"] == "https, binary"


def test_a_request_and_an_answer_larger_than_every_buffer_arrive_whole(pki: Pki, tmp_path: Path) -> None:
    size = 500_000
    image = model(
        graph([helper.make_node("Neg", ["features"], ["score"])], k=size, outputs=(("score", [1, size]),))
    )
    path = tmp_path / "large" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(image)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.file("server.pem"), pki.file("server.key"))
    with V2Server({("large", "1"): path}, tls=context).running() as server:
        trust = {"ca": pki.file("ca.pem"), "server_name": "localhost"}
        binding = RemoteBackend.load(
            path,
            provider="remote",
            input_shapes={"features": (1, size)},
            options={"url": server.url, "timeout_ms": 5000, **trust},
        ).bind()
        binding.inputs["features"][:] = np.arange(size, dtype=np.float32)
        binding.run()
        assert np.array_equal(binding.outputs["score"], -binding.inputs["features"])


def test_a_server_of_another_issuer_or_name_is_not(server: V2Server, pki: Pki) -> None:
    assert refused(server.url, ca=pki.file("other.pem"), server_name="localhost")[0] == "M574"
    assert refused(server.url, server_name="localhost")[0] == "M574"  # this computer trusts no such issuer
    code, text = refused(server.url, ca=pki.file("ca.pem"))  # 127.0.0.1 is not in its certificate
    assert (code, "127.0.0.1" in text) == ("M574", True)
    assert refused(server.url, ca=pki.file("ca.pem"), server_name="")[0] == "M574"


def test_plain_and_encrypted_do_not_meet(server: V2Server, pki: Pki) -> None:
    assert refused(server.url.replace("https", "http"))[0] in {"M570", "M576"}
    with V2Server(MODELS).running() as plain:
        url = plain.url.replace("http", "https")
        assert refused(url, ca=pki.file("ca.pem"), server_name="localhost")[0] == "M574"


def test_a_server_that_wants_to_know_us_is_shown_our_certificate(pki: Pki) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.file("server.pem"), pki.file("server.key"))
    context.load_verify_locations(pki.file("ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    trust = {"ca": pki.file("ca.pem"), "server_name": "localhost"}
    with V2Server(MODELS, tls=context).running() as server:
        load(server.url, **trust, certificate=pki.file("client.pem"), key=pki.file("client.key"))
        assert refused(server.url, **trust)[0] in {"M570", "M574"}  # TLS 1.3 refuses after the handshake


def test_files_that_cannot_be_used_are_named(pki: Pki, tmp_path: Path) -> None:
    url = "https://127.0.0.1:1"
    assert refused(url, ca=str(tmp_path / "none.pem"))[0] == "M578"
    assert refused(url, ca=pki.file("ca.key"))[0] == "M578"
    open_key = tmp_path / "open.key"
    open_key.write_bytes(Path(pki.file("client.key")).read_bytes())
    open_key.chmod(0o644)
    code, text = refused(url, certificate=pki.file("client.pem"), key=str(open_key))
    assert (code, "chmod 600" in text) == ("M578", True)
    assert refused(url, certificate=pki.file("client.pem"), key=pki.file("other.key"))[0] == "M578"


@pytest.fixture(scope="module")
def grpc_server(pki: Pki) -> Iterator[str]:
    def content(name: str) -> bytes:
        return Path(pki.file(name)).read_bytes()

    credentials = grpc.ssl_server_credentials([(content("server.key"), content("server.pem"))])
    with Service().running(credentials=credentials) as made:
        yield made.url.replace("grpc", "grpcs")


def test_the_same_holds_over_grpc(grpc_server: str, pki: Pki) -> None:
    trust = {"ca": pki.file("ca.pem"), "server_name": "localhost"}
    load(grpc_server, **trust).bind().run()
    assert refused(grpc_server, **{**trust, "ca": pki.file("other.pem")})[0] == "M574"
    code, text = refused(grpc_server, ca=pki.file("ca.pem"))
    assert code == "M574", text
    assert refused(grpc_server.replace("grpcs", "grpc"))[0] in {"M570", "M571"}

"""The server's own key and certificate, made at the first start with the names clients look for."""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import hashlib
import ipaddress
import os
import re
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.errors import ConfigError
from edge_opcua.security.making import self_signed, subject_of

# NIST SP 800-57 lets 2048 bits go on to 2030 only; every policy we offer takes 2048 to 4096.
KEY_BITS: Final = 3072
MAX_NAMES: Final = 64
FQDN_LIMIT_S: Final = 2.0
LOCK_PAUSE_S: Final = 0.02
LOCK_TRIES: Final = 500

_PEM: Final = serialization.Encoding.PEM

_log = structlog.get_logger(__name__)


def utc(stamp_ns: int) -> dt.datetime:
    """Return a UTC stamp in nanoseconds as an aware ``datetime``."""
    return dt.datetime.fromtimestamp(stamp_ns / 1e9, tz=dt.UTC)


def thumbprint(certificate_der: bytes) -> str:
    """Return the SHA-1 thumbprint in upper-case hex, as OPC UA clients show it (Part 6 §6.2.2).

    It names a certificate to people. Trust never rests on it: certificates are compared byte by byte.
    """
    return hashlib.sha1(certificate_der, usedforsecurity=False).hexdigest().upper()


def application_uri(certificate: x509.Certificate) -> str:
    """Return the ApplicationUri in the certificate, or an empty string (Part 6 §6.2.2: the first URI)."""
    names = _alternatives(certificate)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    return uris[0] if uris else ""


def common_name(certificate: x509.Certificate) -> str:
    """Return the subject's common name, or an empty string."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def names_in(certificate: x509.Certificate) -> frozenset[str]:
    """Return the host names (lower case) and IP addresses for which the certificate was made."""
    names = _alternatives(certificate)
    if names is None:
        return frozenset()
    hosts = [host.lower() for host in names.get_values_for_type(x509.DNSName)]
    return frozenset([*hosts, *map(str, names.get_values_for_type(x509.IPAddress))])


def names_missing(certificate: x509.Certificate, wanted: Iterable[str]) -> tuple[str, ...]:
    """Return the wanted names that the certificate lacks: clients that use them will complain.

    Args:
        certificate: Our own certificate.
        wanted: Host names and IP addresses under which clients may reach this box.
    """
    present = names_in(certificate)
    return tuple(name for name in dict.fromkeys(map(_normal, wanted)) if name and name not in present)


def local_names(configured: Iterable[str] = ()) -> tuple[str, ...]:
    """Return every name under which a client may reach this box: configured ones first, then its own.

    Host name, full name, ``localhost`` and the addresses of all interfaces; link-local IPv6 is left out
    because it means nothing without the client's interface. Blocks up to :data:`FQDN_LIMIT_S` seconds.
    """
    own = [socket.gethostname(), _fqdn(), "localhost", *_local_addresses(), "127.0.0.1", "::1"]
    names = dict.fromkeys(_normal(name) for name in (*configured, *own))
    return tuple(name for name in names if name and not _is_unspecified(name))[:MAX_NAMES]


@dataclass(frozen=True, slots=True)
class Pki:
    """The PKI directory of one server and what was read from it.

    Args:
        root: Directory with ``own``, ``trusted``, ``issuers`` and ``rejected``.
        certificate: Our own certificate.
        private_key: Its key.
        chain: The authorities above it that are sent along, the nearest first; none if it signs itself.
    """

    root: Path
    certificate: x509.Certificate
    private_key: rsa.RSAPrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def certificate_der(self) -> bytes:
        """The certificate as it travels."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def application_uri(self) -> str:
        """What this server calls itself; equal to the URI in the certificate (Part 6 §6.2.2)."""
        return application_uri(self.certificate)

    @property
    def thumbprint(self) -> str:
        """What the operator compares with what his client shows."""
        return thumbprint(self.certificate_der)


def own_certificate(root: Path) -> Path:
    """Return where the certificate lies, for people who hand it to a client."""
    return root / "own" / "cert.der"


def key_file(root: Path) -> Path:
    """Return where the private key lies."""
    return root / "own" / "key.pem"


def _chain_file(root: Path) -> Path:
    return root / "own" / "chain.pem"


def _replacement(root: Path) -> Path:
    return root / "own" / "next.pem"


def open_pki(
    root: Path, *, names: Sequence[str] = (), clock: Clock | None = None, key_bits: int = KEY_BITS
) -> Pki:
    """Read the server's identity; make key and certificate when there is none yet.

    Blocking: call it before the event loop runs.

    Args:
        root: The ``pki`` directory; made if missing, readable by the owner only.
        names: Further host names and addresses under which clients reach this box.
        clock: Says from when a new certificate is valid.
        key_bits: Size of a new key.

    Raises:
        ConfigError: What lies there cannot be used, or the directory cannot be written. Nothing that
            exists is ever overwritten: clients trust it.
    """
    try:
        return _open(root, names, clock or SystemClock(), key_bits)
    except OSError as exc:
        raise ConfigError(f"{root}: the server's certificate cannot be used: {exc.strerror}") from exc


def _open(root: Path, names: Sequence[str], clock: Clock, key_bits: int) -> Pki:
    # The state directory, too: a command may be here before the server.
    for place in (root.parent, root, *(root / part for part in ("own", "trusted", "issuers", "rejected"))):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = local_names(names)
    with locked(root):
        finish_replacement(root)
        pki = _read_or_make(root, wanted, clock, key_bits)
    now = utc(clock.utc_ns())
    if not pki.certificate.not_valid_before_utc <= now <= pki.certificate.not_valid_after_utc:
        _log.warning("pki.certificate_not_valid_now", until=str(pki.certificate.not_valid_after_utc))
    if missing := names_missing(pki.certificate, wanted):
        _log.warning("pki.names_missing", names=missing, file=str(own_certificate(root)))
    return pki


def read_own(root: Path) -> Pki:
    """Read key and certificate as they are now, as a running server does after a change. Blocking.

    Raises:
        ConfigError: What lies there cannot be used.
        OSError: The disk does not answer.
    """
    with locked(root):
        finish_replacement(root)
        return _read(root, own_certificate(root), key_file(root))


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Let nobody else, no other process either, look at or change key and certificate meanwhile."""
    with (root / ".lock").open("ab") as file:
        _hand_over(file.fileno(), root)
        wait_for_lock(file.fileno())
        yield


def wait_for_lock(fd: int) -> None:
    """Take the lock of an open file; whoever has it needs milliseconds, unless he was stopped in the middle.

    Raises:
        OSError: ETIMEDOUT: he was.
    """
    pause = threading.Event()
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pause.wait(LOCK_PAUSE_S)
        else:
            return
    raise OSError(errno.ETIMEDOUT, "another process holds the lock of the directory")


def replace_own(pki: Pki) -> None:
    """Put another key, certificate and chain into their places: after a power cut the old or the new ones.

    Call it inside :func:`locked`.
    """
    parts = [key_pem(pki.private_key), *(c.public_bytes(_PEM) for c in (pki.certificate, *pki.chain))]
    write_atomic(_replacement(pki.root), b"".join(parts), mode=0o600)
    finish_replacement(pki.root)


def finish_replacement(root: Path) -> None:
    """Do what is left of a replacement that was cut short; usually nothing. Inside :func:`locked`."""
    draft = _replacement(root)
    if not draft.exists():
        return
    bundle = draft.read_bytes()
    try:
        key = serialization.load_pem_private_key(bundle, password=None)
        certificate, *chain = x509.load_pem_x509_certificates(bundle)
    except (ValueError, TypeError) as exc:
        raise ConfigError(f"{draft} cannot be read ({exc}); remove it to go on with the old one") from exc
    assert isinstance(key, rsa.RSAPrivateKey), "written by replace_own()"
    write_atomic(key_file(root), key_pem(key), mode=0o600)
    write_atomic(_chain_file(root), b"".join(c.public_bytes(_PEM) for c in chain), mode=0o644)
    write_atomic(own_certificate(root), certificate.public_bytes(serialization.Encoding.DER), mode=0o644)
    draft.unlink()


def _read_or_make(root: Path, wanted: Sequence[str], clock: Clock, key_bits: int) -> Pki:
    certificate_file, key = own_certificate(root), key_file(root)
    if not certificate_file.exists() and not key.exists():
        pki = _make(root, wanted, clock, key_bits)
        # The key first: a certificate without its key would stop every later start.
        write_atomic(key, key_pem(pki.private_key), mode=0o600)
        write_atomic(certificate_file, pki.certificate_der, mode=0o644)
        _log.info("pki.certificate_made", thumbprint=pki.thumbprint, uri=pki.application_uri, names=wanted)
        return pki
    return _read(root, certificate_file, key)


def _read(root: Path, certificate_file: Path, key_place: Path) -> Pki:
    for part in (certificate_file, key_place):
        if not part.exists():
            raise ConfigError(
                f"{part} is missing while its other half exists; restore it, or remove both to get a new"
                " identity that every client has to trust again"
            )
    if key_place.stat().st_mode & 0o077:
        _log.warning("pki.key_was_readable_by_others", file=str(key_place))
        key_place.chmod(0o600)
    try:
        certificate = x509.load_der_x509_certificate(certificate_file.read_bytes())
        chain = _read_chain(_chain_file(root))
        key = serialization.load_pem_private_key(key_place.read_bytes(), password=None)
    except (ValueError, TypeError) as exc:
        raise ConfigError(
            f"{root / 'own'}: key or certificate is damaged and cannot be read; restore both from a backup or"
            " from the folder previous"
        ) from exc
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigError(f"{key_place} is not an RSA key; the security policies offered need one")
    if key.public_key() != certificate.public_key():
        raise ConfigError(f"{key_place} does not belong to {certificate_file}")
    if not application_uri(certificate):
        raise ConfigError(f"{certificate_file} names no ApplicationUri (SubjectAlternativeName URI)")
    return Pki(root, certificate, key, chain)


def _read_chain(file: Path) -> tuple[x509.Certificate, ...]:
    content = file.read_bytes() if file.exists() else b""
    return tuple(x509.load_pem_x509_certificates(content)) if content.strip() else ()


def _make(root: Path, names: Sequence[str], clock: Clock, key_bits: int) -> Pki:
    key = rsa.generate_private_key(public_exponent=65537, key_size=key_bits)
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "localhost"
    uri = f"urn:{host}:edge-opcua:{secrets.token_hex(8)}"  # unique, also between boxes cloned from one image
    now = utc(clock.utc_ns())
    return Pki(root, self_signed(key, subject=subject_of(host), uri=uri, names=names, now=now), key)


def write_atomic(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file so that a reader, or a power cut, sees all of it or nothing.

    Args:
        path: The file; replaced if it exists.
        content: All its bytes.
        mode: Permissions it has from its first moment on.
    """
    draft = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            _hand_over(file.fileno(), path.parent)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def make_private(place: Path) -> None:
    """Make a directory that only the owner of the one above it can look into."""
    place.mkdir(mode=0o700, exist_ok=True)
    made = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _hand_over(made, place.parent)
    finally:
        os.close(made)


def _hand_over(fd: int, directory: Path) -> None:
    """Give what root makes to the owner of the directory: the server runs as that user and has to read it."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)


def key_pem(key: rsa.RSAPrivateKey) -> bytes:
    """Return a private key as it lies on the disk (PEM, PKCS #8, not encrypted: mode 0600)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _alternatives(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _normal(name: str) -> str:
    """Return a host name or address in the one spelling that certificates compare by; empty if unusable."""
    name = name.strip().strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def _is_unspecified(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return False


def _fqdn() -> str:
    """Return the full host name, or an empty string if the resolver does not answer in time."""
    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(socket.getfqdn()), name="fqdn", daemon=True)
    asking.start()
    asking.join(FQDN_LIMIT_S)
    return found[0] if found else ""


def _local_addresses() -> list[str]:
    """Return the IP addresses of all interfaces as the kernel lists them (Linux)."""
    found: list[str] = []
    address = ""
    for line in _lines(Path("/proc/net/fib_trie")):
        word = line.split()
        if word[:1] == ["|--"] and len(word) > 1:
            address = word[1]
        elif word[:3] == ["/32", "host", "LOCAL"] and not address.startswith("127."):
            found.append(address)
    for line in _lines(Path("/proc/net/if_inet6")):
        inet6 = ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))
        if not inet6.is_link_local:
            found.append(str(inet6))
    return list(dict.fromkeys(found))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:  # this kernel has no such table (no IPv6, or a sandbox): fewer names, no failure
        return []

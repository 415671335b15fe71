"""What the commands ``trust`` and ``certs`` do: they work on the files, the server sees it by itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.tell import ANSWER_IS_NO, REFUSED, WRONG_USE, complain, say
from edge_opcua.config.loader import load as load_config
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.logs import warnings_on_stderr
from edge_opcua.core.statedir import StateDir, state_option
from edge_opcua.errors import CertificateError, ConfigError, EdgeError, SecurityError
from edge_opcua.security.chain import der_of, is_self_signed, pem_of
from edge_opcua.security.chain import load as load_certificate
from edge_opcua.security.inspection import DAY_NS, expiries
from edge_opcua.security.making import parse_subject
from edge_opcua.security.pki import (
    Pki,
    local_names,
    names_in,
    names_missing,
    own_certificate,
    read_own,
    write_atomic,
)
from edge_opcua.security.renewal import Renewal, request_pem, split_pem
from edge_opcua.security.roles import Role, parse_roles
from edge_opcua.security.trust import DEFAULT_ROLES, Knock, Trusted, TrustList
from edge_opcua.security.trustfiles import RevocationSummary, TrustFiles


@dataclass(frozen=True, slots=True)
class CertOptions:
    """What was given on the command line of ``certs``.

    Args:
        file: The certificate or revocation list that is brought.
        key: Its private key.
        chain: Files with the authorities above it.
        out: Where the answer goes; None: to the screen.
        names: Further names and addresses for the certificate.
        subject: Who the server is, for a request.
        new_key: Make a new key for a request.
        config: Configuration whose `advertised_urls` count; None if there is none.
        yes: Do not ask.
        as_json: One JSON object instead of text.
    """

    file: Path | None = None
    key: Path | None = None
    chain: Sequence[Path] = ()
    out: Path | None = None
    names: Sequence[str] = ()
    subject: str = ""
    new_key: bool = False
    config: Path | None = None
    yes: bool = False
    as_json: bool = False


@warnings_on_stderr()
def trust(
    state_dir: Path,
    selector: str | None,
    *,
    roles: Sequence[str] | None = None,
    show_trusted: bool = False,
    remove: bool = False,
    as_json: bool = False,
) -> int:
    """List the clients that were refused or are trusted, or change the trust in one of them.

    Takes effect at the next connection, without a restart.
    """
    pki = StateDir(state_dir).pki
    if not pki.is_dir():
        complain(f"no server has kept keys in the state directory {state_dir}; name another with --state DIR")
        return ANSWER_IS_NO
    trusted = TrustList(pki)
    try:
        if selector is not None and remove:
            known = trusted.distrust(selector)
            if as_json:
                _print_trusted([known], as_json=True)
            else:
                say(f"no longer trusted: {known.name}   {known.application_uri}   {known.thumbprint}")
        elif selector is not None:
            _trust(trusted, selector, parse_roles(roles) if roles else None, as_json=as_json)
        elif show_trusted:
            _print_trusted(trusted.trusted(), as_json=as_json)
        else:
            _print_knocks(trusted.rejected(), state_option(state_dir), as_json=as_json)
    except EdgeError as exc:
        complain(str(exc))
        return ANSWER_IS_NO
    return 0


def _trust(trusted: TrustList, selector: str, roles: frozenset[Role] | None, *, as_json: bool) -> None:
    try:
        known = trusted.trust(selector, roles or DEFAULT_ROLES)
    except SecurityError as unknown:
        if roles is None:
            raise
        try:
            known = trusted.set_roles(selector, roles)  # no stranger: one who gets other roles
        except SecurityError:
            raise unknown from None
    if as_json:
        _print_trusted([known], as_json=True)
    else:
        say(f"trusted: {known.name}   {known.application_uri}   {known.thumbprint}")
        for role in _in_order(known.roles):
            say(f"   {role.browse_name}: may {role.may}")
    if known.authority:
        return
    decision = trusted.decide(der_of(load_certificate(known.file.read_bytes())))
    if not decision.trusted:
        complain(f"warn[{decision.code}] it stays out nevertheless: {decision.reason}")
        complain(f"help: edge-opcua explain {decision.code}")


def _in_order(roles: frozenset[Role]) -> list[Role]:
    return sorted(roles, key=lambda role: role.value)


def _role_names(roles: frozenset[Role]) -> list[str]:
    return [role.browse_name.lower() for role in _in_order(roles)]


def _print_trusted(clients: list[Trusted], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "name": c.name,
                "application_uri": c.application_uri,
                "thumbprint": c.thumbprint,
                "roles": _role_names(c.roles),
                "authority": c.authority,
                "until": c.until.isoformat(),
            }
            for c in clients
        ]
        say(json.dumps({"schema": "edge-opcua.trusted/1", "clients": rows}))
        return
    for client in clients:
        what = "everybody it vouches for: " if client.authority else ""
        say(f"{client.thumbprint}   {client.name}   {client.application_uri}   until {client.until:%Y-%m-%d}")
        say(f"   {what}{', '.join(_role_names(client.roles)) or 'no role'}")
    if not clients:
        say("nobody is trusted yet; let a client connect, then edge-opcua trust")


def _print_knocks(knocks: list[Knock], option: str, *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "number": k.number,
                "name": k.name,
                "application_uri": k.application_uri,
                "thumbprint": k.thumbprint,
                "address": k.address,
                "when": k.when.isoformat(),
                "reason": k.reason,
                "code": k.code,
            }
            for k in knocks
        ]
        say(json.dumps({"schema": "edge-opcua.knocks/1", "clients": rows}))
        return
    for k in knocks:
        say(f"{k.number}  {k.name}   {k.thumbprint}")
        say(f"   from {k.address}   refused {k.when:%Y-%m-%d %H:%M:%S} UTC: {k.reason}")
    if knocks:
        say("compare the thumbprint with the one the client shows, then:")
        say(f"edge-opcua trust{option} N                   it may read")
        say(f"edge-opcua trust{option} N --role operator   it may write set-points, too; also: engineer, …")
    else:
        say(f"nobody was refused.  Who is trusted: edge-opcua trust{option} --list")


# --- certs -----------------------------------------------------------------------------------------------


@warnings_on_stderr()
def certs(state_dir: Path, action: str | None, options: CertOptions) -> int:
    """Show the certificates of a server, or change its own.

    A running server takes a change within seconds; nobody is interrupted.

    Returns:
        0; 1 if it cannot be done, 2 if something is missing on the command line, 3 if it is refused.
    """
    pki = StateDir(state_dir).pki
    if action in ("import", "crl") and options.file is None:
        complain(f"certs {action} needs a FILE")
        return WRONG_USE
    try:
        if not own_certificate(pki).is_file():
            complain(f"no server has kept keys in the state directory {state_dir}; name another: --state DIR")
            return ANSWER_IS_NO
        return _ACTIONS[action or "show"](pki, options)
    except CertificateError as exc:
        complain(f"error[{exc.code}] {exc}   help: edge-opcua explain {exc.code}")
        return REFUSED
    except (SecurityError, ConfigError) as exc:
        complain(str(exc))
        return ANSWER_IS_NO
    except OSError as exc:
        complain(f"{exc.filename or state_dir}: {exc.strerror}")  # a full disk has no name
        return ANSWER_IS_NO


def _wanted_names(options: CertOptions) -> tuple[str, ...]:
    """Return the names of this box, of its configuration, and of the command line."""
    loaded = load_config(options.config).config if options.config and options.config.is_file() else None
    configured = loaded.opcua.certificate_names if loaded is not None else ()
    return local_names([*options.names, *configured])


def _show(pki: Path, options: CertOptions) -> int:
    own = read_own(pki)
    now_ns = SystemClock().utc_ns()
    files = TrustFiles(pki)
    missing = names_missing(own.certificate, _wanted_names(options))
    ends = expiries(pki, now_ns)
    rows: dict[str, Any] = {
        "file": str(own_certificate(pki)),
        "subject": own.certificate.subject.rfc4514_string(),
        "application_uri": own.application_uri,
        "thumbprint": own.thumbprint,
        "issuer": "" if is_self_signed(own.certificate) else own.certificate.issuer.rfc4514_string(),
        "key_bits": own.private_key.key_size,
        "names": sorted(names_in(own.certificate)),
        "names_missing": list(missing),
        "begins": own.certificate.not_valid_before_utc.isoformat(),
        "ends": own.certificate.not_valid_after_utc.isoformat(),
        "days_left": int((own.certificate.not_valid_after_utc.timestamp() * 1e9 - now_ns) // DAY_NS),
        "trusted": len(files.trusted()),
        "issuers": len(files.issuers()),
        "revocations": [_row(one) for one in files.summaries()],
        "pending_keys": len(list((pki / "own" / "pending").glob("*.pem"))),
        "warnings": [one.text for one in ends],
    }
    if options.as_json:
        say(json.dumps({"schema": "edge-opcua.certs/1", **rows}))
        return 0
    _print_own(rows)
    _print_lists(rows)
    for one in ends:
        say(f"warn[S431] {one.text}")
    return 0


def _row(one: RevocationSummary) -> dict[str, Any]:
    return {"issuer": one.issuer, "made": one.made, "next": one.following, "revoked": one.revoked}


def _print_own(row: dict[str, Any]) -> None:
    say(f"own certificate   {row['file']}")
    say(f"   {row['subject']}   {row['application_uri']}")
    say(f"   thumbprint {row['thumbprint']}")
    signed = f"signed by {row['issuer']}" if row["issuer"] else "signed by itself"
    days = f"{row['days_left']} days left"
    say(f"   valid {row['begins'][:10]} to {row['ends'][:10]}, {days}; RSA {row['key_bits']}, {signed}")
    say(f"   names {', '.join(row['names'])}")
    if row["names_missing"]:
        say(f"warn[S431] it lacks {', '.join(row['names_missing'])}: edge-opcua recert makes a new one")
    if row["pending_keys"]:
        say(f"   {row['pending_keys']} signing request(s) not answered yet: edge-opcua certs import FILE")


def _print_lists(row: dict[str, Any]) -> None:
    say(f"trusted {row['trusted']} (edge-opcua trust --list), issuers {row['issuers']}")
    for one in row["revocations"]:
        say(
            f"revocations of {one['issuer']}   made {one['made'][:10]}, next {one['next'][:10] or 'never'},"
            f" {one['revoked']} revoked"
        )


def _csr(pki: Path, options: CertOptions) -> int:
    subject = parse_subject(options.subject) if options.subject else None
    der = Renewal(pki).request(names=_wanted_names(options), subject=subject, new_key=options.new_key)
    _give(request_pem(der), options.out)
    complain("have it signed, then: edge-opcua certs import FILE --chain CA-FILE")
    return 0


def _import(pki: Path, options: CertOptions) -> int:
    assert options.file is not None, "asked before"
    leaf, *rest = split_pem(options.file.read_bytes())
    issuers = [one for file in options.chain for one in split_pem(file.read_bytes())]
    key = options.key.read_bytes() if options.key is not None else None
    renewal = Renewal(pki)
    own = renewal.install(renewal.examine(leaf, key=key, issuers=[*rest, *issuers]))
    return _tell_new(pki, own, options)


def _recert(pki: Path, options: CertOptions) -> int:
    own, names = read_own(pki), _wanted_names(options)
    if not is_self_signed(own.certificate):
        complain(f"the present certificate is by {own.certificate.issuer.rfc4514_string()}:")
        complain("edge-opcua certs csr asks that authority for another one")
    if gone := sorted(names_in(own.certificate) - set(names)):
        complain(f"no longer named: {', '.join(gone)}   (--name NAME keeps a name)")
    if not _agreed("every client has to trust the new certificate once", yes=options.yes):
        return ANSWER_IS_NO
    return _tell_new(pki, Renewal(pki).renew(names), options)


def _crl(pki: Path, options: CertOptions) -> int:
    assert options.file is not None, "asked before"
    issuer = TrustFiles(pki).add_revocations(options.file.read_bytes())
    if options.as_json:
        return _show(pki, options)
    say(f"revocation list of {issuer} is in force")
    return 0


def _export(pki: Path, options: CertOptions) -> int:
    own = read_own(pki)
    binary = options.out is not None and options.out.suffix.lower() in (".der", ".cer", ".crt")
    _give(own.certificate_der if binary else pem_of(own.certificate), options.out)
    return 0


def _give(content: bytes, out: Path | None) -> None:
    if out is None:
        say(content.decode("ascii").rstrip())
    else:
        write_atomic(out, content, mode=0o644)
        say(f"written: {out}")


def _tell_new(pki: Path, own: Pki, options: CertOptions) -> int:
    if options.as_json:
        return _show(pki, options)
    say(
        f"certificate of this server: {own.thumbprint}   until {own.certificate.not_valid_after_utc:%Y-%m-%d}"
    )
    say("a running server takes it within seconds; sessions go on, clients that connect anew see it")
    if missing := names_missing(own.certificate, _wanted_names(options)):
        complain(f"warn[S431] it does not name {', '.join(missing)}")
    return 0


def _agreed(what: str, *, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        complain(f"{what}; say --yes if that is meant")
        return False
    complain(f"{what}; type yes to go on")
    return sys.stdin.readline().strip() == "yes"


_ACTIONS: Final[dict[str, Callable[[Path, CertOptions], int]]] = {
    "show": _show,
    "csr": _csr,
    "import": _import,
    "recert": _recert,
    "crl": _crl,
    "export": _export,
}

"""``check --security``: all that somebody has to know who signs off this server, and what to mend."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from edge_opcua.app.command.filemodes import FileMode, file_modes
from edge_opcua.app.command.tell import ANSWER_IS_NO, WRONG_USE, complain, say
from edge_opcua.config.fields import split_address
from edge_opcua.config.loader import load
from edge_opcua.config.problem import counted
from edge_opcua.config.report import check_json, problems_text
from edge_opcua.config.schema import AccessConfig, DeviceConfig, EdgeConfig, OpcuaConfig
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.logs import configure_logging
from edge_opcua.core.statedir import StateDir, state_option
from edge_opcua.errors import SecurityError
from edge_opcua.opcua.access import DEFAULTS, Kind, Permission
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.security.chain import der_of
from edge_opcua.security.chain import load as load_certificate
from edge_opcua.security.inspection import own_certificate_state
from edge_opcua.security.pki import own_certificate, thumbprint, utc
from edge_opcua.security.roles import ASSIGNABLE, Role
from edge_opcua.security.trust import Trusted, TrustList, revocations_in
from edge_opcua.security.users import UserRow, users_table

__all__ = ["Finding", "Report", "command", "gather", "main", "render"]

SCHEMA: Final = "edge-opcua.security/1"
# So long before the end of a certificate somebody should do something about it.
SOON_DAYS: Final = 30
MIN_KEY_BITS: Final = 2048
_SHOWN_LIMITS: Final = (
    "connections",
    "per_address",
    "sessions",
    "subscriptions",
    "items",
    "message_bytes",
    "early_message_bytes",
    "requests_per_s",
    "activation_s",
)
_EVERYBODY: Final = (Role.ANONYMOUS, Role.AUTHENTICATED_USER)
_WORDS: Final = (
    (Permission.Browse, "browse"),
    (Permission.Read, "read"),
    (Permission.Write, "write"),
    (Permission.Call, "call"),
    (Permission.ReadHistory, "history"),
    (Permission.ReceiveEvents, "events"),
)
_ACTS: Final = frozenset({"write", "call"})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that somebody has to decide about.

    Args:
        what: One sentence.
        fix: What to do about it.
        note: Only worth knowing; does not count.
    """

    what: str
    fix: str = ""
    note: bool = False


@dataclass(slots=True)
class Report:
    """All there is to say, as JSON types, section by section.

    Attributes:
        facts: Section -> what it says.
        findings: What should not stay so, and notes.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Findings that are not only notes."""
        return sum(not finding.note for finding in self.findings)


def command(config_file: Path, state_dir: Path, *, as_json: bool) -> int:
    """Do what :func:`main` does, with what libraries log on stderr."""
    configure_logging()
    return main(config_file, state_dir, as_json=as_json)


def main(config_file: Path, state_dir: Path, *, as_json: bool) -> int:
    """Print the report of a configuration and a state directory; nothing is made.

    Nothing is changed either, except that reading the users closes their file to others, as in the server.

    Returns:
        0; 1 with findings; 2 if the configuration is wrong.
    """
    loaded = load(config_file)
    if loaded.config is None or not loaded.ok:
        if as_json:
            say(json.dumps(check_json(loaded, ())))
        else:
            complain(problems_text(loaded))
        return WRONG_USE
    report = gather(loaded.config, config_file, state_dir, SystemClock())
    if as_json:
        rows = [{"what": one.what, "fix": one.fix, "note": one.note} for one in report.findings]
        say(json.dumps({"schema": SCHEMA, **report.facts, "findings": rows, "count": report.count}))
    else:
        say(render(report))
    return ANSWER_IS_NO if report.count else 0


def gather(config: EdgeConfig, config_file: Path, state_dir: Path, clock: Clock) -> Report:
    """Look at everything; blocking.

    Args:
        config: The checked configuration.
        config_file: Where it came from.
        state_dir: The state directory.
        clock: For the age of certificates.
    """
    state, report, now = StateDir(state_dir), Report(), utc(clock.utc_ns())
    report.facts["machine"] = config.site.machine
    report.facts["made"] = now.isoformat(timespec="seconds")
    # Modes first: reading some of the files mends them.
    _files(report, config, config_file, state)
    _network(report, config.opcua, state)
    _metrics(report, config.telemetry.prometheus)
    _own_certificate(report, config.opcua, state, now)
    trusted = _trust(report, config.opcua, state, now)
    users = _users(report, state, now)
    _anonymous(report, config.opcua, trusted, state_option(state_dir))
    _roles(report, config.opcua.access)
    _signing_in(report, config.opcua, users, state_option(state_dir))
    _devices(report, config.devices, state, now)
    report.facts["limits"] = _limits(config.opcua)
    return report


def _devices(report: Report, devices: Iterable[DeviceConfig], state: StateDir, now: dt.datetime) -> None:
    """Say which devices are believed by their certificate, and which are read without asking for one."""
    trusted = TrustList(state.pki / "devices").trusted()
    report.facts["trusted_devices"] = [
        {
            "name": one.name,
            "application_uri": one.application_uri,
            "thumbprint": one.thumbprint,
            "until": _day(one.until),
        }
        for one in trusted
    ]
    for one in trusted:
        report.findings += _expiry(f"the certificate of the device {one.name}", one.until, now)
    for device in devices:
        if device.driver == "opcua" and device.options.get("security") == "None":
            report.findings.append(
                Finding(
                    f"{device.name} is read without security: everybody on its network can answer for it",
                    "activate Basic256Sha256 in its server, and remove security from its options",
                )
            )


def _files(report: Report, config: EdgeConfig, config_file: Path, state: StateDir) -> None:
    modes = file_modes(state.root)
    report.facts["files"] = [one.as_json() for one in modes]
    if not modes:
        report.findings.append(
            Finding(f"there is no state directory {state.root} yet: no keys, no trust list", note=True)
        )
    report.findings += [_too_open(one) for one in modes if one.too_open or one.foreign]
    report.findings += _config_file(config, config_file)


def _too_open(one: FileMode) -> Finding:
    if one.foreign:
        return Finding(f"{one.path} belongs to another user ({one.uid}) than the state directory", one.fix)
    verb = "used" if one.secret else "changed"
    return Finding(f"{one.path} can be {verb} by others ({one.mode:04o})", one.fix)


def _config_file(config: EdgeConfig, file: Path) -> Iterator[Finding]:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return
    if mode & 0o022:
        yield Finding(f"{file} can be changed by others ({mode:04o})", f"chmod {mode & ~0o022:o} {file}")
    with_password = [one.name for one in config.devices if urlsplit(one.url).password]
    if with_password and mode & 0o077:
        yield Finding(
            f"{file} holds the password of {', '.join(with_password)} and can be read by others ({mode:04o})",
            f"chmod 600 {file}",
        )


def _network(report: Report, opcua: OpcuaConfig, state: StateDir) -> None:
    report.facts["listens"] = [
        {"what": "OPC UA", "where": f"tcp {opcua.listen}", "advertised": list(opcua.advertised_urls)},
        {"what": "status, watch", "where": f"unix {state.control_socket}", "mode": "0600"},
    ]
    modes = ["SignAndEncrypt"]
    report.facts["policies"] = [
        {"policy": policy, "modes": ["None"] if policy == "None" else modes} for policy in opcua.security
    ]
    report.facts["anonymous"] = opcua.anonymous
    report.facts["revocation"] = opcua.revocation
    if "None" in opcua.security:
        report.findings.append(
            Finding(
                "security policy None is offered: everybody on the network can read, and read along",
                'remove "None" from security in [opcua]',
            )
        )
    if opcua.host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        report.findings.append(
            Finding(
                f"OPC UA listens on every network of this machine ({opcua.listen})",
                "name one address in listen of [opcua] if only one network needs it",
                note=True,
            )
        )


def _metrics(report: Report, address: str | None) -> None:
    """Say who may read the metrics: everybody who reaches their address."""
    if address is None:
        return
    report.facts["listens"].append({"what": "metrics", "where": f"tcp {address}, plain HTTP, read only"})
    host = split_address(address)[0]
    if host != "localhost" and not _is_loopback(host):
        report.findings.append(
            Finding(
                f"the metrics can be read without a password by everybody who reaches {address}: names of "
                "devices and models, how many parts are made, and which are not OK",
                'prometheus = "127.0.0.1:…" in [telemetry], behind a proxy with TLS and a password',
            )
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name may mean any address
        return False


def _own_certificate(report: Report, opcua: OpcuaConfig, state: StateDir, now: dt.datetime) -> None:
    report.facts["certificate"] = None
    names = [urlsplit(url).hostname or "" for url in opcua.advertised_urls]
    found = own_certificate_state(state.pki, names=names)
    if found is None:
        return
    if found.problem:
        report.findings.append(
            Finding(
                f"{found.file} cannot be used: {found.problem}",
                "restore pki/own from a backup or pki/own/previous; or move it away: the next start makes"
                " a new identity, which every client has to trust",
            )
        )
        return
    certificate = load_certificate(own_certificate(state.pki).read_bytes())
    bits = int(getattr(certificate.public_key(), "key_size", 0))
    report.facts["certificate"] = {
        "thumbprint": thumbprint(der_of(certificate)),
        "names": list(found.names),
        "key_bits": bits,
        "self_signed": certificate.issuer == certificate.subject,
        "until": _day(certificate.not_valid_after_utc),
    }
    report.findings += _expiry("the certificate of this server", certificate.not_valid_after_utc, now)
    if bits < MIN_KEY_BITS:
        report.findings.append(Finding(f"the key of this server has only {bits} bits"))
    if found.missing:
        report.findings.append(
            Finding(f"the certificate does not name {', '.join(found.missing)}: clients may warn", note=True)
        )


def _trust(report: Report, opcua: OpcuaConfig, state: StateDir, now: dt.datetime) -> list[Trusted]:
    lists = TrustList(state.pki)
    trusted, knocks = lists.trusted(), lists.rejected()
    report.facts["trusted"] = [
        {
            "name": one.name,
            "application_uri": one.application_uri,
            "thumbprint": one.thumbprint,
            "authority": one.authority,
            "roles": _names(one.roles),
            "until": _day(one.until),
        }
        for one in trusted
    ]
    report.facts["waiting"] = [
        {"number": one.number, "name": one.name, "address": one.address, "reason": one.reason}
        for one in knocks
    ]
    for one in trusted:
        report.findings += _expiry(f"the certificate of the trusted {one.name}", one.until, now)
    if knocks:
        report.findings.append(
            Finding(
                f"{counted(len(knocks), 'refused client')} waiting for a decision",
                f"edge-opcua trust{state_option(state.root)}",
                note=True,
            )
        )
    _revocations(report, opcua, state, now, any_authority=any(one.authority for one in trusted))
    return trusted


def _revocations(
    report: Report, opcua: OpcuaConfig, state: StateDir, now: dt.datetime, *, any_authority: bool
) -> None:
    rows = []
    for place in ("trusted", "issuers"):
        for file, one in revocations_in(state.pki / place):
            ends = one.next_update_utc
            rows.append({"file": file.name, "until": _day(ends) if ends else None, "revoked": len(list(one))})
            if ends is not None and ends < now:
                report.findings.append(
                    Finding(f"the revocation list {file} is out of date since {_day(ends)}")
                )
    report.facts["revocation_lists"] = rows
    if any_authority and not rows and opcua.revocation != "required":
        report.findings.append(
            Finding(
                "an authority is trusted and there is no revocation list: nobody can be locked out by it",
                'edge-opcua certs, or revocation = "required" in [opcua]',
                note=True,
            )
        )


def _users(report: Report, state: StateDir, now: dt.datetime) -> list[UserRow]:
    try:
        rows = users_table(state.root)
    except (SecurityError, OSError) as exc:
        report.facts["users"] = None
        report.findings.append(Finding(f"the users cannot be read: {exc}"))
        return []
    report.facts["users"] = [
        {
            "name": row.name,
            "roles": list(row.roles),
            "signs_in_with": list(row.signs_in_with),
            "disabled": row.disabled,
            "until": _day(row.until) if row.until else None,
        }
        for row in rows
    ]
    for row in rows:
        if row.until is not None:
            report.findings += _expiry(f"the certificate of the user {row.name}", row.until, now)
    return rows


def _anonymous(report: Report, opcua: OpcuaConfig, trusted: Iterable[Trusted], option: str) -> None:
    """Say which clients may do more than look although nobody signed in."""
    if not opcua.anonymous:
        return
    for one in trusted:
        more = one.roles - {Role.OBSERVER}
        if more:
            report.findings.append(
                Finding(
                    f"{one.name} may act as {', '.join(_names(more))} without anybody signing in",
                    f"edge-opcua trust{option} {one.thumbprint[:8]} --role observer,"
                    " or anonymous = false in [opcua]",
                )
            )


def _signing_in(report: Report, opcua: OpcuaConfig, users: Iterable[UserRow], option: str) -> None:
    active = [row for row in users if not row.disabled]
    if not opcua.anonymous and not active:
        report.findings.append(
            Finding(
                "nobody can connect: there are no users, and anonymous is false",
                f"edge-opcua users{option} add NAME --role ROLE",
            )
        )


def _roles(report: Report, rules: Iterable[AccessConfig]) -> None:
    report.facts["roles"] = role_table()
    report.facts["access_rules"] = [
        {"nodes": rule.nodes, "role": rule.role, "permissions": list(rule.permissions)} for rule in rules
    ]
    for rule in rules:
        acts = _ACTS & set(rule.permissions)
        if Role.named(rule.role) in _EVERYBODY and acts:
            report.findings.append(
                Finding(
                    f"{rule.role} may {' and '.join(sorted(acts))} {rule.nodes} without signing in",
                    "give it to operator or engineer in [[opcua.access]]",
                )
            )


def role_table() -> dict[str, dict[str, list[str]]]:
    """Return what each role may do by itself: kind of node -> role -> words."""
    return {
        kind.value: {
            role.browse_name: words
            for role in (*_EVERYBODY, *ASSIGNABLE)
            if (words := [word for bit, word in _WORDS if DEFAULTS[kind].get(role, Permission(0)) & bit])
        }
        for kind in Kind
    }


def _limits(opcua: OpcuaConfig) -> dict[str, float]:
    limits = ServerLimits(sessions=opcua.max_sessions)
    return {name: getattr(limits, name) for name in _SHOWN_LIMITS}


def _expiry(what: str, until: dt.datetime, now: dt.datetime) -> list[Finding]:
    days = (until - now).days
    if days < 0:
        return [Finding(f"{what} expired on {_day(until)}")]
    return [Finding(f"{what} expires on {_day(until)}, in {days} days")] if days < SOON_DAYS else []


def _day(when: dt.datetime) -> str:
    return f"{when:%Y-%m-%d}"


def _names(roles: Iterable[Role]) -> list[str]:
    return sorted(role.browse_name for role in roles)


# --- for people --------------------------------------------------------------------------------------


def render(report: Report) -> str:
    """Return the report as text that can be handed over; the last line is the verdict."""
    facts = report.facts
    lines = [f"security of {facts['machine']}, {facts['made']}", ""]
    for title, body in (
        ("listens on", _listen_lines(facts)),
        ("certificate of this server", _certificate_lines(facts["certificate"])),
        ("trusted clients", [_trusted_line(row) for row in facts["trusted"]]),
        ("refused clients that wait", [_waiting_line(row) for row in facts["waiting"]]),
        ("trusted devices", [_device_line(row) for row in facts["trusted_devices"]]),
        ("revocation lists", _revocation_lines(facts)),
        ("users", [_user_line(row) for row in facts["users"] or ()]),
        ("what each role may do", _role_lines(facts["roles"])),
        ("exceptions", [_rule_line(row) for row in facts["access_rules"]]),
        ("files", [_file_line(row) for row in facts["files"]]),
        ("limits", ["   ".join(f"{name} {value:.12g}" for name, value in facts["limits"].items())]),
    ):
        lines += [title, *(f"  {line}" for line in body or ["none"]), ""]
    for finding in report.findings:
        lines.append(f"{'note' if finding.note else 'FAIL'}  {finding.what}")
        lines += [f"      fix: {finding.fix}"] if finding.fix else []
    notes = len(report.findings) - report.count
    lines.append(f"{counted(report.count, 'finding')}, {counted(notes, 'note')}")
    return "\n".join(lines)


def _listen_lines(facts: Mapping[str, Any]) -> list[str]:
    lines = [
        "   ".join([row["where"], row["what"], *row.get("advertised", ()), row.get("mode", "")]).rstrip()
        for row in facts["listens"]
    ]
    policies = ", ".join(f"{row['policy']} ({', '.join(row['modes'])})" for row in facts["policies"])
    lines.append(f"policies   {policies}")
    words = {True: "a trusted client needs no user", False: "everybody signs in"}
    lines.append(f"anonymous  {'on' if facts['anonymous'] else 'off'}: {words[facts['anonymous']]}")
    return lines


def _certificate_lines(row: Mapping[str, Any] | None) -> list[str]:
    if row is None:
        return []
    made = "signed by itself" if row["self_signed"] else "signed by an authority"
    return [
        row["thumbprint"],
        f"until {row['until']}   RSA {row['key_bits']} bits   {made}",
        f"names {', '.join(row['names'])}",
    ]


def _trusted_line(row: Mapping[str, Any]) -> str:
    kind = "authority" if row["authority"] else "client"
    roles = ", ".join(row["roles"]) or "no role"
    return f"{row['thumbprint']}   {row['name']}   {kind}   {roles}   until {row['until']}"


def _device_line(row: Mapping[str, Any]) -> str:
    return f"{row['thumbprint']}   {row['name']}   until {row['until']}"


def _waiting_line(row: Mapping[str, Any]) -> str:
    return f"{row['number']}   {row['name']}   from {row['address']}   {row['reason']}"


def _revocation_lines(facts: Mapping[str, Any]) -> list[str]:
    rows = facts["revocation_lists"]
    lines = [f"{row['file']}   {row['revoked']} revoked   until {row['until'] or 'open'}" for row in rows]
    return [*lines, f"looked at: {facts['revocation'].replace('_', ' ')}"]


def _user_line(row: Mapping[str, Any]) -> str:
    parts = [
        row["name"],
        ", ".join(row["roles"]) or "no role",
        " and ".join(row["signs_in_with"]) or "nothing",
    ]
    return "   ".join([*parts, *(["disabled"] if row["disabled"] else [])])


def _role_lines(table: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    lines = []
    for kind, roles in table.items():
        lines.append(kind)
        same: dict[str, list[str]] = {}
        for role, words in roles.items():
            same.setdefault(" ".join(words), []).append(role)
        lines += [f"  {words:<34}{', '.join(those)}" for words, those in same.items()]
    return lines


def _rule_line(row: Mapping[str, Any]) -> str:
    return f"{row['nodes']}   {row['role']}   {' '.join(row['permissions']) or 'none'}"


def _file_line(row: Mapping[str, Any]) -> str:
    word = "FAIL" if row["too_open"] or row["foreign"] else "ok  "
    return f"{word}  {row['mode']}  {row['path']}"

"""What the commands ``trust`` and ``certs`` do: they work on the files, the server sees it by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edge_opcua.app.commands import ANSWER_IS_NO, complain, say
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import EdgeError, SecurityError
from edge_opcua.security.roles import Role, parse_roles
from edge_opcua.security.trust import DEFAULT_ROLES, Knock, Trusted, TrustList


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
            say(f"no longer trusted: {known.name}   {known.application_uri}   {known.thumbprint}")
        elif selector is not None:
            _trust(trusted, selector, parse_roles(roles) if roles else None)
        elif show_trusted:
            _print_trusted(trusted.trusted(), as_json=as_json)
        else:
            _print_knocks(trusted.rejected(), as_json=as_json)
    except EdgeError as exc:
        complain(str(exc))
        return ANSWER_IS_NO
    return 0


def _trust(trusted: TrustList, selector: str, roles: frozenset[Role] | None) -> None:
    try:
        known = trusted.trust(selector, roles or DEFAULT_ROLES)
    except SecurityError as unknown:
        if roles is None:
            raise
        try:
            known = trusted.set_roles(selector, roles)  # no stranger: one who gets other roles
        except SecurityError:
            raise unknown from None
    say(f"trusted: {known.name}   {known.application_uri}   {known.thumbprint}")
    for role in _in_order(known.roles):
        say(f"   {role.browse_name}: may {role.may}")


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


def _print_knocks(knocks: list[Knock], *, as_json: bool) -> None:
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
        say("edge-opcua trust N                   it may read")
        say("edge-opcua trust N --role operator   it may write set-points, too; also: engineer, …")
    else:
        say("nobody was refused.  Who is trusted: edge-opcua trust --list")

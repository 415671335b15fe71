"""What ``trust --devices`` does: whom this server believes to be the device that it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from edge_opcua.app.command.tell import ANSWER_IS_NO, complain, say
from edge_opcua.core.logs import warnings_on_stderr
from edge_opcua.core.statedir import StateDir, state_option
from edge_opcua.errors import EdgeError
from edge_opcua.security.trust import Knock, Trusted, TrustList

SCHEMA: Final = "edge-opcua.devices-trust/1"
_PLACE: Final = "devices"


@warnings_on_stderr()
def trust_devices(
    state_dir: Path,
    selector: str | None,
    *,
    show_trusted: bool = False,
    remove: bool = False,
    as_json: bool = False,
) -> int:
    """List the OPC UA servers whose certificates were refused or are trusted, or change that.

    Takes effect at the next attempt to connect, without a restart.

    Args:
        state_dir: State directory.
        selector: Number of a refused certificate, or digits of a thumbprint; None: list.
        show_trusted: List those that are trusted.
        remove: No longer trust it.
        as_json: One JSON object instead of text.

    Returns:
        0; 1 if it cannot be done.
    """
    lists = TrustList(StateDir(state_dir).pki / _PLACE)
    try:
        if selector is not None:
            known = lists.distrust(selector) if remove else lists.trust(selector)
            _print_trusted([known], "no longer trusted: " if remove else "trusted: ", as_json=as_json)
        elif show_trusted:
            _print_trusted(lists.trusted(), "", as_json=as_json)
        else:
            _print_refused(lists.rejected(), state_option(state_dir), as_json=as_json)
    except EdgeError as exc:
        complain(str(exc).replace("client", "device"))
        return ANSWER_IS_NO
    except OSError as exc:
        complain(f"{StateDir(state_dir).pki / _PLACE}: {exc.strerror}")
        return ANSWER_IS_NO
    return 0


def _print_trusted(devices: list[Trusted], lead: str, *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "name": each.name,
                "application_uri": each.application_uri,
                "thumbprint": each.thumbprint,
                "until": each.until.isoformat(),
            }
            for each in devices
        ]
        say(json.dumps({"schema": SCHEMA, "trusted": rows}))
        return
    for each in devices:
        until = f"until {each.until:%Y-%m-%d}"
        say(f"{lead}{each.thumbprint}   {each.name}   {each.application_uri}   {until}")
    if not devices:
        say("no device is trusted yet")


def _print_refused(knocks: list[Knock], option: str, *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "number": each.number,
                "name": each.name,
                "application_uri": each.application_uri,
                "thumbprint": each.thumbprint,
                "address": each.address,
                "when": each.when.isoformat(),
                "code": each.code,
            }
            for each in knocks
        ]
        say(json.dumps({"schema": SCHEMA, "refused": rows}))
        return
    for each in knocks:
        say(f"{each.number}  {each.name}   {each.thumbprint}")
        say(f"   at {each.address}   refused {each.when:%Y-%m-%d %H:%M:%S} UTC")
    if knocks:
        say("compare the thumbprint with the one the device itself shows, then:")
        say(f"edge-opcua trust --devices{option} N")
    else:
        say(f"no device was refused.  Which are trusted: edge-opcua trust --devices{option} --list")

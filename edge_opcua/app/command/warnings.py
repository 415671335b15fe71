"""What a person should know about certificates before clients complain: `run` and `check` say the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_opcua.errors import ConfigError
from edge_opcua.security.inspection import expiries
from edge_opcua.security.pki import local_names, names_missing, own_certificate, read_own

__all__ = ["certificate_warnings"]


def certificate_warnings(pki: Path, names: Sequence[str], now_ns: int) -> list[str]:
    """Return one sentence for each thing to do, with its command; none before the first start. Blocking.

    Args:
        pki: The ``pki`` directory.
        names: Names under which clients reach this box besides its own.
        now_ns: The time, ns UTC.
    """
    try:
        if not own_certificate(pki).is_file():
            return []
        certificate = read_own(pki).certificate
        missing = names_missing(certificate, local_names(names))
        ends = expiries(pki, now_ns)
    except (OSError, ConfigError) as exc:
        return [f"the certificate cannot be looked at: {exc}"]
    found = [f"the certificate does not name {', '.join(missing)}: edge-opcua recert"] if missing else []
    return found + [f"{one.text}: edge-opcua certs" for one in ends]

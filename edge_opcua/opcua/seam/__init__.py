"""asyncua's server with what it lacks: trust, bound sessions, writes side by side, events that travel.

Everything here subclasses asyncua 2.1.0 and nothing patches it; ``tests/opcua/test_seam.py`` fails when
upstream moves what we stand on.
"""

from edge_opcua.opcua.seam.server import SecureServer, ServerSecurity
from edge_opcua.opcua.seam.session import ClientApplication, Session, SessionSummary

__all__ = [
    "ClientApplication",
    "SecureServer",
    "ServerSecurity",
    "Session",
    "SessionSummary",
]

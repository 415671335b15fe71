"""Cancel (Part 4 §5.7.5): a client gives up requests that are not answered yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from asyncua import ua

from edge_opcua.opcua.seam.session import Session
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.services.service import Service


class Waiting(Protocol):
    """Where requests wait for their answers."""

    def cancel(self, caller: Any, handle: int) -> int:
        """Answer his waiting requests of that handle with BadRequestCancelledByClient; return how many."""
        ...


class Cancellation:
    """The Cancel service.

    Args:
        core: ``subscription_service`` is asked for Publish requests; read at each call.
    """

    def __init__(self, core: Any) -> None:
        self._core = core

    def services(self) -> Mapping[str, Service]:
        """Return the service by name."""
        return {"Cancel": Service(ua.CancelParameters, self._cancel)}

    def _cancel(self, session: Session, params: ua.CancelParameters) -> ua.CancelResponse:
        """Cancel what waits or runs under a handle; what a PLC already did is not undone by it."""
        handle = int(params.RequestHandle)
        count = session.owner.jobs.cancel(handle) if session.owner is not None else 0
        cancel = getattr(self._core.subscription_service, "cancel", None)
        if cancel is not None:
            count += cancel(session, handle)
        facts, event = {"count": count}, {"RequestHandle": handle}
        self._core.audit(
            Act("request.cancelled", 0, session.who, session.session_id, facts=facts, event=event)
        )
        response = ua.CancelResponse()
        response.Parameters.CancelCount = count
        return response

"""A person's answer to a verdict as it comes over the control channel: checked, stored, journalled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from edge_opcua.core.clock import Clock
from edge_opcua.core.control import Reply, Request
from edge_opcua.core.journal import Journal
from edge_opcua.core.values import (
    BAD_NODE_ID_UNKNOWN,
    BAD_NOT_SUPPORTED,
    BAD_RESOURCE_UNAVAILABLE,
    Verdict,
)
from edge_opcua.errors import ControlError
from edge_opcua.records.window import MAX_NOTE, Answer
from edge_opcua.records.windowfile import Answered
from edge_opcua.records.windows import Windows

ANSWER: Final = "answer"
"""Kind of its records in the journal."""

_DURABLE_S: Final = 5.0
_MAX_NAME: Final = 200


async def take_answer(request: Request, windows: Windows | None, journal: Journal, clock: Clock) -> Reply:
    """Store and journal an answer; the reply comes when both are on disk.

    Args:
        request: ``pipeline``, ``result_id``, ``answer``, ``note`` (may be left out) and ``user``.
        windows: Where the windows are; None if none are kept.
        journal: The journal.
        clock: Clock for stamps.

    Returns:
        In its body the answer that counted before (``former``), and the number of the record (``id``).

    Raises:
        ControlError: The request is not understood.
        OSError: The disk refuses.
    """
    pipeline, result_id, answer, note, who = _checked(request.body)
    if windows is None or not windows.is_on:
        return Reply(
            BAD_NOT_SUPPORTED, "no windows are kept (models.windows_mb is 0), so none can be answered"
        )
    done = await windows.answer(pipeline, result_id, answer, note=note, who=who)
    if done is None:
        reason = f"result {result_id} of {pipeline} is not kept, or not any more"
        return Reply(BAD_NODE_ID_UNKNOWN, reason)
    body = _record(request, (pipeline, result_id, answer, note, who), done)
    number = await journal.append_durably(
        ANSWER, body, clock.utc_ns(), timeout_s=min(request.timeout_s, _DURABLE_S)
    )
    if not number:
        fault = journal.state.fault or "the disk takes too long"
        return Reply(BAD_RESOURCE_UNAVAILABLE, f"stored, but not in the journal yet: {fault}")
    return Reply(body={"id": number, "former": done.former})


def _record(request: Request, given: tuple[str, int, Answer, str, str], done: Answered) -> dict[str, Any]:
    pipeline, result_id, answer, note, who = given
    return {
        "pipeline": pipeline,
        "result_id": result_id,
        "answer": answer.value,
        "who": who,
        "note": note,
        "former": done.former,
        "verdict": Verdict(done.verdict).name,
        "model": f"{done.model}/{done.version}" if done.model else "",
        "origin": request.origin,
    }


def _checked(body: Mapping[str, Any]) -> tuple[str, int, Answer, str, str]:
    result_id = body.get("result_id")
    if isinstance(result_id, str) and result_id.isascii() and result_id.isdigit():
        result_id = int(result_id)
    if isinstance(result_id, bool) or not isinstance(result_id, int) or not 0 <= result_id < 1 << 63:
        raise ControlError("'result_id' is not the number of a result")
    try:
        answer = Answer(str(body.get("answer")))
    except ValueError:
        raise ControlError(f"'answer' is none of {', '.join(Answer)}") from None
    pipeline, who = _text(body, "pipeline", _MAX_NAME), _text(body, "user", _MAX_NAME)
    if not pipeline:
        raise ControlError("'pipeline' is missing")
    return pipeline, result_id, answer, _text(body, "note", MAX_NOTE), who


def _text(body: Mapping[str, Any], name: str, most: int) -> str:
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > most:
        raise ControlError(f"{name!r} is not a text of at most {most} characters")
    return value.encode("utf-8", "replace").decode()  # a terminal of another coding gives what no file takes

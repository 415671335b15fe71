"""What the OPC UA process says on the control channel for its clients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from edge_opcua.app.opcua import _Service
from edge_opcua.core.messages import Reply, encode
from edge_opcua.core.values import BAD_INVALID_STATE
from edge_opcua.opcua.modelmethods import ModelRequest
from edge_opcua.opcua.outputmethods import OutputAct
from edge_opcua.opcua.writes import ClientWrite


class Channel:
    """A control channel that keeps what is said, as it goes over the wire, and gives one answer."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, Mapping[str, Any]]] = []
        self.told: list[tuple[str, str, Mapping[str, Any]]] = []

    async def request(self, to: str, kind: str, body: Mapping[str, Any], *, timeout_s: float) -> Reply:
        assert 0 < timeout_s <= 5
        encode(body)
        self.said.append((to, kind, body))
        return Reply(BAD_INVALID_STATE, "it is held")

    def notify(self, to: str, kind: str, body: Mapping[str, Any]) -> None:
        encode(body)
        self.told.append((to, kind, body))


async def test_writes_and_acts_of_clients_reach_the_process_that_writes(tmp_path: Path) -> None:
    channel = Channel()
    child = SimpleNamespace(control=channel, state_dir=tmp_path)
    nothing = cast(Any, None)
    service = _Service(cast(Any, child), nothing, nothing, nothing, None)
    write = ClientWrite("press/sp_speed", [1.5, 2.5], "anna, UaExpert (10.0.0.7:1)", "operator", "session x")
    assert (await service._write(write)).reason == "it is held"
    assert (await service._act(OutputAct("verdict", "acknowledge", "anna", "guard closed"))).status
    service._writer_gone("speed", "mes (10.0.0.8:1)", "its session is over")
    assert channel.said == [
        (
            "io",
            "write",
            {
                "tag": "press/sp_speed",
                "value": [1.5, 2.5],
                "user": "anna, UaExpert (10.0.0.7:1)",
                "writer": "operator",
                "why": "session x",
            },
        ),
        (
            "io",
            "output",
            {"output": "verdict", "action": "acknowledge", "user": "anna", "why": "guard closed"},
        ),
    ]
    service._writer_gone("speed", "m" * 2_000_000, "its session is over")  # stops nothing
    gone = {
        "output": "speed",
        "action": "writer_gone",
        "user": "mes (10.0.0.8:1)",
        "why": "its session is over",
    }
    assert channel.told == [("io", "output", gone)]


async def test_changes_of_models_go_to_the_supervisor_and_answers_to_the_records(tmp_path: Path) -> None:
    channel = Channel()
    child = SimpleNamespace(control=channel, state_dir=tmp_path)
    nothing = cast(Any, None)
    service = _Service(cast(Any, child), nothing, nothing, nothing, None)
    requests = [
        ModelRequest("load_model", {"name": "m", "version": 2, "sha256": "a", "user": "anna"}),
        ModelRequest("validate_model", {"name": "m", "version": 2, "sha256": "", "user": "anna"}),
        ModelRequest("rollback_model", {"pipeline": "press", "note": "bad", "user": "anna"}),
        ModelRequest("answer_verdict", {"pipeline": "press", "result_id": "7", "answer": "real"}),
    ]
    for request in requests:
        assert (await service._change_model(request)).reason == "it is held"
    assert [(to, kind) for to, kind, _ in channel.said] == [
        ("supervisor", "load_model"),
        ("supervisor", "validate_model"),
        ("supervisor", "rollback_model"),
        ("records", "answer_verdict"),
    ]
    assert [body for _, _, body in channel.said] == [request.body for request in requests]

"""The event of a result says what its batch said, and makes a field only when somebody asks for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from asyncua import ua

from edge_opcua.core.batch import BlockLayout, TagBatch
from edge_opcua.core.values import GOOD, Verdict
from edge_opcua.opcua.results import ResultContext, ResultEvent, ResultEvents
from edge_opcua.opcua.rows import RESULT_ROWS
from edge_opcua.opcua.services.event.encoded import EncodedEvents, plan
from edge_opcua.opcua.values import utc
from tests.opcua.plant import result_block

SPEC = result_block("press.result")
NODE, MODEL = ua.NodeId("press", 2), ua.NodeId("model", 2)
MADE_NS = 1_790_000_000_000_000_000
BAD = int(ua.StatusCodes.BadSensorFailure)
VALUES: dict[str, Any] = {
    "stroke": 17,
    "part_id": 1017,
    "verdict": int(Verdict.NOT_OK),
    "score": 0.25,
    "contributions": [0.5, 0.25],
    "features": [],
    "captured_ns": MADE_NS - 5_000_000,
    "fail_safe_active": True,
    "model_name": "press-anomaly",
    "model_version": 3,
    "reason": "worn",
}


def event(*bad: str, **changes: Any) -> ResultEvent:
    batch = TagBatch(BlockLayout(SPEC))
    batch.status[:] = GOOD
    batch.server_ns[:] = MADE_NS
    for name, value in {**VALUES, **changes}.items():
        batch.set(batch.row(name), value)
    status = batch.status.copy()
    for name in bad:
        status[batch.row(name)] = BAD
    made = ResultEvents(SPEC, "press-anomaly", NODE).event(batch, status, ResultContext(("rms",), MODEL, 1.5))
    batch.view[:] = bytes(len(batch.view))  # the bus goes on
    return made


def test_a_result_says_what_its_batch_said() -> None:
    made = event()
    assert made.Message.Text == "press-anomaly: stroke 17 not OK, score 0.25 (worn)"
    assert (made.Severity, made.SourceNode, made.SourceName) == (500, NODE, "press-anomaly")
    assert made.Time == utc(MADE_NS)
    assert (made.Stroke, made.PartId, made.Score, made.FailSafeActive) == (17, 1017, 0.25, True)
    assert (made.Contributions, made.Features) == ([0.5, 0.25], [])
    assert (made.ModelName, made.ModelVersion, made.Reason) == ("press-anomaly", 3, "worn")
    assert (made.Verdict, made.CapturedAt, made.ResultStatus.value) == (2, utc(MADE_NS - 5_000_000), 0)
    assert (made.Pipeline, made.ContributionNames, made.ModelRef) == ("press-anomaly", ["rms"], MODEL)
    assert made.LatencyPublish == 1.5


def test_every_row_of_a_result_is_a_field_of_its_type() -> None:
    made = event()
    for tag in SPEC.tags:
        member = RESULT_ROWS.get(tag.name)
        if member is not None and tag.name != "result_id":
            assert made.data_types[member] is not None
            assert getattr(made, member) is not None


@pytest.mark.parametrize("row", ["score", "reason", "contributions"])
def test_a_bad_row_is_null(row: str) -> None:
    # Part 4 §7.11.1.
    made = event(row)
    assert getattr(made, RESULT_ROWS[row]) is None
    assert EncodedEvents([made]).rows(plan((RESULT_ROWS[row],))) == [b"\x01\0\0\0\0"]


def test_a_bad_verdict_is_not_decidable() -> None:
    made = event("verdict", "stroke", "score")
    assert (made.Verdict, made.Severity) == (int(Verdict.NOT_DECIDABLE), 400)
    assert made.Message.Text == "press-anomaly: not decidable (worn)"
    assert made.ResultStatus.value == BAD
    assert event(verdict=99).Verdict == int(Verdict.UNDEFINED)


def test_a_field_is_made_once_and_only_when_it_is_wanted() -> None:
    made = event()
    assert "Score" not in vars(made)
    assert made.ContributionNames is made.ContributionNames
    with pytest.raises(AttributeError):
        _ = made.NoSuchField
    assert np.isclose(made.Score, 0.25)

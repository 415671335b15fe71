"""Whatever a model does to the process that tries it, whoever asked gets an answer and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import ask_apart
from edge_opcua.testing import ManualClock
from tests.inference.hostile.models import endless, hostile_image

PROGRAM = "tests.inference.apartprogram"


def refused(within_s: float = 15.0, **request: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask_apart(PROGRAM, request, within_s=within_s)
    return caught.value


def test_steps_are_told_and_lines_of_the_runtime_are_not_taken_for_an_answer() -> None:
    steps: list[dict[str, Any]] = []
    answer = ask_apart(PROGRAM, {"what": "answer", "say": "µ"}, within_s=15.0, progress=steps.append)
    assert answer == {"said": "µ"}
    assert steps == [{"step": "began"}]


def test_a_refusal_keeps_its_code() -> None:
    error = refused(what="refuse")
    assert (error.code, str(error)) == ("M504", "no such thing")


def test_a_process_that_dies_is_told_with_its_signal_and_last_words() -> None:
    error = refused(what="die")
    assert error.code == "M610"
    assert "SIGSEGV" in str(error)
    assert "the last words" in str(error)
    assert "exit code 3" in str(refused(what="exit"))


def test_a_process_that_hangs_is_ended() -> None:
    assert refused(within_s=1.5, what="hang").code == "M611"


def test_a_process_that_goes_on_telling_is_not_ended_for_taking_long() -> None:
    clock, steps = ManualClock(), []

    def progress(step: dict[str, Any]) -> None:
        steps.append(step)
        clock.step(6.0)

    request = {"what": "tell", "times": 8}
    with pytest.raises(ModelError):  # all of it takes longer than it may
        ask_apart(PROGRAM, request, within_s=8.0, progress=progress, clock=clock)
    steps.clear()
    answer = ask_apart(PROGRAM, request, within_s=8.0, progress=progress, clock=clock, while_it_tells=True)
    assert answer == {"told": 8}
    assert len(steps) == 9
    with pytest.raises(ModelError) as caught:
        ask_apart(PROGRAM, {"what": "hang"}, within_s=1.5, while_it_tells=True)
    assert caught.value.code == "M611"


def test_a_process_does_not_take_more_memory_than_the_machine_can_spare() -> None:
    error = refused(what="grow", bytes=2**50, keep_free_bytes=0)
    assert error.code == "M581"


def test_a_model_that_computes_for_ever_is_ended_too(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(hostile_image(endless, above=-1e9))  # it attacks whatever it is fed with
    request = {"path": str(path), "provider": "cpu", "load_s": 2.0}
    with pytest.raises(ModelError) as caught:
        ask_apart("edge_opcua.inference.tryout", request, within_s=2.0)
    assert caught.value.code == "M611"

"""The ledger of models: what follows from its entries, and what a file of it survives."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.errors import ModelError
from edge_opcua.inference import ledgerfile
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import (
    CLOSING,
    LOAD_STEPS,
    MOST_FORMERS,
    ROLLBACK_STEPS,
    SERVER,
    Entry,
    Kind,
    Standing,
    Step,
    after,
    unfinished,
)
from edge_opcua.inference.ledgerfile import Ledger, read_history, standing_of
from edge_opcua.testing import ManualClock

V1, V2, V3 = (ModelChoice("m", number, str(number) * 64) for number in (1, 2, 3))


def load(new: ModelChoice, old: ModelChoice, *pipelines: str, user: str = "me") -> Entry:
    names = pipelines or ("a",)
    return Entry(Kind.LOAD, Step.BEGUN, new, dict.fromkeys(names, old), dict.fromkeys(names, new), user=user)


def back(left: ModelChoice, to: ModelChoice, *pipelines: str, user: str = "me") -> Entry:
    return replace(load(to, left, *pipelines, user=user), kind=Kind.ROLLBACK, model=left)


def done(*steps: Entry) -> Standing:
    """Return what is the case after entries, each numbered as it comes."""
    return standing_of(
        replace(entry, number=number, change=entry.change or number) for number, entry in enumerate(steps, 1)
    )


def confirmed(new: ModelChoice, old: ModelChoice) -> list[Entry]:
    entry = load(new, old)
    return [entry.next(Step.ACTIVE), replace(entry.next(Step.CONFIRMED), kind=Kind.ADOPTION)]


@pytest.mark.parametrize("step", LOAD_STEPS)
def test_a_version_is_the_active_one_from_the_moment_it_judges(step: Step) -> None:
    begun = replace(load(V2, V1), change=1)
    standing = done(*(begun.next(each) for each in LOAD_STEPS[: LOAD_STEPS.index(step) + 1]))
    has_taken_over = step in (Step.ACTIVE, Step.CONFIRMED)
    assert standing.of("a").active == (V2 if has_taken_over else None)
    assert standing.roll_back_to("a") == (V1 if has_taken_over else None)
    assert bool(standing.open) != has_taken_over


def test_only_the_trial_of_a_change_is_ended_by_its_confirmation() -> None:
    first, second = load(V2, V1), load(V3, V2)
    standing = done(first.next(Step.ACTIVE), second.next(Step.ACTIVE))
    assert standing.trials == {2: ("a",)}
    late = after(standing, replace(first.next(Step.CONFIRMED), change=1, number=3))
    assert late.of("a").active == V3
    assert late.trials == {2: ("a",)}
    assert after(standing, replace(second.next(Step.CONFIRMED), change=2, number=3)).trials == {}


def test_going_back_goes_further_back_every_time_and_never_forth() -> None:
    standing = done(*confirmed(V2, V1), *confirmed(V3, V2))
    assert standing.of("a").formers == (V2, V1)
    standing = after(standing, replace(back(V3, V2).next(Step.REVERTED), number=9))
    assert (standing.of("a").active, standing.of("a").formers) == (V2, (V1,))
    standing = after(standing, replace(back(V2, V1).next(Step.REVERTED), number=10))
    assert (standing.of("a").active, standing.roll_back_to("a")) == (V1, None)


def test_formers_are_few_and_each_is_there_once() -> None:
    versions = [ModelChoice("m", number, "") for number in range(1, 12)]
    changes = [*itertools.pairwise(versions), (versions[-1], versions[-2]), (versions[-2], versions[-1])]
    standing = done(*(load(new, old).next(Step.ACTIVE) for old, new in changes))
    formers = standing.of("a").formers
    assert [former.version for former in formers] == [10, 9, 8, 7, 6][:MOST_FORMERS]
    assert standing.of("a").active == versions[-1]


def test_nobody_goes_back_to_a_version_in_quarantine_until_it_is_released() -> None:
    held = load(V2, V1).verdict(Step.QUARANTINED, SERVER, "errors")
    standing = done(*confirmed(V2, V1), *confirmed(V3, V2), held)
    assert standing.quarantine_of(V2) is not None
    assert standing.roll_back_to("a") == V1
    released = after(standing, replace(held.next(Step.RELEASED), number=9, change=9))
    assert released.roll_back_to("a") == V2


def test_that_the_server_went_back_by_itself_is_remembered_with_its_time() -> None:
    entry = replace(back(V2, V1, user=SERVER).next(Step.REVERTED), number=3, utc_ns=77)
    standing = after(done(*confirmed(V2, V1)), entry)
    assert standing.of("a").reverted_ns == 77
    by_hand = after(standing, replace(back(V1, V2).next(Step.REVERTED), number=4, utc_ns=99))
    assert by_hand.of("a").reverted_ns == 77


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("step", list(Step))
def test_a_start_undoes_what_had_not_begun_to_take_effect_and_completes_a_roll_back_that_had(
    step: Step, clean: bool
) -> None:
    kind = back if step in ROLLBACK_STEPS[1:] else load
    found = unfinished(done(kind(V2, V1).next(step)), clean=clean)
    if step in CLOSING or step is Step.ORDERED:
        assert not found
        return
    ((_, ending, why),) = found
    assert ending is (Step.REVERTED if step is Step.REVERTING else Step.FAILED)
    assert why.startswith("the server was stopped" if clean else "the server ended unexpectedly")


def test_an_entry_is_the_same_after_it_was_written_and_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", ManualClock())
    entry = ledger.append(replace(load(V2, V1, "a", "b"), note="новая матрица\n", why="\x1b[2J"))
    verdict = ledger.append(entry.verdict(Step.QUARANTINED, SERVER, "errors"))
    history = read_history(tmp_path / "ledger")
    assert history.entries == (entry, verdict)
    assert history.standing == ledger.standing
    assert [each.change for each in history.entries] == [1, 2]
    assert (tmp_path / "ledger").stat().st_mode & 0o777 == 0o600


@given(cut=st.integers(0, 2000))
def test_a_line_that_was_cut_off_never_happened(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    file = tmp_path_factory.mktemp("cut") / "ledger"
    ledger = Ledger(file, ManualClock())
    first = ledger.append(load(V2, V1))
    whole = file.stat().st_size
    ledger.append(first.next(Step.ACTIVE))
    size = min(whole + cut, file.stat().st_size)
    was_whole = size == file.stat().st_size
    with file.open("r+b") as stream:
        stream.truncate(size)
    reopened = Ledger(file, ManualClock())
    assert reopened.standing.of("a").active == (V2 if was_whole else None)
    third = reopened.append(load(V3, V1))
    entries = read_history(file).entries
    assert entries[-1] == third
    assert len(entries) == (3 if was_whole else 2)
    assert read_history(file).damaged == 0


def test_damaged_lines_are_counted_and_hide_no_other(tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    Ledger(file, ManualClock()).append(load(V2, V1).next(Step.ACTIVE))
    with file.open("ab") as stream:
        stream.write(b'[]\n{"kind": "load"}\n\x00\xff\n' + b"[" * 100_000 + b"\n")
    ledger = Ledger(file, ManualClock())
    assert ledger.damaged == 4
    assert ledger.standing.of("a").active == V2


def test_a_ledger_that_has_grown_large_says_the_same_with_fewer_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgerfile, "MOST_BYTES", 4000)
    monkeypatch.setattr(ledgerfile, "MOST_KEPT", 3)
    file = tmp_path / "ledger"
    ledger = Ledger(file, ManualClock())
    held = ledger.append(load(V3, V1).verdict(Step.QUARANTINED, SERVER, "errors"))
    ledger.append(replace(load(V3, V1, "b"), step=Step.ORDERED, note="for later"))
    for new, old in ((V2, V1), (V1, V2)) * 6:
        begun = ledger.append(load(new, old))
        ledger.append(begun.next(Step.ACTIVE))
    ledger.append(replace(back(V1, V2, user=SERVER), step=Step.REVERTED))
    size, standing = file.stat().st_size, ledger.standing
    for _ in range(2):  # and once more what was shortened
        reopened = Ledger(file, ManualClock())
        assert reopened.standing == standing
        assert reopened.standing.quarantine_of(V3) == held
        assert read_history(file).standing == standing
        assert read_history(file).damaged == 0
        monkeypatch.setattr(ledgerfile, "MOST_BYTES", 0)
        monkeypatch.setattr(ledgerfile, "MOST_KEPT", 1)
    assert file.stat().st_size < size
    assert file.stat().st_mode & 0o777 == 0o600
    assert reopened.append(load(V3, V2)).number == 28


def test_what_has_happened_counts_though_the_disk_is_full_and_is_written_with_the_next_entry(
    tmp_path: Path,
) -> None:
    file = tmp_path / "there" / "ledger"
    ledger = Ledger(file, ManualClock())
    with pytest.raises(FileNotFoundError):
        ledger.append(load(V2, V1))
    assert not ledger.standing.open
    with pytest.raises(FileNotFoundError):
        ledger.take(load(V2, V1).next(Step.ACTIVE))
    assert ledger.standing.of("a").active == V2
    file.parent.mkdir()
    ledger.append(load(V3, V2))
    assert [entry.step for entry in read_history(file).entries] == [Step.ACTIVE, Step.BEGUN]


def test_a_ledger_that_cannot_be_read_is_damaged_and_takes_no_change(tmp_path: Path) -> None:
    # What is configured runs then; the line does not stand still for it.
    file = tmp_path / "ledger"
    file.mkdir()
    ledger = Ledger(file, ManualClock())
    assert (ledger.damaged, ledger.standing.pipelines) == (1, {})
    with pytest.raises(OSError, match="directory"):
        ledger.append(load(V2, V1))


@pytest.mark.parametrize("row", [{}, {"number": 1}, {"number": "x", "kind": "load"}, {"number": math.inf}])
def test_what_is_no_entry_is_refused(row: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="no entry") as caught:
        Entry.of(row)
    assert caught.value.code == "M630"


@pytest.mark.parametrize(
    "line",
    [
        b'{"number": 1e999, "utc_ns": 1, "change": 1, "kind": "load", "step": "begun", "model": {}}',
        (
            b'{"summary": {"quarantined": [], "open": [], "pipelines": {"a": {"active": null, "formers": [],'
            b' "trial": 1e999, "since": 1, "reverted_ns": 1}}}}'
        ),
        b'{"summary": []}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=["infinite number", "infinite trial", "summary of nothing", "no text", "brackets"],
)
def test_no_line_of_a_ledger_ends_who_reads_it(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "ledger"
    file.write_bytes(line + b"\n")
    assert read_history(file).damaged == 1

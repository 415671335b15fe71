"""``edge-opcua compress``: a run, what it says meanwhile, and what it ends with."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Final, TextIO

from edge_opcua.app.command.look import printable
from edge_opcua.app.command.tell import ANSWER_IS_NO, REFUSED, WRONG_USE, complain, duration, say
from edge_opcua.compress.arguments import options_of
from edge_opcua.compress.report.page import report_page
from edge_opcua.compress.report.terminal import report_text
from edge_opcua.compress.search.progress import Advance
from edge_opcua.compress.search.run import REPORT_FILE, Planned, Searched, plan_of, search, work_of
from edge_opcua.compress.version.package import add_to_repository, addition_text, require_package
from edge_opcua.errors import ModelError
from edge_opcua.security.pki import write_atomic

SCHEMA: Final = "edge-opcua.compression/1"
_INTERRUPTED: Final = 130
_READABLE: Final = 0o644
_WRONG: Final = frozenset({"M501", "M502", "M507", "M605", "M670", "M672", "M673", "M674", "M682"})
"""Codes of what whoever called it has to change: the model, the data or the options that were named."""
_WHOLE: Final = 100.0
_DOES: Final = {
    "model": "is made",
    "answers": "answers",
    "timing": "is timed",
    "close-timing": "is timed longer",
    "comparison": "is compared",
}
"""What happens in a step, by the end of its name."""


def run(args: argparse.Namespace, state: Path) -> int:
    """Do what the command line asks for.

    Returns:
        0: a variant was chosen, or the plan shown; 1: none is proved to be as good; 2: wrong use; 3: refused;
        130: interrupted.
    """
    options = options_of(args)
    shown = Shown()
    try:
        if args.plan:
            say(plan_text(plan_of(args.target, args.data, options, state_dir=state)))
            return 0
        if args.add:
            require_package(args.target, state)
        searched = search(args.target, args.data, options, state_dir=state, progress=shown)
        shown.end()
        _report(searched, args)
        _tell(searched, args)
        chosen = searched.report.chosen is not None
        if args.add and chosen:
            _add(searched, state)
    except ModelError as exc:
        shown.end()
        complain(printable(f"{exc.code}: {exc}" if exc.code else str(exc)))
        return WRONG_USE if exc.code in _WRONG else REFUSED
    except KeyboardInterrupt:
        shown.end()
        complain(f"interrupted; run the same command again to go on: {work_of(args.target, options)}")
        return _INTERRUPTED
    return 0 if chosen else ANSWER_IS_NO


def _tell(searched: Searched, args: argparse.Namespace) -> None:
    """Print the report; who stopped reading changes nothing about the answer."""
    try:
        _print(searched, args)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as exc:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ModelError(
            f"the report cannot be printed: {exc.strerror}; it is in {searched.work / REPORT_FILE}",
            code="M681",
        ) from exc


def _print(searched: Searched, args: argparse.Namespace) -> None:
    if args.json:
        say(json.dumps({"schema": SCHEMA, **json.loads(searched.report.text())}, ensure_ascii=False))
    else:
        say(report_text(searched.report))
        chosen = searched.report.chosen_row
        if chosen is not None:
            say(f"its file: {searched.work / chosen.file}")


def _report(searched: Searched, args: argparse.Namespace) -> None:
    """Write the report where it is wanted.

    Raises:
        ModelError: It cannot be written there (M681).
    """
    if args.report is not None:
        try:
            write_atomic(args.report, report_page(searched.report).encode(), mode=_READABLE)
        except OSError as exc:
            raise ModelError(f"{args.report} cannot be written: {exc.strerror}", code="M681") from exc


def _add(searched: Searched, state: Path) -> None:
    addition = add_to_repository(
        searched.report, searched.subject.files, searched.work, searched.gate.rows, state
    )
    for line in addition_text(addition, state):
        complain(line)


def plan_text(planned: Planned) -> str:
    """Return what would be tried, for people."""
    lines = []
    for number, stage in enumerate(planned.stages, 1):
        lines.append(f"stage {number}")
        for variant in stage:
            made_of = "" if variant.parent in ("original", "clean") else f" (of {variant.parent})"
            lines.append(f"  {variant.name:<44} {variant.text}{made_of}".rstrip())
    count = sum(map(len, planned.stages))
    lines.append(
        f"{count} variants at most. Nothing is built upon what does damage to the calibration samples; mixed "
        "precision is tried if INT8 does, training for INT8 if the gate refuses each INT8 variant."
    )
    if planned.nameable:
        lines.append(f"only if named: --also {','.join(planned.nameable)}")
    lines += [f"not possible: {why}" for why in planned.refused]
    return "\n".join(lines)


def _doing(text: str) -> str:
    """Return what a step does in words: ``pruned-40/timing: round 2 of 6`` is timed."""
    step, colon, within = text.partition(": ")
    name, _, kind = step.partition("/")
    return f"{name} {_DOES.get(kind, kind)}{colon}{within}".strip()


class Shown:
    """Says on stderr how far a run is: over and over in one line on a terminal, else a line for each step."""

    def __init__(self) -> None:
        self._stream: TextIO | None = sys.stderr  # None where it was closed
        self._terminal = self._stream is not None and self._stream.isatty()
        self._said = ""
        self._told: set[str] = set()

    def __call__(self, advance: Advance) -> None:
        """Take where the run is."""
        share = f"{_WHOLE * advance.share:3.0f} %"
        rest = f"about {duration(advance.remaining_s)} left"
        if self._terminal:
            self._write(f"\r\x1b[K{share}  {rest}  {printable(_doing(advance.text))[:60]}")
            self._said = advance.text
        else:
            step = advance.text.partition(": ")[0]
            if step in self._told:
                return
            self._told.add(step)
            self._write(f"{share}  {rest}  {printable(_doing(step))}\n")

    def end(self) -> None:
        """Take the line away."""
        if self._terminal and self._said:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # nobody reads it, or it is full: the run does not end for that
            self._stream = None

"""``edge-opcua doctor``: says what runs on this machine, what does not, why, and what to do about it."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from edge_opcua.doctor.checks import CHECKS, Check, Finding, Outcome, Severity, run_checks
from edge_opcua.doctor.facts import Context, gather

__all__ = [
    "CHECKS",
    "Check",
    "Context",
    "Finding",
    "Outcome",
    "Severity",
    "gather",
    "main",
    "render",
    "run_checks",
]

_MARGIN: Final = 6  # status word and a space; texts, fixes and folded lines stand below each other
_NAGIOS: Final = {Severity.FAIL: (2, "CRITICAL"), Severity.WARN: (1, "WARNING"), Severity.OK: (0, "OK")}


def main(*, state_dir: Path, port: int = 4840, as_json: bool = False, nagios: bool = False) -> int:
    """Print the report; return 0, or 1 when something failed (with ``nagios``: 0, 1, 2 as its plugins do)."""
    findings = run_checks(gather(state_dir, ports=(port,)))
    if nagios:
        code, line = nagios_line(findings)
        sys.stdout.write(line + "\n")
        return code
    width = shutil.get_terminal_size((100, 24)).columns
    sys.stdout.write(to_json(findings) if as_json else render(findings, width=width))
    return int(any(one.severity is Severity.FAIL for one in findings))


def render(findings: Sequence[Finding], *, width: int = 80) -> str:
    """Return the report for people: one line per finding, what to do below it, the sum at the end."""
    lines = []
    for one in findings:
        code = one.code if one.severity in (Severity.WARN, Severity.FAIL) else ""
        lines += _row(one.severity.value, one.text, code, width)
        if one.fix:
            lines += _row("", f"fix: {one.fix}", "", width)
    lines.append(_summary(findings))
    return "\n".join(lines) + "\n"


def _row(word: str, text: str, code: str, width: int) -> list[str]:
    room = max(width, 60) - _MARGIN - (len(code) + 2 if code else 0)
    folded = textwrap.wrap(text, room, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    first = f"{word:<{_MARGIN}}{folded[0]}"
    if code:
        first = f"{first:<{_MARGIN + room}}  {code}"
    return [first, *(" " * _MARGIN + line for line in folded[1:])]


def _summary(findings: Sequence[Finding]) -> str:
    count = Counter(one.severity for one in findings)
    if not count[Severity.FAIL] and not count[Severity.WARN]:
        return "Nothing stands in the way.  Next: edge-opcua demo"
    parts = [
        f"{number} {noun}{'' if number == 1 else 's'}"
        for number, noun in ((count[Severity.FAIL], "failure"), (count[Severity.WARN], "warning"))
        if number
    ]
    bad = Severity.FAIL if count[Severity.FAIL] else Severity.WARN
    code = next(one.code for one in findings if one.severity is bad)
    return f"{', '.join(parts)}.  More: edge-opcua explain {code}"


def to_json(findings: Sequence[Finding]) -> str:
    """Return the report for machines: one object; fields are only ever added."""
    count = Counter(one.severity for one in findings)
    report = {
        "schema": "edge-opcua.doctor/1",
        "failures": count[Severity.FAIL],
        "warnings": count[Severity.WARN],
        "findings": [asdict(one) for one in findings],
    }
    return json.dumps(report, indent=2) + "\n"


def nagios_line(findings: Sequence[Finding]) -> tuple[int, str]:
    """Return exit code and line of a Nagios plugin: the worst finding first, all that is not well named."""
    for severity, (code, word) in _NAGIOS.items():
        these = [f"{one.code} {one.text}" for one in findings if one.severity is severity]
        if severity is Severity.OK:
            return code, f"EDGE-OPCUA {word} - {len(these)} checks passed"
        if these:
            return code, f"EDGE-OPCUA {word} - " + "; ".join(these).replace("|", "/")
    raise AssertionError("unreachable: OK always answers")

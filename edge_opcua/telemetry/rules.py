"""What Prometheus shall wake somebody for: few rules, each with what to do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert.

    Args:
        name: Its name.
        expression: PromQL; what it yields is in alarm.
        minutes: How long that must hold.
        severity: ``critical`` (the line is not judged), ``warning`` (it soon may not be), ``info``.
        summary: One sentence for people, with Prometheus's templates.
        action: What to do.
    """

    name: str
    expression: str
    minutes: int
    severity: str
    summary: str
    action: str


RULES: Final = (
    Rule(
        "EdgeDown",
        "absent(edge_uptime_seconds)",
        2,
        "critical",
        "No figures come from the edge server",
        "Look whether the box is up and `edge-opcua status` answers.",
    ),
    Rule(
        "EdgeFailSafe",
        "edge_failsafe_active == 1",
        1,
        "critical",
        "{{ $labels.pipeline }} gives the fail-safe verdict",
        "The reason stands in the result: `edge-opcua status`.",
    ),
    Rule(
        "EdgeDeviceDown",
        "edge_link_up == 0",
        1,
        "critical",
        "{{ $labels.device }} does not answer",
        "`edge-opcua probe` says what is between here and the device.",
    ),
    Rule(
        "EdgeDeadlinesMissed",
        "increase(edge_deadline_missed_total[10m]) > 0",
        0,
        "warning",
        "{{ $labels.pipeline }} missed {{ $value | humanize }} deadlines in ten minutes",
        "`edge-opcua lanes` shows where the time goes.",
    ),
    Rule(
        "EdgeNotSchedulable",
        "edge_schedulable == 0",
        2,
        "warning",
        "The deadline of {{ $labels.pipeline }} cannot be promised any more",
        "`edge-opcua check` lists what runs beside it.",
    ),
    Rule(
        "EdgeModelAlarm",
        "max by (pipeline, kind) (edge_model_alarm) == 1",
        1,
        "warning",
        "Model of {{ $labels.pipeline }}: {{ $labels.kind }}",
        "`edge-opcua status` says what was seen; `edge-opcua model rollback` goes back.",
    ),
    Rule(
        "EdgeModelRolledBack",
        "increase(edge_rollback_total[1h]) > 0",
        0,
        "warning",
        "The server went back to a former model: {{ $labels.reason }}",
        "`edge-opcua model history` says when and why.",
    ),
    Rule(
        "EdgeRecordsLost",
        "increase(edge_records_lost_total[10m]) > 0",
        0,
        "warning",
        "Records were lost because nothing could be written",
        "Look at the disk of the state directory.",
    ),
    Rule(
        "EdgeProcessRestarts",
        "increase(edge_process_restarts_total[15m]) > 3",
        0,
        "warning",
        "The process {{ $labels.role }} was started again {{ $value | humanize }} times in 15 minutes",
        "Its last words are in the log of the server.",
    ),
    Rule(
        "EdgeHot",
        "edge_throttled == 1",
        5,
        "warning",
        "The computer slows itself down because it is hot",
        "Look at its fan, filter and cabinet.",
    ),
    Rule(
        "EdgeDiskFull",
        "edge_state_disk_free_bytes < 500e6",
        10,
        "warning",
        "Less than 500 MB are free on the disk of the state directory",
        "Make room, or lower `windows_mb` of `[models]`.",
    ),
)
"""Every alert."""


def rules() -> dict[str, Any]:
    """Return the rules as Prometheus reads them."""
    return {
        "groups": [
            {
                "name": "edge_opcua",
                "rules": [
                    {
                        "alert": rule.name,
                        "expr": rule.expression,
                        "for": f"{rule.minutes}m",
                        "labels": {"severity": rule.severity},
                        "annotations": {"summary": rule.summary, "description": rule.action},
                    }
                    for rule in RULES
                ],
            }
        ]
    }


def yaml_of(tree: Any, indent: int = 0) -> str:
    """Return plain data as YAML: block style, every text in quotes (JSON's are YAML's)."""
    pad = "  " * indent
    if isinstance(tree, dict) and tree:
        return "".join(f"{pad}{key}:{_value(value, indent)}" for key, value in tree.items())
    if isinstance(tree, list) and tree:
        return "".join(f"{pad}- {yaml_of(each, indent + 1).lstrip()}" for each in tree)
    return f"{pad}{json.dumps(tree, ensure_ascii=False)}\n"


def _value(value: Any, indent: int) -> str:
    if isinstance(value, dict | list) and value:
        return "\n" + yaml_of(value, indent + 1)
    return " " + yaml_of(value).lstrip()

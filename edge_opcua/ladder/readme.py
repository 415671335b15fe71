"""The page beside an exported block: which file is what, how to wire it, and what was never tried."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from edge_opcua.ladder.facts import Facts
from edge_opcua.ladder.files import File
from edge_opcua.ladder.header import header
from edge_opcua.ladder.variables import variables

_WIDTH: Final = 116
_PAGES: Final = Path(__file__).with_name("pages.toml")


@cache
def _pages() -> Mapping[str, Mapping[str, Any]]:
    return MappingProxyType(tomllib.loads(_PAGES.read_text(encoding="utf-8")))


def readme(facts: Facts, target: str, files: tuple[File, ...]) -> str:
    """Return the page of one target."""
    interface, version, page = facts.map.interface, facts.map.version, _pages()[target]
    words = {
        "block": facts.block,
        "name": facts.name,
        "status": f"`{interface.status}`",
        "control": f"`{interface.control}`",
        "scan": facts.plc_scan_ms,
    }
    steps = [
        _filled(f"{number}. {step.format(**words)}", later="   ")
        for number, step in enumerate(page["steps"], 1)
    ]
    safe = "`Out` and `Permit`, which see to that themselves"
    safe = safe if facts.mode == "veto" else "`Out`, which sees to that itself"
    lines = [
        "<!--",
        *(line.replace("--", "-") for line in header(facts, f"how to wire it ({target})")),
        "-->",
        "",
        f"# {facts.block} for {target}",
        "",
        *_filled(
            f"The PLC side of output `{facts.output}`, mode `{facts.mode}`, interface version **{version}**. "
            "Edge and PLC trust each other only while both show this number: export again after every change "
            "of mode, results or word order."
        ),
        "",
        *_filled("**Not compiled, not tried on a PLC.** " + page["untried"]),
        "",
        *_filled(
            "This is process fail-safe, no functional safety: emergency stop, guards and limits stay as they "
            "are."
        ),
        "",
        "## Files",
        "",
        *(f"* `{file.name}`" for file in files),
        f"* `EdgeAI_{facts.name}_timing.svg`: who changes what when, with the configured times",
        "",
        "## Wiring",
        "",
        *(line for step in steps for line in step),
        "",
        *_filled(
            f"Act on the results only while `InUse` is on, or use {safe}. Lead a button to `OpAck`, and show "
            "`AckReq`."
        ),
        "",
        *_table(facts, "input", "Inputs"),
        *_table(facts, "output", "Outputs"),
        *_times(facts),
        "",
        "Each word and bit is explained in the reference of the interface (docs/reference/eai.md).",
    ]
    return "\n".join(lines) + "\n"


def _filled(text: str, later: str = "") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, subsequent_indent=later, break_on_hyphens=False, break_long_words=False
    )


def _table(facts: Facts, role: str, title: str) -> Iterator[str]:
    area = ("Status", "the words the edge writes") if role == "input" else ("Control", "the words it reads")
    yield f"## {title}"
    yield ""
    yield "| name | type | is |"
    yield "|---|---|---|"
    for one in variables(facts):
        if one.role == role:
            initial = "" if one.initial is None else f" (if not set: {str(one.initial).upper()})"
            yield f"| `{one.name}` | {one.type} | {one.text}{initial} |"
    yield f"| `{area[0]}` | area | {area[1]} |"
    yield ""


def _times(facts: Facts) -> Iterator[str]:
    yield "## Times"
    yield ""
    yield "| time | ms |"
    yield "|---|---|"
    yield f"| heartbeat of the edge | {facts.heartbeat_ms} |"
    yield f"| silence after which Out falls to Fallback | {facts.plc_timeout_ms} |"
    if facts.mode == "triggered":
        yield f"| from a trigger to its result, at most | {facts.result_ms} |"
        yield f"| until a result is taken, at most | {facts.map.interface.ack_timeout_ms} |"

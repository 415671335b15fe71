"""Writes the reference pages that come from the code: ``python docs/generate.py [--check]``.

The tests fail when a committed page differs from what this writes, so a setting, code or rule cannot change
without its page.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

REFERENCE: Final = Path(__file__).resolve().parent / "reference"
NOTICE: Final = "<!-- Written by docs/generate.py from {source}; change it there. -->\n\n"


def quality_page() -> str:
    """Return the table of what a client sees in each situation."""
    from edge_opcua.core.quality import TABLE
    from edge_opcua.core.values import status_name

    lines = [
        "# Quality",
        "",
        "What a client reads in each situation. Every process derives it through one function,",
        "`edge_opcua.core.quality.effective`; nothing else decides about quality.",
        "",
        "| situation | status | code | value |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {rule.situation} | {status_name(rule.status)} | `0x{rule.status:08X}` | {rule.value} |"
        for rule in TABLE
    ]
    lines += [
        "",
        "A Bad status nulls the value (OPC UA Part 4 §7.11.1). Source time is when the device said the",
        "value, server time when we took it; a value that is only held keeps its source time.",
    ]
    return "\n".join(lines) + "\n"


def command_page() -> str:
    """Return the commands with their arguments, as the parser knows them."""
    from edge_opcua.cli import build_parser

    parser = build_parser()
    lines = ["# Commands", "", f"`{parser.prog} COMMAND`: {parser.description}", ""]
    for name, help_text, command in _subcommands(parser):
        lines += [f"## {name}", "", f"{_sentence(help_text)}", ""]
        rows = [row for action in command._actions if (row := _argument_row(action))]  # noqa: SLF001 - no other way
        if rows:
            lines += ["| argument | means |", "|---|---|", *rows, ""]
    lines.append("What each ends with is on the page of the [exit codes](exit-codes.md).")
    return "\n".join(lines) + "\n"


def _subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    for action in parser._actions:  # noqa: SLF001 - argparse offers no public way to its subcommands
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - see above
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            for name, command in action.choices.items():
                yield name, helps.get(name, ""), command
                verbs = _subcommands(command)
                yield from ((f"{name} {verb}", what, each) for verb, what, each in verbs)


def _argument_row(action: argparse.Action) -> str:
    not_shown = (argparse._HelpAction, argparse._SubParsersAction)  # noqa: SLF001 - see above
    if isinstance(action, not_shown) or action.help is argparse.SUPPRESS:
        return ""
    metavar = action.metavar if isinstance(action.metavar, str) else "|".join(action.choices or ())
    if action.option_strings:
        takes = f" {metavar or action.dest.upper()}" if action.nargs != 0 else ""
        shown = ", ".join(f"`{option}{takes}`" for option in action.option_strings)
    else:
        shown = f"`[{metavar}]`" if action.nargs in ("?", "*", "...") else f"`{metavar}`"
    return f"| {shown.replace('|', chr(92) + '|')} | {action.help or ''} |"


def checks_page() -> str:
    """Return what ``doctor`` looks at."""
    from edge_opcua.doctor import CHECKS

    lines = [
        "# Doctor's checks",
        "",
        "`edge-opcua doctor` looks at these, in this order. A check is not shown while one that it depends",
        "on fails: the consequence would only hide the cause. `edge-opcua explain CODE` says more.",
        "",
        "| code | check | depends on |",
        "|---|---|---|",
    ]
    lines += [f"| {one.code} | {one.title} | {', '.join(one.depends_on)} |" for one in CHECKS]
    return "\n".join(lines) + "\n"


def benchmark_page() -> str:
    """Return what ``bench`` can measure."""
    from edge_opcua.bench import BENCHMARKS

    lines = [
        "# Benchmarks",
        "",
        "`edge-opcua bench NAME` measures on your machine and prints each figure beside a peer or a floor",
        "from the same run; `--json FILE` writes one line per figure with the machine it was measured on.",
        "",
        "| name | measures |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {one.title} |" for name, one in BENCHMARKS.items()]
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." if text else ""


def configuration_page() -> str:
    """Return every key of the configuration file and every column of a tag table."""
    from edge_opcua.config.reference import configuration_page as page

    return page()


def error_page() -> str:
    """Return every error code with cause and remedy."""
    from edge_opcua.config.reference import error_codes_page as page

    return page()


def eai_page() -> str:
    """Return the interface block that an output shares with a PLC: words, bits and rules."""
    from edge_opcua.ladder.reference import eai_page as page

    return page()


def information_model_page() -> str:
    """Return the namespaces, NodeIds and types that clients see."""
    from edge_opcua.opcua.reference import information_model_page as page

    return page()


def metrics_page() -> str:
    """Return every metric that Prometheus can read."""
    from edge_opcua.telemetry.names import BOUNDS_S, METRICS

    lines = [
        "# Metrics",
        "",
        "What Prometheus reads where `prometheus` of `[telemetry]` names an address",
        "([how to set it up](../howto/monitor.md)). Units: seconds, bytes, degrees Celsius, ratios of 0..1.",
        "",
        "| metric | kind | labels | is |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} "
        f"| {metric.help} |"
        for metric in METRICS.values()
    ]
    bounds = ", ".join(f"{bound:g}" for bound in BOUNDS_S)
    lines += ["", f"Upper bounds of the buckets of all durations, in seconds: {bounds}."]
    return "\n".join(lines) + "\n"


def limits_page() -> str:
    """Return how much a client may take, and what it gets beyond that."""
    from edge_opcua.opcua.limits import OperationLimits, ServerLimits

    lines = [
        "# Limits of the OPC UA server",
        "",
        "How much one server, and one client of it, may take. What is advertised in `ServerCapabilities` is",
        "what is enforced: both come from `edge_opcua/opcua/limits.py`. `max_sessions` is set in the",
        "[configuration](configuration.md), the others are fixed.",
        "",
        "| who | gets |",
        "|---|---|",
        *(f"| {who} | {gets} |" for who, gets in _BEYOND),
        "",
        "One channel carries one session; Part 4 allows more, no client we know needs it, and the second",
        "gets `BadTooManySessions`.",
        "",
        "## Values",
        "",
        "| name | value | is |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {_amount(name, value)} | {text} |" for name, value, text in _limits(ServerLimits())
    ]
    lines += [
        "",
        "## Operations in one request",
        "",
        "More get `BadTooManyOperations`, none at all `BadNothingToDo` (Part 4 §7.38.2). The number is",
        "looked at before the request is decoded.",
        "",
        "| name | value | is |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {_amount(name, value)} | {text} |" for name, value, text in _limits(OperationLimits())
    ]
    return "\n".join(lines) + "\n"


# Who goes beyond a limit, and what comes of it.
_BEYOND: Final = (
    (
        "a connection for which there is no place, in all or from its address",
        "the place of the oldest one without an activated session (Part 4 §5.5.2), else it is dropped",
    ),
    ("an address that connects too often", "its connections dropped"),
    ("a connection that says no Hello, or has no activated session in time", "the end (Part 6 §7.1.3)"),
    (
        "a session for which there is no place",
        (
            "the place of one never activated (Part 4 §5.7.2) or without connection, with security also of "
            "one without; else `BadTooManySessions`"
        ),
    ),
    (
        "a client that asks too often",
        "`BadServerTooBusy`; then nothing is read for a while; if it never waits for answers, the end",
    ),
    (
        "a message of too many bytes or chunks",
        "the end, with `BadTcpMessageTooLarge` or `BadRequestTooLarge`",
    ),
    (
        "an array or a string that is too long, too deep a nesting, or a request that would unfold too far",
        "`BadEncodingLimitsExceeded`, before anything is decoded (Part 6 §5.1.5)",
    ),
    (
        "an answer larger than we send, or than the client said in Hello or CreateSession",
        "`BadResponseTooLarge` (Part 4 §5.7.2)",
    ),
    ("writes and calls beyond those that may run at once", "`BadServerTooBusy`"),
    ("a client that does not read its answers", "the end"),
)


def compression_report_page() -> str:
    """Return what stands in the report of a compression, entry by entry."""
    from edge_opcua.compress.making import Device
    from edge_opcua.compress.measure.timing import Timing
    from edge_opcua.compress.report.report import FORMAT, Original, Report, Row, Samples
    from edge_opcua.compress.task import Comparison
    from edge_opcua.compress.variant import Variant

    lines = [
        "# Report of a compression",
        "",
        "What `edge-opcua compress` leaves as `report.json` in its work folder, prints with `--json`, and",
        "what lies as `compression.json` beside a version that it made",
        "([compress a model](../howto/compress.md)). `--report` writes the same as a page. This is format",
        f"{FORMAT}: entries are only ever added in it. A number that is none is a text:",
        '`"inf"`, `"-inf"`, `"nan"`.',
        "",
    ]
    titles = {
        Report: "The report",
        Original: "original",
        Device: "device",
        Samples: "gate, calibration, training",
        Row: "rows",
        Variant: "rows: variant",
        Comparison: "rows: comparison",
        Timing: "rows: timing",
    }
    for kind, title in titles.items():
        texts = _described(kind)
        lines += [f"## {title}", "", "| entry | is |", "|---|---|"]
        lines += [f"| `{field.name}` | {_plain(texts[field.name])} |" for field in dataclasses.fields(kind)]
        lines.append("")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a line of a docstring as a page has it."""
    text = re.sub(r":(?:mod|class|func|meth|data):`~?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`").replace("None", "`null`").replace("|", "\\|").rstrip(".")


def _described(kind: type) -> dict[str, str]:
    """Return what a class says of each of its arguments."""
    texts: dict[str, str] = {}
    name = ""
    for line in (inspect.getdoc(kind) or "").partition("Args:\n")[2].splitlines():
        found = re.match(r"    (\w+): (.*)", line)
        name = found[1] if found else name
        texts[name] = found[2] if found else f"{texts[name]} {line.strip()}"
    return texts


def _limits(limits: object) -> Iterator[tuple[str, object, str]]:
    """Yield name, value and text of each limit; the text is what its class says of it."""
    texts = _described(type(limits))
    for field in dataclasses.fields(limits):  # type: ignore[arg-type]
        if field.name in texts:
            value = getattr(limits, field.name)
            if not dataclasses.is_dataclass(value):
                yield field.name, value, texts[field.name].rstrip(".")


def _amount(name: str, value: object) -> str:
    if isinstance(value, int) and name.endswith("_bytes"):
        return f"{value // 2**20} MiB" if value % 2**20 == 0 else f"{value // 1024} KiB"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:g}"
    return f"{int(str(value).partition('.')[0]):,}".replace(",", " ")


PAGES: Final[Mapping[str, tuple[str, Callable[[], str]]]] = {
    "benchmarks.md": ("edge_opcua/bench/__init__.py", benchmark_page),
    "commands.md": ("edge_opcua/app/command/arguments.py", command_page),
    "compression-report.md": ("edge_opcua/compress/report/report.py", compression_report_page),
    "configuration.md": ("edge_opcua/config/schema.py", configuration_page),
    "doctor.md": ("edge_opcua/doctor/checks.py", checks_page),
    "eai.md": ("edge_opcua/config/eai.py and edge_opcua/ladder/reference.toml", eai_page),
    "error-codes.md": ("edge_opcua/config/codes.toml", error_page),
    "information-model.md": ("nodesets/edge_opcua.xml", information_model_page),
    "limits.md": ("edge_opcua/opcua/limits.py", limits_page),
    "metrics.md": ("edge_opcua/telemetry/names.py", metrics_page),
    "quality.md": ("edge_opcua/core/quality.py", quality_page),
}


def page(name: str) -> str:
    """Return the text of one generated page."""
    source, make = PAGES[name]
    return NOTICE.format(source=source) + make()


def main() -> int:
    """Write the pages, or with ``--check`` say which differ; 1 if one does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    check = parser.parse_args().check
    stale = []
    for name in PAGES:
        target, text = REFERENCE / name, page(name)
        if not target.exists() or target.read_text() != text:
            stale.append(name)
            if not check:
                target.write_text(text)
    sys.stdout.write("".join(f"{'out of date' if check else 'written'}: {name}\n" for name in stale))
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())

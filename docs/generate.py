"""Writes the reference pages that come from the code: ``python docs/generate.py [--check]``.

The tests fail when a committed page differs from what this writes, so a setting, code or rule cannot change
without its page.
"""

from __future__ import annotations

import argparse
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
            yield from ((name, helps.get(name, ""), command) for name, command in action.choices.items())


def _argument_row(action: argparse.Action) -> str:
    if isinstance(action, argparse._HelpAction) or action.help is argparse.SUPPRESS:  # noqa: SLF001 - see above
        return ""
    metavar = action.metavar if isinstance(action.metavar, str) else ""
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


def information_model_page() -> str:
    """Return the namespaces, NodeIds and types that clients see."""
    from edge_opcua.opcua.reference import information_model_page as page

    return page()


PAGES: Final[Mapping[str, tuple[str, Callable[[], str]]]] = {
    "benchmarks.md": ("edge_opcua/bench/__init__.py", benchmark_page),
    "commands.md": ("edge_opcua/cli.py", command_page),
    "configuration.md": ("edge_opcua/config/schema.py", configuration_page),
    "doctor.md": ("edge_opcua/doctor/checks.py", checks_page),
    "error-codes.md": ("edge_opcua/config/codes.toml", error_page),
    "information-model.md": ("nodesets/edge_opcua.xml", information_model_page),
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

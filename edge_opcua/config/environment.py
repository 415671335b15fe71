"""Puts environment variables into the texts of a parsed configuration, after parsing and only into strings.

Replacing after parsing means that no value of a variable can change the structure of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from edge_opcua.config.locate import Path
from edge_opcua.config.problem import Problem, quoted

_MARK: Final = re.compile(r"\$\$|\$\{(?P<body>[^}]*)(?P<end>\}?)")
_BODY: Final = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<kind>:-|:\?)(?P<rest>.*))?", re.DOTALL)

Report = Callable[[Path, Problem], None]


def substitute(value: Any, env: Mapping[str, str], report: Report) -> tuple[Any, frozenset[Path]]:
    """Return a copy of a parsed file with its ``${…}`` replaced.

    Args:
        value: What tomllib returned.
        env: The environment.
        report: Called with the path and the problem of each variable that cannot be replaced.

    Returns:
        The copy, and the paths of the texts that were one ``${…}`` and nothing else.
    """
    whole: set[Path] = set()

    def walk(node: Any, path: Path) -> Any:
        if isinstance(node, dict):
            return {key: walk(child, (*path, key)) for key, child in node.items()}
        if isinstance(node, list):
            return [walk(child, (*path, index)) for index, child in enumerate(node)]
        if not isinstance(node, str) or "$" not in node:
            return node
        match = _MARK.fullmatch(node)
        if match and match["end"]:
            whole.add(path)
        return _MARK.sub(lambda found: _replacement(found, path), node)

    def _replacement(match: re.Match[str], path: Path) -> str:
        if match.group() == "$$":
            return "$"
        body = _BODY.fullmatch(match["body"]) if match["end"] else None
        if body is None:
            report(path, _malformed(match.group()))
            return match.group()
        found = env.get(body["name"])
        if body["kind"] is None and found is not None:
            return found
        if body["kind"] and found:
            return found
        if body["kind"] == ":-":
            return body["rest"] or ""
        report(path, _unset(body["name"], body["rest"] or ""))
        return match.group()

    return walk(value, ()), frozenset(whole)


def _malformed(text: str) -> Problem:
    return Problem(
        "C121",
        f"{quoted(text)} is not a variable",
        help="write ${NAME}, ${NAME:-default} or ${NAME:?message}; $$ stands for one $",
    )


def _unset(name: str, message: str) -> Problem:
    said = f"${{{name}}} is not set" + (f": {message}" if message else "")
    return Problem("C120", said, help=f"set {name} in the environment, or write ${{{name}:-default}}")

"""Puts environment variables into the texts of a parsed configuration, after parsing and only into strings.

Replacing after parsing means that no value of a variable can change the structure of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from edge_opcua.config.locate import Path
from edge_opcua.config.problem import Problem, quoted

ENVIRONMENT_CODES: Final = frozenset({"C120", "C121"})
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
    walker = _Walker(env, report)
    return walker.walk(value, ()), frozenset(walker.whole)


class _Walker:
    def __init__(self, env: Mapping[str, str], report: Report) -> None:
        self.whole: set[Path] = set()
        self._env = env
        self._report = report

    def walk(self, node: Any, path: Path) -> Any:
        if isinstance(node, dict):
            return {key: self.walk(child, (*path, key)) for key, child in node.items()}
        if isinstance(node, list):
            return [self.walk(child, (*path, index)) for index, child in enumerate(node)]
        if not isinstance(node, str) or "$" not in node:
            return node
        match = _MARK.fullmatch(node)
        if match and match["end"]:
            self.whole.add(path)
        return _MARK.sub(lambda found: self._replacement(found, path), node)

    def _replacement(self, match: re.Match[str], path: Path) -> str:
        if match.group() == "$$":
            return "$"
        body = _BODY.fullmatch(match["body"]) if match["end"] else None
        if body is None:
            self._report(path, _malformed(match.group()))
            return match.group()
        found = self._env.get(body["name"])
        if found or (found is not None and body["kind"] is None):
            return found
        if body["kind"] == ":-":
            return body["rest"] or ""
        self._report(path, _unset(body["name"], body["rest"] or ""))
        return match.group()


def _malformed(text: str) -> Problem:
    return Problem(
        "C121",
        f"{quoted(text)} is not a variable",
        help="write ${NAME}, ${NAME:-default} or ${NAME:?message}; $$ stands for one $",
    )


def _unset(name: str, message: str) -> Problem:
    said = f"${{{name}}} is not set" + (f": {message}" if message else "")
    return Problem("C120", said, help=f"set {name} in the environment, or write ${{{name}:-default}}")

"""What others may build on is frozen: the list in public_api.txt changes only on purpose.

``python tests/test_public_api.py`` writes the list anew; the difference belongs into the changelog.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import enum
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

FROZEN = Path(__file__).with_name("public_api.txt")
MODULES = (
    "edge_opcua",
    "edge_opcua.errors",
    "edge_opcua.core.ports",
    "edge_opcua.core.values",
    "edge_opcua.testing",
    "edge_opcua.compress",
    "edge_opcua.training",
)


def public_names(module: ModuleType) -> list[str]:
    """Return ``__all__``, or what the module itself defines without a leading underscore."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    names: set[str] = set()
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(target.id for target in targets if isinstance(target, ast.Name))
    return sorted(name for name in names if not name.startswith("_"))


def describe(path: str, one: object) -> Iterator[str]:
    """Yield the lines of one public thing: its form, and for a class that of its public members."""
    if inspect.isclass(one):
        bases = ", ".join(base.__name__ for base in one.__bases__ if base is not object)
        yield f"class {path}({bases})"
        yield from (f"  {path}.{member}" for member in members(one))
    elif inspect.isfunction(one):
        yield f"def {path}{inspect.signature(one)}"
    elif isinstance(one, int):
        yield f"{path} = {one:#x}"
    else:
        yield path


def members(one: type) -> Iterator[str]:
    """Yield the values, fields, properties and methods that a class itself defines."""
    if issubclass(one, enum.Enum):
        yield from (f"{member.name} = {member.value!r}" for member in one)
    if dataclasses.is_dataclass(one):
        yield from (f"{field.name}: {field.type}" for field in dataclasses.fields(one))
    generated = dataclasses.is_dataclass(one) or getattr(one, "_is_protocol", False)
    for name, member in sorted(vars(one).items()):
        if name.startswith("_") and (name != "__init__" or generated):
            continue
        if isinstance(member, property):
            yield f"{name}: property"
        elif isinstance(member, (staticmethod, classmethod)):
            yield f"{name}{inspect.signature(member.__func__)}"
        elif inspect.isfunction(member):
            yield f"{name}{inspect.signature(member)}"


def command_line() -> Iterator[str]:
    """Yield every command with its arguments."""
    from edge_opcua.cli import build_parser

    yield from _commands_of(build_parser(), "edge-opcua")


def _commands_of(parser: argparse.ArgumentParser, above: str) -> Iterator[str]:
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in sorted(commands.choices.items()):
        if any(isinstance(action, argparse._SubParsersAction) for action in command._actions):
            yield from _commands_of(command, f"{above} {name}")
            continue
        arguments = sorted(
            "/".join(action.option_strings) or str(action.metavar or action.dest)
            for action in command._actions
            if not isinstance(action, argparse._HelpAction)
        )
        yield f"{above} {name} {' '.join(arguments)}".rstrip()


def public_api() -> str:
    """Return the whole list."""
    lines: list[str] = []
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in public_names(module):
            lines += describe(f"{module_name}.{name}", getattr(module, name))
    return "\n".join([*lines, *command_line()]) + "\n"


def test_the_public_api_is_the_frozen_one() -> None:
    assert FROZEN.is_file(), "run: python tests/test_public_api.py"
    frozen, found = FROZEN.read_text().splitlines(), public_api().splitlines()
    gone = [line for line in frozen if line not in found]
    new = [line for line in found if line not in frozen]
    assert (gone, new) == ([], []), (
        "on purpose? then: python tests/test_public_api.py, and say so in the changelog"
    )


def test_the_version_is_the_same_in_metadata_and_package() -> None:
    from importlib.metadata import version

    import edge_opcua

    assert edge_opcua.__version__ == version("edge-opcua")


if __name__ == "__main__":
    FROZEN.write_text(public_api())
    sys.stdout.write(f"written: {FROZEN}\n")

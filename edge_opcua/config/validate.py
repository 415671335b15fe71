"""Holds a parsed file against a pydantic model and says in the user's words what does not fit."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from edge_opcua.config.locate import Path, Places
from edge_opcua.config.problem import Problem, alternatives, nearest, quoted
from edge_opcua.config.schema import is_resolved

_CODE: Final = re.compile(r"[CTS][0-9]{3}")
_NAME_RULE: Final = "a letter, then letters, digits, - or _"
_NEEDED: Final = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_OF_GROUPS: Final = frozenset({"workers", "cores"})
_RANGE_TYPES: Final = frozenset(
    {
        "greater_than",
        "greater_than_equal",
        "less_than",
        "less_than_equal",
        "multiple_of",
        "finite_number",
        "int_parsing_size",
    }
)
_NUMBER_TYPES: Final = frozenset({"int_type", "float_type", "bool_type"})

Schema = Mapping[str, Any]


@dataclass(slots=True)
class Checked:
    """What came of holding a table against a model.

    Args:
        value: The finished object, or None if something does not fit.
        problems: What does not fit.
        bad: Paths of the misfits, in the file.
    """

    value: Any = None
    problems: list[Problem] = field(default_factory=list)
    bad: set[Path] = field(default_factory=set)

    def is_sound(self, path: Path) -> bool:
        """Return whether nothing at or below a path was found wrong."""
        return not any(bad[: len(path)] == path for bad in self.bad)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a table comes from.

    Args:
        root: The whole parsed file, for names in paths.
        places: Where its settings stand.
        filled: Paths of texts that came whole from the environment; these may be read as numbers.
        unset: Paths of texts with a variable that is not set; what they are then means nothing.
        damaged: Whether settings are missing only because their syntax was wrong.
    """

    root: Mapping[str, Any]
    places: Places
    filled: frozenset[Path] = frozenset()
    unset: frozenset[Path] = frozenset()
    damaged: bool = False


def check(model: type[BaseModel], table: Mapping[str, Any], source: Source, at: Path = ()) -> Checked:
    """Hold a table against a model.

    Args:
        model: What it should be.
        table: Part of a parsed file.
        source: The file.
        at: Path of the table in the file.
    """
    result = Checked()
    data = _without_resolved(model, table, source, at, result)
    errors: Sequence[Mapping[str, Any]] = ()
    for _ in range(2):  # a text from the environment gets a second chance as a number
        try:
            result.value = model.model_validate_json(json.dumps(data, default=str), strict=True)
        except ValidationError as exc:
            errors = exc.errors(include_url=False)
        else:
            errors = ()
        if not _read_numbers(data, errors, source, at):
            break
    for error in errors:
        if not _is_consequence(error, errors):
            _add(result, error, model, data, source, at)
    return result


def _is_consequence(error: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> bool:
    """Pydantic counts only the right entries of a list, so that a list of wrong ones looks too short."""
    path = error["loc"]
    return error["type"] == "too_short" and any(
        len(other["loc"]) > len(path) and other["loc"][: len(path)] == path for other in errors
    )


def _without_resolved(
    model: type[BaseModel], table: Mapping[str, Any], source: Source, at: Path, result: Checked
) -> dict[str, Any]:
    """Return a copy that can be changed, without keys that only the loader may set."""
    data: dict[str, Any] = _copy(table)
    for path in _resolved_paths(model, data):
        parent, key = _get(data, path[:-1]), path[-1]
        if isinstance(parent, dict) and key in parent:
            del parent[key]
            full = (*at, *path)
            message = f'unknown key "{key}"'
            result.problems.append(
                Problem("C102", message, place=source.places.key(full), where=dotted(source.root, full))
            )
            result.bad.add(full)
    return data


def _copy(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _copy(child) for key, child in node.items()}
    return [_copy(child) for child in node] if isinstance(node, list) else node


def _resolved_paths(model: type[BaseModel], data: Mapping[str, Any]) -> list[Path]:
    paths: list[Path] = []
    for key in data:
        if key not in model.model_fields:
            continue
        if is_resolved(model, key):
            paths.append((key,))
            continue
        child = _model_in(model.model_fields[key].annotation)
        items = data[key] if isinstance(data[key], list) else [data[key]]
        for index, item in enumerate(items):
            if child and isinstance(item, dict):
                step: Path = (key, index) if isinstance(data[key], list) else (key,)
                paths += [(*step, *deeper) for deeper in _resolved_paths(child, item)]
    return paths


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found:
            return found
    return None


def _read_numbers(
    data: dict[str, Any], errors: Sequence[Mapping[str, Any]], source: Source, at: Path
) -> bool:
    """Turn texts from the environment into numbers where a number is needed; return whether any was."""
    changed = False
    for error in errors:
        path = tuple(error["loc"])
        if error["type"] not in _NUMBER_TYPES or (*at, *path) not in source.filled:
            continue
        parent, key = _get(data, path[:-1]), path[-1]
        number = _as_number(parent[key])
        if number is not None:
            parent[key] = number
            changed = True
    return changed


def _as_number(text: Any) -> bool | int | float | None:
    try:
        value = tomllib.loads(f"value = {text}").get("value")
    except ValueError:
        return None
    return value if isinstance(value, bool | int | float) else None


def _add(
    result: Checked,
    error: Mapping[str, Any],
    model: type[BaseModel],
    data: Mapping[str, Any],
    source: Source,
    at: Path,
) -> None:
    path = tuple(error["loc"])
    full = (*at, *path)
    result.bad.add(full)
    kind = str(error["type"])
    if full in source.unset and kind != "extra_forbidden":
        return
    if kind == "missing":
        if not source.damaged:
            result.problems.append(_missing(model, path, full, source))
        return
    problem = _describe(kind, error, model, path, _get(data, path))
    place = source.places.key(full) if kind == "extra_forbidden" else source.places.value(full)
    result.problems.append(replace(problem, place=place, where=dotted(source.root, full)))


def _missing(model: type[BaseModel], path: Path, full: Path, source: Source) -> Problem:
    key = str(path[-1])
    about = str(schema_at(model, path).get("description", ""))
    where = dotted(source.root, full[:-1])
    thing = f"[{key}]" if _is_table(schema_at(model, path)) else f'"{key}"'
    return Problem(
        "C106", f"{thing} is missing", place=source.places.key(full), where=where, help=f"{key}: {about}"
    )


def _is_table(schema: Schema) -> bool:
    return schema.get("type") == "object" or "$ref" in schema


def _describe(kind: str, error: Mapping[str, Any], model: type[BaseModel], path: Path, value: Any) -> Problem:
    schema = schema_at(model, path)
    if kind == "extra_forbidden":
        return _unknown_key(model, path)
    if _CODE.fullmatch(kind):
        return _own(kind, error, value)
    if kind in _RANGE_TYPES:
        return Problem("C103", f"{quoted(value)} is out of range {range_text(schema)}".rstrip())
    if kind in _NEEDED:
        return _wrong_type(kind, value)
    describe = _SENTENCES.get(kind)
    if describe:
        return describe(schema, value, error)
    return Problem("C105", f"{quoted(value)}: {str(error['msg'])[:1].lower()}{str(error['msg'])[1:]}")


def _own(code: str, error: Mapping[str, Any], value: Any) -> Problem:
    """A validator of ours raised PydanticCustomError; a message that begins with "is" wants its subject."""
    message = str(error["msg"])
    if message.startswith("is "):
        message = f"{quoted(value)} {message}"
    return Problem(code, message, help=str(error.get("ctx", {}).get("help", "")))


def _unknown_key(model: type[BaseModel], path: Path) -> Problem:
    key = str(path[-1])
    parent = schema_at(model, path[:-1])
    known = [name for name in parent.get("properties", {}) if not parent["properties"][name].get("resolved")]
    suggestion = nearest(key, known)
    help_text = "" if suggestion else f"keys here: {alternatives(known)}"
    if parent.get("title") == "PipelineConfig" and key in _OF_GROUPS:
        suggestion, help_text = "", f"{key} is a key of [[inference.groups]], for the group of the pipeline"
    return Problem("C102", f"unknown key {quoted(key)}", suggestion=suggestion, help=help_text)


def _not_one_of(schema: Schema, value: Any, _: Mapping[str, Any]) -> Problem:
    allowed = [str(choice) for choice in schema.get("enum", [schema.get("const", "")])]
    suggestion = nearest(value, allowed) if isinstance(value, str) else ""
    return Problem("C104", f"{quoted(value)} is not one of {alternatives(allowed)}", suggestion=suggestion)


def _wrong_type(kind: str, value: Any) -> Problem:
    needed = _NEEDED[kind]
    found = type_word(value)
    if found == "a number" and needed == "a whole number":
        return Problem("C105", f"{quoted(value)} is not a whole number")
    help_text = ""
    if needed == "text" and isinstance(value, bool | int | float):
        help_text = f'write "{quoted(value)}"'
    elif isinstance(value, str) and _as_number(value) is not None:
        help_text = f"write {value} without quotes"
    elif needed == "a list" and isinstance(value, str):
        help_text = f"write [{quoted(value)}]"
    shown = f"{quoted(value)} is {found}" if not isinstance(value, list | dict) else f"this is {found}"
    return Problem("C105", f"{shown}; {needed} is needed", help=help_text)


def _pattern(schema: Schema, value: Any, _: Mapping[str, Any]) -> Problem:
    pattern = str(schema.get("pattern", ""))
    text = str(value)
    if "/" in pattern:
        return Problem("C110", f'{quoted(text)} is not of the form "device/name"')
    if pattern.startswith("^DB"):
        return Problem("C110", f"{quoted(text)} is not a data block, e.g. DB20")
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")
    suggestion = plain if re.fullmatch(pattern, plain) else ""
    return Problem("C110", f"{quoted(text)} is not a name ({_NAME_RULE})", suggestion=suggestion)


def _length(_: Schema, value: Any, error: Mapping[str, Any]) -> Problem:
    kind = str(error["type"])
    context = error.get("ctx", {})
    thing = "characters" if kind.startswith("string") else "entries"
    if kind.endswith("long"):
        return Problem(
            "C103", f"{context.get('actual_length', 'more')} {thing}; at most {context['max_length']}"
        )
    count = context.get("actual_length", len(value) if isinstance(value, str) else 0)
    return Problem("C103", f"{count} {thing}; at least {context['min_length']}")


def _raised(_: Schema, __: Any, error: Mapping[str, Any]) -> Problem:
    return Problem("C117", str(error.get("ctx", {}).get("error", error["msg"])))


_SENTENCES: Final[dict[str, Callable[[Schema, Any, Mapping[str, Any]], Problem]]] = {
    "literal_error": _not_one_of,
    "enum": _not_one_of,
    "string_pattern_mismatch": _pattern,
    "string_too_long": _length,
    "string_too_short": _length,
    "too_long": _length,
    "too_short": _length,
    "value_error": _raised,
}


def type_word(value: Any) -> str:
    """Return what a value of a TOML file is, in one or two words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int):
        return "a whole number"
    if isinstance(value, float):
        return "a number"
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date"


def range_text(schema: Schema) -> str:
    """Return the allowed range of a number, e.g. ``1..65535``; an empty text if there is none."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return (
            f"{low:.10g}..{high:.10g}"
            if isinstance(low, float) or isinstance(high, float)
            else f"{low}..{high}"
        )
    parts = [
        f"{word} {bound:.10g}"
        for word, bound in (("at least", low), ("above", above), ("at most", high), ("below", below))
        if bound is not None
    ]
    return ", ".join(parts)


@cache
def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def schema_at(model: type[BaseModel], path: Path) -> dict[str, Any]:
    """Return the JSON schema of a setting, references resolved and ``null`` left out.

    Args:
        model: Where the path begins.
        path: Path of the setting.

    Returns:
        Its schema; empty if the model does not know the path.
    """
    root = _json_schema(model)
    schema = _resolve(root, root)
    for step in path:
        inner = schema.get("items") if isinstance(step, int) else _property(schema, str(step))
        if inner is None:
            return {}
        schema = _resolve(inner, root)
    return schema


def _property(schema: Schema, name: str) -> dict[str, Any] | None:
    """Return the schema of one key; of a table whose keys are free, that of each of them."""
    patterns = schema.get("patternProperties") or {"": schema.get("additionalProperties")}
    found = schema.get("properties", {}).get(name) or next(iter(patterns.values()))
    return found if isinstance(found, dict) else None


def _resolve(schema: dict[str, Any], root: Schema) -> dict[str, Any]:
    """Follow a reference and an optional type, keeping what stands beside them."""
    own = {key: value for key, value in schema.items() if key not in {"$ref", "anyOf", "allOf"}}
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return {**root["$defs"][name], **own}
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    if len(choices) == 1:
        return {**_resolve(choices[0], root), **own}
    return schema


def dotted(root: Mapping[str, Any], path: Path) -> str:
    """Return a path as people read it: ``devices[vib].url``; an entry without a name is counted from 1."""
    text = ""
    for depth, step in enumerate(path):
        if isinstance(step, int):
            item = _get(root, path[: depth + 1])
            name = item.get("name") if isinstance(item, dict) else None
            text += f"[{name}]" if isinstance(name, str) and name else f"[{step + 1}]"
        else:
            text += f".{step}" if text else step
    return text


def _get(node: Any, path: Path) -> Any:
    for step in path:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return None
    return node

"""Writes the reference pages of configuration and error codes from the code that defines them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from edge_opcua.config.codes import FAMILIES, codes
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.config.tagtable import COLUMNS
from edge_opcua.config.validate import range_text
from edge_opcua.plugins import BACKENDS, DRIVERS, InstalledPlugins, Plugins

# TOML header and the path to it in the JSON schema, in the order of a file.
_TABLES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("[site]", ("site",)),
    ("[opcua]", ("opcua",)),
    ("[[opcua.access]]", ("opcua", "access")),
    ("[models]", ("models",)),
    ("[inference]", ("inference",)),
    ("[[inference.groups]]", ("inference", "groups")),
    ("[[devices]]", ("devices",)),
    ("[devices.watchdog]", ("devices", "watchdog")),
    ("[[devices.groups]]", ("devices", "groups")),
    ("[[devices.captures]]", ("devices", "captures")),
    ("[[pipelines]]", ("pipelines",)),
    ("[pipelines.change]", ("pipelines", "change")),
    ("[pipelines.watch]", ("pipelines", "watch")),
    ("[[outputs]]", ("outputs",)),
    ("[outputs.interface]", ("outputs", "interface")),
    ("[[outputs.interface.results]]", ("outputs", "interface", "results")),
    ("[[outputs.values]]", ("outputs", "values")),
    ("[telemetry]", ("telemetry",)),
    ("[[templates]]", ("templates",)),
    ("[[machines]]", ("machines",)),
    ("[[renames]]", ("renames",)),
)
_RULES: Final = """\
# Configuration

One TOML file says what is read, judged, served and written; tag tables in CSV say which tags.
`edge-opcua check FILE` reports everything that is wrong in one run, and then what will be polled,
written and exposed. Unknown keys are errors. Units end the names of keys (`timeout_ms`, `hold_s`).

* **Environment.** `${NAME}`, `${NAME:-default}` and `${NAME:?message}` stand for environment variables. They
  are replaced after parsing and only in texts, so no value can change the structure of the file; `$$` is one
  dollar sign. A text that is nothing but a variable may also stand for a number.
* **Paths** are relative to the file that names them.
* **Templates.** In a template and in its tag tables `${column}` stands for a cell of the machine's row; what
  is no column is a variable of the environment (not in tag tables).
* **Names** begin with a letter, followed by letters, digits, `-` and `_`. They become part of NodeIds and
  never change once clients know them. Devices, pipelines and outputs share one space of names.
* **References** are `device/tag` and `device/capture`.
"""
_TAG_RULES: Final = """\
## Tag tables

The first row names the columns, in any order; only `name` and `address` are required. The separator is a
comma, semicolon or tab, as in the header or in a first line `sep=;`. The text is UTF-8 with or without byte
order mark; anything else is read as Windows-1252, with a notice. A decimal comma is read where commas do not
separate cells. Blank lines and lines that begin with `#` are left out, unknown columns are reported, and
columns that begin with `x_` are kept with the tag.
"""
_ADDRESSES: Final = """\
## Addresses

| driver | form |
|---|---|
| ethernet-ip | `[Program:name.]Tag[index].Member[.bit]:TYPE`, `@class/instance/attribute[+byte]:TYPE` |
| | e.g. `Program:Main.Pump[3].Speed:REAL`, `Recipe:DINT[10]`, `@4/154/3:BYTES[32]` |
| modbus | `[unit/]area:number[.bit]:TYPE[;order=CDAB][;base=1]` |
| | e.g. `1/hr:100:REAL`, `3/hr:20.4:BOOL`, `1/hr:100:INT[2000]` |
| opcua | `[ns=index;\\|nsu=URI;]s=name:TYPE[;from=element]`, also `i=`, `g=`, `b=` |
| | e.g. `ns=3;s="DB1"."speed":REAL`, `nsu=http://acme.com/plc/;i=1001:DINT[8]`, `i=2258:LDT` |
| s7 | `DBn.DBXbyte.bit:BOOL`, `DBn.DBDbyte:TYPE`, `MWbyte:TYPE` |
| | e.g. `DB10.DBD16:REAL`, `DB1.DBX0.3:BOOL`, `DB10.DBB38:STRING[16]` |

The areas of an interface block name their first word, without a type: `DB21` or `DB21.DBB40` (s7), `hr:200`
or `3/hr:200` (modbus), `EdgeAI_Control` or `Program:Main.EdgeAI[16]` (ethernet-ip).

Modbus areas are `co` coils, `di` discrete inputs, `hr` holding registers, `ir` input registers; numbers
count from 0. Types are BOOL, SINT, INT, DINT, LINT, USINT, UINT, UDINT, ULINT, BYTE, WORD, DWORD, LWORD,
REAL, LREAL and STRING[n]; TYPE[n] is an array.
"""


def configuration_page(plugins: Plugins | None = None) -> str:
    """Return the page of every key of the file, every option of a plugin and every column of a tag table.

    Args:
        plugins: Where drivers and backends are looked up; the installed ones if None.
    """
    schema = EdgeConfig.model_json_schema()
    lines = [_RULES, *_table("Top level", schema, schema, only=("version", "include"))]
    for header, path in _TABLES:
        lines += _table(f"`{header}`", _at(schema, path), schema)
    lines += _options(plugins or InstalledPlugins())
    lines += [_TAG_RULES, "| column | means |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(about)} |" for name, about in COLUMNS.items()]
    lines += ["", _ADDRESSES.rstrip()]
    return "\n".join(lines) + "\n"


def error_codes_page() -> str:
    """Return the page of every stable code with its cause and remedy."""
    lines = [
        "# Error codes",
        "",
        "`edge-opcua explain CODE` prints these pages without a network. A code never changes its meaning.",
    ]
    for letter, family in FAMILIES.items():
        lines += ["", f"## {letter}: {family}"]
        for name, code in codes().items():
            if name.startswith(letter):
                lines += [
                    "",
                    f"### {name}",
                    "",
                    f"**{code.title}.** {code.text}",
                    "",
                    f"*What to do:* {code.remedy}",
                ]
    return "\n".join(lines) + "\n"


def _options(plugins: Plugins) -> Iterable[str]:
    """Yield what drivers and backends add, each by its own words."""
    for name in plugins.names(DRIVERS):
        schema = plugins.load(DRIVERS, name).Config.model_json_schema()
        yield from _table(f"`[devices.options]` of driver `{name}`", schema, schema)
    for name in plugins.names(BACKENDS):
        schema = plugins.load(BACKENDS, name).Options.model_json_schema()
        yield from _table(f"`[pipelines.options]` of backend `{name}`", schema, schema)


def _at(root: Mapping[str, Any], path: Iterable[str]) -> Mapping[str, Any]:
    schema = root
    for step in path:
        schema = _resolve(_only_choice(schema["properties"][step]), root)
        schema = _resolve(schema["items"], root) if "items" in schema else schema
    return schema


def _resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return {**root["$defs"][name], **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _only_choice(field: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a field holds if it is set."""
    choices = [choice for choice in field.get("anyOf", ()) if choice.get("type") != "null"]
    return choices[0] if len(choices) == 1 else field


def _table(
    title: str, schema: Mapping[str, Any], root: Mapping[str, Any], *, only: tuple[str, ...] = ()
) -> list[str]:
    about = "" if only else " ".join(str(schema.get("description", "")).split())
    lines = [
        f"## {title}",
        "",
        *([about, ""] if about else []),
        "| key | value | default | means |",
        "|---|---|---|---|",
    ]
    required = set(schema.get("required", ()))
    for key, field in schema["properties"].items():
        if field.get("resolved") or (only and key not in only):
            continue
        default = "required" if key in required else _default(key, field)
        lines.append(
            f"| `{key}` | {_kind(key, field, root)} | {default} | {_cell(field.get('description', ''))} |"
        )
    return [*lines, ""]


def _default(key: str, field: Mapping[str, Any]) -> str:
    value = field.get("default")
    if value is None or value in ("", []) or isinstance(value, dict) or key == "tags":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        names = [item["name"] if isinstance(item, dict) else item for item in value]
        return "`[" + ", ".join(f'"{name}"' for name in names) + "]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value:g}`"


def _kind(key: str, field: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """Return what a key takes, with its range or choices."""
    if key == "tags":
        return "text, or list of texts"
    schema = _resolve(_only_choice(_resolve(field, root)), root)
    if "enum" in schema or "const" in schema:
        return " or ".join(f'`"{choice}"`' for choice in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type", ""))
    if kind == "array":
        items = _resolve(schema["items"], root)
        if items.get("type") == "object":
            return "tables, see below"
        return f"list of {_kind('', items, root)}"
    if kind == "object":
        return "table"
    words = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
    limits = range_text(schema)
    return _cell(f"{words.get(kind, kind)}{', ' if limits else ''}{limits}")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

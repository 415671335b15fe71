"""The reference page of the interface block: tables from the map, and the rules that both ends keep."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Final

from edge_opcua.config.eai import (
    FORWARD,
    HIGHEST,
    PLC_HEARTBEAT_MS,
    QUEUE,
    WORDS_PER_RESULT,
    ControlWord,
    Ctrl,
    ErrorCode,
    ResultCode,
    Stat,
    eai_map,
)
from edge_opcua.config.outputs import InterfaceConfig
from edge_opcua.ladder.facts import Facts
from edge_opcua.ladder.files import Field, camel, control_fields, status_fields

_PROSE: Final = Path(__file__).with_name("reference.toml")
_MEMBER: Final = re.compile(r"^    (\w+) = [^#\n]+?(?:  # (.*))?$", re.MULTILINE)


def eai_page() -> str:
    """Return the reference page of the interface block."""
    facts = _example()
    numbers = {
        "words": WORDS_PER_RESULT,
        "highest": HIGHEST,
        "forward": FORWARD,
        "version": ErrorCode.VERSION.value,
        "no_authority": ResultCode.NO_AUTHORITY.value,
        "timeout": ResultCode.TIMEOUT.value,
        "ack_timeout": ErrorCode.ACK_TIMEOUT.value,
        "beat": PLC_HEARTBEAT_MS,
        "queue": QUEUE,
    }
    lines = [
        *_words(control_fields()),
        "",
        f"Word {ControlWord.CTRL.value}, `Ctrl`:",
        "",
        *_bits(Ctrl),
        "",
        "## Status: the edge writes",
        "",
        "The results are those of `results`, here the default ones; the tail follows the last.",
        "",
        *_words(status_fields(facts)),
        "",
        "Word 0, `Stat`:",
        "",
        *_bits(Stat),
        "",
        "## Codes",
        "",
        "Word `ResultCode`, and output `ResultCode` of the block:",
        "",
        *_codes(ResultCode),
        "",
        "Word `ErrorCode`, and output `ErrorId` of the block:",
        "",
        *_codes(ErrorCode),
    ]
    prose = tomllib.loads(_PROSE.read_text(encoding="utf-8"))
    before, after = prose["areas"].format(**numbers), prose["rules"].format(**numbers)
    return "\n".join([prose["head"], before, *lines, "", after])


def _example() -> Facts:
    interface = InterfaceConfig(control="DB21", status="DB20")
    return Facts("verdict", eai_map("verdict", interface, "s7"), "plc", "s7", 100, 500, 20.0, 2000.0, 1200)


def _words(fields: tuple[Field, ...]) -> Iterator[str]:
    yield "| word | name | type | is |"
    yield "|---|---|---|---|"
    for field in fields:
        yield f"| {field.word} | `{field.name}` | {field.type} | {field.text} |"


def _bits(bits: type[IntFlag]) -> Iterator[str]:
    texts = _texts(bits)
    yield "| bit | name | says |"
    yield "|---|---|---|"
    for bit in bits:
        yield f"| {bit.value.bit_length() - 1} | `{camel(bit.name or '')}` | {texts[bit.name or '']} |"


def _codes(codes: type[IntEnum]) -> Iterator[str]:
    texts = _texts(codes)
    yield "| code | name | says |"
    yield "|---|---|---|"
    for code in sorted(codes):
        yield f"| {code.value} | {camel(code.name)} | {texts[code.name]} |"


def _texts(members: type[IntFlag] | type[IntEnum]) -> dict[str, str]:
    """Return what the comment beside each member says."""
    return {found[1]: found[2] or "" for found in _MEMBER.finditer(inspect.getsource(members))}

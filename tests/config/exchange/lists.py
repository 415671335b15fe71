"""What the tests of tag lists share: devices, their drivers' grammars, and a workbook made by hand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from edge_opcua.config.exchange.acceptance import Accepted, accept
from edge_opcua.config.exchange.formats import read_list
from edge_opcua.config.exchange.listing import Listing, Target
from edge_opcua.config.tagtable import ParseAddress
from edge_opcua.drivers.ethernetip.address import parse as parse_logix
from edge_opcua.drivers.modbus.address import parse as parse_modbus
from edge_opcua.drivers.s7.address import parse as parse_s7

HERE = Path(__file__).parent
MODBUS = Target("modbus", "Vib", 1, "")
S7 = Target("s7", "press")
LOGIX = Target("ethernet-ip", "cell")
PARSERS: dict[str, ParseAddress] = {"modbus": parse_modbus, "s7": parse_s7, "ethernet-ip": parse_logix}


def taken(
    listing: Listing,
    target: Target,
    *,
    existing: str = "",
    policy: str = "skip",
    groups: dict[str, int] | None = None,
) -> Accepted:
    return accept(listing, existing, PARSERS[target.driver], policy=policy, groups=groups or {})


def imported(data: bytes, target: Target, **options: object) -> tuple[Listing, Accepted]:
    listing = read_list(data, "list", target, **options)  # type: ignore[arg-type]
    return listing, taken(listing, target)


def said(listing: Listing) -> list[tuple[int, str]]:
    return [(problem.place.line, problem.code) for problem in listing.problems]


def workbook(rows: Sequence[Sequence[str]], *, inline: bool = False, extra: bytes = b"") -> bytes:
    """Return an xlsx with one sheet, its texts shared as Excel writes them or inline as libraries do."""
    texts: list[str] = []
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = []
        for column, text in enumerate(row):
            place = f"{chr(ord('A') + column)}{number}"
            if inline:
                cells.append(f'<c r="{place}" t="inlineStr"><is><t>{escape(text)}</t></is></c>')
            else:
                cells.append(f'<c r="{place}" t="s"><v>{len(texts)}</v></c>')
                texts.append(text)
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    sheet = (
        '<?xml version="1.0"?><worksheet xmlns="urn:x"><sheetData>'
        + "".join(lines)
        + "</sheetData></worksheet>"
    )
    shared = (
        '<?xml version="1.0"?><sst>' + "".join(f"<si><t>{escape(text)}</t></si>" for text in texts) + "</sst>"
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", extra.decode() or sheet)
        archive.writestr("xl/sharedStrings.xml", shared)
    return out.getvalue()

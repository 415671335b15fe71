"""Which product a file is from, and who reads and writes its lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from edge_opcua.config.exchange import blocks, ignition, ignitiontag, kepware, l5x, neuron, own, rockwell, tia
from edge_opcua.config.exchange.listing import ListedTag, ListError, Listing, Target, UntranslatableError
from edge_opcua.config.exchange.reading import Grid, as_text, find_header, grid_of

PRODUCTS: Final = ("kepware", "ignition", "tia", "rockwell", "neuron", "csv")
NAMES: Final = {
    "kepware": "Kepware CSV",
    "ignition": "Ignition tags",
    "tia": "TIA Portal tag table",
    "rockwell": "Studio 5000 tags",
    "neuron": "Neuron tags",
    "csv": "tag table of ours",
}
_HEADERS: Final = (
    ("kepware", kepware.REQUIRED),
    ("ignition", ignition.REQUIRED_CSV),
    ("tia", tia.REQUIRED),
    ("rockwell", rockwell.REQUIRED),
    ("neuron", neuron.REQUIRED),
    ("csv", own.REQUIRED),
)
_NO_NUMBERS: Final[Mapping[str, int]] = MappingProxyType({})


def read_list(
    data: bytes,
    file: str,
    target: Target,
    *,
    product: str = "auto",
    numbers: Mapping[str, int] = _NO_NUMBERS,
) -> Listing:
    """Return the tags of another product's list.

    Args:
        data: The file.
        file: Its name in messages.
        target: Our device they are for.
        product: One of :data:`PRODUCTS`, or ``auto``: what the file looks like.
        numbers: Numbers of data blocks by name, for sources of these.

    Raises:
        ListError: It cannot be read at all: T252 not such a list, T253 broken or too large.
    """
    listing = Listing(file)
    try:
        if not data.strip(b"\xef\xbb\xbf \t\r\n"):
            raise ListError("is empty")
        _read(data, listing, target, product, numbers)
    except UntranslatableError as exc:  # what holds for the file as a whole
        raise ListError(str(exc), code=exc.code, hint=exc.hint) from exc
    return listing


def _read(data: bytes, listing: Listing, target: Target, product: str, numbers: Mapping[str, int]) -> None:
    if _reads_text(data, listing, target, product, numbers):
        return
    grid = grid_of(data)
    found = _product_of(grid) if product == "auto" else product
    listing.product = NAMES[found]
    if found == "csv":
        own.read(grid, listing)
    elif found == "ignition":
        listing.product = "Ignition 7 CSV"
        ignition.read_old(grid, listing, target)
    else:
        {"kepware": kepware.read, "tia": tia.read, "rockwell": rockwell.read, "neuron": neuron.read}[found](
            grid, listing, target
        )


def _reads_text(
    data: bytes, listing: Listing, target: Target, product: str, numbers: Mapping[str, int]
) -> bool:
    """Read what is no table: JSON, XML and sources of blocks; return whether it was one of these."""
    start = data[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    if product in ("auto", "rockwell") and (l5x.looks_like_l5x(data) or start.startswith(b"<?xml")):
        listing.product = "Studio 5000 L5X"
        l5x.read(data, listing, target)
        return True
    if start.startswith((b"{", b"[")) and product in ("auto", "ignition"):
        text, notice = as_text(data)
        if not blocks.looks_like_source(text):
            listing.product = "Ignition JSON"
            ignition.read(text, listing, target)
            _note_encoding(listing, notice)
            return True
    if product in ("auto", "tia") and not data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        text, notice = as_text(data)
        if blocks.looks_like_source(text):
            listing.product = "data block source"
            blocks.read(text, listing, target, numbers)
            _note_encoding(listing, notice)
            return True
    return False


def _note_encoding(listing: Listing, notice: str) -> None:
    if notice:
        listing.note(0, "T207", notice, 'save it as "UTF-8"')


def _product_of(grid: Grid) -> str:
    for product, required in _HEADERS:
        if find_header(grid, required) is not None:
            return product
    shown = ", ".join(cell for cell in grid.rows[0][1][:8] if cell)[:80] if grid.rows else ""
    raise ListError(
        f"is not a list of any product known here; it begins with: {shown}",
        hint=f"known are the exports of {', '.join(NAMES.values())}, L5X and sources of data blocks",
    )


def write_list(product: str, tags: Iterable[ListedTag], target: Target) -> tuple[str, Listing]:
    """Return a list for another product, and what could not be taken along.

    Args:
        product: One of :data:`PRODUCTS` but ``csv``.
        tags: Tags with our canonical addresses.
        target: Our device.

    Returns:
        The text of the file; the tags in it, and a problem for each that is not.

    Raises:
        ListError: That product cannot have tags of such a device (T254).
    """
    listing = Listing("", NAMES[product])
    writers = {
        "kepware": kepware.write,
        "ignition": ignitiontag.write,
        "tia": tia.write,
        "rockwell": rockwell.write,
        "neuron": neuron.write,
    }
    try:
        return writers[product](tags, listing, target), listing
    except UntranslatableError as exc:
        raise ListError(str(exc), code=exc.code, hint=exc.hint) from exc

"""What a manifest says of a model that was made smaller: of which one, how fast, and if it was proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from edge_opcua.inference.manifestparts import FILE_PATTERN, SHA256_PATTERN
from edge_opcua.inference.manifesttable import Table

Proof = Literal["proved", "not proved", "failed"]
_PROOFS: Final[tuple[Proof, ...]] = ("proved", "not proved", "failed")


@dataclass(frozen=True, slots=True)
class Compressed:
    """A model that was made smaller, beside the one that it was made of.

    Args:
        of_sha256: SHA-256 of the model it was made of: all that were made of one are a family.
        verdict: Whether it is as good, on the data it was tried with.
        provider: Where it was measured, as a pipeline names it: ``cpu``, ``cuda`` …
        p50_ratio: Median time of a run beside that of the model it was made of, measured in pairs.
        p50_high: Upper end of the 95 % interval of that.
        report: File with everything that was measured; empty if there is none.
        report_sha256: Its SHA-256, lower-case hexadecimal.
    """

    of_sha256: str
    verdict: Proof
    provider: str
    p50_ratio: float
    p50_high: float
    report: str = ""
    report_sha256: str = ""

    @property
    def files(self) -> Mapping[str, str]:
        """Its report with the SHA-256 of it."""
        return {self.report: self.report_sha256} if self.report else {}


def read_compressed(root: Table, notes: Mapping[str, Any]) -> Compressed | None:
    """Return what ``[compression]`` says; None where it is a note for people that names no original.

    Args:
        root: The manifest, for messages.
        notes: The table as it stands; further keys are for people.

    Raises:
        ModelError: It names an original, and a key is missing or wrong (M506).
    """
    if "of_sha256" not in notes:
        return None
    table = root.within("compression", notes)
    report = table.matching("report", FILE_PATTERN, "a plain file name") if table.has("report") else ""
    found = Compressed(
        of_sha256=table.matching("of_sha256", SHA256_PATTERN, "64 lower-case hexadecimal digits"),
        verdict=table.choice("verdict", _PROOFS, default="not proved"),
        provider=table.text("provider"),
        p50_ratio=table.number("p50_ratio"),
        p50_high=table.number("p50_high"),
        report=report,
        report_sha256=(
            table.matching("report_sha256", SHA256_PATTERN, "64 lower-case hexadecimal digits")
            if report
            else ""
        ),
    )
    if not 0.0 < found.p50_ratio <= found.p50_high:
        raise table.wrong("p50_ratio", f"is {found.p50_ratio:g}, not above 0 and at most p50_high")
    return found

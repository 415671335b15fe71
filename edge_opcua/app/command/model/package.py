"""A model as somebody hands it over: a folder, or files that are named one by one; made into one folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_opcua.app.command.model.inspection import locate
from edge_opcua.app.command.model.samples import write_samples
from edge_opcua.errors import ModelError
from edge_opcua.inference.manifest import Manifest, load_manifest
from edge_opcua.inference.plainfile import open_plain
from edge_opcua.inference.repository import MANIFEST_FILE, MAX_MODEL_BYTES, MODEL_FILE

_CHUNK: Final = 1 << 20
_LARGE: Final = Path("/var/tmp")  # noqa: S108 - a folder of random name in it; /tmp is often memory, models are large


@dataclass(frozen=True, slots=True)
class Handed:
    """What somebody names.

    Args:
        target: A folder, a model file, or ``NAME/VERSION`` of the repository.
        manifest: The manifest, where it is not beside the model.
        golden: The reference samples, where they are not beside the manifest; or a CSV file of recorded rows
            to make some of.
        profile: The reference profile, where it is not beside the manifest.
        timeout_s: Longest time to run the model, where reference samples are made.
    """

    target: str
    manifest: Path | None = None
    golden: Path | None = None
    profile: Path | None = None
    timeout_s: float = 60.0

    @property
    def is_recorded(self) -> bool:
        """Whether the reference samples are to be made of recorded rows."""
        return self.golden is not None and self.golden.suffix.lower() == ".csv"


@contextmanager
def packaged(handed: Handed, state_dir: Path) -> Iterator[tuple[Path, Manifest]]:
    """Yield a private folder with a copy of all files of a model, and its manifest.

    What is tried is then what is stored, whatever becomes of the files meanwhile.

    Raises:
        ModelError: A file is missing (M507) or no plain file (M509), the manifest is wrong (M506), or no
            reference samples can be made (M618).
    """
    model, _ = locate(handed.target, state_dir)
    manifest_file = _manifest_of(handed, model)
    manifest = load_manifest(manifest_file)
    wanted = {
        MODEL_FILE: (model,),
        MANIFEST_FILE: (manifest_file,),
        manifest.golden.file: _places(handed.golden, manifest.golden.file, manifest_file, model),
        **{name: _places(None, name, manifest_file, model) for name in manifest.external},
    }
    if manifest.profile is not None:
        name = manifest.profile.file
        wanted[name] = _places(handed.profile, name, manifest_file, model)
    if manifest.compressed is not None:
        wanted |= {name: _places(None, name, manifest_file, model) for name in manifest.compressed.files}
    with tempfile.TemporaryDirectory(
        prefix="edge-opcua-model-", dir=_LARGE if _LARGE.is_dir() else None
    ) as scratch:
        folder = Path(scratch)
        rows = wanted.pop(manifest.golden.file)[0] if handed.is_recorded else None
        for name, places in wanted.items():
            _copy(places, folder / name)
        if rows is not None:
            write_samples(
                folder / MODEL_FILE, manifest, rows, folder / manifest.golden.file, timeout_s=handed.timeout_s
            )
        yield folder, manifest


def _manifest_of(handed: Handed, model: Path) -> Path:
    if handed.manifest is not None:
        return handed.manifest
    for place in (model.parent / MANIFEST_FILE, model.with_suffix(".toml")):
        if place.exists():
            return place
    raise ModelError(
        f"there is no {MANIFEST_FILE} beside {model}; name one with --manifest, or let edge-opcua model map "
        "draft it",
        code="M507",
    )


def _places(named: Path | None, name: str, manifest: Path, model: Path) -> tuple[Path, ...]:
    """Return where a file may lie, the likeliest first."""
    return (named,) if named is not None else (manifest.parent / name, model.parent / name)


def _copy(places: tuple[Path, ...], target: Path) -> None:
    source = next((place for place in places if place.exists()), places[0])
    try:
        with open(open_plain(source), "rb") as stream, target.open("xb") as copy:  # noqa: PTH123 - by descriptor
            if os.fstat(stream.fileno()).st_size > MAX_MODEL_BYTES:
                raise ModelError(f"{source} is larger than {MAX_MODEL_BYTES} bytes", code="M510")
            shutil.copyfileobj(stream, copy, _CHUNK)
    except FileNotFoundError:
        raise ModelError(f"{source} is missing: the manifest names it", code="M507") from None
    except OSError as exc:
        raise ModelError(f"{source} cannot be copied: {exc.strerror}", code="M514") from exc

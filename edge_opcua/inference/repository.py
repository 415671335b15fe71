"""The model repository: ``<root>/<name>/<version>/``, the only place a model is ever served from.

A client names a model by name, version and hash, never by a path or URL; every name is checked against a
strict pattern before it touches the file system, and every file against its hash before it is handed out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_opcua.errors import ModelError
from edge_opcua.inference.manifest import (
    MAX_VERSION,
    NAME_PATTERN,
    SHA256_PATTERN,
    Manifest,
    load_manifest,
)
from edge_opcua.inference.onnxfile import inspect_file, refuse_foreign, require_inside
from edge_opcua.inference.plainfile import open_plain

MODEL_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "manifest.toml"
MAX_MODEL_BYTES: Final = 2**31
_DIRECTORY_MODE: Final = 0o700
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model whose files were found and verified.

    Args:
        folder: Folder of the version.
        manifest: Its checked manifest.
    """

    folder: Path
    manifest: Manifest

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL_FILE

    @property
    def golden(self) -> Path:
        """The reference samples."""
        return self.folder / self.manifest.golden.file


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One version in the repository as a list shows it.

    Args:
        name: Name of the model.
        version: Version.
        sha256: Hash by which a client asks for it; empty if it is not usable.
        description: For people.
        fault: Why it is not usable; empty if it is.
    """

    name: str
    version: int
    sha256: str
    description: str
    fault: str = ""


class ModelRepository:
    """Models of one state directory.

    All methods read files: call them through a worker where an event loop runs.

    Args:
        root: ``<state>/models``.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def resolve(self, name: str, version: int, sha256: str | None = None) -> ModelFiles:
        """Return a version whose files are complete, unchanged and allowed.

        Args:
            name: Name of the model.
            version: Version, from 1.
            sha256: Hash the caller expects of ``model.onnx``; None takes the manifest's.

        Raises:
            ModelError: Name, version or hash are malformed (M502), not there (M501), another hash than
                expected (M503), or a fault of the files (:func:`verify`).
        """
        folder = self._folder(name, version)
        if sha256 is not None and SHA256_PATTERN.fullmatch(sha256.lower()) is None:
            raise ModelError("the SHA-256 of a model is 64 hexadecimal digits", code="M502")
        if not folder.is_dir():
            raise ModelError(
                f"model {name} {version} is not in the repository{self._others(name)}", code="M501"
            )
        files = verify(folder)
        manifest = files.manifest
        if (manifest.name, manifest.version) != (name, version):
            raise ModelError(
                f"{folder} holds {manifest.name} {manifest.version}, not {name} {version}", code="M506"
            )
        if sha256 is not None and sha256.lower() != manifest.sha256:
            raise ModelError(
                f"model {name} {version} has SHA-256 {manifest.sha256}, not {sha256.lower()}", code="M503"
            )
        return files

    def install(self, source: Path) -> ModelFiles:
        """Copy a version into the repository; all of it appears at once, and a half copy never does.

        A version that is already there with the same hash stays as it is.

        Args:
            source: Folder with model, manifest and golden samples.

        Raises:
            ModelError: The folder does not verify, the same version is there with another hash (M503), or
                the repository cannot be written (M514).
        """
        manifest = verify(source).manifest
        target = self._folder(manifest.name, manifest.version)
        if target.exists():
            return self.resolve(manifest.name, manifest.version, manifest.sha256)
        names = (MODEL_FILE, MANIFEST_FILE, manifest.golden.file, *manifest.files)
        try:
            target.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".incoming-", dir=target.parent) as scratch:
                copy = Path(scratch) / "version"
                copy.mkdir(mode=_DIRECTORY_MODE)
                for name in names:
                    shutil.copyfile(source / name, copy / name)
                    _flush_to_disk(copy / name)
                verify(copy)
                copy.rename(target)
            _flush_to_disk(target.parent)
        except OSError as exc:
            raise ModelError(
                f"model {manifest.name} {manifest.version} cannot be stored: {exc.strerror}", code="M514"
            ) from exc
        return ModelFiles(target, manifest)

    def install_all(self, source: Path) -> list[ModelFiles]:
        """Install every ``<name>/<version>/`` of a folder of delivered models that is not there yet.

        Raises:
            ModelError: One of them does not verify, or cannot be stored.
        """
        return [self.install(path.parent) for path in sorted(source.glob(f"*/*/{MANIFEST_FILE}"))]

    def list(self) -> list[ModelEntry]:
        """Return every version there is, by name and version; the unusable ones with the reason."""
        entries = []
        for name, version in self.versions():
            try:
                manifest = self.resolve(name, version).manifest
            except ModelError as exc:
                entries.append(ModelEntry(name, version, "", "", f"{exc.code}: {exc}"))
            else:
                entries.append(ModelEntry(name, version, manifest.sha256, manifest.description))
        return entries

    def versions(self) -> tuple[tuple[str, int], ...]:
        """Return name and version of everything there is, in order; nothing of it is verified."""
        found = (
            (path.parent.name, int(path.name))
            for path in self._root.glob("*/*")
            if NAME_PATTERN.fullmatch(path.parent.name) and _is_version(path.name)
        )
        return tuple(sorted(found))

    def folder(self, name: str, version: int) -> Path:
        """Return where a version lies, or would lie.

        Raises:
            ModelError: Name or version are malformed (M502).
        """
        return self._folder(name, version)

    def _folder(self, name: str, version: int) -> Path:
        if NAME_PATTERN.fullmatch(name) is None:
            raise ModelError(
                f'"{name[:80]}" is not a model name (a letter, then letters, digits, _ or -)', code="M502"
            )
        if not 1 <= version <= MAX_VERSION:
            raise ModelError(f"version {version} is out of range 1..{MAX_VERSION}", code="M502")
        return self._root / name / str(version)

    def _others(self, name: str) -> str:
        versions = sorted(int(path.name) for path in (self._root / name).glob("*") if path.name.isdigit())
        if not versions:
            return ""
        return f"; there are versions {', '.join(str(version) for version in versions[-8:])}"


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdigit() and text[0] != "0" and len(text) <= len(str(MAX_VERSION))


def verify(folder: Path) -> ModelFiles:
    """Check that the files of one version are complete, unchanged and allowed.

    Raises:
        ModelError: A file is missing (M507), the manifest is wrong (M506), a hash differs (M503), the model
            is not ONNX (M510), larger than any that is served (M585), uses custom operators (M508) or files
            outside its folder (M509).
    """
    manifest = load_manifest(folder / MANIFEST_FILE)
    expected = {MODEL_FILE: manifest.sha256, **manifest.files}
    for name, sha256 in expected.items():
        found = _sha256(require_inside(folder, name))
        if found != sha256:
            which = f"{manifest.name}/{manifest.version}: {name}"  # its folder may be a private copy
            raise ModelError(
                f"{which} has SHA-256 {found}, its manifest says {sha256}: the file was changed", code="M503"
            )
    if not require_inside(folder, manifest.golden.file).is_file():
        raise ModelError(f"{folder / manifest.golden.file} is missing", code="M507")
    contents = inspect_file(folder / MODEL_FILE)
    refuse_foreign(contents, folder, frozenset(manifest.external))
    return ModelFiles(folder, manifest)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with os.fdopen(open_plain(path), "rb") as stream:
            if os.fstat(stream.fileno()).st_size > MAX_MODEL_BYTES:
                raise ModelError(f"{path} is larger than {MAX_MODEL_BYTES} bytes", code="M510")
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing", code="M507") from None
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror}", code="M507") from exc
    return digest.hexdigest()


def _flush_to_disk(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

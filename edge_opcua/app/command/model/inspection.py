"""``model inspect``: what a model file is, whether it can be served, and how fast it is on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.look import printable
from edge_opcua.app.command.model.card import Found, card_rows, card_text
from edge_opcua.app.command.model.names import parse_model_name
from edge_opcua.app.command.tell import ANSWER_IS_NO, WRONG_USE, complain, say
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import ask_apart
from edge_opcua.inference.backends.ortoptions import PROVIDERS
from edge_opcua.inference.manifest import Manifest, load_manifest
from edge_opcua.inference.onnxcard import OnnxCard, read_card
from edge_opcua.inference.onnxfile import inspect_file, refuse_foreign
from edge_opcua.inference.plainfile import open_plain
from edge_opcua.inference.probe import CPU, Runtime, probe_in_child
from edge_opcua.inference.repository import MANIFEST_FILE, MODEL_FILE, ModelRepository

SCHEMA: Final = "edge-opcua.model-card/1"
TRYOUT: Final = "edge_opcua.inference.tryout"
SPARE_S: Final = 20.0
"""Beside the time to load: to import the runtime and to run."""
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """How to look.

    Args:
        providers: Where to try it; none: on every provider that works here.
        shapes: Shape of inputs with open axes, by name.
        timeout_s: Longest time to load it on one provider.
        run: Whether it is run at all.
        as_json: One JSON object instead of text.
    """

    providers: tuple[str, ...] = ()
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    timeout_s: float = 60.0
    run: bool = True
    as_json: bool = False


def inspect_model(target: str, state_dir: Path, options: InspectOptions) -> int:
    """Print what a model is.

    Args:
        target: A file, a folder with a model, or ``NAME/VERSION`` of the repository.
        state_dir: Whose repository.
        options: How to look.

    Returns:
        0; 1 if it cannot be served here, 2 if there is no such model.
    """
    try:
        path, manifest_file = locate(target, state_dir)
        found = look(path, manifest_file, options)
    except ModelError as exc:
        complain(printable(f"{exc.code}: {exc}"))
        return WRONG_USE if exc.code in {"M501", "M502", "M507"} else ANSWER_IS_NO
    served = found.fault is None and (not options.run or any(run.get("served") for run in found.runs))
    if options.as_json:
        say(json.dumps({"schema": SCHEMA, "served": served, **card_rows(found)}))
    else:
        say(card_text(found, width=_width()))
    return 0 if served else ANSWER_IS_NO


def locate(target: str, state_dir: Path) -> tuple[Path, Path | None]:
    """Return the model file that somebody means, and the manifest beside it if there is one.

    Raises:
        ModelError: There is none (M501, M507).
    """
    path = Path(target)
    if path.is_dir():
        return path / MODEL_FILE, _beside(path)
    if path.exists() or path.suffix == ".onnx":
        if not path.is_file():
            raise ModelError(f"{path} is missing", code="M507")
        return path, _beside(path.parent) if path.name == MODEL_FILE else None
    named = parse_model_name(target)
    if named is None:
        raise ModelError(f"{target} is no file, no folder and no NAME/VERSION", code="M507")
    repository = ModelRepository(StateDir(state_dir).models)
    version = named.version or max(
        (each for name, each in repository.versions() if name == named.name), default=0
    )
    if not version:
        where = f"in {StateDir(state_dir).models}, and no file or folder {target}"
        raise ModelError(f"there is no model {named.name} {where}", code="M501")
    folder = repository.folder(named.name, version)
    if not folder.is_dir():
        raise ModelError(f"model {named.name} {version} is not in the repository", code="M501")
    return folder / MODEL_FILE, _beside(folder)


def _beside(folder: Path) -> Path | None:
    return folder / MANIFEST_FILE if (folder / MANIFEST_FILE).exists() else None


def look(path: Path, manifest_file: Path | None, options: InspectOptions) -> Found:
    """Read a model and try it.

    Raises:
        ModelError: It is no ONNX model, or cannot be read.
    """
    card, digest = read_card(path), sha256_of(path)
    manifest: Manifest | None = None
    fault: tuple[str, str] | None = None
    try:
        manifest = None if manifest_file is None else load_manifest(manifest_file)
        _require_allowed(path, card, digest, manifest)
    except ModelError as exc:
        fault = (exc.code, str(exc))
    foreign = fault is not None and fault[0] in {"M508", "M509"}
    runs = _runs(path, manifest, options) if options.run and not foreign else ()
    return Found(path, digest, card, manifest, fault, tuple(runs))


def _require_allowed(path: Path, card: OnnxCard, digest: str, manifest: Manifest | None) -> None:
    """Refuse another file than the manifest's, and what would load anything foreign (ModelError)."""
    if manifest is not None and manifest.sha256 != digest:
        raise ModelError(f"its manifest is of another file: SHA-256 {manifest.sha256}", code="M503")
    listed = card.external if manifest is None else manifest.external
    refuse_foreign(inspect_file(path), path.parent, frozenset(listed))


def _runs(path: Path, manifest: Manifest | None, options: InspectOptions) -> list[Mapping[str, Any]]:
    shapes = dict(options.shapes)
    if manifest is not None and manifest.features:
        shapes.setdefault(manifest.input_name, manifest.input_shape)
    if options.providers:
        return [_try(path, word, shapes, options) for word in options.providers]
    runtime = probe_in_child()
    if not runtime.version:
        return [{"provider": CPU, "why_not": runtime.reason, "code": "M522", "served": False}]
    return [
        _try(path, each.name, shapes, options)
        if each.usable
        else {"provider": each.name, "why_not": each.why_not, "code": "M521", "served": False}
        for each in _in_order(runtime)
    ]


def _in_order(runtime: Runtime) -> list[Any]:
    return sorted(runtime.providers, key=lambda each: (not each.usable, each.name != CPU))


def _try(
    path: Path, provider: str, shapes: Mapping[str, Sequence[int]], options: InspectOptions
) -> Mapping[str, Any]:
    name = PROVIDERS.get(provider.lower(), provider)
    request = {
        "path": str(path.absolute()),
        "provider": provider,
        "shapes": {key: list(shape) for key, shape in shapes.items()},
        "load_s": options.timeout_s,
    }
    try:
        return ask_apart(TRYOUT, request, within_s=options.timeout_s + SPARE_S)
    except ModelError as exc:
        return {"provider": name, "why_not": str(exc), "code": exc.code, "served": False}


def sha256_of(path: Path) -> str:
    """Return the hash of a plain file.

    Raises:
        ModelError: It is no plain file (M509), or cannot be read (M507).
    """
    digest = hashlib.sha256()
    try:
        with os.fdopen(open_plain(path), "rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror}", code="M507") from exc
    return digest.hexdigest()


def _width() -> int:
    return os.get_terminal_size().columns if sys.stdout.isatty() else 100

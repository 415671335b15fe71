"""What was promised to clients: namespace order and NodeIds, kept in ``identity.lock``.

A SCADA project stores NodeIds. A start that would silently give a tag another NodeId, or a namespace another
index, is refused with what changed; removing the file (or ``accept=True``) is the operator's explicit yes.
Adding and removing things is no change of identity.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.namespaces import Names, Namespace, namespace_order
from edge_opcua.opcua.space import public_url, tag_node_name
from edge_opcua.security.pki import write_atomic

FORMAT: Final = 1
MAX_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Identity:
    """Namespace URIs from index 2 on, and the NodeId strings of each source.

    Args:
        namespaces: In order.
        nodes: NodeId strings by what they stand for (a device's address, a pipeline, …).
    """

    namespaces: tuple[str, ...]
    nodes: Mapping[str, tuple[str, ...]]


def identity_of(config: EdgeConfig) -> Identity:
    """Return what a configuration promises to clients; pure.

    Raises:
        IdentityError: Two nodes would have the same NodeId.
    """
    names = Names(config.site.machine)
    nodes: dict[str, list[str]] = {}
    owners: dict[str, str] = {}

    def promise(source: str, name: str) -> None:
        other = owners.setdefault(name, source)
        if other != source:
            raise IdentityError(
                f'two nodes would be called "{name}": {other} and {source}; '
                "rename one, or give a tag a node_id of its own",
                code="C193",
            )
        nodes.setdefault(source, []).append(name)

    promise("machine", names.machine)
    for device in config.devices:
        where = public_url(device.url)
        promise(f"device {where}", names.device(device.name))
        for tag in device.tags:
            name = tag_node_name(names, tag)
            if name in owners:
                raise IdentityError(
                    f'{tag.file}:{tag.line}: the NodeId "{name}" of {device.name}/{tag.name} is taken by '
                    f"{owners[name]}; rename one, or fill the column node_id",
                    code="C193",
                )
            promise(f"tag {where} {tag.address}", name)
        for capture in device.captures:
            promise(f"capture {where} {capture.samples}", names.capture(capture.name))
    for pipeline in config.pipelines:
        promise(f"pipeline {pipeline.capture} {pipeline.model}", names.inference(pipeline.name))
    for output in config.outputs:
        promise(f"output {output.device} {output.db}", names.output(output.name))
    order = namespace_order(config.site.namespace_uri)
    return Identity(order, {source: tuple(sorted(found)) for source, found in sorted(nodes.items())})


def changes(before: Identity, now: Identity) -> list[str]:
    """Return what a client would find under another id, one line each: ``old -> new (what it is)``."""
    found = []
    for index, uri in enumerate(before.namespaces):
        new = now.namespaces[index] if index < len(now.namespaces) else "(none)"
        if new != uri:
            found.append(f"namespace {index + int(Namespace.DI)}: {uri} -> {new}")
    for source, old in before.nodes.items():
        present = now.nodes.get(source)
        if present is None:
            continue
        gone = [name for name in old if name not in present]
        fresh = [name for name in present if name not in old]
        found += [f"{a} -> {b} ({source})" for a, b in zip(gone, fresh, strict=False)]
    return found


def guard_identity(path: Path, config: EdgeConfig, *, accept: bool = False) -> Identity:
    """Refuse a start that breaks a promise; otherwise write the promise down. File I/O, before the loop runs.

    Args:
        path: ``identity.lock`` of the state directory.
        config: What is about to be served.
        accept: Take the new identity whatever it changes.

    Raises:
        IdentityError: Something would move, or the file cannot be used.
    """
    now = identity_of(config)
    before = _read(path)
    if before is not None and not accept:
        moved = changes(before, now)
        if moved:
            more = f"\n  … and {len(moved) - MAX_SHOWN} more" if len(moved) > MAX_SHOWN else ""
            raise IdentityError(
                "clients know these nodes under another id:\n  "
                + "\n  ".join(moved[:MAX_SHOWN])
                + more
                + f"\nkeep the old names (column node_id), or remove {path} if every client will be changed",
                code="C191",
            )
    if before != now:
        _write(path, now)
    return now


def _read(path: Path) -> Identity | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise IdentityError(
                f"{path} has format {raw['format']}, this version reads {FORMAT}", code="C192"
            )
        return Identity(
            tuple(str(uri) for uri in raw["namespaces"]),
            {str(source): tuple(map(str, names)) for source, names in raw["nodes"].items()},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise IdentityError(f"{path} cannot be read ({exc}); restore it from a backup", code="C192") from exc


def _write(path: Path, identity: Identity) -> None:
    content: dict[str, object] = {
        "format": FORMAT,
        "namespaces": list(identity.namespaces),
        "nodes": {source: list(names) for source, names in identity.nodes.items()},
    }
    try:
        write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False).encode(), mode=0o600)
    except OSError as exc:
        raise IdentityError(f"{path} cannot be written: {exc.strerror}", code="C192") from exc

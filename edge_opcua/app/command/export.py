"""What ``edge-opcua tags export`` and ``nodesets export`` do: files for other products."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import sys
from pathlib import Path
from typing import Final

from edge_opcua.app.build import plan
from edge_opcua.app.command.tell import WRONG_USE, complain, say
from edge_opcua.config.loader import load
from edge_opcua.config.report import problems_text
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.errors import ConfigError
from edge_opcua.opcua.export.nodesets import instance_nodeset, type_nodesets
from edge_opcua.opcua.export.offline import Model, offline_model
from edge_opcua.opcua.export.tags import PathStyle, exported_variables, ignition, kepware, plain
from edge_opcua.opcua.nodesets import read_nodesets
from edge_opcua.security.pki import write_atomic

_READABLE: Final = 0o644
_DEFAULT_STYLE: Final[dict[str, PathStyle]] = {"ignition": "nsu", "kepware": "ns", "csv": "ns"}


def export_tags(
    config_file: Path,
    *,
    form: str,
    out: Path | None,
    device: str = "",
    server_name: str = "",
    path_style: PathStyle | None = None,
) -> int:
    """Write a tag list for another product.

    Args:
        config_file: The configuration.
        form: ``ignition``, ``kepware`` or ``csv``.
        out: File; standard output if None.
        device: Only what belongs to this device.
        server_name: Name of the OPC connection in Ignition; ``edge_opcua <machine>`` if empty.
        path_style: How NodeIds are written; what suits the product if None.

    Returns:
        0; 2 if the configuration is wrong, has no such device, or the file cannot be written.
    """
    if form not in _DEFAULT_STYLE:
        complain(
            f"{form} reads no OPC UA servers; with --as device it gets the tags of a device (--device NAME)"
        )
        return WRONG_USE
    config = _sound(config_file)
    if config is None:
        return WRONG_USE
    if device and device not in [each.name for each in config.devices]:
        complain(f'there is no device "{device}"; devices: {", ".join(d.name for d in config.devices)}')
        return WRONG_USE
    model = _model(config)
    if model is None:
        return WRONG_USE
    variables = exported_variables(model, config, device)
    machine = config.site.machine
    style = path_style or _DEFAULT_STYLE[form]
    if form == "ignition":
        name = server_name or f"edge_opcua {machine}"
        text = ignition(variables, machine=machine, server_name=name, style=style)
    elif form == "kepware":
        text = kepware(variables, machine=machine, style=style)
    else:
        text = plain(variables, style=style)
    if out is None:
        sys.stdout.write(text)
        return 0
    if not _written(out, text.encode()):
        return WRONG_USE
    say(f"{out}   {len(variables)} variables")
    return 0


def export_nodesets(config_file: Path, *, out: Path) -> int:
    """Write the information model as NodeSet2 files, in load order, and say which versions they are.

    Returns:
        0; 2 if the configuration is wrong or a file cannot be written.
    """
    config = _sound(config_file)
    if config is None:
        return WRONG_USE
    model = _model(config)
    if model is None:
        return WRONG_USE
    changed = dt.datetime.fromtimestamp(config_file.stat().st_mtime, dt.UTC)
    files = [*type_nodesets(model), instance_nodeset(model, config, published=changed)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        complain(f"{out}: {exc.strerror}")
        return WRONG_USE
    for file in files:
        if not _written(out / file.name, file.xml):
            return WRONG_USE
        say(f"{out / file.name}   {file.uri}   {file.version} of {file.published[:10]}   {file.nodes} nodes")
    say("import them in this order; the standard namespace (1.05.04 or later) has to be there already")
    return 0


def _sound(config_file: Path) -> EdgeConfig | None:
    loaded = load(config_file, env=os.environ)
    if loaded.config is None:
        complain(problems_text(loaded))
    return loaded.config


def _model(config: EdgeConfig) -> Model | None:
    try:
        return asyncio.run(offline_model(config, plan(config).blocks, read_nodesets()))
    except ConfigError as exc:
        complain(f"error[{exc.code}] {exc}")
        return None


def _written(path: Path, content: bytes) -> bool:
    try:
        write_atomic(path, content, mode=_READABLE)
    except OSError as exc:
        complain(f"{path}: {exc.strerror}")
        return False
    return True

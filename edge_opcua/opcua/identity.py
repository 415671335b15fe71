"""What was promised to clients: namespace order and NodeIds, kept in ``identity.lock``.

A SCADA project stores NodeIds. A start that would silently give a tag another NodeId, a NodeId another tag,
or a namespace another index, is refused with what changed. The operator's yes is a line in ``[[renames]]`` or
``edge-opcua identity accept``; what was accepted stays in the file as history, and a NodeId that is no longer
served stays reserved for what it meant. Adding and removing things is no change of identity.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.schema import EdgeConfig, PipelineConfig, RenameConfig, public_url
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.collector import paused
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.namespaces import Names, Namespace, namespace_order
from edge_opcua.opcua.space import tag_node_names
from edge_opcua.opcua.values import utc
from edge_opcua.security.pki import write_atomic

FORMAT: Final = 2
_READABLE: Final = (1, FORMAT)
MAX_SHOWN: Final = 5
HISTORY_KEPT: Final = 10_000

BY_TABLE: Final = "renames"
BY_OPERATOR: Final = "accept"
BY_ADDRESS: Final = "address"


@dataclass(frozen=True, slots=True)
class Identity:
    """Namespace URIs from index 2 on, and the NodeId strings of each source.

    Args:
        namespaces: In order.
        nodes: NodeId strings by what they stand for (a device's address, a pipeline, …).
    """

    namespaces: tuple[str, ...]
    nodes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Move:
    """What clients would find under another id, or an id under which they would find another thing.

    Args:
        old: What they know.
        new: What they would find.
        what: What it is: a namespace's index, a source, or the NodeId that changes its meaning.
        file: Tag table of the row that causes it; empty if it is no row.
        line: Its line.
        is_id: Whether ``what`` is the id, and ``old`` and ``new`` are its meanings.
    """

    old: str
    new: str
    what: str
    file: str = ""
    line: int = 0
    is_id: bool = False

    def __str__(self) -> str:
        """Return ``old -> new (what it is)``, or ``id: old -> new``."""
        change = f"{self.old} -> {self.new}"
        return f"{self.what}: {change}" if self.is_id else f"{change} ({self.what})"

    @property
    def place(self) -> str:
        """The row that causes it, as an editor opens it; empty if it is no row."""
        return f"{self.file}:{self.line}" if self.file else ""


@dataclass(frozen=True, slots=True)
class Change:
    """A line of the history.

    Args:
        when: ISO 8601, UTC.
        old: See :class:`Move`.
        new: See :class:`Move`.
        what: See :class:`Move`.
        by: ``renames`` (the configuration's table), ``accept`` (the operator) or ``address`` (a NodeId kept
            its name and reads another address).
    """

    when: str
    old: str
    new: str
    what: str
    by: str


@dataclass(frozen=True, slots=True)
class Record:
    """The content of ``identity.lock``.

    Args:
        identity: What is promised now.
        retired: NodeIds once promised and no longer served, with what each stood for.
        history: What was changed with somebody's consent, oldest first; the newest 10 000.
    """

    identity: Identity
    retired: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A configuration held against what was promised.

    Args:
        now: What the configuration promises.
        before: What was promised; None at the first start.
        refused: What nobody has consented to.
        accepted: What the configuration's table of renames consents to.
        readdressed: NodeIds that keep their name and read another address.
        removed: NodeIds that will no longer be served.
    """

    now: Identity
    before: Record | None = None
    refused: tuple[Move, ...] = ()
    accepted: tuple[Move, ...] = ()
    readdressed: tuple[Move, ...] = ()
    removed: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """Return what is no change of identity but worth a line for the operator."""
        found = [f"renamed as the table says: {move}" for move in self.accepted]
        found += [f"{move.what} keeps its NodeId: {move.old} -> {move.new}" for move in self.readdressed]
        if self.removed:
            shown = ", ".join(self.removed[:MAX_SHOWN])
            more = len(self.removed) - MAX_SHOWN
            found.append(f"no longer served: {shown}" + (f" and {more} more" if more > 0 else ""))
        return found


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
        addresses = device.tags.column("address")
        for row, (name, address) in enumerate(
            zip(tag_node_names(names, device.tags), addresses, strict=True)
        ):
            if name in owners:
                tag = device.tags[row]
                raise IdentityError(
                    f'{tag.file}:{tag.line}: the NodeId "{name}" of {device.name}/{tag.name} is taken by '
                    f"{owners[name]}; rename one, or fill the column node_id",
                    code="C193",
                )
            promise(f"tag {where} {address}", name)
        for capture in device.captures:
            promise(f"capture {where} {capture.samples}", names.capture(capture.name))
    for pipeline in config.pipelines:
        promise(f"pipeline {_judged(pipeline)} {pipeline.model}", names.inference(pipeline.name))
    for output in config.outputs:
        promise(f"output {output.device} {_written(output)}", names.output(output.name))
    order = namespace_order(config.site.namespace_uri)
    return Identity(order, {source: tuple(sorted(found)) for source, found in sorted(nodes.items())})


def _judged(pipeline: PipelineConfig) -> str:
    """Return what a pipeline judges: its capture, or the first of its tags, which stays when others come."""
    return pipeline.capture or next(iter(pipeline.inputs.values()), "")


def _written(output: OutputConfig) -> str:
    """Return where an output writes: its area, or the first of its tags, which is no other output's."""
    if output.interface is not None:
        return output.interface.status
    return output.values[0].tag if output.values else ""


def compare(path: Path | None, config: EdgeConfig) -> Comparison:
    """Hold a configuration against ``identity.lock``, if there is one; reads, never writes.

    Raises:
        IdentityError: Two nodes would have the same NodeId, or the file cannot be read.
    """
    with paused():  # a hundred thousand names, none of which is garbage
        return _compared(path, config)


def _compared(path: Path | None, config: EdgeConfig) -> Comparison:
    now = identity_of(config)
    before = None if path is None else read_record(path)
    if before is None:
        return Comparison(now)
    if before.identity == now:
        return Comparison(now, before)
    places = _places(config)
    found = [*_moved(before.identity, now, places), *_taken(before, now, places)]
    served = {name for names in now.nodes.values() for name in names}
    gone = {name for names in before.identity.nodes.values() for name in names} - served
    renames = _by_old_name(config.renames)
    return Comparison(
        now,
        before,
        refused=tuple(move for move in found if not _is_accepted(renames, move)),
        accepted=tuple(move for move in found if _is_accepted(renames, move)),
        readdressed=tuple(_readdressed(before.identity, now)),
        removed=tuple(sorted(gone - {move.old for move in found})),
    )


def check_identity(path: Path, config: EdgeConfig) -> Comparison:
    """Refuse what :func:`guard_identity` refuses; reads, never writes.

    Raises:
        IdentityError: Something would move, or the file cannot be used.
    """
    found = compare(path, config)
    if found.refused:
        raise IdentityError(_refusal(found.refused, path), code="C191")
    return found


def guard_identity(
    path: Path, config: EdgeConfig, *, accept: bool = False, clock: Clock | None = None
) -> Comparison:
    """Refuse a start that breaks a promise; otherwise write the promise down. File I/O, before the loop runs.

    Args:
        path: ``identity.lock`` of the state directory.
        config: What is about to be served.
        accept: Take the new identity whatever it changes.
        clock: For the history.

    Raises:
        IdentityError: Something would move, or the file cannot be used.
    """
    found = compare(path, config) if accept else check_identity(path, config)
    now_ns = (clock or SystemClock()).utc_ns()
    record = _recorded(found, _when(now_ns))
    if record != found.before:
        _write(path, record)
    return found


def read_record(path: Path) -> Record | None:
    """Return what ``identity.lock`` holds, None if there is no such file.

    Raises:
        IdentityError: It is damaged, of a newer version, or cannot be read.
        PermissionError: It belongs to somebody else.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] not in _READABLE:
            raise IdentityError(
                f"{path} has format {raw['format']}, this version reads {FORMAT}", code="C192"
            )
        return _parsed(raw)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise  # nothing is damaged: somebody else's directory
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise IdentityError(f"{path} cannot be read ({exc}); restore it from a backup", code="C192") from exc


def _parsed(raw: Mapping[str, Any]) -> Record:
    identity = Identity(
        tuple(str(uri) for uri in raw["namespaces"]),
        {str(source): tuple(map(str, names)) for source, names in raw["nodes"].items()},
    )
    if raw["format"] == 1:
        return Record(identity)
    history = [
        Change(*(str(line[key]) for key in ("when", "old", "new", "what", "by"))) for line in raw["history"]
    ]
    return Record(
        identity, {str(name): str(source) for name, source in raw["retired"].items()}, tuple(history)
    )


_Places = Mapping[str, tuple[str, int]]


def _places(config: EdgeConfig) -> _Places:
    """Return the row of each tag, by the string of its NodeId."""
    names = Names(config.site.machine)
    found: dict[str, tuple[str, int]] = {}
    for device in config.devices:
        rows = zip(device.tags.column("file"), device.tags.column("line"), strict=True)
        found.update(zip(tag_node_names(names, device.tags), rows, strict=True))
    return found


def _moved(before: Identity, now: Identity, places: _Places) -> Iterator[Move]:
    """Yield what a client would find under another id."""
    for index, uri in enumerate(before.namespaces):
        new = now.namespaces[index] if index < len(now.namespaces) else "(none)"
        if new != uri:
            yield Move(uri, new, f"namespace {index + int(Namespace.DI)}", is_id=True)
    for source, old in before.nodes.items():
        present = now.nodes.get(source, ())
        if old == present:
            continue
        known, served = set(old), set(present)
        gone = [name for name in old if name not in served]
        fresh = [name for name in present if name not in known]
        for lost, found in zip(gone, fresh, strict=False):
            yield Move(lost, found, source, *places.get(found, ("", 0)))


def _taken(before: Record, now: Identity, places: _Places) -> Iterator[Move]:
    """Yield the NodeIds that would mean something else than they once did."""
    meant = _owners(before.identity)
    for source, names in now.nodes.items():
        known = before.identity.nodes.get(source, ())
        for name in names:
            owner = meant.get(name)
            if owner is None:
                owner = before.retired.get(name, source)
            elif owner not in now.nodes or source in before.identity.nodes:
                # The first is another address under the same name, the second a move already.
                continue
            if owner != source and name not in known:
                yield Move(owner, source, name, *places.get(name, ("", 0)), is_id=True)


def _readdressed(before: Identity, now: Identity) -> Iterator[Move]:
    """Yield the NodeIds that keep their name and read another address; a device that moved is one of them."""
    meant = _owners(before)
    devices: dict[tuple[str, str], int] = {}
    for source, names in now.nodes.items():
        for name in names:
            owner = meant.get(name, source)
            if owner == source or owner in now.nodes or source in before.nodes:
                continue
            (kind, url, rest), (_, new_url, new_rest) = _parts(owner), _parts(source)
            if kind in ("device", "tag", "capture") and rest == new_rest:
                devices[url, new_url] = devices.get((url, new_url), 0) + 1
                continue
            yield Move(owner, source, name, is_id=True)
    for (url, new_url), count in devices.items():
        yield Move(url, new_url, f"a device with {count} nodes")


def _parts(source: str) -> tuple[str, str, str]:
    kind, _, rest = source.partition(" ")
    url, _, address = rest.partition(" ")
    return kind, url, address


def _owners(identity: Identity) -> dict[str, str]:
    return {name: source for source, names in identity.nodes.items() for name in names}


def _by_old_name(renames: Iterable[RenameConfig]) -> Mapping[str, set[str]]:
    """Return what each old name is called from now on."""
    found: dict[str, set[str]] = {}
    for rename in renames:
        found.setdefault(_name(rename.old), set()).add(_name(rename.new))
    return found


def _is_accepted(renames: Mapping[str, set[str]], move: Move) -> bool:
    """Whether the table names this move, or a rename of something above it."""
    if move.new in renames.get(move.old, ()):
        return True
    return any(
        move.new == new + move.old[dot:]
        for dot, letter in enumerate(move.old)
        if letter == "."
        for new in renames.get(move.old[:dot], ())
    )


def _name(text: str) -> str:
    """Return a name as it stands in the table; a whole NodeId of the plant is taken, too."""
    return text.removeprefix(f"ns={int(Namespace.PLANT)};s=")


def _recorded(found: Comparison, when: str) -> Record:
    """Return the record after everything found was agreed to."""
    if found.before is None:
        return Record(found.now)
    if found.before.identity == found.now:
        return found.before
    changes = [
        Change(when, move.old, move.new, move.what, by)
        for moves, by in (
            (found.refused, BY_OPERATOR),
            (found.accepted, BY_TABLE),
            (found.readdressed, BY_ADDRESS),
        )
        for move in moves
    ]
    served = _owners(found.now)
    retired = {**found.before.retired, **_owners(found.before.identity)}
    return Record(
        found.now,
        {name: source for name, source in sorted(retired.items()) if name not in served},
        (*found.before.history, *changes)[-HISTORY_KEPT:],
    )


def _refusal(moves: Sequence[Move], path: Path) -> str:
    more = f"\n  … and {len(moves) - MAX_SHOWN} more" if len(moves) > MAX_SHOWN else ""
    shown = "\n  ".join(str(move) for move in moves[:MAX_SHOWN])
    return (
        f"clients know these nodes under another id (check lists all):\n  {shown}{more}\n"
        "keep the old NodeId (column node_id of the tag table); or, if every client will be changed, accept: "
        f"[[renames]] in the configuration, or edge-opcua identity accept FILE --state {path.parent}"
    )


def _when(utc_ns: int) -> str:
    moment = utc(utc_ns)
    return "" if moment is None else moment.isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def _write(path: Path, record: Record) -> None:
    content: dict[str, object] = {
        "format": FORMAT,
        "namespaces": list(record.identity.namespaces),
        "nodes": {source: list(names) for source, names in record.identity.nodes.items()},
        "retired": dict(record.retired),
        "history": _lines(record.history),
    }
    try:
        write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False).encode(), mode=0o600)
    except OSError as exc:
        raise IdentityError(f"{path} cannot be written: {exc.strerror}", code="C192") from exc


def _lines(history: Iterable[Change]) -> list[dict[str, str]]:
    return [
        {"when": line.when, "old": line.old, "new": line.new, "what": line.what, "by": line.by}
        for line in history
    ]

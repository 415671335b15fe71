"""What ``edge-opcua tags import`` and ``tags export --as device`` do: tag lists of others, both ways."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_opcua.app.command.tell import ANSWER_IS_NO, WRONG_USE, complain, say
from edge_opcua.config.exchange.acceptance import Accepted, accept, refuse
from edge_opcua.config.exchange.formats import NAMES, read_list, write_list
from edge_opcua.config.exchange.listing import ListedTag, ListError, Listing, Target
from edge_opcua.config.exchange.own import cells_of
from edge_opcua.config.exchange.reading import MAX_LIST_BYTES, as_text
from edge_opcua.config.loader import load
from edge_opcua.config.outline import DeviceOutline, outlines
from edge_opcua.config.problem import Place, Problem, Severity, nearest
from edge_opcua.config.report import fold, problems_text, render, summary, wants_color
from edge_opcua.config.schema import DeviceConfig, TagConfig
from edge_opcua.config.syntax import UnreadableError, read_bytes
from edge_opcua.config.tagtable import ParseAddress
from edge_opcua.core.clock import SystemClock
from edge_opcua.errors import ConfigError
from edge_opcua.plugins import DRIVERS, InstalledPlugins, PluginBrokenError, PluginNotFoundError
from edge_opcua.security.pki import write_atomic

SCHEMA: Final = "edge-opcua.tags-import/1"
_READABLE: Final = 0o644
_PROGRESS_AFTER_S: Final = 0.5
_FEW: Final = 5


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How a list is imported.

    Args:
        product: Which product it is from, or ``auto``.
        policy: What becomes of names that are there already.
        out: Tag table to write; the device's own if None.
        blocks: Numbers of data blocks, each ``NUMBER`` or ``NAME=NUMBER``.
        dry_run: Whether nothing is written.
        as_json: Whether one JSON object is printed instead of text.
    """

    product: str = "auto"
    policy: str = "skip"
    out: Path | None = None
    blocks: Sequence[str] = ()
    dry_run: bool = False
    as_json: bool = False


def import_tags(source: Path | None, config_file: Path, device: str, options: ImportOptions) -> int:
    """Put the tags of another product's list into the tag table of a device.

    Args:
        source: The list.
        config_file: The configuration the device is in; its tag tables need not exist yet.
        device: Name of the device.
        options: How.

    Returns:
        0; 1 if nothing could be taken, or the policy ``abort`` met what it does not take; 2 if the list, the
        configuration or the table cannot be read, or the table cannot be written.
    """
    try:
        outline = _outline(config_file, device)
        parse = _parser_of(outline)
        numbers = _block_numbers(options.blocks, source)
        listing = _listing(source, outline, options, numbers)
        out = options.out or _table_of(outline)
        existing = _existing(out)
        accepted = accept(
            listing, existing, parse, policy=options.policy, groups=outline.groups, progress=_progress()
        )
    except ConfigError as exc:
        return _wrong_use(Problem(exc.code, str(exc)), options)
    except ListError as exc:
        found = Problem(exc.code, str(exc), file=str(source or ""), place=Place(exc.line), help=exc.hint)
        return _wrong_use(found, options)
    problems = refuse(listing) if options.policy == "abort" else listing.problems
    is_refused = any(problem.is_error for problem in problems)
    count = len(accepted.taken) + len(accepted.replaced)
    written = bool(count) and not is_refused and not options.dry_run
    if written:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(out, accepted.text.encode(), mode=_READABLE)
        except OSError as exc:
            return _wrong_use(Problem("", f"{out}: {exc.strerror}; nothing was written"), options)
    outcome = _Outcome(listing, accepted, problems, out, options, outline, config_file, written)
    say(json.dumps(outcome.as_json(), ensure_ascii=False) if options.as_json else outcome.text())
    return ANSWER_IS_NO if is_refused or not count else 0


def _outline(config_file: Path, device: str) -> DeviceOutline:
    found = outlines(config_file)
    if not device and len(found) == 1:
        return next(iter(found.values()))
    if device in found:
        return found[device]
    names = ", ".join(found) or "none"
    near = nearest(device, found) if device else ""
    said = (
        f'there is no device "{device}" in {config_file}' if device else "for which device? Add --device NAME"
    )
    raise ConfigError(f"{said}; " + (f'did you mean "{near}"?' if near else f"devices: {names}"), code="C112")


def _parser_of(outline: DeviceOutline) -> ParseAddress:
    try:
        parse: ParseAddress = InstalledPlugins().load(DRIVERS, outline.driver).parse_address
    except (PluginNotFoundError, PluginBrokenError) as exc:
        raise ConfigError(f'device "{outline.name}": {exc}', code="C104") from exc
    return parse


def _block_numbers(given: Iterable[str], source: Path | None) -> dict[str, int]:
    """Return the numbers of data blocks; a file called ``DB10.db`` says its own."""
    numbers: dict[str, int] = {}
    stem = source.stem.upper() if source is not None else ""
    if stem.startswith("DB") and stem[2:].isascii() and stem[2:].isdigit():
        numbers[""] = int(stem[2:7])
    for text in given:
        name, _, number = text.rpartition("=")
        number = number.upper().removeprefix("DB")
        if not (number.isascii() and number.isdigit() and 0 < int(number[:6]) <= 65_535):
            raise ConfigError(f'--db "{text}" is not a number of a data block, or NAME=NUMBER', code="T242")
        numbers[name] = int(number)
    return numbers


def _listing(
    source: Path | None, outline: DeviceOutline, options: ImportOptions, numbers: dict[str, int]
) -> Listing:
    if source is None:
        raise ConfigError("which list? edge-opcua tags import FILE --device NAME", code="T252")
    try:
        data = read_bytes(source, limit_bytes=MAX_LIST_BYTES)
    except UnreadableError as exc:
        raise ListError(str(exc), code="T252", hint=exc.remedy) from exc
    target = Target(outline.driver, outline.name, outline.unit, outline.order)
    return read_list(data, str(source), target, product=options.product, numbers=numbers)


def _table_of(outline: DeviceOutline) -> Path:
    if len(outline.tags) > 1:
        raise ConfigError(
            f'device "{outline.name}" has {len(outline.tags)} tag tables; say which one with --out',
            code="T252",
        )
    return outline.folder / (outline.tags[0] if outline.tags else f"{outline.name}.csv")


def _existing(path: Path) -> str:
    try:
        data = read_bytes(path, limit_bytes=MAX_LIST_BYTES)
    except UnreadableError as exc:
        if exc.is_absent and not path.exists():
            return ""
        raise ConfigError(f"{path}: {exc}", code="T201") from exc
    try:
        return as_text(data)[0]
    except ListError as exc:
        raise ConfigError(f"{path}: {exc}", code="T202") from exc


def _progress() -> Callable[[int], None]:
    """Return what shows how far it is: on a terminal, and only if it takes its time."""
    if not sys.stderr.isatty():
        return lambda _: None
    clock = SystemClock()
    started_s = clock.monotonic_s()

    def show(number: int) -> None:
        passed_s = clock.monotonic_s() - started_s
        if passed_s > _PROGRESS_AFTER_S:
            sys.stderr.write(f"\r{number} tags, {number / passed_s:.0f}/s\x1b[K\r")
            sys.stderr.flush()

    return show


def _wrong_use(problem: Problem, options: ImportOptions) -> int:
    if options.as_json:
        told = {"schema": SCHEMA, "ok": False, "problems": [problem.as_json()]}
        say(json.dumps(told, ensure_ascii=False))
    elif problem.code:
        complain(render([problem], color=wants_color(os.environ, is_terminal=sys.stderr.isatty())))
    else:
        complain(problem.message)
    return WRONG_USE


@dataclass(frozen=True, slots=True)
class _Outcome:
    listing: Listing
    accepted: Accepted
    problems: Sequence[Problem]
    out: Path
    options: ImportOptions
    outline: DeviceOutline
    config_file: Path
    written: bool

    @property
    def skipped(self) -> list[Problem]:
        """The rows that were left out."""
        return [problem for problem in self.problems if problem.severity is not Severity.NOTICE]

    def text(self) -> str:
        """Return it for people."""
        color = wants_color(os.environ, is_terminal=sys.stdout.isatty())
        lines = [render(part, color=color) for part in fold(self.problems)]
        accepted = self.accepted
        lines.append(f"{self.listing.file}   {self.listing.product}, for {self.outline.name}")
        lines.append(f"taken    {len(accepted.taken)}")
        if accepted.replaced:
            lines.append(f"replaced {_some(accepted.replaced)}")
        if accepted.renamed:
            lines.append(f"renamed  {_some([f'{old} -> {new}' for old, new in accepted.renamed])}")
        lines.append(f"skipped  {len(self.skipped)}")
        if self.listing.others:
            lines.append(f"besides  {self.listing.others} folders, comments and definitions")
        if accepted.groups and self.written:
            lines += ["", f"add to the device in {self.config_file}:"]
            for name, period_ms in accepted.groups.items():
                lines += ["  [[devices.groups]]", f'  name = "{name}"', f"  period_ms = {period_ms}"]
        if self.written and not self.outline.tags:
            lines += ["", f'add to the device in {self.config_file}: tags = "{self.out.name}"']
        lines.append(f"{summary(self.problems)}  {self._ending()}")
        return "\n".join(lines)

    def _ending(self) -> str:
        if self.written:
            return f"Written: {self.out}. Then: edge-opcua check {self.config_file}"
        if self.options.dry_run:
            return f"Nothing was written (--dry-run); it would be {self.out}."
        if self.options.policy == "abort" and self.skipped:
            return "Nothing was written (--policy abort); --policy skip takes the rows that are right."
        return "Nothing was written."

    def as_json(self) -> dict[str, object]:
        """Return it for programs; nothing is folded."""
        return {
            "schema": SCHEMA,
            "ok": bool(self.accepted.taken or self.accepted.replaced)
            and not any(problem.is_error for problem in self.problems),
            "file": self.listing.file,
            "product": self.listing.product,
            "device": self.outline.name,
            "out": str(self.out),
            "written": self.written,
            "taken": self.accepted.taken,
            "replaced": self.accepted.replaced,
            "renamed": [{"old": old, "new": new} for old, new in self.accepted.renamed],
            "skipped": len(self.skipped),
            "others": self.listing.others,
            "groups": self.accepted.groups,
            "problems": [problem.as_json() for problem in self.problems],
        }


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_FEW])
    return f"{len(names)}: {shown}" + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")


def export_device_tags(config_file: Path, *, product: str, device: str, out: Path | None) -> int:
    """Write the tag table of a device as a list that another product reads the device by.

    Args:
        config_file: The configuration.
        product: Which product, or ``csv`` for a table of ours.
        device: Name of the device.
        out: File; standard output if None.

    Returns:
        0; 1 if no tag could be taken along; 2 if the configuration is wrong, has no such device, or the file
        cannot be written.
    """
    loaded = load(config_file, env=os.environ)
    if loaded.config is None:
        complain(problems_text(loaded))
        return WRONG_USE
    found = {each.name: each for each in loaded.config.devices}
    if device not in found:
        complain(f'there is no device "{device}"; devices: {", ".join(found)}')
        return WRONG_USE
    try:
        outline = _outline_of(found[device])
        parse = _parser_of(outline)
        text, listing = _exported(found[device], outline, parse, product)
    except (ConfigError, ListError) as exc:
        complain(f"error[{exc.code}] {exc}")
        return WRONG_USE
    for part in fold(listing.problems):
        complain(render(part, color=wants_color(os.environ, is_terminal=sys.stderr.isatty())))
    if out is None:
        sys.stdout.write(text)
    else:
        try:
            write_atomic(out, text.encode(), mode=_READABLE)
        except OSError as exc:
            complain(f"{out}: {exc.strerror}")
            return WRONG_USE
        say(f"{out}   {NAMES[product]}, {len(listing.tags)} of {len(_own_tags(found[device]))} tags")
    return 0 if listing.tags or not found[device].tags else ANSWER_IS_NO


def _outline_of(device: DeviceConfig) -> DeviceOutline:
    groups = {group.name: group.period_ms for group in device.groups if not group.is_added}
    order = device.options.get("order")
    order = order if isinstance(order, str) and order != "ABCD" else ""
    return DeviceOutline(device.name, device.driver, device.url, (), groups, order)


def _own_tags(device: DeviceConfig) -> list[TagConfig]:
    """Return the tags of its tables, without those that outputs add and would add again."""
    return [tag for tag in device.tags if tag.file]


def _exported(
    device: DeviceConfig, outline: DeviceOutline, parse: ParseAddress, product: str
) -> tuple[str, Listing]:
    if product == "csv":
        listing = Listing(f"{device.name}.csv", NAMES[product])
        listing.tags = [
            ListedTag(tag.name, tag.address, tag.line, group=tag.group, cells=cells_of(tag))
            for tag in _own_tags(device)
        ]
        return accept(listing, "", parse, policy="rename", groups=outline.groups).text, listing
    target = Target(outline.driver, outline.name, outline.unit, outline.order)
    has_own_groups = len(outline.groups) > 1
    tags = [
        ListedTag(
            tag.extra.get("x_name") or tag.name,
            parse(tag.address).canonical,
            tag.line,
            tag.unit,
            tag.description,
            tag.low,
            tag.high,
            tag.scale,
            tag.offset,
            tag.clamp,
            tag.deadband,
            tag.access,
            outline.groups.get(tag.group),
            tag.group if has_own_groups else "",
        )
        for tag in _own_tags(device)
    ]
    text, listing = write_list(product, tags, target)
    for number, problem in enumerate(listing.problems):
        line = problem.place.line
        file = next((tag.file for tag in device.tags if tag.line == line), device.name)
        listing.problems[number] = Problem(
            problem.code, problem.message, problem.severity, file, problem.place, help=problem.help
        )
    return text, listing

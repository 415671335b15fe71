"""What a name in one setting refers to in another: devices, tags and captures, or what is near to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from edge_opcua.config.draft import DeviceDraft, Draft
from edge_opcua.config.locate import Path
from edge_opcua.config.problem import Problem, alternatives, nearest, quoted
from edge_opcua.config.schema import CaptureConfig, TagConfig
from edge_opcua.core.values import Scalar

INTEGERS: Final = frozenset(Scalar(number) for number in range(Scalar.SBYTE, Scalar.UINT64 + 1))


def is_bool(tag: TagConfig) -> bool:
    """Return whether a tag is a single BOOL."""
    return tag.type is Scalar.BOOLEAN and not tag.length


def is_integer(tag: TagConfig) -> bool:
    """Return whether a tag is a single whole number."""
    return tag.type in INTEGERS and not tag.length


def tag_of(draft: Draft, path: Path, reference: str) -> TagConfig | None:
    """Return the tag ``<device>/<tag>``; None if there is none, which is reported, or its row is wrong."""
    device_name, _, name = reference.partition("/")
    device = device_of(draft, path, device_name, reference)
    if device is None:
        return None
    if name not in device.tables.names and device.is_complete:
        report_unknown_part(
            draft, path, f"device {quoted(device_name)} has no tag", device_name, name, device.tables.names
        )
    return device.tag(name)


def capture_of(draft: Draft, path: Path, reference: str) -> CaptureConfig | None:
    """Return the capture ``<device>/<capture>``; None if there is none, which is reported, or it is wrong."""
    device_name, _, name = reference.partition("/")
    device = device_of(draft, path, device_name, reference)
    if device is None:
        return None
    if name not in device.captures:
        report_unknown_part(
            draft, path, f"device {quoted(device_name)} has no capture", device_name, name, device.captures
        )
    return device.captures.get(name)


def device_of(draft: Draft, path: Path, name: str, reference: str) -> DeviceDraft | None:
    """Return the device of a reference; None if there is none, which is reported."""
    device = draft.device(name)
    if device is None:
        known = [found for _, found in draft.names("devices")]
        suggestion = nearest(name, known)
        suggested = reference.replace(name, suggestion, 1) if suggestion else ""
        help_text = "" if suggested else f"devices: {alternatives(known)}"
        message = f"device {quoted(name)} is not defined"
        draft.report(path, Problem("C112", message, suggestion=suggested, help=help_text))
    return device


def report_unknown_part(
    draft: Draft, path: Path, message: str, device: str, name: str, known: Iterable[str]
) -> None:
    """Report that a device has nothing of that name, and what is near to it."""
    names = list(known)
    suggestion = nearest(name, names)
    help_text = "" if suggestion else f"it has {alternatives(names) or 'none'}"
    suggested = f"{device}/{suggestion}" if suggestion and device else suggestion
    draft.report(path, Problem("C112", f"{message} {quoted(name)}", suggestion=suggested, help=help_text))


def report_unknown(draft: Draft, path: Path, kind: str, name: str, known: list[str]) -> None:
    """Report that there is no device or pipeline of that name."""
    suggestion = nearest(name, known)
    help_text = "" if suggestion else f"{kind}s: {alternatives(known) or 'none'}"
    message = f"{kind} {quoted(name)} is not defined"
    draft.report(path, Problem("C112", message, suggestion=suggestion, help=help_text))

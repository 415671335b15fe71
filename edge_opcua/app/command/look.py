"""Looking at one device without writing to it: what ``probe``, ``init`` and ``check --live`` share."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from edge_opcua.config.codes import codes
from edge_opcua.drivers.probing import Finding, Prober, Target, driver_of, prober_of
from edge_opcua.drivers.reasons import parts_of
from edge_opcua.errors import DeviceError, DeviceTimeoutError
from edge_opcua.plugins import DRIVERS, InstalledPlugins, Plugins

_STEPS_AT_ONCE: Final = 20  # requests that a prober may need for one finding
_PATIENCE_S: Final = 120.0  # each step has deadlines of its own; a large server takes long to be browsed
_GOODBYE_S: Final = 2.0
_ANSWERS: Final = ("protocol", "identity", "units", "browse", "read")
# Texts with these codes say behind the colon what was wrong, not what to do.
_WITHOUT_STEP: Final = ("D36", "D374", "D375", "D376")
_CODE: Final = re.compile(r"^\[?(D3\d\d)\]?:? +")
_PING_TIME: Final = re.compile(rb"time[=<]([0-9.]+) ?ms")


@dataclass(slots=True)
class Looked:
    """What was found out about one device.

    Args:
        url: URL of the device.
        driver: Its driver.
        findings: Everything, in order.
    """

    url: str
    driver: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def answers(self) -> bool:
        """Whether a device of this protocol is there and can be asked."""
        return any(finding.step in _ANSWERS for finding in self.findings if not finding.code)

    @property
    def better_url(self) -> str:
        """The URL by which it answers, if that says more than the one that was asked for."""
        found = self.fact("url")
        return str(found) if found and self.answers else self.url

    @property
    def failure(self) -> Finding | None:
        """The first step that failed."""
        return next((finding for finding in self.findings if finding.code), None)

    @property
    def requests(self) -> int | None:
        """How many requests were sent; None if the prober does not count."""
        counts = [int(f.facts["requests"]) for f in self.findings if "requests" in f.facts]
        return max(counts) if counts else None

    def fact(self, name: str) -> Any:
        """Return what some step found out under a name, or None."""
        return next((f.facts[name] for f in self.findings if f.facts.get(name)), None)

    @property
    def identity(self) -> str:
        """Name plate of the device in a few words; "" if it gives none."""
        plate = next((f.text for f in self.findings if f.step == "identity" and _has_name(f)), "")
        return " ".join(printable(plate).split())


def _has_name(finding: Finding) -> bool:
    return any(finding.facts.get(key) for key in ("vendor", "model", "serial", "name"))


def prober_at(url: str, plugins: Plugins | None = None) -> tuple[str, Prober]:
    """Return driver and prober of a URL; imports them, so do it before the event loop runs.

    Raises:
        ConfigError: No driver has this scheme, it has no prober, or the URL is not one of its.
    """
    found = plugins or InstalledPlugins()
    codes()  # remedies of what may go wrong: their file is not to be read in the loop
    name = driver_of(url, found)
    prober = prober_of(name, found)
    found.load(DRIVERS, name).check_url(url)
    return name, prober


async def look(prober: Prober, target: Target) -> AsyncIterator[Finding]:
    """Yield what a prober finds; whatever goes wrong on the way is a finding too, with its code.

    Raises:
        AddressError: A read does not follow the driver's grammar.
        ConfigError: URL or options are unusable.
    """
    limit_s = _PATIENCE_S + target.timeout_s * (_STEPS_AT_ONCE + len(target.units))
    steps: Any = prober(target)
    step = "connect"
    try:
        while True:
            try:
                async with asyncio.timeout(limit_s):
                    finding = await anext(steps)
            except StopAsyncIteration:
                return
            except TimeoutError:
                yield _failed(step, f"nothing more came within {limit_s:g} s", "D385")
                return
            except DeviceError as exc:
                yield failed_by(step, exc)
                return
            step = finding.step
            yield _with_help(finding)
    finally:
        async with asyncio.timeout(_GOODBYE_S):
            await steps.aclose()


def _with_help(finding: Finding) -> Finding:
    """Return a failed step with what to do next, also where the prober left it in the sentence."""
    if not finding.code or finding.help:
        return finding
    _, text, what_to_do = told(f"{finding.code} {finding.text}", finding.code)
    return replace(finding, text=text, help=what_to_do)


def failed_by(step: str, error: DeviceError) -> Finding:
    """Return an error of a device as the finding of a step, with code and next physical step."""
    fallback = str(getattr(error, "code", "")) or (
        "D310" if isinstance(error, DeviceTimeoutError) else "D313"
    )
    code, text, what_to_do = told(str(error), fallback)
    return Finding(step, text, code, what_to_do)


def told(text: str, fallback: str) -> tuple[str, str, str]:
    """Return code, sentence and next step of what a driver said.

    Drivers say ``D311 192.168.0.20:502 refuses the connection: check the port``; a text without a code has
    the fallback. One that ends in the protocol's own number names no step, which is then the remedy of its
    code's page: ``D363 read of X: no such tag (CIP status 0x04)``.
    """
    text = printable(text)
    named = _CODE.match(text)
    if named is None:
        return fallback, text, remedy(fallback)
    code, sentence, step = parts_of(text)
    if code == named[1] and not step.endswith(")") and not code.startswith(_WITHOUT_STEP):
        return code, sentence, step
    return named[1], text[named.end() :], remedy(named[1])


def printable(text: str) -> str:
    """Return a text without what moves a cursor: it may come from a device, and then holds anything."""
    return "".join(character if character.isprintable() else " " for character in text)


def remedy(code: str) -> str:
    """Return what to do about a code; "" for one without a page."""
    page = codes().get(code)
    return page.remedy if page else ""


def _failed(step: str, text: str, code: str) -> Finding:
    return Finding(step, text, code, remedy(code))


def host_of(url: str) -> str:
    """Return the host of a URL; "" for a serial line."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def in_url(host: str) -> str:
    """Return a host as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def find_ping() -> str | None:
    """Return the program ``ping`` of this machine, if there is one; reads directories."""
    return shutil.which("ping")


async def ping_ms(program: str | None, host: str, timeout_s: float) -> float | None:
    """Return how long one echo took, in ms; None without an answer, or without a program."""
    if program is None or not host or host.startswith("-"):
        return None
    wait = str(max(1, round(timeout_s)))
    quiet = asyncio.subprocess.DEVNULL
    child = await asyncio.create_subprocess_exec(
        program, "-n", "-c", "1", "-W", wait, host, stdout=asyncio.subprocess.PIPE, stderr=quiet, stdin=quiet
    )
    try:
        async with asyncio.timeout(timeout_s + 1.0):
            output, _ = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        return None
    took = _PING_TIME.search(output)
    return float(took[1]) if took and child.returncode == 0 else None

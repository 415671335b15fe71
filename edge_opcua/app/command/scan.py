"""``probe RANGE --scan``: which addresses of a plant network have an open port; slowly, and on purpose."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final

from edge_opcua.core.clock import Clock
from edge_opcua.errors import ConfigError

PORTS: Final = (502, 102, 44818, 4840)
PACKETS_PER_S: Final = 10
MOST_ADDRESSES: Final = 1024
# The kernel repeats an unanswered SYN after one second; until then an attempt is one packet.
_LONGEST_S: Final = 0.9
_PACKETS_OF_AN_OPEN_PORT: Final = 3  # SYN, ACK, RST
_AT_ONCE: Final = 16
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


def addresses_of(text: str) -> list[str] | None:
    """Return the addresses of ``192.168.0.0/24``, ``192.168.0.10-20`` or ``192.168.0.10-192.168.0.20``.

    Returns:
        None if the text is one host.

    Raises:
        ConfigError: It begins like a range and is none, or there are more than 1024 (D383).
    """
    found = _network(text) if "/" in text else _span(text)
    if found is not None and len(found) > MOST_ADDRESSES:
        message = f"{text} has {len(found)} addresses; at most {MOST_ADDRESSES} are scanned at a time"
        raise ConfigError(message, code="D383")
    return found


def _network(text: str) -> list[str]:
    try:
        network = ipaddress.IPv4Network(text, strict=False)
    except ValueError as exc:
        raise ConfigError(f'"{text}" is neither a URL nor a range: {exc}', code="D380") from exc
    if network.prefixlen < 22:
        raise ConfigError(
            f"{text} has {network.num_addresses} addresses; at most {MOST_ADDRESSES} are scanned at a time",
            code="D383",
        )
    return [str(address) for address in network.hosts()]


def _span(text: str) -> list[str] | None:
    first_text, mark, last_text = text.partition("-")
    try:
        first = ipaddress.IPv4Address(first_text)
    except ValueError:
        return None  # press-edge is a host
    if not mark:
        return None
    whole = last_text if "." in last_text else f"{first_text.rpartition('.')[0]}.{last_text}"
    try:
        last = ipaddress.IPv4Address(whole)
    except ValueError as exc:
        raise ConfigError(f'"{text}" is not a range; write 192.168.0.10-20', code="D380") from exc
    if last < first:
        raise ConfigError(f'"{text}" ends before it begins', code="D380")
    return [str(ipaddress.IPv4Address(number)) for number in range(int(first), int(last) + 1)]


class Pace:
    """Lets packets out at no more than a given rate.

    Args:
        clock: Clock.
        per_s: Packets per second.
    """

    def __init__(self, clock: Clock, per_s: float = PACKETS_PER_S) -> None:
        self._clock = clock
        self._gap_s = 1.0 / per_s
        self._free_s = clock.monotonic_s()

    async def take(self) -> None:
        """Wait until one packet may go."""
        now_s = self._clock.monotonic_s()
        due_s = max(now_s, self._free_s)
        self._free_s = due_s + self._gap_s
        if due_s > now_s:
            await self._clock.sleep(due_s - now_s)

    def owe(self, packets: int) -> None:
        """Count packets that went without waiting."""
        self._free_s = max(self._free_s, self._clock.monotonic_s()) + packets * self._gap_s


async def scan(
    addresses: Sequence[str],
    found: Callable[[str, list[int]], None],
    clock: Clock,
    *,
    timeout_s: float,
    ports: Sequence[int] = PORTS,
) -> int:
    """Try every port of every address by connecting and closing; nothing is asked.

    Args:
        addresses: Whom.
        found: Told each address that has an open port, with its ports, as soon as all were tried.
        clock: Clock.
        timeout_s: Longest wait for an answer, seconds; at most 0.9 s are used.
        ports: Which ports.

    Returns:
        How many addresses have an open port.
    """
    pace, room = Pace(clock), asyncio.Semaphore(_AT_ONCE)
    hits = 0

    async def one(address: str) -> None:
        nonlocal hits
        try:
            open_ports = [
                port for port in ports if await _is_open(address, port, pace, min(timeout_s, _LONGEST_S))
            ]
        finally:
            room.release()
        if open_ports:
            hits += 1
            found(address, open_ports)

    async with asyncio.TaskGroup() as tasks:
        for address in addresses:
            await room.acquire()
            tasks.create_task(one(address), name=f"scan.{address}")
    return hits


async def _is_open(address: str, port: int, pace: Pace, timeout_s: float) -> bool:
    await pace.take()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except (OSError, TimeoutError):
            return False
    pace.owe(_PACKETS_OF_AN_OPEN_PORT - 1)
    return True

"""Malformed, truncated, oversized and deeply nested messages at every stage of a connection.

``python -m tests.opcua.fuzz --seconds N [--seed N]`` starts a server in a process of its own, throws at it
what the seed says, and prints what came of it: a client that watches must see no gap, the server's memory
must stay, and no request may fail in a way that nobody foresaw.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import logging
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from asyncua import Client, ua
from asyncua.common.connection import MessageChunk
from asyncua.ua.ua_binary import nodeid_to_binary, struct_to_binary, uatcp_to_binary

from tests.opcua.fuzz_requests import requests, strange, tag_requests
from tests.opcua.secure_peers import GOOD, OTHER
from tests.opcua.victim import TICK_S, Victim, running_victim
from tests.security.certificates import make

MEMORY_BYTES: Final = 50 * 1024 * 1024
ANSWER_S: Final = 2.0
# The watcher waits no longer for anything, on a loaded machine, whatever is thrown at the server meanwhile.
SILENCE_S: Final = 1.5
_LENGTHS: Final = (-1, -2, -(2**31), 2**31 - 1, 0, 1, 255, 65_536, 1_000_000)
_BYTES: Final = (0x00, 0x01, 0x16, 0x18, 0x7F, 0x80, 0x98, 0xC6, 0xD8, 0xFF)


@dataclass
class Report:
    """What came of it.

    Args:
        sent: Packets or requests by stage.
        ended: Connections that the server ended.
        answered: Requests that were answered.
        first_bytes: Memory of the server before.
        peak_bytes: The most it had.
        last_bytes: What it had in the end.
        values: What the watcher saw.
        sequence: Sequence numbers of the notifications that brought it.
        silence_s: The longest time between two of them.
        facts: What the server had open in the end.
    """

    sent: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    answered: int = 0
    first_bytes: int = 0
    peak_bytes: int = 0
    last_bytes: int = 0
    values: list[float] = field(default_factory=list)
    sequence: list[int] = field(default_factory=list)
    silence_s: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return what happened, for people."""
        first, peak, last = (size / 2**20 for size in (self.first_bytes, self.peak_bytes, self.last_bytes))
        return [
            f"sent {dict(self.sent)}, answered {self.answered}, connections ended {self.ended}",
            f"memory {first:.1f} MiB before, {peak:.1f} at most, {last:.1f} after",
            f"{len(self.values)} values in {len(self.sequence)} notifications",
            f"longest silence {self.silence_s:.2f} s",
            f"open in the end {self.facts}",
        ]

    def faults(self) -> list[str]:
        """Return what must not have happened."""
        found = [f"unforeseen: {text}" for text in self.facts["unforeseen"]]
        grown = max(self.peak_bytes, self.last_bytes) - self.first_bytes
        if grown > MEMORY_BYTES:
            found.append(f"memory grew by {grown / 2**20:.1f} MiB")
        if not _rises_by_one(self.sequence):
            found.append(f"gap in the sequence numbers: {self.sequence}")
        if not _rises_by_one([round(value) for value in self.values]):
            found.append(f"gap in the values: {self.values}")
        if self.silence_s > SILENCE_S:
            found.append(f"nothing for {self.silence_s:.2f} s")
        if len(self.values) < 5:
            found.append(f"only {len(self.values)} values")
        return found


def _rises_by_one(numbers: list[int]) -> bool:
    return all(after == before + 1 for before, after in itertools.pairwise(numbers))


class Watcher:
    """The honest client: it subscribes to what counts and notes what it sees."""

    def __init__(self, victim: Victim, report: Report) -> None:
        self._client = victim.client()
        self._node = victim.plain
        self._report = report
        self._last_s = 0.0

    async def __aenter__(self) -> Watcher:
        await self._client.connect()
        subscription = await self._client.create_subscription(TICK_S * 1000, self)
        publish = subscription.publish_callback

        async def noted(result: Any) -> None:
            message = result.NotificationMessage
            if message.NotificationData:
                self._note(message.SequenceNumber)
            await publish(result)

        self._client.uaclient.session._subscription_callbacks[subscription.subscription_id] = noted
        await subscription.subscribe_data_change(
            self._client.get_node(self._node), queuesize=1000, sampling_interval=0
        )
        self._last_s = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._note(None)
        await self._client.disconnect()

    def datachange_notification(self, node: Any, value: float, data: Any) -> None:
        """Note a value."""
        self._report.values.append(value)

    def _note(self, sequence: int | None) -> None:
        now_s = time.monotonic()
        self._report.silence_s = max(self._report.silence_s, now_s - self._last_s)
        self._last_s = now_s
        if sequence is not None:
            self._report.sequence.append(sequence)


class _Ignore:
    """Takes what comes."""

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """Take a value."""

    def event_notification(self, event: Any) -> None:
        """Take an event."""


class Fuzz:
    """Throws what its dice say.

    Args:
        victim: At whom.
        seed: Of the dice.
        report: Where it writes what came of it.
    """

    def __init__(self, victim: Victim, seed: int, report: Report) -> None:
        self._victim = victim
        self._dice = random.Random(seed)
        self._report = report

    async def run(self, seconds: float) -> None:
        """Go through the stages again and again until the time is over."""
        stages: list[Callable[[], Awaitable[None]]] = [
            self.before_hello,
            self.before_the_channel,
            self.on_a_channel_without_security,
            self.on_a_secure_channel,
            self.in_a_session,
            self.with_strange_values,
            self.about_tags,
        ]
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            for stage in stages:
                with contextlib.suppress(ConnectionError, TimeoutError, ua.UaError, OSError):
                    await stage()

    # --- stages --------------------------------------------------------------------------------------

    async def before_hello(self) -> None:
        """Noise, and Hellos with something wrong."""
        hello = uatcp_to_binary(ua.MessageType.Hello, ua.Hello(EndpointUrl=self._victim.url))
        for _ in range(2):
            noise = self._dice.choice(
                [self._dice.randbytes(self._dice.randrange(1, 9000)), self._mutated(hello)]
            )
            await self._speak("before hello", noise)

    async def before_the_channel(self) -> None:
        """OpenSecureChannel with something wrong, in the clear and as if it were encrypted."""
        hello = uatcp_to_binary(ua.MessageType.Hello, ua.Hello(EndpointUrl=self._victim.url))
        request = struct_to_binary(ua.OpenSecureChannelRequest())
        for certificate in self._dice.sample([None, GOOD.der, _STRANGER.der, self._mutated(GOOD.der)], 2):
            header = ua.AsymmetricAlgorithmHeader()
            if certificate is not None:
                header.SecurityPolicyURI = "http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256"
                header.SenderCertificate = certificate
                header.ReceiverCertificateThumbPrint = self._dice.randbytes(20)
            body = struct_to_binary(header) + struct.pack("<II", 1, 1) + self._mutated(request)
            packet = b"OPNF" + struct.pack("<II", len(body) + 12, 0) + body
            await self._speak("before the channel", hello, self._dice.choice([packet, self._mutated(packet)]))

    async def on_a_channel_without_security(self) -> None:
        """Discovery, sessions and everything else where nobody is known."""
        await self._throw("no security", self._victim.client(None), self._requests(), 30)

    async def on_a_secure_channel(self) -> None:
        """The same, properly signed and encrypted by a client that is trusted."""
        await self._throw("secure channel", self._victim.client(OTHER), self._requests(), 30)

    async def in_a_session(self) -> None:
        """Every service, by a trusted client whose session is active."""
        client = self._victim.client(OTHER)
        await client.connect()
        try:
            await self._throw_all("session", client, self._requests(), 120)
        finally:
            with contextlib.suppress(ConnectionError, TimeoutError, ua.UaError, OSError):
                async with asyncio.timeout(ANSWER_S):
                    await client.disconnect()

    async def with_strange_values(self) -> None:
        """Well-formed requests for a subscription that exists, with values that nobody expects."""
        client = self._victim.client(OTHER)
        await client.connect()
        try:
            subscription = await client.create_subscription(50, _Ignore())
            await subscription.subscribe_data_change(client.get_node(self._victim.plain))
            await subscription.subscribe_events(client.get_node(ua.NodeId(ua.ObjectIds.Server)))
            seeds = requests(self._victim, subscription.subscription_id)
            for _ in range(60):
                if client.uaclient.protocol.transport is None:
                    return
                with contextlib.suppress(struct.error, TypeError, AttributeError, ua.UaError, ValueError):
                    body = struct_to_binary(strange(self._dice.choice(seeds), self._dice))
                    await self._ask_as("strange values", client.uaclient.protocol, body)
        finally:
            with contextlib.suppress(ConnectionError, TimeoutError, ua.UaError, OSError):
                async with asyncio.timeout(ANSWER_S):
                    await client.disconnect()

    async def about_tags(self) -> None:
        """What is answered from its bytes: the same again, with a few other bytes, with other values."""
        client = self._victim.client(OTHER)
        await client.connect()
        try:
            subscription = await client.create_subscription(self._dice.choice([10, 50]), _Ignore())
            nodes = [client.get_node(node) for node in self._victim.tag[:24]]
            made = await subscription.subscribe_data_change(nodes, queuesize=self._dice.choice([1, 5]))
            items = [each for each in made if isinstance(each, int)]
            seeds = tag_requests(self._victim, subscription.subscription_id, items)
            for _ in range(40):
                if client.uaclient.protocol.transport is None:
                    self._report.ended += 1
                    return
                with contextlib.suppress(
                    struct.error, TypeError, AttributeError, ua.UaError, ValueError, KeyError
                ):
                    body = self._varied(self._dice.choice(seeds))
                    for _ in range(self._dice.choice([1, 1, 3])):
                        await self._ask_as("tags", client.uaclient.protocol, body)
        finally:
            with contextlib.suppress(ConnectionError, TimeoutError, ua.UaError, OSError):
                async with asyncio.timeout(ANSWER_S):
                    await client.disconnect()

    def _varied(self, message: Any) -> bytes:
        """Return a request as it is, with other values, or with other bytes behind its header."""
        chance = self._dice.random()
        if chance < 0.4:
            return bytes(struct_to_binary(strange(message, self._dice)))
        body = bytes(struct_to_binary(message))
        head = len(struct_to_binary(message.RequestHeader)) + 4
        return body if chance < 0.6 else body[:head] + self._mutated(body[head:])

    # --- how -----------------------------------------------------------------------------------------

    async def _speak(self, stage: str, *packets: bytes) -> None:
        """Send bytes as they are and wait a moment for the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._victim.port)
        try:
            for packet in packets:
                self._report.sent[stage] += 1
                writer.write(packet)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await reader.read()
                    self._report.ended += 1
        finally:
            writer.close()

    async def _throw(self, stage: str, client: Client, seeds: list[bytes], times: int) -> None:
        await client.connect_socket()
        try:
            await client.send_hello()
            await client.open_secure_channel()
            await self._throw_all(stage, client, seeds, times)
        finally:
            client.disconnect_socket()
            await asyncio.sleep(0)

    async def _throw_all(self, stage: str, client: Client, seeds: list[bytes], times: int) -> None:
        protocol = client.uaclient.protocol
        for _ in range(times):
            if protocol.transport is None:
                self._report.ended += 1
                return
            body = self._dice.choice(seeds)
            if self._dice.random() < 0.9:
                body = self._mutated(body)
            await self._ask_as(stage, protocol, body)

    async def _ask_as(self, stage: str, protocol: Any, body: bytes) -> None:
        """Put the session's token where the seed has none, and ask."""
        await self._ask(
            stage, protocol, body[:4] + nodeid_to_binary(protocol.authentication_token) + body[6:]
        )

    async def _ask(self, stage: str, protocol: Any, body: bytes) -> None:
        self._report.sent[stage] += 1
        protocol._request_id += 1
        answer = protocol._callbackmap[protocol._request_id] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait for it
        if self._dice.random() < 0.01:
            packet = self._odd_chunk(protocol, body)
        else:
            packet = protocol._connection.message_to_binary(body or b"\x00", request_id=protocol._request_id)
        protocol.transport.write(packet)
        # Some of it is never answered (Publish), and what follows shall come while it waits.
        wait_s = 0.0 if self._dice.random() < 0.5 else 0.05
        done, _ = await asyncio.wait({answer}, timeout=wait_s)
        self._report.answered += bool(done)

    def _odd_chunk(self, protocol: Any, body: bytes) -> bytes:
        """Return a chunk that is secured as it should be and has something wrong in its headers."""
        connection = protocol._connection
        chunk = MessageChunk(
            connection.security_policy.symmetric_cryptography,
            body,
            ua.MessageType.SecureMessage,
            self._dice.choice([ua.ChunkType.Single, ua.ChunkType.Intermediate, ua.ChunkType.Abort]),
        )
        connection._sequence_number += self._dice.choice([0, 1, 1, 1, 2])
        chunk.SequenceHeader.SequenceNumber = connection._sequence_number
        chunk.SequenceHeader.RequestId = self._dice.choice([0, protocol._request_id, 2**32 - 1])
        chunk.MessageHeader.ChannelId = connection.security_token.ChannelId + self._dice.choice([0, 0, 0, 1])
        chunk.SecurityHeader.TokenId = connection.security_token.TokenId + self._dice.choice(
            [0, 0, 0, 1, -13]
        )
        return bytes(chunk.to_binary())

    def _mutated(self, seed: bytes) -> bytes:
        data = bytearray(seed)
        for _ in range(self._dice.choice([1, 1, 2, 3, 8])):
            at = self._dice.randrange(len(data) + 1)
            self._mutations()[self._dice.randrange(8)](data, at)
        return bytes(data[:4_000_000])

    def _mutations(self) -> list[Callable[[bytearray, int], None]]:
        dice = self._dice

        def put(data: bytearray, at: int, what: bytes, over: int) -> None:
            data[at : at + over] = what

        return [
            lambda data, at: put(data, at, bytes([dice.choice(_BYTES)]), 1),
            lambda data, at: put(data, at, dice.randbytes(1), 1),
            lambda data, at: put(data, at, struct.pack("<i", dice.choice(_LENGTHS)), 4),
            lambda data, at: put(data, at, b"", dice.randint(1, 8)),
            lambda data, at: put(data, at, b"", len(data)),
            lambda data, at: put(data, at, dice.randbytes(dice.randint(1, 40)), 0),
            lambda data, at: put(data, at, bytes(data[at : at + 64]) * dice.choice([2, 50]), 0),
            lambda data, at: put(data, at, dice.choice(_BOMBS), 0),
        ]

    def _requests(self) -> list[bytes]:
        return [bytes(struct_to_binary(message)) for message in requests(self._victim)]


def _bombs() -> list[bytes]:
    pair = nodeid_to_binary(ua.NodeId(ua.ObjectIds.KeyValuePair_Encoding_DefaultBinary))
    nested = b"\x01\x00"
    for _ in range(200):
        inner = struct.pack("<H", 0) + b"\xff\xff\xff\xff" + nested
        nested = b"\x16" + pair + b"\x01" + struct.pack("<i", len(inner)) + inner
    return [
        b"\x98\x01\x00\x00\x00" * 3000 + b"\x01\x00",  # Variants in Variants
        b"\x18" * 5000,
        nested,  # ExtensionObjects in Variants
        b"\xc6" + struct.pack("<iii", 0, 1, 1_000_000),  # a matrix of nothing
        b"\xc3"
        + struct.pack("<i", 9000)
        + bytes(9000)
        + struct.pack("<i", 60)
        + struct.pack("<60i", *[1] * 59, 9000),
        b"\x80" + struct.pack("<i", 2**31 - 1),  # Nulls
        b"\x98" + struct.pack("<i", 400_000) + bytes(400_000),  # a Variant for each byte
        b"\x84" + struct.pack("<i", 700_000) + b"\x11\x22" * 700_000,
        b"\x8c" + struct.pack("<i", 300_000) + b"\xff\xff\xff\xff" * 300_000,
        b"\x19" + b"\x40" * 3000 + b"\x00",  # DiagnosticInfos
        b"\x0f" + struct.pack("<i", 2_000_000) + bytes(2_000_000),
    ]


_BOMBS: Final = _bombs()
_STRANGER: Final = make("fuzzing stranger")


async def fuzz(state: Path, *, seconds: float, seed: int) -> Report:
    """Start a server, throw, and report."""
    report = Report()
    async with running_victim(state, trusted=(GOOD, OTHER)) as victim:
        # One round first: what is loaded and cached at the first use of everything is no growth.
        await Fuzz(victim, seed + 1, Report()).run(0.01)
        report.first_bytes = (await victim.facts())["rss"]
        async with Watcher(victim, report), asyncio.TaskGroup() as group:
            measuring = group.create_task(_measure(victim, report))
            await Fuzz(victim, seed, report).run(seconds)
            measuring.cancel()
        report.facts = await victim.settled()
        report.last_bytes = report.facts["rss"]
    return report


async def _measure(victim: Victim, report: Report) -> None:
    while True:
        report.peak_bytes = max(report.peak_bytes, await victim.rss_bytes())
        await asyncio.sleep(0.05)


def main() -> int:
    """Run on demand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=20261121)
    wanted = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as state:
        report = asyncio.run(fuzz(Path(state), seconds=wanted.seconds, seed=wanted.seed))
    faults = report.faults()
    sys.stdout.write("\n".join([*report.lines(), *(faults or ["nothing amiss"]), ""]))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())

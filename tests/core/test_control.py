import asyncio
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_opcua.core import control
from edge_opcua.core.control import SUPERVISOR, Handler, Hub, Peer, Reply, Request, ask
from edge_opcua.core.localsocket import connect_unix, listen_unix
from edge_opcua.core.messages import encode, reply_message
from edge_opcua.core.values import (
    BAD_INTERNAL_ERROR,
    BAD_INVALID_ARGUMENT,
    BAD_NO_COMMUNICATION,
    BAD_NOT_SUPPORTED,
    BAD_OUT_OF_RANGE,
    BAD_TIMEOUT,
    BAD_TOO_MANY_OPERATIONS,
    GOOD,
)
from edge_opcua.errors import ControlError, WriteRejectedError


async def echo(request: Request) -> Reply:
    return Reply(body={"origin": request.origin, "kind": request.kind, **request.body})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def cell(handle: Handler = echo, **handlers: Handler) -> AsyncIterator[tuple[Hub, dict[str, Peer]]]:
    """A running hub with a process per role."""
    hub = Hub(handle)
    peers: dict[str, Peer] = {}
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(hub.run())]
        for role, role_handle in handlers.items():
            ours, theirs = socket.socketpair()
            hub.attach(role, ours)
            peers[role] = Peer(theirs, role_handle, SUPERVISOR)
            running.append(tasks.create_task(peers[role].run()))
        try:
            yield hub, peers
        finally:
            for task in running:
                task.cancel()
    for role, peer in peers.items():
        hub.detach(role)  # only matters if nothing ever ran
        peer.close()


async def test_a_request_reaches_its_role_and_the_hub_vouches_for_the_origin() -> None:
    async with cell(io=echo, opcua=echo) as (hub, peers):
        reply = await peers["opcua"].forward(Request("io", "write", {"tag": "a"}, origin="supervisor"))
        assert reply == Reply(body={"origin": "opcua", "kind": "write", "tag": "a"})
        reply = await hub.request("io", "status", {}, timeout_s=1)
        assert reply.body["origin"] == SUPERVISOR
        reply = await peers["io"].request(SUPERVISOR, "status", {}, timeout_s=1)
        assert reply.body["origin"] == "io"
        assert set(hub.roles) == {"io", "opcua"}


async def test_many_requests_in_flight_do_not_wait_for_a_slow_one() -> None:
    gate = asyncio.Event()

    async def slow_once(request: Request) -> Reply:
        if request.body["n"] == 0:
            await gate.wait()
        return Reply(body=request.body)

    async with cell(io=slow_once, opcua=echo) as (_, peers), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(peers["opcua"].request("io", "write", {"n": 0}, timeout_s=5))
        for n in range(1, 50):
            assert (await peers["opcua"].request("io", "write", {"n": n}, timeout_s=5)).body == {"n": n}
        assert not first.done()
        gate.set()
        assert (await first).body == {"n": 0}


async def test_requests_of_one_sender_begin_in_their_order() -> None:
    seen: list[int] = []

    async def note(request: Request) -> Reply:
        seen.append(request.body["n"])
        await asyncio.sleep(random.random() / 500)
        return Reply()

    async with cell(io=note, opcua=echo) as (_, peers), asyncio.TaskGroup() as tasks:
        for n in range(300):  # more than may be in flight
            tasks.create_task(peers["opcua"].request("io", "write", {"n": n}, timeout_s=5))
    assert seen == list(range(300))


async def test_a_role_that_is_not_there_answers_no_communication() -> None:
    async with cell(opcua=echo) as (_, peers):
        reply = await peers["opcua"].request("io", "write", {}, timeout_s=1)
        assert (reply.status, reply.reason) == (BAD_NO_COMMUNICATION, "io is not running")


async def test_a_target_that_dies_costs_its_callers_a_bad_reply_at_once() -> None:
    started = asyncio.Event()

    async def never(request: Request) -> Reply:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    hub = Hub(echo)
    ours, theirs = socket.socketpair()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.run())
        hub.attach("io", ours)
        io = tasks.create_task(Peer(theirs, never, SUPERVISOR).run())
        asking = tasks.create_task(hub.request("io", "write", {}, timeout_s=10))
        await started.wait()
        io.cancel()
        async with asyncio.timeout(10):
            assert (await asking).status == BAD_NO_COMMUNICATION
        await until(lambda: not hub.roles)
        running.cancel()


async def test_detaching_a_role_answers_what_is_in_flight() -> None:
    async def never(request: Request) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async with cell(io=never, opcua=echo) as (hub, peers), asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(peers["opcua"].request("io", "write", {}, timeout_s=10))
        await asyncio.sleep(0.05)
        hub.detach("io")
        assert (await asking).status == BAD_NO_COMMUNICATION
        hub.detach("io")  # once more does nothing


async def test_a_new_process_of_a_role_replaces_the_old_one() -> None:
    async def second(request: Request) -> Reply:
        return Reply(reason="second")

    async with cell(io=echo) as (hub, peers), asyncio.TaskGroup() as tasks:
        ours, theirs = socket.socketpair()
        hub.attach("io", ours)
        running = tasks.create_task(Peer(theirs, second, SUPERVISOR).run())
        assert (await hub.request("io", "x", {}, timeout_s=1)).reason == "second"
        await until(lambda: peers["io"].closed)
        assert hub.roles == ("io",)
        running.cancel()


async def test_a_handler_over_its_deadline_is_cancelled_and_answered_with_timeout() -> None:
    cancelled = asyncio.Event()

    async def hangs(request: Request) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async with cell(io=hangs, opcua=echo) as (_, peers):
        reply = await peers["opcua"].request("io", "write", {}, timeout_s=0.05)
        assert reply.status == BAD_TIMEOUT
        assert "io" in reply.reason
        async with asyncio.timeout(10):
            await cancelled.wait()


async def test_a_reply_after_the_deadline_is_counted_and_ignored() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    peer = Peer(ours, echo, "io")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(peer.run())
        assert (await peer.request("io", "write", {}, timeout_s=0.02)).status == BAD_TIMEOUT
        theirs.send(encode(reply_message(1, Reply())) + encode(reply_message(99, Reply())))
        await until(lambda: peer.late == 2)
        running.cancel()
    theirs.close()


async def test_errors_of_ours_and_unforeseen_ones_are_answered() -> None:
    async def fails(request: Request) -> Reply:
        if request.kind == "range":
            raise WriteRejectedError("60 is over 50", status=BAD_OUT_OF_RANGE)
        if request.kind == "late":
            raise TimeoutError
        if request.kind == "unsendable":
            return Reply(body={"x": object()})
        raise ZeroDivisionError("oh")

    async with cell(io=fails) as (hub, _):
        with capture_logs() as logs:
            assert await hub.request("io", "range", {}, timeout_s=1) == Reply(
                BAD_OUT_OF_RANGE, "60 is over 50"
            )
            assert (await hub.request("io", "late", {}, timeout_s=1)).status == BAD_TIMEOUT
            assert (await hub.request("io", "unsendable", {}, timeout_s=1)).status == BAD_INTERNAL_ERROR
            reply = await hub.request("io", "bug", {}, timeout_s=1)
        assert (reply.status, reply.reason) == (BAD_INTERNAL_ERROR, "bug failed: ZeroDivisionError: oh")
        events = [entry["event"] for entry in logs]
        assert events == ["control.refused", "control.reply_unsendable", "control.handler_failed"]


async def test_a_body_that_is_no_json_is_the_callers_fault() -> None:
    async with cell(io=echo) as (hub, peers):
        assert (await hub.request("io", "x", {"x": object()}, timeout_s=1)).status == BAD_INVALID_ARGUMENT
        with pytest.raises(ControlError):
            peers["io"].notify(SUPERVISOR, "x", {"x": object()})


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 5) + b"hello",
        struct.pack(">I", 0xFFFFFFFF),
        os.urandom(4096),
    ],
)
async def test_who_breaks_the_protocol_loses_his_connection_and_nobody_else(garbage: bytes) -> None:
    async with cell(io=echo) as (hub, _):
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with capture_logs() as logs:
            hub.attach("odd", ours)
            await asyncio.get_running_loop().sock_sendall(theirs, garbage)
            async with asyncio.timeout(10):
                while await asyncio.get_running_loop().sock_recv(theirs, 100):
                    pass
        assert "control.protocol_error" in [entry["event"] for entry in logs]
        theirs.close()
        assert (await hub.request("io", "x", {}, timeout_s=1)).status == GOOD
        await until(lambda: hub.roles == ("io",))


async def test_requests_without_end_are_refused_not_queued() -> None:
    async def hangs(request: Request) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    ours, theirs = socket.socketpair()
    server = Peer(ours, hangs, "greedy")
    # A sender that does not keep to the limit itself.
    greedy = Peer(theirs, echo, SUPERVISOR)
    greedy._places = asyncio.Semaphore(10_000)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(server.run()), tasks.create_task(greedy.run())]
        asking = [tasks.create_task(greedy.request("io", "x", {}, timeout_s=15)) for _ in range(600)]
        await until(lambda: sum(task.done() for task in asking) == 600 - 2 * control.MAX_IN_FLIGHT)
        assert {task.result().status for task in asking if task.done()} == {BAD_TOO_MANY_OPERATIONS}
        for task in (*running, *asking):
            task.cancel()


async def test_notifications_over_what_can_be_handled_are_counted() -> None:
    async def hangs(request: Request) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async with cell(io=hangs) as (hub, peers):
        for _ in range(700):
            hub.notify("io", "x", {})
        await until(lambda: peers["io"].refused == 700 - 2 * control.MAX_IN_FLIGHT)


async def test_notifications_to_a_process_that_stands_still_drop_the_oldest_and_count() -> None:
    ours, theirs = socket.socketpair()
    peer = Peer(ours, echo, "frozen")
    text = "x" * 1000
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(peer.run())
        for n in range(6000):
            peer.notify("frozen", "tick", {"n": n, "text": text})
            if n % 100 == 0:
                await asyncio.sleep(0)
        assert 0 < peer.dropped <= 6000 - control.MAX_QUEUED_NOTIFIES
        # A request finds its way behind them once the other end goes on, and nothing is out of order.
        seen: list[int] = []

        async def note(request: Request) -> Reply:
            seen.append(request.body.get("n", -1))
            return Reply()

        other = tasks.create_task(Peer(theirs, note, SUPERVISOR).run())
        assert (await peer.request("frozen", "x", {}, timeout_s=5)).status == GOOD
        assert seen[-2:] == [5999, -1]
        assert seen == [*sorted(seen[:-1]), -1]
        assert len(seen) - 1 + peer.dropped == 6000
        running.cancel()
        other.cancel()
    before = peer.dropped
    peer.notify("frozen", "x", {})  # to a closed peer: counted as well
    assert peer.dropped == before + 1


async def test_a_peer_that_is_gone_when_something_is_sent_is_the_end_and_no_error() -> None:
    ours, theirs = socket.socketpair()
    peer = Peer(ours, echo, "gone")
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(peer.run())
        await asyncio.sleep(0.01)
        theirs.close()
        peer.notify("gone", "x", {})
    assert (await peer.request("gone", "x", {}, timeout_s=1)).status == BAD_NO_COMMUNICATION


async def test_the_last_words_of_a_peer_that_ends_are_heard() -> None:
    heard: list[str] = []

    async def note(request: Request) -> Reply:
        heard.append(request.kind)
        return Reply()

    ours, theirs = socket.socketpair()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Peer(ours, note, "io").run())
        child = Peer(theirs, echo, SUPERVISOR)
        running = tasks.create_task(child.run())
        await asyncio.sleep(0.01)
        for kind in ("released", "ended"):
            child.notify("records", kind, {})
        running.cancel()
        await asyncio.wait([running])
    assert heard == ["released", "ended"]


async def test_last_words_of_a_peer_whose_loop_hangs_are_heard() -> None:
    # A model that does not end its run holds the loop of its process, and only another thread can say why.
    heard: list[Request] = []

    async def note(request: Request) -> Reply:
        heard.append(request)
        return Reply()

    ours, theirs = socket.socketpair()
    hub = Hub(note)
    hub.attach("lane", ours)
    stuck = Peer(theirs, echo, SUPERVISOR)  # it does not run: nobody would send what it has to send
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.run())
        body = {"source": "press-anomaly", "code": "M542", "text": "it hangs"}
        thread = threading.Thread(target=stuck.last_words, args=(SUPERVISOR, "fault", body))
        thread.start()
        await until(lambda: bool(heard))
        running.cancel()
    thread.join()
    assert (heard[0].origin, heard[0].kind, heard[0].body) == ("lane", "fault", body)
    stuck.last_words(SUPERVISOR, "fault", body)  # to a peer that is gone: lost, and no error
    stuck.close()


async def test_large_notifications_are_bounded_in_bytes() -> None:
    ours, theirs = socket.socketpair()
    peer = Peer(ours, echo, "frozen")
    for _ in range(20):
        peer.notify("frozen", "big", {"text": "x" * 500_000})
    assert peer.dropped >= 12
    peer.close()
    theirs.close()


async def test_requests_that_timed_out_unsent_do_not_pile_up() -> None:
    ours, theirs = socket.socketpair()
    peer = Peer(ours, echo, "frozen")  # nobody runs it: nothing is ever sent
    for _ in range(50):
        assert (await peer.request("io", "x", {"text": "x" * 1000}, timeout_s=0.001)).status == BAD_TIMEOUT
    assert peer._outbox.waiting_bytes == 0
    peer.close()
    theirs.close()
    assert (await peer.request("io", "x", {}, timeout_s=1)).status == BAD_NO_COMMUNICATION


async def test_a_client_that_does_not_read_its_replies_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_UNREAD_BYTES", 1 << 20)
    monkeypatch.setattr(control, "MAX_QUEUED_BYTES", 0)

    async def big(request: Request) -> Reply:
        return Reply(body={"text": "x" * 100_000})

    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    server = Peer(ours, big, "deaf")
    frame = encode({"t": "request", "id": 1, "to": "", "kind": "", "origin": "", "timeout_s": 9, "body": {}})
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(5):
            serving = tasks.create_task(server.run())
            while not serving.done():
                with suppress(BlockingIOError, ConnectionError):
                    theirs.send(frame)
                await asyncio.sleep(0.001)
    assert [entry["event"] for entry in logs] == ["control.replies_unread"]
    theirs.close()


async def test_notifications_wait_for_the_records_process_while_it_starts_again() -> None:
    got: list[int] = []

    async def note(request: Request) -> Reply:
        got.append(request.body["n"])
        return Reply()

    async with cell(opcua=echo) as (hub, peers), asyncio.TaskGroup() as tasks:
        for n in range(control.MAX_QUEUED_NOTIFIES + 3):
            peers["opcua"].notify("records", "audit", {"n": n})
            if n % 100 == 0:
                await asyncio.sleep(0.002)
        peers["opcua"].notify("nobody", "audit", {})
        await until(lambda: hub.dropped == 4)
        ours, theirs = socket.socketpair()
        hub.attach("records", ours)
        running = tasks.create_task(Peer(theirs, note, SUPERVISOR).run())
        await until(lambda: len(got) == control.MAX_QUEUED_NOTIFIES)
        assert got == list(range(3, control.MAX_QUEUED_NOTIFIES + 3))
        hub.notify("records", "audit", {"n": -1})
        await until(lambda: got[-1] == -1)
        running.cancel()


async def test_what_was_attached_before_the_hub_runs_is_served_and_never_leaks() -> None:
    hub = Hub(echo)
    ours, theirs = socket.socketpair()
    hub.attach("io", ours)
    gone, other = socket.socketpair()
    hub.attach("lane", gone)
    hub.detach("lane")
    assert gone.fileno() == -1
    other.close()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.run())
        peer = tasks.create_task(Peer(theirs, echo, SUPERVISOR).run())
        assert (await hub.request("io", "x", {}, timeout_s=1)).status == GOOD
        running.cancel()
        await asyncio.wait([peer])
    assert ours.fileno() == -1


async def test_killing_a_real_process_in_mid_request_answers_its_callers() -> None:
    ours, theirs = socket.socketpair()
    code = (
        "import sys, socket, time\n"
        "s = socket.socket(fileno=int(sys.argv[1]))\n"
        "s.recv(10)\n"
        "s.send(b'\\0\\0')\n"  # half a frame
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(theirs.fileno())], pass_fds=(theirs.fileno(),)
    )
    theirs.close()
    hub = Hub(echo)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(hub.run())
            hub.attach("io", ours)
            asking = tasks.create_task(hub.request("io", "write", {}, timeout_s=30))
            await asyncio.sleep(0.3)
            process.send_signal(signal.SIGKILL)
            async with asyncio.timeout(10):
                assert (await asking).status == BAD_NO_COMMUNICATION
            running.cancel()
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def serving(path: Path, handle: Handler = echo) -> AsyncIterator[Hub]:
    hub = Hub(handle)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(hub.run()), tasks.create_task(hub.serve_unix(path))]
        await until(path.exists)
        await asyncio.sleep(0.02)
        try:
            yield hub
        finally:
            for task in running:
                task.cancel()


async def test_the_command_line_asks_over_a_private_socket(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        reply = await ask(path, SUPERVISOR, "status", {"a": 1}, timeout_s=2)
        assert reply == Reply(body={"origin": "cli", "kind": "status", "a": 1})
        reply = await ask(path, "io", "write", {}, timeout_s=2)
        assert reply.status == BAD_NO_COMMUNICATION
    assert not path.exists()
    reply = await ask(path, SUPERVISOR, "status", {}, timeout_s=2)
    assert reply.status == BAD_NO_COMMUNICATION
    assert str(path) in reply.reason


async def test_a_client_is_not_addressable_and_answers_nothing(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    asked: list[Awaitable[Reply]] = []

    async def handle(request: Request) -> Reply:
        return await hub.request("cli", "x", {}, timeout_s=1)

    async with serving(path, handle) as hub:
        assert (await ask(path, SUPERVISOR, "x", {}, timeout_s=2)).status == BAD_NO_COMMUNICATION
    assert not asked
    assert (await control._nothing(Request("cli", "x", {}))).status == BAD_NOT_SUPPORTED


async def test_a_socket_left_by_a_killed_server_is_replaced_and_a_living_one_respected(
    tmp_path: Path,
) -> None:
    path = tmp_path / "control.sock"
    loop = asyncio.get_running_loop()
    (await loop.run_in_executor(None, listen_unix, path)).close()  # the file stays, as after kill -9
    assert path.is_socket()
    async with serving(path):
        with pytest.raises(ControlError, match="another server"):
            await loop.run_in_executor(None, listen_unix, path)
        assert (await ask(path, SUPERVISOR, "status", {}, timeout_s=2)).status == GOOD


def test_a_place_that_cannot_hold_a_socket_is_refused_and_nothing_deleted(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(ControlError):
        listen_unix(path)
    assert path.read_text() == "precious"
    with pytest.raises(ControlError):
        listen_unix(tmp_path / "missing" / "control.sock")


def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    listener = listen_unix(deep / "control.sock")
    client = connect_unix(deep / "control.sock")
    client.close()
    listener.close()


async def test_more_clients_than_allowed_are_closed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 1)
    path = tmp_path / "control.sock"
    async with serving(path) as hub:
        first = connect_unix(path)
        await until(lambda: len(hub._clients) == 1)
        assert (await ask(path, SUPERVISOR, "status", {}, timeout_s=2)).status == BAD_NO_COMMUNICATION
        first.close()
        await until(lambda: not hub._clients)
        assert (await ask(path, SUPERVISOR, "status", {}, timeout_s=2)).status == GOOD


async def test_another_user_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "peer_uid", lambda sock: 12345)
    path = tmp_path / "control.sock"
    async with serving(path):
        assert (await ask(path, SUPERVISOR, "status", {}, timeout_s=2)).status == BAD_NO_COMMUNICATION


async def test_running_out_of_descriptors_costs_a_pause_not_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "control.sock"
    loop = asyncio.get_running_loop()
    accept = loop.sock_accept
    failed: list[int] = []

    async def fails_once(sock: socket.socket) -> tuple[socket.socket, object]:
        if not failed:
            failed.append(1)
            raise OSError(24, "Too many open files")
        return await accept(sock)

    monkeypatch.setattr(loop, "sock_accept", fails_once)
    with capture_logs() as logs:
        async with serving(path):
            assert (await ask(path, SUPERVISOR, "status", {}, timeout_s=5)).status == GOOD
    assert "control.accept_failed" in [entry["event"] for entry in logs]


async def test_a_socket_that_cannot_be_removed_is_reported(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    with capture_logs() as logs:
        async with serving(place / "control.sock"):
            (place / "control.sock").unlink()
            (place / "control.sock").mkdir()  # unlink of a directory fails
    assert "control.socket_left" in [entry["event"] for entry in logs]

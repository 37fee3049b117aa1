"""Clients that work a relay: they publish, ask and listen, over plain sockets or many at once."""

import json
import random
import selectors
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import trio

from benchmarks.lib.nostr_events import NOW, Question
from benchmarks.lib.relays import Relay
from oanix.lib.websocket import WebSocket
from oanix.lib.websocket.frames import TEXT, framed, head_at

CONNECTIONS = 4
PER_CONNECTION = 50
PATIENCE_S = 60.0


class Refused(Exception):
    """A relay did not do what it was asked for."""


async def connect(relay: Relay) -> WebSocket:
    """Connect to a relay."""
    stream = await trio.open_tcp_stream("127.0.0.1", relay.port)
    return await WebSocket.connect(stream, host=f"127.0.0.1:{relay.port}")


async def deliver(relay: Relay, given: Sequence[bytes], listeners: int) -> float:
    """Give deliveries a second, with so many subscriptions that want every event."""
    left = listeners // PER_CONNECTION
    ready = trio.Event()

    async def listen() -> None:
        nonlocal left
        async with await connect(relay) as socket:
            for number in range(PER_CONNECTION):
                await socket.send(json.dumps(["REQ", f"s{number}", {"since": NOW + 1, "limit": 1}]))
            ended = heard = 0
            while ended < PER_CONNECTION:
                ended += str(await socket.receive()).startswith('["EOSE"')
            left -= 1
            if not left:
                ready.set()
            while heard < PER_CONNECTION * len(given):
                for message in await socket.receive_all():
                    heard += str(message).startswith('["EVENT"')

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(left):
                nursery.start_soon(listen)
            await ready.wait()
            began = time.perf_counter()
            await trio.to_thread.run_sync(publish, relay, given, 1)
    return listeners * len(given) / (time.perf_counter() - began)


class Plain:
    """One connection over a plain socket: little of a time that is measured is the client's."""

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket
        self._held = bytearray()
        self._at = 0

    def say(self, *message: object) -> None:
        """Send a message."""
        self.socket.sendall(framed(TEXT, json.dumps(message).encode(), mask=True))

    def hear(self) -> bytes:
        """Wait for a message; other frames are passed over."""
        while (message := self.take()) is None:
            self.read()
        return message

    def take(self) -> bytes | None:
        """Give the next message of what was read, if it is all there."""
        while True:
            head = head_at(self._held, self._at)
            if head is None or len(self._held) < self._at + head.size + head.payload:
                del self._held[: self._at]
                self._at = 0
                return None
            start = self._at + head.size
            self._at = start + head.payload
            if head.first == TEXT:
                return bytes(self._held[start : self._at])

    def read(self) -> None:
        """Read what has come; waits for something."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionResetError("the relay has closed the connection")
        self._held += data

    def open(self, port: int) -> None:
        """Ask for a WebSocket."""
        self.socket.sendall(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._held:
            self.read()
        del self._held[: self._held.index(b"\r\n\r\n") + 4]


@contextmanager
def plain(relay: Relay) -> Iterator[Plain]:
    """Connect to a relay."""
    with socket.create_connection(("127.0.0.1", relay.port), timeout=PATIENCE_S) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one = Plain(connected)
        one.open(relay.port)
        yield one


class _Publishing:
    """Events that go over one connection, so many at a time as the relay bears."""

    def __init__(self, one: Plain, frames: Sequence[bytes], relay: Relay) -> None:
        self.one = one
        self.left = len(frames)
        self._frames = frames
        self._relay = relay
        self._next = 0

    def send(self, count: int) -> None:
        some = self._frames[self._next : self._next + count]
        self._next += len(some)
        self.one.socket.sendall(b"".join(some))

    def hear(self) -> None:
        """Read answers, and send as many events as were answered."""
        self.one.read()
        answered = 0
        while (answer := self.one.take()) is not None:
            if not answer.startswith(b'["OK"'):
                continue
            # Ours says true once an event is on the disk.
            if b"true" not in answer[70:90]:
                raise Refused(f"{self._relay.name} answers {answer[:200].decode()}")
            answered += 1
        self.left -= answered
        self.send(answered)


def publish(relay: Relay, given: Sequence[bytes], connections: int = CONNECTIONS) -> float:
    """Publish events over several connections; gives the seconds until the last is answered."""
    frames = [framed(TEXT, b'["EVENT",' + raw + b"]", mask=True) for raw in given]
    with ExitStack() as opened, selectors.DefaultSelector() as selector:
        tasks = [
            _Publishing(opened.enter_context(plain(relay)), frames[n::connections], relay)
            for n in range(connections)
        ]
        began = time.perf_counter()
        for task in tasks:
            selector.register(task.one.socket, selectors.EVENT_READ, task)
            task.send(relay.window)
        while any(task.left for task in tasks):
            ready = selector.select(PATIENCE_S)
            if not ready:
                raise TimeoutError(f"no answer for {PATIENCE_S:g} s")
            for key, _ in ready:
                key.data.hear()
        return time.perf_counter() - began


def ask(relay: Relay, filters: Question, count: int, seed: int) -> tuple[float, int]:
    """Give the median time of an answer in ms, and the median of its events."""
    chance = random.Random(seed)
    times, counts = [], []
    with plain(relay) as one:
        for number in range(count):
            name = f"q{number}"
            wanted = filters(chance)
            began = time.perf_counter()
            one.say("REQ", name, wanted)
            found = 0
            closed = f'["CLOSED","{name}"'.encode()
            while not (answer := one.hear()).startswith(b'["EOSE"'):
                # LocalRelay closes what has all that it asks for, even after the next question.
                if answer.startswith(closed):
                    raise Refused(f"{relay.name} answers {answer[:200].decode()}")
                found += answer.startswith(b'["EVENT"')
            times.append(time.perf_counter() - began)
            counts.append(found)
            one.say("CLOSE", name)
    return statistics.median(times) * 1e3, int(statistics.median(counts))

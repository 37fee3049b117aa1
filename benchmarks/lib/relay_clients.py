"""Clients that work a relay: they publish, ask and listen, over plain sockets or many at once."""

import json
import random
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

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


async def publish(relay: Relay, given: Sequence[bytes]) -> float:
    """Publish events over several connections; gives the seconds until the last is answered."""
    shares = [given[n::CONNECTIONS] for n in range(CONNECTIONS)]
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for share in shares:
            nursery.start_soon(publish_alone, relay, share)
    return time.perf_counter() - began


async def publish_alone(relay: Relay, given: Sequence[bytes]) -> None:
    """Publish events over one connection, so many at a time as the relay bears."""
    async with await connect(relay) as socket:
        waiting = iter(given)
        texts = ['["EVENT",' + raw.decode() + "]" for raw in islice(waiting, relay.window)]
        for text in texts:
            await socket.send(text)
        left = len(given)
        while left:
            with trio.fail_after(PATIENCE_S):
                answer = str(await socket.receive())
            if not answer.startswith('["OK"'):
                continue
            # Ours says true once an event is on the disk.
            if "true" not in answer[70:90]:
                raise Refused(f"{relay.name} answers {answer[:200]}")
            left -= 1
            raw = next(waiting, None)
            if raw is not None:
                await socket.send('["EVENT",' + raw.decode() + "]")


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
            nursery.start_soon(publish_alone, relay, given)
    return listeners * len(given) / (time.perf_counter() - began)


class Asking:
    """One connection that waits for its answers in place: little of a time is the client's."""

    def __init__(self, plain: socket.socket) -> None:
        self._plain = plain
        self._held = bytearray()
        self._at = 0

    def say(self, *message: object) -> None:
        """Send a message."""
        self._plain.sendall(framed(TEXT, json.dumps(message).encode(), mask=True))

    def hear(self) -> bytes:
        """Wait for a message; other frames are passed over."""
        while True:
            head = head_at(self._held, self._at)
            if head is not None and len(self._held) >= self._at + head.size + head.payload:
                start = self._at + head.size
                self._at = start + head.payload
                if head.first == TEXT:
                    return bytes(self._held[start : self._at])
                continue
            del self._held[: self._at]
            self._at = 0
            data = self._plain.recv(1 << 20)
            if not data:
                raise ConnectionResetError("the relay has closed the connection")
            self._held += data

    def open(self, port: int) -> None:
        """Ask for a WebSocket."""
        self._plain.sendall(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._held:
            data = self._plain.recv(1 << 16)
            if not data:
                raise ConnectionResetError("the relay has closed the connection")
            self._held += data
        del self._held[: self._held.index(b"\r\n\r\n") + 4]


@contextmanager
def asking(relay: Relay) -> Iterator[Asking]:
    """Connect to a relay to ask it."""
    with socket.create_connection(("127.0.0.1", relay.port), timeout=PATIENCE_S) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one = Asking(plain)
        one.open(relay.port)
        yield one


def ask(relay: Relay, filters: Question, count: int, seed: int) -> tuple[float, int]:
    """Give the median time of an answer in ms, and the median of its events."""
    chance = random.Random(seed)
    times, counts = [], []
    with asking(relay) as one:
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

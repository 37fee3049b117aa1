"""Measure the WebSocket library against trio-websocket: echoes of small texts, in both roles.

    python -m benchmarks.websocket [MESSAGES]

Server and client are processes of their own. Prints messages a second, and the processor time that
each side spends on one echo; wsproto's share is measured alone, in one process.
"""

import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio
import trio_websocket as foreign
from wsproto.frame_protocol import FrameProtocol

from oanix.lib.websocket import WebSocket

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

MESSAGES = 20_000
TEXT = "x" * 60
OURS, THEIRS = "oanix", "trio-websocket"

Send = Callable[[str], Awaitable[object]]
Receive = Callable[[], Awaitable[object]]


async def echo(kind: str, stream: trio.SocketStream) -> None:
    """Serve one connection."""
    if kind == OURS:
        socket = await WebSocket.accept(stream)
        async for message in socket:
            await socket.send(message)
        return
    async with trio.open_nursery() as nursery:
        other = await (await foreign.wrap_server_stream(nursery, stream)).accept()
        try:
            while True:
                await other.send_message(await other.get_message())
        except foreign.ConnectionClosed:
            return


def serve(kind: str, told: "Queue[float]") -> None:
    """Tell the port, then the processor time of the connection."""

    async def main() -> None:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        told.put(listener.socket.getsockname()[1])
        async with listener:
            stream = await listener.accept()
            began = time.process_time()
            await echo(kind, stream)
            told.put(time.process_time() - began)

    trio.run(main)


async def ask(kind: str, port: int, messages: int, window: int) -> tuple[float, float]:
    """Give the wall and processor time of so many echoes, with `window` of them under way."""

    async def rounds(send: Send, receive: Receive) -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(window):
            await send(TEXT)
        for _ in range(messages - window):
            await receive()
            await send(TEXT)
        for _ in range(window):
            await receive()
        return time.perf_counter() - wall, time.process_time() - processor

    stream = await trio.open_tcp_stream("127.0.0.1", port)
    if kind == OURS:
        async with await WebSocket.connect(stream, host="127.0.0.1") as socket:
            return await rounds(socket.send, socket.receive)
    async with trio.open_nursery() as nursery:
        other = await foreign.wrap_client_stream(nursery, stream, "127.0.0.1", "/")
        taken = await rounds(other.send_message, other.get_message)
        await other.aclose()
    return taken


def wsproto_us(messages: int) -> float:
    """Give what wsproto alone takes at a server for one echo, in microseconds."""
    server, client = FrameProtocol(False, []), FrameProtocol(True, [])
    frame = bytes(client.send_data(TEXT))
    began = time.process_time()
    for _ in range(messages):
        server.receive_bytes(frame)
        for _ in server.received_frames():
            server.send_data(TEXT)
    return (time.process_time() - began) / messages * 1e6


def main() -> None:
    """Measure every pair of roles, one after the other."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    print("under way  server          client            echoes/s  server µs  client µs")
    for window in (1, 64):
        for server in (OURS, THEIRS):
            for client in (OURS, THEIRS):
                told: Queue[float] = multiprocessing.Queue()
                process = multiprocessing.Process(target=serve, args=(server, told))
                process.start()
                wall, spent = trio.run(ask, client, int(told.get()), messages, window)
                theirs = told.get()
                process.join()
                print(
                    f"{window:9}  {server:14}  {client:14}  {messages / wall:10.0f}"
                    f"  {theirs / messages * 1e6:9.1f}  {spent / messages * 1e6:9.1f}"
                )
    print(f"wsproto alone at a server: {wsproto_us(messages):.1f} µs an echo")


if __name__ == "__main__":
    main()

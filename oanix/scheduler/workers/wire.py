"""Wire: messages between a server and its workers, over a Unix socket of packets.

A message is a letter, the number of a guest, and what that letter has: numbers of 64 bits, or JSON.

    to a worker     H what the host offers (JSON)    R run (JSON)    A answer of a call
                    C call an export (JSON)    F these were all    X the host ends it
                    K kill    P pause    G go on
    to the server   L begun    M its memory (a descriptor)    F call of the host
                    V value of an export, first of none    U what it has used    E ended (JSON)
                    B it was ended while its module is compiled, which goes on

A worker serves many guests, and a guest has one call under way, so no message waits for another.
"""

import array
import errno
import json
import os
import socket
from collections import deque
from struct import Struct
from time import perf_counter
from typing import Any, Final

import trio

from oanix.bell import Bell

PACKET_MAX: Final = 65_536
"""Bytes of a message: the arguments of a call are few, and texts are cut."""

TURN: Final = 16
"""After so many messages at once, others have their turn."""

HEAD: Final = Struct("<cI")
_WORDS: Final = [Struct(f"<cI{count}Q") for count in range(16)]
_FD: Final = array.array("i").itemsize


def numbers(letter: bytes, guest: int, *words: int) -> bytes:
    """Write a message of numbers."""
    return _WORDS[len(words)].pack(letter, guest, *words)


def words_of(data: bytes) -> tuple[int, ...]:
    """Read the numbers of a message."""
    found: tuple[int, ...] = _WORDS[(len(data) - HEAD.size) // 8].unpack(data)[2:]
    return found


def said(letter: bytes, guest: int, value: dict[str, Any]) -> bytes:
    """Write a message of JSON."""
    return HEAD.pack(letter, guest) + json.dumps(value).encode()


def saying(data: bytes) -> dict[str, Any]:
    """Read the JSON of a message. Raises ValueError."""
    found = json.loads(data[HEAD.size :])
    if not isinstance(found, dict):
        raise ValueError("a message holds an object")
    return found


class Wire:
    """One end. `put` never waits: what does not fit is sent by `flush`, in order."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._left: deque[tuple[bytes, int | None]] = deque()
        self._work = Bell()
        self._read = 0

    def close(self) -> None:
        """Let go of it; the peer sees the end."""
        self._left.clear()
        self._end.close()

    def put(self, data: bytes, descriptor: int | None = None) -> None:
        """Send a message. A peer that is gone is seen by who reads, not here."""
        if not self._left and self._sent(data, descriptor):
            return
        # The descriptor may be closed before its turn comes.
        self._left.append((data, None if descriptor is None else os.dup(descriptor)))
        self._work.ring()

    def _sent(self, data: bytes, descriptor: int | None) -> bool:
        try:
            if descriptor is None:
                self._end.send(data)
            else:
                socket.send_fds(self._end, [data], [descriptor])
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.EBADF):
                raise
        return True

    async def flush(self) -> None:
        """Send what is left, for ever."""
        while True:
            while not self._left:
                await self._work.wait()
            await trio.lowlevel.wait_writable(self._end)
            data, descriptor = self._left[0]
            if self._sent(data, descriptor):
                self._left.popleft()
                if descriptor is not None:
                    os.close(descriptor)

    def soon(self, seconds: float) -> bytes | None:
        """Look for the next message again and again for a moment; None when none came.

        Who sleeps is woken late: an idle core takes longer to wake than the peer to answer.
        """
        end = perf_counter() + seconds
        while perf_counter() < end:
            try:
                return self._end.recv(PACKET_MAX)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return b""
        return None

    async def get(self) -> tuple[bytes, int | None]:
        """Give the next message, and the descriptor that came with it; b"" at the end."""
        self._read += 1
        if self._read % TURN == 0:
            await trio.lowlevel.checkpoint()
        while True:
            try:
                data, rights, _, _ = self._end.recvmsg(PACKET_MAX, socket.CMSG_SPACE(_FD))
                break
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._end)
            except ConnectionResetError:
                return b"", None
        return data, _descriptor(rights)


def _descriptor(rights: list[tuple[int, int, bytes]]) -> int | None:
    found = array.array("i")
    for level, kind, raw in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(raw[: len(raw) - len(raw) % _FD])
    for extra in found[1:]:
        os.close(extra)
    return found[0] if found else None

"""The file `call`: write a request, read its answer; again and again through one open file.

What was asked is done one after another by a task of the service, so that a reader that is
interrupted loses nothing. Closing the file ends the task.
"""

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from oanix.bell import Bell
from oanix.errors import fault
from oanix.kit import Handler, Opening
from oanix.node import READABLE, WOULD_BLOCK, WRITABLE, Handle, WouldBlock
from oanix.services.http import message
from oanix.services.http.message import Message

if TYPE_CHECKING:
    from oanix.services.http.view import View

AHEAD: Final = 64
"""Requests of one open file that wait for their turn."""

REQUEST_MAX: Final = 16 << 20
ANSWER_MAX: Final = 16 << 20
HELD_MAX: Final = 128 << 20
"""Bytes of answers that all open files of a service hold."""

SMALL: Final = 65_536
"""What is read and written as JSON at once; more of it is a thread's work."""

CHUNK: Final = 1 << 18


class Budget:
    """How many bytes of answers are held, and may be."""

    def __init__(self, limit: int = HELD_MAX) -> None:
        self.held = 0
        self._limit = limit

    def take(self, size: int) -> None:
        """Count so many more. Raises OSError ENOBUFS."""
        if self.held + size > self._limit:
            raise fault(
                errno.ENOBUFS, "too many answers wait to be read here; read or close some first"
            )
        self.held += size

    def give(self, size: int) -> None:
        """Count so many less."""
        self.held -= size


class Call(Handler):
    """The file."""

    reads = writes = True

    def __init__(self, view: "View") -> None:
        self._view = view

    async def open(self, opening: Opening) -> Handle:
        return CallHandle(self._view, opening)


class CallHandle(Handle):
    """One open `call`: what was asked, and the answers that were not read yet.

    It can be sought in, so that buffered files of languages work, but offsets mean nothing.
    """

    def __init__(self, view: "View", opening: Opening) -> None:
        self._view = view
        self._opening = opening
        self._half = bytearray()
        self._asked: deque[Message] = deque()
        self._answers: deque[bytes | Exception] = deque()
        self._rest = b""
        self._held = 0
        self._bell = Bell()
        self._turn = trio.Lock()
        self._work: trio.CancelScope | None = None

    # Asking --------------------------------------------------------------------------------------

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        if self._turn.locked() or len(self._half) + len(data) > SMALL:
            return WOULD_BLOCK
        lines = self._lines(data)
        self._ask([message.parse(line) for line in lines])
        return len(data)

    async def write(self, data: bytes, offset: int) -> int:
        """Take lines; a line that is no request fails the write, and nothing of it is done."""
        async with self._turn:
            for line in (lines := self._lines(data)):
                self._check_size(len(line))
            self._ask(await self._parsed(lines))
        return len(data)

    def _lines(self, data: bytes) -> list[bytes]:
        # What follows the last newline is kept. Whatever is wrong, the next write begins afresh.
        *lines, half = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._half) + lines[0]
            self._half.clear()
        self._check_size(len(self._half) + len(half))
        self._half += half
        return [line for line in lines if line.strip()]

    def _check_size(self, size: int) -> None:
        if size > REQUEST_MAX:
            self._half.clear()
            raise fault(
                errno.EMSGSIZE, f"a request has at most {REQUEST_MAX} bytes; send more with `new`"
            )

    async def _parsed(self, lines: list[bytes]) -> list[Message]:
        def parse() -> list[Message]:
            return [message.parse(line) for line in lines]

        if sum(map(len, lines)) <= SMALL:
            return parse()
        return await trio.to_thread.run_sync(parse, limiter=self._view.service.limiter)

    def _ask(self, messages: list[Message]) -> None:
        if len(self._asked) + len(messages) > AHEAD:
            raise fault(errno.EAGAIN, f"{AHEAD} requests wait already; read their answers first")
        self._asked.extend(messages)
        if self._asked and self._work is None:
            self._work = trio.CancelScope()
            self._view.service.start(self._answer_all, self._work)

    # Answering -----------------------------------------------------------------------------------

    async def _answer_all(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                while self._asked:
                    # Kept in line until it is answered: a reader sees that it is under way.
                    self._put(await self._outcome(self._asked[0]))
        finally:
            self._work = None
            self._bell.ring()

    async def _outcome(self, asked: Message) -> bytes | Exception:
        try:
            with trio.fail_after(asked.timeout_s):
                return await self._answer(asked)
        except trio.TooSlowError:
            return fault(
                errno.ETIMEDOUT, f"{asked.url.origin} did not answer in {asked.timeout_s:g} s"
            )
        except Exception as error:
            # Whoever reads raises it: an OSError for its caller, a defect for the door's log.
            return error

    def _put(self, outcome: bytes | Exception) -> None:
        self._asked.popleft()
        if isinstance(outcome, bytes):
            try:
                self._view.service.budget.take(len(outcome))
                self._held += len(outcome)
            except OSError as error:
                outcome = error
        self._answers.append(outcome)
        self._bell.ring()

    async def _answer(self, asked: Message) -> bytes:
        began = trio.current_time()
        asker = self._view.asker(self._opening.namespace, self._opening.caller)
        exchange = await self._view.send(asker, asked, asked.body, asked.timeout_s)
        try:
            pieces, size = [], 0
            while piece := await exchange.read(CHUNK):
                pieces.append(piece)
                size += len(piece)
                if max(size, exchange.length or 0) > ANSWER_MAX:
                    raise fault(
                        errno.EMSGSIZE,
                        f"an answer through `call` has at most {ANSWER_MAX} bytes; read it with"
                        " `get` or `new`",
                    )
        finally:
            exchange.close()
        elapsed = round((trio.current_time() - began) * 1000)

        def write() -> bytes:
            body = b"".join(pieces)
            return message.answer(exchange.status, exchange.headers, body, exchange.url, elapsed)

        if size <= SMALL:
            return write()
        return await trio.to_thread.run_sync(write, limiter=self._view.service.limiter)

    # Reading -------------------------------------------------------------------------------------

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if self._rest:
            return self._piece(size)
        if self._half:
            if self._turn.locked() or len(self._half) > SMALL:
                return WOULD_BLOCK
            self._ask([message.parse(line) for line in self._lines(b"\n")])
        if self._answers:
            outcome = self._answers.popleft()
            if isinstance(outcome, Exception):
                raise outcome
            self._rest = outcome
            return self._piece(size)
        return WOULD_BLOCK if self._work is not None else b""

    def _piece(self, size: int) -> bytes:
        # Never beyond the end of an answer: a shell that reads a line need not seek back.
        piece, self._rest = self._rest[:size], self._rest[size:]
        self._held -= len(piece)
        self._view.service.budget.give(len(piece))
        return piece

    async def read(self, size: int, offset: int) -> bytes:
        """Read the next answer, waiting for it. Raises what its request failed with, once."""
        while (answer := self.try_read(size, offset)) is WOULD_BLOCK:
            if self._half:
                await self.write(b"\n", 0)
            else:
                await self._bell.wait()
        return answer

    def ready(self, wake: Callable[[], None] | None) -> int:
        if self._rest or self._answers or self._work is None:
            return READABLE | WRITABLE
        if wake is not None:
            self._bell.listen(wake, self)
        return WRITABLE

    def close(self) -> None:
        if self._work is not None:
            self._work.cancel()
        self._view.service.budget.give(self._held)
        self._held = 0
        self._bell.forget(self)

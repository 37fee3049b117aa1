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
from oanix.services.http.telling import answered, failed

if TYPE_CHECKING:
    from oanix.services.http.view import HttpView

AHEAD: Final = 64
"""Requests of one open file that wait for their turn."""

UNREAD: Final = 1024
"""Answers and errors of one open file that nobody has read, before no more is asked."""

REQUEST_MAX: Final = 16 << 20
ANSWER_MAX: Final = 16 << 20
HELD_MAX: Final = 128 << 20
"""Bytes of answers that all open files of a service hold, and as many of requests."""

SMALL: Final = 65_536
"""What is read and written as JSON at once; more of it is a thread's work."""

CHUNK: Final = 1 << 18


class Budget:
    """How many bytes of one kind are held, and may be."""

    def __init__(self, limit: int = HELD_MAX, what: str = "answers wait to be read") -> None:
        self.held = 0
        self._limit = limit
        self._what = what

    def take(self, size: int) -> None:
        """Count so many more. Raises OSError ENOBUFS."""
        if size > 0 and self.held + size > self._limit:
            raise fault(errno.ENOBUFS, f"too many {self._what} here; read or close some first")
        self.held += size

    def give(self, size: int) -> None:
        """Count so many less."""
        self.held -= size


class Call(Handler):
    """The file."""

    reads = writes = True

    def __init__(self, view: "HttpView") -> None:
        self._view = view

    async def open(self, opening: Opening) -> Handle:
        return CallHandle(self._view, opening, self._view.service.enter_call(opening.caller))


class CallHandle(Handle):
    """One open `call`: what was asked, and the answers that were not read yet.

    It can be sought in, so that buffered files of languages work, but offsets mean nothing.
    """

    told = True

    def __init__(self, view: "HttpView", opening: Opening, leave: Callable[[], None]) -> None:
        self._view = view
        self._leave = leave
        self._opening = opening
        self._half = bytearray()
        self._asked: deque[tuple[Message, int]] = deque()
        self._kept = 0
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
        self._ask(lines, [message.parse(line) for line in lines])
        return len(data)

    async def write(self, data: bytes, offset: int) -> int:
        """Take lines; a line that is no request fails the write, and nothing of it is done."""
        async with self._turn:
            for line in (lines := self._lines(data)):
                self._check_size(len(line))
            self._ask(lines, await self._parsed(lines))
        return len(data)

    def _lines(self, data: bytes) -> list[bytes]:
        # What follows the last newline is kept. Whatever is wrong, the next write begins afresh.
        *lines, half = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._half) + lines[0]
            self._half.clear()
        try:
            self._check_size(len(self._half) + len(half))
            self._half += half
            self._count()
            asked = [line for line in lines if line.strip()]
            # Before they are parsed, which takes longer than to write them.
            self._check_room(len(asked))
        except OSError:
            self._half.clear()
            self._count()
            raise
        return asked

    def _count(self) -> None:
        # Requests are held too: half a line, and those that wait for their turn.
        size = len(self._half) + sum(size for _, size in self._asked)
        self._view.service.requests.take(size - self._kept)
        self._kept = size

    def _check_room(self, more: int) -> None:
        if more and len(self._asked) + more > AHEAD:
            raise fault(errno.EAGAIN, f"{AHEAD} requests wait already; read their answers first")
        if more and len(self._answers) >= UNREAD:
            raise fault(errno.EAGAIN, f"{UNREAD} answers wait to be read; read them first")

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

    def _ask(self, lines: list[bytes], messages: list[Message]) -> None:
        self._check_room(len(messages))
        before = len(self._asked)
        self._asked.extend(zip(messages, map(len, lines), strict=True))
        try:
            self._count()
        except OSError:
            while len(self._asked) > before:
                self._asked.pop()
            raise
        if self._asked and self._work is None:
            self._work = trio.CancelScope()
            self._view.service.start(self._answer_all, self._work)

    # Answering -----------------------------------------------------------------------------------

    async def _answer_all(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                while self._asked:
                    # Kept in line until it is answered: a reader sees that it is under way.
                    self._put(await self._outcome(self._asked[0][0]))
        finally:
            self._work = None
            self._bell.ring()

    async def _outcome(self, asked: Message) -> bytes | Exception:
        try:
            with trio.fail_after(asked.timeout_s):
                return await self._answer(asked)
        except trio.TooSlowError:
            late = fault(
                errno.ETIMEDOUT, f"{asked.url.origin} did not answer in {asked.timeout_s:g} s"
            )
            return self._failed(asked, late)
        except OSError as error:
            return self._failed(asked, error)
        except Exception as error:
            # Whoever reads raises it, for the door's log.
            return error

    def _failed(self, asked: Message, error: OSError) -> OSError:
        opening = self._opening
        failed(opening.namespace, opening.caller, (asked.method, asked.url), error)
        return error

    def _put(self, outcome: bytes | Exception) -> None:
        self._asked.popleft()
        self._count()
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
        seconds = trio.current_time() - began
        elapsed = round(seconds * 1000)
        opening = self._opening
        answered(
            opening.namespace, opening.caller, (asked.method, asked.url), exchange, size, seconds
        )

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
            lines = self._lines(b"\n")
            self._ask(lines, [message.parse(line) for line in lines])
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
            for asked, _ in self._asked:
                self._failed(asked, fault(errno.ECANCELED, "closed before it was answered"))
        self._view.service.budget.give(self._held)
        self._held = 0
        self._asked.clear()
        self._half.clear()
        self._count()
        self._bell.forget(self)
        self._leave()

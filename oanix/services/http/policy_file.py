"""The file `policy`: the rules that count here, and how they are changed.

The owner's namespace changes the rules, a child's only narrows them for itself. FUSE tells of a
close twice: with `flush`, which the closing program waits for and which comes at other times, too,
and with a release, which nobody waits for. So what was collected takes effect at a flush already,
as long as that can only narrow: the first rules of a list never allow what the whole denies.
"""

import errno
import os
from functools import partial
from typing import TYPE_CHECKING

from oanix import path as paths
from oanix.errors import fault
from oanix.kit import Handler, Opening, Snapshot
from oanix.kit.lines import LinesHandle
from oanix.lib.policy import Layer, Rules
from oanix.lib.policy.narrowing import narrow, narrowings
from oanix.lib.policy.rules import RULES_MAX, TEXT_MAX
from oanix.node import READABLE, WRITABLE, Handle
from oanix.services.http.rule_book import OURS, RuleBook, check_line

LAYERS_MAX = 16
"""How often a namespace is narrowed by a policy of its own: each is asked for each request."""

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from oanix.services.http.view import HttpView


class PolicyHandler(Handler):
    """The file."""

    reads = writes = True

    def __init__(self, view: "HttpView") -> None:
        self._view = view
        self._size = 0

    def size(self) -> int:
        return self._size

    async def open(self, opening: Opening) -> Handle:
        shown = Snapshot(self._shown(opening), opening.file)
        self._size = shown.size or 0
        if not opening.writes:
            return shown
        before = shown if opening.reads else None
        book = self._view.service.book
        if opening.namespace.is_child:
            return _Collecting(opening, _Narrowing(self._view, opening), before)
        if opening.flags & os.O_TRUNC:
            return _Collecting(opening, book.replace, before)
        return _Undecided(
            _Adding(opening, book, before), partial(_Collecting, opening, book.replace, before)
        )

    def _shown(self, opening: Opening) -> bytes:
        book = self._view.service.book
        text = book.text if book.text.endswith("\n") or not book.text else f"{book.text}\n"
        if book.warning:
            text += f"{OURS}{book.warning}\n"
        elif not Rules.parse(text).rules:
            text += f"{OURS}no rules: every public address is allowed\n"
        for layer in self._view.layers_of(opening.namespace):
            text += f"{OURS}and narrowed by {layer.name}:\n"
            text += "".join(f"{OURS}    {rule.text}\n" for rule in layer.rules.rules)
        return paths.encode(text)


class _Undecided(Handle):
    """An open file that adds lines, until it is truncated before the first: then it collects.

    Some editors (vim) open without O_TRUNC and truncate then what they replace.
    """

    def __init__(self, adding: "_Adding", collecting: "Callable[[], _Collecting]") -> None:
        self._now: _PolicyHandle = adding
        self._adding = adding
        self._collecting = collecting

    def truncate(self, size: int) -> None:
        """Empty it. Raises OSError EINVAL for another size, and once a line was added."""
        self._now.truncate(size)
        if self._now is not self._adding:
            return
        if self._adding.began:
            raise fault(
                errno.EINVAL, "what was added counts already; to replace the rules, open it with >"
            )
        self._now = self._collecting()

    def try_read(self, size: int, offset: int) -> bytes:
        return self._now.try_read(size, offset)

    def try_write(self, data: bytes, offset: int) -> int:
        return self._now.try_write(data, offset)

    def ready(self, wake: object) -> int:
        return self._now.ready(wake)

    def flush(self) -> None:
        self._now.flush()

    def close(self) -> None:
        self._now.close()


class _Narrowing:
    """The layer that one open file of a child's namespace adds."""

    def __init__(self, view: "HttpView", opening: Opening) -> None:
        self._view = view
        self._kept = opening.namespace.layers
        self._layer: Layer | None = None

    def __call__(self, text: str) -> None:
        rules = Rules.parse(text)
        before = self._layer.rules.rules if self._layer is not None else ()
        if self._layer is not None and rules.rules[: len(before)] == before:
            self._layer.rules = rules
        elif rules.rules:
            # Another list than before, as after a truncation: what counted goes on to.
            _check_count(self._view, self._kept)
            self._layer = Layer(rules, "this namespace's policy")
            narrow(self._view.service.policy, self._kept, self._layer)


def _check_count(view: "HttpView", kept: "dict[Hashable, object]") -> None:
    if len(narrowings(view.service.policy, kept)) >= LAYERS_MAX:
        raise fault(
            errno.ENOSPC,
            f"a namespace is narrowed at most {LAYERS_MAX} times; write all rules at once",
        )


class _PolicyHandle(LinesHandle):
    def __init__(
        self, opening: Opening, act: "Callable[[str, Opening], bool]", before: Snapshot | None
    ) -> None:
        super().__init__(opening, act)
        self._before = before

    def try_read(self, size: int, offset: int) -> bytes:
        if self._before is None:
            return b""
        return self._before.try_read(size, offset)

    def ready(self, wake: object) -> int:
        return READABLE | WRITABLE


class _Adding(_PolicyHandle):
    """Adds each line at its newline (`>>`)."""

    def __init__(self, opening: Opening, book: RuleBook, before: Snapshot | None) -> None:
        super().__init__(opening, self._add, before)
        self._book = book
        self._count = 0

    @property
    def began(self) -> bool:
        """Whether anything was written."""
        return bool(self._count or self._half)

    def _add(self, line: str, opening: Opening) -> bool:
        self._count += 1
        if not line.strip() or line.startswith(OURS):
            return False
        check_line(line, self._count)
        self._book.add(line)
        return True


class _Collecting(_PolicyHandle):
    """Collects lines, and puts them in place together; when one is no rule, none of them.

    An open file to which nothing was written changes nothing: a program that failed before its
    first line must not take all rules away. A comment is something.
    """

    def __init__(
        self, opening: Opening, commit: "Callable[[str], object]", before: Snapshot | None
    ) -> None:
        super().__init__(opening, self._collect, before)
        self._commit = commit
        self._lines: list[str] = []
        self._size = 0
        self._rules = 0
        self._done = 0
        self._refused: OSError | None = None

    def _collect(self, line: str, opening: Opening) -> bool:
        if self._refused is not None:
            raise fault(
                self._refused.errno or 0, f"nothing is changed, as {self._refused.strerror}"
            )
        try:
            self._rules += check_line(line, len(self._lines) + 1)
            self._size += len(line) + 1
            if self._size > TEXT_MAX or self._rules > RULES_MAX:
                raise fault(
                    errno.EINVAL,
                    f"a policy has at most {TEXT_MAX} characters and {RULES_MAX} rules",
                )
        except OSError as error:
            self._refused = error
            raise
        self._lines.append("" if line.startswith(OURS) else line)
        return True

    def truncate(self, size: int) -> None:
        super().truncate(size)
        self._lines.clear()
        self._size = self._rules = self._done = 0

    def flush(self) -> None:
        """Put the rules in place: whoever closes the file waits for this, and for its error."""
        super().flush()
        if self._rules:
            self._put()

    def close(self) -> None:
        opening = self._opening
        try:
            if self._half:
                self._collect(paths.decode(bytes(self._half)), opening)
            self._put()
        except OSError as error:
            opening.namespace.sentences.report(error, opening.caller, f"close {opening.file.name}")

    def _put(self) -> None:
        if self._refused is None and self._done < len(self._lines):
            self._commit("".join(f"{line}\n" for line in self._kept_lines()))
            self._done = len(self._lines)

    def _kept_lines(self) -> list[str]:
        # Lines of ours were kept as empty ones, so that errors name the line that was written.
        return self._lines

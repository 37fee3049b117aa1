"""Conversations: what the first read of `new` makes, a directory for one client and one matter.

A conversation lives while any of its files, or the `new` that made it, is open; after the last
close it has an idle time before it ends. It is private to the uid or the job that made it.
"""

import errno
import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable

import trio
from attrs import define, field

from oanix.bell import Bell
from oanix.caller import Caller
from oanix.errors import fault
from oanix.kit.file import Handler, Opening, Owner
from oanix.kit.folder import Folder, Rows, TableDirectory
from oanix.node import READABLE, Handle, Node
from oanix.service import Service

log = logging.getLogger(__name__)

IDLE_S = 60.0
QUOTA = 256
"""Conversations, and open `new`, of one maker."""


def maker_key(caller: Caller) -> str:
    """Name whose conversations are whose: the job's, else the user's."""
    return f"job:{caller.job}" if caller.job else f"uid:{caller.uid}"


class Quota:
    """How many things of one kind a user or a job may have at a time.

    sentence: what they are and how to have fewer; it goes on after "you have N ".
    """

    def __init__(self, limit: int, sentence: str) -> None:
        self._limit = limit
        self._sentence = sentence
        self._held: Counter[str] = Counter()

    def hold(self, caller: Caller) -> None:
        """Count one more. Raises OSError EMFILE."""
        key = maker_key(caller)
        if self._held[key] >= self._limit:
            raise fault(errno.EMFILE, f"you have {self._limit} {self._sentence}")
        self._held[key] += 1

    def drop(self, caller: Caller) -> None:
        """Count one less."""
        key = maker_key(caller)
        self._held[key] -= 1
        if self._held[key] <= 0:
            del self._held[key]


def talk_quota(limit: int = QUOTA, idle_s: float = IDLE_S) -> Quota:
    """Make the quota of conversations."""
    return Quota(
        limit,
        "conversations here; write close to the ctl of one, or wait"
        f" {idle_s:g} s after the last close of its files",
    )


@define(eq=False)
class Conversation:
    """One conversation. `at_end` is called when it ends, whoever ends it."""

    number: int
    maker: Caller
    _among: "Conversations"
    at_end: list[Callable[[], object]] = field(factory=list, init=False)
    inner: "list[Conversations]" = field(factory=list, init=False)
    ended: bool = field(default=False, init=False)
    idle_since: float | None = field(default=None, init=False)
    _uses: int = field(default=0, init=False)

    def enter(self, caller: Caller) -> None:
        """Count an open file. Raises OSError: EACCES for another's, ENOENT when it has ended."""
        if maker_key(caller) != maker_key(self.maker):
            raise fault(errno.EACCES, f"conversation {self.number} belongs to another")
        if self.ended:
            raise fault(errno.ENOENT, f"conversation {self.number} has ended; read `new` again")
        outer = self._among.within
        if outer is not None:
            outer.enter(caller)
        self._uses += 1
        self.idle_since = None

    def leave(self) -> None:
        """Count a close; with the last one the idle time begins."""
        self._uses -= 1
        if not self._uses:
            self.idle_since = self._among.clock()
            self._among.idle()
        outer = self._among.within
        if outer is not None:
            outer.leave()

    def end(self) -> None:
        """End it: its name is gone. What is open stays so, and ends as its service says."""
        if self.ended:
            return
        self._among.gone(self)
        self.finish()

    def finish(self) -> None:
        """Call what is to be called at its end."""
        self.ended = True
        for call in self.at_end:
            try:
                call()
            except Exception:
                log.exception("the end of conversation %d failed", self.number)

    def facts(self) -> dict[str, object]:
        """Tell what a `status` shows of its life."""
        return {
            "number": self.number,
            "open-files": self._uses,
            "idle-limit": f"{self._among.idle_s:g}",
        }


class Conversations:
    """The conversations of one `new`; the numbered names beside it.

    begin gives the rows of one that is made. within: the conversation that these are part of; they
    keep it alive, and end with it. The clock is trio's.
    """

    def __init__(
        self,
        service: Service,
        begin: Callable[[Conversation], Rows],
        *,
        quota: int | Quota = QUOTA,
        idle_s: float = IDLE_S,
        within: Conversation | None = None,
        bell: Bell | None = None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        """Make none yet. quota and bell: those that others share, where somebody else runs them."""
        self.service = service
        self.idle_s = idle_s
        self.within = within
        self.clock = clock
        self._begin = begin
        self._quota = talk_quota(quota, idle_s) if isinstance(quota, int) else quota
        self._numbers = itertools.count(1)
        self._live: dict[str, tuple[Conversation, TableDirectory]] = {}
        self._bell: Bell = bell or (Bell() if within is None else within._among._bell)
        self._directory: TableDirectory | None = None
        if within is not None:
            within.inner.append(self)
            within.at_end.append(self.end_all)

    # As the children of a directory --------------------------------------------------------------

    def find(self, name: str) -> Node | None:
        """Find a conversation by its number."""
        found = self._live.get(name)
        return found[1] if found is not None else None

    def names(self) -> list[str]:
        """List the numbers."""
        return list(self._live)

    def placed(self, directory: TableDirectory) -> None:
        """Learn in which directory they are."""
        self._directory = directory

    # Beginning and ending ------------------------------------------------------------------------

    def hold(self, caller: Caller) -> None:
        """Count one for its maker, before it is made. Raises OSError EMFILE."""
        self._quota.hold(caller)

    def drop(self, caller: Caller) -> None:
        """Count one less."""
        self._quota.drop(caller)

    def start(self, caller: Caller) -> Conversation:
        """Make one that was counted, in use by whoever makes it."""
        talk = Conversation(next(self._numbers), caller, self)
        owner = Owner(uid=caller.uid, gid=caller.gid)
        directory = self._directory
        if directory is None:
            raise ValueError("conversations need a folder: Folder(rows, children=conversations)")
        try:
            folder = Folder(self._begin(talk))
        except BaseException:
            talk.finish()
            raise
        tree = TableDirectory(
            self.service, folder, 0o500, owner=owner, guard=talk, now=directory.now
        )
        # Its name may be gone at the next look, before an announcement has gone round.
        tree.caching = 0.0
        talk.enter(caller)
        self._live[str(talk.number)] = talk, tree
        self.service.entry_changed(directory.qid, str(talk.number))
        return talk

    def gone(self, talk: Conversation) -> None:
        """Forget one that has ended."""
        del self._live[str(talk.number)]
        self.drop(talk.maker)
        if self._directory is not None:
            self.service.entry_changed(self._directory.qid, str(talk.number))

    def end_all(self) -> None:
        """End all of them."""
        for talk, _ in list(self._live.values()):
            talk.end()

    # Idle ones -----------------------------------------------------------------------------------

    def idle(self) -> None:
        """Have the idle time of one begin."""
        self._bell.ring()

    def expire(self) -> float:
        """End those whose idle time is over; gives when the next one's will be."""
        soonest = math.inf
        now = self.clock()
        for talk, _ in list(self._live.values()):
            for inner in talk.inner:
                soonest = min(soonest, inner.expire())
            if talk.idle_since is None:
                continue
            due = talk.idle_since + self.idle_s
            if due <= now:
                talk.end()
            else:
                soonest = min(soonest, due)
        return soonest

    async def run(self) -> None:
        """End idle conversations when their time has come, and all when cancelled.

        A task of the service; those within a conversation are seen to by the task of the outer.
        """
        try:
            while True:
                wait = max(self.expire() - self.clock(), 0)
                with trio.move_on_after(wait):
                    await self._bell.wait()
        finally:
            self.end_all()


class New(Handler):
    """The file whose first read makes a conversation and gives its number, once per open."""

    reads = True
    makes = True

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    async def open(self, opening: Opening) -> Handle:
        self._conversations.hold(opening.caller)
        return _NewHandle(self._conversations, opening.caller)


class _NewHandle(Handle):
    def __init__(self, conversations: Conversations, caller: Caller) -> None:
        self._conversations = conversations
        self._caller = caller
        self._talk: Conversation | None = None

    def try_read(self, size: int, offset: int) -> bytes:
        if size < 0 or offset < 0:
            raise fault(errno.EINVAL, "sizes and offsets are not negative")
        if self._talk is None:
            self._talk = self._conversations.start(self._caller)
        return (b"%d\n" % self._talk.number)[offset : offset + size]

    def ready(self, wake: Callable[[], None] | None) -> int:
        return READABLE

    def close(self) -> None:
        if self._talk is None:
            self._conversations.drop(self._caller)
        else:
            self._talk.leave()

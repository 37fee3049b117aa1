"""Errors: an errno that a Unix user expects, and a sentence that says what to do.

FUSE and WASI carry only the number. The sentences are kept here, a few for each session, and read
back from `/dev/errstr`.
"""

import errno
import logging
from collections import OrderedDict, deque
from collections.abc import Callable

from oanix.caller import Caller

log = logging.getLogger(__name__)

SENTENCES = 10
"""How many sentences are kept for one session."""

SESSIONS = 256
"""For how many sessions sentences are kept; the one silent the longest goes first."""


def fault(number: int, sentence: str, path: str | None = None) -> OSError:
    """Make the error with this errno and this sentence; Python picks the subclass by the number."""
    return OSError(number, sentence, path) if path is not None else OSError(number, sentence)


class Missing(FileNotFoundError):
    """ENOENT without a sentence: the answer to most lookups, made by the thousand."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.ENOENT, "No such file or directory", name)


class Denied(PermissionError):
    """EACCES by a rule: says which one, and the rule that would allow it (`/dev/why`)."""

    def __init__(self, sentence: str, *, what: str, rule: str, remedy: str) -> None:
        """Make it: what was asked, which rule refused that, and a rule that would allow it."""
        super().__init__(errno.EACCES, sentence)
        self.what = what
        self.rule = rule
        self.remedy = remedy


def errno_of(error: BaseException) -> int:
    """Map any error to the errno that a door answers with.

    An OSError keeps its number. Anything else is a defect of ours: EIO (see `Sentences.report`).
    """
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return errno.EIO


Listener = Callable[[BaseException, str], None]
"""Hears of an error, and of what failed with it, as in "open /logs/x"."""


class Sentences:
    """The last sentences of each session, newest last (`/dev/errstr`)."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, deque[str]] = OrderedDict()
        self._denied: OrderedDict[str, Denied] = OrderedDict()
        self._listeners: dict[str, Listener] = {}

    def listen(self, caller: Caller, listener: "Listener | None") -> None:
        """Call back at every error of the caller's session from now on; None: no more."""
        if listener is None:
            self._listeners.pop(caller.session_key, None)
        else:
            self._listeners[caller.session_key] = listener

    def report(self, error: BaseException, caller: Caller, what: str) -> int:
        """Map an error to its errno, remember what it says, and log what is a defect of ours.

        what: the operation and its path, as in "open /logs/x". This is the one place where a door
        turns an exception into a number.
        """
        number = errno_of(error)
        if self._listeners and (listener := self._listeners.get(caller.session_key)):
            listener(error, what)
        if isinstance(error, OSError) and error.errno:
            if isinstance(error, Denied):
                self._refused(error, caller)
            if not isinstance(error, Missing):
                self.add(caller, f"{what}: {error.strerror or errno.errorcode.get(number, number)}")
            return number
        log.error("request=%s %s failed with %r", caller.request, what, error, exc_info=error)
        self.add(caller, f"{what}: internal error ({type(error).__name__}); the log has the rest")
        return number

    def add(self, caller: Caller, sentence: str) -> None:
        """Keep a sentence for the caller's session."""
        key = caller.session_key
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = deque(maxlen=SENTENCES)
            if len(self._kept) > SESSIONS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        # One sentence a line, whatever the names in it hold.
        kept.append(
            sentence.encode("unicode_escape").decode("ascii") if not _plain(sentence) else sentence
        )

    def _refused(self, error: Denied, caller: Caller) -> None:
        self._denied[caller.session_key] = error
        self._denied.move_to_end(caller.session_key)
        if len(self._denied) > SESSIONS:
            self._denied.popitem(last=False)

    def why(self, caller: Caller) -> Denied | None:
        """Give the last refusal by a rule that the caller's session met."""
        return self._denied.get(caller.session_key)

    def of(self, caller: Caller) -> list[str]:
        """List what is kept for the caller's session, newest last."""
        return list(self._kept.get(caller.session_key, ()))


def _plain(sentence: str) -> bool:
    return sentence.isprintable()

"""Send what the kernel must forget, from a thread of its own.

A notification waits while a request for the same inode is under way, and that request may need the
trio thread: so none is ever sent from there. What is queued already is not queued again.
"""

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

Notice = tuple[int, bytes | None]


class Notices:
    """A queue of notices and the thread that sends them with the binding's two functions."""

    def __init__(
        self, send_inode: Callable[[int], None], send_entry: Callable[[int, bytes], None]
    ) -> None:
        self._send_inode = send_inode
        self._send_entry = send_entry
        self._queue: queue.SimpleQueue[Notice | None] = queue.SimpleQueue()
        self._queued: set[Notice] = set()
        self._thread = threading.Thread(target=self._run, name="fuse-notices", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Send what is queued and end the thread."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.warning("the kernel still holds a notification; it ends with the mount")

    def inode(self, number: int) -> None:
        """Let the kernel forget the attributes and pages of an inode."""
        self._put((number, None))

    def entry(self, parent: int, name: bytes) -> None:
        """Let the kernel forget a name."""
        self._put((parent, name))

    def _put(self, notice: Notice) -> None:
        if notice not in self._queued:
            self._queued.add(notice)
            self._queue.put(notice)

    def _run(self) -> None:
        while (notice := self._queue.get()) is not None:
            # Before it is sent: a change that comes while it is sent needs a notice of its own.
            self._queued.discard(notice)
            number, name = notice
            try:
                if name is None:
                    self._send_inode(number)
                else:
                    self._send_entry(number, name)
            except FileNotFoundError:
                continue  # the kernel does not know it, so it has nothing to forget
            except OSError as error:
                log.warning("notice for inode %d failed: %s", number, error)

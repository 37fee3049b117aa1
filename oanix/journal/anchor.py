"""Anchor: the head of a journal, kept in a second place and authenticated with a key.

Who can change the journal but not the key cannot make an anchor that fits what was changed. The
file is replaced after what it knows is on the disk.
"""

import errno
import hmac
import json
import os
from collections.abc import Callable

from attrs import field, frozen

from oanix.errors import fault
from oanix.journal.chain import GENESIS

Authenticator = Callable[[bytes], bytes]
"""Makes the tag of some bytes under a key."""

ANCHOR_BYTES_MAX = 65_536


@frozen
class Head:
    """Where a journal begins (the last record that was pruned) and where it ends."""

    count: int = 0
    hash: str = GENESIS
    pruned: int = 0
    pruned_hash: str = GENESIS
    time: str = ""
    tag: str = field(default="", eq=False)

    def content(self, name: str) -> bytes:
        """Give the bytes that the tag is made of; they name the journal, so no other's fits."""
        said = [name, self.count, self.hash, self.pruned, self.pruned_hash, self.time]
        return json.dumps(["oanix anchor 1", *said]).encode("ascii")


@frozen
class Anchor:
    """The anchor of one journal: its file, and the key if one may be had."""

    path: str
    authenticator: Authenticator | None = None

    @property
    def name(self) -> str:
        """Name the journal that it belongs to."""
        return os.path.basename(self.path)

    def read(self) -> Head | None:
        """Read it; None where there is none. Raises OSError: EBADMSG for what is no anchor."""
        try:
            with open(self.path, "rb") as file:
                text = file.read(ANCHOR_BYTES_MAX)
        except FileNotFoundError:
            return None
        try:
            said = json.loads(text)
            head = Head(
                int(said["count"]), str(said["hash"]), int(said["pruned"]),
                str(said["pruned_hash"]), str(said["time"]), str(said["tag"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise fault(errno.EBADMSG, "this is no anchor of a journal", self.path) from None
        if not 0 <= head.pruned <= head.count:
            raise fault(errno.EBADMSG, "this is no anchor of a journal", self.path)
        return head

    def write(self, head: Head) -> bool:
        """Replace it, and tell whether it could be authenticated. Raises OSError.

        After a power cut it is the new one or the one before, whole; see `settle`.
        """
        tag = self.tag_of(head)
        said = {
            "count": head.count, "hash": head.hash, "pruned": head.pruned,
            "pruned_hash": head.pruned_hash, "time": head.time, "tag": tag or "",
        }  # fmt: skip
        os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
        temporary = f"{self.path}.new"
        with open(temporary, "wb", opener=_private) as file:
            file.write(json.dumps(said).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
        return tag is not None

    def settle(self) -> None:
        """Let no power cut bring back the one before: what that one knows may go from now on."""
        sync_folder(os.path.dirname(self.path))

    def tag_of(self, head: Head) -> str | None:
        """Make the tag of a head, or None while there is no key."""
        if self.authenticator is None:
            return None
        return self.authenticator(head.content(self.name)).hex()

    def fits(self, head: Head) -> bool | None:
        """Tell whether the tag of a head is genuine, or None while there is no key to tell."""
        tag = self.tag_of(head)
        return (
            None
            if tag is None
            else hmac.compare_digest(tag.encode(), head.tag.encode(errors="replace"))
        )


def sync_folder(path: str) -> None:
    """Make the names of a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

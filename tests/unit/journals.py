"""Journals for tests: a tree with a capability, a key, and ways to write some records."""

import errno
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from attrs import define, field

from oanix.caller import Caller
from oanix.client import Client
from oanix.errors import fault
from oanix.journal import Anchor, Authenticator, Finding, Journal, Limits, lines, verify
from oanix.namespace import Namespace
from tests.unit.trees import Tree

ME = Caller(uid=1000, pid=7, session="3", request="r1", door="test")


class Capable(Tree):
    """A tree that is a capability."""

    name = "cap"
    capability = True


def key(data: bytes) -> bytes:
    return hmac.digest(b"key of the vault", data, hashlib.sha256)


@define
class Clock:
    """A clock that a test sets."""

    time: float = 1_800_000_000.0
    step: float = 0.001

    def __call__(self) -> float:
        self.time += self.step
        return self.time


@define
class Kept:
    """A journal's places in a folder."""

    folder: Path
    clock: Clock = field(factory=Clock)
    authenticator: Callable[[bytes], bytes] | None = key

    @property
    def journal(self) -> str:
        return str(self.folder / "journal")

    @property
    def anchor(self) -> Anchor:
        return Anchor(str(self.folder / "anchors" / "one"), self.authenticator)

    @property
    def anchor_file(self) -> Path:
        return Path(self.anchor.path)

    @property
    def segments(self) -> list[Path]:
        return sorted(Path(self.journal).glob("*.jsonl"))

    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for _, line in lines(self.journal)]

    def operations(self) -> list[dict[str, object]]:
        """The records of what somebody did, not of the journal itself."""
        return [record for record in self.records() if "who" in record]

    def verify(self) -> Finding:
        return verify(self.journal, self.anchor)

    def make(self, limits: Limits | None = None, *, queue_max: int = 100_000) -> Journal:
        return Journal(
            self.journal, self.anchor.path, key=self._key, limits=limits, now=self.clock,
            queue_max=queue_max,
        )  # fmt: skip

    def _key(self) -> Authenticator:
        if self.authenticator is None:
            raise fault(errno.EACCES, "the vault is locked")
        return self.authenticator

    @asynccontextmanager
    async def recording(
        self, limits: Limits | None = None, *, queue_max: int = 100_000
    ) -> AsyncIterator[tuple[Client, Journal]]:
        """A namespace whose operations are recorded: `/` a tree, `/cap` a capability."""
        namespace = Namespace()
        tree = {"f": b"content", "d": {"x": b"1"}}
        namespace.mount(Tree(tree), "/")
        namespace.mount(Capable({"call": b"answer", "q?key=secret&b": b"x"}), "/cap")
        journal = self.make(limits, queue_max=queue_max)
        async with journal.running():
            journal.observe(namespace)
            yield Client(namespace, ME), journal

    async def write(self, names: Iterable[str], limits: Limits | None = None) -> None:
        """Record the making of directories `made-NAME`."""
        async with self.recording(limits) as (client, journal):
            for name in names:
                client.mkdir(f"/made-{name}")
                if limits is not None:
                    await journal.flush()

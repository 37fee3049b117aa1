"""Modules: the bytes of what jobs run, by their hash, so that a job can be ordered by that."""

import errno
import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio
from attrs import evolve, frozen

from oanix.client import Client
from oanix.errors import fault
from oanix.scheduler.engine import BadModule
from oanix.scheduler.engine.engine import MODULE_MAX

STORED_BYTES: Final = 2 << 30
"""How much of modules is kept on the disk; those that were not used the longest go."""


@frozen
class Stored:
    """A module on the disk. path: its bytes; compiled: the folder for what is made of them.

    fresh: whether it was not there before.
    """

    digest: str
    path: Path
    size: int
    compiled: Path
    fresh: bool = False


class Modules:
    """The modules of one server: kept by their hash, and compiled where they run."""

    def __init__(self, folder: Path) -> None:
        """Make it; the folder is made when something is kept."""
        self.stored = folder / "modules"
        self._compiled = folder / "compiled"
        self._keeping = trio.CapacityLimiter(1)
        self.compiled_by_workers = folder / "compiled-by-workers"
        """Theirs alone: what lies there is run as it is, and the server does not run it."""

    async def find(self, name: str, client: Client) -> Stored:
        """Find a module by its path in a namespace, or by its hash; it is kept by its hash.

        Raises OSError as reading it does, ENOENT for a hash that is not known; BadModule.
        """
        if name.startswith("sha256:"):
            return self._known(name.removeprefix("sha256:"))
        try:
            data = await client.read(name, limit=MODULE_MAX)
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise BadModule(f"a module has at most {MODULE_MAX} bytes") from None
            raise
        return await self.keep(data)

    async def keep(self, data: bytes) -> Stored:
        """Keep a module. Raises OSError as the disk does."""
        return await trio.to_thread.run_sync(self._store, data, limiter=self._keeping)

    def _known(self, digest: str) -> Stored:
        path = self.stored / digest
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise fault(errno.ENOENT, f"no module sha256:{digest[:12]}… ran here before") from None
        os.utime(path)
        return Stored(digest, path, size, self._compiled)

    def _store(self, data: bytes) -> Stored:
        digest = hashlib.sha256(data).hexdigest()
        self.stored.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.stored / digest
        fresh = not path.exists()
        if fresh:
            new = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            new.write_bytes(data)
            os.replace(new, path)
            self._trim()
        return evolve(self._known(digest), fresh=fresh)

    def _trim(self) -> None:
        found = []
        with os.scandir(self.stored) as entries:
            for entry in entries:
                # Other processes keep modules here, too: what was there may have another name now.
                with suppress(FileNotFoundError):
                    seen = entry.stat()
                    found.append((seen.st_mtime, seen.st_size, entry.path))
        total = 0
        for _, size, path in sorted(found, reverse=True):
            total += size
            if total > STORED_BYTES:
                Path(path).unlink(missing_ok=True)

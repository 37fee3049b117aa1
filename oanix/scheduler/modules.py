"""Modules: the bytes of what jobs run, by their hash, so that a job can be ordered by that."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Final

import trio

from oanix.client import Client
from oanix.errors import fault
from oanix.scheduler.engine import BadModule, Engine, Module
from oanix.scheduler.engine.engine import MODULE_MAX

LOADED: Final = 32
"""Compiled modules that stay in memory."""

STORED_BYTES: Final = 2 << 30
"""How much of modules is kept on the disk; those that were not used the longest go."""


class Modules:
    """The modules of one server: kept, compiled, and loaded once."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        """Make it; the folder is made when something is kept."""
        self._stored = folder / "modules"
        self._compiled = folder / "compiled"
        self._engine = engine
        self._loaded: dict[str, Module] = {}

    async def find(self, name: str, client: Client) -> Module:
        """Load a module by its path in a namespace, or by its hash.

        Raises OSError as reading it does, ENOENT for a hash that is not known; BadModule.
        """
        if name.startswith("sha256:"):
            digest = name.removeprefix("sha256:")
            return self._loaded.get(digest) or await self.load(await self._stored_bytes(digest))
        try:
            data = await client.read(name, limit=MODULE_MAX)
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise BadModule(f"a module has at most {MODULE_MAX} bytes") from None
            raise
        return await self.load(data)

    async def load(self, data: bytes) -> Module:
        """Load a module from its bytes, and keep them. Raises BadModule."""
        digest = hashlib.sha256(data).hexdigest()
        module = self._loaded.pop(digest, None)
        if module is None:
            module = await self._engine.load(data, self._compiled)
            await trio.to_thread.run_sync(self._store, digest, data)
        self._loaded[digest] = module
        while len(self._loaded) > LOADED:
            del self._loaded[next(iter(self._loaded))]
        return module

    async def _stored_bytes(self, digest: str) -> bytes:
        path = self._stored / digest
        try:
            data = await trio.to_thread.run_sync(path.read_bytes)
        except FileNotFoundError:
            raise fault(errno.ENOENT, f"no module sha256:{digest[:12]}… ran here before") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise fault(errno.EIO, f"what is kept as sha256:{digest[:12]}… is something else")
        return data

    def _store(self, digest: str, data: bytes) -> None:
        self._stored.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._stored / digest
        if path.exists():
            os.utime(path)
            return
        new = path.with_suffix(f".{os.getpid()}")
        new.write_bytes(data)
        os.replace(new, path)
        self._trim()

    def _trim(self) -> None:
        found = sorted(
            ((entry.stat().st_mtime, entry.stat().st_size, entry.path)
             for entry in os.scandir(self._stored)), reverse=True,
        )  # fmt: skip
        total = 0
        for _, size, path in found:
            total += size
            if total > STORED_BYTES:
                os.unlink(path)

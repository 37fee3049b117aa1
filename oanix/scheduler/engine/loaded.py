"""Loaded: the modules that an engine has in memory, so that a guest of one starts at once."""

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import trio
from attrs import evolve

from oanix.scheduler.engine.ending import GuestLimits
from oanix.scheduler.engine.engine import BadModule, Engine, Module

MOST: Final = 32
"""Modules that stay in memory; those that were not used the longest go."""


class Loaded:
    """The modules of one engine. given: a folder of what another has compiled, and it may run."""

    def __init__(self, engine: Engine, given: Path | None = None) -> None:
        self.engine = engine
        self._given = given
        self._modules: OrderedDict[str, Module] = OrderedDict()
        self._loading: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    async def get(self, digest: str, path: Path, compiled: Path) -> Module:
        """Give a module. path: its bytes; compiled: the folder for what is made of them.

        Raises BadModule, also for bytes that are not those of the hash; OSError as `Engine.load`.
        """
        found = self._modules.get(digest)
        if found is None:
            # Whoever waits for the same module finds it loaded; others do not wait for it.
            async with self._loading.setdefault(digest, trio.Lock()):
                found = self._modules.get(digest) or await self._load(digest, path, compiled)
        self._modules[digest] = found
        self._modules.move_to_end(digest)
        while len(self._modules) > MOST:
            self._modules.popitem(last=False)
        return found

    async def _load(self, digest: str, path: Path, compiled: Path) -> Module:
        # What was made of these bytes is found by their hash: they need not be read again.
        found = self.engine.kept(digest, compiled)
        if found is None and self._given is not None:
            found = self.engine.kept(digest, self._given)
        if found is not None:
            return found
        data = await trio.to_thread.run_sync(path.read_bytes)
        if hashlib.sha256(data).hexdigest() != digest:
            raise BadModule(f"what is kept as sha256:{digest[:12]}… is something else")
        return await self.engine.load(data, compiled)


async def in_time(
    limits: GuestLimits, loading: Awaitable[Module]
) -> tuple[Module | None, GuestLimits]:
    """Load a module in the time of its guest: a large one takes long to compile.

    Gives it, or None when the time was up before, and what the guest may use from here on.
    """
    began, module = trio.current_time(), None
    with trio.move_on_after(limits.wall):
        module = await loading
    took = trio.current_time() - began
    return module, evolve(limits, wall=max(limits.wall - took, 0.0))

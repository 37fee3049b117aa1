"""The tree: a directory a kind, with its manifest, its README and what it runs; read-only.

A file is read when it is opened, and is refused when it is not what the manifest says. What the
owner installs and removes shows at the next look.
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

import trio

from oanix.kit import (
    Folder,
    Handler,
    Opening,
    Row,
    Snapshot,
    TableDirectory,
    TableService,
    Text,
)
from oanix.lib.agents import Installed, KindStore, usage
from oanix.node import Handle, Node


class AgentsFs(TableService):
    """The kinds of agents that can be run.

    <kind>/README         how it is used, and what it does
    <kind>/manifest.json  what it needs and why, its arguments, default recipe, limits, hashes
    <kind>/…              what it runs: a module (module.wasm) or a program (main.js)

    cat agents/scaffold/README
    n=$(cat jobs/new); echo '{"kind": "scaffold", "args": ["landing"]}' >jobs/$n/spec
    echo start >jobs/$n/ctl; cat jobs/$n/wait

    On the command line: oanix agent list, info KIND, run KIND, install FILE, remove KIND.
    """

    name: ClassVar[str] = "agents"

    def __init__(
        self, folder: Path | None = None, *, store: KindStore | None = None,
        now: Callable[[], int] = time.time_ns,
    ) -> None:  # fmt: skip
        """Make it. folder: where installed kinds are; None shows those that ship with OANIX."""
        super().__init__(now=now)
        self.store = store or KindStore(folder)
        self.grow([], _Kinds(self))


class _Kinds:
    """The directories of the kinds."""

    def __init__(self, service: AgentsFs) -> None:
        self._service = service
        self._made: dict[str, tuple[tuple[int, int], TableDirectory]] = {}

    def find(self, name: str) -> Node | None:
        """Find a kind: the same directory for as long as it is the same."""
        found = self._service.store.find(name)
        if found is None:
            self._made.pop(name, None)
            return None
        stamp = found.stamp()
        made = self._made.get(name)
        if made is None or made[0] != stamp:
            made = self._made[name] = stamp, _directory(self._service, found)
        return made[1]

    def names(self) -> list[str]:
        """List the kinds."""
        return self._service.store.names()

    def placed(self, directory: TableDirectory) -> None:
        """Learn in which directory they are."""


def _directory(service: AgentsFs, kind: Installed) -> TableDirectory:
    files: list[tuple[str, Handler]] = [(name, _Kept(kind, name)) for name in kind.files()]
    if "README" not in kind.files():
        files.append(("README", Text(_readme(kind))))
    made = TableDirectory(service, Folder(_rows(files)), now=service.now)
    # It may be gone at the next look.
    made.caching = 0.0
    return made


def _rows(files: Iterable[tuple[str, Handler]]) -> list[Row]:
    rows: list[Row] = []
    folders: dict[str, list[tuple[str, Handler]]] = {}
    for name, handler in files:
        first, slash, rest = name.partition("/")
        if slash:
            folders.setdefault(first, []).append((rest, handler))
        else:
            rows.append((first, 0o444, handler))
    return rows + [(name, 0o555, Folder(_rows(within))) for name, within in folders.items()]


def _readme(kind: Installed) -> str:
    if kind.manifest is None:
        return f"This kind is broken: {kind.broken}\nRemove it: oanix agent remove {kind.name}\n"
    return usage(kind.manifest, f"oanix agent run {kind.name}")


class _Kept(Handler):
    """A file of a kind, read and compared with its hash when it is opened."""

    reads = True

    def __init__(self, kind: Installed, name: str) -> None:
        self._kind = kind
        self._name = name

    def size(self) -> int:
        try:
            return os.stat(self._kind.folder / self._name).st_size
        except FileNotFoundError:
            return 0

    async def open(self, opening: Opening) -> Handle:
        # A module may have many megabytes.
        data = await trio.to_thread.run_sync(self._kind.read, self._name)
        return Snapshot(data, opening.file)

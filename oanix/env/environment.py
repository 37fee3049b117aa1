"""OanixEnv: a namespace with everything that makes it live."""

import itertools
import logging
import os
import resource
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    closing,
)
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from attrs import define, field, frozen

from oanix.assembly import Context, build, directories, kinds_folder, uses_secrets
from oanix.env.registry import Run, ServiceStatus, registered, runs
from oanix.env.state import (
    Holder,
    cache_folder,
    lock,
    make_state,
    read_holder,
    state_folder,
    try_lock,
    try_lock_directory,
)
from oanix.journal import Journal, JournalPlace
from oanix.namespace import Namespace
from oanix.recipe import Placed, parse

if TYPE_CHECKING:
    from oanix.lib.vault import Key, Vault
    from oanix.service import Service

log = logging.getLogger(__name__)

JOURNALS_MAX = 100
"""Servers of one recipe that can run at once, each with a journal of its own."""


@frozen(kw_only=True)
class Serving:
    """How a server shows itself to `oanix ps`: where it is mounted, what it serves, its log."""

    mountpoint: str
    serves: str
    log: str = ""


def _none() -> int:
    return 0


@define(eq=False)
class OanixEnv:
    """A namespace, its state folder and its services, which run for as long as it is open.

    operations: how many operations there were so far, as the door counts them. journal: what
    records them, if anything does.
    """

    namespace: Namespace
    state: str
    operations: Callable[[], int] = _none
    journal: Journal | None = None
    _since: float = field(factory=time.time)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        lines: Sequence[Placed],
        context: Context,
        *,
        state: str | None = None,
        serving: Serving | None = None,
        patience_s: float = 0.0,
        key: "Key | None" = None,
        journal: JournalPlace | None = None,
    ) -> AsyncIterator["OanixEnv"]:
        """Build a namespace and run its services for as long as the block.

        key: what unlocks the vault of the state folder; without it, secrets stay locked. journal:
        where to record what is done, if anywhere; without `serving`, only when something is. Only
        with `serving` is it listed in the registry.

        The parts of the state folder that the recipe names are locked: Busy (EAGAIN) is raised when
        another server holds one, after `patience_s` when that server will soon end. Other errors
        are OSError: RecipeError, and what a service says when it starts. However the block is left,
        every service is stopped, the last mounted first, and every lock is free.
        """
        state = state or state_folder()
        make_state(state)
        os.makedirs(kinds_folder(state), 0o700, exist_ok=True)
        holder = Holder(os.getpid(), serving.mountpoint if serving else "")
        with ExitStack() as locks:
            await _claim(locks, _Claims.of(lines, context, state), holder, patience_s)
            vault = locks.enter_context(await _vault(state, key)) if uses_secrets(lines) else None
            if vault is not None and serving is not None:
                # What a server that crashes leaves behind must not hold the values.
                most = resource.getrlimit(resource.RLIMIT_CORE)[1]
                resource.setrlimit(resource.RLIMIT_CORE, (0, most))
            serves = serving is not None
            cache = Path(cache_folder())
            env = cls(build(lines, context, vault=vault, serves=serves, cache=cache), state)
            async with AsyncExitStack() as running:
                if journal is not None:
                    kept = _journal(journal, vault, quiet=serving is None)
                    env.journal = await running.enter_async_context(kept)
                    env.journal.observe(env.namespace)
                for service in _in_order(env.namespace):
                    await running.enter_async_context(service.running())
                if serving is None:
                    yield env
                    return
                with registered(state, lambda: env.describe(serving)) as registration:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(registration.keep)
                        yield env
                        nursery.cancel_scope.cancel()

    def describe(self, serving: Serving) -> Run:
        """Say what runs, as `oanix ps` shows it."""
        return Run(
            pid=os.getpid(),
            mountpoint=serving.mountpoint,
            serves=serving.serves,
            since=self._since,
            uid=os.geteuid(),
            recipe=self.namespace.recipe(),
            operations=self.operations(),
            log=serving.log,
            journal=self.journal.folder if self.journal else "",
            journal_warning=self.journal.status().get("warning", "") if self.journal else "",
            services=self.services(),
        )

    def services(self) -> list[ServiceStatus]:
        """List the services that are mounted now, with what each says of itself."""
        paths: dict[Service, list[str]] = {}
        for path, entry in self.namespace.entries():
            paths.setdefault(entry.service, []).append(path)
        return [
            ServiceStatus(name=service.name, paths=mounted, status=service.status())
            for service, mounted in paths.items()
        ]


async def _vault(state: str, key: "Key | None") -> "AbstractContextManager[Vault]":
    # Its libraries are not loaded for a namespace without secrets.
    from oanix.lib.vault import FILE, Vault

    vault = Vault.open(os.path.join(state, FILE))
    kept = vault.kept()
    try:
        if kept is not None and key is not None:
            vault.admit(await trio.to_thread.run_sync(key.unwrap, kept))
    except OSError as error:
        log.warning("the vault stays locked: %s", error.strerror)
    except BaseException:
        vault.close()
        raise
    return closing(vault)


@asynccontextmanager
async def _journal(
    place: JournalPlace, vault: "Vault | None", *, quiet: bool
) -> AsyncIterator[Journal]:
    # Several servers of one recipe have journals beside each other.
    key = partial(vault.authenticator, "journal") if vault is not None else None
    async with AsyncExitStack() as running:
        for number in itertools.count(1):
            at = place.beside(number)
            journal = Journal(at.folder, at.anchor, key=key, quiet=quiet)
            try:
                await running.enter_async_context(journal.running())
                break
            except BlockingIOError:
                if number == JOURNALS_MAX:
                    raise
        yield journal


def _in_order(namespace: Namespace) -> "list[Service]":
    # As they were mounted, each once.
    entries = sorted((entry for _, entry in namespace.entries()), key=lambda entry: entry.number)
    return list(dict.fromkeys(entry.service for entry in entries))


@frozen
class _Claims:
    """What a recipe needs for itself: folders of the state with parts of them, and directories."""

    state: str
    folders: dict[str, list[str]]
    directories: list[str]

    @classmethod
    def of(cls, lines: Sequence[Placed], context: Context, state: str) -> "_Claims":
        top = os.path.realpath(os.path.join(state, "workspaces"))
        folders: dict[str, list[str]] = {}
        for directory in map(os.path.realpath, directories(lines, context)):
            if directory.startswith(f"{top}/"):
                name = directory[len(top) + 1 :].split("/")[0]
                folders.setdefault(os.path.join(top, name), []).append(directory)
        alone = map(os.path.realpath, directories(lines, context, exclusive=True))
        return cls(state, folders, sorted(set(alone)))


async def _claim(locks: ExitStack, claims: _Claims, holder: Holder, patience_s: float) -> None:
    # In order, so that two servers that need the same never wait for each other.
    for folder, parts in sorted(claims.folders.items()):
        os.makedirs(folder, 0o700, exist_ok=True)
        file = os.path.join(folder, "lock")
        await lock(
            locks,
            partial(try_lock, file, holder),
            partial(read_holder, file),
            what="the state of this directory (its logs and build outputs)",
            patience_s=patience_s,
        )
        for part in parts:
            os.makedirs(part, 0o700, exist_ok=True)
    for directory in claims.directories:
        await lock(
            locks,
            partial(try_lock_directory, directory),
            partial(_server_of, directory, claims.state),
            what=directory,
            patience_s=patience_s,
        )


def _server_of(directory: str, state: str) -> Holder:
    # Which server says that it has this directory.
    for run in runs(state):
        named = directories(parse(run.recipe), Context("/"), exclusive=True)
        if directory in map(os.path.realpath, named):
            return Holder(run.pid, run.mountpoint)
    return Holder()

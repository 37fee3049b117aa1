"""Registry: what every server that runs says of itself, for `oanix ps` and for completion.

A server holds the lock in `run/<pid>.lock` and writes `run/<pid>.json`. Files whose lock is free
belong to a server that was killed; the next start removes them.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from attrs import asdict, evolve, field, frozen

from oanix.env.state import Holder, is_held, remove, try_lock, write_atomically

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""How often a server looks whether what it says of itself has changed."""


@frozen(kw_only=True)
class ServiceStatus:
    """One mounted service: where it is mounted, and what it says of itself."""

    name: str
    paths: list[str]
    status: dict[str, str] = field(factory=dict)

    @property
    def warning(self) -> str:
        """What a person should look at, or nothing."""
        return self.status.get("warning", "")


@frozen(kw_only=True)
class Run:
    """A server that runs. since is in seconds since the epoch; log is "" in the foreground.

    journal: the folder of its journal, and what is wrong with that.
    """

    pid: int
    mountpoint: str
    serves: str
    since: float
    uid: int
    recipe: str = ""
    operations: int = 0
    log: str = ""
    journal: str = ""
    journal_warning: str = ""
    services: list[ServiceStatus] = field(factory=list)

    @property
    def warnings(self) -> list[str]:
        """List the warnings of all services, and of the journal."""
        found = [f"{s.name}: {s.warning}" for s in self.services if s.warning]
        return [*found, self.journal_warning] if self.journal_warning else found


class Registration:
    """The entry of one server, kept up to date."""

    def __init__(self, path: str, tell: Callable[[], Run]) -> None:
        self._path = path
        self._tell = tell
        self._written: Run | None = None
        self._failed = False

    def update(self) -> None:
        """Write the entry when it says something new."""
        told = self._tell()
        if told == self._written:
            return
        self._write(told)

    async def keep(self) -> None:
        """Update the entry once a second, for ever."""
        while True:
            await trio.sleep(INTERVAL_S)
            told = self._tell()
            if told != self._written:
                await trio.to_thread.run_sync(self._write, told)

    def _write(self, told: Run) -> None:
        try:
            write_atomically(self._path, json.dumps(asdict(told)).encode())
            self._written, self._failed = told, False
        except OSError as error:
            # A full disk must not end the server; it is said once.
            if not self._failed:
                log.warning("cannot write %s: %s", self._path, error.strerror)
            self._failed = True


@contextmanager
def registered(state: str, tell: Callable[[], Run]) -> Iterator[Registration]:
    """Keep an entry for this process for as long as the block, and clean up after the dead."""
    folder = os.path.join(state, "run")
    os.makedirs(folder, 0o700, exist_ok=True)
    _clean(folder)
    pid, number = os.getpid(), 1
    while True:
        # A process that opens several environments has several entries.
        name = os.path.join(folder, f"{pid}" if number == 1 else f"{pid}-{number}")
        with _held(f"{name}.lock", Holder(pid)) as mine:
            if mine:
                registration = Registration(f"{name}.json", tell)
                registration.update()
                try:
                    yield registration
                finally:
                    remove(f"{name}.json")
                return
        number += 1


@contextmanager
def _held(path: str, holder: Holder) -> Iterator[bool]:
    with try_lock(path, holder) as mine:
        try:
            yield mine
        finally:
            if mine:
                remove(path)


def runs(state: str) -> list[Run]:
    """List the servers that run, oldest first."""
    folder = os.path.join(state, "run")
    found = [_read(os.path.join(folder, name)) for name in _names(folder)]
    return sorted((run for run in found if run), key=lambda run: (run.since, run.pid))


def _names(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.endswith(".json")]
    except FileNotFoundError:
        return []


def _read(path: str) -> Run | None:
    if not is_held(f"{path.removesuffix('.json')}.lock"):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            said: dict[str, Any] = json.load(file)
        services = [ServiceStatus(**service) for service in said.pop("services")]
        return evolve(Run(**said), services=services)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("cannot read %s: %s", path, error)
        return None


def _clean(folder: str) -> None:
    for name in _names(folder):
        path = os.path.join(folder, name)
        lock = f"{path.removesuffix('.json')}.lock"
        with _held(lock, Holder()) as dead:
            if dead:
                remove(path)

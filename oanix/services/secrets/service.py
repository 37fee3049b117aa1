"""The tree of SecretsFs."""

import errno
import logging
import os
import time
from collections.abc import Callable

import trio

from oanix.errors import fault
from oanix.kit import Folder, TableDirectory, TableService, Text, facts
from oanix.lib.vault import (
    DAMAGED,
    KEYRING,
    Backend,
    Key,
    Passphrase,
    RingKey,
    SecretRule,
    Vault,
    system_keyring,
)
from oanix.node import Node
from oanix.services.secrets.commands import Commands

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""How often uses are stored, and changes by other processes announced that nobody has looked at."""


class SecretsFs(TableService):
    """Keys that are used for you, and never shown.

    NAME/info   what is known of a secret: dates, uses, its rule, its state
    NAME/ctl    set VALUE, rotate VALUE, remove, and
                rule METHODS URL header NAME: TEXT (or query NAME=TEXT, or basic USER)
    status      whether the vault is unlocked
    ctl         new NAME, remove NAME, unlock [PASSPHRASE], lock

        echo 'new github' > ctl
        echo 'rule GET https://api.github.com/** header Authorization: Bearer {}' > github/ctl
        (printf 'set '; cat token.txt) > github/ctl

    {} is where the value goes. /cap/http attaches it to what the rule matches, and takes it out of
    answers. No file gives a value. Only the owner's namespace writes here. `oanix secret` does the
    same without showing the value to the shell.
    """

    name = "secrets"
    capability = True

    def __init__(
        self,
        vault: Vault,
        *,
        keyring: Callable[[], Backend | None] = system_keyring,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        """Make it over a vault that somebody else opens and closes."""
        super().__init__(now=now)
        self.vault = vault
        self.uid = os.geteuid()
        self._keyring = keyring
        self._secrets = _Secrets(self)
        # One at a time: scrypt takes 128 MiB, and guesses should be slow.
        self._unlocking = trio.CapacityLimiter(1)
        verbs = {"new": self._new, "remove": self._remove, "lock": self._lock}
        self.grow(
            (
                ("status", 0o400, Text(lambda opening: facts(self._status()))),
                ("ctl", 0o200, Commands(self.uid, verbs, {"unlock": self._unlock})),
            ),
            self._secrets,
            0o500,
        )
        self.spawn(self._look)

    def status(self) -> dict[str, str]:
        """Tell how the vault is; a locked or damaged one is a warning."""
        told = self._status()
        if told["vault"] == "locked":
            told["warning"] = "the vault is locked; do: oanix secret unlock MOUNTPOINT"
        damaged = [info.name for info in self.vault.list() if info.state == DAMAGED]
        if damaged:
            told["warning"] = f"changed outside this program: {', '.join(damaged)[:200]}"
        return told

    def rows_of(self, name: str) -> Folder:
        """Give the files of a secret."""
        verbs = {
            "set": lambda value: self.vault.set(name, _bytes(value)),
            "rotate": lambda value: self.vault.rotate(name, _bytes(value)),
            "rule": lambda text: self.vault.rule(name, SecretRule.parse(text)),
            "remove": lambda nothing: self._remove(_nothing(nothing) or name),
        }
        info = Text(lambda opening: facts(self.vault.info(name).facts()))
        return Folder((("info", 0o400, info), ("ctl", 0o200, Commands(self.uid, verbs))))

    def _status(self) -> dict[str, str]:
        kept = self.vault.kept()
        state = "none" if kept is None else "unlocked" if self.vault.unlocked else "locked"
        return {
            "vault": state,
            "kept-by": kept.kind if kept is not None else "-",
            "secrets": str(len(self.vault.names())),
        }

    # Commands ------------------------------------------------------------------------------------

    def _new(self, name: str) -> None:
        self.vault.new(name)
        self._secrets.look()

    def _remove(self, name: str) -> None:
        self.vault.remove(name)
        self._secrets.look()

    def _lock(self, nothing: str) -> None:
        _nothing(nothing)
        self.vault.lock()

    async def _unlock(self, passphrase: str) -> None:
        kept = self.vault.kept()
        if kept is None:
            raise fault(errno.ENOENT, "there is no vault yet; `oanix secret set` makes it")
        if not passphrase and kept.kind != KEYRING:
            raise fault(errno.EINVAL, "this vault is kept by a passphrase: unlock PASSPHRASE")
        unwrap = lambda: self._key(passphrase).unwrap(kept)  # noqa: E731  # one name for a thread
        self.vault.admit(await trio.to_thread.run_sync(unwrap, limiter=self._unlocking))

    def _key(self, passphrase: str) -> Key:
        if passphrase:
            return Passphrase(passphrase)
        backend = self._keyring()
        if backend is None:
            raise fault(errno.EACCES, "no OS keyring can be used here, and one keeps this vault")
        return RingKey(backend)

    async def _look(self) -> None:
        try:
            while True:
                await trio.sleep(LOOK_S)
                self.vault.flush()
                try:
                    self._secrets.look()
                except OSError as error:
                    log.warning("the vault cannot be read: %s", error.strerror)
        finally:
            self.vault.flush()


class _Secrets:
    """The secrets as directories; the file of the vault is asked at each look."""

    def __init__(self, service: SecretsFs) -> None:
        self._service = service
        self._known: dict[str, tuple[int, TableDirectory]] = {}
        self._announced: set[str] = set()
        self._directory: TableDirectory | None = None

    def placed(self, directory: TableDirectory) -> None:
        """Learn in which directory they are."""
        self._directory = directory

    def names(self) -> list[str]:
        """List them."""
        return self._service.vault.names()

    def find(self, name: str) -> Node | None:
        """Find one; a name that was removed and made again is another directory."""
        service = self._service
        if name not in service.vault.names():
            return None
        created = service.vault.info(name).created
        known = self._known.get(name)
        if known is not None and known[0] == created:
            return known[1]
        tree = TableDirectory(service, service.rows_of(name), 0o500, now=service.now)
        # Its name may be gone at the next look, by another process.
        tree.caching = 0.0
        self._known[name] = created, tree
        return tree

    def look(self) -> None:
        """Announce the names that came and went since the last look."""
        assert self._directory is not None
        names = set(self.names())
        for name in names ^ self._announced:
            self._service.entry_changed(self._directory.qid, name)
        self._announced = names
        for name in self._known.keys() - names:
            del self._known[name]


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _nothing(argument: str) -> str:
    if argument:
        raise fault(errno.EINVAL, "this command stands alone")
    return ""

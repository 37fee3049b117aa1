"""Vault: secrets that are used and never shown.

It attaches values to requests that their rules match, masks them in answers, and derives keys that
authenticate; it gives no value out. Not for several threads; several processes may use one file.
"""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from attrs import evolve, field, frozen

from oanix.errors import fault
from oanix.lib.url import Url
from oanix.lib.vault.info import EMPTY, UNBOUND, USABLE, SecretInfo
from oanix.lib.vault.keys import DataKey, Kept, Key, Randomness
from oanix.lib.vault.mask import Mask
from oanix.lib.vault.names import check_name, check_value
from oanix.lib.vault.rows import Row, Rows, Use
from oanix.lib.vault.rules import SecretRule, destination
from oanix.lib.vault.secret import (
    Secret,
    check_fit,
    is_name,
    load,
    opened,
    sealed,
    unlent,
    unusable,
)
from oanix.lib.vault.template import Headers

log = logging.getLogger(__name__)

FILE = "vault.db"
"""What the vault is called in the state folder."""

FLUSH_NS = 30 * 10**9
"""How long uses are counted in memory alone, where nobody calls `flush`."""

REMEMBERED = 256
"""Values, replaced ones too, that were used in this process and are masked wherever they appear."""

_PARTIAL = ("range", "request-range", "if-range")

Infos = list[SecretInfo]
Names = list[str]
T = TypeVar("T")


@frozen
class Attached:
    """A request with what was attached to it, and the names of the secrets."""

    url: Url = field(repr=False)
    headers: Headers = field(repr=False)
    used: tuple[str, ...] = ()


class Vault:
    """The secrets of a user."""

    def __init__(
        self,
        rows: Rows,
        *,
        now: Callable[[], int] = time.time_ns,
        randomness: Randomness = os.urandom,
    ) -> None:
        """Make it over its tables. The clock gives nanoseconds since the epoch."""
        self._rows = rows
        self._now = now
        self._randomness = randomness
        self._key: DataKey | None = None
        self._secrets: dict[str, Secret] = {}
        self._seen: tuple[int, int] | None = None
        self._uses: dict[str, Use] = {}
        self._flushed = now()
        self._used: dict[tuple[str, bytes], Secret] = {}
        self._masks: dict[tuple[str, ...], Mask] = {}
        self._mask_all: Mask | None = None

    @classmethod
    def open(
        cls,
        path: str,
        *,
        now: Callable[[], int] = time.time_ns,
        randomness: Randomness = os.urandom,
    ) -> "Vault":
        """Open the vault of a file, locked; a file that does not exist holds no secrets yet.

        Raises OSError EIO, EACCES, … for a file that cannot be used.
        """
        vault = cls(Rows(path), now=now, randomness=randomness)
        vault._rows.kept()
        return vault

    def close(self) -> None:
        """Store the uses, lock it and close the file."""
        self.flush()
        self.lock()
        self._rows.close()

    # The key -------------------------------------------------------------------------------------

    @property
    def unlocked(self) -> bool:
        """Whether values can be used."""
        return self._key is not None

    def kept(self) -> Kept | None:
        """Tell how the data key is kept; None while there is no vault."""
        return self._rows.kept()

    def unlock(self, key: Key) -> None:
        """Unlock it. Takes up to a second: see `admit`.

        Raises OSError: ENOENT while there is no vault, EACCES for a wrong key, EINVAL for one of
        another kind.
        """
        self.admit(key.unwrap(self._require_kept()))

    def admit(self, key: DataKey) -> None:
        """Unlock it with a data key that was unwrapped elsewhere, as in a thread."""
        self._key = key
        self._seen = None

    def lock(self) -> None:
        """Forget the key and every value; what is masked already stays so."""
        self._key = None
        self._seen = None
        self._secrets = {}

    def protect(self, key: Key, instead_of: Key | None = None) -> None:
        """Keep the data key by this key from now on; of a new vault, make the data key first.

        instead_of: the key that it was kept by, which then lets go of what it stored elsewhere.
        Raises OSError: EACCES while a vault that exists is locked, EBUSY when another process did
        the same meanwhile. A kill leaves it kept by the old key or by the new one.
        """
        old = self.kept()
        data_key = DataKey.make(self._randomness) if old is None else self._require_key()
        name = old.vault if old is not None else self._randomness(8).hex()
        new = key.wrap(data_key, name)
        try:
            self._rows.keep(new, old)
        except OSError:
            key.forget(new)
            raise
        self.admit(data_key)
        if old is not None and instead_of is not None:
            instead_of.forget(old)

    def authenticator(self, label: str) -> Callable[[bytes], bytes]:
        """Give HMAC-SHA-256 under a key of this label's own. Raises OSError EACCES while locked."""
        return self._require_key().authenticator(label)

    def _require_kept(self) -> Kept:
        kept = self.kept()
        if kept is None:
            raise fault(errno.ENOENT, "there is no vault yet; `oanix secret set` makes it")
        return kept

    def _require_key(self) -> DataKey:
        if self._key is None:
            kept = self._require_kept()
            raise fault(
                errno.EACCES,
                f"the vault is locked; unlock it with its {kept.kind}: oanix secret unlock "
                "MOUNTPOINT",
            )
        return self._key

    # What there is -------------------------------------------------------------------------------

    def names(self) -> Names:
        """List the names, sorted."""
        return [*self._current()]

    def list(self) -> Infos:
        """Tell what may be known of each; works while locked."""
        return [self._info(secret) for secret in self._current().values()]

    def info(self, name: str) -> SecretInfo:
        """Tell what may be known of one. Raises OSError ENOENT."""
        return self._info(self._require(name))

    def _info(self, secret: Secret) -> SecretInfo:
        row = secret.row
        count, last = self._uses.get(row.name, (0, 0))
        used = max(row.used or 0, last) or None
        return SecretInfo(
            row.name, row.created, row.rotated, used, row.uses + count, row.rule, secret.state
        )

    def _require(self, name: str) -> Secret:
        secret = self._current().get(name)
        if secret is None:
            raise fault(errno.ENOENT, f"there is no secret {name[:80]!r}")
        return secret

    # Changing ------------------------------------------------------------------------------------

    def new(self, name: str) -> None:
        """Make an empty secret. Raises OSError EEXIST, EINVAL, ENAMETOOLONG, EACCES."""
        check_name(name)
        key = self._require_key()
        with self._rows.transaction():
            if self._rows.get(name) is not None:
                raise fault(errno.EEXIST, f"there is a secret {name!r} already")
            now = self._now()
            self._rows.put(sealed(Row(name, "", b"", now, now), key, ""))

    def set(self, name: str, value: bytes, rule: SecretRule | None = None) -> None:
        """Set a value; without a rule, the one that there is stays.

        Raises OSError: EINVAL, EMSGSIZE, ENAMETOOLONG for what cannot be; EACCES while locked; EIO
        when the rule that would stay was changed by others; as the store.
        """
        check_name(name)
        text = check_value(value)
        key = self._require_key()
        with self._rows.transaction():
            row = self._rows.get(name)
            now = self._now()
            if row is None:
                row = Row(name, "", b"", now, now)
            elif rule is None:
                opened(key, row)
            if rule is not None:
                row = evolve(row, rule=rule.format())
            check_fit(row.rule, text)
            self._rows.put(sealed(evolve(row, rotated=now), key, text))

    def rotate(self, name: str, value: bytes) -> None:
        """Replace a value. Raises as `set`, and ENOENT where there is no value yet."""
        if self._require(name).state == EMPTY:
            raise fault(errno.ENOENT, f"the secret {name!r} has no value yet: set one")
        self.set(name, value)

    def rule(self, name: str, rule: SecretRule) -> None:
        """Replace a rule. Raises OSError ENOENT, EACCES, EIO, and EINVAL where the value is none
        that the new rule can carry.
        """
        key = self._require_key()
        with self._rows.transaction():
            row = self._rows.get(name)
            if row is None:
                raise fault(errno.ENOENT, f"there is no secret {name[:80]!r}")
            text = opened(key, row)
            changed = evolve(row, rule=rule.format())
            check_fit(changed.rule, text)
            self._rows.put(sealed(changed, key, text))

    def remove(self, name: str) -> None:
        """Remove a secret. Raises OSError ENOENT."""
        if not self._rows.remove(name):
            raise fault(errno.ENOENT, f"there is no secret {name[:80]!r}")
        self._uses.pop(name, None)

    # Using ---------------------------------------------------------------------------------------

    def attach(self, method: str, url: Url, headers: Headers) -> Attached:
        """Attach the secrets whose rules match a request, over what it has of the same names.

        Called for every hop, last of all. Raises OSError: EACCES (Denied) where one that matches
        cannot be used, EIO for one that was changed by others.
        """
        chosen: dict[tuple[str, str], Secret] = {}
        to = destination(url)
        for secret in self._current().values():
            rule = secret.rule
            if rule is None or not rule.matches(method, to):
                continue
            best = chosen.setdefault(rule.template.target, secret)
            if best.rule is not None and rule.weight > best.rule.weight:
                chosen[rule.template.target] = secret
        if not chosen:
            return Attached(url, headers)
        for secret in chosen.values():
            if secret.state != USABLE:
                raise unusable(secret, method, url)
        headers = tuple(pair for pair in headers if pair[0].lower() not in _PARTIAL)
        for secret in chosen.values():
            assert secret.rule is not None
            url, headers = secret.rule.template.apply(secret.value, url, headers)
        self._note(chosen.values())
        return Attached(url, headers, tuple(secret.row.name for secret in chosen.values()))

    def lend(self, name: str, make: Callable[[bytes], T]) -> T:
        """Make something that uses a value and does not show it, as a signer of its key.

        For secrets that are bound to no URL: a bound one has no use beside its rule. Raises
        OSError: ENOENT; EACCES while locked and for a bound one; EIO for one that was changed by
        others; as `make`.
        """
        secret = self._require(name)
        if secret.state != UNBOUND:
            raise unlent(secret)
        made = make(secret.value.encode())
        self._note((secret,))
        return made

    def mask_for(self, url: Url) -> Mask:
        """Give what masks the values bound to this host, and those used so far in this process."""
        to = destination(url)
        bound = tuple(
            name
            for name, secret in self._current().items()
            if secret.forms and secret.rule is not None and secret.rule.binds(to)
        )
        mask = self._masks.get(bound)
        if mask is None:
            secrets = [*(self._secrets[name] for name in bound), *self._used.values()]
            mask = Mask(frozenset[bytes]().union(*(secret.forms for secret in secrets)))
            self._masks[bound] = mask
        return mask

    def mask_all(self) -> Mask:
        """Give what masks every value that is known here, and those used so far in this process."""
        secrets = [*self._current().values(), *self._used.values()]
        if self._mask_all is None:
            self._mask_all = Mask(frozenset[bytes]().union(*(one.forms for one in secrets)))
        return self._mask_all

    def _note(self, secrets: Iterable[Secret]) -> None:
        now = self._now()
        for secret in secrets:
            row = secret.row
            count, last = self._uses.get(row.name, (0, 0))
            self._uses[row.name] = (count + 1, max(last, now))
            if (row.name, row.sealed) not in self._used:
                self._used[row.name, row.sealed] = secret
                self._masks.clear()
                self._mask_all = None
                if len(self._used) > REMEMBERED:
                    del self._used[next(iter(self._used))]
        if not 0 <= now - self._flushed < FLUSH_NS:
            self.flush()

    @property
    def unflushed(self) -> bool:
        """Whether there are uses that `flush` would store."""
        return bool(self._uses)

    def flush(self) -> None:
        """Store the uses that were counted; what cannot be stored is kept for the next time."""
        self._flushed = self._now()
        if not self._uses:
            return
        try:
            self._rows.add_uses(self._uses)
        except OSError as error:
            # A count that is late is no reason to refuse a request.
            log.warning("the uses of secrets could not be stored: %s", error.strerror)
        else:
            self._uses = {}

    # Inside --------------------------------------------------------------------------------------

    def _current(self) -> dict[str, Secret]:
        revision = self._rows.revision()
        if revision != self._seen:
            before = self._secrets
            self._secrets = {
                name: load(row, self._key, before.get(name))
                for name, row in self._rows.all().items()
                if is_name(name)
            }
            self._seen = revision
            self._masks.clear()
            self._mask_all = None
        return self._secrets

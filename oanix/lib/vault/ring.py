"""Ring: the key of a vault in the OS keyring. The one importer of `keyring`."""

import errno
import os
from typing import Protocol

from attrs import field, frozen

from oanix.errors import fault
from oanix.lib.vault.keys import (
    KEY_BYTES,
    KEYRING,
    NO_COST,
    DataKey,
    Kept,
    Randomness,
    bound_of,
)

SERVICE = "oanix"
"""Under which name the keyring lists our items."""


class Backend(Protocol):
    """What a keyring does; those of the library `keyring` have this interface."""

    def get_password(self, service: str, username: str) -> str | None:
        """Read an item."""

    def set_password(self, service: str, username: str, password: str) -> None:
        """Store an item."""

    def delete_password(self, service: str, username: str) -> None:
        """Remove an item."""


def system_keyring() -> Backend | None:
    """Find the OS keyring, or None where there is none that encrypts what it keeps."""
    # Not at import: to look for keyrings takes a tenth of a second, and may ask D-Bus.
    import keyring

    try:
        found = keyring.get_keyring()
        # Below 1 are those that only fail, and those that keep a plain file.
        return _Guarded(found) if found.priority >= 1 else None
    except (RuntimeError, ImportError, AttributeError, keyring.errors.KeyringError):
        # A backend that $PYTHON_KEYRING_BACKEND or its configuration names, and that is not here.
        return None


class _Guarded:
    """A backend of the library, with its errors as OSError."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def get_password(self, service: str, username: str) -> str | None:
        from keyring.errors import KeyringError

        try:
            return self._backend.get_password(service, username)
        except KeyringError as error:
            raise _refused(error) from error

    def set_password(self, service: str, username: str, password: str) -> None:
        from keyring.errors import KeyringError

        try:
            self._backend.set_password(service, username, password)
        except KeyringError as error:
            raise _refused(error) from error

    def delete_password(self, service: str, username: str) -> None:
        from keyring.errors import KeyringError

        try:
            self._backend.delete_password(service, username)
        except KeyringError as error:
            raise _refused(error) from error


def _refused(error: Exception) -> OSError:
    said = f" ({error})" if str(error) else ""
    return fault(errno.EACCES, f"the OS keyring refused{said}: unlock it, and try again")


@frozen
class RingKey:
    """A random key that is kept in a keyring, one item a vault."""

    _backend: Backend = field(repr=False)
    _randomness: Randomness = field(default=os.urandom, repr=False)

    def wrap(self, key: DataKey, vault: str) -> Kept:
        """Wrap a data key by a new key, which is in the keyring before this returns."""
        by = self._randomness(KEY_BYTES)
        # A name of its own: until the new record is stored, the old item must stay what it is.
        item = f"vault {vault} {self._randomness(4).hex()}"
        self._backend.set_password(SERVICE, item, by.hex())
        wrapped = key.wrap(by, *bound_of(vault, KEYRING, item, NO_COST))
        return Kept(vault, KEYRING, item, NO_COST, wrapped)

    def unwrap(self, kept: Kept) -> DataKey:
        """Unwrap a data key with the item of its record."""
        kept.require(KEYRING)
        text = self._backend.get_password(SERVICE, kept.item)
        if text is None:
            raise fault(
                errno.EACCES,
                f"the OS keyring has no item {kept.item!r}: log in as the user who made the "
                "vault, or restore the keyring",
            )
        try:
            key = kept.unwrap(bytes.fromhex(text))
        except ValueError:
            key = None
        if key is None:
            raise fault(errno.EACCES, f"the item {kept.item!r} of the OS keyring is not the key")
        return key

    def forget(self, kept: Kept) -> None:
        """Remove the item of a record."""
        if kept.kind == KEYRING:
            self._backend.delete_password(SERVICE, kept.item)

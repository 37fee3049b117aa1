"""Keys: what encrypts a vault, and how its key is kept.

A vault has one random data key. Values are sealed with AES-256-GCM (RFC 5116) under a key derived
from it (HKDF, RFC 5869), together with texts that they are bound to. The data key itself is stored
wrapped, by a key that is not in the vault: one in the OS keyring, or one made of a passphrase
(scrypt, RFC 7914).
"""

import errno
import hmac
import os
import unicodedata
from collections.abc import Callable
from typing import Final, Protocol

from attrs import field, frozen

from oanix.errors import fault

KEYRING: Final = "keyring"
PASSPHRASE: Final = "passphrase"

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SALT_BYTES: Final = 16
SEALED_MORE: Final = NONCE_BYTES + 16
"""By how much a sealed value is longer: its nonce and its tag."""

PASSPHRASE_MIN: Final = 8
"""Fewest characters of a new passphrase (NIST SP 800-63B, section 3.1.1)."""

Randomness = Callable[[int], bytes]


@frozen
class Cost:
    """What scrypt costs: about 128 * n * r bytes of memory, and time in proportion."""

    n: int = 1 << 17
    r: int = 8
    p: int = 1

    @property
    def bearable(self) -> bool:
        """Whether it is one of ours: an edited row must not make us fill the memory."""
        return 2 <= self.n <= 1 << 20 and self.n & (self.n - 1) == 0 and self.r == 8 and self.p <= 4


NO_COST: Final = Cost(0, 0, 0)


class DataKey:
    """The random key of a vault: it seals, opens and derives, and is never given out."""

    __slots__ = ("_raw", "_values")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._values = _derive(raw, "values")

    @classmethod
    def make(cls, randomness: Randomness = os.urandom) -> "DataKey":
        """Make a new one."""
        return cls(randomness(KEY_BYTES))

    def seal(self, plain: bytes, *bound: str, randomness: Randomness = os.urandom) -> bytes:
        """Encrypt a value, so that it opens with the same texts alone."""
        nonce = randomness(NONCE_BYTES)
        return nonce + _encrypt(self._values, nonce, plain, bound)

    def open(self, sealed: bytes, *bound: str) -> bytes:
        """Decrypt a value. Raises OSError EIO when it, or what it is bound to, was changed."""
        plain = _decrypt(self._values, sealed, bound)
        if plain is None:
            raise fault(errno.EIO, "it was changed outside this program")
        return plain

    def authenticator(self, label: str) -> Callable[[bytes], bytes]:
        """Give HMAC-SHA-256 under a key of this label's own."""
        key = _derive(self._raw, f"authenticator: {label}")

        def authenticate(data: bytes) -> bytes:
            return hmac.digest(key, data, "sha256")

        return authenticate

    def wrap(self, by: bytes, *bound: str, randomness: Randomness = os.urandom) -> bytes:
        """Encrypt the data key itself."""
        nonce = randomness(NONCE_BYTES)
        return nonce + _encrypt(by, nonce, self._raw, bound)


@frozen
class Kept:
    """How the data key of a vault is kept: wrapped, by a key that this does not hold.

    item: the name of the keyring's item, or the salt of the passphrase in hex.
    """

    vault: str
    kind: str
    item: str
    cost: Cost
    wrapped: bytes = field(repr=False)

    def unwrap(self, by: bytes) -> DataKey | None:
        """Decrypt the data key; None when this is not the key, or the record was changed."""
        raw = _decrypt(by, self.wrapped, self._bound)
        return None if raw is None else DataKey(raw)

    @property
    def _bound(self) -> tuple[str, ...]:
        return bound_of(self.vault, self.kind, self.item, self.cost)

    def require(self, kind: str) -> None:
        """Refuse a key of another kind. Raises OSError EINVAL."""
        if self.kind != kind:
            raise fault(errno.EINVAL, f"this vault is kept by a {self.kind}, not by a {kind}")


def bound_of(vault: str, kind: str, item: str, cost: Cost) -> tuple[str, ...]:
    """Give the texts that a wrapped data key is bound to."""
    return (vault, kind, item, f"{cost.n} {cost.r} {cost.p}")


class Key(Protocol):
    """What wraps the data key of a vault and unwraps it. Both may take a second: use a thread."""

    def wrap(self, key: DataKey, vault: str) -> Kept:
        """Wrap a data key. Raises OSError EACCES where it cannot be kept."""

    def unwrap(self, kept: Kept) -> DataKey:
        """Unwrap a data key. Raises OSError EACCES for a wrong key, EINVAL for another kind."""

    def forget(self, kept: Kept) -> None:
        """Let go of what was made for a record that is used no more."""


@frozen
class Passphrase:
    """A key that is made of a passphrase."""

    _text: str = field(repr=False)
    _cost: Cost = Cost()
    _randomness: Randomness = field(default=os.urandom, repr=False)

    def check(self) -> None:
        """Refuse one that is too short for a new vault. Raises OSError EINVAL."""
        if len(self._text) < PASSPHRASE_MIN:
            raise fault(errno.EINVAL, f"a passphrase has at least {PASSPHRASE_MIN} characters")

    def wrap(self, key: DataKey, vault: str) -> Kept:
        """Wrap a data key under a new salt."""
        item = self._randomness(SALT_BYTES).hex()
        wrapped = key.wrap(
            self._stretched(item, self._cost), *bound_of(vault, PASSPHRASE, item, self._cost)
        )
        return Kept(vault, PASSPHRASE, item, self._cost, wrapped)

    def unwrap(self, kept: Kept) -> DataKey:
        """Unwrap a data key with the parameters that are stored with it."""
        kept.require(PASSPHRASE)
        if not kept.cost.bearable:
            raise fault(errno.EIO, "the vault's scrypt parameters were changed")
        key = kept.unwrap(self._stretched(kept.item, kept.cost))
        if key is None:
            raise fault(errno.EACCES, "this is not the passphrase of the vault")
        return key

    def forget(self, kept: Kept) -> None:
        """Do nothing: nothing is kept anywhere."""

    def _stretched(self, salt: str, cost: Cost) -> bytes:
        # One text, however a keyboard or a file spells its accents.
        text = unicodedata.normalize("NFC", self._text).encode("utf-8", "surrogateescape")
        raw_salt = _salt(salt)
        from oanix.lib.vault import cipher

        try:
            return cipher.stretch(text, raw_salt, KEY_BYTES, n=cost.n, r=cost.r, p=cost.p)
        except MemoryError:
            need = 128 * cost.n * cost.r >> 20
            raise fault(errno.ENOMEM, f"a passphrase takes {need} MiB of memory to check") from None


def _salt(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise fault(errno.EIO, "the salt of the vault was changed") from None


def _derive(raw: bytes, label: str) -> bytes:
    from oanix.lib.vault import cipher

    return cipher.derive(raw, f"oanix vault: {label}".encode(), KEY_BYTES)


def _encrypt(key: bytes, nonce: bytes, plain: bytes, bound: tuple[str, ...]) -> bytes:
    from oanix.lib.vault import cipher

    return cipher.encrypt(key, nonce, plain, _joined(bound))


def _decrypt(key: bytes, sealed: bytes, bound: tuple[str, ...]) -> bytes | None:
    from oanix.lib.vault import cipher

    return cipher.decrypt(key, sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _joined(bound))


def _joined(bound: tuple[str, ...]) -> bytes:
    # With their lengths, so that no two lists of texts look alike.
    parts = [text.encode("utf-8", "surrogateescape") for text in bound]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)

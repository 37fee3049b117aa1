"""Keys: BIP-340 signatures, and what signs and checks events. The one importer of coincurve."""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import coincurve
from attrs import frozen

from oanix.lib.nostr import nip44
from oanix.lib.nostr.codec import Invalid
from oanix.lib.nostr.event import HEX32, Event, Tags, Unsigned

KEYS_KEPT = 4096
"""Public keys that stay parsed: an author seldom writes once."""

_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


@frozen
class Template:
    """What is to be signed; without a time, that of the signing.

    pubkey: who is meant to sign it; None for whoever does.
    """

    kind: int
    content: str = ""
    tags: Tags = ()
    created_at: int | None = None
    pubkey: str | None = None


class Signer(Protocol):
    """Who signs for one public key, and never shows the secret one."""

    @property
    def pubkey(self) -> str:
        """The public key, as 64 digits of hex."""

    async def sign(self, template: Template) -> Event:
        """Sign an event. Raises OSError where the signer refuses or cannot be reached."""

    async def encrypt(self, peer: str, text: str) -> str:
        """Encrypt a text for a public key (NIP-44)."""

    async def decrypt(self, peer: str, payload: str) -> str:
        """Decrypt what a public key sent (NIP-44). Raises Invalid."""


class LocalSigner:
    """A signer that has the secret key in memory."""

    __slots__ = ("_key", "_now", "_randomness", "pubkey")

    def __init__(
        self,
        secret: bytes,
        *,
        now: Callable[[], int],
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Take 32 bytes. The clock gives seconds since the epoch. Raises Invalid for no key."""
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < _ORDER:
            raise Invalid(
                "this is no secret key: 32 bytes, from 1 to the order of secp256k1 less 1"
            )
        self._key = coincurve.PrivateKey(secret)
        self._now = now
        self._randomness = randomness
        self.pubkey = self._key.public_key_xonly.format().hex()

    def __repr__(self) -> str:
        return f"<LocalSigner of {self.pubkey}>"

    def __reduce__(self) -> str:
        raise TypeError("a signer is not written down: it holds a secret key")

    def sign_now(self, template: Template) -> Event:
        """Sign an event at once."""
        at = self._now() if template.created_at is None else template.created_at
        unsigned = Unsigned(
            pubkey=self.pubkey, created_at=at, kind=template.kind, tags=template.tags,
            content=template.content,
        )  # fmt: skip
        digest = unsigned.hashed()
        sig = self._key.sign_schnorr(bytes.fromhex(digest), self._randomness(32))
        return Event(
            id=digest, pubkey=self.pubkey, created_at=at, kind=template.kind, tags=template.tags,
            content=template.content, sig=sig.hex(),
        )  # fmt: skip

    async def sign(self, template: Template) -> Event:
        """Sign an event."""
        return self.sign_now(template)

    async def encrypt(self, peer: str, text: str) -> str:
        """Encrypt a text for a public key (NIP-44)."""
        return nip44.encrypt(text, self._conversation(peer), self._randomness(32))

    async def decrypt(self, peer: str, payload: str) -> str:
        """Decrypt what a public key sent (NIP-44). Raises Invalid."""
        return nip44.decrypt(payload, self._conversation(peer))

    def _conversation(self, peer: str) -> bytes:
        return conversation_key(self._key.secret, peer)


def sign(secret: bytes, message: bytes, aux: bytes) -> bytes:
    """Sign a message (BIP-340); aux: 32 random bytes. Raises Invalid for no secret key."""
    try:
        return coincurve.PrivateKey(secret).sign_schnorr(message, aux)
    except ValueError:
        raise Invalid("this is no secret key") from None


def make_secret(randomness: Callable[[int], bytes] = os.urandom) -> bytes:
    """Make a secret key."""
    while not 0 < int.from_bytes(secret := randomness(32), "big") < _ORDER:
        pass  # one in 2^127
    return secret


def conversation_key(secret: bytes, peer: str) -> bytes:
    """Derive the key that two keys share (NIP-44). Raises Invalid for what is no key."""
    if not HEX32.fullmatch(peer):
        raise Invalid("a public key is 64 digits of lower-case hex")
    try:
        point = coincurve.PublicKey(b"\x02" + bytes.fromhex(peer)).multiply(secret)
    except ValueError:
        raise Invalid("this is no point of secp256k1, or no secret key") from None
    return nip44.extract(point.format()[1:])


def check(event: Event) -> None:
    """Check the id of an event, then its signature. Raises Invalid."""
    if event.hashed() != event.id:
        raise Invalid("the id does not match the event")
    if not verify(event.pubkey, event.id, event.sig):
        raise Invalid("the signature is not of this event and this key")


def check_many(events: Sequence[Event]) -> list[Invalid | None]:
    """Check several events, in a thread: signatures are checked without Python's lock."""
    found: list[Invalid | None] = []
    for event in events:
        try:
            check(event)
        except Invalid as error:
            found.append(error)
        else:
            found.append(None)
    return found


def verify(pubkey: str, digest: str, sig: str) -> bool:
    """Tell whether a signature (BIP-340) is of this key and this hash, all in hex."""
    key = _public(pubkey)
    return key is not None and key.verify(bytes.fromhex(sig), bytes.fromhex(digest))


@lru_cache(maxsize=KEYS_KEPT)
def _public(pubkey: str) -> "coincurve.PublicKeyXOnly | None":
    try:
        return coincurve.PublicKeyXOnly(bytes.fromhex(pubkey))
    except ValueError:
        return None

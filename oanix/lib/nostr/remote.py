"""Remote: a signer that is elsewhere, asked through relays (NIP-46).

    bunker = parse_bunker("bunker://PUBKEY?relay=wss://relay.example.com&secret=…")
    signer = RemoteSigner(bunker, exchange, secret=client_key, now=now)
    await signer.connect()         # once; later `resume`, as a secret works one time

Requests and answers are events of kind 24133, encrypted (NIP-44) between the signer and a key of
ours that is good for nothing else. How they travel is the `Exchange`'s business.
"""

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import trio
from attrs import define, field, frozen

from oanix.errors import fault
from oanix.lib.nostr import nip44
from oanix.lib.nostr.codec import Invalid, decode, encode
from oanix.lib.nostr.event import HEX32, Event, Unsigned
from oanix.lib.nostr.filter import Filter
from oanix.lib.nostr.keys import LocalSigner, Template, check, conversation_key
from oanix.lib.url import Url

KIND: Final = 24_133

WITHIN_S: Final = 30.0
"""How long one waits for an answer: a person may have to agree first."""

WAITING_MAX: Final = 64
"""Requests under way at a time."""

RELAYS_MAX: Final = 16
URL_MAX: Final = 5_000
WORDS_MAX: Final = 300

_SCHEME = "bunker://"


@frozen
class Bunker:
    """Where a remote signer is found; the secret shows it that it was meant to be found."""

    pubkey: str
    relays: tuple[str, ...]
    secret: str | None = field(default=None, repr=False)


def parse_bunker(url: str) -> Bunker:
    """Read `bunker://PUBKEY?relay=WSS-URL&relay=…&secret=…`. Raises Invalid.

    Other parameters are left out. What is wrong is told without the secret.
    """
    if len(url) > URL_MAX:
        raise Invalid(f"the URL of a bunker has at most {URL_MAX} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise Invalid("a URL has no blanks and nothing but ASCII: percent-encode the rest")
    if not url.startswith(_SCHEME):
        raise Invalid("this is no bunker: it begins with bunker://PUBKEY")
    pubkey, _, query = url.removeprefix(_SCHEME).partition("?")
    if not HEX32.fullmatch(pubkey):
        raise Invalid("after bunker:// comes a public key of 64 digits of lower-case hex, then ?")
    try:
        given = parse_qsl(
            query, keep_blank_values=True, strict_parsing=True, errors="strict",
            max_num_fields=2 * RELAYS_MAX,
        )  # fmt: skip
    except ValueError:
        raise Invalid("after the ? come relay=WSS-URL and secret=TEXT, with & between") from None
    relays = tuple(dict.fromkeys(_relay(value) for name, value in given if name == "relay"))
    if not 0 < len(relays) <= RELAYS_MAX:
        raise Invalid(f"a bunker is found through 1 to {RELAYS_MAX} relays: add ?relay=WSS-URL")
    secrets = [value for name, value in given if name == "secret"]
    if len(secrets) > 1 or secrets == [""]:
        raise Invalid("a bunker has one secret, or none")
    return Bunker(pubkey, relays, secrets[0] if secrets else None)


def _relay(text: str) -> str:
    try:
        url = Url.parse(text)
    except OSError as error:
        raise Invalid(f"the relay of a bunker: {error.strerror}") from None
    if url.scheme not in ("ws", "wss"):
        raise Invalid("the relay of a bunker begins with wss:// or ws://")
    return str(url)


class Exchange(Protocol):
    """How requests reach a signer, and answers come back."""

    async def publish(self, event: Event, relays: Sequence[str]) -> None:
        """Send an event to relays until one has taken it; it may be cancelled.

        What was subscribed to before is subscribed to before the relays get it. Raises OSError
        when no relay can be reached, or none takes it.
        """

    def subscribe(
        self, wanted: Filter, relays: Sequence[str], deliver: Callable[[Event], None]
    ) -> Callable[[], None]:
        """Ask relays for what comes from now on, until the given function is called.

        deliver gets each genuine event that matches, on the trio thread, and neither waits nor
        raises.
        """


@define(eq=False)
class _Waiting:
    """A request under way."""

    told: trio.Event = field(factory=trio.Event)
    result: str = ""
    error: OSError | None = None


class RemoteSigner:
    """A `Signer` that asks another. Use `connect` or `resume` first; `close` ends listening.

    Every request raises OSError: EACCES with the signer's words when it refuses, or with the URL
    that a person has to open first; EPROTO when its answer is none; ETIMEDOUT; EAGAIN when too many
    are under way; and whatever the exchange raises. A request that is cancelled is not taken back.
    """

    def __init__(
        self, bunker: Bunker, exchange: Exchange, *, secret: bytes, now: Callable[[], int],
        within: float = WITHIN_S, randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:  # fmt: skip
        """Take the secret key by which the signer will know us. Raises Invalid for no key."""
        self._bunker = bunker
        self._exchange = exchange
        self._client = LocalSigner(secret, now=now, randomness=randomness)
        self._key = conversation_key(secret, bunker.pubkey)
        self._now = now
        self._within = within
        self._randomness = randomness
        self._waiting: dict[str, _Waiting] = {}
        self._stop: Callable[[], None] | None = None
        self._pubkey: str | None = None

    def __repr__(self) -> str:
        return f"<RemoteSigner at {self._bunker.pubkey}>"

    def __reduce__(self) -> str:
        raise TypeError("a signer is not written down: it holds a secret key")

    @property
    def pubkey(self) -> str:
        """The public key that it signs for. Raises ENOTCONN before `connect`."""
        if self._pubkey is None:
            raise fault(errno.ENOTCONN, "the remote signer has not been connected to")
        return self._pubkey

    # Life ----------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Introduce ourselves with the secret of the bunker, and learn whom it signs for."""
        secret = self._bunker.secret
        said = await self._ask("connect", self._bunker.pubkey, *([secret] if secret else []))
        if said not in ("ack", secret):
            raise _confused("connect")
        await self.resume()

    async def resume(self) -> None:
        """Learn whom it signs for, from a signer that knows us already."""
        self._pubkey = await self.get_public_key()

    def close(self) -> None:
        """Listen no more; a later request listens again."""
        if self._stop is not None:
            self._stop()
            self._stop = None

    # Requests ------------------------------------------------------------------------------------

    async def get_public_key(self) -> str:
        """Ask for the public key that it signs for."""
        said = await self._ask("get_public_key")
        if not HEX32.fullmatch(said):
            raise _confused("get_public_key")
        return said

    async def ping(self) -> None:
        """Find out whether it is there."""
        if await self._ask("ping") != "pong":
            raise _confused("ping")

    async def sign(self, template: Template) -> Event:
        """Have an event signed, and check that it is this one. Raises also Invalid."""
        at = self._now() if template.created_at is None else template.created_at
        # The pubkey is not in the NIP, but there are signers that want a whole unsigned event.
        wanted = Unsigned(
            pubkey=self.pubkey, created_at=at, kind=template.kind, tags=template.tags,
            content=template.content,
        )  # fmt: skip
        said = await self._ask("sign_event", encode(wanted).decode())
        try:
            event = Event.parse(said)
            check(event)
        except Invalid as error:
            raise _confused("sign_event", error.reason) from None
        if event.unsigned != wanted:
            raise _confused("sign_event", "it signed something else")
        return event

    async def encrypt(self, peer: str, text: str) -> str:
        """Have a text encrypted for a public key (NIP-44)."""
        return await self._ask("nip44_encrypt", peer, text)

    async def decrypt(self, peer: str, payload: str) -> str:
        """Have decrypted what a public key sent (NIP-44)."""
        return await self._ask("nip44_decrypt", peer, payload)

    async def _ask(self, method: str, *params: str) -> str:
        if len(self._waiting) >= WAITING_MAX:
            raise fault(errno.EAGAIN, f"{WAITING_MAX} requests to the signer are under way")
        name = self._randomness(16).hex()
        text = encode({"id": name, "method": method, "params": params}).decode()
        sealed = nip44.encrypt(text, self._key, self._randomness(32))
        request = self._client.sign_now(Template(KIND, sealed, (("p", self._bunker.pubkey),)))
        self._listen()
        waiting = self._waiting[name] = _Waiting()
        try:
            with trio.fail_after(self._within):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send, request, waiting)
                    await waiting.told.wait()
                    # The answer is there, whatever a relay still has to say of the request.
                    nursery.cancel_scope.cancel()
        except trio.TooSlowError:
            raise fault(
                errno.ETIMEDOUT, f"the signer did not answer {method} in {self._within:g} s"
            ) from None
        finally:
            del self._waiting[name]
        if waiting.error is not None:
            raise waiting.error
        return waiting.result

    async def _send(self, request: Event, waiting: _Waiting) -> None:
        try:
            await self._exchange.publish(request, self._bunker.relays)
        except OSError as error:
            waiting.error = error
            waiting.told.set()

    # Answers -------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._stop is None:
            wanted = Filter(
                kinds=frozenset({KIND}), authors=frozenset({self._bunker.pubkey}),
                tags={"p": frozenset({self._client.pubkey})},
            )  # fmt: skip
            self._stop = self._exchange.subscribe(wanted, self._bunker.relays, self._hear)

    def _hear(self, event: Event) -> None:
        if event.kind != KIND or event.pubkey != self._bunker.pubkey:
            return
        try:
            said = decode(nip44.decrypt(event.content, self._key))
        except Invalid:
            return  # not for us, or damaged: nothing says whose answer it was
        name = said.get("id") if isinstance(said, dict) else None
        waiting = self._waiting.get(name) if isinstance(name, str) else None
        if waiting is None or waiting.told.is_set():
            return
        waiting.error, waiting.result = _answer(said)
        waiting.told.set()


def _answer(said: dict[str, Any]) -> tuple[OSError | None, str]:
    match said:
        case {"result": "auth_url", "error": str(url)}:
            return fault(errno.EACCES, f"the signer wants you to open {_words(url)} first"), ""
        case {"error": str(error)} if error:
            return fault(errno.EACCES, f"the signer refused: {_words(error)}"), ""
        case {"result": str(result)}:
            return None, result
    return _confused("the request"), ""


def _confused(method: str, reason: str = "") -> OSError:
    said = f"the signer's answer to {method} is none"
    return fault(errno.EPROTO, f"{said}: {_words(reason)}" if reason else said)


def _words(text: str) -> str:
    """Take what a signer says as one line of bounded length."""
    return "".join(c if c.isprintable() else " " for c in text[:WORDS_MAX])

"""Bunker: a signer elsewhere (NIP-46): how it is reached, and how the vault keeps it."""

from collections.abc import Callable, Sequence

import trio
from attrs import field, frozen

from oanix.lib.nostr import Event, Filter, Invalid, decode, encode
from oanix.lib.nostr.remote import Bunker, parse_bunker
from oanix.services.nostr.asking import Asking, Seen
from oanix.services.nostr.pool import Pool, no_relay, refusal


@frozen
class Kept:
    """What the vault has in place of a key: where the signer is, and how it knows us."""

    bunker: Bunker
    client: bytes = field(repr=False)

    @classmethod
    def read(cls, text: str) -> "Kept":
        """Read what `written` has written. Raises Invalid."""
        said = decode(text)
        match said:
            case {"bunker": str(url), "client": str(client)}:
                try:
                    return cls(parse_bunker(url), bytes.fromhex(client))
                except ValueError as error:
                    raise Invalid(str(error)) from None
        raise Invalid("this is no bunker")


def written(url: str, client: bytes) -> bytes:
    """Write what `Kept.read` reads. Raises Invalid for no URL of a bunker."""
    parse_bunker(url)
    return encode({"bunker": url, "client": client.hex()})


class PoolExchange:
    """How requests reach a signer: through the relays of the pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def publish(self, event: Event, relays: Sequence[str]) -> None:
        """Send an event until one relay has taken it. Raises OSError."""
        errors: list[OSError] = []
        async with trio.open_nursery() as nursery:

            async def send(url: str) -> None:
                try:
                    outcome = await self._pool.link(url).publish(event)
                except OSError as error:
                    errors.append(error)
                    return
                if outcome.ok:
                    nursery.cancel_scope.cancel()
                else:
                    errors.append(refusal(url, outcome.message))

            for url in relays:
                nursery.start_soon(send, url)
        if len(errors) == len(relays):
            raise errors[0].with_traceback(None) if errors else no_relay()

    def subscribe(
        self, wanted: Filter, relays: Sequence[str], deliver: Callable[[Event], None]
    ) -> Callable[[], None]:
        """Hear what comes from now on, until the function that this gives is called."""
        name = self._pool.name()
        hearing = _Hearing(deliver)
        for url in relays:
            self._pool.link(url).ask(name, (wanted,), hearing)

        def stop() -> None:
            for link in self._pool.links:
                if link.url in relays:
                    link.drop(name)

        return stop


class _Hearing(Asking):
    def __init__(self, deliver: Callable[[Event], None]) -> None:
        self._deliver = deliver
        self._seen = Seen()

    def knows(self, event_id: str) -> bool:
        return event_id in self._seen

    def deliver(self, event: Event, url: str) -> None:
        if self._seen.add(event.id):
            self._deliver(event)

    def stored(self, url: str, hint: str) -> None:
        return None

    def refused(self, url: str, reason: str) -> None:
        return None

    def lost(self, url: str, error: OSError) -> None:
        return None

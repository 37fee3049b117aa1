"""Policy: the rules of a relay's owner, and what they say of an event, a question, an address.

The first `allow` or `deny` that matches decides; without one, it is allowed. Conditions on the
event and on who asks are judged apart, so that a question can be refused before anything is looked
up when nothing that it asks for could be seen.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from attrs import evolve, field, frozen

from oanix.lib.nostr import Event, Filter
from oanix.lib.policy.addresses import Address, Network
from oanix.lib.policy.rate import Bucket, Rate
from oanix.services.relay.rules import Outcome, Peer, too_easy

LOCAL: Final = "local"
"""The address of who speaks to the relay within its process, or through its files."""

ANY: Final = "any"
AUTHOR: Final = "author"


@frozen
class Guest:
    """Somebody at an address who has proven no key; the files of the relay are used by one."""

    address: str = LOCAL
    authed: frozenset[str] = frozenset()


@frozen
class Condition:
    """What a rule is about; what is None does not matter.

    auth: keys that were proven (NIP-42), `any` of them, or that of the `author`.
    """

    kinds: frozenset[int] | None = None
    authors: frozenset[str] | None = None
    ids: frozenset[str] | None = None
    networks: tuple[Network | str, ...] | None = None
    auth: frozenset[str] | None = None

    @property
    def of_event(self) -> bool:
        """Whether it looks at the event."""
        return any(part is not None for part in (self.kinds, self.authors, self.ids)) or (
            self.auth is not None and AUTHOR in self.auth
        )

    def fits_address(self, peer: Peer) -> bool:
        """Tell whether who asks comes from one of its addresses."""
        if self.networks is None:
            return True
        address = _address(peer.address)
        if address is None:
            return LOCAL in self.networks
        return any(not isinstance(one, str) and address in one for one in self.networks)

    def fits_auth(self, peer: Peer, author: str | None) -> bool:
        """Tell whether who asks has proven one of its keys."""
        if self.auth is None:
            return True
        if ANY in self.auth and peer.authed:
            return True
        if AUTHOR in self.auth and author is not None and author in peer.authed:
            return True
        return not self.auth.isdisjoint(peer.authed)

    def fits_event(self, kind: int, author: str, name: str) -> bool:
        """Tell whether an event is one of those that it is about."""
        return (
            (self.kinds is None or kind in self.kinds)
            and (self.authors is None or author in self.authors)
            and (self.ids is None or name in self.ids)
        )


@frozen
class Rule:
    """A line that allows or denies."""

    allows: bool
    what: str
    condition: Condition
    reason: str = ""
    number: int = 0

    def about(self, what: str) -> bool:
        """Tell whether it is about this: `write`, `read`, `connect`."""
        return self.what == what or (self.what == ANY and what != "connect")


@frozen
class Limit:
    """A line that says how often: of each author, each address, or of all together."""

    what: str
    rate: Rate
    share: str
    condition: Condition
    number: int


@frozen
class Work:
    """A line that asks for proof of work (NIP-13)."""

    bits: int
    condition: Condition


@frozen
class RelayPolicy:
    """All the rules."""

    rules: tuple[Rule, ...] = ()
    limits: tuple[Limit, ...] = ()
    works: tuple[Work, ...] = ()
    hides: bool = field(init=False)
    """Whether there is a rule on reading at all."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "hides", any(rule.about("read") for rule in self.rules))

    # Judging -------------------------------------------------------------------------------------

    def connecting(self, peer: Peer) -> str | None:
        """Give the reason why nobody may connect from there, or None."""
        for rule in self.rules:
            if rule.what == "connect" and rule.condition.fits_address(peer):
                return None if rule.allows else rule.reason or "this address is not welcome here"
        return None

    def writing(self, event: Event, peer: Peer) -> Outcome | None:
        """Give the refusal of an event, or None."""
        for work in self.works:
            if work.condition.fits_event(event.kind, event.pubkey, event.id) and (
                work.condition.fits_address(peer)
                and work.condition.fits_auth(peer, event.pubkey)
                and (short := too_easy(event, work.bits))
            ):
                return Outcome(False, f"pow: {short}")
        found, wanting = self._decide("write", peer, event.kind, event.pubkey, event.id)
        if found is None or found.allows:
            return None
        return Outcome(False, _refusal(found, wanting, peer))

    def may_read(self, kind: int, author: str, name: str, peer: Peer) -> bool:
        """Tell whether somebody may see an event."""
        found, _ = self._decide("read", peer, kind, author, name)
        return found is None or found.allows

    def asking(self, filters: Sequence[Filter], peer: Peer) -> str | None:
        """Give the reason why nothing of what is asked for could be seen, or None."""
        if not self.hides:
            return None
        first: str | None = None
        for one in filters:
            for kind in one.kinds or (None,):
                reason = self._hidden(kind, peer)
                if reason is None:
                    return None
                first = first or reason
        return first

    def buckets(self, what: str, peer: Peer, event: Event | None = None) -> Iterator[Bucket]:
        """Give what is counted for an event that is written, or a question that is asked."""
        for limit in self.limits:
            if limit.what != what or not limit.condition.fits_address(peer):
                continue
            author = event.pubkey if event is not None else None
            if not limit.condition.fits_auth(peer, author):
                continue
            if event is not None and not limit.condition.fits_event(
                event.kind, event.pubkey, event.id
            ):
                continue
            share = {AUTHOR: author or peer.address, "address": peer.address}.get(limit.share, "")
            yield (limit.number, share), limit.rate

    @property
    def least_work(self) -> int:
        """The proof of work that every event needs."""
        return max((work.bits for work in self.works if work.condition == Condition()), default=0)

    def restricts(self, what: str) -> bool:
        """Tell whether there is a rule that denies this to somebody."""
        return any(rule.about(what) and not rule.allows for rule in self.rules)

    def needs_auth(self) -> bool:
        """Tell whether a client can do nothing before it has proven a key."""
        nobody = Guest("")
        return all(
            (rule := self._first_sure(what, nobody)) is not None and not rule.allows
            for what in ("write", "read")
        )

    def _first_sure(self, what: str, peer: Peer) -> Rule | None:
        for rule in self.rules:
            if rule.about(what) and rule.condition.fits_address(peer):
                if rule.condition.of_event:
                    return None
                if rule.condition.fits_auth(peer, None):
                    return rule
        return None

    def _decide(
        self, what: str, peer: Peer, kind: int, author: str, name: str
    ) -> tuple[Rule | None, bool]:
        """Give the rule that decides, and whether a proof of a key might have decided otherwise."""
        wanting = False
        for rule in self.rules:
            condition = rule.condition
            if (
                rule.about(what)
                and condition.fits_event(kind, author, name)
                and condition.fits_address(peer)
            ):
                if condition.fits_auth(peer, author):
                    return rule, wanting
                wanting = wanting or rule.allows
        return None, wanting

    def _hidden(self, kind: int | None, peer: Peer) -> str | None:
        wanting = False
        for rule in self.rules:
            condition = rule.condition
            if not rule.about("read") or not condition.fits_address(peer):
                continue
            if condition.kinds is not None and kind is not None and kind not in condition.kinds:
                continue
            # Who has proven no key is the author of nothing; a proof may make him that.
            perhaps = peer.authed and AUTHOR in (condition.auth or ())
            if not condition.fits_auth(peer, None) and not perhaps:
                wanting = wanting or rule.allows
                continue
            sure = not evolve(condition, kinds=None).of_event and (
                condition.kinds is None or kind is not None
            )
            if rule.allows:
                return None
            if sure:
                return _refusal(rule, wanting, peer)
        return None


def _refusal(rule: Rule, wanting: bool, peer: Peer) -> str:
    reason = rule.reason or f"the policy of this relay says so (line {rule.number})"
    if wanting:
        return f"restricted: {reason}" if peer.authed else f"auth-required: {reason}"
    return f"blocked: {reason}"


@lru_cache(maxsize=4096)
def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None

"""Narrow: what may be signed, and which relays may be used, through one mount or bind."""

import errno
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from oanix.errors import Denied, fault

if TYPE_CHECKING:
    from oanix.lib.policy import Layer, Policy

LOGINS = frozenset((22_242, 27_235))
"""Kinds with which whoever holds them can log in as their author (NIP-42, NIP-98)."""

OWN = "own"

OPTIONS: Mapping[str, str] = {
    "kinds": "only these kinds are signed: 1,7,30000-39999; 22242 and 27235 only when named",
    "relays": "only these relays are used: wss://a.example,wss://b.example",
}


@frozen
class Narrow:
    """The options of one mount or bind; what is None is not narrowed."""

    kinds: tuple[range, ...] | None = None
    relays: frozenset[str] | None = None
    text: str = ""
    by_owner: bool = False
    """Whether it is of the mount itself, and not of a bind."""

    def signs(self, kind: int, *, unless: bool) -> bool:
        """Tell whether a kind is signed; unless: what holds where no kinds are named."""
        return unless if self.kinds is None else any(kind in one for one in self.kinds)

    @classmethod
    def of(cls, options: Mapping[str, str]) -> "Narrow":
        """Read them. Raises OSError EINVAL."""
        kinds = options.get("kinds")
        relays = options.get("relays")
        return cls(
            None if kinds is None else tuple(map(_range, kinds.split(","))),
            None if relays is None else frozenset(map(_relay, relays.split(","))),
            " ".join(f"{name}={value}" for name, value in options.items()),
        )


@frozen
class Access:
    """On whose behalf something is asked: what narrows it, and the rules of the web for it."""

    layers: tuple[Narrow, ...] = ()
    policy: "Policy | None" = None
    rules: "tuple[Layer, ...]" = ()

    def check_kind(self, kind: int) -> None:
        """Refuse to sign what may not be signed. Raises OSError Denied."""
        for layer in self.layers:
            if not layer.signs(kind, unless=True):
                raise Denied(
                    f"events of kind {kind} are not signed here",
                    what=f"sign kind {kind}", rule=f"option {layer.text}",
                    remedy=f"mount nostr with kinds= that name {kind}",
                )  # fmt: skip
        owner = next((layer for layer in self.layers if layer.by_owner), Narrow())
        if kind in LOGINS and not owner.signs(kind, unless=False):
            raise Denied(
                f"an event of kind {kind} would let its reader log in as you, and is not signed",
                what=f"sign kind {kind}", rule="its mount does not name it",
                remedy=f"mount nostr with kinds= that name {kind}",
            )  # fmt: skip

    def allowed(self, urls: Sequence[str], *, required: bool) -> list[str]:
        """Leave out the relays that may not be used.

        required: raise OSError when none is left: Denied, or ENOTCONN where there was none.
        """
        refusal: OSError | None = None
        found = []
        for url in dict.fromkeys(urls):
            refused = self._refused(url)
            if refused is None:
                found.append(url)
            refusal = refusal or refused
        if required and not found:
            raise refusal or fault(
                errno.ENOTCONN,
                "there is no relay for this; write to ctl: relay add wss://relay.example.com",
            )
        return found

    def _refused(self, url: str) -> OSError | None:
        for layer in self.layers:
            if layer.relays is not None and url not in layer.relays:
                return Denied(
                    f"the relay {url} is not used here",
                    what=f"use {url}", rule=f"mount option {layer.text}",
                    remedy=f"mount nostr with relays= that name {url}",
                )  # fmt: skip
        if self.policy is None or url == OWN:
            return None
        from oanix.lib.policy import Ask
        from oanix.lib.url import Url

        ask = Ask("GET", Url.parse(url))
        verdict = self.policy.judge(ask, self.rules)
        return None if verdict.allowed else self.policy.denied(ask, verdict)


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    last = last if dash else first
    for part in (first, last):
        if not (part.isascii() and part.isdigit() and len(part) < 6 and int(part) < 65_536):
            raise fault(
                errno.EINVAL, f"kinds= is a list of kinds, as 1,7,30000-39999; not {text!r}"
            )
    return range(int(first), int(last) + 1)


def _relay(text: str) -> str:
    from oanix.services.nostr.keeping import address

    return address(text)

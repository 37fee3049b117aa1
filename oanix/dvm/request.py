"""Request: a job as its tags describe it, and the events that answer it (NIP-90)."""

from typing import Final

from attrs import frozen

from oanix.lib.nostr import Event, Template
from oanix.lib.nostr.event import HEX32

JOB_KINDS: Final = range(5_000, 6_000)
RESULT: Final = 1_000
"""How far the kind of a result lies above that of its request."""

FEEDBACK: Final = 7_000
DELETION: Final = 5

MSAT_DIGITS: Final = 18


@frozen
class Input:
    """What a job is about: a text, or where it is found (`url`, `event`, `job`)."""

    data: str
    type: str = "text"
    relay: str = ""
    marker: str = ""


@frozen
class Request:
    """A request for a job."""

    event: Event
    inputs: tuple[Input, ...]
    params: tuple[tuple[str, ...], ...]
    output: str
    bid: int | None
    providers: frozenset[str]
    encrypted: bool

    @classmethod
    def of(cls, event: Event) -> "Request":
        """Read the tags; what a tag lacks is empty, and what is unknown is left out."""
        bid = event.first("bid") or ""
        digits = bid.isascii() and bid.isdigit() and len(bid) <= MSAT_DIGITS
        return cls(
            event=event,
            inputs=tuple(Input(*tag[1:5]) for tag in event.tags if tag[0] == "i" and len(tag) > 1),
            params=tuple(tag[1:] for tag in event.tags if tag[0] == "param" and len(tag) > 1),
            output=event.first("output") or "",
            bid=int(bid) if digits else None,
            providers=frozenset(event.values("p")),
            encrypted=any(tag[0] == "encrypted" for tag in event.tags),
        )

    @property
    def id(self) -> str:
        """The id of the job: that of its request."""
        return self.event.id

    @property
    def customer(self) -> str:
        """Who asks."""
        return self.event.pubkey

    def described(self) -> dict[str, object]:
        """Give what `job.json` says."""
        event = self.event
        return {
            "id": event.id, "kind": event.kind, "customer": event.pubkey,
            "created_at": event.created_at, "content": event.content,
            "inputs": [
                {"data": one.data, "type": one.type, "relay": one.relay, "marker": one.marker}
                for one in self.inputs
            ],
            "params": [list(param) for param in self.params],
            "output": self.output, "bid": self.bid, "tags": [list(tag) for tag in event.tags],
        }  # fmt: skip

    def result(self, content: str, price: int | None) -> Template:
        """Make the result."""
        tags = [("request", self.event.json().decode()), *self._answers()]
        tags += [tag for tag in self.event.tags if tag[0] == "i"]
        return Template(self.event.kind + RESULT, content, (*tags, *_amount(price)))

    def feedback(self, status: str, words: str = "", price: int | None = None) -> Template:
        """Make what is said before a result, or in place of it."""
        said = ("status", status, words) if words else ("status", status)
        return Template(FEEDBACK, "", (said, *self._answers(), *_amount(price)))

    def _answers(self) -> tuple[tuple[str, ...], ...]:
        return ("e", self.id), ("p", self.customer)


def cancelled(event: Event) -> list[str]:
    """Give the ids of the events that a deletion (NIP-09) is about."""
    return [one for one in event.values("e") if HEX32.fullmatch(one)]


def _amount(price: int | None) -> tuple[tuple[str, ...], ...]:
    return () if price is None else (("amount", str(price)),)

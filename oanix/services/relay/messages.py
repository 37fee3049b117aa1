"""Messages: what clients say to a relay, and what it answers (NIP-01, 42, 45, 67, 77).

A message of a client is a JSON list whose first string says what it is. What is wrong with one is
told to whoever it can be told to: an OK for an event with an id, a CLOSED for a subscription with a
name, and a NOTICE for the rest.
"""

import re
from typing import Final

from attrs import frozen

from oanix.lib.nostr import Event, Filter, Invalid, decode, encode

SUBSCRIPTION_MAX: Final = 64
"""Characters of the name of a subscription (NIP-01)."""

SHOWN_MAX: Final = 64
"""Characters of a client's words that are said back to it."""

_EVENT: Final = '["EVENT",'
"""How nearly every message begins; others may have blanks."""

_HEX: Final = re.compile("(?:[0-9a-fA-F]{2})+")


@frozen
class Say:
    """EVENT: an event to be published."""

    event: Event


@frozen
class Ask:
    """REQ: what is stored, and then what comes."""

    name: str
    filters: tuple[Filter, ...]


@frozen
class Count:
    """COUNT: how many are stored (NIP-45)."""

    name: str
    filters: tuple[Filter, ...]


@frozen
class Close:
    """CLOSE: the end of a subscription."""

    name: str


@frozen
class Negotiate:
    """NEG-OPEN: what both sides have of a filter; message is the client's first (NIP-77)."""

    name: str
    filter: Filter
    message: bytes


@frozen
class Continue:
    """NEG-MSG: the next message of a negotiation."""

    name: str
    message: bytes


@frozen
class Abandon:
    """NEG-CLOSE: the end of a negotiation."""

    name: str


@frozen
class Login:
    """AUTH: an event that proves who asks (NIP-42)."""

    event: Event


Said = Say | Ask | Count | Close | Negotiate | Continue | Abandon | Login


class Refusal(Exception):
    """A message that is refused; `answer` is the one that tells its sender."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(answer)
        self.answer = answer


# What a relay says --------------------------------------------------------------------------------


def ok(event: str, accepted: bool, message: str) -> bytes:
    """Write what became of an event."""
    return encode(["OK", event, accepted, message])


def closed(name: str, message: str) -> bytes:
    """Write that a subscription is refused, or has ended on this side."""
    return encode(["CLOSED", name, message])


def notice(message: str) -> bytes:
    """Write a sentence for a person."""
    return encode(["NOTICE", message])


def eose(name: str, *, more: bool) -> bytes:
    """Write that what is stored has been said; more: whether older events are left (NIP-67)."""
    return encode(["EOSE", name, "more" if more else "finish"])


def counted(name: str, count: int) -> bytes:
    """Write how many there are."""
    return encode(["COUNT", name, {"count": count}])


def negotiated(name: str, message: bytes) -> bytes:
    """Write the next message of a negotiation."""
    return encode(["NEG-MSG", name, message.hex()])


def unnegotiated(name: str, message: str) -> bytes:
    """Write that a negotiation is refused, or has ended on this side."""
    return encode(["NEG-ERR", name, message])


def challenge(text: str) -> bytes:
    """Write what an authentication has to hold."""
    return encode(["AUTH", text])


def event_prefix(name: str) -> bytes:
    """Write what stands before the JSON of an event that a subscription gets; `]` follows it."""
    return b'["EVENT",' + encode(name) + b","


# What a client says -------------------------------------------------------------------------------


def parse(text: str | bytes, *, max_filters: int) -> Said:
    """Read a message of a client. Raises Refusal."""
    if not isinstance(text, str):
        raise Refusal(notice("invalid: a message is text, this was binary"))
    if text.startswith(_EVENT) and (quick := _said(text)) is not None:
        return quick
    try:
        said = decode(text)
    except Invalid as error:
        raise Refusal(notice(f"invalid: {error.reason}")) from None
    if not isinstance(said, list) or not said or not isinstance(said[0], str):
        raise Refusal(notice('invalid: a message is a list that begins with its kind: ["REQ", …]'))
    kind = said[0]
    if kind == "EVENT":
        return Say(_event(said))
    if kind == "AUTH":
        return Login(_event(said))
    if kind == "REQ" or kind == "COUNT":
        name = _name(said)
        filters = _filters(said, name, max_filters)
        return Ask(name, filters) if kind == "REQ" else Count(name, filters)
    if kind == "CLOSE":
        return Close(_name(said))
    if kind.startswith("NEG-") and (negotiation := _negotiation(said)):
        return negotiation
    raise Refusal(notice(f"unsupported: {kind[:SHOWN_MAX]!r} is no message that this relay knows"))


def _said(text: str) -> Say | None:
    try:
        return Say(Event.said(text))
    except Invalid:
        return None  # what is wrong with it is told to whom it concerns


def _negotiation(said: list[object]) -> Said | None:
    kind = said[0]
    if kind == "NEG-CLOSE":
        return Abandon(_name(said))
    if kind not in ("NEG-OPEN", "NEG-MSG"):
        return None
    name = _name(said)
    message = said[-1]
    try:
        if len(said) != (4 if kind == "NEG-OPEN" else 3) or not isinstance(message, str):
            raise Invalid("NEG-OPEN has a name, a filter and a message, NEG-MSG all but the filter")
        if not _HEX.fullmatch(message):
            raise Invalid("the message is no hex")
        raw = bytes.fromhex(message)
        if kind == "NEG-MSG":
            return Continue(name, raw)
        return Negotiate(name, Filter.parse(said[2]), raw)
    except Invalid as error:
        raise Refusal(unnegotiated(name, f"invalid: {error.reason}")) from None


def _event(said: list[object]) -> Event:
    given = said[1] if len(said) == 2 else None
    try:
        return Event.of(given)
    except Invalid as error:
        event = given.get("id") if isinstance(given, dict) else None
        if isinstance(event, str):
            raise Refusal(ok(event[:SHOWN_MAX], False, f"invalid: {error.reason}")) from None
        raise Refusal(notice(f"invalid: {error.reason}")) from None


def _name(said: list[object]) -> str:
    name = said[1] if len(said) > 1 else None
    if not isinstance(name, str):
        raise Refusal(notice(f"invalid: {said[0]} is followed by the name of a subscription"))
    if not name or len(name) > SUBSCRIPTION_MAX:
        raise Refusal(
            closed(
                name[:SUBSCRIPTION_MAX],
                f"invalid: the name of a subscription has 1 to {SUBSCRIPTION_MAX} characters",
            )
        )
    return name


def _filters(said: list[object], name: str, most: int) -> tuple[Filter, ...]:
    given = said[2:]
    if not given:
        raise Refusal(closed(name, "invalid: there is no filter"))
    if len(given) > most:
        raise Refusal(closed(name, f"invalid: at most {most} filters, these are {len(given)}"))
    try:
        return tuple(map(Filter.parse, given))
    except Invalid as error:
        raise Refusal(closed(name, f"invalid: {error.reason}")) from None

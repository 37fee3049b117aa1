"""Policy lines: the rules of a relay as its owner writes them (docs/man/relay.md).

deny connect address=203.0.113.0/24
allow write auth=npub1…
deny write kind=4 -- use NIP-17
rate write 10/s by=author kind=1
pow 20 kind=1
"""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Final

from attrs import evolve

from oanix.lib.nostr import Invalid
from oanix.lib.nostr.event import KIND_MAX
from oanix.lib.nostr.nip19 import event_id_of, pubkey_of
from oanix.lib.policy.addresses import Network
from oanix.lib.policy.rate import Rate
from oanix.services.relay.policy import (
    ANY,
    AUTHOR,
    LOCAL,
    Condition,
    Limit,
    RelayPolicy,
    Rule,
    Work,
)

RULES_MAX: Final = 10_000
TEXT_MAX: Final = 1 << 20

WHATS: Final = ("write", "read", ANY, "connect")
SHARES: Final = (AUTHOR, "address", "all")


def parse_policy(text: str) -> RelayPolicy:
    """Read the lines of a policy. Raises Invalid, naming the line."""
    if len(text) > TEXT_MAX:
        raise Invalid(f"a policy has at most {TEXT_MAX} characters")
    rules: list[Rule] = []
    limits: list[Limit] = []
    works: list[Work] = []
    count = 0
    for number, line in enumerate(text.split("\n"), 1):
        made = parse_line(line, number)
        count += made is not None
        if count > RULES_MAX:
            raise Invalid(f"a policy has at most {RULES_MAX} rules")
        if isinstance(made, Rule):
            _add(rules, made)
        elif isinstance(made, Limit):
            limits.append(made)
        elif made is not None:
            works.append(made)
    return RelayPolicy(tuple(rules), tuple(limits), tuple(works))


def parse_line(line: str, number: int = 0) -> Rule | Limit | Work | None:
    """Read a line; None for an empty one or a comment. Raises Invalid."""
    said, dashes, reason = line.partition(" -- ")
    words = said.split()
    if not words or words[0].startswith("#"):
        return None
    try:
        return _parsed(words, reason.strip() if dashes else "", number)
    except (Invalid, ValueError) as error:
        sentence = error.reason if isinstance(error, Invalid) else str(error)
        raise Invalid(f"line {number}: {sentence}" if number else sentence) from None


def _parsed(words: list[str], reason: str, number: int) -> Rule | Limit | Work:
    verb, *rest = words
    if verb in ("allow", "deny"):
        what = rest.pop(0) if rest else ""
        if what not in WHATS:
            raise Invalid(f"{verb} is followed by one of: {', '.join(WHATS)}")
        condition = _condition(rest)
        if what == "connect" and (condition.of_event or condition.auth is not None):
            raise Invalid("connect has no other condition than address=")
        return Rule(verb == "allow", what, condition, reason, number)
    if verb == "pow":
        bits = rest.pop(0) if rest else ""
        if not (bits.isascii() and bits.isdigit() and len(bits) < 4 and int(bits) <= 256):
            raise Invalid("pow is followed by a number of bits, 0 to 256")
        return Work(int(bits), _condition(rest))
    if verb == "rate":
        return _limit(rest, number)
    raise Invalid(f"{verb[:40]!r} begins no rule; write one of: allow, deny, rate, pow")


def _limit(rest: list[str], number: int) -> Limit:
    if len(rest) < 2 or rest[0] not in ("write", "read"):
        raise Invalid("rate is followed by write or read, and by how often: rate write 10/s")
    what, often, *more = rest
    shares = [word[3:] for word in more if word.startswith("by=")]
    share = shares[-1] if shares else "address"
    if share not in SHARES:
        raise Invalid(f"by= is one of: {', '.join(SHARES)}")
    condition = _condition([word for word in more if not word.startswith("by=")])
    if what == "read" and (condition.of_event or share == AUTHOR):
        raise Invalid("a rate of reading is by address or all, with address= and auth=")
    return Limit(what, Rate.parse(often), share, condition, number)


def _condition(words: Sequence[str]) -> Condition:
    found = Condition()
    for word in words:
        name, equals, text = word.partition("=")
        values = [value for value in text.split(",") if value]
        if not equals or not values:
            raise Invalid(f"{word[:60]!r} is no condition; write kind=1,7 or author=npub1…")
        if name == "kind":
            found = evolve(found, kinds=(found.kinds or frozenset()) | _kinds(values))
        elif name == "author":
            found = evolve(
                found, authors=(found.authors or frozenset()) | set(map(pubkey_of, values))
            )
        elif name == "id":
            found = evolve(found, ids=(found.ids or frozenset()) | set(map(event_id_of, values)))
        elif name == "address":
            found = evolve(found, networks=(found.networks or ()) + tuple(map(_network, values)))
        elif name == "auth":
            keys = {value if value in (ANY, AUTHOR) else pubkey_of(value) for value in values}
            found = evolve(found, auth=(found.auth or frozenset()) | keys)
        else:
            raise Invalid(f"{name[:40]!r} is unknown; conditions are kind author id address auth")
    return found


def _kinds(values: Sequence[str]) -> frozenset[int]:
    kinds: set[int] = set()
    for value in values:
        first, dash, last = value.partition("-")
        for part in (first, last if dash else first):
            if not (part.isascii() and part.isdigit() and len(part) < 6 and int(part) <= KIND_MAX):
                raise Invalid(f"{value[:40]!r} is no kind; write 1, or 30000-39999")
        kinds.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(kinds)


def _network(text: str) -> Network | str:
    if text == LOCAL:
        return text
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise Invalid(
            f"{text[:60]!r} is no address; write 203.0.113.7, 10.0.0.0/8, or local"
        ) from None


def _add(rules: list[Rule], made: Rule) -> None:
    """Add a rule; one that differs from the last in its authors or ids alone becomes part of it.

    A long list of banned keys is then looked up, and not gone through.
    """
    last = rules[-1] if rules else None
    if last is None or (last.allows, last.what, last.reason) != (
        made.allows,
        made.what,
        made.reason,
    ):
        rules.append(made)
        return
    for name in ("authors", "ids"):
        old, new = getattr(last.condition, name), getattr(made.condition, name)
        bare = {name: None}
        if old and new and evolve(last.condition, **bare) == evolve(made.condition, **bare):
            merged = evolve(last.condition, **{name: old | new})
            rules[-1] = evolve(last, condition=merged)
            return
    rules.append(made)


def _head(rule: Rule) -> tuple[bool, str, str]:
    return rule.allows, rule.what, rule.reason

"""Filter: which events somebody asks for (NIP-01), with `search` (NIP-50)."""

from collections.abc import Mapping

from attrs import field, frozen

from oanix.lib.nostr.codec import Invalid
from oanix.lib.nostr.event import HEX32, KIND_MAX, TIME_MAX, Event

VALUES_MAX = 10_000
"""Values in all lists of a filter together: each is a value of a question to the database."""


@frozen
class Filter:
    """What an event must have: one of each list that is given.

    tags: the first values of tags with a name of one letter. since and until are inclusive; limit
    bounds what is stored, not what comes later.
    """

    ids: frozenset[str] | None = None
    authors: frozenset[str] | None = None
    kinds: frozenset[int] | None = None
    tags: Mapping[str, frozenset[str]] = field(factory=dict)
    since: int | None = None
    until: int | None = None
    limit: int | None = None
    search: str | None = None

    @classmethod
    def parse(cls, decoded: object) -> "Filter":
        """Take a filter that was decoded from JSON. Raises Invalid; unknown fields are no error."""
        if not isinstance(decoded, dict):
            raise Invalid("a filter is an object")
        tags = {
            name[1]: _texts(values, name, exact=name in ("#e", "#p"))
            for name, values in decoded.items()
            if len(name) == 2 and name[0] == "#" and name[1].isascii() and name[1].isalpha()
        }
        search = decoded.get("search")
        if search is not None and not isinstance(search, str):
            raise Invalid("search is no text")
        ids, authors = _some(decoded, "ids"), _some(decoded, "authors")
        kinds = _kinds(decoded["kinds"]) if "kinds" in decoded else None
        if sum(map(len, (ids or (), authors or (), kinds or (), *tags.values()))) > VALUES_MAX:
            raise Invalid(f"a filter has more than {VALUES_MAX} values")
        return cls(
            ids=ids,
            authors=authors,
            kinds=kinds,
            tags=tags,
            since=_number(decoded, "since"),
            until=_number(decoded, "until"),
            limit=_number(decoded, "limit"),
            search=search,
        )

    def decoded(self) -> dict[str, object]:
        """Give what its JSON is made of, the same for equal filters."""
        said: dict[str, object] = {}
        for name, values in (("ids", self.ids), ("authors", self.authors), ("kinds", self.kinds)):
            if values is not None:
                said[name] = sorted(values)
        for letter in sorted(self.tags):
            said[f"#{letter}"] = sorted(self.tags[letter])
        for name in ("since", "until", "limit", "search"):
            if (value := getattr(self, name)) is not None:
                said[name] = value
        return said

    def matches(self, event: Event) -> bool:
        """Tell whether an event has what is asked for; `search` and `limit` are the store's."""
        if self.kinds is not None and event.kind not in self.kinds:
            return False
        if self.authors is not None and event.pubkey not in self.authors:
            return False
        if self.ids is not None and event.id not in self.ids:
            return False
        if self.since is not None and event.created_at < self.since:
            return False
        if self.until is not None and event.created_at > self.until:
            return False
        return not self.tags or self._has_tags(event)

    def _has_tags(self, event: Event) -> bool:
        indexed = event.indexed
        return all(
            any((letter, value) in indexed for value in values)
            for letter, values in self.tags.items()
        )


def _some(decoded: dict[str, object], name: str) -> frozenset[str] | None:
    return _texts(decoded[name], name, exact=True) if name in decoded else None


def _texts(values: object, name: str, *, exact: bool) -> frozenset[str]:
    listed = _listed(values, name)
    texts = [value for value in listed if isinstance(value, str)]
    if len(texts) != len(listed):
        raise Invalid(f"{name} is a list of texts")
    if exact and not all(HEX32.fullmatch(text) for text in texts):
        raise Invalid(f"{name} holds 64 digits of lower-case hex each")
    return frozenset(texts)


def _kinds(values: object) -> frozenset[int]:
    listed = _listed(values, "kinds")
    kinds = [value for value in listed if type(value) is int and 0 <= value <= KIND_MAX]
    if len(kinds) != len(listed):
        raise Invalid(f"kinds is a list of numbers from 0 to {KIND_MAX}")
    return frozenset(kinds)


def _listed(values: object, name: str) -> list[object]:
    if not isinstance(values, list) or not values:
        raise Invalid(f"{name} is a list of one value or more")
    if len(values) > VALUES_MAX:
        raise Invalid(f"{name} has more than {VALUES_MAX} values")
    return values


def _number(decoded: dict[str, object], name: str) -> int | None:
    value = decoded.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= TIME_MAX:
        raise Invalid(f"{name} is a whole number, not negative")
    return value

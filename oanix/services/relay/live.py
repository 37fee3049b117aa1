"""Live: who wants to hear of an event as it comes, found without asking every subscription."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence

from attrs import define, field

from oanix.lib.nostr import Event, Filter
from oanix.services.relay.searching import Said, wanted

Deliver = Callable[[Event, bytes], None]
"""Takes an event and its JSON; must not wait and must not raise."""

Allows = Callable[[Event], bool]
"""Whether who listens may see an event."""


@define(eq=False)
class Subscription:
    """Filters of one listener, any of which an event may match. Making it raises Invalid."""

    filters: tuple[Filter, ...]
    allows: Allows
    deliver: Deliver
    _words: tuple[tuple[str, ...], ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._words = tuple(map(wanted, self.filters))

    def wants(self, event: Event, said: Said) -> bool:
        """Tell whether an event, which says this, is for this listener."""
        found = any(
            one.matches(event) and said.has(words)
            for one, words in zip(self.filters, self._words, strict=True)
        )
        return found and self.allows(event)


class Live:
    """The subscriptions, by what an event must have for them.

    Each filter is kept under the values of one of its lists, the most telling one that it has; an
    event is looked up by what it is, so that the others are never asked.
    """

    def __init__(self) -> None:
        self._kept: defaultdict[Hashable, dict[Subscription, None]] = defaultdict(dict)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, subscription: Subscription) -> Callable[[], None]:
        """Tell a listener of what comes from now on; gives what ends that, once."""
        keys = {key for one in subscription.filters for key in _keys(one)}
        for key in keys:
            self._kept[key][subscription] = None
        self._count += 1

        def end() -> None:
            self._count -= 1
            for key in keys:
                found = self._kept[key]
                del found[subscription]
                if not found:
                    del self._kept[key]

        return end

    def tell(self, event: Event, raw: bytes) -> int:
        """Deliver an event to all who want it, each once; gives to how many."""
        if not self._kept:
            return 0
        asked: set[Subscription] = set()
        for key in _of_event(event):
            asked.update(self._kept.get(key, ()))
        told = 0
        said = Said(event)
        for subscription in asked:
            if subscription.wants(event, said):
                subscription.deliver(event, raw)
                told += 1
        return told


def _keys(one: Filter) -> Iterator[Hashable]:
    if one.ids is not None:
        yield from (("id", value) for value in one.ids)
    elif one.authors is not None:
        yield from (("author", value) for value in one.authors)
    elif one.tags:
        letter, values = min(one.tags.items(), key=lambda item: len(item[1]))
        yield from (("tag", letter, value) for value in values)
    elif one.kinds is not None:
        yield from (("kind", value) for value in one.kinds)
    else:
        yield "all"


def _of_event(event: Event) -> Sequence[Hashable]:
    return [
        ("id", event.id), ("author", event.pubkey), ("kind", event.kind), "all",
        *(("tag", letter, value) for letter, value in event.indexed),
    ]  # fmt: skip

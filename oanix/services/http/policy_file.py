"""The file `policy`: the rules that count here, and how they are changed.

The owner's namespace changes the rules, a child's only narrows them for itself.
"""

import errno
from typing import TYPE_CHECKING

from oanix import path as paths
from oanix.errors import fault
from oanix.kit import Handler, Opening, Snapshot
from oanix.kit.rules import OURS, CollectingRules, open_rules
from oanix.lib.policy import Layer, Rules
from oanix.lib.policy.narrowing import narrow, narrowings
from oanix.node import Handle

LAYERS_MAX = 16
"""How often a namespace is narrowed by a policy of its own: each is asked for each request."""

if TYPE_CHECKING:
    from collections.abc import Hashable

    from oanix.services.http.view import HttpView


class PolicyHandler(Handler):
    """The file."""

    reads = writes = True

    def __init__(self, view: "HttpView") -> None:
        self._view = view
        self._size = 0

    def size(self) -> int:
        return self._size

    async def open(self, opening: Opening) -> Handle:
        shown = Snapshot(self._shown(opening), opening.file)
        self._size = shown.size or 0
        book = self._view.service.book
        if opening.writes and opening.namespace.is_child:
            before = shown if opening.reads else None
            return CollectingRules(opening, book, _Narrowing(self._view, opening), before)
        return open_rules(opening, book, shown)

    def _shown(self, opening: Opening) -> bytes:
        book = self._view.service.book
        text = book.text if book.text.endswith("\n") or not book.text else f"{book.text}\n"
        if book.warning:
            text += f"{OURS}{book.warning}\n"
        elif not Rules.parse(text).rules:
            text += f"{OURS}no rules: every public address is allowed\n"
        for layer in self._view.layers_of(opening.namespace):
            text += f"{OURS}and narrowed by {layer.name}:\n"
            text += "".join(f"{OURS}    {rule.text}\n" for rule in layer.rules.rules)
        return paths.encode(text)


class _Narrowing:
    """The layer that one open file of a child's namespace adds."""

    def __init__(self, view: "HttpView", opening: Opening) -> None:
        self._view = view
        self._kept = opening.namespace.layers
        self._layer: Layer | None = None

    def __call__(self, text: str) -> None:
        rules = Rules.parse(text)
        before = self._layer.rules.rules if self._layer is not None else ()
        if self._layer is not None and rules.rules[: len(before)] == before:
            self._layer.rules = rules
        elif rules.rules:
            # Another list than before, as after a truncation: what counted goes on to.
            _check_count(self._view, self._kept)
            self._layer = Layer(rules, "this namespace's policy")
            narrow(self._view.service.policy, self._kept, self._layer)


def _check_count(view: "HttpView", kept: "dict[Hashable, object]") -> None:
    if len(narrowings(view.service.policy, kept)) >= LAYERS_MAX:
        raise fault(
            errno.ENOSPC,
            f"a namespace is narrowed at most {LAYERS_MAX} times; write all rules at once",
        )

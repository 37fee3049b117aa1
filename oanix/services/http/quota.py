"""Quota: how many things of one kind a user or job may have at a time."""

import errno
from collections import Counter

from oanix.caller import Caller
from oanix.errors import fault
from oanix.kit.conversation import maker_key


class Quota:
    """Counts what each has."""

    def __init__(self, limit: int, sentence: str) -> None:
        self._limit = limit
        self._sentence = sentence
        self._held: Counter[str] = Counter()

    def hold(self, caller: Caller) -> None:
        """Count one more. Raises OSError EMFILE."""
        key = maker_key(caller)
        if self._held[key] >= self._limit:
            raise fault(errno.EMFILE, f"you have {self._limit} {self._sentence}")
        self._held[key] += 1

    def drop(self, caller: Caller) -> None:
        """Count one less."""
        key = maker_key(caller)
        self._held[key] -= 1
        if self._held[key] <= 0:
            del self._held[key]

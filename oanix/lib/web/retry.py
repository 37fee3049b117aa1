"""Retries: what may be asked again, and when."""

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

from attrs import frozen

from oanix.lib.web.headers import find
from oanix.lib.web.model import Body, Headers

IDEMPOTENT: Final = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
"""RFC 9110, section 9.2.2."""

_BASE_S: Final = 0.2
_AGAIN: Final = (429, 503)


@frozen
class Patience:
    """Decides on waits.

    longest_s: a server that asks for more is not waited for. random: gives numbers from 0 to 1.
    """

    retries: int
    longest_s: float
    now: Callable[[], float]
    random: Callable[[], float]

    def allows(self, method: str, body: Body | None, attempt: int) -> bool:
        """Tell whether a request may be sent once more after this attempt, the first being 0."""
        replayable = body is None or body.replayable
        return method in IDEMPOTENT and replayable and attempt < self.retries

    def after_failure(self, attempt: int) -> float:
        """Say how long to wait: a random part of a time that doubles (full jitter)."""
        return self.random() * _BASE_S * float(2**attempt)

    def after_answer(self, status: int, headers: Headers, attempt: int) -> float | None:
        """Say how long the server asks to wait, and a little more; None: take the answer."""
        if status not in _AGAIN:
            return None
        asked = self._asked(find(headers, "retry-after"))
        if asked is None or asked > self.longest_s:
            return None
        return asked + self.after_failure(attempt)

    def _asked(self, value: str | None) -> float | None:
        """Read a Retry-After: seconds, or a date (RFC 9110, section 10.2.3)."""
        if value is None:
            return None
        if value.isascii() and value.isdigit():
            return float(value) if len(value) < 10 else None
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - self.now())
        except (ValueError, OverflowError):
            return None

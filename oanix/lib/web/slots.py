"""Slots: how many exchanges may be under way: of one asker with one origin, of one, and in all."""

import errno
from collections.abc import Hashable

import trio
from attrs import define, field

from oanix.errors import fault


@define(eq=False)
class _Turns:
    """The turns of an asker, or of one with an origin; dropped when nobody has or wants one."""

    turns: trio.Semaphore
    users: int = 0


@define(eq=False)
class Slots:
    """Bounded turns, first come, first served."""

    per_origin: int
    in_all: int
    patience_s: float
    per_asker: int = 32
    _kept: dict[Hashable, _Turns] = field(factory=dict, init=False)

    @property
    def taken(self) -> int:
        """How many exchanges are under way."""
        everybody = self._kept.get(None)
        return self.in_all - everybody.turns.value if everybody else 0

    async def take(self, who: str, origin: str) -> "Slot":
        """Wait for a turn; a cancelled wait leaves none taken. Raises OSError ETIMEDOUT."""
        slot = Slot(self)
        try:
            with trio.fail_after(self.patience_s):
                await slot.acquire((who, origin), self.per_origin)
                await slot.acquire(who, self.per_asker)
                await slot.acquire(None, self.in_all)
        except trio.TooSlowError:
            slot.release()
            raise fault(
                errno.ETIMEDOUT,
                f"no turn within {self.patience_s:g} s: of your {self.per_origin} exchanges with"
                f" {origin}, your {self.per_asker} and {self.in_all} of everybody none"
                " ended; close what is not read",
            ) from None
        except BaseException:
            slot.release()
            raise
        return slot

    async def acquire(self, key: Hashable, most: int) -> _Turns:
        """Wait for one of the turns of a key; `Slot.acquire` does it."""
        turns = self._kept.setdefault(key, _Turns(trio.Semaphore(most)))
        turns.users += 1
        try:
            await turns.turns.acquire()
        except BaseException:
            self._leave(key, turns)
            raise
        return turns

    def give_back(self, key: Hashable, turns: _Turns) -> None:
        """End a turn; `Slot.release` does it once."""
        turns.turns.release()
        self._leave(key, turns)

    def _leave(self, key: Hashable, turns: _Turns) -> None:
        turns.users -= 1
        if not turns.users:
            del self._kept[key]


@define(eq=False)
class Slot:
    """One turn, which is one of each bound."""

    _slots: Slots
    _held: list[tuple[Hashable, _Turns]] = field(factory=list, init=False)

    async def acquire(self, key: Hashable, most: int) -> None:
        """Wait for one more bound."""
        self._held.append((key, await self._slots.acquire(key, most)))

    def release(self) -> None:
        """Give the turn to the next; twice does no harm."""
        while self._held:
            self._slots.give_back(*self._held.pop())

"""Slots: how many exchanges may be under way, for one origin and in all."""

import errno

import trio
from attrs import define, field

from oanix.errors import fault


@define(eq=False)
class _Turns:
    """The turns of one origin; dropped when nobody has or wants one."""

    turns: trio.Semaphore
    users: int = 0


@define(eq=False)
class Slots:
    """Bounded turns, first come, first served."""

    per_origin: int
    in_all: int
    patience_s: float
    _origins: dict[str, _Turns] = field(factory=dict, init=False)
    _all: trio.Semaphore = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._all = trio.Semaphore(self.in_all)

    @property
    def taken(self) -> int:
        """How many exchanges are under way."""
        return self.in_all - self._all.value

    async def take(self, origin: str) -> "Slot":
        """Wait for a turn; a cancelled wait leaves none taken. Raises OSError ETIMEDOUT."""
        kept = self._origins.setdefault(origin, _Turns(trio.Semaphore(self.per_origin)))
        kept.users += 1
        try:
            with trio.fail_after(self.patience_s):
                await kept.turns.acquire()
                try:
                    await self._all.acquire()
                except BaseException:
                    kept.turns.release()
                    raise
        except trio.TooSlowError:
            self._leave(origin, kept)
            raise fault(
                errno.ETIMEDOUT,
                f"no turn within {self.patience_s:g} s: of {self.per_origin} exchanges with"
                f" {origin} and {self.in_all} in all none ended; close what is not read",
            ) from None
        except BaseException:
            self._leave(origin, kept)
            raise
        return Slot(self, origin, kept)

    def give_back(self, origin: str, kept: _Turns) -> None:
        """End a turn; `Slot.release` does it once."""
        self._all.release()
        kept.turns.release()
        self._leave(origin, kept)

    def _leave(self, origin: str, kept: _Turns) -> None:
        kept.users -= 1
        if not kept.users:
            del self._origins[origin]


@define(eq=False)
class Slot:
    """One turn."""

    _slots: Slots
    _origin: str
    _kept: _Turns
    _held: bool = True

    def release(self) -> None:
        """Give the turn to the next; twice does no harm."""
        if self._held:
            self._held = False
            self._slots.give_back(self._origin, self._kept)

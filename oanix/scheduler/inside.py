"""Inside: guests in the process of the server, which start at once and share its fate."""

from collections.abc import Awaitable, Callable
from typing import Any

from oanix.scheduler.engine import (
    Ended,
    Engine,
    Function,
    Guest,
    GuestLimits,
    Linker,
    Loaded,
    Used,
    in_time,
)
from oanix.scheduler.modules import Stored


class Inside:
    """Runs guests here. functions: what they import."""

    def __init__(self, functions: Callable[[], list[Function]]) -> None:
        self._functions = functions
        self._engines: dict[bool, tuple[Linker, Loaded]] = {}

    async def run(
        self, kept: Stored, state: Any, limits: GuestLimits,
        entry: "str | Callable[[Guest], Awaitable[int]]" = "_start",
        begun: Callable[[Guest], None] = lambda guest: None,
    ) -> Ended:  # fmt: skip
        """Run a guest to its end. begun: called with it before it starts.

        Raises BadModule, OSError, and what a function raises, but for `Exit`.
        """
        linker, loaded = self._tools(limits.fuel is not None)
        loading = loaded.get(kept.digest, kept.path, kept.compiled)
        module, left = await in_time(limits, loading)
        if module is None:
            return Ended(limit="wall", used=Used(wall=limits.wall, cpu=0.0, memory=0, fuel=None))
        with Guest(linker, module, state, left) as guest:
            begun(guest)
            return await guest.run(entry)

    def _tools(self, counted: bool) -> tuple[Linker, Loaded]:
        if counted not in self._engines:
            engine = Engine(fuel=counted)
            self._engines[counted] = Linker(engine, self._functions()), Loaded(engine)
        return self._engines[counted]

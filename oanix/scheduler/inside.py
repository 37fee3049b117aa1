"""Inside: guests in the process of the server, which start at once and share its fate."""

from collections.abc import Awaitable, Callable
from typing import Any

from oanix.scheduler.engine import Ended, Engine, Function, Guest, GuestLimits, Linker, Loaded
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
        module = await loaded.get(kept.digest, kept.path, kept.compiled)
        with Guest(linker, module, state, limits) as guest:
            begun(guest)
            return await guest.run(entry)

    def _tools(self, counted: bool) -> tuple[Linker, Loaded]:
        if counted not in self._engines:
            engine = Engine(fuel=counted)
            self._engines[counted] = Linker(engine, self._functions()), Loaded(engine)
        return self._engines[counted]

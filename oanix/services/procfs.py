"""ProcFs: the namespace itself, as files.

    self/ns      the recipe that rebuilds it
    self/ctl     lines of a recipe (bind, unmount, seal) change it
    self/env     its environment, KEY=VALUE a line
    self/limits  its limits, key value a line
    self/status  what is mounted, and how that is

Each shows the namespace through which it is opened.
"""

import itertools

from oanix.kit import Folder, Handler, Opening, TableService, Text, facts
from oanix.kit.lines import LinesHandle
from oanix.node import Handle
from oanix.recipe import RecipeError, parse, quote


class ProcFs(TableService):
    """The namespace that you are in.

    self/ns      the recipe that rebuilds it
    self/ctl     write bind, unmount or seal to change it, as a recipe has them
    self/env     its environment, KEY=VALUE a line
    self/limits  its limits
    self/status  sealed or not, what is mounted where, and how that is

        cat self/ns
        echo 'bind /workspace /src ro' > self/ctl
        echo 'unmount /src' > self/ctl
    """

    name = "proc"

    def __init__(self) -> None:
        super().__init__()
        own = Folder(
            (
                ("ns", 0o444, Text(lambda opening: opening.namespace.recipe())),
                ("ctl", 0o200, _RecipeCtl()),
                ("env", 0o400, Text(_env)),
                ("limits", 0o444, Text(lambda opening: facts(opening.namespace.limits))),
                ("status", 0o444, Text(_status)),
            )
        )
        self.grow((("self", 0o555, own),))


def _env(opening: Opening) -> str:
    return "".join(f"{key}={value}\n" for key, value in sorted(opening.namespace.env.items()))


def _status(opening: Opening) -> str:
    namespace = opening.namespace
    mounts = namespace.entries()
    lines = [
        f"sealed {'yes' if namespace.sealed else 'no'}",
        f"child {'yes' if namespace.is_child else 'no'}",
        f"mounts {len(mounts)}",
    ]
    for path, entry in mounts:
        lines.append(f"mount {quote(path)} {entry.service.name} {entry.access.value}")
        # How a service is may tell of its host and of others: not for a child to read.
        if not namespace.is_child:
            told = facts(entry.service.status()).splitlines()
            lines += [f"service {quote(path)} {fact}" for fact in told]
    return "".join(f"{line}\n" for line in lines)


class _RecipeCtl(Handler):
    """Does lines of a recipe; errors say at which line of this open, and at which column."""

    writes = True

    async def open(self, opening: Opening) -> Handle:
        numbers = itertools.count(1)

        def act(line: str, opening: Opening) -> bool:
            return _apply(line, opening, next(numbers))

        return LinesHandle(opening, act)


def _apply(line: str, opening: Opening, number: int) -> bool:
    source = opening.file.name
    try:
        lines = parse(line, source)
        for placed in lines:
            opening.namespace.apply(placed)
    except RecipeError as error:
        raise RecipeError(
            error.sentence, source=source, line=number, column=error.column, number=error.errno or 0
        ) from None
    return bool(lines)

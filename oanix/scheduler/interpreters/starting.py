"""Starting: how a guest is begun, by a name, so that whoever runs it elsewhere can be told."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from oanix.scheduler.interpreters import quickjs

Start = Callable[[Any], Awaitable[int]]
"""Calls what a guest exports, and gives the code with which it ends. A guest is one of the engine
or of a worker: it has `call`, `memory`, and as `state` its process."""

_STARTS: Final[Mapping[str, Start]] = {"quickjs": quickjs.start}


def start_of(entry: str) -> str | Start:
    """Give what `Guest.run` takes: a function of the host, or the name of an export."""
    return _STARTS.get(entry, entry)

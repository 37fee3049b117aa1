"""Calls: the operations of a step, alike ones put together, so that a loop is one call."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attrs import define, field

CONTENT_MAX: Final = 1_000
"""Characters of what came of a call."""
VALUE_MAX: Final = 2_000
"""Characters of one argument."""
PATHS_MAX: Final = 10
"""Names of a kind of call that is told once for all of them."""
LIST_MAX: Final = 50

Mask = Callable[[str], str]
Key = tuple[str, str, str]


@define(eq=False)
class Made:
    """One call, or several alike.

    read, written: bytes; errno by name, empty when it was done. key: what tells it from others of
    its name and errno, where that is less than all of its arguments.
    """

    name: str
    arguments: dict[str, Any]
    outcome: str = ""
    errno: str = ""
    seconds: float = -1.0
    read: int = 0
    written: int = 0
    run: int = 0
    times: int = 1
    key: str = ""
    served: bool = False
    """Whether a service did it for the job."""
    paths: list[str] = field(factory=list)

    @property
    def weighty(self) -> bool:
        """Whether it is told even where other calls are counted only."""
        return self.served or bool(self.errno)

    def content(self) -> str:
        """Tell what came of it."""
        said = [self.outcome] if self.outcome else []
        if self.read:
            said.append(f"read {size(self.read)}")
        if self.written:
            said.append(f"wrote {size(self.written)}")
        if self.times > 1:
            said.append(f"{self.times:,} times")
        told = ", ".join(said) or "done"
        return f"{self.errno}: {told}" if self.errno else told


@define(eq=False)
class Calls:
    """The calls of one step, in their order."""

    _made: dict[Key, Made] = field(factory=dict)

    def __len__(self) -> int:
        return len(self._made)

    def __iter__(self) -> Iterator[Made]:
        return iter(self._made.values())

    def find(self, name: str, key: str, errno: str) -> Made | None:
        """Find the call that one with this key is like."""
        return self._made.get((name, key, errno))

    def add(self, one: Made) -> bool:
        """Take a call; tells whether it is like none before it."""
        key = one.name, one.key or repr(one.arguments), one.errno
        same = self._made.get(key)
        if same is None:
            self._made[key] = one
            return True
        same.times += 1
        same.read += one.read
        same.written += one.written
        same.outcome, same.run = one.outcome, one.run
        if one.seconds >= 0:
            same.seconds = max(same.seconds, 0) + one.seconds
        for path in one.paths:
            if len(same.paths) < PATHS_MAX and path not in same.paths:
                same.paths.append(path)
        return False


def size(number: int) -> str:
    """Write a number of bytes."""
    return "1 byte" if number == 1 else f"{number:,} bytes"


def shown(value: Any, mask: Mask) -> Any:
    """Give a value as a record shows it: secrets masked, long texts and lists cut."""
    if isinstance(value, str):
        return cut(mask(value), VALUE_MAX)
    if isinstance(value, Mapping):
        return {str(name): shown(one, mask) for name, one in value.items()}
    if isinstance(value, list | tuple):
        kept = [shown(one, mask) for one in value[:LIST_MAX]]
        return kept if len(kept) == len(value) else [*kept, f"… {len(value) - LIST_MAX} more"]
    return value


def cut(text: str, most: int) -> str:
    """Cut a text, and say how much is missing."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} characters more)"

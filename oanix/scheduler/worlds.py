"""Worlds: the namespace of a job, as its order or the default grants it."""

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from attrs import evolve

from oanix.caller import Caller
from oanix.channel import Channel
from oanix.errors import fault
from oanix.namespace import Namespace
from oanix.recipe import parse, quote
from oanix.table import Member, mapped

HIDDEN: Final = (".env*", "*.pem", "*.key", ".git/config")
"""What the default hides in a workspace: where secrets are."""

_DEFAULT: Final = (
    ("/workspace", f"/workspace exclude={':'.join(HIDDEN)}"),
    ("/dist", "/dist"),
    ("/dev", "/dev"),
    ("/proc", "/proc"),
)
"""What a job gets when its order says nothing: the files, and nothing that reaches the network."""


def default_recipe(parent: Namespace, caller: Caller, granted: Sequence[str] = ()) -> str:
    """Write the recipe of a job whose order has none. granted: paths of the parent, as they are."""
    lines = [
        f"bind {source} {target}" for source, target in _DEFAULT if _exists(parent, caller, source)
    ]
    lines += [f"bind {quote(path)} {quote(path)}" for path in granted]
    return "\n".join([*lines, "seal", ""])


def _exists(parent: Namespace, caller: Caller, path: str) -> bool:
    try:
        parent.resolve(caller, path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def world(
    parent: Namespace, recipe: str, given: Mapping[str, Channel],
    shown: Callable[[Member], Member],
) -> Namespace:  # fmt: skip
    """Make the namespace of a job.

    given: what every job is given, at these paths; shown: how a service shows it what is bound.
    Raises RecipeError, with line and column; OSError as `shown`.
    """
    space = parent.derive(parse(recipe, "namespace"), given)
    if not space.root.is_directory:
        raise fault(errno.ENOTDIR, "namespace: the root of a job is a directory, and no file")
    space.table = mapped(
        space.table, lambda place: evolve(place, members=tuple(map(shown, place.members)))
    )
    return space


def hidden_in(channel: Channel, caller: Caller) -> list[str]:
    """Say which patterns hide something at a place, as a mount or bind has them."""
    patterns = channel.entry.options.get("exclude", "")
    return [pattern for pattern in patterns.split(":") if pattern]

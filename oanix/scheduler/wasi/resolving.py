"""Resolving: finds what a path of a guest names, beneath the directory that it gave.

`..` and links may not leave that directory; at the root of the namespace, where there is nothing
to leave, an absolute link is followed (path_resolution(7); WASI preview 1, `path_open`).
"""

import errno
from typing import Final

from attrs import frozen

from oanix import path as paths
from oanix.caller import Caller
from oanix.channel import Channel
from oanix.errors import Missing, fault
from oanix.scheduler.wasi.descriptors import NotCapable

STEPS_MAX: Final = 4_096
"""Names that are looked up for one path: links within links may name as many as they like."""


@frozen(eq=False)
class Way:
    """Where a path leads: the directory of its last name, that name, and what is there.

    name is empty for a path that has none of its own (`.`, `a/.`, `a/..`); slash: whether it must
    be a directory, as the path ends with `/`.
    """

    parent: Channel
    name: str
    found: Channel | None
    slash: bool

    def there(self) -> Channel:
        """Give what is there. Raises Missing."""
        if self.found is None:
            raise Missing(below(self.parent, self.name))
        return self.found

    def named(self, number: int) -> tuple[Channel, str]:
        """Give the directory and the name. Raises OSError with this errno where there is none."""
        if not self.name:
            raise fault(number, "this path has no last name of its own")
        return self.parent, self.name


def below(directory: Channel, name: str) -> str:
    """Give the path of a name in a directory."""
    return f"{directory.path.rstrip('/')}/{name}"


def resolve(caller: Caller, base: Channel, path: str, *, follow: bool) -> Way:
    """Find a path. Raises OSError ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EINVAL; NotCapable."""
    todo = paths.split(path)[::-1]
    if path.startswith("/"):
        raise NotCapable(f"{path} is absolute: paths begin at a directory that was given")
    dot = path == "." or path.endswith("/.")
    slash = dot or path.endswith("/")
    stack = [base]
    links = steps = 0
    while todo:
        name = todo.pop()
        steps += 1
        if steps > STEPS_MAX:
            raise fault(errno.ELOOP, f"over {STEPS_MAX} names are on the way", path)
        if name == "..":
            if len(stack) == 1:
                raise NotCapable(f"{path} leads out of the directory that it begins at")
            stack.pop()
            continue
        here = stack[-1]
        try:
            found = here.walk(caller, name)
        except FileNotFoundError:
            if todo or dot:
                raise Missing(below(here, name)) from None
            return Way(here, name, None, slash)
        if found.is_symlink and (todo or follow or slash):
            links += 1
            if links > paths.SYMLINK_MAX:
                raise fault(errno.ELOOP, "too many symbolic links", path)
            target = found.readlink(caller)
            if target.startswith("/"):
                if base.parent is not None:
                    raise NotCapable(f"the link {found.path} leads out of where it may be followed")
                stack = [base]
            slash = slash or (not todo and target.endswith(("/", "/.")))
            todo += paths.split(target)[::-1]
            continue
        if not found.is_directory and (todo or slash):
            raise fault(errno.ENOTDIR, f"{found.path} is no directory", path)
        if not (todo or dot):
            return Way(here, name, found, slash)
        stack.append(found)
    return Way(stack[-1], "", stack[-1], slash)

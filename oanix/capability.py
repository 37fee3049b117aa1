"""What a node can do; a missing capability is answered here, for every service alike."""

import errno
from typing import TypeVar

from oanix.errors import fault
from oanix.node import (
    CanCreate,
    CanLink,
    CanReadlink,
    CanRemove,
    CanRename,
    CanSetattr,
    CanXattr,
    Directory,
    Node,
)

N = TypeVar("N", bound=Node)

_REFUSALS: dict[type[Node], tuple[int, str]] = {
    CanCreate: (
        errno.EROFS,
        "nothing can be made in this directory; write to its files (sed -i would make another)",
    ),
    CanRemove: (errno.EROFS, "nothing in this directory can be removed"),
    CanRename: (errno.EROFS, "nothing in this directory can be renamed"),
    CanLink: (errno.EPERM, "this service has no hard links"),
    CanReadlink: (errno.EINVAL, "this is no symbolic link"),
    CanSetattr: (errno.EROFS, "the attributes of this file cannot be changed"),
    CanXattr: (errno.EOPNOTSUPP, "this service has no extended attributes"),
}


def able(node: Node, capability: type[N]) -> N:
    """Give the node as one that has the capability, or refuse with its errno."""
    if isinstance(node, capability):
        return node
    if issubclass(capability, Directory):
        directory_of(node)
    number, sentence = _REFUSALS[capability]
    raise fault(number, sentence)


def directory_of(node: Node) -> Directory:
    """Give the node as a directory. Raises ENOTDIR."""
    if isinstance(node, Directory):
        return node
    raise fault(errno.ENOTDIR, "this is no directory")


def has_name(node: Node, name: str) -> bool:
    """Tell whether a directory has the name. Raises ENOTDIR."""
    try:
        directory_of(node).walk(name)
    except FileNotFoundError:
        return False
    return True

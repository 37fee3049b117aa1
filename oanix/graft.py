"""Graft: what a bind puts into the mount table, computed on places and changing nothing.

The places beneath the source come along, with fresh mount entries and the stricter of both rights,
so that no cover is lost by giving a tree a second name.
"""

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import evolve

from oanix.errors import fault
from oanix.node import Directory
from oanix.table import Access, Member, MountEntry, Place, mapped, merged

if TYPE_CHECKING:
    from oanix.channel import Channel


def graft(
    source: "Channel", access: Access, options: Mapping[str, str], *, create: bool, maker: int
) -> Place:
    """Copy what the source shows, and all that is mounted beneath it, for another place.

    create: whether it takes new names as a member of a union. maker: the number of the namespace.
    What another namespace made beneath the top is locked in the copy. Raises as `Service.narrow`.
    """
    place = source.place
    if place is None or not (place.members or source.is_directory):
        place = Place()
    if not place.members:
        place = evolve(place, members=(Member(source.entry, source.node),), opaque=False)
    top = place

    def copy(old: Place) -> Place:
        foreign = old.locked or (old.maker != maker and bool(old.members or old.opaque))
        is_top = old.number == top.number
        return evolve(
            old,
            members=tuple(_narrowed(member, access, options, is_top) for member in old.members),
            locked=foreign and not is_top,
            maker=maker,
            number=Place().number,
        )

    grafted = mapped(place, copy)
    members = tuple(evolve(member, create=create) for member in grafted.members)
    return evolve(grafted, members=members)


def union(
    target: "Channel", old: Place | None, grafted: Place, *, before: bool, locked: bool, maker: int
) -> Place:
    """Join a graft with what is at the target, before it or after it. Raises ENOTDIR for a file.

    old: the place of the target in the table, if it has one. locked: whether taking the union away
    would uncover something. maker: the number of the namespace.
    """
    members = grafted.members
    if not target.is_directory or not all(isinstance(m.node, Directory) for m in members):
        raise fault(errno.ENOTDIR, "a union joins directories; bind a file without -a and -b")
    base = old or Place()
    own = base.members or (Member(target.entry, target.node),)
    first, second = (grafted, base) if before else (base, grafted)
    return evolve(
        base,
        members=(*members, *own) if before else (*own, *members),
        children=merged(first, second),
        locked=base.locked or locked,
        maker=maker,
    )


def _narrowed(member: Member, access: Access, options: Mapping[str, str], is_top: bool) -> Member:
    old = member.entry
    service = old.service
    mine = options if is_top else {k: v for k, v in options.items() if k in service.options}
    node = service.narrow(member.node, mine) if mine else member.node
    entry = MountEntry(service, old.access.narrowed(access), {**old.options, **mine})
    return Member(entry, node, member.create)

"""Space: how much a file system in memory may hold, in all and for each user.

Bytes are those of pages, extended attributes and the targets of links; a file is a name, as each
takes memory whatever its size. Root has no quota of its own, as with Linux's quotas (quotactl(2)).
"""

import errno

from attrs import define, field, frozen

from oanix.errors import fault


@frozen(kw_only=True)
class Limits:
    """What the file system may hold; None for a user means no quota."""

    size: int = 1 << 30
    files: int = 1_000_000
    user_size: int | None = None
    user_files: int | None = None


@define
class Use:
    """What is in use."""

    size: int = 0
    files: int = 0


@define(eq=False)
class Space:
    """Counts what is in use against the limits."""

    limits: Limits
    total: Use = field(factory=Use, init=False)
    users: dict[int, Use] = field(factory=dict, init=False)

    def room(self, uid: int) -> int:
        """Tell how many more bytes this user may take."""
        room = self.limits.size - self.total.size
        if self.limits.user_size is not None and uid:
            room = min(room, self.limits.user_size - self._of(uid).size)
        return max(room, 0)

    def check(self, uid: int, size: int = 0, files: int = 0) -> None:
        """Refuse what finds no room. Raises OSError: ENOSPC for all users, EDQUOT for this one."""
        if size > 0 and self.total.size + size > self.limits.size:
            raise fault(errno.ENOSPC, f"this file system holds {self.limits.size} bytes; all taken")
        if files > 0 and self.total.files + files > self.limits.files:
            raise fault(errno.ENOSPC, f"this file system holds {self.limits.files} files; no more")
        self.check_user(uid, size, files)

    def check_user(self, uid: int, size: int = 0, files: int = 0) -> None:
        """Refuse what is over the quota of one user. Raises OSError EDQUOT."""
        if not uid:
            return
        use = self._of(uid)
        for name, more, used, limit in (
            ("bytes", size, use.size, self.limits.user_size),
            ("files", files, use.files, self.limits.user_files),
        ):
            if limit is not None and more > 0 and used + more > limit:
                raise fault(errno.EDQUOT, f"uid {uid} may have {limit} {name} here; remove some")

    def take(self, uid: int, size: int = 0, files: int = 0) -> None:
        """Count what was checked before; negative numbers give back."""
        self.total.size += size
        self.total.files += files
        use = self.users.setdefault(uid, Use())
        use.size += size
        use.files += files
        if not (use.size or use.files):
            del self.users[uid]

    def move(self, old: int, new: int, size: int, files: int) -> None:
        """Count something for another user. Raises OSError EDQUOT."""
        self.check_user(new, size, files)
        self.take(old, -size, -files)
        self.take(new, size, files)

    def _of(self, uid: int) -> Use:
        return self.users.get(uid) or Use()

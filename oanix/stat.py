"""Stat: the attributes of a file, under the names that `os.stat_result` gives them.

A service over a host directory answers with `os.stat_result` itself; a synthetic one makes a
`Stat`.
"""

from typing import Protocol

from attrs import define, frozen


class StatLike(Protocol):
    """What every answer to `stat` has; times in nanoseconds since the epoch, sizes in bytes.

    st_ino is 0 where no host gave the file a number.
    """

    @property
    def st_mode(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_nlink(self) -> int: ...
    @property
    def st_uid(self) -> int: ...
    @property
    def st_gid(self) -> int: ...
    @property
    def st_rdev(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_blksize(self) -> int: ...
    @property
    def st_blocks(self) -> int: ...
    @property
    def st_atime_ns(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...
    @property
    def st_ctime_ns(self) -> int: ...


@define
class Stat:
    """The attributes of a file that no host has."""

    st_mode: int
    st_nlink: int = 1
    st_uid: int = 0
    st_gid: int = 0
    st_rdev: int = 0
    st_size: int = 0
    st_blksize: int = 4096
    st_atime_ns: int = 0
    st_mtime_ns: int = 0
    st_ctime_ns: int = 0
    st_blocks: int = 0
    st_ino: int = 0


@frozen(kw_only=True)
class Changed:
    """What a `setattr` changes; None leaves it as it is (chmod, chown, truncate, utimensat)."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


@frozen(kw_only=True)
class StatFs:
    """The state of the storage behind a service (statvfs(3)); sizes in units of bsize."""

    bsize: int = 4096
    frsize: int = 4096
    blocks: int = 0
    bfree: int = 0
    bavail: int = 0
    files: int = 0
    ffree: int = 0
    favail: int = 0

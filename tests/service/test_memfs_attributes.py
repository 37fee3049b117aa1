"""Owners, modes, times and extended attributes in memory are as Linux has them."""

import errno
import itertools
import os
import stat as modes

import pytest
from attrs import evolve

from oanix.caller import Caller
from oanix.channel import Channel
from oanix.services.memfs import MemFs
from oanix.services.memfs.node import DAY_NS
from oanix.stat import Changed
from tests.reach import ALICE, BOB, ROOT, Reach, refused


class Clock:
    """Time that passes a microsecond a look, and as told."""

    def __init__(self) -> None:
        self.now = 10**18

    def __call__(self) -> int:
        self.now += 1000
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reach(clock: Clock) -> Reach:
    return Reach.of(MemFs(clock=clock))


@pytest.fixture
def root(reach: Reach) -> Channel:
    return reach.at("/")


def make(root: Channel, name: str = "f", mode: int = 0o644) -> Channel:
    channel, file, _ = root.create(ALICE, name, os.O_RDWR, mode)
    file.close(ALICE)
    return channel


# Owners and modes --------------------------------------------------------------------------------


def test_what_is_made_belongs_to_who_makes_it(root: Channel) -> None:
    made = [
        make(root).stat(ALICE),
        root.mkdir(ALICE, "d", 0o755)[1],
        root.symlink(ALICE, "l", "x")[1],
        root.mknod(ALICE, "p", modes.S_IFIFO | 0o600, 0)[1],
    ]

    assert {(stat.st_uid, stat.st_gid) for stat in made} == {(1000, 1000)}


def test_a_set_gid_directory_passes_its_group_on_and_its_bit_to_directories(
    root: Channel,
) -> None:
    shared = root.mkdir(ROOT, "shared", 0o777)[0]
    shared.setattr(ROOT, Changed(gid=77))
    shared.setattr(ROOT, Changed(mode=0o2777))

    file = make(shared).stat(ALICE)
    folder = shared.mkdir(ALICE, "d", 0o755)[1]

    assert (file.st_uid, file.st_gid) == (1000, 77)
    assert (folder.st_gid, folder.st_mode & 0o7777) == (77, 0o2755)
    assert shared.mknod(ALICE, "p", modes.S_IFIFO | 0o600, 0)[1].st_gid == 77


def test_nobody_makes_a_set_gid_program_of_a_foreign_group(root: Channel) -> None:
    shared = root.mkdir(ROOT, "shared", 0o777)[0]
    shared.setattr(ROOT, Changed(gid=77))
    shared.setattr(ROOT, Changed(mode=0o2777))

    assert make(shared, "f", 0o2755).stat(ALICE).st_mode & 0o7777 == 0o755
    member = evolve(ALICE, groups=(77,))
    assert shared.create(member, "g", os.O_RDWR, 0o2755)[2].st_mode & 0o7777 == 0o2755


def test_mkdir_takes_no_set_id_bits(root: Channel) -> None:
    assert root.mkdir(ALICE, "d", 0o7777)[1].st_mode & 0o7777 == 0o1777


def test_chmod_keeps_the_type_and_sets_the_rest(root: Channel) -> None:
    file = make(root)

    file.setattr(ALICE, Changed(mode=modes.S_IFDIR | 0o4711))

    assert file.stat(ALICE).st_mode == modes.S_IFREG | 0o4711


def test_a_symbolic_link_has_no_mode_to_change_but_an_owner(root: Channel) -> None:
    link = root.symlink(ALICE, "l", "x")[0]

    with refused(errno.EOPNOTSUPP):
        link.setattr(ALICE, Changed(mode=0o600))
    link.setattr(ROOT, Changed(uid=1, gid=2))
    assert (link.stat(ROOT).st_uid, link.stat(ROOT).st_gid) == (1, 2)


@pytest.mark.parametrize(
    ("mode", "left"),
    [(0o4755, 0o755), (0o6755, 0o755), (0o2745, 0o2745), (0o6745, 0o2745), (0o1755, 0o1755)],
)
async def test_a_write_by_others_than_root_clears_set_id_bits(
    reach: Reach, root: Channel, mode: int, left: int
) -> None:
    for change in ("write", "truncate", "grow"):
        file = make(root, change)
        file.setattr(ALICE, Changed(mode=mode))
        opened = await reach.by(ALICE).open(f"/{change}", os.O_RDWR)
        if change == "write":
            opened.try_write(ALICE, b"x", 0)
        elif change == "truncate":
            opened.truncate(ALICE, 0)
        else:
            file.setattr(ALICE, Changed(size=10))
        assert file.stat(ALICE).st_mode & 0o7777 == left


async def test_a_write_by_root_leaves_set_id_bits(reach: Reach, root: Channel) -> None:
    file = make(root)
    file.setattr(ALICE, Changed(mode=0o6755))

    await reach.write("/f", "x")

    assert file.stat(ROOT).st_mode & 0o7777 == 0o6755


@pytest.mark.parametrize("caller", [ALICE, ROOT])
def test_a_change_of_owner_clears_set_id_bits_of_files_alone(root: Channel, caller: Caller) -> None:
    file, folder = make(root), root.mkdir(ROOT, "d", 0o755)[0]
    for node in (file, folder):
        node.setattr(ROOT, Changed(mode=0o6755))
        node.setattr(caller, Changed(gid=50))

    assert file.stat(ROOT).st_mode & 0o7777 == 0o755
    assert folder.stat(ROOT).st_mode & 0o7777 == 0o6755


def test_a_change_that_is_refused_changes_nothing(root: Channel) -> None:
    folder = root.mkdir(ROOT, "d", 0o755)[0]
    before = folder.stat(ROOT)

    with refused(errno.EISDIR):
        folder.setattr(ROOT, Changed(mode=0o700, uid=5, size=0))
    with refused(errno.EINVAL):
        folder.setattr(ROOT, Changed(mode=0o700, mtime_ns=2**63))

    assert folder.stat(ROOT) == before


# Times -------------------------------------------------------------------------------------------


def times(channel: Channel) -> dict[str, int]:
    stat = channel.stat(ROOT)
    return {"a": stat.st_atime_ns, "m": stat.st_mtime_ns, "c": stat.st_ctime_ns}


def moved(channel: Channel, before: dict[str, int]) -> str:
    return "".join(name for name, time in times(channel).items() if time != before[name])


def test_what_is_made_has_three_times_that_are_equal(root: Channel) -> None:
    assert len(set(times(make(root)).values())) == 1


async def test_each_operation_moves_the_times_that_posix_says(
    reach: Reach, root: Channel, clock: Clock
) -> None:
    file = make(root)
    opened = await reach.open("/f", os.O_RDWR)
    folder = root.mkdir(ROOT, "d", 0o755)[0]

    def after(operation: object, channel: Channel = file) -> str:
        before = times(channel)
        operation()  # type: ignore[operator]
        return moved(channel, before)

    assert after(lambda: opened.try_write(ROOT, b"x", 0)) == "mc"
    assert after(lambda: opened.try_write(ROOT, b"", 0)) == ""
    assert after(lambda: opened.try_read(ROOT, 1, 0)) == "a"
    assert after(lambda: opened.try_read(ROOT, 1, 0)) == "", "once after a change is enough"
    assert after(lambda: opened.truncate(ROOT, 0)) == "mc"
    assert after(lambda: file.setattr(ROOT, Changed(mode=0o600))) == "c"
    assert after(lambda: file.setattr(ROOT, Changed(uid=1))) == "c"
    assert after(lambda: file.setxattr(ROOT, "user.x", b"")) == "c"
    assert after(lambda: file.removexattr(ROOT, "user.x")) == "c"
    assert after(lambda: root.link(ROOT, file, "g")) == "c"
    assert after(lambda: root.rename(ROOT, "g", root, "h")) == "c"
    assert after(lambda: root.unlink(ROOT, "h")) == "c"
    assert after(lambda: folder.readdir(ROOT), folder) == "a"
    assert after(lambda: make(folder, "x"), folder) == "mc"
    assert after(lambda: folder.rename(ROOT, "x", root, "y"), folder) == "mc"
    assert after(lambda: root.rename(ROOT, "y", folder, "x"), folder) == "mc"
    assert after(lambda: folder.unlink(ROOT, "x"), folder) == "mc"
    assert after(lambda: root.rename(ROOT, "d", root, "e"), folder) == "c"


async def test_a_day_later_a_read_moves_the_time_of_access_again(
    reach: Reach, root: Channel, clock: Clock
) -> None:
    file = make(root)
    await reach.read("/f")
    before = times(file)
    await reach.read("/f")
    assert moved(file, before) == ""

    clock.now += DAY_NS
    await reach.read("/f")

    assert moved(file, before) == "a"


async def test_o_noatime_leaves_the_time_of_access(reach: Reach, root: Channel) -> None:
    file = make(root)
    before = times(file)

    (await reach.open("/f", os.O_RDONLY | os.O_NOATIME)).try_read(ROOT, 1, 0)

    assert moved(file, before) == ""


def test_times_are_set_to_the_nanosecond(root: Channel) -> None:
    file = make(root)

    file.setattr(ALICE, Changed(atime_ns=-1_000_000_001, mtime_ns=1_234_567_890_123_456_789))

    assert (times(file)["a"], times(file)["m"]) == (-1_000_000_001, 1_234_567_890_123_456_789)


# Extended attributes -----------------------------------------------------------------------------


def test_attributes_are_set_read_listed_and_removed(root: Channel) -> None:
    file = make(root)
    file.setxattr(ALICE, "user.one", b"\0\xff")
    file.setxattr(ROOT, "trusted.two", b"")
    file.setxattr(ROOT, "security.three", b"3")

    assert file.getxattr(ALICE, "user.one") == b"\0\xff"
    assert file.listxattr(ALICE) == ["user.one", "trusted.two", "security.three"]
    file.removexattr(ALICE, "user.one")
    with refused(errno.ENODATA):
        file.getxattr(ALICE, "user.one")
    with refused(errno.ENODATA):
        file.removexattr(ALICE, "user.one")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("system.posix_acl_access", errno.EOPNOTSUPP),
        ("system.posix_acl_default", errno.EOPNOTSUPP),
        ("other.x", errno.EOPNOTSUPP),
        ("plain", errno.EOPNOTSUPP),
        ("", errno.ERANGE),
        ("user." + "x" * 251, errno.ERANGE),
        ("user.", errno.EINVAL),
        ("user.a\0b", errno.EINVAL),
        ("trusted.x", errno.EPERM),
        ("security.capability", errno.EPERM),
    ],
)
def test_names_that_linux_refuses_are_refused(root: Channel, name: str, number: int) -> None:
    with refused(number):
        make(root).setxattr(ALICE, name, b"x")


def test_a_name_of_255_bytes_is_the_longest(root: Channel) -> None:
    name = "user." + "é" * 125

    make(root).setxattr(ALICE, name, b"x")

    assert root.walk(ALICE, "f").listxattr(ALICE) == [name]


def test_a_value_of_64_kib_is_the_largest(root: Channel) -> None:
    file = make(root)

    file.setxattr(ALICE, "user.x", bytes(65_536))
    with refused(errno.E2BIG):
        file.setxattr(ALICE, "user.x", bytes(65_537))

    assert len(file.getxattr(ALICE, "user.x")) == 65_536


def test_names_are_no_more_than_can_be_listed(root: Channel) -> None:
    file = make(root)
    numbers = itertools.count()

    with refused(errno.ENOSPC, "as many attributes as can be listed"):
        while True:
            file.setxattr(ALICE, f"user.{next(numbers):0250}", b"")

    assert sum(len(name) + 1 for name in file.listxattr(ALICE)) <= 65_536


def test_user_attributes_are_for_files_and_directories(root: Channel) -> None:
    root.mkdir(ALICE, "d", 0o755)[0].setxattr(ALICE, "user.x", b"")
    for special in (
        root.symlink(ALICE, "l", "x")[0],
        root.mknod(ALICE, "p", modes.S_IFIFO | 0o600, 0)[0],
    ):
        with refused(errno.EPERM):
            special.setxattr(ALICE, "user.x", b"")
        special.setxattr(ROOT, "trusted.x", b"")


async def test_a_write_by_others_than_root_takes_capabilities_away(
    reach: Reach, root: Channel
) -> None:
    file = make(root)
    file.setxattr(ROOT, "security.capability", b"x")
    file.setxattr(ROOT, "security.other", b"x")

    await reach.by(BOB).write("/f", "x", 0)

    assert file.listxattr(ROOT) == ["security.other"]

"""What a file system in memory holds is bounded, in all and for each user, and always counted."""

import errno
import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from oanix.caller import Caller
from oanix.channel import OpenFile
from oanix.services.memfs import Limits, MemFs
from oanix.services.memfs.content import PAGE
from oanix.services.memfs.directory import MemDirectory
from oanix.services.memfs.node import MemLink
from oanix.stat import Changed
from tests.reach import ALICE, BOB, ROOT, Reach, refused


def make(reach: Reach, name: str, caller: Caller = ALICE) -> OpenFile:
    return reach.at("/").create(caller, name, os.O_RDWR, 0o644)[1]


def used(reach: Reach) -> tuple[int, int]:
    statfs = reach.at("/").statfs(ROOT)
    return (statfs.blocks - statfs.bfree) * PAGE, statfs.files - statfs.ffree


def test_a_write_that_fills_it_is_cut_short_and_the_next_is_refused() -> None:
    reach = Reach.of(MemFs(Limits(size=10 * PAGE)))
    file = make(reach, "f")

    assert file.try_write(ALICE, b"x" * 100_000, 0) == 10 * PAGE
    with refused(errno.ENOSPC):
        file.try_write(ALICE, b"x", 10 * PAGE)

    assert file.try_write(ALICE, b"y" * 100, 0) == 100, "what is there can be written again"
    assert used(reach) == (10 * PAGE, 2)
    file.truncate(ALICE, PAGE)
    assert file.try_write(ALICE, b"x" * 100, PAGE) == 100


def test_a_full_one_refuses_everything_that_takes_memory() -> None:
    reach = Reach.of(MemFs(Limits(size=PAGE)))
    file = make(reach, "f")
    file.try_write(ALICE, b"x", 0)

    with refused(errno.ENOSPC):
        reach.at("/").symlink(ALICE, "l", "target")
    with refused(errno.ENOSPC):
        reach.at("/f").setxattr(ALICE, "user.x", b"x")
    file.truncate(ALICE, 1 << 40)
    assert file.stat().st_size == 1 << 40


def test_names_are_bounded_too() -> None:
    reach = Reach.of(MemFs(Limits(files=3)))
    root = reach.at("/")
    make(reach, "a").close(ALICE)
    root.link(ALICE, reach.at("/a"), "b")

    for full in (
        lambda: make(reach, "c"),
        lambda: root.mkdir(ALICE, "c", 0o755),
        lambda: root.mknod(ALICE, "c", 0o600, 0),
        lambda: root.symlink(ALICE, "c", "x"),
        lambda: root.link(ALICE, reach.at("/a"), "c"),
    ):
        with refused(errno.ENOSPC):
            full()
    root.unlink(ALICE, "a")
    root.mkdir(ALICE, "c", 0o755)

    assert root.readdir(ROOT) == ["b", "c"]
    assert used(reach) == (0, 3)


def test_a_quota_binds_each_user_but_root() -> None:
    reach = Reach.of(MemFs(Limits(user_size=4 * PAGE, user_files=2)))
    file = make(reach, "a")

    assert file.try_write(ALICE, b"x" * 100_000, 0) == 4 * PAGE
    with refused(errno.EDQUOT, "uid 1000 may have 16384 bytes here"):
        file.try_write(ALICE, b"x", 4 * PAGE)
    make(reach, "b")
    with refused(errno.EDQUOT, "uid 1000 may have 2 files here"):
        make(reach, "c")

    assert make(reach, "d", BOB).try_write(BOB, b"x" * 100_000, 0) == 4 * PAGE
    for number in range(10):
        assert make(reach, f"r{number}", ROOT).try_write(ROOT, b"x" * 100_000, 0) == 100_000


def test_a_file_counts_for_its_owner_whoever_writes_it() -> None:
    reach = Reach.of(MemFs(Limits(user_size=PAGE)))
    file = make(reach, "a")
    reach.at("/a").setattr(ROOT, Changed(uid=0))

    assert file.try_write(ALICE, b"x" * 10 * PAGE, 0) == 10 * PAGE
    with refused(errno.EDQUOT):
        reach.at("/a").setattr(ROOT, Changed(uid=BOB.uid))

    assert reach.stat("/a").st_uid == 0


def test_status_tells_what_is_used_and_warns_when_it_is_full() -> None:
    fs = MemFs(Limits(size=PAGE, files=10))
    reach = Reach.of(fs)
    assert fs.status() == {"bytes": "0 of 4096", "files": "1 of 10"}

    make(reach, "f").try_write(ALICE, b"x", 0)

    assert fs.status()["bytes"] == "4096 of 4096"
    assert "full" in fs.status()["warning"]


@pytest.mark.parametrize(
    ("argument", "limits", "mode"),
    [
        (None, Limits(), 0o1777),
        ("", Limits(), 0o1777),
        ("size=64M", Limits(size=64 << 20), 0o1777),
        (
            "size=1g,files=10k,user-size=5,user-files=3,mode=755",
            Limits(size=1 << 30, files=10240, user_size=5, user_files=3),
            0o755,
        ),
    ],
)
def test_a_recipe_names_the_limits(argument: str | None, limits: Limits, mode: int) -> None:
    fs = MemFs.from_argument(argument)

    assert fs.space.limits == limits
    assert fs.root.stat().st_mode & 0o7777 == mode


@pytest.mark.parametrize(
    "argument",
    ["size", "size=", "size=-1", "size=1.5M", "size=1T", "size=²", "colour=red", "size=1,size=2",
     "size=1,", ",", "mode=9", "mode=77777", "mode=", "size=" + "9" * 19],
)  # fmt: skip
def test_an_argument_that_is_none_is_told_what_to_write(argument: str) -> None:
    with refused(errno.EINVAL, "it takes: size=BYTES|write digits|write octal digits"):
        MemFs.from_argument(argument)


class Counting(RuleBasedStateMachine):
    """Whatever is done, what is counted is what is there."""

    names = st.sampled_from("abcd")
    callers = st.sampled_from((ROOT, ALICE, BOB))

    def __init__(self) -> None:
        super().__init__()
        self.fs = MemFs(Limits(size=20 * PAGE, files=6, user_size=12 * PAGE, user_files=3))
        self.reach = Reach.of(self.fs)
        self.root = self.reach.at("/")
        self.open: list[OpenFile] = []

    def attempt(self, call: object) -> None:
        try:
            call()  # type: ignore[operator]
        except OSError as error:
            assert error.errno in (  # noqa: PT017
                errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.EEXIST, errno.EPERM, errno.EISDIR,
                errno.ENOTDIR, errno.ENOTEMPTY, errno.EINVAL, errno.ENODATA, errno.ESTALE,
            )  # fmt: skip

    @rule(name=names, caller=callers)
    def create(self, name: str, caller: Caller) -> None:
        self.attempt(lambda: self.open.append(make(self.reach, name, caller)))

    @rule(name=names, caller=callers)
    def mkdir(self, name: str, caller: Caller) -> None:
        self.attempt(lambda: self.root.mkdir(caller, name, 0o755))

    @rule(name=names, caller=callers, length=st.integers(1, 3 * PAGE))
    def symlink(self, name: str, caller: Caller, length: int) -> None:
        self.attempt(lambda: self.root.symlink(caller, name, "x" * min(length, 4095)))

    @rule(name=names, other=names)
    def link(self, name: str, other: str) -> None:
        self.attempt(lambda: self.root.link(ROOT, self.root.walk(ROOT, name), other))

    @rule(name=names)
    def remove(self, name: str) -> None:
        self.attempt(lambda: self.root.unlink(ROOT, name))
        self.attempt(lambda: self.root.rmdir(ROOT, name))

    @rule(name=names, other=names)
    def rename(self, name: str, other: str) -> None:
        self.attempt(lambda: self.root.rename(ROOT, name, self.root, other))

    @rule(name=names, caller=callers)
    def chown(self, name: str, caller: Caller) -> None:
        self.attempt(lambda: self.root.walk(ROOT, name).setattr(ROOT, Changed(uid=caller.uid)))

    @rule(which=st.integers(0, 5), size=st.integers(0, 9 * PAGE), offset=st.integers(0, 9 * PAGE))
    def write(self, which: int, size: int, offset: int) -> None:
        if self.open:
            file = self.open[which % len(self.open)]
            self.attempt(lambda: file.try_write(ROOT, b"x" * size, offset))

    @rule(which=st.integers(0, 5), size=st.integers(0, 9 * PAGE))
    def truncate(self, which: int, size: int) -> None:
        if self.open:
            self.attempt(lambda: self.open[which % len(self.open)].truncate(ROOT, size))

    @rule(which=st.integers(0, 5))
    def close(self, which: int) -> None:
        if self.open:
            self.open.pop(which % len(self.open)).close(ROOT)

    @rule(name=names, value=st.integers(0, 3 * PAGE))
    def setxattr(self, name: str, value: int) -> None:
        channel = self.root
        self.attempt(lambda: channel.walk(ROOT, name).setxattr(ROOT, "trusted.x", bytes(value)))

    @rule(name=names)
    def removexattr(self, name: str) -> None:
        self.attempt(lambda: self.root.walk(ROOT, name).removexattr(ROOT, "trusted.x"))

    @invariant()
    def the_count_is_what_is_there(self) -> None:
        root = self.fs.root
        nodes = {id(node): node for node in root.entries.values()}
        nodes |= {id(node): node for node in (file.channel.node for file in self.open)}
        sizes: dict[int, list[int]] = {root.uid: [0, 1]}
        for node in nodes.values():
            mine = sizes.setdefault(node.uid, [0, 0])
            mine[0] += node.size if isinstance(node, MemLink) else node.blocks * 512
            mine[0] += sum(len(name) + len(node.getxattr(name)) for name in node.listxattr())
            names = sum(entry is node for entry in root.entries.values())
            mine[1] += max(names, 1)
            assert node.nlink == (2 if isinstance(node, MemDirectory) else names)
        counted = {uid: [use.size, use.files] for uid, use in self.fs.space.users.items()}
        assert counted == sizes
        assert self.fs.space.total.size == sum(size for size, _ in sizes.values()) <= 20 * PAGE
        assert self.fs.space.total.files == sum(files for _, files in sizes.values()) <= 6


Counting.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestCounting = pytest.mark.slow(Counting.TestCase)

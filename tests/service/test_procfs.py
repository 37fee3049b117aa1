"""/proc shows the namespace through which it is read, and changes it within the rules."""

import errno
import os

import pytest

from oanix.namespace import Namespace
from oanix.recipe import parse
from oanix.services.memfs import MemFs
from oanix.services.procfs import ProcFs
from oanix.table import Access
from tests.reach import ALICE, ROOT, Reach, refused

RECIPE = "mount mem /\nmount proc /proc\nmount mem /data ro\n"


@pytest.fixture
def reach() -> Reach:
    namespace = Namespace()
    namespace.mount(MemFs(), "/")
    namespace.mount(ProcFs(), "/proc")
    namespace.mount(MemFs(), "/data", Access.RO)
    return Reach(namespace)


def test_it_has_these_files_with_modes_that_tell_the_truth(reach: Reach) -> None:
    modes = {name: reach.stat(f"/proc/self/{name}").st_mode for name in reach.names("/proc/self")}

    assert {name: oct(mode & 0o777) for name, mode in modes.items()} == {
        "ns": "0o444",
        "ctl": "0o200",
        "env": "0o400",
        "limits": "0o444",
        "status": "0o444",
    }


async def test_ns_is_a_recipe_that_rebuilds_the_namespace(reach: Reach) -> None:
    await reach.write("/proc/self/ctl", "bind /data /copy ro\n")

    text = await reach.text("/proc/self/ns")

    assert text == RECIPE + "bind /data /copy ro\n"
    assert [line.line for line in parse(text)] == list(reach.namespace.lines)


async def test_a_child_reads_its_own_recipe_and_not_its_parents(reach: Reach) -> None:
    child = Reach(reach.namespace.fork())
    await child.write("/proc/self/ctl", "bind /data /mine\nunmount /data\n")

    assert await child.text("/proc/self/ns") == "bind /data /mine\nunmount /data\n"
    assert await reach.text("/proc/self/ns") == RECIPE


async def test_env_is_sorted_lines(reach: Reach) -> None:
    reach.namespace.env = {"PATH": "/bin", "HOME": "/"}

    assert await reach.text("/proc/self/env") == "HOME=/\nPATH=/bin\n"


async def test_limits_are_keys_and_values(reach: Reach) -> None:
    reach.namespace.limits = {"memory": "64M", "time": "10"}

    assert await reach.text("/proc/self/limits") == "memory 64M\ntime 10\n"


async def test_status_tells_what_is_mounted_and_how_it_is(reach: Reach) -> None:
    lines = (await reach.text("/proc/self/status")).splitlines()

    assert lines[:3] == ["sealed no", "child no", "mounts 3"]
    assert "mount / mem rw" in lines
    assert "mount /data mem ro" in lines
    assert "service /data files 1 of 1000000" in lines


async def test_status_tells_a_child_nothing_of_the_services_themselves(reach: Reach) -> None:
    child = Reach(reach.namespace.fork())

    lines = (await child.text("/proc/self/status")).splitlines()

    assert lines[:2] == ["sealed no", "child yes"]
    assert not [line for line in lines if line.startswith("service")]


async def test_ctl_binds_unmounts_and_seals(reach: Reach) -> None:
    await reach.write("/proc/self/ctl", "bind /data /copy\n# a comment\n\nunmount /data\nseal\n")

    assert reach.names("/copy") == []
    with refused(errno.ENOENT):
        reach.at("/data")
    assert (await reach.text("/proc/self/status")).startswith("sealed yes\n")
    with refused(errno.EPERM, "ctl:1:1: this namespace is sealed"):
        await reach.write("/proc/self/ctl", "unmount /copy\n")


async def test_ctl_changes_the_namespace_it_was_opened_through(reach: Reach) -> None:
    child = Reach(reach.namespace.fork())

    await child.write("/proc/self/ctl", "unmount /data\n")

    with refused(errno.ENOENT):
        child.at("/data")
    assert reach.names("/data") == []


async def test_ctl_refuses_to_mount(reach: Reach) -> None:
    with refused(errno.EPERM, "ctl:1:1: only the recipe"):
        await reach.write("/proc/self/ctl", "mount mem /x\n")


@pytest.mark.parametrize(
    ("line", "number", "sentence"),
    [
        ("bind /nowhere /x", errno.ENOENT, "ctl:1:6: .*/nowhere"),
        ("bind -a /data /nowhere", errno.ENOENT, "ctl:1:15: "),
        ("bind /data /copy colour=red", errno.EINVAL, "ctl:1:.*mem has no option 'colour'"),
        ("unmount /nothing", errno.EINVAL, "ctl:1:9: nothing is mounted at /nothing"),
        ("unmount", errno.EINVAL, "ctl:1:8: PATH is missing"),
        ("destroy /", errno.EINVAL, "ctl:1:1: 'destroy' is no operation"),
        ("bind data /x", errno.EINVAL, "ctl:1:6: SOURCE begins with '/'"),
        ('bind "/data /x', errno.EINVAL, "ctl:1:6: a quote is left open"),
    ],
)
async def test_a_line_that_cannot_be_done_says_where(
    reach: Reach, line: str, number: int, sentence: str
) -> None:
    with refused(number, sentence):
        await reach.write("/proc/self/ctl", line + "\n")

    assert await reach.text("/proc/self/ns") == RECIPE


async def test_the_line_number_counts_the_lines_of_this_open(reach: Reach) -> None:
    ctl = await reach.open("/proc/self/ctl", os.O_WRONLY)

    assert ctl.try_write(ROOT, b"bind /data /a\n\nunmount /b\nseal\n", 0) == 15
    with refused(errno.EINVAL, "ctl:3:9: "):
        ctl.try_write(ROOT, b"unmount /b\nseal\n", 15)

    assert not reach.namespace.sealed


async def test_a_child_cannot_uncover_through_its_ctl(reach: Reach) -> None:
    reach.namespace.unmount("/data")
    reach.at("/").mkdir(ROOT, "data", 0o700)[0].mkdir(ROOT, "beneath", 0o700)
    assert reach.names("/data") == ["beneath"]
    reach.namespace.mount(MemFs(), "/data")
    child = Reach(reach.namespace.fork())

    await child.write("/proc/self/ctl", "unmount /data\n")

    with refused(errno.ENOENT):
        child.at("/data")


@pytest.mark.slow
async def test_ten_thousand_lines_are_done(reach: Reach) -> None:
    lines = "bind /data /copy\nunmount /copy\n" * 5000
    opened = await reach.open("/proc/self/ctl", os.O_WRONLY)

    assert opened.try_write(ROOT, lines.encode(), 0) == len(lines)
    assert reach.by(ALICE).names("/") == ["proc", "data"]

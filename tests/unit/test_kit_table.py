"""A table of names, modes and handlers is a tree that answers for what it lacks."""

import errno
import os
import stat as modes

import pytest

from oanix.kit import Ctl, Folder, Ring, Stream, TableDirectory, TableService, Text, Value, facts
from oanix.stat import Changed
from tests.reach import ALICE, ROOT, Reach, refused


class Thermostat(TableService):
    """Keeps a room warm.

    Second paragraph.
    """

    name = "thermostat"

    def __init__(self) -> None:
        super().__init__(now=lambda: 1_000_000_007)
        self.degrees = "20"
        self.grow(
            (
                ("degrees", 0o644, Value(lambda opening: self.degrees + "\n", self.set)),
                ("status", 0o444, Text(lambda opening: facts({"degrees": self.degrees}))),
                ("ctl", 0o222, Ctl({})),
                ("events", 0o444, Stream(Ring())),
                ("about", 0o555, Folder([("maker", 0o444, Text("acme\n"))])),
            )
        )

    def set(self, line: str, opening: object) -> None:
        if not line.isdigit():
            raise OSError(errno.EINVAL, "degrees are digits")
        self.degrees = line


def test_the_rows_are_listed_in_order_after_the_readme() -> None:
    reach = Reach.of(Thermostat())

    assert reach.names("/") == ["README", "degrees", "status", "ctl", "events", "about"]


async def test_the_readme_is_the_docstring() -> None:
    reach = Reach.of(Thermostat())

    assert await reach.text("/README") == "Keeps a room warm.\n\nSecond paragraph.\n"


def test_stat_tells_type_mode_and_times() -> None:
    reach = Reach.of(Thermostat())

    assert reach.stat("/degrees").st_mode == modes.S_IFREG | 0o644
    assert reach.stat("/about").st_mode == modes.S_IFDIR | 0o555
    assert reach.stat("/").st_nlink == 3
    assert reach.stat("/status").st_mtime_ns == 1_000_000_007


async def test_a_snapshot_has_its_exact_size_and_does_not_change_while_open() -> None:
    service = Thermostat()
    reach = Reach.of(service)

    opened = await reach.open("/status")
    service.degrees = "1000"

    assert opened.size == opened.stat().st_size == len("degrees 20\n")
    assert opened.try_read(ROOT, 100, 0) == b"degrees 20\n"
    assert opened.try_read(ROOT, 4, 8) == b"20\n"
    assert opened.try_read(ROOT, 4, 11) == b""
    assert await reach.text("/status") == "degrees 1000\n"


async def test_stat_tells_the_size_at_the_last_open() -> None:
    reach = Reach.of(Thermostat())
    assert reach.stat("/status").st_size == 0

    await reach.read("/status")

    assert reach.stat("/status").st_size == len("degrees 20\n")


def test_a_fixed_text_has_its_size_from_the_start() -> None:
    assert Reach.of(Thermostat()).stat("/about/maker").st_size == 5


async def test_a_value_is_set_at_its_newline() -> None:
    service = Thermostat()
    reach = Reach.of(service)

    opened = await reach.open("/degrees", os.O_WRONLY)
    opened.try_write(ROOT, b"2", 0)
    assert service.degrees == "20"
    opened.try_write(ROOT, b"3\n", 1)

    assert service.degrees == "23"
    opened.close(ROOT)


async def test_a_value_without_newline_is_set_at_the_close() -> None:
    service = Thermostat()

    await Reach.of(service).write("/degrees", "25")

    assert service.degrees == "25"


async def test_a_bad_value_is_the_error_of_the_write() -> None:
    service = Thermostat()

    with refused(errno.EINVAL, "degrees are digits"):
        await Reach.of(service).write("/degrees", "warm\n")

    assert service.degrees == "20"


async def test_a_bad_value_at_the_close_is_told_in_errstr() -> None:
    service = Thermostat()
    reach = Reach.of(service)

    await reach.write("/degrees", "warm")

    assert service.degrees == "20"
    assert reach.namespace.sentences.of(ROOT) == ["close degrees: degrees are digits"]


async def test_a_value_open_for_both_reads_what_it_was() -> None:
    opened = await Reach.of(Thermostat()).open("/degrees", os.O_RDWR)

    assert opened.try_write(ROOT, b"30\n", 0) == 3
    assert opened.try_read(ROOT, 10, 0) == b"20\n"


async def test_only_opening_a_value_to_truncate_it_sets_nothing() -> None:
    service = Thermostat()

    opened = await Reach.of(service).open("/degrees", os.O_WRONLY | os.O_TRUNC)
    opened.truncate(ROOT, 0)
    opened.close(ROOT)

    assert service.degrees == "20"


@pytest.mark.parametrize(
    ("path", "flags"),
    [
        ("/status", os.O_WRONLY),
        ("/status", os.O_RDWR),
        ("/status", os.O_RDONLY | os.O_TRUNC),
        ("/ctl", os.O_RDONLY),
        ("/ctl", os.O_RDWR),
        ("/events", os.O_WRONLY),
    ],
)
async def test_opening_against_the_mode_is_refused_to_root_too(path: str, flags: int) -> None:
    with refused(errno.EACCES):
        await Reach.of(Thermostat()).open(path, flags)


async def test_a_file_is_no_directory() -> None:
    with refused(errno.ENOTDIR):
        await Reach.of(Thermostat()).open("/status", os.O_DIRECTORY)


@pytest.mark.parametrize("changed", [Changed(mode=0o777), Changed(uid=1000), Changed(gid=1000)])
@pytest.mark.parametrize("path", ["/degrees", "/status"])
def test_mode_and_owner_cannot_be_changed(path: str, changed: Changed) -> None:
    with refused(errno.EPERM):
        Reach.of(Thermostat()).at(path).setattr(ROOT, changed)


def test_times_are_set_where_a_file_is_writable() -> None:
    reach = Reach.of(Thermostat())

    reach.at("/degrees").setattr(ALICE, Changed(atime_ns=1, mtime_ns=2))

    assert (reach.stat("/degrees").st_atime_ns, reach.stat("/degrees").st_mtime_ns) == (1, 2)
    with refused(errno.EPERM):
        reach.at("/status").setattr(ALICE, Changed(mtime_ns=2))


def test_a_writable_file_is_truncated_to_nothing_and_to_no_other_size() -> None:
    reach = Reach.of(Thermostat())

    reach.at("/ctl").setattr(ROOT, Changed(size=0))
    with refused(errno.EINVAL):
        reach.at("/ctl").setattr(ROOT, Changed(size=1))
    with refused(errno.EACCES):
        reach.at("/status").setattr(ROOT, Changed(size=0))


def test_nothing_is_made_or_removed_by_name() -> None:
    root = Reach.of(Thermostat()).at("/")

    with refused(errno.EROFS):
        root.mkdir(ROOT, "x", 0o755)
    with refused(errno.EROFS):
        root.unlink(ROOT, "ctl")
    with refused(errno.EROFS):
        root.rename(ROOT, "ctl", root, "x")


def test_a_stream_is_not_listed_for_programs_that_read_everything() -> None:
    reach = Reach.of(Thermostat())

    assert not reach.at("/events").listed
    assert reach.at("/status").listed


def test_a_mode_that_promises_too_much_is_refused_when_the_table_is_read() -> None:
    service = Thermostat()

    with pytest.raises(ValueError, match="promises"):
        TableDirectory(service, Folder([("ctl", 0o644, Ctl({}))]))
    with pytest.raises(ValueError, match="promises"):
        TableDirectory(service, Folder([("text", 0o644, Text("x"))]))


def test_a_name_stands_once_in_a_table() -> None:
    with pytest.raises(ValueError, match="twice"):
        TableDirectory(Thermostat(), Folder([("a", 0o444, Text("")), ("a", 0o444, Text(""))]))


def test_facts_are_one_line_each_whatever_they_hold() -> None:
    assert facts({"a": "x\ny 1", "b": 2}) == "a x\\ny 1\nb 2\n"

"""The in-process API: open(2)'s semantics, whole files, pieces, waiting and its ends."""

import errno
import os
import tracemalloc
from collections.abc import Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from oanix.client import CHUNK, Client
from oanix.namespace import Namespace
from oanix.table import Access
from tests.unit.trees import Folder, Link, Pipe, Stream, Text, Tree


@pytest.fixture
def tree() -> Tree:
    return Tree(
        {
            "file": b"content\n",
            "empty": b"",
            "folder": {"inner": b"inside", "deep": {"leaf": b"leaf"}},
            "link": Link("file"),
            "up": Link("../file"),
            "to-folder": Link("/folder"),
            "dangling": Link("folder/new"),
            "loop": Link("loop"),
            "stream": Pipe(),
        }
    )


@pytest.fixture
def client(tree: Tree) -> Client:
    namespace = Namespace()
    namespace.mount(tree, "/")
    return Client(namespace)


def text(tree: Tree, path: str) -> Text:
    node = tree.at(path)
    assert isinstance(node, Text)
    return node


def stream(tree: Tree) -> Stream:
    node = tree.at("stream")
    assert isinstance(node, Stream)
    return node


async def fails(number: int, work: Callable[[], object]) -> OSError:
    """Check that a call, plain or awaited, ends with this errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011, PT012  # what is called may be awaitable
        answer = work()
        if hasattr(answer, "__await__"):
            await answer
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number]
    return caught.value


async def opens(client: Client, path: str, flags: int) -> bytes:
    async with client.open(path, flags) as file:
        return await file.read()


# Whole files -------------------------------------------------------------------------------------


async def test_a_file_is_read_to_its_end(client: Client) -> None:
    assert await client.read("/file") == b"content\n"
    assert await client.read_text("/folder/inner") == "inside"
    assert await client.read("/empty") == b""


async def test_a_file_larger_than_one_piece_is_read_whole(client: Client, tree: Tree) -> None:
    data = os.urandom(3 * CHUNK + 17)
    await client.write("/big", data)
    assert await client.read("/big") == data
    assert text(tree, "big").content == data


async def test_bytes_that_are_no_text_survive_as_text(client: Client) -> None:
    await client.write("/latin", b"caf\xe9")
    assert await client.read_text("/latin") == "caf\udce9"
    await client.write("/copy", await client.read_text("/latin"))
    assert await client.read("/copy") == b"caf\xe9"


async def test_a_read_with_a_limit_refuses_a_longer_file(client: Client, tree: Tree) -> None:
    assert await client.read("/file", limit=8) == b"content\n"
    await fails(errno.EFBIG, lambda: client.read("/file", limit=7))
    assert text(tree, "file").open_handles == 0


async def test_a_write_replaces_and_an_append_adds(client: Client) -> None:
    await client.write("/file", b"new")
    assert await client.read("/file") == b"new"
    await client.write("/file", "er", append=True)
    assert await client.read("/file") == b"newer"


async def test_a_write_creates_with_the_mode_unless_told_not_to(client: Client, tree: Tree) -> None:
    await client.write("/made", b"x", mode=0o600)
    assert text(tree, "made").mode == 0o600
    await fails(errno.ENOENT, lambda: client.write("/absent", b"x", create=False))


async def test_a_write_reports_what_its_flush_reports(client: Client, tree: Tree) -> None:
    text(tree, "file").flush_fails_with = errno.ENOSPC
    await fails(errno.ENOSPC, lambda: client.write("/file", b"x"))
    assert text(tree, "file").open_handles == 0


async def test_an_error_inside_the_block_wins_over_that_of_the_flush(
    client: Client, tree: Tree
) -> None:
    text(tree, "file").flush_fails_with = errno.ENOSPC
    with pytest.raises(ZeroDivisionError):
        async with client.open("/file", os.O_RDWR):
            raise ZeroDivisionError
    assert text(tree, "file").open_handles == 0


# open(2) -----------------------------------------------------------------------------------------


async def test_creating_exclusively_refuses_every_name_in_use(client: Client) -> None:
    exclusive = os.O_RDWR | os.O_CREAT | os.O_EXCL
    assert await opens(client, "/fresh", exclusive) == b""
    for path in ("/file", "/folder", "/link", "/dangling", "/loop"):
        await fails(errno.EEXIST, partial(opens, client, path, exclusive))


async def test_creating_through_a_dangling_link_makes_its_target(
    client: Client, tree: Tree
) -> None:
    await client.write("/dangling", b"through")
    assert text(tree, "folder/new").content == b"through"


async def test_creating_opens_what_a_link_leads_to(client: Client, tree: Tree) -> None:
    await client.write("/link", b"one")
    assert text(tree, "file").content == b"one"
    await client.write("/up", b"two")
    assert text(tree, "file").content == b"two"


async def test_a_link_at_the_end_can_be_refused(client: Client) -> None:
    for flags in (os.O_RDONLY, os.O_CREAT | os.O_RDWR):
        await fails(errno.ELOOP, partial(opens, client, "/link", flags | os.O_NOFOLLOW))
    await fails(errno.ELOOP, lambda: opens(client, "/loop", os.O_RDWR | os.O_CREAT))
    await fails(errno.ELOOP, lambda: client.read("/loop"))


async def test_directories_are_not_opened(client: Client) -> None:
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_DIRECTORY):
        await fails(errno.EISDIR, partial(opens, client, "/folder", flags))
    await fails(errno.EISDIR, lambda: client.read("/"))
    await fails(errno.EISDIR, lambda: client.write("/new/", b"x"))
    await fails(errno.EISDIR, lambda: client.write("/", b"x"))
    await fails(errno.ENOTDIR, lambda: opens(client, "/file", os.O_DIRECTORY))


async def test_the_way_to_a_file_is_checked(client: Client) -> None:
    await fails(errno.ENOTDIR, lambda: client.read("/file/below"))
    await fails(errno.ENOTDIR, lambda: client.read("/file/"))
    await fails(errno.ENOTDIR, lambda: client.write("/file/below", b""))
    await fails(errno.ENOENT, lambda: client.read("/none"))
    await fails(errno.ENOENT, lambda: client.write("/none/below", b""))
    await fails(errno.ENOENT, lambda: client.read(""))
    await fails(errno.EINVAL, lambda: client.read("/a\0b"))
    await fails(errno.ENAMETOOLONG, lambda: client.write("/" + "n" * 256, b""))
    assert await client.read("../../file") == b"content\n"


async def test_what_was_not_opened_for_it_is_not_read_or_written(client: Client) -> None:
    async with client.open("/file") as file:
        await fails(errno.EBADF, lambda: file.write(b"x"))
        await fails(errno.EINVAL, lambda: file.truncate(0))
    async with client.open("/file", os.O_WRONLY) as file:
        await fails(errno.EBADF, lambda: file.read())


async def test_the_rights_of_a_mount_hold(client: Client, tree: Tree) -> None:
    client.namespace.bind("/", "/ro", access=Access.RO)
    client.namespace.bind("/", "/append", access=Access.APPEND)
    await fails(errno.EROFS, lambda: client.write("/ro/file", b"x"))
    await fails(errno.EROFS, lambda: client.write("/ro/new", b"x"))
    await fails(errno.EPERM, lambda: client.write("/append/file", b"x"))
    await client.write("/append/file", b"x", append=True)
    assert text(tree, "file").content == b"content\nx"


# Position ----------------------------------------------------------------------------------------


async def test_reads_and_writes_move_one_position(client: Client) -> None:
    async with client.open("/file", os.O_RDWR) as file:
        assert await file.read(3) == b"con"
        assert await file.write(b"TE") == 2
        assert file.tell() == 5
        assert file.seek(0) == 0
        assert await file.read() == b"conTEnt\n"
        assert file.seek(-2, os.SEEK_END) == 6
        assert file.seek(-1, os.SEEK_CUR) == 5
        assert await file.read(1) == b"n"
        assert file.seek(12) == 12
        assert await file.read(1) == b""
        await file.write(b"!")
        assert await client.read("/file") == b"conTEnt\n\0\0\0\0!"


async def test_impossible_positions_are_refused(client: Client, tree: Tree) -> None:
    stream(tree)
    async with client.open("/file", os.O_RDWR) as file:
        for offset, whence in ((-1, os.SEEK_SET), (-9, os.SEEK_END), (2**63, os.SEEK_SET), (0, 9)):
            await fails(errno.EINVAL, partial(file.seek, offset, whence))
        assert file.tell() == 0
    async with client.open("/stream") as file:
        await fails(errno.ESPIPE, lambda: file.seek(0))


async def test_appending_goes_to_the_end_wherever_the_position_is(client: Client) -> None:
    async with client.open("/file", os.O_RDWR | os.O_APPEND) as file:
        await file.write(b"a")
        assert file.tell() == 9
        file.seek(0)
        await file.write(b"b")
        assert file.tell() == 10
    assert await client.read("/file") == b"content\nab"


async def test_truncating_cuts_at_the_position_or_where_it_is_told(client: Client) -> None:
    async with client.open("/file", os.O_RDWR) as file:
        file.truncate(5)
        file.seek(2)
        file.truncate()
        assert file.stat().st_size == 2
        await file.fsync()
    assert await client.read("/file") == b"co"


async def test_a_closed_file_refuses_everything_and_closes_once(client: Client, tree: Tree) -> None:
    async with client.open("/file", os.O_RDWR) as file:
        file.close()
        assert file.closed
        assert text(tree, "file").open_handles == 0
        for work in (file.read, file.stat, file.fsync, file.truncate):
            await fails(errno.EBADF, work)
        await fails(errno.EBADF, lambda: file.write(b""))
        await fails(errno.EBADF, lambda: file.seek(0))
    assert text(tree, "file").open_handles == 0


# Waiting -----------------------------------------------------------------------------------------


async def test_a_stream_is_read_in_pieces_as_they_come(
    client: Client, tree: Tree, nursery: trio.Nursery
) -> None:
    heard: list[bytes] = []

    async def listen() -> None:
        async with client.open("/stream") as file:
            async for piece in file:
                heard.append(piece)

    nursery.start_soon(listen)
    await wait_all_tasks_blocked()
    stream(tree).say(b"one")
    await wait_all_tasks_blocked()
    assert heard == [b"one"]
    stream(tree).say(b"two")
    stream(tree).end()
    await wait_all_tasks_blocked()
    assert heard == [b"one", b"two"]
    assert stream(tree).open_handles == 0


async def test_a_cancelled_read_takes_nothing_and_leaves_nothing(
    client: Client, tree: Tree
) -> None:
    async with client.open("/stream") as file:
        with trio.CancelScope() as scope:
            scope.cancel()
            stream(tree).say(b"kept")
            await file.read(4)
        assert scope.cancelled_caught
        assert await file.read(4) == b"kept"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.read, 4)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert stream(tree).bell.waiting == 0
        stream(tree).say(b"next")
        assert await file.read(4) == b"next"
    assert stream(tree).open_handles == 0


async def test_a_read_of_a_silent_stream_ends_at_its_deadline(
    client: Client, tree: Tree, autojump_clock: MockClock
) -> None:
    error = await fails(errno.ETIMEDOUT, lambda: client.read("/stream", within=30))
    assert "30 s" in str(error)
    async with client.open("/stream") as file:
        stream(tree).say(b"some")
        assert await file.read(10, within=5) == b"some"
        await fails(errno.ETIMEDOUT, lambda: file.read(10, within=5))
    assert stream(tree).open_handles == 0
    assert stream(tree).bell.waiting == 0


async def test_a_write_that_waits_goes_on_where_it_stopped(
    client: Client, tree: Tree, nursery: trio.Nursery
) -> None:
    nursery.start_soon(lambda: client.write("/stream", b"0123456789", append=True))
    for room in (3, 3, 4):
        await wait_all_tasks_blocked()
        stream(tree).make_room(room)
    await wait_all_tasks_blocked()
    assert stream(tree).heard == [b"012", b"345", b"6789"]
    assert stream(tree).open_handles == 0


async def test_closing_ends_a_read_that_waits(
    client: Client, tree: Tree, nursery: trio.Nursery
) -> None:
    ended: list[OSError] = []
    async with client.open("/stream") as file:

        async def listen() -> None:
            ended.append(await fails(errno.EBADF, lambda: file.read(1)))

        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        await fails(errno.EBUSY, lambda: file.read(1))
        await fails(errno.EBUSY, lambda: file.fsync())
        assert stream(tree).open_handles == 1
    await wait_all_tasks_blocked()
    assert len(ended) == 1
    assert stream(tree).open_handles == 0
    assert stream(tree).bell.waiting == 0


async def test_reading_what_never_waits_can_be_cancelled(client: Client, tree: Tree) -> None:
    await client.write("/big", bytes(CHUNK * 64))
    pieces = 0
    async with client.open("/big") as file:
        with trio.CancelScope() as scope:
            async for _ in file:
                pieces += 1
                scope.cancel()
    assert pieces == 1


@pytest.mark.slow
async def test_reading_in_pieces_takes_the_memory_of_one(client: Client, tree: Tree) -> None:
    await client.write("/big", bytes(CHUNK * 100))
    async with client.open("/big") as file:
        tracemalloc.start()
        try:
            async for piece in file:
                assert len(piece) == CHUNK
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 10 * CHUNK


# Names -------------------------------------------------------------------------------------------


async def test_links_are_followed_or_not_as_asked(client: Client) -> None:
    assert client.stat("/link").st_size == 8
    assert client.stat("/link", follow=False).st_size == 4
    assert client.readlink("/link") == "file"
    await fails(errno.EINVAL, lambda: client.readlink("/file"))
    await fails(errno.ENOENT, lambda: client.stat("/dangling"))
    assert client.listdir("/to-folder") == ["inner", "deep"]
    assert client.stat("/to-folder/", follow=False).st_mode == client.stat("/folder").st_mode


async def test_existence_is_asked_without_an_error(client: Client) -> None:
    assert client.exists("/file")
    assert not client.exists("/none")
    assert not client.exists("/dangling")
    assert not client.exists("/file/below")
    await fails(errno.ELOOP, lambda: client.exists("/loop"))


async def test_names_are_made_moved_and_removed(client: Client, tree: Tree) -> None:
    client.mkdir("/a")
    client.mkdir("/a/b/")
    client.symlink("b", "/a/l")
    client.link("/file", "/a/hard")
    client.rename("/a/b/", "/c/")
    assert client.listdir("/a") == ["l", "hard"]
    assert tree.at("a/hard") is tree.at("file")
    client.unlink("/a/l")
    client.unlink("/a/hard")
    client.rmdir("/a")
    client.rmdir("/c/")
    assert not client.exists("/a")
    assert not client.exists("/c")


async def test_a_hard_link_names_the_symbolic_link_itself(client: Client, tree: Tree) -> None:
    client.link("/link", "/other")
    assert tree.at("other") is tree.at("link")


async def test_directories_on_the_way_are_made_once(client: Client, tree: Tree) -> None:
    client.makedirs("/folder/a/b/c")
    client.makedirs("/folder/a/b/c")
    client.makedirs("/to-folder/a/d")
    assert isinstance(tree.at("folder/a/d"), Folder)
    await fails(errno.EEXIST, lambda: client.makedirs("/file"))
    await fails(errno.ENOTDIR, lambda: client.makedirs("/file/a"))
    client.namespace.bind("/", "/ro", access=Access.RO)
    client.makedirs("/ro/folder/a")
    await fails(errno.EROFS, lambda: client.makedirs("/ro/folder/new"))


async def test_paths_without_a_last_name_have_the_errno_of_their_call(client: Client) -> None:
    await fails(errno.EEXIST, lambda: client.mkdir("/"))
    await fails(errno.EEXIST, lambda: client.mkdir("/folder/.."))
    await fails(errno.ENOENT, lambda: client.mkdir("/none/.."))
    await fails(errno.EISDIR, lambda: client.unlink("/"))
    await fails(errno.EINVAL, lambda: client.rmdir("/folder/."))
    await fails(errno.EBUSY, lambda: client.rename("/", "/x"))
    await fails(errno.EBUSY, lambda: client.rename("/folder/.", "/x"))
    await fails(errno.EEXIST, lambda: client.link("/file", "/"))


async def test_a_slash_behind_a_name_asks_for_a_directory(client: Client) -> None:
    await fails(errno.ENOTDIR, lambda: client.unlink("/file/"))
    await fails(errno.EISDIR, lambda: client.unlink("/folder/"))
    await fails(errno.ENOTDIR, lambda: client.rename("/file/", "/x"))
    await fails(errno.ENOTDIR, lambda: client.rename("/file", "/x/"))
    await fails(errno.ENOENT, lambda: client.symlink("t", "/x/"))
    assert client.exists("/file")


# Trees -------------------------------------------------------------------------------------------


async def test_a_tree_is_walked_in_order_with_depths_and_without_following(
    client: Client,
) -> None:
    assert [(entry.path, entry.depth) for entry in client.tree("/folder")] == [
        ("/folder", 0),
        ("/folder/deep", 1),
        ("/folder/deep/leaf", 2),
        ("/folder/inner", 1),
    ]
    paths = [entry.path for entry in client.tree()]
    assert "/to-folder" in paths
    assert "/to-folder/inner" not in paths


async def test_a_tree_marks_what_should_not_be_read(client: Client) -> None:
    assert [entry.path for entry in client.tree() if not entry.listed] == ["/stream"]


async def test_a_tree_goes_on_after_an_error_and_leaves_out_what_vanished(
    client: Client, tree: Tree
) -> None:
    folder = tree.at("folder")
    assert isinstance(folder, Folder)
    folder.closed = True
    entries = {entry.path: entry for entry in client.tree()}
    error = entries["/folder"].error
    assert error is not None
    assert error.errno == errno.EACCES
    assert "/stream" in entries
    walk = client.tree()
    assert next(walk).path == "/"
    client.unlink("/file")
    client.unlink("/empty")
    assert "/file" not in [entry.path for entry in walk]


async def test_a_tree_may_be_deeper_than_the_stack(client: Client) -> None:
    client.makedirs("/" + "d/" * 2000)
    assert max(entry.depth for entry in client.tree("/d")) == 1999

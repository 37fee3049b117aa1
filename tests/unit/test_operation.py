"""Observers: each sees every operation once before and once after, and may refuse it."""

import errno
import os
import time

import pytest
import trio
from attrs import define, field
from trio.testing import wait_all_tasks_blocked

from oanix.caller import Caller
from oanix.client import Client
from oanix.errors import fault
from oanix.namespace import Namespace
from oanix.node import WOULD_BLOCK
from oanix.operation import Kind, Operation, Subject, is_watched
from tests.unit.trees import Pipe, Stream, Tree

ME = Caller(uid=1000, request="r1")


@define
class Witness:
    """Writes down what it sees; refuses the kinds that it is told to."""

    name: str
    log: list[str]
    refuses: frozenset[Kind] = frozenset()
    operations: list[Operation] = field(factory=list)
    kinds: frozenset[Kind] | None = None

    def before(self, operation: Operation) -> None:
        if operation.kind in self.refuses:
            raise fault(errno.EACCES, f"{self.name} refuses")
        self.log.append(f"{self.name} before {operation.kind.value}")

    def after(self, operation: Operation) -> None:
        error = operation.error
        number = error.errno if isinstance(error, OSError) else None
        outcome = errno.errorcode[number] if number else type(error).__name__ if error else "done"
        self.log.append(f"{self.name} after {operation.kind.value} {outcome}")
        self.operations.append(operation)


@pytest.fixture
def tree() -> Tree:
    return Tree({"f": b"content", "d": {"x": b"1"}, "stream": Pipe()})


@pytest.fixture
def ns(tree: Tree) -> Namespace:
    namespace = Namespace()
    namespace.mount(tree, "/")
    return namespace


def watch(ns: Namespace, *refusals: frozenset[Kind]) -> tuple[list[str], list[Witness]]:
    log: list[str] = []
    witnesses = [
        Witness(name, log, refused) for name, refused in zip("abc", refusals, strict=False)
    ]
    ns.observers = tuple(witnesses)
    return log, witnesses


NOTHING: frozenset[Kind] = frozenset()


def test_observers_see_an_operation_in_order_and_its_end_in_reverse(ns: Namespace) -> None:
    root = ns.root
    log, _ = watch(ns, NOTHING, NOTHING)
    root.mkdir(ME, "new", 0o755)
    assert log == ["a before mkdir", "b before mkdir", "b after mkdir done", "a after mkdir done"]


def test_an_operation_names_its_subject_its_caller_its_arguments_and_its_result(
    ns: Namespace,
) -> None:
    root = ns.root
    _, [witness] = watch(ns, NOTHING)
    names = root.readdir(ME)
    root.rename(ME, "f", root, "g", flags=1)
    listing, rename = witness.operations
    assert (listing.kind, listing.subject.path, listing.caller) == (Kind.READDIR, "/", ME)
    assert listing.result is names
    assert rename.arguments == ("f", root, "g", 1)
    assert rename.result is None
    assert rename.error is None


def test_the_error_of_an_operation_is_seen_after_it(ns: Namespace) -> None:
    root = ns.root
    log, [witness] = watch(ns, NOTHING)
    with pytest.raises(FileNotFoundError):
        root.walk(ME, "none")
    assert log == ["a before walk", "a after walk ENOENT"]
    assert witness.operations[0].result is None


def test_a_refusal_keeps_the_operation_from_happening(ns: Namespace, tree: Tree) -> None:
    root = ns.root
    log, _ = watch(ns, NOTHING, frozenset({Kind.UNLINK}), NOTHING)
    with pytest.raises(PermissionError, match="b refuses"):
        root.unlink(ME, "f")
    assert tree.at("f")
    assert log == ["a before unlink", "a after unlink EACCES"]


async def test_a_refusal_of_what_may_wait_keeps_it_from_happening(
    ns: Namespace, tree: Tree
) -> None:
    channel = ns.resolve(ME, "/f")
    log, _ = watch(ns, NOTHING, frozenset({Kind.OPEN}))
    with pytest.raises(PermissionError, match="b refuses"):
        await channel.open(ME, os.O_WRONLY | os.O_TRUNC)
    assert log == ["a before open", "a after open EACCES"]
    assert tree.at("f").stat().st_size == 7


async def test_every_step_of_using_a_file_is_seen(ns: Namespace) -> None:
    client = Client(ns, ME)
    log, _ = watch(ns, NOTHING)
    async with client.open("/f", os.O_RDWR) as file:
        await file.read(3)
        await file.write(b"x")
        file.truncate(2)
        await file.fsync()
    kinds = [line.split()[2] for line in log if " before " in line]
    assert kinds == ["walk", "open", "read", "write", "truncate", "fsync", "close"]
    assert [line for line in log if " after " in line and not line.endswith("done")] == []


async def test_a_read_that_waits_is_two_operations(ns: Namespace, tree: Tree) -> None:
    stream = tree.at("stream")
    assert isinstance(stream, Stream)
    client = Client(ns, ME)
    async with client.open("/stream") as file, trio.open_nursery() as nursery:
        log, [witness] = watch(ns, NOTHING)
        nursery.start_soon(file.read, 10)
        await wait_all_tasks_blocked()
        assert log == ["a before read", "a after read done", "a before read"]
        stream.say(b"word")
    assert [operation.result for operation in witness.operations[:2]] == [WOULD_BLOCK, b"word"]


async def test_a_cancelled_operation_has_an_end_too(ns: Namespace) -> None:
    client = Client(ns, ME)
    async with client.open("/stream") as file, trio.open_nursery() as nursery:
        log, [witness] = watch(ns, NOTHING)
        nursery.start_soon(file.read, 10)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert log[-3:] == ["a after read Cancelled", "a before close", "a after close done"]
    assert isinstance(witness.operations[1].error, trio.Cancelled)


async def test_who_is_attached_meanwhile_hears_of_no_end_without_a_beginning(
    ns: Namespace, tree: Tree
) -> None:
    stream = tree.at("stream")
    assert isinstance(stream, Stream)
    client = Client(ns, ME)
    async with client.open("/stream") as file, trio.open_nursery() as nursery:
        log, [first] = watch(ns, NOTHING)
        nursery.start_soon(file.read, 10)
        await wait_all_tasks_blocked()
        late = Witness("late", log)
        ns.observers = (late,)
        stream.say(b"word")
    assert log[3] == "a after read done"
    assert len(first.operations) == 2
    assert [operation.kind for operation in late.operations] == [Kind.CLOSE]


def test_a_fork_is_watched_as_its_parent_was(ns: Namespace) -> None:
    log, _ = watch(ns, NOTHING)
    child = ns.fork()
    ns.observers = ()
    child.root.walk(ME, "f")
    assert log == ["a before walk", "a after walk done"]


def test_an_observer_sees_each_of_many_operations_at_a_cost_that_is_printed(
    ns: Namespace,
) -> None:
    root = ns.root
    rounds = 2_000

    def cost() -> float:
        start = time.perf_counter()
        for _ in range(rounds):
            root.stat(ME)
        return (time.perf_counter() - start) / rounds * 1e6

    alone = cost()
    log, _ = watch(ns, NOTHING)
    watched = cost()
    print(f"stat: {alone:.2f} µs without an observer, {watched:.2f} µs with one")
    assert len(log) == 2 * rounds


def test_an_observer_sees_the_kinds_that_it_wants_alone(ns: Namespace) -> None:
    log: list[str] = []
    root = ns.root
    ns.observers = (
        Witness("a", log, kinds=frozenset({Kind.MKDIR})),
        Witness("b", log, kinds=frozenset({Kind.MKDIR, Kind.STAT})),
    )
    assert [is_watched(ns, kind) for kind in (Kind.MKDIR, Kind.STAT, Kind.WALK)] == [1, 1, 0]
    root.stat(ME)
    root.walk(ME, "f")
    root.mkdir(ME, "new", 0o755)
    assert [line for line in log if " before " in line] == [
        "b before stat", "a before mkdir", "b before mkdir",
    ]  # fmt: skip


def test_changes_of_the_namespace_are_seen_with_the_line_that_says_them(ns: Namespace) -> None:
    _, [witness] = watch(ns, NOTHING)
    ns.observers = (witness,)
    child = ns.fork()
    child.bind("/d", "/e")
    child.unmount("/e")
    child.seal()
    child.seal()
    seen = [it.arguments for it in witness.operations if it.kind is Kind.NAMESPACE]
    assert [(path, type(line).__name__) for path, line in seen] == [
        ("/e", "Bind"), ("/e", "Unmount"), ("/", "Seal"),
    ]  # fmt: skip


async def test_an_open_file_counts_what_goes_through_it_and_what_fails(ns: Namespace) -> None:
    file = await ns.resolve(ME, "/f").open(ME, os.O_RDWR)
    file.try_read(ME, 3, 0)
    await file.read(ME, 100, 0)
    file.try_write(ME, b"ab", 0)
    await file.write(ME, b"c", 0)
    assert (file.bytes_read, file.bytes_written, file.errors) == (10, 3, 0)
    file.close(ME)


async def test_what_blocks_is_no_failure_of_an_open_file(ns: Namespace) -> None:
    file = await ns.resolve(ME, "/stream").open(ME, os.O_RDONLY)
    assert file.try_read(ME, 3, 0) is WOULD_BLOCK
    assert (file.bytes_read, file.errors) == (0, 0)
    file.close(ME)


@define
class Bystander:
    """Writes down what it saw."""

    log: list[str]
    kinds: frozenset[Kind] | None = None

    def seen(
        self, kind: Kind, subject: Subject, caller: Caller, arguments: tuple[object, ...],
        result: object, error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        outcome = type(error).__name__ if error is not None else "done"
        words = [word for word in arguments if isinstance(word, str)]
        self.log.append(f"{kind.value} {subject.path} {' '.join(words)} {outcome}")
        assert caller is ME
        assert started <= time.perf_counter()


async def test_an_onlooker_sees_what_was_done_what_failed_and_what_was_cancelled(
    ns: Namespace,
) -> None:
    log: list[str] = []
    client = Client(ns, ME)
    async with client.open("/stream") as file, trio.open_nursery() as nursery:
        ns.onlookers = (Bystander(log),)
        ns.root.walk(ME, "f")
        with pytest.raises(FileNotFoundError):
            ns.root.walk(ME, "none")
        nursery.start_soon(file.read, 10)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert log == [
        "walk / f done",
        "walk / none Missing",
        "read /stream  done",
        "read /stream  Cancelled",
        "close /stream  done",
    ]


def test_an_onlooker_comes_after_the_observers_and_sees_their_refusals(ns: Namespace) -> None:
    log, _ = watch(ns, NOTHING)
    ns.onlookers = (Bystander(log, frozenset({Kind.WALK})),)
    ns.root.walk(ME, "f")
    ns.root.stat(ME)
    assert log == [
        "a before walk", "a after walk done", "walk / f done", "a before stat", "a after stat done",
    ]  # fmt: skip
    del log[:]
    ns.observers = (Witness("b", log, frozenset({Kind.WALK})),)
    with pytest.raises(PermissionError):
        ns.root.walk(ME, "f")
    assert log == ["walk / f PermissionError"]


def test_a_fork_is_looked_at_as_its_parent_was(ns: Namespace) -> None:
    log: list[str] = []
    ns.onlookers = (Bystander(log),)
    child = ns.fork()
    ns.onlookers = ()
    child.root.walk(ME, "f")
    ns.root.walk(ME, "f")
    assert log == ["walk / f done"]

"""Operation: what passes through the channel, as its observers and onlookers see it."""

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from functools import wraps
from time import perf_counter
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

from attrs import define, field, frozen

from oanix.caller import Caller

if TYPE_CHECKING:
    from oanix.namespace import Namespace


class Kind(Enum):
    """The operations that a door can ask for."""

    WALK = "walk"
    STAT = "stat"
    READDIR = "readdir"
    OPEN = "open"
    CREATE = "create"
    MKDIR = "mkdir"
    MKNOD = "mknod"
    SYMLINK = "symlink"
    LINK = "link"
    UNLINK = "unlink"
    RMDIR = "rmdir"
    RENAME = "rename"
    READLINK = "readlink"
    SETATTR = "setattr"
    GETXATTR = "getxattr"
    SETXATTR = "setxattr"
    LISTXATTR = "listxattr"
    REMOVEXATTR = "removexattr"
    STATFS = "statfs"
    READ = "read"
    WRITE = "write"
    TRUNCATE = "truncate"
    FSYNC = "fsync"
    CLOSE = "close"
    NAMESPACE = "namespace"
    """A mount, bind, unmount or seal that was done: seen after it alone, and not refused."""
    DEED = "deed"
    """What a service did for somebody beyond its files: seen after it alone, and not refused."""


class Subject(Protocol):
    """What an operation is done to: a channel, or a file opened through one."""

    @property
    def namespace(self) -> "Namespace": ...
    @property
    def path(self) -> str: ...


@frozen
class Deed:
    """What a service did for somebody who used its files, as a record tells it: nothing secret.

    name: as `http_request`; arguments: what was asked; outcome: what came of it, in a few words;
    error: what it failed with; run: the job that it was handed to.
    """

    name: str
    arguments: Mapping[str, object]
    outcome: str = ""
    error: OSError | None = None
    seconds: float = -1.0
    run: int = 0


@define(eq=False)
class Operation:
    """One operation, before and after.

    arguments are the method's own, the caller excepted; those of NAMESPACE are the path and the
    recipe's line that says what was done, that of DEED is the `Deed`. started is a time of
    `time.perf_counter`. After: error is what was raised, result what was answered.
    """

    kind: Kind
    subject: Subject
    caller: Caller
    arguments: tuple[object, ...]
    error: BaseException | None = None
    result: object = None
    started: float = field(factory=perf_counter, init=False)
    _observers: "tuple[Observer, ...]" = field(default=(), init=False)
    _onlookers: "tuple[Onlooker, ...]" = field(default=(), init=False)


class Observer(Protocol):
    """Sees the operations of a namespace, in the order of `observers`; `after` in reverse order.

    kinds: those that it sees, or None for all; read once, when it is attached.
    `before` may refuse an operation by raising OSError: then those that saw it before see the error
    after, and the others never hear of it. `after` comes exactly once for each `before` that
    returned, also when the operation was cancelled, and must not raise. A read that has to wait is
    two operations: one whose result is WOULD_BLOCK, and one that waits.
    """

    @property
    def kinds(self) -> frozenset[Kind] | None: ...
    def before(self, operation: Operation) -> None: ...
    def after(self, operation: Operation) -> None: ...


class Onlooker(Protocol):
    """Sees operations when they have ended, and refuses none: so it costs less than an observer.

    kinds: as those of an observer. `seen` comes once for each operation that began while it was
    attached, after all observers, also for what one of them refused and for what was cancelled. It
    must not raise. The arguments are the attributes of `Operation`.
    """

    @property
    def kinds(self) -> frozenset[Kind] | None: ...
    def seen(
        self,
        kind: Kind,
        subject: Subject,
        caller: Caller,
        arguments: tuple[object, ...],
        result: object,
        error: BaseException | None,
        started: float,
    ) -> None: ...


@frozen
class Watch:
    """Who sees the operations of one kind."""

    observers: tuple[Observer, ...]
    onlookers: tuple[Onlooker, ...]


Watchers = tuple[Watch | None, ...]
"""Who sees the operations of each kind, in the order of `Kind`; None where nobody does."""

_NUMBERS = {kind: number for number, kind in enumerate(Kind)}


def watchers(observers: tuple[Observer, ...], onlookers: tuple[Onlooker, ...]) -> Watchers:
    """Sort those who watch by what they want to see: what nobody watches then costs a look."""

    def watch(kind: Kind) -> Watch | None:
        seeing = tuple(one for one in observers if one.kinds is None or kind in one.kinds)
        looking = tuple(one for one in onlookers if one.kinds is None or kind in one.kinds)
        return Watch(seeing, looking) if seeing or looking else None

    return tuple(map(watch, Kind))


def is_watched(namespace: "Namespace", kind: Kind) -> bool:
    """Tell whether anybody sees the operations of a kind."""
    return namespace.watchers[_NUMBERS[kind]] is not None


def tell(namespace: "Namespace", subject: Subject, caller: Caller, *arguments: object) -> None:
    """Let those who watch see what was done to the namespace itself."""
    watch = namespace.watchers[_NUMBERS[Kind.NAMESPACE]]
    if watch is not None:
        _end(_begin(watch, Kind.NAMESPACE, subject, caller, arguments))


def did(namespace: "Namespace", caller: Caller, deed: Deed) -> None:
    """Let those who watch see what a service did for somebody through this namespace."""
    watch = namespace.watchers[_NUMBERS[Kind.DEED]]
    if watch is not None:
        _end(_begin(watch, Kind.DEED, namespace.root, caller, (deed,)))


S = TypeVar("S", bound=Subject)
P = ParamSpec("P")
R = TypeVar("R")
Method = Callable[Concatenate[S, Caller, P], R]


def observed(kind: Kind) -> Callable[[Method[S, P, R]], Method[S, P, R]]:
    """Let those who watch the namespace see each call of a method; without any it costs a test."""
    number = _NUMBERS[kind]

    def decorate(method: Method[S, P, R]) -> Method[S, P, R]:
        @wraps(method)
        def call(self: S, caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> R:
            watch = self.namespace.watchers[number]
            if watch is None:
                return method(self, caller, *args, **kwargs)
            if watch.observers:
                return observe(watch, self, caller, *args, **kwargs)
            started = perf_counter()
            try:
                result = method(self, caller, *args, **kwargs)
            except BaseException as error:
                arguments = (*args, *kwargs.values())
                _failed(watch.onlookers, kind, self, caller, arguments, error, started)
                raise
            arguments = (*args, *kwargs.values()) if kwargs else args
            for onlooker in watch.onlookers:
                onlooker.seen(kind, self, caller, arguments, result, None, started)
            return result

        def observe(
            watch: Watch, self: S, caller: Caller, /, *args: P.args, **kwargs: P.kwargs
        ) -> R:
            operation = _begin(watch, kind, self, caller, (*args, *kwargs.values()))
            try:
                operation.result = result = method(self, caller, *args, **kwargs)
            except BaseException as error:
                operation.error = error
                raise
            finally:
                _end(operation)
            return result

        return call

    return decorate


def observed_async(
    kind: Kind,
) -> Callable[[Method[S, P, Awaitable[R]]], Method[S, P, Awaitable[R]]]:
    """Do the same for a method that may wait: it has an end too when it is cancelled."""
    number = _NUMBERS[kind]

    def decorate(method: Method[S, P, Awaitable[R]]) -> Method[S, P, Awaitable[R]]:
        @wraps(method)
        def call(self: S, caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
            watch = self.namespace.watchers[number]
            if watch is None:
                return method(self, caller, *args, **kwargs)
            if watch.observers:
                return observe(watch, self, caller, *args, **kwargs)
            return show(watch, self, caller, *args, **kwargs)

        async def show(
            watch: Watch, self: S, caller: Caller, /, *args: P.args, **kwargs: P.kwargs
        ) -> R:
            started = perf_counter()
            try:
                result = await method(self, caller, *args, **kwargs)
            except BaseException as error:
                arguments = (*args, *kwargs.values())
                _failed(watch.onlookers, kind, self, caller, arguments, error, started)
                raise
            arguments = (*args, *kwargs.values()) if kwargs else args
            for onlooker in watch.onlookers:
                onlooker.seen(kind, self, caller, arguments, result, None, started)
            return result

        async def observe(
            watch: Watch, self: S, caller: Caller, /, *args: P.args, **kwargs: P.kwargs
        ) -> R:
            operation = _begin(watch, kind, self, caller, (*args, *kwargs.values()))
            try:
                operation.result = result = await method(self, caller, *args, **kwargs)
            except BaseException as error:
                operation.error = error
                raise
            finally:
                _end(operation)
            return result

        return call

    return decorate


def _begin(
    watch: Watch, kind: Kind, subject: Subject, caller: Caller, arguments: tuple[object, ...]
) -> Operation:
    operation = Operation(kind, subject, caller, arguments)
    operation._onlookers = watch.onlookers
    for index, observer in enumerate(watch.observers):
        try:
            observer.before(operation)
        except BaseException as error:
            operation.error = error
            operation._observers = watch.observers[:index]
            _end(operation)
            raise
    operation._observers = watch.observers
    return operation


def _end(operation: Operation) -> None:
    # Those that saw it begin, whoever was attached or detached meanwhile.
    for observer in reversed(operation._observers):
        observer.after(operation)
    for onlooker in operation._onlookers:
        onlooker.seen(
            operation.kind, operation.subject, operation.caller, operation.arguments,
            operation.result, operation.error, operation.started,
        )  # fmt: skip


def _failed(
    onlookers: tuple[Onlooker, ...], kind: Kind, subject: Subject, caller: Caller,
    arguments: tuple[object, ...], error: BaseException, started: float,
) -> None:  # fmt: skip
    for onlooker in onlookers:
        onlooker.seen(kind, subject, caller, arguments, None, error, started)

"""Operation: what passes through the channel, as its observers see it."""

from collections.abc import Awaitable, Callable
from enum import Enum
from functools import wraps
from time import perf_counter
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

from attrs import define, field

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


class Subject(Protocol):
    """What an operation is done to: a channel, or a file opened through one."""

    @property
    def namespace(self) -> "Namespace": ...
    @property
    def path(self) -> str: ...


@define(eq=False)
class Operation:
    """One operation, before and after.

    arguments are the method's own, the caller excepted; those of NAMESPACE are the path and the
    recipe's line that says what was done. started is a time of `time.perf_counter`. After: error
    is what was raised, result what was answered.
    """

    kind: Kind
    subject: Subject
    caller: Caller
    arguments: tuple[object, ...]
    error: BaseException | None = None
    result: object = None
    started: float = field(factory=perf_counter, init=False)
    _observers: "tuple[Observer, ...]" = field(default=(), init=False)


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


Watchers = tuple[tuple[Observer, ...], ...]
"""Who sees the operations of each kind, in the order of `Kind`."""

_NUMBERS = {kind: number for number, kind in enumerate(Kind)}


def watchers(observers: "tuple[Observer, ...]") -> Watchers:
    """Sort observers by what they want to see, so that what nobody watches costs a look."""
    return tuple(
        tuple(one for one in observers if one.kinds is None or kind in one.kinds) for kind in Kind
    )


def is_watched(namespace: "Namespace", kind: Kind) -> bool:
    """Tell whether anybody sees the operations of a kind."""
    return bool(namespace.watchers[_NUMBERS[kind]])


def tell(namespace: "Namespace", subject: Subject, caller: Caller, *arguments: object) -> None:
    """Let the observers see what was done to the namespace itself."""
    if is_watched(namespace, Kind.NAMESPACE):
        number = _NUMBERS[Kind.NAMESPACE]
        _end(_begin(number, Kind.NAMESPACE, subject, caller, arguments))


S = TypeVar("S", bound=Subject)
P = ParamSpec("P")
R = TypeVar("R")
Method = Callable[Concatenate[S, Caller, P], R]


def observed(kind: Kind) -> Callable[[Method[S, P, R]], Method[S, P, R]]:
    """Let the observers of the namespace see each call of a method; without any it costs a test."""
    number = _NUMBERS[kind]

    def decorate(method: Method[S, P, R]) -> Method[S, P, R]:
        @wraps(method)
        def call(self: S, caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> R:
            if not self.namespace.watchers[number]:
                return method(self, caller, *args, **kwargs)
            operation = _begin(number, kind, self, caller, (*args, *kwargs.values()))
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
    """Do the same for a method that may wait: `after` comes when it has ended or was cancelled."""
    number = _NUMBERS[kind]

    def decorate(method: Method[S, P, Awaitable[R]]) -> Method[S, P, Awaitable[R]]:
        @wraps(method)
        def call(self: S, caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
            if not self.namespace.watchers[number]:
                return method(self, caller, *args, **kwargs)
            return watch(self, caller, *args, **kwargs)

        async def watch(self: S, caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> R:
            operation = _begin(number, kind, self, caller, (*args, *kwargs.values()))
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
    number: int, kind: Kind, subject: Subject, caller: Caller, arguments: tuple[object, ...]
) -> Operation:
    operation = Operation(kind, subject, caller, arguments)
    observers = subject.namespace.watchers[number]
    for index, observer in enumerate(observers):
        try:
            observer.before(operation)
        except BaseException as error:
            operation.error = error
            operation._observers = observers[:index]
            _end(operation)
            raise
    operation._observers = observers
    return operation


def _end(operation: Operation) -> None:
    # Those that saw it begin, whoever was attached or detached meanwhile.
    for observer in reversed(operation._observers):
        observer.after(operation)

"""Namespace: which service appears at which path, and who may change that.

The owner of a namespace mounts, binds and unmounts. A fork, the namespace of a child, is
independent of its parent from then on and may only narrow what it inherited: cover or drop names,
bind what it can see to more names, never uncover what lies beneath (bind(1), rfork(2) of Plan 9).
"""

import errno
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from attrs import evolve

from oanix import path as paths
from oanix.caller import Caller
from oanix.channel import Channel
from oanix.errors import Sentences, fault
from oanix.graft import graft, union
from oanix.history import History
from oanix.operation import tell, watchers
from oanix.recipe import Bind, Line, Mount, Placed, Seal, Unmount, format_recipe
from oanix.service import Service
from oanix.synthetic import Synthetic
from oanix.table import Access, Member, MountEntry, Place, put

if TYPE_CHECKING:
    from oanix.operation import Observer, Onlooker

PLACES_MAX = 65_536
"""Places in one mount table: binding `/` again and again would double it each time."""

LINES_MAX = 65_536
"""Operations that are remembered, so that the recipe can be printed."""

DEPTH_MAX = 256
"""Levels of a mount table."""

_namespace_numbers = itertools.count(1)

Listener = Callable[[str], None]


class Where(Enum):
    """Where a bind goes in the union at its target: before, after, or instead of what is there."""

    BEFORE = "-b"
    AFTER = "-a"
    REPLACE = ""


class Namespace:
    """A table of mounts, and the observers of what is done through it. Not for several threads."""

    def __init__(self) -> None:
        self.number = next(_namespace_numbers)
        self.table = Place(maker=self.number)
        self._observers: tuple[Observer, ...] = ()
        self._onlookers: tuple[Onlooker, ...] = ()
        self.watchers = watchers((), ())
        self.sentences = Sentences()
        self.env: dict[str, str] = {}
        self.limits: dict[str, str] = {}
        self.layers: dict[Hashable, object] = {}
        """What services narrow for this namespace; a fork inherits it, as it is at that moment."""
        self.sealed = False
        self._child = False
        self._history = History.empty()
        self._places = 1
        self._listeners: tuple[Listener, ...] = ()
        self._synthetic = Synthetic()

    @property
    def observers(self) -> "tuple[Observer, ...]":
        """Those who see what is done through it; a fork inherits them."""
        return self._observers

    @observers.setter
    def observers(self, observers: "tuple[Observer, ...]") -> None:
        self._observers = observers
        self.watchers = watchers(observers, self._onlookers)

    @property
    def onlookers(self) -> "tuple[Onlooker, ...]":
        """Those who see what was done through it; a fork inherits them."""
        return self._onlookers

    @onlookers.setter
    def onlookers(self, onlookers: "tuple[Onlooker, ...]") -> None:
        self._onlookers = onlookers
        self.watchers = watchers(self._observers, onlookers)

    # Reading -------------------------------------------------------------------------------------

    @property
    def root(self) -> Channel:
        """The root of the tree, as it is mounted now."""
        return Channel.root(self)

    @property
    def is_child(self) -> bool:
        """Whether it is a fork, and so may only narrow."""
        return self._child

    @property
    def lines(self) -> tuple[Line, ...]:
        """The operations that made it what it is, oldest first."""
        lines = self._history.lines
        return (*lines, Seal()) if self.sealed else lines

    def recipe(self) -> str:
        """Write the text that rebuilds it: an owner from nothing, a child from its parent."""
        return format_recipe(self.lines)

    def entries(self) -> list[tuple[str, MountEntry]]:
        """List the mounts with their paths, in the order of the paths."""
        found: list[tuple[str, MountEntry]] = []
        todo: list[tuple[tuple[str, ...], Place]] = [((), self.table)]
        while todo:
            names, place = todo.pop()
            found += [(paths.join(names), member.entry) for member in place.members]
            todo += [((*names, name), child) for name, child in place.children.items()]
        return sorted(found, key=lambda pair: pair[0])

    def services(self) -> list[Service]:
        """List the services that are mounted, each once."""
        return list({id(entry.service): entry.service for _, entry in self.entries()}.values())

    def resolve(self, caller: Caller, path: str, *, follow: bool = True) -> Channel:
        """Find a path, following symbolic links; `..` never leaves the root (path_resolution(7)).

        Raises OSError: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EINVAL.
        """
        channel, rest = self._resolve(caller, path, follow=follow)
        if rest:
            raise fault(errno.ENOENT, "no such file or directory", path)
        return channel

    def resolve_parent(self, caller: Caller, path: str) -> tuple[Channel, str]:
        """Find the directory of a path's last name, which need not exist, and that name."""
        names = paths.split(path)
        if not names or names[-1] == ".." or path.endswith("/."):
            raise fault(errno.EINVAL, "this path has no last name of its own", path)
        head = self.resolve(caller, paths.join(names[:-1]))
        return head, names[-1]

    def _resolve(self, caller: Caller, path: str, *, follow: bool) -> tuple[Channel, list[str]]:
        # Gives the deepest channel that exists, and the names that do not.
        todo = paths.split(path)[::-1]
        directory = path.endswith(("/", "/.")) or (bool(todo) and todo[0] == "..")
        here = self.root
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                here = here.parent or here
                continue
            try:
                found = here.walk(caller, name)
            except FileNotFoundError:
                return here, [name, *todo[::-1]]
            if found.is_symlink and (todo or follow or directory):
                links += 1
                if links > paths.SYMLINK_MAX:
                    raise fault(errno.ELOOP, "too many symbolic links", path)
                target = found.readlink(caller)
                directory = directory or (not todo and target.endswith(("/", "/.")))
                todo += paths.split(target)[::-1]
                here = self.root if target.startswith("/") else here
                continue
            if todo and not found.is_directory:
                raise fault(errno.ENOTDIR, f"{found.path} is no directory", path)
            here = found
        if directory and not here.is_directory:
            raise fault(errno.ENOTDIR, f"{here.path} is no directory", path)
        return here, []

    def synthetic(self, place: Place) -> Member:
        """Give the directory of a path that leads to mounts and that no service provides."""
        return Member(self._synthetic.entry, self._synthetic.directory(place.number), create=False)

    # Changing ------------------------------------------------------------------------------------

    def mount(
        self,
        service: Service,
        path: str,
        access: Access = Access.RW,
        options: Mapping[str, str] | None = None,
        *,
        source: str | None = None,
    ) -> None:
        """Mount a service in place of what is at the path.

        source: what a recipe calls it, `NAME:ARGUMENT`. Raises OSError: EPERM in a child or when
        sealed, EINVAL for an unknown option or a bad path, ENOSPC for too many mounts.
        """
        self._require_open()
        if self._child:
            raise fault(errno.EPERM, "only the owner of a namespace mounts; bind what you can see")
        options = dict(options or {})
        names = self._target(path)
        node = service.mounted(options)
        entry = MountEntry(service, access, options)
        before = self.table
        self._put(names, Place((Member(entry, node),), maker=self.number))
        self._record(Mount(source or service.name, paths.join(names), access, options), before)

    def bind(
        self,
        source: str,
        target: str,
        where: Where = Where.REPLACE,
        *,
        create: bool = False,
        access: Access = Access.RW,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Show at the target what the source shows now, with all that is mounted beneath it.

        Raises OSError: ENOENT for a missing source (or target of a union), ENOTDIR for a union with
        a file, EPERM when sealed, EINVAL for an unknown option, ENOSPC for too many mounts.
        """
        self._require_open()
        line = Bind(source, target, where.value, create, access, dict(options or {}))
        self._bind(self.resolve(_OWNER, source), line)

    def _bind(self, channel: Channel, line: Bind) -> None:
        # The source may be of this namespace, or of the one that this is derived from.
        access, options, create, where = line.access, line.options, line.create, Where(line.where)
        names = self._target(line.target)
        grafted = graft(channel, access, options, create=create, maker=self.number)
        old, before = self.table.find(names), self.table
        foreign = self._foreign(old)
        if where is Where.REPLACE:
            self._put(names, evolve(grafted, locked=foreign))
            if old is not None and not foreign and not _is_way(channel.path, names):
                undone = self._history.undo(names, lambda place: not self._foreign(place))
                before = undone or before
        else:
            there = self.resolve(_OWNER, paths.join(names))
            first = where is Where.BEFORE
            joined = union(there, old, grafted, before=first, locked=foreign, maker=self.number)
            self._put(names, joined)
        line = evolve(line, source=channel.path, target=paths.join(names))
        self._record(line, before)

    def unmount(self, path: str) -> None:
        """Take away what is mounted at the path, and all that is mounted beneath it.

        A child may drop any name: it becomes ENOENT. Raises OSError: EINVAL when nothing is mounted
        there, ENOENT for a missing name, EPERM when sealed, EBUSY for the root of a child.
        """
        self._require_open()
        names = self._target(path)
        place = self.table.find(names)
        if not self._child:
            if place is None or not place.members:
                raise fault(errno.EINVAL, f"nothing is mounted at {paths.join(names)}")
            dropped = None
        elif not names:
            raise fault(errno.EBUSY, "the root of a child's namespace stays")
        elif place is None or not place.members or place.holds_foreign(self.number):
            self.resolve(_OWNER, path)
            dropped = Place(opaque=True, locked=True, maker=self.number)
        else:
            dropped = None
        before = self.table
        self._put(names, dropped)
        if dropped is None and self._history.undo(names, lambda place: place is None) is not None:
            self._tell(paths.join(names))
            self._observe(paths.join(names), Unmount(paths.join(names)))
        else:
            self._record(Unmount(paths.join(names)), before)

    def fork(self) -> "Namespace":
        """Make the namespace of a child: the same names, locked, and independent from now on."""
        child = Namespace.__new__(Namespace)
        child.number = next(_namespace_numbers)
        child.table = self.table
        child._observers, child._onlookers = self._observers, self._onlookers
        child.watchers = self.watchers
        child.sentences = self.sentences
        child.env = dict(self.env)
        child.limits = dict(self.limits)
        child.layers = dict(self.layers)
        child.sealed = False
        child._child = True
        child._history = History.empty()
        child._places = self._places
        child._listeners = ()
        child._synthetic = self._synthetic
        return child

    def derive(
        self, lines: Iterable[Placed], given: Mapping[str, Channel] | None = None
    ) -> "Namespace":
        """Make the namespace of a child that has what these lines bind, and nothing else.

        Sources are paths of this namespace, targets those of the child's, which is empty at first.
        given: what whoever makes it shows there besides, by path. Raises RecipeError as `apply`.
        """
        child = self.fork()
        child.table, child._places = Place(maker=self.number), 1
        for path, channel in (given or {}).items():
            grafted = graft(channel, Access.RW, {}, create=True, maker=self.number)
            child._put(paths.clean(path), grafted)
        for placed in lines:
            if isinstance(placed.line, Bind):
                child._derive(self, placed, placed.line)
            else:
                child.apply(placed)
        return child

    def _derive(self, parent: "Namespace", placed: Placed, line: Bind) -> None:
        first = next(i for i, word in enumerate(placed.words) if word.startswith("/"))
        with _at(placed, first):
            channel = parent.resolve(_OWNER, line.source)
        with _at(placed, first + 1):
            self._require_open()
            self._bind(channel, line)

    def seal(self) -> None:
        """Refuse every mount, bind and unmount from now on."""
        if not self.sealed:
            self.sealed = True
            self._observe("/", Seal())

    def apply(self, placed: Placed) -> None:
        """Do one line of a recipe that binds, unmounts or seals.

        Raises RecipeError, pointing at the word that cannot be done: EPERM for `mount`, as only
        who assembles a namespace has the services, and as `bind` and `unmount`.
        """
        line = placed.line
        with _at(placed, 0):
            self._require_open()
        if isinstance(line, Mount):
            raise placed.error(
                "only the recipe that a namespace is made from mounts; bind what you can see",
                0,
                errno.EPERM,
            )
        if isinstance(line, Bind):
            source = next(i for i, word in enumerate(placed.words) if word.startswith("/"))
            with _at(placed, source):
                self.resolve(_OWNER, line.source)
            with _at(placed, source + 1):
                self.bind(
                    line.source, line.target, Where(line.where),
                    create=line.create, access=line.access, options=line.options,
                )  # fmt: skip
        elif isinstance(line, Unmount):
            with _at(placed, 1):
                self.unmount(line.path)
        else:
            self.seal()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call back with the path of each mount, bind and unmount; returns how to stop that."""
        self._listeners = (*self._listeners, listener)

        def stop() -> None:
            self._listeners = tuple(kept for kept in self._listeners if kept is not listener)

        return stop

    # Inside --------------------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self.sealed:
            raise fault(errno.EPERM, "this namespace is sealed; fork it to narrow it further")
        if len(self._history) >= LINES_MAX:
            raise fault(errno.ENOSPC, f"a namespace is made by at most {LINES_MAX} operations")

    def _target(self, path: str) -> tuple[str, ...]:
        # The names of a target as the tree has them, symbolic links followed as mount(2) does, so
        # that a cover lies over the file itself. What does not exist yet is taken by its text.
        channel, rest = self._resolve(_OWNER, _absolute(path), follow=True)
        if rest and not channel.is_directory:
            raise fault(errno.ENOTDIR, f"{channel.path} is no directory", path)
        if ".." in rest:
            raise fault(errno.ENOENT, f"{rest[0]!r} does not exist, so it has no parent", path)
        return paths.clean(paths.join([*paths.split(channel.path), *rest]))

    def _put(self, names: tuple[str, ...], place: Place | None) -> None:
        table = put(self.table, names, place)
        added, depth = place.measure() if place is not None else (0, 0)
        self._places += added + len(names)
        if self._places > PLACES_MAX:
            # The sum forgets what was replaced: count, before refusing.
            self._places, _ = table.measure()
        if self._places > PLACES_MAX:
            self._places, _ = self.table.measure()
            raise fault(errno.ENOSPC, f"a namespace has at most {PLACES_MAX} places for mounts")
        if len(names) + depth > DEPTH_MAX:
            raise fault(errno.ENAMETOOLONG, f"mounts nest at most {DEPTH_MAX} names deep")
        self.table = table

    def _foreign(self, place: Place | None) -> bool:
        # Whether a child would uncover something by taking this place away.
        return self._child and place is not None and place.holds_foreign(self.number)

    def _record(self, line: Line, before: Place) -> None:
        self._history.add(line, before)
        self._tell(line.changes)
        self._observe(line.changes, line)

    def _observe(self, path: str, line: Line) -> None:
        tell(self, self.root, _OWNER, path, line)

    def _tell(self, path: str) -> None:
        for listener in self._listeners:
            listener(path)


_OWNER = Caller()


@contextmanager
def _at(placed: Placed, word: int) -> Iterator[None]:
    # Point at a word of the line in what goes wrong.
    try:
        yield
    except OSError as error:
        sentence = error.strerror or str(error)
        if isinstance(error.filename, str) and error.filename not in sentence:
            sentence = f"{error.filename}: {sentence}"
        raise placed.error(sentence, word, error.errno or errno.EINVAL) from error


def _is_way(path: str, names: tuple[str, ...]) -> bool:
    # Whether one of two paths leads through the other.
    other = tuple(paths.split(path))
    return other[: len(names)] == names[: len(other)]


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise fault(errno.EINVAL, f"a path in a namespace begins with '/': {path!r}")
    return path

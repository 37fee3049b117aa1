"""Assembly: builds a namespace from a recipe; the one place that knows every service.

The services are imported when a recipe names them, so that a program starts with what it uses.
"""

import errno
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from oanix import path as paths
from oanix.caller import Caller
from oanix.errors import fault
from oanix.namespace import Namespace
from oanix.recipe import Bind, Line, Mount, Placed, RecipeError, Unmount, format_recipe, parse
from oanix.service import Service

if TYPE_CHECKING:
    from oanix.lib.vault import Vault
    from oanix.services.http import HttpFs
    from oanix.services.logs import LogsFs
    from oanix.services.relay import RelayFs

RECIPE_MAX = 16 * 2**20
"""Longest recipe in bytes; `-n /dev/zero` ends here."""

DEFAULT = "the default namespace"
"""What errors call the recipe that is used when none is given."""


@frozen
class Context:
    """What a recipe's arguments refer to: relative directories begin at this one."""

    directory: str


@define
class Shared:
    """What services of one namespace have in common: they cannot import each other."""

    vault: "Vault | None" = None
    namespace: Namespace = field(factory=Namespace)
    """What is being built: jobs are made of what it shows."""
    logs: "LogsFs | None" = None
    """The last one mounted: jobs leave theirs there."""
    http: "HttpFs | None" = None
    """The last one mounted: its rules are those of every service that reaches the web."""
    jobs: bool = False
    """Whether it has a service of jobs."""
    serves: bool = False
    """Whether the namespace is served for a while, so that jobs which wait can be run."""
    cache: Path | None = None
    """A folder for what can be made anew."""
    relay: "RelayFs | None" = None
    """The last one mounted: who speaks Nostr and has no other relay speaks to it."""


@frozen
class Kind:
    """A service that recipes can name: what it shows, and how it is built from its argument.

    argument is how a recipe writes it: "" for none, in brackets when it may be left out. exclusive:
    its directory belongs to one server at a time. secrets: it uses the vault.
    """

    shows: str
    argument: str
    build: Callable[[str, Shared], Service]
    exclusive: bool = False
    secrets: bool = False

    @property
    def required(self) -> bool:
        """Whether the argument must be given."""
        return bool(self.argument) and not self.argument.startswith("[")

    @property
    def directory(self) -> bool:
        """Whether the argument names a host directory."""
        return self.argument.strip("[]") == "DIR"


def version() -> str:
    """Give the version of this program, or "unknown" where it was not installed."""
    # Slow to load, and needed by few.
    from importlib import metadata

    try:
        return metadata.version("oanix")
    except metadata.PackageNotFoundError:
        return "unknown"


def _workspace(argument: str, shared: Shared) -> Service:
    from oanix.services.workspace import WorkspaceFs

    return WorkspaceFs(argument)


def _logs(argument: str, shared: Shared) -> Service:
    from oanix.services.logs import LogsFs

    shared.logs = LogsFs(Path(argument))
    return shared.logs


def _mem(argument: str, shared: Shared) -> Service:
    from oanix.services.memfs import MemFs

    return MemFs.from_argument(argument or None)


def _dev(argument: str, shared: Shared) -> Service:
    from oanix.services.devfs import DevFs

    return DevFs()


def _proc(argument: str, shared: Shared) -> Service:
    from oanix.services.procfs import ProcFs

    return ProcFs()


def _http(argument: str, shared: Shared) -> Service:
    from oanix.services.http import HttpFs

    shared.http = HttpFs(Path(argument) if argument else None, vault=shared.vault)
    return shared.http


def _ws(argument: str, shared: Shared) -> Service:
    from oanix.services.ws import WsFs

    if shared.http is None:
        raise fault(errno.EINVAL, "ws goes by the rules of http; mount http on a line before it")
    return WsFs(shared.http.web, shared.http.policy)


def _relay(argument: str, shared: Shared) -> Service:
    from oanix.services.relay import RelayFs

    shared.relay = RelayFs(Path(argument) if argument else None, version=version)
    return shared.relay


def _nostr(argument: str, shared: Shared) -> Service:
    from oanix.services.nostr import NostrFs

    http, relay = shared.http, shared.relay
    return NostrFs(
        Path(argument) if argument else None,
        web=http.web if http else None,
        policy=http.policy if http else None,
        relay=(lambda: relay.relay.connect()) if relay else None,
        vault=shared.vault,
    )


def _jobs(argument: str, shared: Shared) -> Service:
    from oanix.scheduler.jobs import JobsFs

    if shared.logs is None:
        raise fault(errno.EINVAL, "jobs leave their logs in logs; mount logs on a line before it")
    if shared.jobs:
        # A job is known by its number: by its logs, its conversations, and who may open its files.
        raise fault(errno.EINVAL, "a namespace has one service of jobs; bind it to other paths")
    shared.jobs = True
    vault = shared.vault
    return JobsFs(
        Path(argument), shared.logs, lambda: shared.namespace, serves=shared.serves,
        cache=shared.cache, mask=(lambda: vault.mask_all().text) if vault is not None else None,
    )  # fmt: skip


def _agents(argument: str, shared: Shared) -> Service:
    from oanix.services.agents import AgentsFs

    return AgentsFs(Path(argument) if argument else None)


def _secrets(argument: str, shared: Shared) -> Service:
    from oanix.services.secrets import SecretsFs

    if shared.vault is None:
        raise fault(errno.ENODEV, "there is no vault to show the secrets of")
    return SecretsFs(shared.vault)


KINDS: Mapping[str, Kind] = {
    "workspace": Kind("the files of a host directory", "DIR", _workspace),
    "logs": Kind("append-only logs, kept in a host directory", "DIR", _logs, exclusive=True),
    "mem": Kind("files in memory, gone when the server ends", "[size=64M,…]", _mem),
    "dev": Kind("null, zero, random, time, errstr, why", "", _dev),
    "proc": Kind("the namespace itself: ns, ctl, env, limits", "", _proc),
    "http": Kind(
        "the web, by rules that are kept in a host directory", "[DIR]", _http,
        exclusive=True, secrets=True,
    ),
    "ws": Kind("WebSockets, by the rules of http", "", _ws),
    "relay": Kind(
        "a Nostr relay, kept in a host directory", "[DIR]", _relay, exclusive=True
    ),
    "nostr": Kind(
        "Nostr, by the rules of http, with a key that is a secret", "[DIR]", _nostr,
        exclusive=True, secrets=True,
    ),
    "agents": Kind("the kinds of agents that are installed", "[DIR]", _agents),
    "jobs": Kind(
        "programs that run in a namespace of their own, kept in a host directory", "DIR", _jobs,
        exclusive=True,
    ),
    "secrets": Kind("what is known of the secrets, never a value", "", _secrets, secrets=True),
}  # fmt: skip
"""The services, by the name that a recipe gives them."""

# Recipes -----------------------------------------------------------------------------------------


def load(path: str) -> tuple[list[Placed], Context]:
    """Read the recipe in a file; `-` is the standard input.

    Raises OSError as open(2), EFBIG for what is too long, and RecipeError.
    """
    if path == "-":
        text = sys.stdin.buffer.read(RECIPE_MAX + 1)
        source, directory = "standard input", os.getcwd()
    else:
        with open(path, "rb") as file:
            text = file.read(RECIPE_MAX + 1)
        source, directory = path, os.path.dirname(os.path.abspath(path))
    if len(text) > RECIPE_MAX:
        raise fault(errno.EFBIG, f"a recipe has at most {RECIPE_MAX} bytes", path)
    return parse(paths.decode(text), source), Context(directory)


def place(lines: Iterable[Line]) -> list[Placed]:
    """Give lines that no file holds a place for errors to point at."""
    return parse(format_recipe(lines), DEFAULT)


def workspace_state(state: str, directory: str) -> str:
    """Name the folder that holds what belongs to a directory: its logs and its build outputs."""
    real = os.fsencode(os.path.realpath(directory))
    return os.path.join(state, "workspaces", hashlib.sha256(real).hexdigest()[:32])


def kinds_folder(state: str) -> str:
    """Name the folder that holds the kinds of agents that the owner has installed."""
    return os.path.join(state, "agents")


def default_lines(directory: str, state: str) -> list[Mount]:
    """Give the default namespace: the directory at /workspace, and what every one has."""
    own = workspace_state(state, directory)
    return [
        Mount(f"workspace:{os.path.abspath(directory)}", "/workspace"),
        Mount(f"workspace:{own}/dist", "/dist"),
        Mount(f"logs:{own}/logs", "/logs"),
        Mount("dev", "/dev"),
        Mount("proc", "/proc"),
        Mount(f"http:{own}/http", "/cap/http"),
        Mount("ws", "/cap/ws"),
        Mount("secrets", "/cap/secrets"),
        Mount(f"relay:{own}/relay", "/relay"),
        Mount(f"nostr:{own}/nostr", "/cap/nostr"),
        Mount(f"agents:{kinds_folder(state)}", "/agents"),
        Mount(f"jobs:{own}/jobs", "/jobs"),
    ]


def build(
    lines: Iterable[Placed], context: Context, *, vault: "Vault | None" = None,
    serves: bool = False, cache: Path | None = None,
) -> Namespace:  # fmt: skip
    """Build the namespace that a recipe of the owner describes. Nothing of it runs yet.

    serves: whether it will run for long, as the server of a mount does; cache: a folder for what
    can be made anew. Raises RecipeError, with file, line and column, for the first line that cannot
    be done.
    """
    builder = _Builder(context, Shared(vault=vault, serves=serves, cache=cache))
    for placed in lines:
        builder.add(placed)
    return builder.namespace


def check(lines: Iterable[Placed], context: Context) -> None:
    """Look whether every service and directory that a recipe mounts exists, and build nothing.

    Raises RecipeError.
    """
    for placed in lines:
        if isinstance(placed.line, Mount):
            _source(placed, placed.line, context)


def uses_secrets(lines: Iterable[Placed]) -> bool:
    """Tell whether a recipe mounts a service that uses the vault."""
    mounted = (placed.line.service for placed in lines if isinstance(placed.line, Mount))
    return any(service in KINDS and KINDS[service].secrets for service in mounted)


def directories(lines: Iterable[Placed], context: Context, *, exclusive: bool = False) -> list[str]:
    """List the host directories that a recipe's mounts name, as absolute paths.

    exclusive: only those that belong to one server at a time.
    """
    found = []
    for placed in lines:
        line = placed.line
        if not isinstance(line, Mount) or not line.argument:
            continue
        kind = KINDS.get(line.service)
        if kind and kind.directory and (kind.exclusive or not exclusive):
            found.append(_absolute(line.argument, context))
    return found


@define
class _Builder:
    """Does the lines of a recipe, one after the other."""

    context: Context
    shared: Shared
    _made: dict[str, Placed] = field(factory=dict)
    """The line that put something at a path."""
    _roots: dict[tuple[str, str], Placed] = field(factory=dict)
    """The line that mounted a service on a host directory."""

    @property
    def namespace(self) -> Namespace:
        """What is built."""
        return self.shared.namespace

    def add(self, placed: Placed) -> None:
        line = placed.line
        if isinstance(line, Mount):
            self._mount(placed, line)
        elif isinstance(line, Bind):
            self._bind(placed, line)
        else:
            self.namespace.apply(placed)
        if isinstance(line, Unmount):
            self._forget(line.path)

    def _mount(self, placed: Placed, line: Mount) -> None:
        source = _source(placed, line, self.context)
        with _at(placed, 1):
            kind, argument = KINDS[line.service], source.partition(":")[2]
            self._refuse_twice(placed, line, source)
            service = kind.build(argument, self.shared)
        with _at(placed, 2):
            self._refuse_cover(placed, line)
            self._narrowable(placed, line, service.options, service.name)
            self.namespace.mount(service, line.path, line.access, line.options, source=source)
        self._made[_text(line.path)] = placed

    def _refuse_twice(self, placed: Placed, line: Mount, source: str) -> None:
        # Two instances over one directory would know nothing of each other's changes.
        directory = source.partition(":")[2]
        if not KINDS[line.service].directory or not directory:
            return
        real = line.service, os.path.realpath(directory)
        first = self._roots.setdefault(real, placed)
        if first is not placed and isinstance(first.line, Mount):
            words = format_recipe([Bind(first.line.path, line.path, access=line.access)]).strip()
            raise placed.error(
                f"line {first.number} mounts this directory already; write: {words}",
                1,
                errno.EBUSY,
            )

    def _refuse_cover(self, placed: Placed, line: Mount) -> None:
        there = self.namespace.table.find(paths.clean(line.path))
        if there is None or not there.shows:
            return
        below = {p: made for p, made in self._made.items() if _within(p, _text(line.path))}
        numbers = " and ".join(f"line {made.number}" for made in list(below.values())[:3])
        undo = format_recipe([Unmount(next(iter(below), line.path))]).strip()
        raise placed.error(
            f"this would hide what {numbers or 'a bind'} put here; "
            f"delete one of them, or write before this line: {undo}",
            2,
            errno.EBUSY,
        )

    def _bind(self, placed: Placed, line: Bind) -> None:
        word = next(i for i, word in enumerate(placed.words) if word.startswith("/"))
        with _at(placed, word):
            service = self.namespace.resolve(_OWNER, line.source).entry.service
        self._narrowable(placed, line, service.options, service.name)
        self.namespace.apply(placed)
        self._made[_text(line.target)] = placed

    def _narrowable(
        self, placed: Placed, line: Mount | Bind, known: Mapping[str, str], name: str
    ) -> None:
        # The service refuses an unknown option as well; only here the word it stands in is known.
        for option in line.options:
            if option not in known:
                word = next(i for i, w in enumerate(placed.words) if w.startswith(f"{option}="))
                has = ", ".join(known) or "none"
                raise placed.error(f"{name} has no option {option!r}; it has: {has}", word)

    def _forget(self, path: str) -> None:
        gone = _text(path)
        self._made = {p: placed for p, placed in self._made.items() if not _within(p, gone)}
        for key, placed in list(self._roots.items()):
            if isinstance(placed.line, Mount) and _within(_text(placed.line.path), gone):
                del self._roots[key]


_OWNER = Caller()


@contextmanager
def _at(placed: Placed, word: int) -> Iterator[None]:
    """Point at a word of the line in what goes wrong."""
    try:
        yield
    except RecipeError:
        raise
    except OSError as error:
        sentence = error.strerror or str(error)
        if isinstance(error.filename, str) and error.filename not in sentence:
            sentence = f"{error.filename}: {sentence}"
        raise placed.error(sentence, word, error.errno or errno.EINVAL) from error


def _source(placed: Placed, line: Mount, context: Context) -> str:
    kind = KINDS.get(line.service)
    if kind is None:
        known = ", ".join(f"{name}:{k.argument}" if k.required else name
                          for name, k in KINDS.items())  # fmt: skip
        raise placed.error(
            f"{line.service!r} is no service; write one of: {known}", 1, errno.ENODEV
        )
    if kind.required and not line.argument:
        raise placed.error(
            f"{line.service} needs an argument; write {line.service}:{kind.argument}", 1
        )
    if not kind.argument and line.argument is not None:
        raise placed.error(f"{line.service} takes no argument; write {line.service}", 1)
    if not kind.directory or not line.argument:
        return line.source
    directory = _absolute(line.argument, context)
    with _at(placed, 1):
        _require_directory(directory)
    return f"{line.service}:{directory}"


def _absolute(argument: str, context: Context) -> str:
    joined = os.path.join(context.directory, argument)
    # After a symbolic link `..` is not what the text says.
    return os.path.realpath(joined) if ".." in joined.split("/") else os.path.normpath(joined)


def _require_directory(path: str) -> None:
    if not os.path.exists(path):
        raise fault(errno.ENOENT, "there is no such directory; make it, or correct the path", path)
    if not os.path.isdir(path):
        raise fault(errno.ENOTDIR, "this is no directory", path)
    if not os.access(path, os.R_OK | os.X_OK):
        raise fault(errno.EACCES, f"the user {os.geteuid()} may not read this directory", path)


def _text(path: str) -> str:
    return paths.join(paths.clean(path))


def _within(path: str, top: str) -> bool:
    return top == "/" or path == top or path.startswith(f"{top}/")

"""Kinds: what an order of a kind comes to, once its manifest is read in the maker's namespace.

The manifest asks. What it gets is made of what the namespace shows: what is required and not there
is refused, what is optional is left out, and what hides secrets is added to every workspace.
"""

import errno
from collections.abc import Iterable, Mapping, Sequence

from attrs import evolve

from oanix.caller import Caller
from oanix.client import Client
from oanix.errors import fault
from oanix.lib.agents import MANIFEST_MAX, Manifest, parse_manifest, read_input
from oanix.namespace import Namespace
from oanix.recipe import Bind, Line, Seal, Unmount, format_recipe, parse
from oanix.scheduler.spec import Spec
from oanix.scheduler.worlds import HIDDEN
from oanix.table import Member, MountEntry, mapped

AGENTS = "/agents"
"""Where a namespace shows the kinds that can be ordered in it."""

ASKED = "# the default world of "
"""How the recipe of a world begins that a manifest asked for, and no order gave."""

LEFT_OUT = "# left out, as it is not there: "
"""How a recipe begins the lines that tell what an optional need would have brought."""


async def understood(spec: Spec, home: Namespace, caller: Caller) -> Spec:
    """Give an order of a kind with all that it comes to: what it runs, its input, world, limits.

    Raises OSError: ENOENT for a kind or a need that is not there, ENOSYS for one that cannot run
    yet, EINVAL for what it was not asked.
    """
    if spec.interpreter:
        raise fault(errno.EINVAL, "a kind says itself what runs it; leave out the interpreter")
    manifest = await _manifest(spec.kind, home, caller)
    _check_needs(manifest, home, caller)
    if not manifest.runs:
        raise fault(errno.ENOSYS, f"{spec.kind} cannot run yet: {manifest.unavailable}")
    made = evolve(
        spec, module=f"{AGENTS}/{spec.kind}/{manifest.runs}", interpreter=manifest.interpreter,
        limits={**manifest.limits, **spec.limits}, name=spec.name or spec.kind,
    )  # fmt: skip
    if not manifest.takes_any:
        made = evolve(made, input=read_input(manifest, spec.args, spec.input))
    if spec.namespace is None:
        return evolve(made, namespace=asked_world(manifest, home, caller, spec.grant))
    _check_given(manifest, home.derive(parse(spec.namespace, "namespace")), caller)
    return made


async def _manifest(kind: str, home: Namespace, caller: Caller) -> Manifest:
    client, folder = Client(home, caller), f"{AGENTS}/{kind}"
    try:
        data = await client.read(f"{folder}/manifest.json", limit=MANIFEST_MAX)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(kind, client) from None
    manifest = parse_manifest(data)
    if manifest.name != kind:
        raise fault(errno.EINVAL, f"{folder}/manifest.json is that of {manifest.name!r}")
    return manifest


def _missing(kind: str, client: Client) -> OSError:
    if not client.exists(AGENTS):
        return fault(
            errno.ENOENT,
            f"this namespace shows no kinds: it has no {AGENTS}; `mount agents {AGENTS}` shows "
            "those that ship, and `bind` passes them on",
        )
    known = ", ".join(sorted(name for name in client.listdir(AGENTS) if name != "README"))
    return fault(errno.ENOENT, f"there is no kind {kind!r} in {AGENTS}; there are: {known}")


def _check_needs(manifest: Manifest, home: Namespace, caller: Caller) -> None:
    for need in manifest.needs:
        if not need.optional and not Client(home, caller).exists(need.path):
            raise fault(
                errno.ENOENT,
                f"{manifest.name} needs {need.path} ({need.why}), which this namespace does not "
                f"have{f'; {manifest.unavailable}' if manifest.unavailable else ''}",
            )


def _check_given(manifest: Manifest, world: Namespace, caller: Caller) -> None:
    for need in manifest.needs:
        if not need.optional and not Client(world, caller).exists(need.path):
            raise fault(
                errno.ENOENT,
                f"{manifest.name} needs {need.path} ({need.why}), which the namespace of this order"
                " does not show; bind it, or leave out the namespace",
            )


# The world ---------------------------------------------------------------------------------------


def asked_world(
    manifest: Manifest, home: Namespace, caller: Caller, granted: Sequence[str] = ()
) -> str:
    """Write the recipe of the world that a manifest asks for, as far as a namespace has it.

    granted: paths that are added as they are. Raises OSError ENOENT for what is required.
    """
    view = covered(home)
    lines: list[Line] = []
    told: list[str] = []
    for placed in parse(manifest.world, "recipe"):
        line = placed.line
        if isinstance(line, Bind):
            if _there(manifest, line, view, caller, told):
                lines.append(_hiding(line, view.resolve(caller, line.source).entry))
        elif isinstance(line, Unmount) and _shown(line.path, lines):
            lines.append(line)
    lines += [Bind(path, path) for path in granted]
    head = f"{ASKED}{manifest.name} {manifest.version}\n"
    return head + "".join(told) + format_recipe([*lines, Seal()])


def covered(home: Namespace) -> Namespace:
    """Give a namespace as a manifest may bind from it: what is hidden by default is not there.

    By no path: not by a bind of a hidden file itself, nor through a link or what lies above.
    """
    view = home.fork()
    view.table = mapped(
        view.table, lambda place: evolve(place, members=tuple(map(_without, place.members)))
    )
    return view


def _without(member: Member) -> Member:
    entry, service = member.entry, member.entry.service
    if "exclude" not in service.options:
        return member
    node = service.narrow(member.node, {"exclude": ":".join(HIDDEN)})
    options = {**entry.options, "exclude": _joined(entry.options)}
    return Member(MountEntry(service, entry.access, options), node, member.create)


def _joined(options: Mapping[str, str]) -> str:
    """Give what is hidden by default, and what these options hide besides."""
    said = options.get("exclude", "").split(":")
    return ":".join(dict.fromkeys(filter(None, [*HIDDEN, *said])))


def parent_of(spec: Spec, home: Namespace) -> Namespace:
    """Give the namespace from which the world of a job is bound."""
    asked = bool(spec.kind) and (spec.namespace or "").startswith(ASKED)
    return covered(home) if asked else home


def _shown(path: str, lines: Sequence[Line]) -> bool:
    return any(isinstance(line, Bind) and _within(path, line.target) for line in lines)


def _there(
    manifest: Manifest, line: Bind, home: Namespace, caller: Caller, told: list[str]
) -> bool:
    if Client(home, caller).exists(line.source):
        return True
    needs = [need for need in manifest.needs if need.covers(line.source)]
    # The one that says most about the path decides.
    need = max(needs, key=lambda one: len(one.path))
    if not need.optional:
        raise fault(
            errno.ENOENT,
            f"{manifest.name} needs {line.source} ({need.why}), which this namespace does not have",
        )
    told.append(f"{LEFT_OUT}{line.source} ({need.why})\n")
    return False


def _hiding(line: Bind, entry: MountEntry) -> Bind:
    """Say in a bind of files of a project what is hidden in it."""
    if "exclude" not in entry.service.options:
        return line
    return evolve(line, options={**line.options, "exclude": _joined(line.options)})


def _within(path: str, top: str) -> bool:
    return top == "/" or path == top or path.startswith(f"{top}/")


def left_out(recipe: str | None) -> Iterable[str]:
    """List what the recipe of a kind's world tells that it left out."""
    lines = (recipe or "").splitlines()
    return [line.removeprefix(LEFT_OUT) for line in lines if line.startswith(LEFT_OUT)]

"""Manifest: what a kind says of itself, as JSON. It asks; what it gets is its order's to say."""

import errno
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve, field, frozen

from oanix import path as paths
from oanix.errors import fault
from oanix.lib.agents.arguments import Argument
from oanix.lib.agents.names import check_file, check_kind
from oanix.lib.agents.reading import Object, loads
from oanix.recipe import Bind, Mount, RecipeError, parse, quote

MANIFEST_MAX: Final = 1 << 16
"""Bytes of a manifest."""

FILES_MAX: Final = 256
NEEDS_MAX: Final = 64
ARGUMENTS_MAX: Final = 64
RECIPE_MAX: Final = 1_000
LIMITS_MAX: Final = 32

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_WORD: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")


@frozen(kw_only=True)
class Need:
    """A path that a kind asks for, and why; without an optional one it runs as well."""

    path: str
    why: str
    optional: bool = False

    @classmethod
    def parse(cls, said: object) -> "Need":
        """Read one. Raises OSError EINVAL."""
        fields = Object(said, "a need")
        made = cls(
            path=fields.checked("path", _path), why=fields.text("why"),
            optional=fields.flag("optional"),
        )  # fmt: skip
        fields.end()
        return made

    def covers(self, path: str) -> bool:
        """Tell whether a path is this one or lies beneath."""
        return self.path == "/" or path == self.path or path.startswith(f"{self.path}/")


@frozen(kw_only=True)
class Manifest:
    """What a kind is.

    It has a module, or a program for an interpreter; `unavailable` says why it has neither.
    sha256: its files, and the hash of each. recipe: lines that make its default world of the paths
    that it needs. limits: as in a specification. arguments: None where any are taken.
    """

    name: str
    version: str
    description: str
    license: str = ""
    module: str = ""
    interpreter: str = ""
    program: str = ""
    unavailable: str = ""
    sha256: Mapping[str, str] = field(factory=dict)
    needs: tuple[Need, ...] = ()
    recipe: tuple[str, ...] = ()
    limits: Mapping[str, object] = field(factory=dict)
    takes_any: bool = False
    arguments: tuple[Argument, ...] = ()

    @property
    def runs(self) -> str:
        """The file that it runs; "" for one that cannot run yet."""
        return self.module or self.program

    @property
    def world(self) -> str:
        """The recipe that it asks for."""
        lines = self.recipe or [f"bind {quote(n.path)} {quote(n.path)}" for n in self.needs]
        return "".join(f"{line}\n" for line in lines)

    def pinned(self, hashes: Mapping[str, str]) -> "Manifest":
        """Give it with the hashes of its files."""
        return evolve(self, sha256=dict(sorted(hashes.items())))

    def show(self) -> str:
        """Write it as `parse_manifest` reads it back."""
        said: dict[str, Any] = {
            "name": self.name, "version": self.version, "description": self.description,
        }  # fmt: skip
        for key in ("license", "module", "interpreter", "program", "unavailable"):
            if getattr(self, key):
                said[key] = getattr(self, key)
        said["needs"] = [
            {"path": n.path, "why": n.why, **({"optional": True} if n.optional else {})}
            for n in self.needs
        ]
        if self.recipe:
            said["recipe"] = list(self.recipe)
        if self.limits:
            said["limits"] = dict(self.limits)
        if not self.takes_any:
            said["arguments"] = [argument.show() for argument in self.arguments]
        if self.sha256:
            said["sha256"] = dict(self.sha256)
        return json.dumps(said, ensure_ascii=False, indent=2) + "\n"


def parse_manifest(data: bytes, *, pinned: bool = True) -> Manifest:
    """Read a manifest. pinned: it has to give the hash of what it runs.

    Raises OSError EFBIG, and EINVAL with what is wrong where.
    """
    if len(data) > MANIFEST_MAX:
        raise fault(errno.EFBIG, f"a manifest has at most {MANIFEST_MAX} bytes")
    fields = Object(loads(data, "the manifest"), "the manifest")
    made = Manifest(
        name=fields.checked("name", check_kind), version=fields.text("version", longest=40),
        description=fields.text("description"), license=fields.text("license", "", longest=100),
        unavailable=fields.text("unavailable", ""),
        module=fields.checked("module", _optional_file, ""),
        interpreter=fields.checked("interpreter", _interpreter, ""),
        program=fields.checked("program", _optional_file, ""),
        sha256=_hashes(fields), needs=fields.items("needs", Need.parse, most=NEEDS_MAX),
        recipe=fields.items("recipe", _line, most=RECIPE_MAX), limits=_limits(fields),
        takes_any=not fields.has("arguments"),
        arguments=fields.items("arguments", Argument.parse, most=ARGUMENTS_MAX),
    )  # fmt: skip
    fields.end()
    _check_runs(fields, made, pinned=pinned)
    _check_needs(fields, made)
    _check_arguments(fields, made)
    return made


def _check_runs(fields: Object, made: Manifest, *, pinned: bool) -> None:
    if bool(made.interpreter) != bool(made.program):
        raise fields.error("program", "an interpreter has a program, and a program an interpreter")
    if "/" in made.program:
        raise fields.error("program", "a program lies at the top of its folder")
    ways = [bool(made.module), bool(made.program), bool(made.unavailable)]
    if sum(ways) != 1:
        raise fields.error(
            "module", "a kind has a module, or an interpreter and a program, or says why it has "
            "none in `unavailable`",
        )  # fmt: skip
    if pinned and made.runs and made.runs not in made.sha256:
        raise fields.error("sha256", f"the hash of {made.runs!r} is missing; see: oanix agent pin")


def _check_needs(fields: Object, made: Manifest) -> None:
    seen = [need.path for need in made.needs]
    if len(set(seen)) != len(seen):
        raise fields.error("needs", "each path is there once")
    try:
        placed = parse(made.world, "recipe")
    except RecipeError as error:
        raise fields.error("recipe", error.strerror or str(error)) from None
    for one in placed:
        line = one.line
        if isinstance(line, Mount):
            wrong = one.error("a kind mounts nothing: it binds what the namespace shows")
        elif isinstance(line, Bind) and not _proper(line.source, line.target):
            wrong = one.error("these paths are absolute, with no `.` or `..`")
        elif isinstance(line, Bind) and not any(need.covers(line.source) for need in made.needs):
            wrong = one.error(f"{line.source} is bound and stands in no need: say why it is needed")
        else:
            continue
        raise fields.error("recipe", wrong.strerror or "")


def _check_arguments(fields: Object, made: Manifest) -> None:
    names = [argument.name for argument in made.arguments]
    if len(set(names)) != len(names):
        raise fields.error("arguments", "each name is there once")
    places = [argument for argument in made.arguments if argument.positional]
    if any(argument.type == "list" for argument in places[:-1]):
        raise fields.error("arguments", "of those with a place, only the last is a list")
    wanted = [argument.required for argument in places]
    if wanted != sorted(wanted, reverse=True):
        raise fields.error("arguments", "what is required comes before what is not")


def _proper(*names: str) -> bool:
    return all(name.startswith("/") and not {".", ".."} & set(name.split("/")) for name in names)


def _path(text: str) -> str:
    if not paths.split(text):
        raise fault(errno.EINVAL, "a kind asks for what it needs, and not for everything")
    if not _proper(text):
        raise fault(errno.EINVAL, "this is an absolute path with no `.` or `..`")
    return paths.join(paths.split(text))


def _optional_file(text: str) -> str:
    return check_file(text) if text else ""


def _interpreter(text: str) -> str:
    if text and not _WORD.fullmatch(text):
        raise fault(errno.EINVAL, "this is the name of an interpreter, such as quickjs")
    return text


def _line(said: object) -> str:
    if not isinstance(said, str) or "\n" in said:
        raise fault(errno.EINVAL, "this is one line of a recipe")
    return said


def _hashes(fields: Object) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, digest in fields.mapping("sha256", most=FILES_MAX).items():
        try:
            check_file(name)
        except OSError as error:
            raise fields.error("sha256", error.strerror or "") from None
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise fields.error("sha256", f"{name}: a hash is 64 digits of lower-case hex")
        found[name] = digest
    for name in found:
        if any(other.startswith(f"{name}/") for other in found):
            raise fields.error("sha256", f"{name!r} is a file and a directory")
    return found


def _limits(fields: Object) -> Mapping[str, object]:
    said = fields.mapping("limits", most=LIMITS_MAX)
    for name, value in said.items():
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise fields.error("limits", f"{name[:40]}: this is a number, or a text such as 64M")
    return said

"""Arguments: what a kind is asked, read from a command line or from an order's `input`."""

import errno
import textwrap
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from oanix.errors import fault
from oanix.lib.agents.names import check_argument
from oanix.lib.agents.reading import Object

if TYPE_CHECKING:
    from oanix.lib.agents.manifest import Manifest

CHOICES_MAX: Final = 100
LIST_MAX: Final = 1_000
NUMBER_MAX: Final = 1 << 53

TYPES: Final[Mapping[str, str]] = {
    "text": "a text", "integer": "a whole number", "boolean": "true or false",
    "list": "a list of texts",
}  # fmt: skip


@frozen(kw_only=True)
class Argument:
    """One thing that a kind is asked.

    positional: on a command line it stands for itself, in this order, with no `--name`.
    """

    name: str
    type: str
    description: str
    positional: bool = False
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None

    @classmethod
    def parse(cls, said: object) -> "Argument":
        """Read one. Raises OSError EINVAL."""
        fields = Object(said, "an argument")
        name = fields.checked("name", check_argument)
        fields.where = f"the argument {name!r}"
        kind = fields.text("type", "text")
        if kind not in TYPES:
            raise fields.error("type", f"this is one of: {', '.join(TYPES)}")
        made = cls(
            name=name, type=kind, description=fields.text("description"),
            positional=fields.flag("positional"), required=fields.flag("required"),
            choices=fields.items("choices", _choice, most=CHOICES_MAX),
            least=_bound(fields, "least"), most=_bound(fields, "most"),
            default=fields.value("default"),
        )  # fmt: skip
        fields.end()
        made._agree(fields)
        return made

    def _agree(self, fields: Object) -> None:
        if self.choices and self.type not in ("text", "list"):
            raise fields.error("choices", "only a text or a list has choices")
        if (self.least is not None or self.most is not None) and self.type != "integer":
            raise fields.error("least", "only a whole number has bounds")
        if self.positional and self.type == "boolean":
            raise fields.error("positional", "true or false is said by --name alone")
        if self.default is not None:
            if self.required:
                raise fields.error("default", "what is required has no default")
            try:
                self.check(self.default)
            except OSError as error:
                raise fields.error("default", error.strerror or "") from None

    def show(self) -> dict[str, object]:
        """Give it as a manifest has it."""
        return {
            "name": self.name, "type": self.type, "description": self.description,
            **({"positional": True} if self.positional else {}),
            **({"required": True} if self.required else {}),
            **({"default": self.default} if self.default is not None else {}),
            **({"choices": list(self.choices)} if self.choices else {}),
            **({"least": self.least} if self.least is not None else {}),
            **({"most": self.most} if self.most is not None else {}),
        }  # fmt: skip

    def check(self, value: object) -> Any:
        """Give a value of JSON when it is one of this argument. Raises OSError EINVAL."""
        good = {
            "text": isinstance(value, str), "integer": type(value) is int,
            "boolean": isinstance(value, bool), "list": isinstance(value, list),
        }[self.type]  # fmt: skip
        if not good:
            raise fault(errno.EINVAL, f"this is {TYPES[self.type]}")
        if isinstance(value, list):
            if len(value) > LIST_MAX or not all(isinstance(one, str) for one in value):
                raise fault(errno.EINVAL, f"this is a list of at most {LIST_MAX} texts")
            for one in value:
                self._check_text(one)
        if isinstance(value, str):
            self._check_text(value)
        if type(value) is int:
            least = -NUMBER_MAX if self.least is None else self.least
            most = NUMBER_MAX if self.most is None else self.most
            if not least <= value <= most:
                raise fault(errno.EINVAL, f"this is a whole number from {least} to {most}")
        return value

    def _check_text(self, text: str) -> None:
        if "\0" in text:
            raise fault(errno.EINVAL, "a text here holds no NUL")
        if self.choices and text not in self.choices:
            raise fault(errno.EINVAL, f"this is one of: {', '.join(self.choices)}")

    def of_word(self, word: str) -> Any:
        """Read a value from a word of a command line. Raises OSError EINVAL."""
        if self.type != "integer":
            return self.check([word] if self.type == "list" else word)
        digits = word.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise fault(errno.EINVAL, f"{word[:40]!r} is no whole number")
        return self.check(int(word))


def _choice(said: object) -> str:
    if not isinstance(said, str) or not said or not said.isprintable():
        raise fault(errno.EINVAL, "a choice is a text")
    return said


def _bound(fields: Object, key: str) -> int | None:
    value = fields.value(key)
    if value is not None and (type(value) is not int or abs(value) > NUMBER_MAX):
        raise fields.error(key, "this is a whole number")
    return value if isinstance(value, int) else None


# What was said -----------------------------------------------------------------------------------


def read_input(manifest: "Manifest", args: Sequence[str], said: object) -> dict[str, Any]:
    """Make the input of a kind from the words of a command line and from what an order says.

    What a word says goes before what `said` has. Raises OSError EINVAL with what is wrong.
    """
    given = dict(_given(manifest, said))
    given.update(_words(manifest, args))
    made: dict[str, Any] = {}
    for argument in manifest.arguments:
        if argument.name in given:
            made[argument.name] = given[argument.name]
        elif argument.required:
            raise fault(
                errno.EINVAL,
                f"{manifest.name} needs {_called(argument)}: {argument.description}"
                + (f" (one of: {', '.join(argument.choices)})" if argument.choices else ""),
            )
        elif argument.default is not None or argument.type == "boolean":
            made[argument.name] = bool(argument.default) if argument.type == "boolean" else (
                argument.default)  # fmt: skip
    return made


def _given(manifest: "Manifest", said: object) -> dict[str, Any]:
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise fault(errno.EINVAL, f"the input of {manifest.name} is a JSON object")
    known = {argument.name: argument for argument in manifest.arguments}
    for key, value in said.items():
        if key not in known:
            raise _unknown(manifest, key, key)
        try:
            known[key].check(value)
        except OSError as error:
            raise fault(errno.EINVAL, f"input: {key}: {error.strerror}") from None
    return said


def _words(manifest: "Manifest", args: Sequence[str]) -> dict[str, Any]:
    named = {argument.name: argument for argument in manifest.arguments}
    places = [argument for argument in manifest.arguments if argument.positional]
    found: dict[str, Any] = {}
    todo, options = list(args)[::-1], True
    while todo:
        word = todo.pop()
        if options and word == "--":
            options = False
        elif options and word.startswith("--"):
            _option(manifest, named, word, todo, found)
        elif options and len(word) > 1 and word.startswith("-") and not word[1:].isdigit():
            raise _unknown(manifest, word, word.lstrip("-"))
        elif places:
            argument = places[0]
            _put(argument, word, found)
            if argument.type != "list":
                places.pop(0)
        else:
            raise fault(errno.EINVAL, f"{manifest.name} takes no further argument {word[:80]!r}")
    return found


def _option(
    manifest: "Manifest", named: Mapping[str, Argument], word: str, todo: list[str],
    found: dict[str, Any],
) -> None:  # fmt: skip
    name, equals, value = word.removeprefix("--").partition("=")
    argument = named.get(name)
    if argument is None:
        negated = named.get(name.removeprefix("no-")) if name.startswith("no-") else None
        if negated is not None and negated.type == "boolean" and not equals:
            found[negated.name] = False
            return
        raise _unknown(manifest, f"--{name}", name)
    if argument.type == "boolean":
        if equals:
            raise fault(errno.EINVAL, f"--{name} stands alone; for the other, write --no-{name}")
        found[name] = True
        return
    if not equals:
        if not todo:
            raise fault(errno.EINVAL, f"--{name} is followed by {TYPES[argument.type]}")
        value = todo.pop()
    _put(argument, value, found)


def _put(argument: Argument, word: str, found: dict[str, Any]) -> None:
    try:
        value = argument.of_word(word)
    except OSError as error:
        raise fault(errno.EINVAL, f"{_called(argument)}: {error.strerror}") from None
    if argument.type == "list":
        value = [*found.get(argument.name, []), *value]
        argument.check(value)
    found[argument.name] = value


def _called(argument: Argument) -> str:
    return argument.name.upper() if argument.positional else f"--{argument.name}"


def _unknown(manifest: "Manifest", shown: str, name: str) -> OSError:
    names = [argument.name for argument in manifest.arguments]
    near = get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(names) or 'none'}"
    return fault(errno.EINVAL, f"{manifest.name} has no argument {shown[:80]!r}; {hint}")


# Help --------------------------------------------------------------------------------------------


def usage(manifest: "Manifest", command: str) -> str:
    """Write how a kind is used. command: the words before its arguments."""
    places = [argument for argument in manifest.arguments if argument.positional]
    options = [argument for argument in manifest.arguments if not argument.positional]
    words = [command, *(["[OPTIONS]"] if options else []), *map(_placed, places)]
    lines = [f"Usage: {' '.join(words)}", "", *_wrapped(manifest.description, "  ")]
    for title, those in (("Arguments", places), ("Options", options)):
        if those:
            lines += ["", f"{title}:"]
            lines += [line for argument in those for line in _explained(argument)]
    lines += ["", "It gets:"]
    for need in manifest.needs:
        lines += _wrapped(f"{need.path}{' (if there)' if need.optional else ''}: {need.why}", "  ")
    if manifest.unavailable:
        lines += ["", *_wrapped(f"It cannot run yet: {manifest.unavailable}", "")]
    return "\n".join(lines) + "\n"


def _placed(argument: Argument) -> str:
    name = argument.name.upper() + ("..." if argument.type == "list" else "")
    return name if argument.required else f"[{name}]"


def _explained(argument: Argument) -> list[str]:
    head = argument.name.upper() if argument.positional else f"--{argument.name}"
    if not argument.positional and argument.type != "boolean":
        head += f" {argument.type.upper()}"
    more = [f"one of: {', '.join(argument.choices)}"] if argument.choices else []
    if argument.least is not None and argument.most is not None:
        more.append(f"{argument.least} to {argument.most}")
    if argument.required:
        more.append("required")
    elif argument.default not in (None, False, "", []):
        said = argument.default
        shown = " ".join(said) if isinstance(said, list) else said
        more.append(f"default: {shown}")
    said = argument.description + (f" ({'; '.join(more)})" if more else "")
    return [f"  {head}", *_wrapped(said, "      ")]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 79, initial_indent=indent, subsequent_indent=indent)

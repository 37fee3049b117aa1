"""Specification: what somebody asks a job to be, as JSON."""

import errno
import json
import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from attrs import asdict, evolve, field, frozen

from oanix.errors import fault
from oanix.lib.agents.reading import loads
from oanix.recipe import Mount, RecipeError, parse
from oanix.scheduler.interpreters import interpreter
from oanix.scheduler.limits import Limits, seconds

SPEC_MAX: Final = 1 << 20
"""Bytes of a specification."""

DEPTH_MAX: Final = 100
"""Levels of lists and objects in a specification."""

LINES_MAX: Final = 1_000
"""Lines of a recipe: its server makes the namespace of them while others wait."""

PRIORITY: Final = range(-100, 101)
ARGS_MAX: Final = 4_096
AFTER_MAX: Final = 1_000
TIMES_MAX: Final = 100

REASONS: Final = ("interrupted", "crashed", "wall", "exit")
"""Ends after which a job may be tried again: the server died, its worker did, its time was up, it
exited with another code than 0."""


@frozen(kw_only=True)
class Retry:
    """How often a job is tried again, after what, and how long after: `delay` doubles each time."""

    times: int = 0
    on: tuple[str, ...] = ("interrupted", "crashed")
    delay: float = 1.0

    def after(self, tried: int) -> float:
        """Say how long to wait once it was tried so often, in seconds."""
        return float(min(self.delay * 2 ** (tried - 1), 3_600.0))


@frozen
class Source:
    """A file that a job reads as its standard input, as its maker sees it."""

    path: str


@frozen(kw_only=True)
class Spec:
    """What a job is to be.

    module: a path in the namespace of who orders it, or `sha256:` and the hash of one that ran
    before, of a WebAssembly module or of a script; interpreter: what runs a script; empty until
    that is known; kind: an installed agent in place of a module. namespace: the recipe of its
    world; None has the default, and grant adds paths to that. priority: higher goes first. timeout:
    seconds from its start to its end, retries included. after: jobs that must have completed.
    stdin: a text, or a file such as the `stdout` of another job; None waits for what is written
    into the job's own. worker: False has it run in the server, where a small module that is trusted
    starts at once.
    """

    module: str = ""
    interpreter: str = ""
    kind: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(factory=dict)
    stdin: str | Source | None = None
    namespace: str | None = None
    grant: tuple[str, ...] = ()
    limits: Mapping[str, object] = field(factory=dict)
    priority: int = 0
    retry: Retry = field(factory=Retry)
    timeout: float | None = None
    after: tuple[int, ...] = ()
    name: str = ""
    worker: bool | None = None
    input: Any = None
    """What the job finds as `input` in `/task/spec.json`."""

    def ready(self) -> "Spec":
        """Give it when it says what to run. Raises OSError EINVAL."""
        if bool(self.module) == bool(self.kind):
            raise fault(errno.EINVAL, 'a job has either a "module" or a "kind"')
        return self

    def show(self) -> str:
        """Write it as `parse_spec` reads it back."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"


def parse_spec(text: str | bytes, base: Spec | None = None) -> Spec:
    """Read a specification, in place of what `base` says. Raises OSError EINVAL with the key."""
    said = loads(text if isinstance(text, bytes) else text.encode(), "this")
    if not isinstance(said, dict):
        raise fault(errno.EINVAL, "a specification is a JSON object")
    _check_kept(said)
    changed: dict[str, Any] = {}
    for key, value in said.items():
        reader = _READERS.get(key)
        if reader is None:
            near = get_close_matches(key, _READERS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise fault(errno.EINVAL, f"a specification has no {key[:40]!r}{hint}")
        try:
            changed[key] = reader(value)
        except RecipeError:
            raise
        except OSError as error:
            raise fault(errno.EINVAL, f"{key}: {error.strerror}") from None
    return evolve(base or Spec(), **changed)


def _check_kept(said: object) -> None:
    """Refuse what could not be written down as it was read. Raises OSError EINVAL."""
    level = [said]
    for _ in range(DEPTH_MAX):
        inner = [one for one in level if isinstance(one, dict | list)]
        level = [
            value for one in inner for value in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            break
    else:
        raise fault(errno.EINVAL, f"this is nested more than {DEPTH_MAX} levels deep")
    try:
        json.dumps(said, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        sentence = "a text here has half of a surrogate pair, and so is none of Unicode"
        raise fault(errno.EINVAL, sentence) from None
    except ValueError:
        raise fault(errno.EINVAL, "a number here is beyond all bounds") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise fault(errno.EINVAL, "this is a text")
    if "\0" in value:
        raise fault(errno.EINVAL, "a text here holds no NUL")
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _stdin(value: object) -> str | Source | None:
    if not isinstance(value, dict):
        return _optional_text(value)
    path = _text(value.get("path"))
    if set(value) != {"path"} or not path.startswith("/"):
        raise fault(errno.EINVAL, 'this is a text, or {"path": "/jobs/7/stdout"}: a file to read')
    return Source(path)


def _args(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > ARGS_MAX:
        raise fault(errno.EINVAL, f"this is a list of at most {ARGS_MAX} texts")
    return tuple(map(_text, value))


def _env(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > ARGS_MAX:
        raise fault(errno.EINVAL, f"this is an object of at most {ARGS_MAX} texts")
    for name in value:
        if not name or "=" in name or "\0" in name:
            raise fault(errno.EINVAL, f"{name[:40]!r} cannot be the name of a variable")
    return {name: _text(one) for name, one in value.items()}


def _module(value: object) -> str:
    text = _text(value)
    if text.startswith("sha256:"):
        digits = text.removeprefix("sha256:")
        if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
            raise fault(errno.EINVAL, "a hash is sha256: and 64 digits of lower-case hex")
    elif text and not text.startswith("/"):
        raise fault(errno.EINVAL, "a module is an absolute path in the namespace, or sha256:HASH")
    return text


def _interpreter(value: object) -> str:
    text = _text(value)
    return interpreter(text).name if text else text


def _kind(value: object) -> str:
    text = _text(value)
    if text and not text.replace("_", "").replace("-", "").isalnum():
        raise fault(errno.EINVAL, "a kind has letters, digits, - and _")
    return text


def _recipe(value: object) -> str | None:
    text = _optional_text(value)
    for number, placed in enumerate(parse(text or "", "namespace")):
        if number >= LINES_MAX:
            raise placed.error(f"the namespace of a job has at most {LINES_MAX} lines", 0)
        if isinstance(placed.line, Mount):
            raise placed.error("a job's namespace is made of what can be seen: use bind", 0)
    return text


def _grant(value: object) -> tuple[str, ...]:
    paths = _args(value)
    if any(not path.startswith("/") or "\n" in path for path in paths):
        raise fault(errno.EINVAL, "these are absolute paths of the namespace")
    return paths


def _limits(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise fault(errno.EINVAL, "this is an object")
    Limits.parse(value)
    return value


def _whole(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise fault(errno.EINVAL, f"this is a whole number from {least} to {most}")
    return value


def _priority(value: object) -> int:
    return _whole(value, PRIORITY[0], PRIORITY[-1])


def _duration(value: object) -> float:
    number = seconds(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise fault(errno.EINVAL, "this is a time, in seconds or as 90s, 10m, 2h")
    if not (math.isfinite(number) and 0 < number <= 365 * 86_400):
        raise fault(errno.EINVAL, "this is a time above 0 and at most a year")
    return float(number)


def _timeout(value: object) -> float | None:
    return None if value is None else _duration(value)


def _retry(value: object) -> Retry:
    if type(value) is int:
        return Retry(times=_whole(value, 0, TIMES_MAX))
    if not isinstance(value, dict) or set(value) - {"times", "on", "delay"}:
        raise fault(errno.EINVAL, 'this is a number, or has "times", "on" and "delay"')
    made = Retry(times=_whole(value.get("times", 1), 0, TIMES_MAX))
    if "on" in value:
        reasons = _args(value["on"])
        if set(reasons) - set(REASONS):
            raise fault(errno.EINVAL, f"what can be tried again: {', '.join(REASONS)}")
        made = evolve(made, on=reasons)
    return evolve(made, delay=_duration(value["delay"])) if "delay" in value else made


def _after(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > AFTER_MAX:
        raise fault(errno.EINVAL, f"this is a list of at most {AFTER_MAX} jobs")
    return tuple(dict.fromkeys(_whole(one, 1, 1 << 53) for one in value))


def _flag(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise fault(errno.EINVAL, "this is true or false")
    return value


def _name(value: object) -> str:
    text = _text(value)
    if len(text) > 200 or not text.isprintable():
        raise fault(errno.EINVAL, "a name has at most 200 printable characters")
    return text


_READERS: Final[dict[str, Callable[[object], object]]] = {
    "module": _module, "interpreter": _interpreter, "kind": _kind, "args": _args, "env": _env,
    "stdin": _stdin, "namespace": _recipe, "grant": _grant, "limits": _limits,
    "priority": _priority, "retry": _retry, "timeout": _timeout, "after": _after, "name": _name,
    "worker": _flag, "input": lambda value: value,
}  # fmt: skip

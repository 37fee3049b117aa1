"""Reading: JSON objects whose keys and types are all known, with sentences for what is not."""

import errno
import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from oanix.errors import fault

T = TypeVar("T")


class Object:
    """An object of JSON, read key by key; `end` refuses what nobody asked for."""

    def __init__(self, said: object, where: str) -> None:
        """Take it. where: what it is, for sentences. Raises OSError EINVAL when it is none."""
        self.where = where
        if not isinstance(said, dict):
            raise fault(errno.EINVAL, f"{where} is a JSON object")
        self._said: dict[str, Any] = said
        self._known: list[str] = []

    def error(self, key: str, sentence: str) -> OSError:
        """Make the error about a key."""
        return fault(errno.EINVAL, f"{self.where}: {key}: {sentence}")

    def text(
        self, key: str, default: str | None = None, *, longest: int = 1_000, lines: bool = False
    ) -> str:
        """Read a text; without a default it must be there, and not be empty."""
        value = self._get(key, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self.error(key, "this is a text")
        plain = value.replace("\n", "").replace("\t", "") if lines else value
        if len(value) > longest or not (plain.isprintable() or not plain):
            raise self.error(key, f"this has at most {longest} printable characters")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """Read true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "this is true or false")
        return value

    def value(self, key: str, default: object = None) -> object:
        """Read anything."""
        return self._get(key, default)

    def has(self, key: str) -> bool:
        """Tell whether a key is there."""
        return key in self._said

    def items(self, key: str, read: Callable[[object], T], *, most: int) -> tuple[T, ...]:
        """Read a list."""
        value = self._get(key, [])
        if not isinstance(value, list) or len(value) > most:
            raise self.error(key, f"this is a list of at most {most}")
        return tuple(self._at(f"{key}[{number}]", read, one) for number, one in enumerate(value))

    def mapping(self, key: str, *, most: int) -> Mapping[str, object]:
        """Read an object whose keys are names."""
        value = self._get(key, {})
        if not isinstance(value, dict) or len(value) > most:
            raise self.error(key, f"this is an object of at most {most} names")
        return value

    def checked(self, key: str, check: Callable[[str], T], default: str | None = None) -> T:
        """Read a text that has to be of some form. Raises OSError EINVAL with what `check` says."""
        return self._at(key, check, self.text(key, default))

    def end(self) -> None:
        """Refuse keys that were not read. Raises OSError EINVAL."""
        for key in self._said:
            if key not in self._known:
                near = get_close_matches(key, self._known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(self._known)}"
                raise fault(errno.EINVAL, f"{self.where} has no {key[:40]!r}; {hint}")

    def _get(self, key: str, default: object) -> Any:
        self._known.append(key)
        return self._said.get(key, default)

    def _at(self, key: str, read: Callable[[Any], T], value: object) -> T:
        try:
            return read(value)
        except OSError as error:
            raise self.error(key, error.strerror or str(error)) from None


def loads(data: bytes, what: str) -> object:
    """Read JSON strictly: UTF-8, no key twice, no NaN. Raises OSError EINVAL."""
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise fault(errno.EINVAL, f"{what} is no JSON: {str(error)[:200]}") from None


def _once(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    made: dict[str, object] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key[:40]!r} is there twice")
        made[key] = value
    return made


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")

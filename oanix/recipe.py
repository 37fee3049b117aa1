"""Recipe: a namespace as text, one operation a line.

    mount SERVICE[:ARGUMENT] PATH [ro|append] [OPTION=VALUE …]
    bind [-b|-a] [-c] SOURCE TARGET [ro|append] [OPTION=VALUE …]
    unmount PATH
    seal
    # comment

Words are separated by blanks. A word in double quotes may hold blanks, and `\\"`, `\\\\`, `\\n`,
`\\t` and `\\xHH` (one byte of a name); a word in single quotes stands for itself. `format_recipe`
writes what `parse` reads back as the same lines.
"""

import errno
from collections.abc import Iterable, Mapping
from typing import Protocol

from attrs import field, frozen

from oanix import path as paths
from oanix.table import Access

LINE_MAX = 65_536
"""Longest line in characters: a path has 4,095 bytes, a line has room for two and options."""


class RecipeError(OSError):
    """A line that cannot be read or done, with its place in the file and what to write instead."""

    def __init__(
        self, sentence: str, *, source: str, line: int, column: int, number: int = errno.EINVAL
    ) -> None:
        super().__init__(number, f"{source}:{line}:{column}: {sentence}")
        self.sentence = sentence
        self.source = source
        self.line = line
        self.column = column


class Line(Protocol):
    """One operation of a recipe."""

    @property
    def changes(self) -> str:
        """The path at which it changes the tree."""

    def words(self) -> list[str]:
        """Give its words, unquoted."""


@frozen
class Mount:
    """`mount`: show a service at a path."""

    source: str
    path: str
    access: Access = Access.RW
    options: Mapping[str, str] = field(factory=dict)

    @property
    def changes(self) -> str:
        return self.path

    @property
    def service(self) -> str:
        """The name of the service."""
        return self.source.partition(":")[0]

    @property
    def argument(self) -> str | None:
        """What follows the colon, or None."""
        _, colon, argument = self.source.partition(":")
        return argument if colon else None

    def words(self) -> list[str]:
        return ["mount", self.source, self.path, *_rights(self.access, self.options)]


@frozen
class Bind:
    """`bind`: show at the target what the source shows."""

    source: str
    target: str
    where: str = ""
    create: bool = False
    access: Access = Access.RW
    options: Mapping[str, str] = field(factory=dict)

    @property
    def changes(self) -> str:
        return self.target

    def words(self) -> list[str]:
        flags = [flag for flag in (self.where, "-c" if self.create else "") if flag]
        return ["bind", *flags, self.source, self.target, *_rights(self.access, self.options)]


@frozen
class Unmount:
    """`unmount`: take away what is mounted at a path."""

    path: str

    @property
    def changes(self) -> str:
        return self.path

    def words(self) -> list[str]:
        return ["unmount", self.path]


@frozen
class Seal:
    """`seal`: refuse every change from here on."""

    @property
    def changes(self) -> str:
        return "/"

    def words(self) -> list[str]:
        return ["seal"]


@frozen
class Placed:
    """A line and where it stands in its file; columns are those of its words, as they were read."""

    line: Mount | Bind | Unmount | Seal
    number: int
    source: str
    columns: tuple[int, ...]
    words: tuple[str, ...]

    def error(self, sentence: str, word: int = 0, number: int = errno.EINVAL) -> RecipeError:
        """Make an error that points at one word of the line."""
        column = self.columns[min(word, len(self.columns) - 1)]
        return RecipeError(
            sentence, source=self.source, line=self.number, column=column, number=number
        )


def parse(text: str, source: str = "recipe") -> list[Placed]:
    """Read a recipe. Raises RecipeError for the first line that is none."""
    if text.startswith("\ufeff"):
        raise RecipeError(
            "begins with a byte order mark; save the file as UTF-8 without one",
            source=source, line=1, column=1,
        )  # fmt: skip
    found = []
    sealed = False
    for number, content in enumerate(text.split("\n"), 1):
        words = _words(content, source, number)
        if not words:
            continue
        placed = _Reader(words, source, number).read()
        if sealed:
            raise placed.error("nothing can follow seal; make it the last line")
        sealed = isinstance(placed.line, Seal)
        found.append(placed)
    return found


def format_recipe(lines: Iterable[Line]) -> str:
    """Write lines as text that `parse` reads back."""
    return "".join(" ".join(map(quote, line.words())) + "\n" for line in lines)


def quote(word: str) -> str:
    """Write a word so that it is read back as the same word."""
    plain = word and not word.startswith("#") and word.isprintable()
    if plain and not any(character in " \t\"'\\" for character in word):
        return word
    written = []
    for byte_or_character in word:
        code = ord(byte_or_character)
        if byte_or_character in '"\\':
            written.append("\\" + byte_or_character)
        elif 0xDC80 <= code <= 0xDCFF:
            written.append(f"\\x{code - 0xDC00:02x}")
        elif byte_or_character == " " or byte_or_character.isprintable():
            written.append(byte_or_character)
        else:
            written += [f"\\x{byte:02x}" for byte in paths.encode(byte_or_character)]
    return '"' + "".join(written) + '"'


def _rights(access: Access, options: Mapping[str, str]) -> list[str]:
    words = [] if access is Access.RW else [access.value]
    return words + [f"{name}={value}" for name, value in options.items()]


# Words -------------------------------------------------------------------------------------------

_ESCAPES = {'"': b'"', "\\": b"\\", "n": b"\n", "t": b"\t"}

Word = tuple[str, int]
"""A word and the column, from 1, at which it begins."""


def _words(content: str, source: str, number: int) -> list[Word]:
    def error(sentence: str, at: int) -> RecipeError:
        return RecipeError(sentence, source=source, line=number, column=at + 1)

    if len(content) > LINE_MAX:
        raise error(f"a line has at most {LINE_MAX} characters", LINE_MAX)
    if "\0" in content:
        raise error("holds a NUL; write text", content.index("\0"))
    if "\r" in content:
        raise error("holds a carriage return; end lines with LF alone", content.index("\r"))
    if not content.isascii():
        for at, character in enumerate(content):
            if "\ud800" <= character <= "\udfff" and not "\udc80" <= character <= "\udcff":
                raise error("holds a lone surrogate, which is no text", at)
    words: list[Word] = []
    at = 0
    while at < len(content):
        character = content[at]
        if character in " \t":
            at += 1
        elif character == "#":
            break
        else:
            start = at
            word, at = _word(content, at, error)
            words.append((word, start + 1))
    return words


def no_option(word: str) -> str:
    """Say what may stand behind the paths of a mount or bind."""
    if word in ("ro", "append", "rw"):
        return f"{word!r} stands before the options; write {word} OPTION=VALUE"
    return f"{word!r} is no option; write ro, append or OPTION=VALUE"


class _MakeError(Protocol):
    def __call__(self, sentence: str, at: int) -> RecipeError: ...


def _word(content: str, at: int, error: _MakeError) -> tuple[str, int]:
    written = bytearray()
    while at < len(content) and content[at] not in " \t":
        if content[at] == '"':
            at = _double_quoted(content, at, written, error)
        elif content[at] == "'":
            end = content.find("'", at + 1)
            if end < 0:
                raise error("a quote is left open; close it with '", at)
            written += paths.encode(content[at + 1 : end])
            at = end + 1
        else:
            written += paths.encode(content[at])
            at += 1
    return paths.decode(bytes(written)), at


def _double_quoted(content: str, start: int, written: bytearray, error: _MakeError) -> int:
    at = start + 1
    while at < len(content):
        character = content[at]
        if character == '"':
            return at + 1
        if character != "\\":
            written += paths.encode(character)
            at += 1
            continue
        letter = content[at + 1 : at + 2]
        if letter in _ESCAPES and letter:
            written += _ESCAPES[letter]
            at += 2
        elif content[at + 1 : at + 4] == "x00":
            raise error("holds a NUL; no name can", at)
        elif letter == "x" and _is_byte(content[at + 2 : at + 4]):
            written.append(int(content[at + 2 : at + 4], 16))
            at += 4
        else:
            raise error('a backslash in quotes goes before ", \\, n, t or xHH', at)
    raise error('a quote is left open; close it with "', start)


def _is_byte(digits: str) -> bool:
    return len(digits) == 2 and all(digit in "0123456789abcdefABCDEF" for digit in digits)


# Lines -------------------------------------------------------------------------------------------

_FORMS = {
    "mount": "mount SERVICE[:ARGUMENT] PATH [ro|append] [OPTION=VALUE …]",
    "bind": "bind [-b|-a] [-c] SOURCE TARGET [ro|append] [OPTION=VALUE …]",
    "unmount": "unmount PATH",
    "seal": "seal",
}


class _Reader:
    def __init__(self, words: list[Word], source: str, number: int) -> None:
        self.words = words
        self.source = source
        self.number = number
        self.at = 1

    def read(self) -> Placed:
        verb = self.words[0][0]
        if verb not in _FORMS:
            raise self.error(f"{verb!r} is no operation; write one of: {', '.join(_FORMS)}", 0)
        line: Mount | Bind | Unmount | Seal
        if verb == "mount":
            line = Mount(self.take("SERVICE"), self.path("PATH"), *self.rights())
            if not line.service:
                raise self.error("the service has no name; write SERVICE or SERVICE:ARGUMENT", 1)
        elif verb == "bind":
            where, create = self.flags()
            source, target = self.path("SOURCE"), self.path("TARGET")
            line = Bind(source, target, where, create, *self.rights())
        elif verb == "unmount":
            line = Unmount(self.path("PATH"))
        else:
            line = Seal()
        if self.at < len(self.words):
            raise self.error(f"one word too many; write: {_FORMS[verb]}", self.at)
        words, columns = zip(*self.words, strict=True)
        return Placed(line, self.number, self.source, columns, words)

    def take(self, what: str) -> str:
        if self.at >= len(self.words):
            last, column = self.words[-1]
            form = _FORMS[self.words[0][0]]
            raise RecipeError(
                f"{what} is missing; write: {form}",
                source=self.source, line=self.number, column=column + len(last),
            )  # fmt: skip
        self.at += 1
        return self.words[self.at - 1][0]

    def path(self, what: str) -> str:
        word = self.take(what)
        if not word.startswith("/"):
            raise self.error(f"{what} begins with '/'; write {'/' + word!r}", self.at - 1)
        return word

    def flags(self) -> tuple[str, bool]:
        where, create = "", False
        while self.at < len(self.words) and self.words[self.at][0].startswith("-"):
            flag = self.words[self.at][0]
            letters = flag[1:]
            if not letters or letters.strip("abc") or ("a" in letters and "b" in letters):
                raise self.error(f"{flag!r} is no flag; write -b or -a, and -c", self.at)
            placing = "-b" if "b" in letters else "-a" if "a" in letters else ""
            if where and placing and where != placing:
                raise self.error("-b and -a exclude each other", self.at)
            where, create = placing or where, create or "c" in letters
            self.at += 1
        return where, create

    def rights(self) -> tuple[Access, dict[str, str]]:
        access = Access.RW
        if self.at < len(self.words) and self.words[self.at][0] in ("ro", "append", "rw"):
            access = Access(self.take("ACCESS"))
        options: dict[str, str] = {}
        while self.at < len(self.words):
            name, equals, value = self.words[self.at][0].partition("=")
            if not equals or not name:
                raise self.error(no_option(self.words[self.at][0]), self.at)
            if name in options:
                raise self.error(f"the option {name!r} is given twice", self.at)
            options[name] = value
            self.at += 1
        return access, options

    def error(self, sentence: str, word: int) -> RecipeError:
        return RecipeError(
            sentence, source=self.source, line=self.number, column=self.words[word][1]
        )

"""Output: names and listings, on a terminal and in a pipe.

A terminal gets names with control characters and bytes that are no UTF-8 escaped (`\\n`, `\\x1b`,
`\\xff`, `\\u202e`, and `\\\\` for a backslash); a pipe gets them byte by byte as they are. JSON has
a name twice where it is no UTF-8: `name` with U+FFFD in place of what is none, `name_b64` exactly.
"""

import base64
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

import click

_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def escape(text: str) -> str:
    """Write text so that it stays on its line and does nothing to a terminal."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def escape_name(name: str) -> str:
    """Write a name for a terminal so that two names never look alike."""
    return escape(name.replace("\\", "\\\\"))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return _ESCAPES.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def raw(text: str) -> bytes:
    """Give the bytes that a name stands for; what stands for none shows as `?`."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


class Out:
    """The standard output, as bytes."""

    def __init__(self) -> None:
        self._stream = sys.stdout.buffer
        self.terminal = self._stream.isatty()

    def name(self, name: str) -> bytes:
        """Write a name for this output."""
        return raw(escape_name(name) if self.terminal else name)

    def line(self, *words: bytes | str) -> None:
        """Print words with blanks between them."""
        done = [raw(word) if isinstance(word, str) else word for word in words]
        self._stream.write(b" ".join(done) + b"\n")

    def write(self, data: bytes) -> None:
        """Print bytes at once: who reads a stream waits for each."""
        self._stream.write(data)
        self._stream.flush()

    def json(self, value: object) -> None:
        """Print a JSON document."""
        self._stream.write(json.dumps(value, indent=2).encode() + b"\n")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print columns; the last one is as wide as it needs."""
        lines = [tuple(head), *(tuple(escape(cell) for cell in row) for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head) - 1)]
        for line in lines:
            cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
            self.line("  ".join([*cells, line[-1]]).rstrip())


def json_name(key: str, name: str) -> dict[str, str]:
    """Give the fields that hold a name in a JSON object: `key`, and `key_b64` where it needs it."""
    exact = raw(name)
    shown = exact.decode("utf-8", "replace")
    if shown.encode() == exact:
        return {key: shown}
    return {key: shown, f"{key}_b64": base64.b64encode(exact).decode("ascii")}


def complain(line: str) -> None:
    """Print a line on the standard error, if anybody still reads it."""
    try:
        click.echo(line.encode("utf-8", "backslashreplace"), err=True)
    except BrokenPipeError:
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Send what is still to be printed nowhere: its reader is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def complete_standard_files() -> None:
    """Have the standard files that this process was started without lead nowhere (`<&-`, `>&-`).

    Else what is opened next gets their numbers, and is read and written in their place.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)
        if getattr(sys, name) is None:
            made = open(descriptor, "w" if descriptor else "r", closefd=False)  # noqa: SIM115
            setattr(sys, name, made)

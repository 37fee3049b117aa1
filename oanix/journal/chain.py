"""Chain: a line's hash covers its bytes and the hash of the line before it.

    {"seq":7, …,"hash":"…"}\\n     hash = SHA-256(hash of line 6, as hex + the line up to `,"hash"`)

The bytes in the file are what is hashed, so that no second way to write a record exists.
"""

import hashlib
import json
import re
from typing import cast

GENESIS = hashlib.sha256(b"oanix journal 1").hexdigest()
"""What the first record is chained to."""

_END = len(',"hash":"') + 64 + len('"}')
_FORM = re.compile(rb'\{"seq":([1-9][0-9]{0,18}),.*,"hash":"([0-9a-f]{64})"\}', re.DOTALL)


def sealed(previous: str, body: str) -> tuple[str, str]:
    """Chain a record, an ASCII JSON object without its last brace; give its line and its hash."""
    digest = hashlib.sha256(f"{previous}{body}".encode("ascii")).hexdigest()
    return f'{body},"hash":"{digest}"}}\n', digest


def follows(line: bytes, previous: str) -> bool:
    """Tell whether a line, without its newline, is a record that continues after this hash."""
    stated = line[-66:-2]
    return (
        line[-_END:-66] == b',"hash":"'
        and line[-2:] == b'"}'
        and hashlib.sha256(previous.encode("ascii") + line[:-_END]).hexdigest().encode() == stated
    )


def position(line: bytes) -> tuple[int, str] | None:
    """Give the number and hash that a line states, or None when it has no such form."""
    found = _FORM.fullmatch(line)
    return (int(found[1]), found[2].decode("ascii")) if found else None


def parse(line: bytes) -> dict[str, object]:
    """Read a line; what is no JSON object gives nothing."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", record) if isinstance(record, dict) else {}

"""Record: one operation as a line of the journal. The fields and their order never change.

seq time who mount service op path target detail result rule read written errors ms hash
"""

import errno
import time
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from operator import attrgetter
from typing import TypeAlias

from oanix.caller import Caller
from oanix.recipe import Line, format_recipe
from oanix.stat import Changed

CANCELLED = -1
"""The result of what its caller gave up."""


Detail: TypeAlias = str | Changed | Line
"""Text, or what it is written from."""

Entry: TypeAlias = tuple[
    float, Caller | None, str, str, str, str, str, Detail, int, str, int, int, int, float
]
"""What is known when an operation has ended; it is written out later, off the trio thread.

when, caller, mount, service, op, path, target, detail, result (an errno, 0 or CANCELLED), rule,
bytes read and written (-1: not told), errors, seconds (-1: not told). A bare tuple, as one is made
for each change of a file, and anything with names takes five times as long.
"""


def note(when: float, op: str, detail: Detail = "", path: str = "") -> Entry:
    """Make the entry of what a journal says of itself or of its namespace."""
    return (when, None, "", "", op, path, "", detail, 0, "", -1, -1, 0, -1.0)


def body(number: int, entry: Entry) -> str:
    """Write a record without its hash and last brace. ASCII alone: bytes of names are `\\udcXX`."""
    (when, caller, mount, service, op, path, target, detail, result, rule, read, written, errors,
     seconds) = entry  # fmt: skip
    who = ""
    if caller is not None:
        before, after = _whose(*_of_caller(caller), mount, service)
        # A door counts its requests, so that this alone is another each time.
        who = f"{before}{quoted(caller.request)}{after}"
    if detail:
        detail = f',"detail":{quoted(detail if isinstance(detail, str) else _written(detail))}'
    if target:
        target = f',"target":{quoted(target)}'
    if rule:
        rule = f',"rule":{quoted(rule)}'
    path = f',"path":{quoted(path)}' if path else ""
    through = f',"read":{read},"written":{written}' if read >= 0 else ""
    failed = f',"errors":{errors}' if errors else ""
    took = f',"ms":{seconds * 1e3:.3f}' if seconds >= 0 else ""
    return (
        f'{{"seq":{number},"time":"{stamp(when)}"{who},"op":"{op}"{path}{target}{detail},'
        f'"result":"{_result(result) if result else "ok"}"{rule}{through}{failed}{took}'
    )


def stamp(when: float) -> str:
    """Write a time as RFC 3339 has it, in UTC, to the microsecond."""
    micros = round(when * 1e6)
    return f"{_second(micros // 1_000_000)}.{micros % 1_000_000:06d}Z"


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


_of_caller = attrgetter("principal", "uid", "session", "job", "door", "pid")


@lru_cache(maxsize=256)
def _whose(
    principal: str, uid: int, session: str, job: str, door: str, pid: int, mount: str, service: str
) -> tuple[str, str]:
    named = (("session", session), ("job", job), ("door", door))
    text = f',"who":{{"principal":{quoted(principal)},"uid":{uid}'
    text += f',"pid":{pid}' if pid else ""
    text += "".join(f',"{name}":{quoted(value)}' for name, value in named if value)
    return f'{text},"request":', f'}},"mount":{quoted(mount)},"service":{quoted(service)}'


def _result(number: int) -> str:
    return "cancelled" if number == CANCELLED else errno.errorcode.get(number, f"errno {number}")


def _written(detail: "Changed | Line") -> str:
    if not isinstance(detail, Changed):
        return format_recipe([detail]).rstrip("\n")
    words = []
    if detail.mode is not None:
        words.append(f"mode={detail.mode & 0o7777:04o}")
    for name in ("uid", "gid", "size"):
        value = getattr(detail, name)
        if value is not None:
            words.append(f"{name}={value}")
    if detail.atime_ns is not None or detail.mtime_ns is not None:
        words.append("times")
    return " ".join(words)

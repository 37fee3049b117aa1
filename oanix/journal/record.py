"""Record: one operation as a line of the journal. The fields and their order never change.

seq time who mount service op path target detail result rule read written errors ms hash
"""

import errno
import time
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import NamedTuple

from oanix.caller import Caller
from oanix.recipe import Line, format_recipe
from oanix.stat import Changed

CANCELLED = -1
"""The result of what its caller gave up."""


class Entry(NamedTuple):
    """What is known when an operation has ended; written out later, off the trio thread.

    detail is text, or what makes it. result is an errno, 0 or CANCELLED. A tuple, as one is made
    for each change of a file: an attrs class takes three times as long.
    """

    when: float
    caller: Caller | None
    mount: str
    service: str
    op: str
    path: str
    target: str = ""
    detail: "str | Changed | Line" = ""
    result: int = 0
    rule: str = ""
    read: int = -1
    written: int = -1
    errors: int = 0
    seconds: float = -1.0


def body(number: int, entry: Entry) -> str:
    """Write a record without its hash and last brace. ASCII alone: bytes of names are `\\udcXX`."""
    when, caller, mount, service, op, path, target, detail, result, rule, *counts = entry
    read, written, errors, seconds = counts
    text = f'{{"seq":{number},"time":"{stamp(when)}"'
    if caller is not None:
        text += f',"who":{{{_who(caller)}}}'
    if service:
        text += f',"mount":{quoted(mount)},"service":{quoted(service)}'
    text += f',"op":"{op}"'
    if path:
        text += f',"path":{quoted(path)}'
    if target:
        text += f',"target":{quoted(target)}'
    if detail:
        text += f',"detail":{quoted(detail if isinstance(detail, str) else _written(detail))}'
    text += f',"result":"{_result(result)}"'
    if rule:
        text += f',"rule":{quoted(rule)}'
    if read >= 0:
        text += f',"read":{read}'
    if written >= 0:
        text += f',"written":{written}'
    if errors:
        text += f',"errors":{errors}'
    return f'{text},"ms":{seconds * 1e3:.3f}' if seconds >= 0 else text


def stamp(when: float) -> str:
    """Write a time as RFC 3339 has it, in UTC, to the microsecond."""
    micros = round(when * 1e6)
    return f"{_second(micros // 1_000_000)}.{micros % 1_000_000:06d}Z"


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _who(caller: Caller) -> str:
    text = _whose(caller.principal, caller.uid, caller.session, caller.job, caller.door)
    if caller.pid:
        text += f',"pid":{caller.pid}'
    return f'{text},"request":{quoted(caller.request)}' if caller.request else text


@lru_cache(maxsize=256)
def _whose(principal: str, uid: int, session: str, job: str, door: str) -> str:
    named = (("session", session), ("job", job), ("door", door))
    text = f'"principal":{quoted(principal)},"uid":{uid}'
    return text + "".join(f',"{name}":{quoted(value)}' for name, value in named if value)


def _result(number: int) -> str:
    if not number:
        return "ok"
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

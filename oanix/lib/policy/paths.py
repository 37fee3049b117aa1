"""Paths: what a server may take the path of an address for.

A server may decode what the policy sees encoded: `/a/..%2fadmin`, `/a/%252e%252e/admin`,
`/a/..;/admin`, `/a/..%c0%afadmin`, `/%61dmin`. So a path is looked at as it is sent and as the most
obliging server reads it: `decoded` undoes every encoding, however often it was applied, and
`resolved` takes out what file names would. Both take linear time.
"""

import re
from typing import Final

_HEX: Final = frozenset("0123456789abcdefABCDEF")
_BLANKS: Final = "".join(map(chr, range(0x21)))
_LONG: Final = re.compile(r"\xe0[\x80\x81][\x80-\xbf]|\xf0\x80[\x80\x81][\x80-\xbf]")
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_PARAMETERS: Final = re.compile(r";[^/]*")


def decoded(path: str) -> str:
    """Undo percent-encoding until none is left, and overlong UTF-8; a byte is one character.

    `%2e`, `%252e`, `%%32%65`, `%u002e`, `%c0%ae` and `%e0%80%ae` are all a dot.
    """
    if "%" not in path:
        return path
    stack: list[str] = []
    for character in path:
        stack.append(character)
        # What an escape stands for may be the end of another one; each makes the stack shorter.
        while (shorter := _reduced(stack)) is not None:
            size, stands_for = shorter
            stack[-size:] = [stands_for]
    return "".join(stack)


def _reduced(stack: list[str]) -> tuple[int, str] | None:
    """Give how many characters at the end stand for one other, and which one."""
    last = stack[-1]
    if last in _HEX:
        if len(stack) > 2 and stack[-3] == "%" and stack[-2] in _HEX:
            return 3, chr(int(stack[-2] + last, 16))
        if (
            len(stack) > 5
            and stack[-6] == "%"
            and stack[-5] in "uU"
            and _HEX.issuperset(stack[-4:])
        ):
            code = int("".join(stack[-4:]), 16)
            return (6, chr(code)) if code < 0x80 else None
    elif "\x80" <= last <= "\xbf" and len(stack) > 1:
        low = ord(last) & 0x3F
        if stack[-2] in "\xc0\xc1":
            return 2, chr((ord(stack[-2]) & 1) << 6 | low)
        if stack[-2] in "\x80\x81" and _LONG.fullmatch("".join(stack[-3:])):
            return 3, chr((ord(stack[-2]) & 1) << 6 | low)
        if stack[-2] in "\x80\x81" and _LONG.fullmatch("".join(stack[-4:])):
            return 4, chr((ord(stack[-2]) & 1) << 6 | low)
    return None


def resolved(path: str) -> str:
    """Take a backslash for a slash, and take out dot segments and empty ones.

    A dot segment may have parameters, blanks and control characters: `..;x`, `.. ` and `..\\0`
    are `..`. A path that ends with a slash, or with a dot segment, ends with a slash.
    """
    kept: list[str] = []
    last = ""
    for segment in path.replace("\\", "/").split("/"):
        name = segment.partition(";")[0].strip(_BLANKS)
        last = "" if name in (".", "..") else segment
        if name == "..":
            del kept[-1:]
        elif last:
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if kept and not last else "")


def sent(path: str) -> str:
    """Give the path as it is sent, with the digits of escapes in upper case."""
    return _ESCAPE.sub(lambda found: found[0].upper(), path)


def without_parameters(path: str) -> str:
    """Take out what follows a `;` in each segment, as servers do that know path parameters."""
    return _PARAMETERS.sub("", path)

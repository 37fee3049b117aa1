"""Forms: how a value may appear in an answer. Pure functions.

They are finite lists of literals, as these are found at the speed of memory; encodings beyond them
are named in docs/man/secrets.md.
"""

import base64
import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

SAFE: Final = (
    "",  # RFC 3986: all but the unreserved
    "/",  # the default of Python's quote, and of path encoders
    "!'()*",  # encodeURIComponent (ECMA-262)
    ";/?:@&=+$,#!'()*",  # encodeURI
    "!$%&'()*+,/:;=?@[\\]^`{|}",  # the query of a URL (url.spec.whatwg.org)
    "!$%&()*+,/:;=?@[\\]^`{|}",  # the query of an http URL
    "!$%&'()*+,/:;=@[\\]^|",  # the path of a URL
)
"""What the encoders that are in use leave as it is, beside letters, digits and `-._~`."""

_ESCAPE: Final = re.compile(r"%[0-9A-F]{2}")
_JSON_OPTIONAL: Final = "<>&'"


def forms(value: str, *also: str) -> frozenset[bytes]:
    """Give every form of a value; `also` are texts around it whose whole base64 is another."""
    raw = value.encode()
    found = {raw, *_percent(raw), *_json(value), *_base64(raw)}
    for text in also:
        found.update(_whole_base64(text.encode()))
    return frozenset(found)


def _percent(raw: bytes) -> Iterator[bytes]:
    escaped = ["".join(f"%{byte:02X}" for byte in raw)]
    for safe in SAFE:
        text = quote(raw, safe=safe)
        escaped += [text, text.replace("%20", "+")]
    # Forms: `~` is escaped, `*` is not (url.spec.whatwg.org, application/x-www-form-urlencoded).
    escaped.append(quote(raw, safe="*").replace("~", "%7E").replace("%20", "+"))
    for text in escaped:
        yield text.encode()
        yield _ESCAPE.sub(lambda found: found[0].lower(), text).encode()


def _json(value: str) -> Iterator[bytes]:
    for ascii_only in (False, True):
        plain = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        texts = [plain, plain.replace("/", "\\/")]
        for text in tuple(texts):
            # Go escapes the first three, PHP and Django what they are told to.
            texts += [_unicode(text, _JSON_OPTIONAL[:3]), _unicode(text, _JSON_OPTIONAL)]
        for text in texts:
            yield text.encode()
            yield re.sub(r"\\u[0-9a-f]{4}", lambda found: _upper(found[0]), text).encode()


def _unicode(text: str, characters: str) -> str:
    return "".join(f"\\u{ord(c):04x}" if c in characters else c for c in text)


def _upper(escape: str) -> str:
    return escape[:2] + escape[2:].upper()


def _base64(raw: bytes) -> Iterator[bytes]:
    yield from _whole_base64(raw)
    for before in range(3):
        # What stands before and after in a longer text changes the characters at both ends.
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        text = base64.b64encode(bytes(before) + raw)[first:last]
        yield from _alphabets(text)


def _whole_base64(raw: bytes) -> Iterator[bytes]:
    text = base64.b64encode(raw)
    yield from _alphabets(text)
    yield from _alphabets(text.rstrip(b"="))


def _alphabets(text: bytes) -> Iterator[bytes]:
    yield text
    yield text.translate(bytes.maketrans(b"+/", b"-_"))
    yield text.replace(b"/", b"\\/")
    escaped = quote(text, safe="").encode()
    yield escaped
    yield re.sub(rb"%..", lambda found: found[0].lower(), escaped)

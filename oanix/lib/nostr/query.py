"""Query: a filter as one name of a path, `kinds=1,7&#t=oanix&limit=20`.

Names and values are percent-encoded where they hold `%`, `&`, `,`, `=`, `/` or what is no graphic
character; a `#` may be left out before a tag of one letter. Authors are written as npub or hex,
events as note, nevent or hex. The empty filter is `all`.
"""

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote

from oanix.lib.nostr.codec import Invalid
from oanix.lib.nostr.filter import Filter
from oanix.lib.nostr.nip19 import event_id_of, pubkey_of

ALL: Final = "all"

NUMBERS: Final = ("since", "until", "limit")
SAFE: Final = "!\"#$'()*+-.:;<>?@[\\]^_`{|}~"


def parse_query(name: str) -> Filter:
    """Read a filter. Raises Invalid."""
    decoded: dict[str, object] = {}
    for part in name.split("&") if name != ALL else ():
        key, equals, text = part.partition("=")
        key = _unquoted(key)
        if not equals or not text:
            raise Invalid(f"{part[:60]!r} is no part of a filter; write kinds=1&#t=oanix&limit=20")
        if key in decoded and key in ("search", *NUMBERS):
            raise Invalid(f"{key} is given twice")
        if key == "search":
            decoded[key] = _unquoted(text)
        elif key in NUMBERS:
            decoded[key] = _number(key, _unquoted(text))
        else:
            _add(decoded, key, [_unquoted(value) for value in text.split(",")])
    return Filter.parse(decoded)


def format_query(one: Filter) -> str:
    """Write a filter as `parse_query` reads it."""
    parts = []
    for key, value in one.decoded().items():
        values = value if isinstance(value, list) else [value]
        parts.append(f"{quote(key, safe='#')}={','.join(quote(str(v), safe=SAFE) for v in values)}")
    return "&".join(parts) or ALL


def _add(decoded: dict[str, object], key: str, values: Sequence[str]) -> None:
    if len(key) == 1:
        key = f"#{key}"
    known = decoded.setdefault(key, [])
    assert isinstance(known, list)
    if key == "kinds":
        known.extend(_number(key, value) for value in values)
    elif key in ("authors", "#p"):
        known.extend(map(pubkey_of, values))
    elif key in ("ids", "#e"):
        known.extend(map(event_id_of, values))
    elif len(key) == 2 and key[0] == "#" and key[1].isascii() and key[1].isalpha():
        known.extend(values)
    else:
        raise unknown_name(key)


def unknown_name(name: str) -> Invalid:
    """Make the error of a name that a filter does not have."""
    return Invalid(
        f"{name[:40]!r} is unknown; a filter has ids authors kinds since until limit search and "
        "tags of one letter, as #t"
    )


def _number(key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Invalid(f"{key} is a whole number, and not {text[:40]!r}")
    return int(text)


def _unquoted(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise Invalid(f"{text[:60]!r} is no UTF-8") from None

"""Message: a request and its answer as `call` writes them, one line of JSON each (RFC 8259)."""

import base64
import binascii
import errno
import json
from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from oanix.errors import fault
from oanix.lib.url import Url
from oanix.services.http.fields import (
    TIMEOUT_S,
    Headers,
    check_size,
    find,
    header_of,
    method_of,
    timeout_of,
)

SHORTEST: Final = '{"url": "https://…"}'
"""A request that can be sent, for the sentences that say what to write."""


@frozen
class Message:
    """A request that was checked."""

    method: str
    url: Url
    headers: Headers = ()
    body: bytes | None = None
    timeout_s: float = TIMEOUT_S
    follow: bool = True


def parse(line: bytes) -> Message:
    """Read a request. Raises OSError EINVAL, saying what to write instead; EMSGSIZE."""
    found = _object(line)
    unknown = next((key for key in found if key not in _KEYS), None)
    if unknown is not None:
        raise _wrong(f"{unknown[:40]!r} is no key of a request; known: {', '.join(_KEYS)}")
    if "url" not in found:
        raise _wrong(f"a request has at least {SHORTEST}")
    headers = _headers(found.get("headers", {}))
    body = _body(found)
    if "json" in found and find(headers, "content-type") is None:
        headers += (("Content-Type", "application/json"),)
    check_size(headers)
    return Message(
        method_of(_text(found, "method", "GET" if body is None else "POST")),
        Url.parse(_text(found, "url", "")),
        headers,
        body,
        _timeout(found.get("timeout", TIMEOUT_S)),
        _flag(found.get("follow", True)),
    )


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise _wrong(f"byte {error.start} of the request is no UTF-8") from None
    except RecursionError:
        raise _wrong("the request is nested too deeply") from None
    except ValueError as error:
        torn = line.strip() in b"{["
        write = "a request is one line: write it with jq -c" if torn else f"write {SHORTEST}"
        raise _wrong(f"the request is no JSON ({error}); {write}") from None
    if not isinstance(found, dict):
        raise _wrong(f"a request is a JSON object: {SHORTEST}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the name {key[:40]!r} is given twice")
        made[key] = value
    return made


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _text(found: dict[str, Any], key: str, default: str) -> str:
    value = found.get(key, default)
    if not isinstance(value, str):
        raise _wrong(f"{key} is a string")
    return value


def _headers(value: object) -> Headers:
    pairs: list[tuple[object, object]] = []
    if isinstance(value, dict):
        for name, one in value.items():
            pairs += [(name, each) for each in (one if isinstance(one, list) else [one])]
    elif isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 for p in value):
        pairs = [(name, one) for name, one in value]
    else:
        raise _wrong('headers are an object, {"Accept": "text/plain"}, or a list of pairs')
    return tuple(header_of(_header_text(name), _header_text(one)) for name, one in pairs)


def _header_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _wrong("the name and the value of a header are strings")


def _body(found: dict[str, Any]) -> bytes | None:
    given = [key for key in ("body", "body_base64", "json") if key in found]
    if len(given) > 1:
        raise _wrong(f"a request has one body: give {' or '.join(given)}")
    if not given or (given[0] != "json" and found[given[0]] is None):
        return None
    return _BODIES[given[0]](found[given[0]])


def _from_text(value: object) -> bytes:
    if not isinstance(value, str):
        raise _wrong("body is a string; give any other value as json")
    return _utf8(value)


def _from_base64(value: object) -> bytes:
    if not isinstance(value, str):
        raise _wrong("body_base64 is a string")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong(f"body_base64 is no base64 ({error})") from None


def _from_json(value: object) -> bytes:
    try:
        return _utf8(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
    except ValueError:
        raise _wrong("json holds a number that JSON cannot write") from None


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _wrong("the body holds a lone surrogate, which is no text; use body_base64") from None


_KEYS: Final = ("method", "url", "headers", "body", "body_base64", "json", "timeout", "follow")
_BODIES: Final[dict[str, Callable[[object], bytes]]] = {
    "body": _from_text,
    "body_base64": _from_base64,
    "json": _from_json,
}


def _timeout(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong("timeout is a number of seconds")
    return timeout_of(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong("follow is true or false")
    return value


def _wrong(sentence: str) -> OSError:
    return fault(errno.EINVAL, sentence)


def answer(status: int, headers: Headers, body: bytes, url: str, elapsed_ms: int) -> bytes:
    """Write an answer as one line of JSON."""
    shown: dict[str, object] = {"status": status, "headers": shown_headers(headers)}
    try:
        shown["body"] = body.decode()
    except UnicodeDecodeError:
        shown["body_base64"] = base64.b64encode(body).decode("ascii")
    shown |= {"url": url, "elapsed_ms": elapsed_ms}
    text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


def shown_headers(headers: Headers) -> dict[str, str | list[str]]:
    """Write headers as an object (RFC 9110 section 5.3: only Set-Cookie cannot be joined)."""
    made: dict[str, list[str]] = {}
    for name, value in headers:
        made.setdefault(name.lower(), []).append(value)
    return {n: values if n == "set-cookie" else ", ".join(values) for n, values in made.items()}

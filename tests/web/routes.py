"""What the test server answers.

/echo               method, target, headers and body of the request, as JSON
/upload             how many bytes came, and their SHA-256, as JSON
/bytes/N            N zero bytes, with their length;  /streamed/N  the same in chunks
/parts/N            N bytes "0123456789…", or the part that `Range: bytes=A-` asks for; with an
                    ?etag= and, for ?moves=1, another one each time
/status/N           that status, its number as text
/slow/S             the answer comes after S seconds;  /stall/N  N bytes of 2 N, then nothing
/hang               no answer at all;  /drip/S  one byte of the header every S seconds
/endless            bytes without an end;  /sse/N  N events (0: without an end)
/coded/CODINGS/N    N zero bytes under content codings, as in /coded/gzip+br/1000
/text/CODINGS/T     the text T under content codings
/bomb/CODING/N      N MiB of zero bytes under one coding, made as they are sent
/redirect/N         N redirects, then /echo;  /loop  for ever
/to?status=&url=    a redirect to a URL
/headers/N          N headers;  /header/N  one of N bytes
/flaky/KEY?fail=N&status=S&after=A   fails N times with status S and Retry-After A
/reset  /reset-body  /reset-once/KEY  /short  /both  /badchunk  /hugechunk  /junk  /evil
/cache/KEY?control=  counts its requests, with an ETag and this Cache-Control
/set?name=value     these headers in the answer
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import brotli
import trio
from attrs import define
from backports import zstd

if TYPE_CHECKING:
    from tests.web.server import Server

Headers = tuple[tuple[str, str], ...]
MIB = 1 << 20


class Hung(Exception):
    """The connection is to end here."""


@define(eq=False)
class Asked:
    """One request."""

    method: str
    target: str
    headers: Headers
    chunks: AsyncIterator[bytes]

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def header(self, name: str) -> str:
        """Give the value of a header, "" for one that is not there."""
        return next((value for key, value in self.headers if key.lower() == name), "")


class Reply(Protocol):
    """How a route answers, over HTTP/1.1 or /2."""

    version: str

    async def start(self, status: int, headers: Headers, reason: str = "") -> None: ...
    async def send(self, data: bytes) -> None: ...
    async def send_zeroes(self, size: int) -> None: ...
    async def end(self) -> None: ...
    async def raw(self, data: bytes) -> None: ...
    def reset(self) -> None: ...


Route = Callable[[Asked, Reply, "Server", list[str]], Awaitable[None]]


async def whole(reply: Reply, data: bytes, status: int = 200, headers: Headers = ()) -> None:
    """Answer with a body of known length."""
    await reply.start(status, (("Content-Length", str(len(data))), *headers))
    await reply.send(data)
    await reply.end()


async def route(asked: Asked, reply: Reply, server: "Server") -> None:
    """Answer one request."""
    name, *rest = unquote(asked.path).strip("/").split("/")
    found = ROUTES.get(name)
    if found is not None:
        await found(asked, reply, server, rest)
        return
    await whole(reply, b"no such route\n", 404)


async def _echo(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    body = b"".join([chunk async for chunk in asked.chunks])
    shown = {
        "method": asked.method,
        "target": asked.target,
        "headers": [list(header) for header in asked.headers],
        "body": body.decode("latin-1"),
        "version": reply.version,
    }
    if asked.method == "HEAD":
        await reply.start(200, (("Content-Length", "5"),))
        await reply.end()
        return
    await whole(reply, json.dumps(shown).encode(), 200, (("Content-Type", "application/json"),))


async def _upload(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    digest, size = hashlib.sha256(), 0
    async for chunk in asked.chunks:
        digest.update(chunk)
        size += len(chunk)
    await whole(reply, json.dumps({"bytes": size, "sha256": digest.hexdigest()}).encode())


async def _bytes(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await reply.start(200, (("Content-Length", rest[0]),))
    if asked.method != "HEAD" and int(rest[0]):
        await reply.send_zeroes(int(rest[0]))
    await reply.end()


async def _streamed(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await reply.start(200, ())
    left = int(rest[0])
    while left:
        await reply.send(bytes(min(left, 1 << 16)))
        left -= min(left, 1 << 16)
    await reply.end()


async def _parts(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    whole_size, query = int(rest[0]), asked.query
    tag = query.get("etag", "one")
    if "moves" in query:
        tag += str(_count(server, asked.target))
    headers: Headers = (("Accept-Ranges", "bytes"), ("ETag", f'"{tag}"'))
    begin = int(asked.header("range").removeprefix("bytes=").rstrip("-") or 0)
    if begin:
        headers += (("Content-Range", f"bytes {begin}-{whole_size - 1}/{whole_size}"),)
    await reply.start(
        206 if begin else 200, (("Content-Length", str(whole_size - begin)), *headers)
    )
    for at in range(begin, whole_size, MIB):
        end = min(at + MIB, whole_size)
        await reply.send((b"0123456789" * (MIB // 10 + 2))[at % 10 :][: end - at])
    await reply.end()


async def _status(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    if rest[0] in ("204", "304"):
        await reply.start(int(rest[0]), ())
        await reply.end()
        return
    await whole(reply, rest[0].encode(), int(rest[0]))


async def _slow(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await trio.sleep(float(rest[0]))
    await whole(reply, b"late")


async def _stall(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await reply.start(200, (("Content-Length", str(2 * int(rest[0]))),))
    await reply.send(bytes(int(rest[0])))
    await trio.sleep_forever()


async def _hang(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await trio.sleep_forever()


async def _drip(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
        await reply.raw(bytes([byte]))
        await trio.sleep(float(rest[0]))


async def _endless(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await reply.start(200, ())
    while True:
        await reply.send(bytes(1 << 16))


async def _sse(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await reply.start(200, (("Content-Type", "text/event-stream"),))
    count = int(rest[0]) if rest else 0
    number = 0
    while not count or number < count:
        number += 1
        await reply.send(b"data: %d\n\n" % number)
        await trio.sleep(0.01)
    await reply.end()


def _encode(data: bytes, codings: str) -> bytes:
    for coding in codings.split("+"):
        data = ENCODERS[coding](data)
    return data


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw": lambda data: zlib.compress(data, wbits=-15),
    "br": lambda data: brotli.compress(data, quality=4),
    "zstd": zstd.compress,
    "identity": lambda data: data,
    "unknown": lambda data: data[::-1],
}


async def _coded(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    codings = ", ".join(rest[0].replace("raw", "deflate").split("+"))
    data = _encode(bytes(int(rest[1])), rest[0])
    await whole(reply, data, 200, (("Content-Encoding", codings),))


async def _text(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    codings = ", ".join(rest[0].replace("raw", "deflate").split("+"))
    data = _encode("/".join(rest[1:]).encode(), rest[0])
    await whole(reply, data, 200, (("Content-Encoding", codings),))


def bomb(coding: str, mebibytes: int) -> Iterator[bytes]:
    """Give so many MiB of zero bytes under a coding, piece by piece."""
    if coding == "gzip":
        deflate = zlib.compressobj(9, wbits=31)
        compress, finish = deflate.compress, deflate.flush
    elif coding == "br":
        packer = brotli.Compressor(quality=4, lgwin=22)
        compress, finish = packer.process, packer.finish
    else:
        zipper = zstd.ZstdCompressor()
        compress, finish = zipper.compress, zipper.flush
    for _ in range(mebibytes):
        if piece := compress(bytes(MIB)):
            yield piece
    yield finish()


async def _bomb(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await reply.start(200, (("Content-Encoding", rest[0]),))
    for piece in bomb(rest[0], int(rest[1])):
        await reply.send(piece)
    await reply.end()


async def _redirect(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    left = int(rest[0])
    place = f"/redirect/{left - 1}" if left > 1 else "/echo"
    await whole(reply, b"elsewhere", 302, (("Location", place),))


async def _loop(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await whole(reply, b"", 302, (("Location", "/loop"),))


async def _to(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    query = asked.query
    await whole(reply, b"", int(query.get("status", "302")), (("Location", query["url"]),))


async def _headers(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await whole(reply, b"", 200, tuple((f"X-{n}", "v") for n in range(int(rest[0]))))


async def _header(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await whole(reply, b"", 200, (("X-Long", "v" * int(rest[0])),))


async def _set(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await whole(reply, b"set", 200, tuple(asked.query.items()))


async def _flaky(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    async for _ in asked.chunks:
        pass
    query = asked.query
    if _count(server, rest[0]) > int(query.get("fail", "1")):
        await whole(reply, b"at last")
        return
    headers: Headers = (("Retry-After", query["after"]),) if "after" in query else ()
    await whole(reply, b"not yet", int(query.get("status", "503")), headers)


def _count(server: "Server", key: str) -> int:
    server.seen[key] = server.seen.get(key, 0) + 1
    return server.seen[key]


async def _reset(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    reply.reset()


async def _reset_once(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    if _count(server, rest[0]) == 1:
        reply.reset()
    await whole(reply, b"at last")


async def _reset_body(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await reply.start(200, (("Content-Length", "100000"),))
    await reply.send(bytes(1000))
    reply.reset()


def _raw(data: bytes) -> Route:
    async def answer(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
        await reply.raw(data)
        raise Hung

    return answer


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


async def _file(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    headers, data = server.files[rest[0]]
    await whole(reply, data, 200, headers)


async def _raw_file(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    await _raw(server.files[rest[0]][1])(asked, reply, server, rest)


async def _cache(asked: Asked, reply: Reply, server: "Server", rest: list[str]) -> None:
    count = _count(server, rest[0])
    query = asked.query
    tag = query.get("etag", '"one"')
    headers: Headers = (
        ("Cache-Control", query.get("control", "max-age=60")),
        ("ETag", tag),
        ("Vary", query.get("vary", "Accept-Encoding")),
    )
    if asked.header("if-none-match") == tag:
        await reply.start(304, headers)
        await reply.end()
        return
    await whole(reply, f"answer {count}".encode(), 200, headers)


ROUTES: dict[str, Route] = {
    "": _echo,
    "echo": _echo,
    "upload": _upload,
    "bytes": _bytes,
    "streamed": _streamed,
    "parts": _parts,
    "status": _status,
    "slow": _slow,
    "stall": _stall,
    "hang": _hang,
    "drip": _drip,
    "endless": _endless,
    "sse": _sse,
    "coded": _coded,
    "text": _text,
    "bomb": _bomb,
    "redirect": _redirect,
    "loop": _loop,
    "to": _to,
    "headers": _headers,
    "header": _header,
    "set": _set,
    "flaky": _flaky,
    "reset": _reset,
    "reset-once": _reset_once,
    "reset-body": _reset_body,
    "short": _raw(OK + b"Content-Length: 100\r\n\r\nfew"),
    "both": _raw(OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "badchunk": _raw(CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n"),
    "hugechunk": _raw(CHUNKED + b"f" * 40 + b"\r\nabc\r\n0\r\n\r\n"),
    "junk": _raw(b"\x00\x01 what is this\r\n\r\n"),
    "evil": _raw(OK + b"X-A: b\x00c\r\nContent-Length: 0\r\n\r\n"),
    "cache": _cache,
    "file": _file,
    "raw": _raw_file,
}

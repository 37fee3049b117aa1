"""`oanix nostr`: publish and follow through a mounted /cap/nostr, and keep the keys it uses."""

import json
import os
import select
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from typing import Any
from urllib.parse import quote

import click

from oanix.cli.failures import Failed, Failure, tell
from oanix.cli.nostr_key import key
from oanix.cli.nostr_tree import CHUNK, Tree, takes_at, write_all
from oanix.cli.nostr_worker import worker
from oanix.cli.output import Out, complain, escape

EPILOG = """\b
Examples:
  oanix nostr key new
  oanix nostr relays --add wss://relay.example.com
  oanix nostr publish 'hello'
  oanix nostr follow --kinds 1 --tag t=oanix
  oanix nostr worker --kind 5050 -- ./answer.py

They speak to a mounted namespace, through its files: see /cap/nostr/README there."""

RELAYS_EPILOG = """\b
Examples:
  oanix nostr relays
  oanix nostr relays --add wss://relay.example.com --add 'wss://in.example.com read'
  oanix nostr relays --remove wss://relay.example.com"""

PUBLISH_EPILOG = """\b
Examples:
  oanix nostr publish 'hello'
  oanix nostr publish --tag t=oanix --tag p=npub1… - < note.txt
  oanix nostr publish --kind 7 --tag e=HEX +
  oanix nostr publish --raw - < events.jsonl"""

FOLLOW_EPILOG = """\b
Examples:
  oanix nostr follow --kinds 1 --tag t=oanix
  oanix nostr follow --authors npub1…,npub1… --limit 10
  oanix nostr follow --stored 'kinds=1&#t=oanix' --json | jq -r .content"""

PROFILE_EPILOG = """\b
Examples:
  oanix nostr profile                your own
  oanix nostr profile npub1…
  oanix nostr profile npub1… --json | jq -r .picture"""

TEXT_MAX = 1 << 20
"""Longest text, or lines, that are read from the standard input."""

LAGGED = b'{"lagged":'
"""Begins what stands for events that a reader missed."""

_takes_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Publish and follow on Nostr.", epilog=EPILOG)
def nostr() -> None:
    """Publish and follow on Nostr, through the files of a mounted namespace."""


nostr.add_command(key)
nostr.add_command(worker)


@nostr.command(short_help="List the relays.", epilog=RELAYS_EPILOG)
@takes_at
@click.option("--add", metavar="URL", multiple=True, help="Use this relay, too.")
@click.option("--remove", metavar="URL", multiple=True, help="Use this relay no more.")
@_takes_json
def relays(at: str | None, add: tuple[str, ...], remove: tuple[str, ...], as_json: bool) -> None:
    """List the relays in use: URL, read and write, state. Without any, it is the mount's own."""
    tree = Tree.find(at)
    for url in add:
        tree.write(f"relay add {url}", "ctl")
    for url in remove:
        tree.write(f"relay del {url}", "ctl")
    lines = [line.split(" ", 2) for line in tree.read("relays").decode().splitlines()]
    out = Out()
    if as_json:
        out.json([_relay(*line) for line in lines])
    elif lines:
        out.table(["RELAY", "USE", "STATE"], lines)


@nostr.command(short_help="Publish a note or an event.", epilog=PUBLISH_EPILOG)
@takes_at
@click.option("--kind", type=click.IntRange(0, 65_535), help="Of this kind (default: 1).")
@click.option("--tag", "tags", metavar="NAME=VALUE", multiple=True, help="Add a tag.")
@click.option("--raw", is_flag=True, help="TEXT is events or templates as JSON, a line each.")
@_takes_json
@click.argument("text")
def publish(
    at: str | None, kind: int | None, tags: tuple[str, ...], raw: bool, as_json: bool, text: str
) -> None:
    """Publish TEXT, or with - what the standard input says, and tell what each relay says of it.

    Ends with 0 when as many relays as are wanted took it (`quorum` in ctl). Who has not answered by
    then is sent it again, later.
    """
    tree = Tree.find(at)
    lines = _lines(_text(text), kind, tags, raw)
    with tree.told(), tree.opened(os.O_RDWR, "publish") as descriptor:
        done = [_publish_one(tree, descriptor, line) for line in lines]
    out = Out()
    if as_json:
        out.json([{"id": i, "relays": said, "error": f and f.sentence} for i, said, f in done])
    for event_id, said, failure in done:
        for one in said if not as_json else ():
            word = {True: "ok", None: "waits"}.get(one["ok"], "refused")
            told = escape(one["message"] or "")
            out.line(f"{event_id} {one['relay']} {word} {told}".rstrip())
        if failure is not None:
            complain("\n".join(tell(failure)[0]))
    failures = [failure for _, _, failure in done if failure is not None]
    if failures:
        raise Failed(failures[0].code)


@nostr.command(short_help="Print events as they come.", epilog=FOLLOW_EPILOG)
@takes_at
@click.option("--kinds", metavar="N,...", help="Of these kinds.")
@click.option("--authors", metavar="NPUB,...", help="Of these authors.")
@click.option("--tag", "tags", metavar="NAME=VALUE", multiple=True, help="With this tag.")
@click.option("--since", metavar="TIME", help="Not before, in seconds since the epoch.")
@click.option("--search", metavar="TEXT", help="With these words.")
@click.option("--limit", metavar="N", help="At most so many of what is stored.")
@click.option("--stored", is_flag=True, help="End when what is stored has come.")
@click.option("--count", metavar="N", type=click.IntRange(1), help="End after so many events.")
@_takes_json
@click.argument("query", default="")
def follow(
    at: str | None, query: str, stored: bool, count: int | None, as_json: bool, **words: Any
) -> None:
    """Print what is stored of a filter, then what comes, until Ctrl-C.

    QUERY is a filter as in a path of /cap/nostr/req; the options add to it.
    """
    asked = _query(query, **words)
    tree, out = Tree.find(at), Out()
    with tree.told(), closing(_events(tree, asked, stored)) as events:
        for number, line in enumerate(events, 1):
            out.write(line if as_json else _shown(line))
            if number == count:
                break


@nostr.command(short_help="Show what somebody says of himself.", epilog=PROFILE_EPILOG)
@takes_at
@_takes_json
@click.argument("npub", default="")
def profile(at: str | None, npub: str, as_json: bool) -> None:
    """Show the profile of a key (npub, nprofile or hex), or your own."""
    tree = Tree.find(at)
    npub = npub or tree.read("npub").decode().strip()
    folder = tree.path("profile", npub)
    if "/" in npub or not os.path.isdir(folder):
        raise Failure(f"{npub[:80]!r} is no npub", "it is an npub, an nprofile or hex", 65)
    try:
        said = json.loads(tree.read("profile", npub, "json"))
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Failure("this profile is no JSON object")
    out = Out()
    if as_json:
        out.json(said)
        return
    for name, value in said.items():
        shown = value if isinstance(value, str) else json.dumps(value)
        out.line(f"{escape(name)} {escape(shown)}")


def _relay(url: str, use: str, told: str) -> dict[str, object]:
    state, *words = told.split(" ")
    auth = words[:1] != ["no-auth"]
    error = " ".join(words if auth else words[1:])
    return {"relay": url, "use": use, "state": state, "auth": auth, "error": error or None}


# Publishing --------------------------------------------------------------------------------------


def _text(text: str) -> str:
    if text != "-":
        return text
    data = sys.stdin.buffer.read(TEXT_MAX + 1)
    if len(data) > TEXT_MAX:
        raise Failure(f"at most {TEXT_MAX} bytes are published at once", code=os.EX_DATAERR)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Failure("the standard input is no UTF-8", code=os.EX_DATAERR) from None


def _lines(text: str, kind: int | None, tags: tuple[str, ...], raw: bool) -> list[str]:
    if not text.strip() and (raw or kind is None):
        # Most likely what was to write it has failed; and what is published stays so.
        remedy = "" if raw else "an event without a text is published when --kind says so"
        raise Failure("there is nothing to publish", remedy, os.EX_DATAERR)
    if raw:
        if kind is not None or tags:
            raise click.UsageError("an event or template has its own kind and tags")
        lines = [line for line in text.split("\n") if line.strip()]
        if not all(line.startswith("{") for line in lines):
            raise Failure("with --raw each line is a JSON object", code=os.EX_DATAERR)
        return lines
    pairs = [_pair(tag) for tag in tags]
    for pair in pairs:
        if pair[0] == "p":
            pair[1] = _hex_key(pair[1])
    kind = 1 if kind is None else kind
    return [json.dumps({"kind": kind, "content": text.removesuffix("\n"), "tags": pairs})]


def _pair(tag: str) -> list[str]:
    name, equals, value = tag.partition("=")
    if not name or not equals:
        raise click.UsageError("a tag is NAME=VALUE, as t=oanix")
    return [name, value]


def _hex_key(text: str) -> str:
    from oanix.lib.nostr import Invalid
    from oanix.lib.nostr.nip19 import pubkey_of

    try:
        return pubkey_of(text)
    except Invalid as error:
        raise Failure(f"the tag p: {error.reason}", code=os.EX_DATAERR) from None


def _publish_one(
    tree: Tree, descriptor: int, line: str
) -> tuple[str | None, list[dict[str, Any]], Failure | None]:
    """Publish a line: give its id, what each relay says, and what is wrong in the end."""
    failure = None
    data = b""
    try:
        write_all(descriptor, f"{line}\n".encode())
        while piece := os.read(descriptor, CHUNK):
            data += piece
    except OSError as error:
        failure = tree.failure(error)
        # What each relay said is there to be read even when too few took it.
        while piece := os.read(descriptor, CHUNK):
            data += piece
    said = [json.loads(one) for one in data.splitlines()]
    event_id = said[0].pop("id") if said else None
    for one in said[1:]:
        del one["id"]
    return event_id, said, failure


# Following ---------------------------------------------------------------------------------------


def _query(query: str, tags: tuple[str, ...], **words: str | None) -> str:
    """Put the options to the query, and check it before anything is asked."""
    from oanix.lib.nostr import Invalid
    from oanix.lib.nostr.query import format_query, parse_query

    parts = [query] if query else []
    for name, value in words.items():
        if value is not None:
            parts.append(f"{name}={quote(value, safe=',') if name != 'search' else quote(value)}")
    for tag in tags:
        name, value = _pair(tag)
        parts.append(f"{quote(name)}={quote(value)}")
    try:
        return format_query(parse_query("&".join(parts) or "all"))
    except Invalid as error:
        raise Failure(error.reason, code=os.EX_DATAERR) from None


def _events(tree: Tree, query: str, stored: bool) -> Generator[bytes, None, None]:
    """Subscribe, and give each event as a line; the subscription ends with this."""
    with tree.opened(os.O_RDONLY, "sub", "new") as new:
        number = os.read(new, 32).decode().strip()
        flags = os.O_RDONLY | (os.O_NONBLOCK if stored else 0)
        try:
            with tree.opened(flags, "sub", number, "events") as events:
                tree.write(query, "sub", number, "filter")
                yield from _stored(tree, number, events) if stored else _whole_lines(events)
        finally:
            # By itself it would end only after a while; a server that is gone has ended it.
            with suppress(Failure):
                tree.write("close", "sub", number, "ctl")


def _stored(tree: Tree, number: str, events: int) -> Iterator[bytes]:
    """Give what is stored while it comes: all of it may be more than a subscription keeps.

    Raises Failure at the end when some of it came too fast for that, too.
    """
    with tree.opened(os.O_RDONLY | os.O_NONBLOCK, "sub", number, "eose") as eose:
        waiting = select.poll()
        for descriptor in (events, eose):
            waiting.register(descriptor, select.POLLIN)
        complete = False

        def more() -> bool:
            nonlocal complete
            if complete:
                return False
            if eose in dict(waiting.poll()):
                complete = True
                _check_answers(b"".join(iter(lambda: os.read(eose, CHUNK), b"")).decode())
            return True

        missing = 0
        for line in _whole_lines(events, more):
            missing += json.loads(line)["lagged"] if line.startswith(LAGGED) else 0
            yield line
    if missing:
        raise Failure(
            f"{missing} events came too fast and are missing",
            "ask for less at a time, with --limit or --since", os.EX_TEMPFAIL,
        )  # fmt: skip


def _check_answers(said: str) -> None:
    """Tell which relays did not answer. Raises Failure when none has."""
    answers = [line.split(" ", 2) for line in said.splitlines()]
    silent = [words for words in answers if words[1] in ("lost", "closed")]
    sentences = [f"{url}: {escape(why.removeprefix(f'{url}: '))}" for url, _, why in silent]
    if silent and len(silent) == len(answers):
        refused = any(word == "closed" for _, word, _ in silent)
        raise Failure(sentences[0], code=os.EX_NOPERM if refused else os.EX_UNAVAILABLE)
    for sentence in sentences:
        complain(f"oanix: {sentence}")


def _whole_lines(descriptor: int, more: Callable[[], bool] | None = None) -> Iterator[bytes]:
    """Read lines to the end. more: waits where a read does not, and tells whether to go on."""
    rest = b""
    while True:
        try:
            piece = os.read(descriptor, CHUNK)
        except BlockingIOError:
            if more is None or not more():
                return
            continue
        if not piece:
            return
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line + b"\n"


def _shown(line: bytes) -> bytes:
    """Write an event on one line for people."""
    from oanix.lib.nostr.nip19 import encode

    said = json.loads(line)
    if "lagged" in said:
        return f"({said['lagged']} events came too fast and are missing here)\n".encode()
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(min(said["created_at"], 2**40)))
    who = encode("npub", said["pubkey"])
    kind = "" if said["kind"] == 1 else f" kind={said['kind']}"
    text = escape(said["content"]).encode("utf-8", "replace")
    return f"{at} {who}{kind} ".encode() + text + b"\n"
